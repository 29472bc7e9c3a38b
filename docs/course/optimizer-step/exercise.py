"""The exercise of "Optimizer step": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:stub]
def optimizer_step(seed, x, y, lr):
    """Return loss before, loss after one SGD step, and a distance, in shape (3,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, in_features), float32.
      y: target, shape (batch, out_features), float32.
      lr: learning rate, a float.
    """
    # --8<-- [end:stub]
    model = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    optimizer = nnx.Optimizer(model, optax.sgd(lr), wrt=nnx.Param)

    def loss_of(model):
        return ((model(x) - y) ** 2).mean()

    kernel = model.kernel[...]  # the array itself, which no update changes
    before, grads = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, grads)
    distance = jnp.abs(model.kernel - (kernel - lr * grads["kernel"])).max()
    return jnp.stack([before, loss_of(model), distance])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    x, y = jnp.array([[1.0], [2.0]]), jnp.array([[0.5], [-1.0]])
    page = (0.0, x, y, 0.1), (7.0, x - 3, y, 0.1)
    for seed, x, y, lr in [*page, *more]:
        answer = candidate(seed, x, y, lr)
        layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
        error = x @ layer.kernel - y  # the bias is zero
        after = error - lr * 2 / y.size * (x @ x.T @ error + error.sum(axis=0))
        right = jnp.array([(error**2).mean(), (after**2).mean(), 0])
        if getattr(answer, "shape", None) != (3,):
            expected = f"an array of shape (3,), not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = right
        else:
            continue
        arrays = f"jnp.array({x.tolist()}), jnp.array({y.tolist()})"
        call = f"{candidate.__name__}({seed}, {arrays}, {lr})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.array([[1.0], [-0.5]]), jnp.array([[2.0, 1.0], [-1.0, 0.0]]), 0.25),
]


def formula(seed, x, y, lr, moves=1, shift=0.0):
    """Return the answer for `moves` moves of shifted weights along one gradient."""
    error = x @ (pair(seed, x, y, lr)[0].kernel + shift) - y
    grad, bias_grad = 2 * x.T @ error / y.size, 2 * error.sum(axis=0) / y.size
    after = error - moves * lr * (x @ grad + bias_grad)
    losses = [(distance**2).mean() for distance in (error, after)]
    return jnp.array([*losses, (moves - 1) * lr * jnp.abs(grad).max()])


def idea(seen):
    """Return what right numbers lack: they measure what an update does to a model."""

    def shift(layer):
        layer.kernel[...] += 1.0

    def thrice(call):
        return [call.proceed() for _ in range(3)][-1]

    run = seen.run(
        "the weights are shifted and each update is made three times",
        inputs=HIDDEN[0],  # its kernel has two numbers: mean and maximum differ
        built={nnx.Linear: shift},
        calls={nnx.Optimizer.update: thrice},
    )
    if not run.calls_of(nnx.Optimizer.update):
        return "no nnx.Optimizer takes the step: call its update"
    right = formula(*HIDDEN[0], moves=3, shift=1.0)
    before, after, distance = map(seen.close, run.answer, right)
    if not before:
        return "the loss before does not follow the weights of nnx.Linear"
    if not after:
        return "the loss after does not follow the update"
    if not distance and seen.close(run.answer[2], 0.0):
        return "the distance stays 0 when the update goes too far: measure it"
    if not distance:
        return "where it is not 0, the distance is not the largest absolute one"


def squared_error(predicted, y):
    return ((predicted - y) ** 2).mean()


def pair(seed, x, y, lr, tx=optax.sgd, kind=nnx.Optimizer, **options):
    """Return the module that the exercise asks for, and an optimizer for it."""
    sizes, rngs = (x.shape[-1], y.shape[-1]), nnx.Rngs(int(seed))
    model = nnx.Linear(*sizes, rngs=rngs, **options)
    return model, kind(model, tx(lr), wrt=nnx.Param)


def distance(new, old, grad, lr, size=jnp.max):
    return size(jnp.abs(new - (old - lr * grad)))


def attempt(name, change=lambda step: {}, loss=squared_error, **options):
    """Return the attempt of a learner who changes what a step gives, or its options."""

    def attempted(seed, x, y, lr):
        model, optimizer = pair(seed, x, y, lr, **options)
        step = {"old": model.kernel[...], "before": loss(model(x), y), "lr": lr}
        grads = nnx.grad(lambda model: loss(model(x), y))(model)
        optimizer.update(model, grads)
        step |= {"new": model.kernel[...], "grad": grads["kernel"][...]}
        step["after"] = loss(model(x), y)
        step |= change(step)
        return jnp.array([step.pop("before"), step.pop("after"), distance(**step)])

    attempted.__name__ = name
    return attempted


def wrt_left_out(*inputs):
    return nnx.Optimizer(pair(*inputs)[0], optax.sgd(inputs[3]))


def optimizer_closed_over(*inputs):
    model, optimizer = pair(*inputs)
    grad = nnx.grad(lambda model: squared_error(model(inputs[1]), inputs[2]))
    return nnx.jit(lambda model: optimizer.update(model, grad(model)))(model)


def rate_of_the_page(seed, x, y, lr):
    return optimizer_step(seed, x, y, 0.1)


def formula_with_assert(*inputs):
    measured = optimizer_step(*inputs)
    assert jnp.allclose(measured, formula(*inputs), atol=1e-5)
    return formula(*inputs)


def literal_zero(*inputs):
    return optimizer_step(*inputs).at[2].set(0.0)


MISTAKES = {
    wrt_left_out: "Say which Variables the optimizer moves: `wrt=nnx.Param`.",
    optimizer_closed_over: "Pass the optimizer to the jitted function, as an argument.",
    attempt("clone_updated", lambda s: {"after": s["before"], "new": s["old"]}): (
        "The model stays: update it, not a copy, and not under `jax.jit`."
    ),
    attempt("live_state_kept", lambda s: {"old": s["new"]}): (
        "Subtract lr * grad from the old array: keep `kernel[...]`."
    ),
    attempt("loss_before_twice", lambda s: {"after": s["before"]}): (
        "Both losses are from before: call the model after the update."
    ),
    attempt("rate_left_out_of_the_formula", lambda s: {"lr": 1.0}): (
        "Multiply the gradient by lr in the formula."
    ),
    attempt("sum_of_squares", loss=lambda p, y: ((p - y) ** 2).sum()): (
        "Take the mean of the squares, not their sum."
    ),
    attempt("outputs_summed", loss=lambda p, y: ((p - y) ** 2).sum(-1).mean()): (
        "Take the mean over both axes, batch and outputs."
    ),
    attempt("output_squeezed", loss=lambda p, y: ((p.squeeze() - y) ** 2).mean()): (
        "Keep the axis of the output: without it y is broadcast."
    ),
    attempt("adam", tx=optax.adam): "Take the step with `optax.sgd(lr)`.",
    attempt("bias_left_out", use_bias=False): "Keep the bias: it moves as well.",
    rate_of_the_page: "Use the `lr` that you are given.",
    formula: "Build `nnx.Optimizer` and call `update(model, grads)`.",
    formula_with_assert: "Return the losses of the model, not those of a formula.",
    literal_zero: "Compute the distance from both kernels: do not write 0.",
    attempt("distances_averaged", lambda s: {"size": jnp.mean}): (
        "Take the maximum of the absolute distances."
    ),
}


def split_state(seed, x, y, lr):
    both = pair(seed, x, y, lr)
    graphdef, state = nnx.split(both)

    @jax.jit
    def step(state):
        model, optimizer = nnx.merge(graphdef, state)
        loss, grads = nnx.value_and_grad(lambda m: squared_error(m(x), y))(model)
        optimizer.update(model, grads)
        return loss, grads["kernel"], nnx.state((model, optimizer))

    old = both[0].kernel[...]
    before, grad, state = step(state)
    nnx.update(both, state)
    far = distance(both[0].kernel[...], old, grad[...], lr)
    return jnp.array([before, squared_error(both[0](x), y), far])


def compiled_subclass(seed, x, y, lr):
    class Trainer(nnx.Optimizer):
        @nnx.jit
        def update(self, model, grads):
            old = model.kernel[...]
            super().update(model, grads)
            return distance(model.kernel[...], old, grads["kernel"][...], lr)

    model, trainer = pair(seed, x, y, lr, kind=Trainer)
    loss_of = nnx.jit(lambda model: squared_error(model(x), y))
    before, grads = nnx.value_and_grad(loss_of)(model)
    far = trainer.update(model, grads)
    assert far < 1e-6
    return np.array([before, loss_of(model), far])


def updates_returned(seed, x, y, lr):
    model, optimizer = pair(seed, x, y, lr)
    value_and_grad = nnx.value_and_grad(lambda model: squared_error(model(x), y))
    (before, grads), old = value_and_grad(model), model.kernel[...]
    update = optimizer.update(model, grads)["kernel"]
    far = distance(model.kernel[...], old, update, -1.0)
    return jnp.array([before, value_and_grad(model)[0], far])


ALSO_RIGHT = [split_state, compiled_subclass, updates_returned]
