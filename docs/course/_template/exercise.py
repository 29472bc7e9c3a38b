"""The exercise of "Lesson title": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def lesson_name(seed, x, features):
    """Return the sums of x and of a linear layer's output on it, in shape (2,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (in_features,), float32.
      features: number of outputs; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return jnp.array([x.sum(), model(x).sum()])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (0.0, jnp.array([1.0, 2.0]), 2.0), (3.0, jnp.array([0.5, -1.0]), 2.0)
    for seed, x, features in [*page, *more]:
        answer = candidate(seed, x, features)
        layer = nnx.Linear(x.size, int(features), rngs=nnx.Rngs(int(seed)))
        right = jnp.array([x.sum(), (x @ layer.kernel).sum()])  # the bias is zero
        if getattr(answer, "shape", None) != (2,):
            expected = f"an array of shape (2,), not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, jnp.array([0.25, -0.5]), 2.0),
]


def idea(seen):
    """Return what right numbers lack, or None; `seen` is an `observe.Seen`."""
    if not seen.run().calls_of(nnx.Linear):
        return "no nnx.Linear is called"

    def doubled(call):
        return 2 * call.proceed()

    run = seen.run("the layer returns twice as much", calls={nnx.Linear: doubled})
    if not seen.close(run.answer, seen.answer * jnp.array([1, 2])):
        return "the second number does not follow what the layer returns"


# Each wrong answer with what its author should hear. Check or idea refuses all of them;
# `nbe` tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def numbers_of_the_page(seed, x, features):
    shown = seed in (0.0, 3.0)
    return lesson_name(seed, x, features) if shown else jnp.zeros(2)


def formula(seed, x, features):
    layer = nnx.Linear(x.size, int(features), rngs=nnx.Rngs(int(seed)))
    return jnp.array([x.sum(), (x @ layer.kernel).sum()])


def seed_zero(seed, x, features):
    return lesson_name(0, x, features)


def sums_swapped(seed, x, features):
    return lesson_name(seed, x, features)[::-1]


def a_list(seed, x, features):
    return list(lesson_name(seed, x, features))


MISTAKES = {
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    sums_swapped: "The sum of the input comes first.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    formula: "Call the layer: its call adds the bias too.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
}


def with_stack(seed, x, features):
    model = nnx.Linear(x.size, int(features), rngs=nnx.Rngs(params=int(seed)))
    return jnp.stack([jnp.sum(x), jnp.sum(model(x))])


ALSO_RIGHT = [with_stack]
