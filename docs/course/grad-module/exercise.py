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
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    inputs, targets = jnp.array([[1.0, 2], [0.5, -1]]), jnp.array([[1.0], [2]])
    for seed, x, y in [(0.0, inputs, targets), (7.0, -inputs, targets), *more]:
        answer = candidate(seed, x, y)
        layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
        slope = 2 * (x @ layer.kernel - y) / y.size  # of the loss, by each output
        total = (x.T @ slope).sum() + slope.sum()
        right = jnp.array([total, total, 1])  # one call
        if getattr(answer, "shape", None) != (3,):
            expected = f"an array of shape (3,), not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, rtol=1e-4, atol=1e-4):
            expected = right
        else:
            continue
        given = f"{seed}, jnp.array({x.tolist()}), jnp.array({y.tolist()})"
        call = f"{candidate.__name__}({given})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from functools import partial

HIDDEN = [  # an input that only `nbe` tries; it catches a mistake of its own
    (3.0, jnp.array([[1.0, -2], [0.25, 1]]), jnp.array([[1.0, 2, -1], [0, 1, 0.5]])),
]


def idea(seen):
    """Return which numbers do not come from what the problem names, or None."""
    seed, x, y = seen.inputs
    usual = by_formula(build(seed, x, y), x, y)

    def from_start(variable):
        if not isinstance(variable, nnx.Param | nnx.RngState):
            variable.set_value(variable.get_value() + start)

    def steeper(call):  # the same output, with more slope
        output = call.proceed()
        if call.depth or not call.inside(nnx.grad):
            return output
        return jax.tree.map(lambda a: a + more * (a - jax.lax.stop_gradient(a)), output)

    changes = {"built": {nnx.Variable: from_start}, "calls": {nnx.Module: steeper}}
    for start, more in ((10, 1), (10, 0), (0, 1)):  # it may compare sums, or the count
        try:
            answer = seen.run(**changes).answer
            first, second, count = answer - jnp.array([more * usual, 0, start])
        except seen.Finding:
            continue
        flaws = {
            "the first sum does not come from nnx.grad": seen.close(first, usual),
            "the second sum comes from nnx.grad, too": seen.close(second, usual),
            "the count does not come from the model's Variable": count == 1,
        }
        if not all(flaws.values()):
            return "; ".join(flaw for flaw, right in flaws.items() if not right)

    def half(param):  # the gradient of a kernel is then too large for its dtype
        if param.ndim > 1:
            param.set_value(param.get_value().astype(jnp.float16))

    when, inputs = "kernels are float16", (seed, 1e4 * jnp.ones_like(x), y)
    if jnp.isfinite(seen.run(when, inputs=inputs, built={nnx.Param: half}).answer[1]):
        return "the second sum does not come from jax.grad"


def build(seed, x, y):
    return CountingLinear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))


def by_formula(model, x, y):
    slope = 2 * (x @ model.linear.kernel - y) / y.size
    return (x.T @ slope).sum() + slope.sum()


def total(grads):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(grads))


def raw_params(model):
    return nnx.to_pure_dict(nnx.state(model.linear))


def raw_loss(params, x, y):
    return jnp.mean((x @ params["kernel"] + params["bias"] - y) ** 2)


def by_jax(model, x, y, names=("kernel", "bias")):
    grads = jax.grad(raw_loss)(raw_params(model), x, y)
    return sum(grads[name].sum() for name in names)


def by_merge(model, x, y, copy=True):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def merged_loss(params):
        return loss(nnx.merge(graphdef, params, rest, copy=copy), x, y)

    return total(jax.grad(merged_loss)(params))


def attempt(name, second=by_jax, count=lambda calls: calls):
    """Return an attempt with another second sum or count."""

    def numbers(*inputs):
        model, x, y = build(*inputs), *inputs[1:]
        sums = total(nnx.grad(loss)(model, x, y)), second(model, x, y)
        return jnp.array([*sums, count(model.calls[...])])

    numbers.__name__ = name
    return numbers


def two_outputs_at_most(seed, x, y):
    return grad_module(seed, x, y[:, :2])


def jax_grad_twice(*inputs):
    model, (x, y) = build(*inputs), inputs[1:]
    model(x)
    return jnp.array([by_jax(model, x, y), by_jax(model, x, y), model.calls[...]])


def second_copied(*inputs):
    return grad_module(*inputs)[jnp.array([0, 0, 2])]


def formula_with_assert(*inputs):
    by_hand = by_formula(build(*inputs), *inputs[1:])
    assert jnp.allclose(grad_module(*inputs)[:2], by_hand, rtol=1e-4)
    return jnp.array([by_hand, by_hand, 1])


MISTAKES = {
    attempt("with_wrt", lambda *inputs: nnx.grad(loss, wrt=nnx.Param)(*inputs)): (
        "`wrt` is gone: leave it out, or say `argnums=nnx.DiffState(0, filter)`."
    ),
    attempt("jax_grad_of_the_module", jax.grad(loss)): (
        "`jax.grad` wants a gradient of the integer count too: use `nnx.grad`, or pass "
        "kernel and bias alone."
    ),
    attempt("merged_without_a_copy", partial(by_merge, copy=False)): (
        "The model keeps Variables from outside the gradient: make it an argument of "
        "the loss for `nnx.grad`, or merge with `copy=True`."
    ),
    attempt("two_gradients", lambda *inputs: total(nnx.grad(loss)(*inputs))): (
        "The count is 2: call the model once, in one `nnx.grad`, and give `jax.grad` "
        "arrays or a copy."
    ),
    attempt("raw_kernel_alone", partial(by_jax, names=["kernel"])): (
        "`jax.grad` differentiates by the first argument alone: say `argnums=(0, 1)`."
    ),
    two_outputs_at_most: "Keep every column of y: there may be more than two.",
    jax_grad_twice: (
        "Pass the model to `nnx.grad` for the first sum, the raw arrays to `jax.grad` "
        "for the second."
    ),
    second_copied: "Differentiate once more for the second sum, with `jax.grad`.",
    attempt("second_by_formula", by_formula): (
        "Let `jax.grad` find the derivative of a loss of raw arrays."
    ),
    attempt("one_by_hand", count=lambda calls: 1): (
        "Count in an `nnx.Variable` of the model, and read it after both gradients."
    ),
    formula_with_assert: "Return the sums of both gradients, not those of a formula.",
}
early_grads = nnx.jit(nnx.value_and_grad(loss))
early_raw_grads = jax.jit(jax.grad(raw_loss))


def compiled_early(seed, x, y):
    model = build(seed, x, y)
    grads = early_grads(model, x, y)[1], early_raw_grads(raw_params(model), x, y)
    return jnp.array([*map(total, grads), int(model.calls[...])])


def sums_compared(*inputs):
    answer = grad_module(*inputs)
    if not jnp.allclose(answer[0], answer[1]):
        raise ValueError("the sums differ")
    return answer


ALSO_RIGHT = [compiled_early, sums_compared, attempt("merged_with_a_copy", by_merge)]
