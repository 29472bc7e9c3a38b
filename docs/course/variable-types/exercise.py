"""The exercise of "Variable types": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class CallCount(nnx.Variable):
    """Number of forward calls: a type of your own needs no more than a name."""


class Block(nnx.Module):
    def __init__(self, in_features, features, rngs):
        self.linear = nnx.Linear(in_features, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.calls = CallCount(jnp.array(0))

    def __call__(self, x):  # x[..., in_features]
        self.calls[...] += 1
        return self.dropout(self.norm(self.linear(x)))
        # --8<-- [end:model]


def elements(state):
    return sum(leaf.size for leaf in jax.tree.leaves(state))


# --8<-- [start:stub]
def variable_types(seed, x, features):
    """Return [params, batch_stats, rng_state, call_count, total], shape (5,).

    Each is a number of array elements in the state of one `Block`.

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (..., in_features), float32, with one batch axis or more.
      features: number of outputs; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = Block(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    types = nnx.Param, nnx.BatchStat, nnx.RngState, CallCount
    _, *parts = nnx.split(model, *types)
    return jnp.array([*map(elements, parts), elements(nnx.state(model))])
    # --8<-- [end:solution]


# --8<-- [start:check]
from contextlib import ExitStack
from unittest.mock import patch

INPUTS = [  # seed, x, features
    (0.0, jnp.arange(12.0).reshape(3, 4), 2.0),
    (7.0, jnp.array([[0.5, -1.5]]), 3.0),
]
NAMES = ["params", "batch_stats", "rng_state", "call_count", "total"]


def expected_counts(x, features):
    """Return the five counts from the sizes alone, without a module."""
    linear, norm = (x.shape[-1] + 1) * int(features), 2 * int(features)
    parts = [linear + norm, norm, 2, 1]  # random state: a key and a counter
    return jnp.array([*parts, sum(parts)])


def rerun(candidate, inputs, extra, calls):
    """Return the answer when layers hold `extra` and your own type holds `calls`."""

    def with_extra(construct, make):
        def init(self, *args, **kwargs):
            construct(self, *args, **kwargs)
            self.extra = nnx.List(make())

        return init

    def begin(self, value, *, construct=nnx.Variable.__init__, **metadata):
        own = type(self) not in vars(nnx).values()
        construct(self, calls if own else value, **metadata)

    inits = {cls: with_extra(cls.__init__, make) for cls, make in extra.items()}
    with ExitStack() as changes:
        changes.enter_context(jax.disable_jit())  # what is compiled knows no changes
        for cls, init in [*inits.items(), (nnx.Variable, begin)]:
            changes.enter_context(patch.object(cls, "__init__", init))
        try:
            return candidate(*inputs)
        except Exception:  # such as that of a split which finds another type
            return None


def missing_idea(candidate, inputs):
    """Return what is missing although the numbers are right, or None."""
    expected = expected_counts(*inputs[1:])
    stat, rng = nnx.BatchStat, nnx.RngCount
    more = {  # of each type, another number of elements: 5, 3 + 4 and 11
        nnx.Linear: lambda: [nnx.Param(jnp.zeros(5)), stat(jnp.zeros(3))],
        nnx.Dropout: lambda: [rng(jnp.zeros(11), tag="extra"), stat(jnp.zeros(4))],
    }
    answer = rerun(candidate, inputs, more, jnp.array([0, 0, 0]))
    if answer is not None:
        wrong = answer != expected + jnp.array([5, 7, 11, 2, 25])
        if any(wrong):
            names = ", ".join(n for n, w in zip(NAMES, wrong, strict=True) if w)
            what = "Give the calls a `CallCount`, and filter the whole block by type."
            return f"more of each type makes {names} wrong\n  next:     {what}"
    unnamed = {nnx.BatchNorm: lambda: [nnx.Cache(jnp.zeros(13))]}
    answer = rerun(candidate, inputs, unnamed, jnp.array(20))
    if answer is not None and answer[4] != expected[4] + 13:
        return "the total leaves out what none of your types selects"
    if answer is not None and answer[3] not in (1, 1 + 13):  # or if `...` is last
        return "call_count is the counter's value, not its number of elements"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, features in inputs:
        answer, wrong, hint = candidate(seed, x, features), None, None
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        expected = expected_counts(x, features)
        shape = getattr(answer, "shape", type(answer).__name__)
        if shape != (5,):
            wrong = f"an array of shape (5,), not {shape}"
            hint = "Make one `jnp.array` of the four counts and the total."
        elif not jnp.issubdtype(answer.dtype, jnp.number):
            wrong = f"numbers, not {answer.dtype}"
        elif not jnp.array_equal(answer, expected):
            wrong = str(expected)
            if answer[:4].sum() != answer[4]:
                hint = "Four counts must add up to the fifth: compare their types."
        if wrong:
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    missing = missing_idea(candidate, inputs[0])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, jnp.array([[[0.25, -0.5, 2.0, 1.0, 0.75]] * 3] * 2), 4.0),  # two batch axes
    (11.0, jnp.array([[0.5, -1.25, 3.0], [1.0, 0.0, 0.125]]), 1.0),  # one feature
]

