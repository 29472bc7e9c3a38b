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
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

INPUTS = [(0.0, 2.0, 3.0), (7.0, 3.0, 2.0)]  # seed, depth, features
NAMES = ["head", "kernels", "other", "statistics", "rest", "total"]


def expected_counts(depth, more=(0, 0, 0, 0, 0)):
    """Return the six counts by arithmetic, without a model."""
    parts = jnp.array([2, depth, 3 * depth, 2 * depth, 2 * depth]) + jnp.array(more)
    return jnp.append(parts, parts.sum()).astype(int)


def rerun(candidate, inputs, extra):
    """Return the answer when layers hold `extra` Variables, an error, or None."""

    def with_extra(construct, make):
        def init(self, *args, **kwargs):
            construct(self, *args, **kwargs)
            for name, variable in make().items():
                setattr(self, name, variable)

        return init

    inits = {cls: with_extra(cls.__init__, make) for cls, make in extra.items()}
    with ExitStack() as changes:
        changes.enter_context(jax.disable_jit())  # what is compiled knows no changes
        for cls, init in inits.items():
            changes.enter_context(patch.object(cls, "__init__", init))
        try:
            return jnp.asarray(candidate(*inputs))
        except Exception as error:  # a split may not know a new type
            return None if "Non-exhaustive" in str(error) else error


def missing_idea(candidate, inputs):
    """Return which counts do not follow the state of the model, or None."""
    depth, param, stat = int(inputs[1]), nnx.Param, nnx.BatchStat
    more = (1, 2 * depth, depth, 2 * depth + 1, depth)  # what the layers below add
    expected = expected_counts(depth, more)
    zeros = jnp.zeros(3)
    for rest in (partial(nnx.RngCount, tag="default"), nnx.Cache):
        extra = {
            nnx.Linear: lambda: {"more": param(jnp.eye(2)), "seen": stat(zeros)},
            nnx.BatchNorm: lambda: {"kernel": param(zeros)},
            nnx.Dropout: lambda new=rest: {
                "kernel": param(zeros),
                "seen": nnx.Dict(kernel=stat(zeros)),
                "new": new(zeros),
            },
        }
        answer = rerun(candidate, inputs, extra)
        if isinstance(answer, Exception):
            return "with more leaves in the layers, your code raises an error"
        if answer is not None and not jnp.array_equal(answer, expected):
            wrong = zip(NAMES, expected, answer, strict=False)
            said = [f"{name} {b}, not {a}" for name, a, b in wrong if a != b]
            what = "Count what filters select in the whole tower, by type and by path."
            got = f"with more leaves in the layers, got {'; '.join(said)}"
            return f"{got}\n  next:     {what}"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for case in inputs:
        answer, wrong, hint = candidate(*case), None, None
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        expected = expected_counts(case[1])
        shape = getattr(answer, "shape", type(answer).__name__)
        if shape != (6,):
            wrong = f"an array of shape (6,), not {shape}"
            hint = "Make one `jnp.array` of the five counts and the total."
        elif not jnp.issubdtype(answer.dtype, jnp.number):
            wrong = f"numbers, not {answer.dtype}"
        elif not jnp.array_equal(answer, expected):
            wrong = str(expected)
            if answer[:5].sum() != answer[5]:
                hint = "Five parts add up to the total: count arrays, and split once."
        if wrong:
            call = f"{candidate.__name__}({', '.join(map(str, case))})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    missing = missing_idea(candidate, inputs[0])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, 0.0, 3.0),  # no block
    (11.0, 1.0, 1.0),  # kernels of one element
]
IS_HEAD = nnx.PathContains("head")
HEAD = nnx.All(nnx.Param, IS_HEAD)


def is_kernel(path, value):
    return path[-1] == "kernel"


KERNEL = nnx.All(nnx.Param, is_kernel)
FILTERS = [HEAD, KERNEL, nnx.Param, nnx.BatchStat, ...]


def tower(seed, depth, features):
    return Tower(int(depth), int(features), rngs=nnx.Rngs(int(seed)))


def counts(model, chosen=FILTERS, order=range(5), size=leaves):
    """Return the six counts from one split, its parts put into another order."""
    parts = [*map(size, nnx.split(model, *chosen)[1:])]
    return jnp.array([*(parts[i] for i in order), size(nnx.state(model))])


