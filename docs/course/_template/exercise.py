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
INPUTS = [(0.0, jnp.array([1.0, 2.0]), 2.0), (3.0, jnp.array([0.5]), 3.0)]


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, features in inputs:
        answer, wrong = candidate(seed, x, features), None
        layer = nnx.Linear(x.size, int(features), rngs=nnx.Rngs(int(seed)))
        expected = jnp.array([x.sum(), (x @ layer.kernel).sum()])
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if getattr(answer, "shape", None) != (2,):
            wrong = "an array of shape (2,)"
        elif not jnp.allclose(answer, expected):
            wrong = str(expected)
        if wrong:
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}"
    # Where numbers do not show the idea, look for it here, and begin what you return
    # with "numbers right, idea missing: ". A last line "  next:     " says what to do.
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, jnp.array([0.25, -0.5, 2.0]), 1.0),
]

# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def numbers_of_the_page(seed, x, features):
    known = {tuple(inputs[1].tolist()): lesson_name(*inputs) for inputs in INPUTS}
    return known.get(tuple(x.tolist()), jnp.zeros(2))


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
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
}


def with_stack(seed, x, features):
    model = nnx.Linear(x.size, int(features), rngs=nnx.Rngs(params=int(seed)))
    return jnp.stack([jnp.sum(x), jnp.sum(model(x))])


ALSO_RIGHT = [with_stack]
