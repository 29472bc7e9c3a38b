"""The exercise of "Filters": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class Block(nnx.Module):
    def __init__(self, features, rngs):
        self.linear = nnx.Linear(features, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):  # x[batch, features]
        return self.dropout(nnx.relu(self.norm(self.linear(x))))


class Tower(nnx.Module):
    def __init__(self, depth, features, rngs):
        self.blocks = nnx.List([Block(features, rngs) for _ in range(depth)])
        self.head = nnx.Linear(features, 1, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)
        # --8<-- [end:model]


def leaves(state):
    return len(jax.tree.leaves(state))


# --8<-- [start:stub]
def filters(seed, depth, features):
    """Return [head, kernels, other, statistics, rest, total], integers, shape (6,).

    Each is a number of leaves (arrays) in the state of one `Tower`.

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      depth: number of blocks, from 0 on; a float is accepted and cast.
      features: width of the blocks; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = Tower(int(depth), int(features), rngs=nnx.Rngs(int(seed)))
    head = nnx.All(nnx.Param, nnx.PathContains("head"))
    kernels = nnx.All(nnx.Param, lambda path, value: path[-1] == "kernel")
    _, *parts = nnx.split(model, head, kernels, nnx.Param, nnx.BatchStat, ...)
    return jnp.array([*map(leaves, parts), leaves(nnx.state(model))])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    for seed, depth, features in [(0.0, 2.0, 3.0), (7.0, 3.0, 2.0), *more]:
        answer, blocks = candidate(seed, depth, features), int(depth)
        parts = [2, blocks, 3 * blocks, 2 * blocks, 2 * blocks]
        hint = "Count the arrays in each part of one split, narrow filters first."
        if getattr(answer, "shape", None) != (6,):
            expected = f"an array of shape (6,), not {type(answer).__name__}"
            hint = "Make one `jnp.array` of the five counts and the total."
        elif answer.tolist() != [*parts, sum(parts)]:
            expected = [*parts, sum(parts)]
            if answer[:5].sum() != answer[5]:
                hint = "Five parts add up to the total: count arrays, and split once."
        else:
            continue
        call = f"{candidate.__name__}({seed}, {depth}, {features})"
        said = f"{call}\n  expected: {expected}\n  got:      {answer}"
        return f"{said}\n  next:     {hint}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from functools import partial

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, 0.0, 3.0),  # no block
    (11.0, 1.0, 1.0),  # kernels of one element
]


def idea(seen):
    """Return which counts do not follow what the layers hold, or None."""
    depth, names, zeros = int(seen.inputs[1]), [*FILTERS, "total"], jnp.zeros(3)
    parts = [4, 4 * depth, 6 * depth, 5 * depth + 1, 5 * depth + 1]
    for new in (partial(nnx.RngCount, tag="default"), nnx.Cache):

        def enrich(layer, new=new):
            layer.more = nnx.Dict(kernel=nnx.Param(zeros), bias=nnx.Param(zeros))
            layer.seen = nnx.Dict(kernel=nnx.BatchStat(zeros))
            layer.new = new(zeros)

        built = dict.fromkeys((nnx.Linear, nnx.BatchNorm, nnx.Dropout), enrich)
        try:
            run = seen.run("the layers hold more Variables", built=built)
        except seen.Finding as finding:
            if new is nnx.Cache and "Non-exhaustive" in str(finding):
                continue  # it names all types, and raises rather than lose a leaf
            raise
        found = zip(names, [*parts, sum(parts)], map(int, run.answer), strict=True)
        if wrong := [f"{name} {n}, not {m}" for name, m, n in found if m != n]:
            what = "Count what filters select in the whole tower, by type and by path."
            got = f"with more Variables in the layers, got {'; '.join(wrong)}"
            return f"{got}\n  next:     {what}"


HEAD, KERNEL = nnx.PathContains("head"), nnx.PathContains("kernel")
FILTERS = {
    "head": nnx.All(nnx.Param, HEAD),
    "kernels": nnx.All(nnx.Param, KERNEL),
    "other": nnx.Param,
    "statistics": nnx.BatchStat,
    "rest": ...,
}