def counts_with(found, at, inputs):
    """Return the counts with another filter at position `at`."""
    return counts(tower(*inputs), [*FILTERS[:at], found, *FILTERS[at + 1 :]])


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def kernels_before_head(*inputs):
    chosen = [KERNEL, HEAD, nnx.Param, nnx.BatchStat, ...]
    return counts(tower(*inputs), chosen, [1, 0, 2, 3, 4])


def params_first(*inputs):
    chosen = [nnx.Param, HEAD, KERNEL, nnx.BatchStat, ...]
    return counts(tower(*inputs), chosen, [1, 2, 0, 3, 4])


def rest_first(*inputs):
    return counts(tower(*inputs), [..., *FILTERS[:4]], [1, 2, 3, 4, 0])


def rest_left_out(*inputs):
    return counts(tower(*inputs), FILTERS[:4], range(4))


def each_filter_alone(*inputs):
    model = tower(*inputs)
    return jnp.array([leaves(nnx.state(model, f)) for f in [*FILTERS, ...]])


def names_of_collections(*inputs):
    chosen = ["head", "kernel", "params", "batch_stats", ...]
    return counts(tower(*inputs), chosen)


def rest_by_the_tag_dropout(*inputs):
    model = tower(*inputs)
    rest = leaves(nnx.state(model, "dropout"))
    return counts(model).at[4].set(rest)


def path_in_one_string(*inputs):
    by_path = nnx.Any(nnx.PathContains("head/kernel"), nnx.PathContains("head/bias"))
    return counts_with(by_path, at=0, inputs=inputs)


def joined_with_and(*inputs):
    return counts_with(IS_HEAD and nnx.Param, at=0, inputs=inputs)


def joined_with_ampersand(*inputs):
    return counts_with(nnx.Param & IS_HEAD, at=0, inputs=inputs)


def kernels_by_size(*inputs):
    large = nnx.All(nnx.Param, lambda path, value: value.size > inputs[2])
    return counts_with(large, at=1, inputs=inputs)


def variables_of_every_type(*inputs):
    return counts_with(nnx.Variable, at=2, inputs=inputs)


def elements(*inputs):
    return counts(
        tower(*inputs), size=lambda s: sum(x.size for x in jax.tree.leaves(s))
    )


def keys_at_the_top(*inputs):
    return counts(tower(*inputs), size=len)


def seed_as_float(seed, depth, features):
    return counts(Tower(int(depth), int(features), rngs=nnx.Rngs(seed)))


def total_first(*inputs):
    return jnp.roll(filters(*inputs), 1)


def a_list(*inputs):
    return filters(*inputs).tolist()


def first_block_times_depth(*inputs):
    model = tower(*inputs)
    return counts(tower(0, 0, 1)) + counts(model.blocks[0]) * int(inputs[1])


def numbers_of_the_page(*inputs):
    known = {case: filters(*case) for case in INPUTS}
    return known.get(inputs, jnp.array([2, 2, 6, 4, 4, 18]))


def by_arithmetic(seed, depth, features):
    return expected_counts(depth)


def compared_with_arithmetic(*inputs):
    found = filters(*inputs)
    assert jnp.array_equal(found, expected_counts(inputs[1]))
    return found


def head_by_path_alone(*inputs):
    return counts_with(IS_HEAD, at=0, inputs=inputs)


def kernels_by_path_alone(*inputs):
    return counts_with(is_kernel, at=1, inputs=inputs)


def kernels_by_rank(*inputs):
    matrix = nnx.All(nnx.Param, lambda path, value: value.ndim == 2)
    return counts_with(matrix, at=1, inputs=inputs)


def statistics_by_name(*inputs):
    stats = nnx.Any(nnx.PathContains("mean"), nnx.PathContains("var"))
    return counts_with(stats, at=3, inputs=inputs)


def rest_dropped_by_state(*inputs):
    states = nnx.state(tower(*inputs), *FILTERS[:4], nnx.RngState)
    parts = [*map(leaves, states)]
    return jnp.array([*parts, sum(parts)])


