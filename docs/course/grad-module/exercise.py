"""The exercise of "Gradients of a module": stub, solution, check, attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class CountingLinear(nnx.Module):
    def __init__(self, in_features, out_features, rngs):
        self.linear = nnx.Linear(in_features, out_features, rngs=rngs)
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):  # x[batch, in_features]
        self.calls[...] += 1
        return self.linear(x)


def loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)
    # --8<-- [end:model]


# --8<-- [start:stub]
def grad_module(seed, x, y):
    """Return the gradient's sum by nnx.grad and by jax.grad, and the calls, shape (3,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, in_features), float32.
      y: target, shape (batch, out_features), float32.
    """
    # --8<-- [end:stub]
    model = CountingLinear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    grads = nnx.grad(loss)(model, x, y)

    def raw_loss(kernel, bias):
        return jnp.mean((x @ kernel + bias - y) ** 2)

    arrays = model.linear.kernel[...], model.linear.bias[...]
    raw_grads = jax.grad(raw_loss, argnums=(0, 1))(*arrays)
    sums = [sum(leaf.sum() for leaf in jax.tree.leaves(g)) for g in (grads, raw_grads)]
    return jnp.array([*sums, model.calls[...]])
    # --8<-- [end:solution]


# --8<-- [start:check]
from contextlib import suppress
from traceback import walk_stack
from unittest.mock import patch

from jax import lax
from jax.interpreters import ad

INPUTS = [  # seed, x, y
    (0.0, jnp.array([[1.0, 2, 3], [0.5, -1, 2]]), jnp.array([[1.0, 0], [2, -1]])),
    (7.0, jnp.array([[0.0, 1, -2], [3, 1, 0.5]]), jnp.array([[1.0, 2], [0, 1]])),
]


def expected_numbers(seed, x, y):
    """Return the three numbers, the gradient by its formula."""
    layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    slope = 2 * (x @ layer.kernel[...] - y) / y.size  # of the loss, by each output
    total = (x.T @ slope).sum() + slope.sum()
    return jnp.array([total, total, 1.0])


def with_doubled_slopes(candidate, inputs, by_nnx):
    """Return the answer while `nnx.grad`, or all else, doubles slopes, and these."""
    construct, answer, slopes = type(nnx.Module).__call__, None, []

    def build(cls, *args, **kwargs):  # lets each counter begin at 10
        model = construct(cls, *args, **kwargs)
        for _, part in nnx.iter_graph(model):
            kept = isinstance(part, nnx.Param | nnx.RngState)
            if isinstance(part, nnx.Variable) and not kept and not part.get_value():
                part.set_value(part.get_value() + 10)
        return model

    def doubled(derivative):
        def rule(primals, tangents, **params):
            output, slope = derivative(primals, tangents, **params)
            callers = [f.f_globals.get("__name__") for f, _ in walk_stack(None)]
            if (nnx.grad.__module__ in callers) == by_nnx:
                slopes.append(slope)
                slope = slope if isinstance(slope, ad.Zero) else 2 * slope
            return output, slope

        return rule

    rules = {p: doubled(ad.primitive_jvps[p]) for p in (lax.dot_general_p, lax.mul_p)}
    with (
        jax.disable_jit(),
        patch.object(type(nnx.Module), "__call__", build),
        patch.dict(ad.primitive_jvps, rules),
        suppress(Exception),  # it may assert that both sums are equal: no answer then
    ):
        answer = [*map(float, candidate(*inputs))]
    return answer, slopes


def missing_idea(candidate, inputs):
    """Return which number does not come from what the problem names, or None."""
    usual = expected_numbers(*inputs)[0]
    for n, which, source in ((0, "first", "nnx.grad"), (1, "second", "jax.grad")):
        answer, slopes = with_doubled_slopes(candidate, inputs, by_nnx=n == 0)
        if not slopes or (answer and jnp.isclose(answer[n], usual)):
            return f"the {which} sum does not come from {source}"
        if answer and not jnp.isclose(answer[1 - n], usual):
            return f"both sums come from {source}"
        if answer and answer[2] != 11:
            return "the count is not read from the model's Variable"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, y in inputs:
        answer, wrong, hint = candidate(seed, x, y), None, None
        numbers = expected_numbers(seed, x, y)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", type(answer).__name__)
        if shape != (3,):
            wrong, answer = "an array of shape (3,)", shape
            hint = "put the two sums and the count into jnp.array"
        elif not jnp.allclose(answer, numbers, rtol=1e-4, atol=1e-4):
            wrong, answer = numbers.tolist(), answer.tolist()
        if wrong:
            given = f"{seed}, jnp.array({x.tolist()}), jnp.array({y.tolist()})"
            said = f"{candidate.__name__}({given})\n  expected: {wrong}"
            said += f"\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from functools import partial

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.array([[1.0, -2], [0.25, 1]]), jnp.array([[1.0, 2, -1], [0, 1, 0.5]])),
    (11.0, jnp.array([[1.0, 0.5], [-2, 1]]), jnp.array([[2.0], [-1]])),
]


def build(seed, x, y):
    """Return the module that the exercise asks for."""
    return CountingLinear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))


def total(grads):
    """Return the sum of all numbers of a gradient."""
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(grads))


def raw_loss(params, x, y):
    return jnp.mean((x @ params["kernel"] + params["bias"] - y) ** 2)


def raw_params(model):
    return nnx.to_pure_dict(nnx.state(model.linear))


def both(seed, x, y, loss=loss, raw_loss=raw_loss, total=total):
    """Return the three numbers with other losses, or another sum."""
    model = build(seed, x, y)
    grads = nnx.grad(loss)(model, x, y)
    raw_grads = jax.grad(raw_loss)(raw_params(model), x, y)
    return jnp.array([total(grads), total(raw_grads), model.calls[...]])


def with_error(seed, x, y, mean):
    """Return the three numbers with `mean(error)` as the loss."""

    def raw_loss(params, x, y):
        return mean(x @ params["kernel"] + params["bias"] - y)

    return both(seed, x, y, lambda model, x, y: mean(model(x) - y), raw_loss)


def with_wrt(seed, x, y):
    return nnx.grad(loss, wrt=nnx.Param)(build(seed, x, y), x, y)


def jax_grad_of_the_module(seed, x, y):
    return jax.grad(loss)(build(seed, x, y), x, y)


def merged_without_a_copy(seed, x, y):
    graphdef, params, rest = nnx.split(build(seed, x, y), nnx.Param, ...)
    return jax.grad(lambda params: loss(nnx.merge(graphdef, params, rest), x, y))(
        params
    )


def seed_as_float(seed, x, y):
    model = CountingLinear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    return nnx.grad(loss)(model, x, y)


def two_gradients(seed, x, y):
    model = build(seed, x, y)
    first, second = (total(nnx.grad(loss)(model, x, y)) for _ in range(2))
    return jnp.array([first, second, model.calls[...]])


def both_from_a_copy(seed, x, y):
    return grad_module(seed, x, y).at[2].set(0)


def kernel_alone(seed, x, y):
    def total(grads):
        return jax.tree.leaves(grads)[1].sum()

    return both(seed, x, y, total=total)


def raw_kernel_alone(seed, x, y):
    answer, model = both(seed, x, y), build(seed, x, y)
    slope = jax.grad(raw_loss)(raw_params(model), x, y)["kernel"]
    return answer.at[1].set(slope.sum())


def sum_of_squares(seed, x, y):
    return with_error(seed, x, y, lambda error: (error**2).sum())


def half_of_the_square(seed, x, y):
    return with_error(seed, x, y, lambda error: (error**2).sum(axis=-1).mean() / 2)


def flat_targets(seed, x, y):
    model, y = build(seed, x, y), y.squeeze()
    raw_grads = jax.grad(raw_loss)(raw_params(model), x, y)
    return jnp.array([total(nnx.grad(loss)(model, x, y)), total(raw_grads), 1])


def two_outputs_at_most(seed, x, y):
    return grad_module(seed, x, y[:, :2])


def seed_zero(seed, x, y):
    return grad_module(0, x, y)


def a_list(seed, x, y):
    return grad_module(seed, x, y).tolist()


def numbers_of_the_page(seed, x, y):
    known = {str(inputs[1]): grad_module(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros(3))


def jax_grad_twice(seed, x, y):
    model = build(seed, x, y)
    sums = total(jax.grad(raw_loss)(raw_params(model), x, y))
    model(x)
    return jnp.array([sums, sums, model.calls[...]])


def second_copied(seed, x, y):
    model = build(seed, x, y)
    grads = nnx.grad(loss)(model, x, y)
    return jnp.array([total(grads), total(grads), model.calls[...]])


def second_by_formula(seed, x, y):
    return both(seed, x, y).at[1].set(expected_numbers(seed, x, y)[1])


def one_by_hand(seed, x, y):
    return both(seed, x, y).at[2].set(1)


MISTAKES = {
    with_wrt: "`wrt` is gone: leave it out, or say `argnums=nnx.DiffState(0, filter)`.",
    jax_grad_of_the_module: (
        "`jax.grad` wants a gradient of the integer count too: use `nnx.grad`, or pass "
        "kernel and bias alone."
    ),
    merged_without_a_copy: (
        "The model keeps Variables from outside the gradient: make it an argument of "
        "the loss for `nnx.grad`, or merge with `copy=True`."
    ),
    seed_as_float: "Cast the seed with `int`: `nnx.Rngs` takes no float.",
    two_gradients: (
        "The count is 2: call the model once, in one `nnx.grad`, and give `jax.grad` "
        "arrays or a copy."
    ),
    both_from_a_copy: "The count is 0: give `nnx.grad` the model itself, not a copy.",
    kernel_alone: "Add the gradient of the bias: sum over all leaves.",
    raw_kernel_alone: (
        "`jax.grad` differentiates by the first argument alone: say `argnums=(0, 1)`."
    ),
    sum_of_squares: "Take the mean of the squared errors, not their sum.",
    half_of_the_square: "Divide by the number of outputs, which is not always 2.",
    flat_targets: "Keep the shape of y: (batch,) is broadcast against (batch, 1).",
    two_outputs_at_most: "Keep every column of y: there may be more than two.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    jax_grad_twice: (
        "Pass the model to `nnx.grad` for the first sum, the raw arrays to `jax.grad` "
        "for the second."
    ),
    second_copied: "Differentiate once more for the second sum, with `jax.grad`.",
    second_by_formula: "Let `jax.grad` find the derivative of a loss of raw arrays.",
    one_by_hand: (
        "Count in an `nnx.Variable` of the model, and read it after both gradients."
    ),
}

early_grads = nnx.jit(nnx.value_and_grad(loss))
early_raw_grads = jax.jit(jax.grad(raw_loss))


def compiled_early(seed, x, y):
    model = build(seed, x, y)
    _, grads = early_grads(model, x, y)
    raw_grads = early_raw_grads(raw_params(model), x, y)
    return np.array([total(grads), total(raw_grads), int(model.calls[...])])


def split_and_merged(seed, x, y):
    model = build(seed, x, y)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def merged_loss(params):
        return loss(nnx.merge(graphdef, params, rest, copy=True), x, y)

    sums = total(nnx.grad(loss)(model, x, y)), total(jax.grad(merged_loss)(params))
    return jnp.stack([*sums, model.calls[...].astype(float)])


def in_a_wrapper(seed, x, y):
    class Wrapper(nnx.Module):
        def __init__(self, rngs):
            self.body = CountingLinear(x.shape[1], y.shape[1], rngs)

        def __call__(self, x):
            return self.body(x)

    @partial(nnx.grad, argnums=nnx.DiffState(0, nnx.Param), has_aux=True)
    def grads_of(model):
        predicted = model(x)
        return ((predicted - y) ** 2).mean(), predicted

    model = Wrapper(nnx.Rngs(params=int(seed)))
    arrays = [model.body.linear.kernel[...], model.body.linear.bias[...]]
    grads, _ = grads_of(model)
    _, pull = jax.vjp(lambda p: jnp.square(x @ p[0] + p[1] - y).mean(), arrays)
    return jnp.array([total(grads), total(pull(1.0)), model.body.calls[...]])


def without_a_matrix_product(seed, x, y):
    def raw_loss(params, x, y):
        products = x[:, :, None] * params["kernel"]
        error = products.sum(axis=1) + params["bias"] - y
        return (error * error).sum() / error.size

    return both(seed, x, y, raw_loss=raw_loss)


def sums_compared(seed, x, y):
    answer = both(seed, x, y)
    assert jnp.allclose(answer[0], answer[1])
    return answer


ALSO_RIGHT = [
    compiled_early,
    split_and_merged,
    in_a_wrapper,
    without_a_matrix_product,
    sums_compared,
]