def tower(seed, depth, features):
    return Tower(int(depth), int(features), rngs=nnx.Rngs(int(seed)))


def counts(model, chosen=FILTERS):
    """Return the six counts from one split by filters of any order."""
    found = dict(zip(chosen, nnx.split(model, *chosen.values())[1:], strict=True))
    in_order = [leaves(found[name]) for name in FILTERS if name in found]
    return jnp.array([*in_order, leaves(nnx.state(model))])


def attempt(name, first="head", **changed):
    """Return an attempt with other filters, or with another one first."""

    def split(*inputs):
        return counts(tower(*inputs), {first: None, **FILTERS, **changed})

    split.__name__ = name
    return split


def rest_left_out(*inputs):
    return counts(tower(*inputs), {name: FILTERS[name] for name in [*FILTERS][:4]})


def each_filter_alone(*inputs):
    model = tower(*inputs)
    return jnp.array([leaves(nnx.state(model, f)) for f in [*FILTERS.values(), ...]])


def rest_dropped_by_state(*inputs):
    chosen = [*FILTERS.values()][:4]
    found = [*map(leaves, nnx.state(tower(*inputs), *chosen, nnx.RngState))]
    return jnp.array([*found, sum(found)])


def first_block_times_depth(*inputs):
    model = tower(*inputs)
    return counts(tower(0, 0, 1)) + counts(model.blocks[0]) * int(inputs[1])


def formula_with_assert(*inputs):
    depth = int(inputs[1])
    numbers = jnp.array([2, depth, 3 * depth, 2 * depth, 2 * depth, 8 * depth + 2])
    assert jnp.array_equal(filters(*inputs), numbers)
    return numbers


MISTAKES = {
    attempt("kernels_before_head", first="kernels"): (
        "The first filter wins: put the head before the kernels."
    ),
    attempt("params_first", first="other"): (
        "Nothing is left for head and kernels: put their filters before `nnx.Param`, "
        "and select by path. A string selects a tag."
    ),
    attempt("path_in_one_string", head=nnx.PathContains("head/kernel")): (
        "A path is a tuple of keys: ask for the key `head` alone."
    ),
    attempt("joined_with_and", head=HEAD and nnx.Param): (
        "The first filter takes every parameter: `and`, or a tuple, does not mean "
        "both. Use `nnx.All`."
    ),
    attempt("kernels_by_size", kernels=lambda path, value: value.size > 3): (
        "A kernel may have one element: select it by its name."
    ),
    attempt("head_by_path_alone", head=HEAD): (
        "The head may hold more than parameters: add `nnx.Param`."
    ),
    attempt("kernels_by_path_alone", kernels=KERNEL): (
        "A statistic may be named `kernel` too: add `nnx.Param`."
    ),
    attempt("statistics_by_name", statistics=nnx.PathContains("norm")): (
        "Select the statistics by their type, `nnx.BatchStat`."
    ),
    rest_left_out: "Some leaves match no filter: end the split with `...`.",
    each_filter_alone: "Filters overlap: give all of them to one `nnx.split`.",
    rest_dropped_by_state: "`nnx.state` drops what matches no filter: end with `...`.",
    first_block_times_depth: "There may be no block: split the whole tower.",
    formula_with_assert: "Return what filters select: a formula follows no layer.",
}


def with_not(*inputs):
    body = nnx.All(nnx.Param, nnx.Not(HEAD))
    chosen = nnx.All(body, KERNEL), body, nnx.BatchStat, nnx.Param, nnx.RngState
    state = nnx.state(tower(*inputs))
    *parts, head, rest = map(leaves, nnx.split_state(state, *chosen))
    return np.array([head, *parts, rest, leaves(state)], float)


def of_an_abstract_model(*inputs):
    return counts(nnx.eval_shape(lambda: tower(*inputs)))


def jitted_with_assert(seed, depth, features):
    make = nnx.jit(Tower, static_argnums=(0, 1))
    found = counts(make(int(depth), int(features), rngs=nnx.Rngs(int(seed))))
    assert found[5] == 8 * depth + 2
    return found


ALSO_RIGHT = [with_not, of_an_abstract_model, jitted_with_assert]
