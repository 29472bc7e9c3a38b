"""The observer: it sees what a function does, alters it, and puts everything back."""

import linecache
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.nnx import merge

from nnx_by_example import judge, observe
from nnx_by_example.observe import Finding, Seen, State, state_of
from nnx_by_example.verdict import Verdict
from tools.gate.memory import reads

pytestmark = reads("nnx_by_example/observe.py", "nnx_by_example/judge.py")
X = jnp.array([[1.0, 2.0]])


def seen(candidate, *inputs):
    return Seen(candidate, inputs, lambda: None)


class Counting(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 3, rngs=rngs)
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls[...] += 1
        return self.layer(x)


def counting(x):
    model = Counting(nnx.Rngs(0))
    return model(x).sum() + model(x).sum()


@nnx.jit
def compiled(model, x):
    return model(x)


def test_what_is_built_and_called_is_seen_in_order():
    run = seen(counting, X).run()
    assert run.names() == "Linear, Counting"
    assert [type(module) for module in run.built_of(nnx.Linear)] == [nnx.Linear]
    depths = [(type(call.module).__name__, call.depth) for call in run.calls]
    assert depths == 2 * [("Counting", 0), ("Linear", 1)]
    first, _, second, _ = run.calls
    assert first.module is second.module is run.built[1]
    assert first.args[0] is X
    assert run.answer == first.output.sum() + second.output.sum()
    assert first.before.of()["calls",] == 0
    assert first.after.of()["calls",] == second.before.of()["calls",] == 1
    assert first.after.of(nnx.Param).keys() == {
        ("layer", "kernel"),
        ("layer", "bias"),
    }
    assert first.before.same(second.after, nnx.Param)
    assert not first.before.same(second.after)


def test_a_call_of_a_base_class_on_one_module_is_one_call():
    class Extended(Counting):
        def __call__(self, x):
            return super().__call__(x)

    run = seen(lambda x: Extended(nnx.Rngs(0))(x), X).run()
    assert [type(call.module) for call in run.calls] == [Extended, nnx.Linear]


def test_a_module_from_before_is_seen_when_it_is_called():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    run = seen(model, X).run()
    assert not run.built
    assert [call.module for call in run.calls_of(nnx.Linear)] == [model]


def test_what_is_built_and_called_can_be_altered():
    def ones(layer):
        layer.kernel[...] = jnp.ones_like(layer.kernel)

    run = seen(counting, X).run("kernels are ones", built={nnx.Linear: ones})
    assert run.answer == 18
    run = seen(counting, X).run(
        "a layer returns nothing but ones",
        calls={nnx.Linear: lambda call: jnp.ones_like(call.proceed())},
    )
    assert run.answer == 6


def test_a_new_variable_can_be_altered():
    def increased(variable):
        variable.set_value(variable.get_value() + 1)

    def two():
        return nnx.Variable(jnp.array(1))[...] + nnx.BatchStat(jnp.array(1))[...]

    assert seen(two).run("", built={nnx.BatchStat: increased}).answer == 3
    assert seen(two).run("", built={nnx.Variable: increased}).answer == 4


def test_a_method_can_be_altered():
    def step(x):
        model = nnx.Linear(2, 1, use_bias=False, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(1.0), wrt=nnx.Param)
        before = model.kernel[...]
        optimizer.update(model, nnx.grad(lambda model: model(x).sum())(model))
        return before - model.kernel[...]

    def twice(call):
        call.proceed()
        return call.proceed()

    run = seen(step, X).run("", calls={nnx.Optimizer.update: twice})
    np.testing.assert_allclose(run.answer, 2 * X.T, rtol=1e-6)
    assert len(run.calls_of(nnx.Optimizer.update)) == 1
    np.testing.assert_allclose(step(X), X.T, rtol=1e-6)