TYPES = nnx.Param, nnx.BatchStat, nnx.RngState, CallCount


def block(seed, x, features, kind=Block):
    return kind(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def count(model, types=TYPES, size=elements):
    """Return what is asked for, as a learner of other habits would count it."""
    return jnp.array([*(size(nnx.state(model, t)) for t in types), size(model)])


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def variable_comes_first(seed, x, features):
    model = block(seed, x, features)
    _, *parts = nnx.split(model, nnx.Variable, nnx.Param, nnx.BatchStat, nnx.RngState)
    return jnp.array([*map(elements, parts), elements(nnx.state(model))])


def variable_for_the_calls(seed, x, features):
    return count(block(seed, x, features), [*TYPES[:3], nnx.Variable])


def sizes_swapped(seed, x, features):
    return count(Block(int(features), x.shape[-1], rngs=nnx.Rngs(int(seed))))


def total_first(seed, x, features):
    return jnp.roll(count(block(seed, x, features)), 1)


def names_of_collections(seed, x, features):
    names = ["params", "batch_stats", "rng_state", "call_count"]
    return count(block(seed, x, features), names)


def split_without_calls(seed, x, features):
    model = block(seed, x, features)
    _, *parts = nnx.split(model, nnx.Param, nnx.BatchStat, nnx.RngState)
    return jnp.array([*map(elements, parts), 1, elements(model)])


def stats_before_params(seed, x, features):
    types = [nnx.BatchStat, nnx.Param, nnx.RngState, CallCount]
    return count(block(seed, x, features), types)


def keys_without_counters(seed, x, features):
    return count(block(seed, x, features), [*TYPES[:2], nnx.RngKey, CallCount])


def dropout_without_rngs(seed, x, features):
    model = block(seed, x, features)
    model.dropout = nnx.Dropout(0.5)
    return count(model)


def rngs_kept_in_the_block(seed, x, features):
    model = block(seed, x, features)
    model.rngs = nnx.Rngs(int(seed))
    return count(model)


def calls_in_a_bare_array(seed, x, features):
    model = block(seed, x, features)
    model.calls = jnp.array(0)
    return count(model)


def calls_in_an_integer(seed, x, features):
    model = block(seed, x, features)
    del model.calls
    model.calls = 0
    return count(model)


def calls_around_an_integer(seed, x, features):
    model = block(seed, x, features)
    model.calls = CallCount(0)
    return count(model)


def leaves_not_elements(seed, x, features):
    return count(block(seed, x, features), size=lambda s: len(jax.tree.leaves(s)))


def params_of_the_linear_layer(seed, x, features):
    model = block(seed, x, features)
    return count(model).at[0].set(elements(nnx.state(model.linear, nnx.Param)))


def second_axis(seed, x, features):
    return count(Block(x.shape[1], int(features), rngs=nnx.Rngs(int(seed))))


def scalars_left_out(seed, x, features):
    def size(state):
        return sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.size > 1)

    model = block(seed, x, features)
    return count(model).at[:2].set(count(model, size=size)[:2])


def formula(seed, x, features):
    return expected_counts(x, features)


