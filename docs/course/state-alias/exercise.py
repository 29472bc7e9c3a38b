"""The exercise of "Alias or snapshot": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax.numpy as jnp
from flax import nnx


class Accumulator(nnx.Module):
    def __init__(self, start):
        self.total = nnx.Variable(jnp.array(start, jnp.float32))

    def __call__(self, step):
        self.total[...] += step
        return self.total[...]
        # --8<-- [end:model]


# --8<-- [start:stub]
def state_alias(start, step, calls):
    """Return live total minus alias, live total minus snapshot, in shape (2,), float32.

    Args:
      start: the total of the new model, a float.
      step: what each call adds to the total, a float.
      calls: number of calls; a float such as `4.0` is accepted and cast.
    """
    # --8<-- [end:stub]
    model = Accumulator(start)
    state, snapshot = nnx.state(model), nnx.clone(model)
    for _ in range(int(calls)):
        model(step)
    live = model.total[...]
    return jnp.array([live - state["total"], live - snapshot.total])
    # --8<-- [end:solution]


# --8<-- [start:check]
import contextlib
import inspect
from unittest.mock import patch

import jax
import numpy as np

INPUTS = [(1.5, 0.5, 4.0), (0.0, 2.5, 3.0)]  # start, step, calls
LARGE = 2.0**26  # so large that rounding loses a small step


def expected_pair(start, step, calls):
    """Return zero and what the calls add, summed in float32 without a module."""
    total = np.float32(start)
    for _ in range(int(calls)):
        total += np.float32(step)
    return np.array([0.0, total - np.float32(start)])


def with_copied_states(candidate, case):
    """Return the answer if `nnx.state` gave copies, and the copies that it gave."""
    copies = []

    def copying(take):
        def taken(model, *filters, **options):
            copies.append(take(nnx.clone(model), *filters, **options))
            return copies[-1]

        return taken

    yours = getattr(inspect.unwrap(candidate), "__globals__", {})
    takes = {id(take) for take in (nnx.state, nnx.split, nnx.variables)}
    with contextlib.ExitStack() as patches:
        for names in (vars(nnx), yours):  # for `from flax.nnx import state`, too
            copied = {n: copying(f) for n, f in names.items() if id(f) in takes}
            patches.enter_context(patch.dict(names, copied))
        return candidate(*case), copies


def with_large_starts(candidate, case):
    """Return the answer if each new Variable starts large, and these Variables."""
    create, larger = nnx.Variable.__init__, []

    def create_larger(self, value, *args, **options):
        if not np.isin(value, case[1:]).all():  # a step may lie in a Variable
            larger.append(self)
            value = value + LARGE * len(larger)
        create(self, value, *args, **options)

    with patch.object(nnx.Variable, "__init__", create_larger):
        return candidate(*case), larger


def missing_idea(candidate, case):
    """Return what right numbers lack and what to do about it, or None."""
    added = expected_pair(*case)[1]
    with contextlib.suppress(Exception), jax.disable_jit():  # compiled, it won't rerun
        (first, _), copies = with_copied_states(candidate, case)
        if not copies or not np.allclose(first, added):
            would = f"if nnx.state copied, the first number would be {added}"
            said = f"{would}, but yours is {first}" if copies else "no nnx.state used"
            return said, "Subtract the total of a state that you took before the calls."
    with contextlib.suppress(Exception), jax.disable_jit():  # it may check its numbers
        (_, second), larger = with_large_starts(candidate, case)
        kept = any(np.max(variable[...]) >= LARGE for variable in larger)
        if kept and not np.allclose(second, 0.0):
            would = f"if the total starts at {LARGE} or more, no step moves it"
            todo = "Subtract the total of a clone of this model."
            return f"{would}, but your second number is {second}", todo


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for case in inputs:
        answer, expected, wrong = candidate(*case), expected_pair(*case), None
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", type(answer).__name__)
        if shape != (2,):
            wrong = f"an array of shape (2,), not {shape}"
        elif not jnp.issubdtype(answer.dtype, np.number):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(jnp.asarray(answer), expected):
            wrong = str(expected)
        if wrong:
            call = f"{candidate.__name__}{case}"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}"
    if missing := missing_idea(candidate, inputs[0]):
        return "numbers right, idea missing: {}\n  next:     {}".format(*missing)
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import copy

from flax.nnx import state as state_of

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (2.0**24, 1.5, 3.0),  # each call adds 2, because float32 rounds the total
    (3.0, -0.25, 5.0),
    (-2.0, 0.75, 0.0),
]


def call(model, step, calls):
    """Call the model so often, and return its total."""
    for _ in range(int(calls)):
        model(step)
    return model.total[...]


def differences(model, state, snapshot):
    return jnp.array([model.total - state["total"], model.total - snapshot.total])


def answered(model, step, calls, copied=nnx.clone):
    state, snapshot = nnx.state(model), copied(model)
    call(model, step, calls)
    return differences(model, state, snapshot)


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def a_snapshot_as_state(start, step, calls):
    model = Accumulator(start)
    state, snapshot = nnx.to_pure_dict(nnx.state(model)), nnx.clone(model)
    call(model, step, calls)
    return differences(model, state, snapshot)


def merge_as_snapshot(start, step, calls):
    model = Accumulator(start)
    return answered(model, step, calls, lambda m: nnx.merge(*nnx.split(m)))


def state_after_the_calls(start, step, calls):
    model = Accumulator(start)
    snapshot, _ = nnx.clone(model), call(model, step, calls)
    return differences(model, nnx.state(model), snapshot)


def a_zero_typed_in(start, step, calls):
    model = Accumulator(start)
    snapshot = nnx.clone(model)
    return jnp.array([0.0, call(model, step, calls) - snapshot.total])


def written_through_the_state(start, step, calls):
    model = Accumulator(start)
    state, snapshot = nnx.state(model), nnx.clone(model)
    for _ in range(int(calls)):
        state["total"][...] += step
    return differences(model, state, snapshot)


def start_as_snapshot(start, step, calls):
    model = Accumulator(start)
    state, live = nnx.state(model), call(model, step, calls)
    return jnp.array([live - state["total"], live - start])


def a_second_model(start, step, calls):
    return answered(Accumulator(start), step, calls, lambda _: Accumulator(start))


def formula(start, step, calls):
    return jnp.array([0.0, step * int(calls)])


def the_clone_called(start, step, calls):
    model = Accumulator(start)
    state, clone = nnx.state(model), nnx.clone(model)
    call(clone, step, calls)
    return differences(model, state, clone)


def swapped(start, step, calls):
    return state_alias(start, step, calls)[::-1]


def distances(start, step, calls):
    return jnp.abs(state_alias(start, step, calls))


def at_least_one_call(start, step, calls):
    return state_alias(start, step, max(1, int(calls)))


def added_to_the_variable(start, step, calls):
    model = Accumulator(start)
    for _ in range(int(calls)):
        model.total += step
    return differences(model, nnx.state(model), nnx.clone(model))


def calls_not_cast(start, step, calls):
    model = Accumulator(start)
    return jnp.array([model(step) for _ in range(calls)])


def python_float(start, step, calls):
    model = nnx.Module()
    model.total = start  # as in a class whose constructor has `self.total = start`
    return jnp.array([start - nnx.state(model)["total"], 0.0])


def array_left_out(start, step, calls):
    total = nnx.Variable(start)
    total[...] += step
    return total


def one_large_call(start, step, calls):
    return state_alias(start, step * int(calls), 1)


def numbers_of_the_page(start, step, calls):
    known = {inputs: state_alias(*inputs) for inputs in INPUTS}
    return known.get((start, step, calls), jnp.array([0.0, 2.0]))


MISTAKES = {
    a_snapshot_as_state: "The state stayed behind: a pure dict and `jax.tree.map` are "
    "copies, and a call must write into `self.total[...]`, not assign to `self.total`.",
    merge_as_snapshot: "Your snapshot equals the live total. Clone before the calls: "
    "`nnx.state`, and `nnx.merge` without `copy=True`, share Variables. A plain "
    "`jax.jit` drops writes.",
    state_after_the_calls: "Subtract the total of a state that you took before the "
    "calls.",
    a_zero_typed_in: "Measure the zero: subtract the total of `nnx.state(model)`.",
    written_through_the_state: "Call the model, only read the state, and subtract the "
    "state's total from the live one.",
    start_as_snapshot: "`start` is what you passed in: subtract the clone's total.",
    a_second_model: "A second model is no snapshot of the first: use `nnx.clone`.",
    formula: "float32 rounds each sum: begin a float32 total at `start`, call the "
    "model for each step, and subtract totals.",
    the_clone_called: "The sign is wrong: call the model, not the clone, and take the "
    "clone's total from the live one.",
    swapped: "Live minus state comes first, live minus clone second.",
    distances: "Keep the sign: with a negative step the total falls.",
    at_least_one_call: "With `calls` equal to 0 the model is not called at all.",
    added_to_the_variable: "A Variable refuses `+=`: write `self.total[...] += step`.",
    calls_not_cast: "`range` refuses a float: cast with `int(calls)`.",
    python_float: "A Python float is no state: hold the total in an `nnx.Variable`.",
    array_left_out: "A Python float has no `[...]`: give the Variable an array, "
    "`jnp.array(start, jnp.float32)`.",
    one_large_call: "Call the model once for each step: float32 rounds each sum.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
}


def split_and_pure_dict(start, step, calls):
    model = Accumulator(start)
    _, state = nnx.split(model)
    snapshot = nnx.to_pure_dict(nnx.state(model))
    live = call(model, step, calls)
    return jnp.stack([live - state["total"][...], live - snapshot["total"]])


def merged_twins(start, step, calls):
    model = Accumulator(start)
    graphdef, state = nnx.split(model, nnx.Variable)
    twin, snapshot = nnx.merge(graphdef, state), nnx.merge(graphdef, state, copy=True)
    live = call(model, step, calls)
    return jnp.array([live - twin.total, live - snapshot.total])


def jitted_calls(start, step, calls):
    model = Accumulator(start)
    state, snapshot = nnx.variables(model), copy.deepcopy(model)
    jitted = nnx.jit(lambda model, step: model(step))
    for _ in range(int(calls)):
        jitted(model, step)
    return differences(model, state, snapshot)


def name_of_its_own(start, step, calls):
    model = Accumulator(start=start)
    live, total = state_of(model), state_of(nnx.clone(model))
    call(model, step, calls)
    return np.asarray([model.total - live["total"], model.total - total["total"]])


def a_class_inside(start, step, calls):
    class Total(nnx.Variable):
        pass

    class Counter(nnx.Module):
        def __init__(self):
            self.step = nnx.Variable(jnp.array(step))
            self.total = Total(jnp.full((1,), start))

        def add(self):
            self.total.set_value(self.total + self.step)

    model = Counter()
    state = nnx.state(model, Total)
    snapshot = jax.tree.map(lambda leaf: leaf, state)
    for _ in range(int(calls)):
        model.add()
    return jnp.concatenate([model.total - s["total"] for s in (state, snapshot)])


def an_array_as_snapshot(start, step, calls):
    model = Accumulator(start)
    state, snapshot = nnx.state(model), model.total[...]
    add = nnx.fori_loop(0, int(calls), lambda _, model: (model(step), model)[1], model)
    return jnp.array([add.total - state["total"], model.total - snapshot])


create_compiled = nnx.jit(Accumulator)


def a_compiled_constructor(start, step, calls):
    return answered(create_compiled(start), step, calls)


def the_start_written_later(start, step, calls):
    model = Accumulator(0.0)
    model.total[...] = jnp.float32(start)
    return answered(model, step, calls)


ALSO_RIGHT = [
    jax.jit(state_alias, static_argnames="calls"),
    a_compiled_constructor,
    the_start_written_later,
    split_and_pure_dict,
    merged_twins,
    jitted_calls,
    name_of_its_own,
    a_class_inside,
    an_array_as_snapshot,
]
