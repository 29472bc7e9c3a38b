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
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (0.0, [[1.0, 2.0, 3.0, 4.0]], 2.0), (7.0, [[0.5, -1.5], [2.0, 1.0]], 3.0)
    for seed, x, features in [*page, *more]:
        x, outputs = jnp.array(x), int(features)
        answer = candidate(seed, x, features)
        linear, norm = (x.shape[-1] + 1) * outputs, 2 * outputs
        counts = [linear + norm, norm, 2, 1]  # random state: a key and a counter
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (5,):
            expected = f"an array of shape (5,), not {shape}"
        elif answer.tolist() != [*counts, sum(counts)]:
            expected = f"{[*counts, sum(counts)]}: four counts, and their sum"
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from contextlib import suppress

import numpy as np

# An input that only `nbe` tries, with two batch axes, and one feature.
HIDDEN = [(5.0, jnp.array([[[0.25, -0.5, 2.0, 1.0, 0.75]] * 3] * 2), 1.0)]


def idea(seen):
    """Return what right numbers lack: counts that follow the types of the Variables."""
    _, x, features = seen.inputs
    linear, norm = (x.shape[-1] + 1) * int(features), 2 * int(features)
    right = np.array([linear + norm, norm, 2, 1, linear + 2 * norm + 3])

    def own(value):  # what a type that is not one of Flax's holds
        def hold(variable):
            if type(variable) not in vars(nnx).values():
                variable.set_value(value)

        return {nnx.Variable: hold}

    def more_of_linear(layer):
        layer.param, layer.stat = nnx.Param(jnp.zeros(5)), nnx.BatchStat(jnp.zeros(3))

    def more_of_dropout(layer):
        layer.count = nnx.RngCount(jnp.zeros(11), tag="more")
        layer.stat = nnx.BatchStat(jnp.zeros(4))

    def cache(layer):
        layer.cache = nnx.Cache(jnp.zeros(13))

    answer = seen.run("the counter holds 20", built=own(jnp.array(20))).answer
    if answer[3] != 1:
        return "call_count is the counter's value, not its number of elements"
    more = {nnx.Linear: more_of_linear, nnx.Dropout: more_of_dropout}
    built = more | own(jnp.array([0, 0, 0]))
    answer = seen.run("there is more of each type", built=built).answer
    wrong = answer != right + np.array([5, 7, 11, 2, 25])
    if wrong.any():
        names = ["params", "batch_stats", "rng_state", "call_count", "total"]
        listed = ", ".join(n for n, w in zip(names, wrong, strict=True) if w)
        return f"more of each type makes {listed} wrong"
    with suppress(seen.Finding):  # a split raises if its filters leave a type out
        answer = seen.run(built={nnx.BatchNorm: cache}).answer
        if answer[4] != right[4] + 13:
            return "the total leaves out what none of your types selects"


TYPES = nnx.Param, nnx.BatchStat, nnx.RngState, CallCount


def block(seed, x, features):
    return Block(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def count(model, types=TYPES, size=elements):
    """Return what is asked for, as a learner of other habits would count it."""
    return jnp.array([*(size(nnx.state(model, t)) for t in types), size(model)])


def attempt(name, types=TYPES, size=elements, **attributes):
    """Return the attempt of a learner who sets attributes, and counts so."""

    def counted(seed, x, features):
        model = block(seed, x, features)
        for key, make in attributes.items():
            setattr(model, key, make())
        return count(model, types, size)

    counted.__name__ = name
    return counted


def variable_comes_first(seed, x, features):
    model = block(seed, x, features)
    _, *parts = nnx.split(model, nnx.Variable, nnx.Param, nnx.BatchStat, nnx.RngState)
    return jnp.array([*map(elements, parts), elements(nnx.state(model))])


def second_axis(seed, x, features):
    return count(Block(x.shape[1], int(features), rngs=nnx.Rngs(int(seed))))


def scalars_left_out(seed, x, features):
    model = block(seed, x, features)
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    return count(model).at[0].set(sum(size for size in sizes if size > 1))


def formula_with_assert(seed, x, features):
    linear, norm = (x.shape[-1] + 1) * int(features), 2 * int(features)
    parts, model = [linear + norm, norm, 2, 1], block(seed, x, features)
    assert jnp.array_equal(count(model), jnp.array([*parts, sum(parts)]))
    return jnp.array([*parts, sum(parts)])


def sum_of_the_parts(seed, x, features):
    parts = count(block(seed, x, features))[:4]
    return jnp.array([*parts, parts.sum()])


def value_of_the_counter(seed, x, features):
    model = block(seed, x, features)
    model.calls[...] += 1  # as a call does
    return count(model).at[3].set(model.calls[...])


def attributes_by_name(seed, x, features):
    model = block(seed, x, features)
    params = model.linear.kernel, model.linear.bias, model.norm.scale, model.norm.bias
    stats, rngs = (model.norm.mean, model.norm.var), model.dropout.rngs
    parts = params, stats, (rngs.key, rngs.count), (model.calls,)
    return jnp.array([*map(elements, parts), elements(model)])


MISTAKES = {
    attempt("variable_for_the_calls", [*TYPES[:3], nnx.Variable]): (
        "`nnx.Variable` selects all: filter by a type of your own."
    ),
    attempt("names_of_collections", ["params", "batch_stats", "rngs", "calls"]): (
        "A string selects a tag, not a collection: filter by type."
    ),
    attempt("calls_in_a_bare_array", calls=lambda: jnp.array(0)): (
        "Hold the calls in a `CallCount`: its filter finds no bare array."
    ),
    variable_comes_first: "`nnx.Variable` matches every type: leave it out, or last.",
    second_axis: "The features are the last axis of `x`: there may be more batch axes.",
    scalars_left_out: "A type does not depend on size: a bias may have one element.",
    formula_with_assert: "Build a `Block`, and count what the filters select.",
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


def jitted(seed, x, features):
    make = nnx.jit(Block, static_argnums=(0, 1))
    return count(make(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed))))


ALSO_RIGHT = [rest_as_calls, sum_after_an_exhaustive_split, loop_over_variables, jitted]