def sum_of_the_parts(seed, x, features):
    parts = count(block(seed, x, features))[:4]
    return jnp.array([*parts, parts.sum()])


def value_of_the_counter(seed, x, features):
    model = block(seed, x, features)
    model(x)
    return count(model).at[3].set(model.calls[...])


def attributes_by_name(seed, x, features):
    model = block(seed, x, features)
    params = model.linear.kernel, model.linear.bias, model.norm.scale, model.norm.bias
    stats, rngs = (model.norm.mean, model.norm.var), model.dropout.rngs
    parts = params, stats, (rngs.key, rngs.count), (model.calls,)
    return jnp.array([*map(elements, parts), elements(model)])


MISTAKES = {
    variable_comes_first: "`nnx.Variable` matches every type: leave it out, or last.",
    variable_for_the_calls: "`nnx.Variable` selects all: filter by a type of your own.",
    sizes_swapped: "`in_features` is the last axis of `x`; `features` is the output.",
    total_first: "The total comes last, after the four parts.",
    names_of_collections: "A string selects a tag, not a collection: filter by type.",
    split_without_calls: "A type has no filter: give `nnx.split` all four.",
    stats_before_params: "The params come first, then the batch statistics.",
    keys_without_counters: "A stream is a key and a counter: filter by `nnx.RngState`.",
    dropout_without_rngs: "Give the dropout layer `rngs`, for its stream of keys.",
    rngs_kept_in_the_block: "Do not keep `rngs`: the dropout layer has its own stream.",
    calls_in_a_bare_array: "Hold the calls in a `CallCount`: its filter finds nothing "
    "else, no bare array and no plain `nnx.Variable`.",
    calls_in_an_integer: "No `CallCount` holds the calls: an integer is no state, and "
    "a bare array has no type.",
    calls_around_an_integer: "Give `CallCount` an array: an integer has no size.",
    leaves_not_elements: "You count arrays: add up the `size` of each.",
    params_of_the_linear_layer: "The norm's scale and bias are `nnx.Param` too.",
    second_axis: "The features are the last axis of `x`: there may be more batch axes.",
    scalars_left_out: "A type does not depend on size: a bias may have one element.",
    formula: "Build a `Block`, and count what filters by type select in its state.",
    sum_of_the_parts: "Count the total from the state: a sum can hide a lost type.",
    attributes_by_name: "Names miss other Variables of the same type: filter by type.",
    value_of_the_counter: "Its value is the number of calls: count its elements.",
}


def rest_as_calls(seed, x, features):
    model = block(seed, x, features)
    states = nnx.split(model, *TYPES[:3], ...)[1:]
    return jnp.stack([*map(elements, states), elements(nnx.split(model)[1])])


def sum_after_an_exhaustive_split(seed, x, features):
    parts = [*map(elements, nnx.split(block(seed, x, features), *TYPES)[1:])]
    return np.array([*parts, sum(parts)], float)


def loop_over_variables(seed, x, features):
    counts = dict.fromkeys([*TYPES, nnx.Variable], 0)
    for _, variable in nnx.to_flat_state(nnx.state(block(seed, x, features))):
        for kind in counts:
            counts[kind] += isinstance(variable, kind) * jnp.size(variable[...])
    return jnp.array([*counts.values()])


def sequential(seed, x, features):
    class Calls(nnx.Variable):
        pass

    size, rngs = int(features), nnx.Rngs(params=int(seed), dropout=1)
    layers = nnx.Linear(x.shape[-1], size, rngs=rngs), nnx.BatchNorm(size, rngs=rngs)
    model = nnx.Sequential(*layers, nnx.Dropout(rate=0.5, rngs=rngs))
    model.calls = Calls(0)
    model(x)
    types = [*TYPES[:2], (nnx.RngKey, nnx.RngCount), Calls]
    return count(model, types, lambda s: sum(map(jnp.size, jax.tree.leaves(s))))


def jitted(seed, x, features):
    make = nnx.jit(Block, static_argnums=(0, 1))
    return count(make(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed))))


ALSO_RIGHT = [rest_as_calls, sum_after_an_exhaustive_split, loop_over_variables]
ALSO_RIGHT += [sequential, jitted]
