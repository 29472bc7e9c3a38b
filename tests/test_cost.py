"""What a call costs: measured by one command, drawn and advised from its figures."""

import json

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from examples.cost import measure, models, ways
from tools.gate.memory import reads
from tools.gate.process import in_process
from tools.website import cost

pytestmark = reads("examples/cost/*", "tools/website/matplotlibrc")
# As small as each can be: what is tested is the code, and not its figures.
SIZES = {
    "leaves": {"4 leaves": 2},
    "transformer": {"count": 1, "features": 8, "heads": 2},
    "built": ("4 leaves",),
    "features": (8, 16),
    "steps": (1, 2),
    "capacities": (4, 8),
    "rounds": 1,
    "compiles": 1,
    "seconds": 0.0,
}


def quickly(function):
    """Return `function()`, in a process that compiles fast and keeps what it has."""
    return in_process(unoptimised, function)


def unoptimised(function):
    jax.config.update("jax_disable_most_optimizations", True)
    return function()


def smallest():
    """Return all times of the smallest models, each taken once."""
    return measure.measure(progress=lambda name: None, **SIZES)


def compared():
    """Return whether each model gives what its twin gives, and gives for another x."""
    two_blocks = {**SIZES["transformer"], "count": 2}
    found = []
    for _, make, linen_model, x in measure.cases(SIZES["leaves"], two_blocks):
        model = make()
        params = {"params": models.linen_params(model)}
        y, linen_y = model(x), linen_model.apply(params, x)
        other = linen_model.apply(params, x + 1)
        found.append((jnp.allclose(y, linen_y, atol=1e-5), jnp.allclose(y, other)))
    return [tuple(map(bool, pair)) for pair in found]


def results():
    """Return what each way gives: an output of a model, and the losses of two steps."""
    model, linen_model = models.Wide(2, rngs=nnx.Rngs(0)), models.LinenWide(2)
    twins = (model, linen_model, models.linen_params(model))
    x = jnp.linspace(-1.0, 1.0, 4)[:, None]  # x[batch, 1]
    found = {}
    for made in (ways.forward_ways(*twins, x), ways.step_ways(*twins, x, 2 * x)):
        for name, way in made.items():
            with measure.mode_of(name):
                found[len(found), name] = [way().tolist() for _ in range(2)]
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measure the smallest models once each; return the file that holds it."""
    path = tmp_path_factory.mktemp("cost") / "measured.json"
    found = quickly(smallest)
    path.write_text(json.dumps({**measure.about(rounds=1), **found}))
    return path


def step(ratios, linen=100.0):
    """Return figures of a step: Linen in microseconds, the ways in ratios to it."""
    entries = {"Linen": {"us": linen, "ratio": 1.0}}
    for name, ratio in zip(cost.CONVENIENT, ratios, strict=True):
        entries[name] = {"us": 12345.0, "ratio": ratio}  # the ratio alone is used
    return entries


def test_the_twins_compute_the_same():
    assert quickly(compared) == [(True, False)] * 2


def test_all_ways_give_one_result():
    found = quickly(results)
    kinds = {"forward": [], "step": []}
    for (_, name), values in found.items():
        kind = "forward" if values[0] == values[1] else "step"
        kinds[kind].append((name, values))
    for named in kinds.values():
        assert named[0][0] == "Linen"
        assert len(named) > 9
        for name, values in named:
            assert values == named[0][1], name


def test_a_measurement_has_all_that_the_pages_show(measured, tmp_path):
    cost.draw_all(tmp_path, measured)
    found = json.loads(measured.read_text())
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    drawn |= cost.texts(measured)
    for name, entry in found["step"]["4 leaves"].items():
        assert name in drawn["step.svg"] or name in cost.UNPLOTTED
        shown = cost.duration if name == "Linen" else cost.times_as_long
        assert shown(entry) in drawn["step.md"]
    assert f"Measured on {found['date']} " in drawn["about.md"]
    assert all("aria-label" in drawn[name] for name in drawn if name.endswith("svg"))
    assert all("#111" not in text and "#222" not in text for text in drawn.values())


def test_what_is_drawn_is_kept_until_the_figures_change(
    measured, tmp_path, monkeypatch
):
    cost.draw_all(tmp_path, measured)
    monkeypatch.setattr(cost, "dots", None)  # would raise if it were called
    cost.draw_all(tmp_path, measured)
    changed = tmp_path / "changed.json"
    changed.write_text(measured.read_text() + "\n")
    with pytest.raises(TypeError):
        cost.draw_all(tmp_path, changed)


def test_the_advice_for_a_loop_that_waits_is_the_first_way_that_adds_little():
    def advised(ratios, ms):
        return cost.good_enough(step(ratios), ms, awaited=True)

    assert advised([9, 5, 4, 1.4, 1], 1) == "nnx.jit_partial"  # adds 40 µs
    assert advised([9, 6, 4, 1.4, 1], 10) == "nnx.jit, graph=False"  # adds 500 µs
    assert advised([1.5, 1, 1, 1, 1], 1) == "nnx.jit"
    assert advised([9, 5, 4, 3, 2], 1) == "none"


def test_the_advice_for_a_queued_loop_is_the_first_call_that_the_step_hides():
    def advised(ratios, ms):
        return cost.good_enough(step(ratios), ms, awaited=False)

    assert advised([11, 10, 4, 1.4, 1], 1) == "nnx.jit, graph=False"
    assert advised([10, 9, 4, 1.4, 1], 1) == "nnx.jit"
    assert advised([99, 90, 40, 14, 11], 1) == "none"


def test_no_step_is_shorter_than_the_call_of_linen():
    for awaited in (True, False):
        entries = step([1, 1, 1, 1, 1], linen=1001.0)
        assert cost.good_enough(entries, 1, awaited=awaited) == "no such step"


def test_what_is_code_in_a_name_is_shown_as_code():
    assert cost.as_code("nnx.jit, graph=False") == "`nnx.jit`, `graph=False`"
    assert cost.as_code("first, Linen, jax.eval_shape") == (
        "first, Linen, `jax.eval_shape`"
    )
    assert cost.as_code("none") == "none"


def test_figures_of_other_releases_are_named(measured):
    found = json.loads(measured.read_text())
    assert "!!!" not in cost.about(found)
    found["versions"]["flax"] = "0.12.8"
    assert "!!! warning" in cost.about(found)


def test_a_ratio_is_taken_in_each_round():
    # The machine is busy in the second round, for both alike.
    found = measure.summary({"Linen": [1.0, 9.0, 1.0], "nnx.jit": [2.0, 18.0, 2.0]})
    assert found["nnx.jit"] == {"us": 2e6, "ratio": 2.0}


def test_the_ways_take_turns():
    turns = []
    ways = {name: lambda name=name: turns.append(name) for name in "ab"}
    times = measure.take_turns(ways, rounds=3, seconds=0.0)
    assert turns == [*"aabb", *"ab" * 3]
    assert [len(found) for found in times.values()] == [3, 3]


def test_compiling_stops_when_a_round_is_slow():
    fast = {"Linen": lambda: jax.numpy.ones(1)}
    assert len(measure.first_calls(lambda: fast, ["Linen"], 3)["Linen"]) == 3
    slow = measure.first_calls(lambda: fast, ["Linen"], 3, enough=-1)
    assert len(slow["Linen"]) == 1
