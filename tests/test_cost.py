"""What a call costs: measured by one command, drawn and advised from its figures."""

import json

import jax
import jax.numpy as jnp
import pytest

from examples.cost import measure, models
from tools.gate.memory import reads
from tools.gate.process import in_process
from tools.website import cost

pytestmark = reads("examples/cost/*", "tools/website/matplotlibrc")
# As small as each can be: what is tested is the code, and not its figures.
SIZES = {
    "leaves": {"4 leaves": 2},
    "transformer": {"count": 1, "features": 8, "heads": 2},
    "lengths": (4, 8),
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


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measure the smallest models once each; return the file that holds it."""
    path = tmp_path_factory.mktemp("cost") / "measured.json"
    found = quickly(smallest)
    path.write_text(json.dumps({**measure.about(rounds=1), **found}))
    return path


def step(us):
    """Return figures of a step: of Linen, and what each way adds in microseconds."""
    entries = {"Linen": {"us": 100.0, "ratio": 1.0}}
    for name, added in zip(cost.CONVENIENT, us, strict=True):
        entries[name] = {"us": 100.0 + added, "ratio": 1 + added / 100}
    return entries


def test_the_twins_compute_the_same():
    assert quickly(compared) == [(True, False)] * 2


def test_a_measurement_has_all_that_the_pages_show(measured, tmp_path):
    cost.draw_all(tmp_path, measured)
    found = json.loads(measured.read_text())
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    drawn |= cost.texts(measured)
    for name, entry in found["step"]["4 leaves"].items():
        assert name in drawn["step.svg"] or name == "Linen"
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


def test_the_advice_is_the_first_way_that_adds_little():
    for ms, name in ((1, "nnx.jit_partial"), (10, "nnx.jit, graph=False")):
        assert cost.good_enough(step([900, 400, 300, 40, 30, 0]), ms) == name
    assert cost.good_enough(step([900, 400, 300, 99, 90, 80]), 1) == "jax.jit, as_pure"
    assert cost.good_enough(step([50, 0, 0, 0, 0, 0]), 1) == "nnx.jit"


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
