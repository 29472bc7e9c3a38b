"""The exercise of "Filters": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class Count(nnx.Variable):
    pass


class Block(nnx.Module):
    def __init__(self, features, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(features, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)

    def __call__(self, x):  # x[batch, features]
        return nnx.relu(self.norm(self.linear(x)))


class Tower(nnx.Module):
    def __init__(self, depth, features, *, rngs: nnx.Rngs):
        self.blocks = nnx.List([Block(features, rngs=rngs) for _ in range(depth)])
        self.calls = Count(jnp.zeros((), jnp.int32))
        tagged = {"tag": "no_decay"}
        self.head = nnx.Linear(features, 1, kernel_metadata=tagged, rngs=rngs)

    def __call__(self, x):
        self.calls[...] += 1
        for block in self.blocks:
            x = block(x)
        return self.head(x)
        # --8<-- [end:model]


# --8<-- [start:stub]
def l2_penalty(seed, depth, features):
    """Return the sum of squares of the weights of a `Tower` that decay, a scalar.

    These are the elements of each `nnx.Param` whose own name is `kernel`, unless it has
    the tag "no_decay".

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      depth: number of blocks, from 0 on.
      features: width of the blocks.
    """
    # --8<-- [end:stub]
    model = Tower(depth, features, rngs=nnx.Rngs(seed))

    def is_kernel(path, value):
        return path[-1] == "kernel"

    decaying = nnx.All(nnx.Param, is_kernel, nnx.Not("no_decay"))
    weights = jax.tree.leaves(nnx.state(model, decaying))
    return sum(jnp.sum(weight**2) for weight in weights)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    for seed, depth, features in [(0, 2, 3), (7, 3, 2), *more]:
        answer = candidate(seed, depth, features)
        blocks = Tower(depth, features, rngs=nnx.Rngs(seed)).blocks
        wanted = sum(jnp.sum(block.linear.kernel[...] ** 2) for block in blocks)
        if answer is None or getattr(answer, "shape", ()) != ():
            expected = f"a scalar, not {type(answer).__name__}"
        elif not jnp.allclose(answer, wanted, atol=1e-4):
            expected = f"{wanted:.3f}, of {depth} kernels"
        else:
            continue
        call = f"{candidate.__name__}({seed}, {depth}, {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, 0, 3),  # no block
    (11, 2, 1),  # kernels of one element
]


def idea(seen):
    """Return what the penalty does not follow when layers hold more, or None."""
    _, depth, _ = seen.inputs
    extras = {
        "a statistic is named kernel": lambda: {"kernel": nnx.BatchStat(jnp.ones(3))},
        "a part named kernel has a bias": lambda: {
            "kernel": nnx.Dict(bias=nnx.Param(jnp.ones(3)))
        },
        "a kernel is tagged": lambda: {
            "kernel": nnx.Param(jnp.ones(3), tag="no_decay")
        },
        "there are more kernels": lambda: {"kernel": nnx.Param(jnp.ones(3))},
    }
    for what, extra in extras.items():

        def enrich(layer, extra=extra):
            layer.more = nnx.Dict(extra())

        hooks = {nnx.BatchNorm: enrich}
        answer = seen.run(what, built=hooks).answer
        more = 3 * depth * (what == "there are more kernels")
        if not seen.close(answer, seen.answer + more):
            grown = float(answer - seen.answer)
            return f"when {what} in each block, the penalty grows by {grown:.1f}"


def is_kernel(path, value):
    return path[-1] == "kernel"


KERNEL, HEAD = nnx.PathContains("kernel"), nnx.PathContains("head")
UNTAGGED = nnx.Not("no_decay")
DECAYING = nnx.All(nnx.Param, is_kernel, UNTAGGED)


def tower(seed, depth, features):
    return Tower(depth, features, rngs=nnx.Rngs(seed))


def squares(state):
    return sum([jnp.sum(leaf**2.0) for leaf in jax.tree.leaves(state)])


def attempt(name, *filters, total=squares):
    """Return an attempt with other filters, or that adds in another way."""

    def penalty(*inputs):
        return total(nnx.state(tower(*inputs), *filters))

    penalty.__name__ = name
    return penalty


def by_hand(*inputs):
    return squares([block.linear.kernel[...] for block in tower(*inputs).blocks])


def concatenated(*inputs):
    parts = jax.tree.leaves(nnx.state(tower(*inputs), DECAYING))
    return jnp.sum(jnp.concatenate([part.ravel() for part in parts]) ** 2)


def not_exhaustive(*inputs):
    return squares(nnx.split(tower(*inputs), DECAYING)[1])


def norm(state):
    return jnp.sqrt(squares(state))


def mean(state):
    return squares(state) / sum([1e-9, *(leaf.size for leaf in jax.tree.leaves(state))])


MISTAKES = {
    attempt("all_params", nnx.Param): "Biases and scales do not decay: select kernels.",
    attempt("tag_ignored", nnx.All(nnx.Param, is_kernel)): (
        "The head's kernel has the tag: add `nnx.Not` of it."
    ),
    attempt("by_the_head", nnx.All(nnx.Param, is_kernel, nnx.Not(HEAD))): (
        "Any kernel may have the tag: leave out the tag, not the head."
    ),
    attempt("joined_with_and", nnx.Param and is_kernel and UNTAGGED): (
        "`and` returns its last operand, so all that is untagged is selected."
    ),
    attempt("any_of_them", (nnx.Param, is_kernel, UNTAGGED)): (
        "A tuple means any of its filters: use `nnx.All`."
    ),
    attempt("by_size", nnx.All(nnx.Param, UNTAGGED, lambda p, v: v.size > 3)): (
        "A kernel may have one element: select it by its name."
    ),
    attempt("by_path_alone", nnx.All(is_kernel, UNTAGGED)): (
        "A statistic may be named `kernel` too: add `nnx.Param`."
    ),
    attempt("name_anywhere", nnx.All(nnx.Param, KERNEL, UNTAGGED)): (
        "`nnx.PathContains` looks at every key: compare the last one."
    ),
    attempt("norm", DECAYING, total=norm): "Return the sum of squares, without a root.",
    attempt("mean", DECAYING, total=mean): "Return the sum, not the mean.",
    by_hand: "Select by filters: a kernel elsewhere has to be found too.",
    concatenated: "There may be no block, so nothing to concatenate: use `sum`.",
    not_exhaustive: "A split needs `...` at its end, or use `nnx.state`.",
}


def by_order(*inputs):
    chosen = "no_decay", nnx.All(nnx.Param, is_kernel), ...
    return squares(nnx.split(tower(*inputs), *chosen)[2])


def of_a_state(*inputs):
    params = nnx.state(tower(*inputs), nnx.Param)
    kernels, _ = nnx.split_state(params, nnx.All(is_kernel, UNTAGGED), ...)
    return float(squares(kernels))


@nnx.jit(static_argnums=(0, 1, 2))
def compiled(*inputs):
    return squares(nnx.state(tower(*inputs), DECAYING))


ALSO_RIGHT = [by_order, of_a_state, compiled]