MISTAKES = {
    kernels_before_head: "The first filter wins: put the head before the kernels.",
    params_first: "Nothing is left for head and kernels: put their filters before "
    "`nnx.Param`, and select by path. A string selects a tag.",
    rest_first: "`...` matches everything: it must be the last filter.",
    rest_left_out: "Some leaves match no filter: end the split with `...`.",
    each_filter_alone: "Filters overlap: give all of them to one `nnx.split`.",
    names_of_collections: "A string selects a tag: filter by type and by path.",
    rest_by_the_tag_dropout: "`nnx.Rngs(seed)` tags its stream `default`: use `...`.",
    path_in_one_string: "A path is a tuple of keys: ask for the key `head` alone.",
    joined_with_and: "The first filter takes every parameter: `and`, or a tuple, does "
    "not mean both. Use `nnx.All`.",
    joined_with_ampersand: "Filters have no operators: use `nnx.All`.",
    kernels_by_size: "A kernel may have one element: select it by its name.",
    variables_of_every_type: "Every type is an `nnx.Variable`: ask for `nnx.Param`.",
    elements: "You count elements: count leaves, whatever their size.",
    keys_at_the_top: "`len` counts the keys at the top: use `jax.tree.leaves`.",
    seed_as_float: "Cast the seed with `int`: `nnx.Rngs` takes no float.",
    total_first: "The total comes last, after the five parts.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    first_block_times_depth: "There may be no block: split the whole tower.",
    numbers_of_the_page: "These are the numbers of two blocks: use `depth`, and count.",
    by_arithmetic: "Build a `Tower`, and count what filters select in its state.",
    compared_with_arithmetic: "Count whatever the layers hold: expect no number.",
    head_by_path_alone: "The head may hold more than parameters: add `nnx.Param`.",
    kernels_by_path_alone: "A statistic may be named `kernel` too: add `nnx.Param`.",
    kernels_by_rank: "Select kernels by the last key of the path, not by shape.",
    statistics_by_name: "Select the statistics by their type, `nnx.BatchStat`.",
    rest_dropped_by_state: "`nnx.state` drops what matches no filter: end with `...`.",
}


def with_not(*inputs):
    body = nnx.All(nnx.Param, nnx.Not(IS_HEAD))
    chosen = nnx.All(body, is_kernel), body, nnx.BatchStat, nnx.Param, nnx.RngState
    return np.asarray(counts(tower(*inputs), chosen, [3, 0, 1, 2, 4]), float)


def filters_that_exclude_each_other(*inputs):
    model, body = tower(*inputs), nnx.All(nnx.Param, nnx.Not(nnx.PathContains("head")))
    kinds = HEAD, nnx.All(body, is_kernel), nnx.All(body, nnx.Not(is_kernel))
    rest = nnx.Not(nnx.Any(nnx.Param, nnx.BatchStat))
    chosen = [*kinds, nnx.BatchStat, rest, ...]
    return jnp.array([leaves(nnx.state(model, f)) for f in chosen])


def loop_over_paths(*inputs):
    found = [0] * 5
    for path, value in nnx.to_flat_state(nnx.state(tower(*inputs))):
        if isinstance(value, nnx.Param):
            found[0 if "head" in path else 1 if path[-1] == "kernel" else 2] += 1
        else:
            found[3 if isinstance(value, nnx.BatchStat) else 4] += 1
    return jnp.array([*found, sum(found)])


def of_an_abstract_model(seed, depth, features):
    return counts(nnx.eval_shape(lambda: tower(seed, depth, features)))


def jitted(seed, depth, features):
    make = nnx.jit(Tower, static_argnums=(0, 1))
    return counts(make(int(depth), int(features), rngs=nnx.Rngs(int(seed))))


def block_by_block(*inputs):
    model = tower(*inputs)
    found = counts(model.head, [nnx.Param, False, False, nnx.BatchStat, ...])
    return sum(map(counts, model.blocks), start=found)


def split_of_a_state(*inputs):
    state = nnx.state(tower(*inputs))
    return jnp.stack([*map(leaves, nnx.split_state(state, *FILTERS)), leaves(state)])


ALSO_RIGHT = [with_not, filters_that_exclude_each_other, loop_over_paths, jitted]
ALSO_RIGHT += [of_an_abstract_model, block_by_block, split_of_a_state]
