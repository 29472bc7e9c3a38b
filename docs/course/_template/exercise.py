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
def check(candidate):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    inputs = [(0.0, jnp.array([1.0, 2.0]), 2.0), (3.0, jnp.array([0.5]), 3.0)]
    for seed, x, features in inputs:
        case = f"seed {seed}, x {x}, features {features}: "
        answer = candidate(seed, x, features)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if getattr(answer, "shape", None) != (2,):
            return case + f"expected an array of shape (2,), got {answer!r}"
        layer = nnx.Linear(x.size, int(features), rngs=nnx.Rngs(int(seed)))
        expected = jnp.array([x.sum(), (x @ layer.kernel).sum()])
        if not jnp.allclose(answer, expected):
            return case + f"expected {expected}, got {answer}"
    return "passed"
    # --8<-- [end:check]


# The attempts below are judged by the tests: `check` refuses every mistake, and accepts
# each right answer in another form. The message is for a grader that finds a learner's
# numbers equal to those of a mistake.


def seed_zero(seed, x, features):
    return lesson_name(0, x, features)


def sums_swapped(seed, x, features):
    return lesson_name(seed, x, features)[::-1]


def a_list(seed, x, features):
    return list(lesson_name(seed, x, features))


MISTAKES = {
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    sums_swapped: "The sum of the input comes first.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
}


def with_stack(seed, x, features):
    model = nnx.Linear(x.size, int(features), rngs=nnx.Rngs(params=int(seed)))
    return jnp.stack([jnp.sum(x), jnp.sum(model(x))])


ALSO_RIGHT = [with_stack]