def test_modules_of_linen_are_seen_and_altered():
    def apply(x):
        model = nn.Dense(3)
        return model.apply(model.init(jax.random.key(0), x), x)

    run = seen(apply, X).run("", calls={nn.Dense: lambda call: 0 * call.proceed()})
    assert len(run.calls_of(nn.Dense)) == 2
    assert not run.answer.any()


def test_a_function_is_seen_however_it_was_imported():
    def merged(x):
        model = merge(*nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
        return nnx.clone(model)(x)  # which splits and merges itself

    run = seen(merged, X).run(watch=[nnx.merge, nnx.split])
    assert [call.name for call in run.calls] == ["split", "merge", "__call__"]
    split, merge_call, _ = run.calls
    assert isinstance(split.kwargs["node"], nnx.Linear)
    assert isinstance(merge_call.output, nnx.Linear)
    assert split.module is None


def test_what_a_watched_function_returns_can_be_altered():
    def emptied(call):
        call.output["bias"] = jnp.zeros(0)

    def sizes(x):
        state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        return sum(leaf.size for leaf in jax.tree.leaves(state))

    assert seen(sizes, X).run(watch={nnx.state: emptied}).answer == 6


def test_a_watched_function_that_raises_takes_no_output_from_another():
    def merged(x):
        graphdef, state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        try:
            nnx.merge(graphdef, nnx.State({}))
        except ValueError:
            return nnx.merge(graphdef, state)(x)

    run = seen(merged, X).run(watch=[nnx.merge, nnx.split])
    _, first, second = run.calls_of(nnx.merge, nnx.split)
    assert first.output is None
    assert isinstance(second.output, nnx.Linear)


def test_a_function_that_jax_wraps_is_seen_where_flax_does_not_call_it():
    def slopes(x):
        jax.grad(jnp.sum)(x)
        return nnx.grad(lambda layer: layer(x).sum())(
            nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        )

    assert len(seen(slopes, X).run(watch=[jax.grad]).calls_of(jax.grad)) == 1


def test_a_draw_can_be_altered_and_the_call_of_a_module_stays_as_it_is():
    def noise(x):
        rngs = nnx.Rngs(0)
        return nnx.Linear(2, 1, rngs=rngs)(x), jax.random.key_data(rngs.params())

    hooks = {nnx.RngStream.__call__: lambda call: jax.random.key(99)}
    run = seen(noise, X).run(calls=hooks)
    assert jnp.array_equal(run.answer[1], jax.random.key_data(jax.random.key(99)))
    assert len(run.calls_of(nnx.RngStream)) == 3  # kernel, bias, and the last
    assert len(run.calls_of(nnx.Linear)) == 1


def test_a_numpy_array_that_is_written_in_place_is_kept_as_it_was():
    class Total(nnx.Module):
        def __init__(self):
            self.total = nnx.Variable(np.zeros(2))

        def __call__(self, x):
            self.total.get_value()[:] += 1
            return x

    (call,) = seen(lambda x: Total()(x), X).run().calls
    assert not call.before.of()["total",].any()
    assert call.after.of()["total",].all()


def test_compiled_functions_run_as_python_unless_asked_otherwise():
    def twice(x):
        model = Counting(nnx.Rngs(0))
        compiled(model, x)
        return compiled(model, x).sum()

    twice(X)
    run = seen(twice, X).run()
    calls = run.calls_of(Counting)
    assert len(calls) == 2
    assert all(call.inside(nnx.jit) and not call.compiled for call in calls)
    assert not any(call.inside(nnx.grad) for call in calls)
    assert not seen(twice, X).run(eager=False).calls  # it was compiled before
    wider = jnp.ones((3, 2))
    (call,) = seen(twice, wider).run(eager=False).calls_of(Counting)
    assert call.compiled
    assert call.inside(nnx.jit)


def test_numbers_that_do_not_hold_are_not_asserted():
    class Model(nnx.Module):
        def __call__(self, x):
            assert x.sum() == 3
            return x

    def helper(x):
        assert x.sum() == 3
        return x

    def asserting(x):
        def inner(x):
            assert x.sum() == 3, "not three"
            return x

        assert x.sum() == 3
        return inner(helper(Model()(jax.jit(inner)(x))))

    assert seen(asserting, X).run(inputs=(2 * X,)).answer.sum() == 6
    with pytest.raises(AssertionError):
        asserting(2 * X)
    with pytest.raises(AssertionError, match="3"):
        helper(2 * X)


def test_a_cell_of_a_notebook_is_not_asserted_either():
    source = "def helper(x):\n    assert x == 1\n    return x\n"
    cells = {"cell-1": source, "cell-2": "def answer(x):\n    return helper(x)\n"}
    names = {}
    for cell, text in cells.items():
        linecache.cache[cell] = len(text), None, text.splitlines(keepends=True), cell
        exec(compile(text, cell, "exec"), names)
    assert seen(names["answer"], 1).run(inputs=(2,)).answer == 2
    with pytest.raises(AssertionError):
        names["answer"](2)


def test_an_exception_is_a_finding_and_says_what_was_altered():
    def comparing(x):
        if (y := nnx.Linear(2, 1, rngs=nnx.Rngs(0))(x)).sum() > 100:
            raise ValueError("too large\nby far")
        return y

    def large(call):
        return call.proceed() + 1000

    with pytest.raises(Finding, match=r"^when the layer returns more, your"):
        seen(comparing, X).run("the layer returns more", calls={nnx.Linear: large})
    with pytest.raises(Finding, match=r"ValueError: too large$") as found:
        seen(comparing, X).run("", calls={nnx.Linear: large})
    assert isinstance(found.value.error, ValueError)
    with pytest.raises(Finding, match=r"your code raises SystemExit: bye$"):
        seen(lambda x: sys.exit("bye"), X).run()
    with pytest.raises(Finding, match=r"your code returns None$"):
        seen(lambda x: None, X).run()


def test_who_raises_or_returns_no_numbers_where_modules_are_altered_hears_of_assert():
    def refusing(x):
        raise ValueError("the rows differ")

    lesson = types.SimpleNamespace(idea=lambda seen: sum(seen.run("more").answer))
    for written, wanted in ((refusing, "the rows differ"), (len, "not iterable")):
        inputs = lesson, written, (X,), Verdict("any"), lambda _: None
        first, _, advice = judge.idea_missing(*inputs).partition(judge.NEXT)
        assert first.endswith(wanted)
        assert "`assert`" in advice


def test_everything_is_put_back(capsys):
    def broken(x):
        print("seen")
        Counting(nnx.Rngs(0))(x)
        raise ValueError

    def state():
        classes = observe.subclasses(nnx.Module)
        kinds = type(nnx.Module), type(nnx.Variable)
        methods = [vars(cls).get("__call__") for cls in (*classes, *kinds)]
        return [*methods, nnx.Optimizer.update, broken.__code__]

    before = state()
    hooks = {nnx.Module: lambda call: call.proceed(), nnx.Optimizer.update: print}
    with pytest.raises(Finding):
        seen(broken, X).run("", built={nnx.Variable: print}, calls=hooks)
    assert all(one is other for one, other in zip(before, state(), strict=True))
    assert capsys.readouterr().out == ""


def test_states_are_compared_by_path_and_value():
    one, other = (state_of(nnx.Dropout(0.5, rngs=nnx.Rngs(0))) for _ in range(2))
    assert one.same(other)
    assert not one.same(state_of(nnx.Dropout(0.5, rngs=nnx.Rngs(1))))
    assert not one.same(State())
    assert one.same(State(), nnx.Param)
    assert state_of(object()) == {}


def test_answers_are_close_only_in_one_shape():
    assert Seen.close(jnp.array([1.0, 2]), [1, 2.00001])
    assert not Seen.close(jnp.ones(2), jnp.ones((1, 2)))
    assert not Seen.close(jnp.ones(2), "text")
    assert not Seen.close(None, 1.0)
