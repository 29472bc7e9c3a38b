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
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    for start, step, calls in [(1.5, 0.5, 4.0), (0.0, 2.5, 3.0), *more]:
        answer, total = candidate(start, step, calls), jnp.float32(start)
        for _ in range(int(calls)):
            total += step
        right = jnp.array([0.0, total - start])
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (2,):
            expected = f"an array of shape (2,), not {shape}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, right):
            expected = f"{right}: the state is an alias, the clone a snapshot"
        else:
            continue
        call = f"{candidate.__name__}({start}, {step}, {calls})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import copy
from contextlib import suppress

import jax
import numpy as np
from flax.nnx import state as state_of

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (2.0**24, -1.5, 3.0),  # each call takes 2 away, because float32 rounds the total
    (-2.0, 0.75, 0.0),
]


def idea(seen):
    """Return what right numbers lack: a state and a clone from before the calls."""
    (_, step, calls), built, large = seen.inputs, [], 2.0**26

    def copies(call):
        output = call.output
        for state in output if isinstance(output, tuple) else [output]:
            for key in state if isinstance(state, nnx.State) else ():
                state[key] = jax.tree.map(jnp.copy, state[key])

    def enlarge(variable):  # so much that float32 loses a small step
        value = variable.get_value()
        if not np.isin(value, (step, calls)).all():  # a step may lie in a Variable
            built.append(variable)
            variable.set_value(value + large * len(built))

    with suppress(seen.Finding):  # it compares the two totals itself
        run = seen.run(watch={nnx.state: copies, nnx.split: copies})
        if not run.calls_of(nnx.state, nnx.split):
            return "no nnx.state is used"
        first, added = run.answer[0], step * int(calls)
        if not seen.close(first, added):
            would = f"if nnx.state copied, the first number would be {added}"
            return f"{would}, but yours is {first}"
    run = seen.run("the total starts large", built={nnx.Variable: enlarge})
    kept = any(np.max(variable[...]) >= large for variable in built)
    if kept and not seen.close(run.answer[1], 0.0):
        would = f"if the total starts at {large} or more, no step moves it"
        return f"{would}, but your second number is {run.answer[1]}"


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


def start_as_snapshot(start, step, calls):
    model = Accumulator(start)
    state, live = nnx.state(model), call(model, step, calls)
    return jnp.array([live - state["total"], live - start])


def a_second_model(start, step, calls):
    return answered(Accumulator(start), step, calls, lambda _: Accumulator(start))


def formula_with_assert(start, step, calls):
    measured, total = state_alias(start, step, calls), jnp.float32(start)
    for _ in range(int(calls)):
        total += step
    assert measured[1] == total - start
    return measured.at[1].set(total - start)


def clone_minus_live(start, step, calls):
    return -state_alias(start, step, calls)


def at_least_one_call(start, step, calls):
    return state_alias(start, step, max(1, int(calls)))


def one_large_call(start, step, calls):
    return state_alias(start, step * int(calls), 1)


MISTAKES = {
    a_snapshot_as_state: "The state stayed behind: a pure dict and `jax.tree.map` are "
    "copies, and a call must write into `self.total[...]`, not assign to `self.total`.",
    merge_as_snapshot: "Your snapshot equals the live total: clone before the calls. A "
    "merge without `copy=True` shares Variables. A plain `jax.jit` drops writes.",
    state_after_the_calls: "Take the state that you subtract before the calls.",
    a_zero_typed_in: "Measure the zero: subtract the total of `nnx.state(model)`.",
    start_as_snapshot: "`start` is what you passed in: subtract the clone's total.",
    a_second_model: "A second model is no snapshot of the first: use `nnx.clone`.",
    formula_with_assert: "Subtract the clone's total, not what you add up beside it.",
    clone_minus_live: "The sign is wrong: call the model, not the clone, and take the "
    "clone's total from the live one. With a negative step the total falls.",
    at_least_one_call: "With `calls` equal to 0 the model is not called at all.",
    one_large_call: "Call the model once for each step: float32 rounds each sum.",
}


def merged_twins(start, step, calls):
    model = Accumulator(start)
    graphdef, state = nnx.split(model, nnx.Variable)
    twin, snapshot = nnx.merge(graphdef, state), nnx.merge(graphdef, state, copy=True)
    live = call(model, step, calls)
    return jnp.array([live - twin.total, live - snapshot.total])


def jitted_calls(start, step, calls):
    model = Accumulator(start)
    state, snapshot = state_of(model), copy.deepcopy(model)
    jitted = nnx.jit(lambda model, step: model(step))
    for _ in range(int(calls)):
        jitted(model, step)
    return differences(model, state, snapshot)


def a_class_inside(start, step, calls):
    class Counter(nnx.Module):
        def __init__(self):
            self.step = nnx.Variable(jnp.array(step))
            self.total = nnx.BatchStat(jnp.full((1,), start))

        def add(self):
            self.total.set_value(self.total + self.step)

    model = Counter()
    state = nnx.state(model, nnx.BatchStat)
    snapshot = jax.tree.map(lambda leaf: leaf, state)
    for _ in range(int(calls)):
        model.add()
    return jnp.concatenate([model.total - s["total"] for s in (state, snapshot)])


ALSO_RIGHT = [
    jax.jit(state_alias, static_argnames="calls"),
    merged_twins,
    jitted_calls,
    a_class_inside,
]
