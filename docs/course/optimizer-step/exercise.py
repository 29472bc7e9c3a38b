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
from unittest.mock import patch

import jax

INPUTS = [  # seed, x, y, lr
    (0.0, jnp.array([[1, 2, 0.5], [0, 1, -1]]), jnp.array([[0.5, 1], [-1, 0]]), 0.1),
    (7.0, jnp.array([[0.5], [-1.5], [2]]), jnp.array([[1.0, 0], [0, 2], [0, 1]]), 0.1),
]


def expected_step(seed, x, y, lr, moves=1, shift=0.0):
    """Return the answer by formulas, for `moves` moves along the first gradient."""
    layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    kernel = layer.kernel + shift  # the bias is zero
    slope = 2 * (x @ kernel - y) / y.size  # of the loss, by each output
    grad, bias_grad = x.T @ slope, slope.sum(axis=0)
    after = x @ (kernel - moves * lr * grad) - moves * lr * bias_grad
    losses = [((output - y) ** 2).mean() for output in (x @ kernel, after)]
    return jnp.stack([*losses, (moves - 1) * lr * jnp.abs(grad).max()])


def missing_idea(candidate, inputs):
    """Return what the numbers do not come from, or None."""
    init, update, updates = nnx.Linear.__init__, nnx.Optimizer.update, []
    expected = expected_step(*inputs, moves=3, shift=1.0)

    def shifted(self, *args, **options):
        init(self, *args, **options)
        self.kernel[...] += 1.0

    def thrice(self, *args, **options):
        updates.append(self)
        return [update(self, *args, **options) for _ in range(3)][-1]

    linear = patch.object(nnx.Linear, "__init__", shifted)
    with linear, patch.object(nnx.Optimizer, "update", thrice), jax.disable_jit():
        try:
            answer = jnp.asarray(candidate(*inputs))
        except Exception:  # the candidate compares what it computes itself
            answer = expected
    before, after, measured = jnp.isclose(answer, expected, rtol=1e-4, atol=1e-4)
    if not updates:
        return "no nnx.Optimizer takes the step: call its update"
    if not before:
        return "the loss before does not follow the weights of nnx.Linear"
    if not after:
        return "the loss after does not follow the update"
    if not measured and jnp.isclose(answer[2], 0, atol=1e-4):
        return "the distance stays 0 when the update goes too far: measure it"
    if not measured:
        return "where it is not 0, the distance is not the largest absolute one"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for case in inputs:
        answer, expected, wrong = candidate(*case), expected_step(*case), None
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != (3,):
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong = f"an array of shape (3,), not {kind}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, expected, atol=1e-5):
            wrong, answer = expected.tolist(), answer.tolist()
        if wrong:
            seed, x, y, lr = case
            arrays = f"jnp.array({x.tolist()}), jnp.array({y.tolist()})"
            call = f"{candidate.__name__}({seed}, {arrays}, {lr})"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}"
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.array([[1, -0.5], [0, 2], [1.5, 1]]), jnp.array([[2.0], [-1], [1]]), 0.1),
    (11.0, jnp.array([[1.5, -0.5, 2.0]]), jnp.array([[1.0, 0.0, -2.0, 0.5]]), 0.25),
]


def squared_error(model, x, y):
    return ((model(x) - y) ** 2).mean()


def layer(seed, x, y, **options):
    """Return the module that the exercise asks for."""
    rngs = nnx.Rngs(int(seed))
    return nnx.Linear(x.shape[-1], y.shape[-1], rngs=rngs, **options)


def pair(seed, x, y, lr, tx=optax.sgd, **options):
    """Return the module and its optimizer."""
    model = layer(seed, x, y, **options)
    return model, nnx.Optimizer(model, tx(lr), wrt=nnx.Param)


def one_step(seed, x, y, lr, loss=squared_error, **options):
    """Return loss before and after, kernel after and before, and its gradient."""
    model, optimizer = pair(seed, x, y, lr, **options)
    kernel = model.kernel[...]
    before, grads = nnx.value_and_grad(loss)(model, x, y)
    optimizer.update(model, grads)
    return before, loss(model, x, y), model.kernel[...], kernel, grads["kernel"][...]


def finish(before, after, new, old, grad, lr):
    return jnp.stack([before, after, jnp.abs(new - (old - lr * grad)).max()])


def wrt_left_out(seed, x, y, lr):
    return nnx.Optimizer(layer(seed, x, y), optax.sgd(lr))


def update_with_gradients_alone(seed, x, y, lr):
    model, optimizer = pair(seed, x, y, lr)
    return optimizer.update(nnx.grad(squared_error)(model, x, y))


def model_of_the_optimizer(seed, x, y, lr):
    _, optimizer = pair(seed, x, y, lr)
    return squared_error(optimizer.model, x, y)


def optimizer_closed_over(seed, x, y, lr):
    model, optimizer = pair(seed, x, y, lr)
    step = nnx.jit(lambda m: optimizer.update(m, nnx.grad(squared_error)(m, x, y)))
    return step(model)


def clone_updated(seed, x, y, lr):
    before, _, _, old, grad = one_step(seed, x, y, lr)
    return finish(before, before, old, old, grad, lr)


def live_state_kept(seed, x, y, lr):
    before, after, new, _, grad = one_step(seed, x, y, lr)
    return finish(before, after, new, new, grad, lr)


def loss_before_twice(seed, x, y, lr):
    before, _, *kernels = one_step(seed, x, y, lr)
    return finish(before, before, *kernels, lr)


def losses_swapped(seed, x, y, lr):
    before, after, *kernels = one_step(seed, x, y, lr)
    return finish(after, before, *kernels, lr)


def rate_left_out_of_the_formula(seed, x, y, lr):
    return finish(*one_step(seed, x, y, lr), 1.0)


def gradient_added_in_the_formula(seed, x, y, lr):
    return finish(*one_step(seed, x, y, lr), -lr)


def gradient_taken_after_the_step(seed, x, y, lr):
    model, optimizer = pair(seed, x, y, lr)
    old = model.kernel[...]
    before, grads = nnx.value_and_grad(squared_error)(model, x, y)
    optimizer.update(model, grads)
    after, grads = nnx.value_and_grad(squared_error)(model, x, y)
    return finish(before, after, model.kernel[...], old, grads["kernel"][...], lr)


def updated_twice(seed, x, y, lr):
    return expected_step(seed, x, y, lr, moves=2)


def with_loss(loss, seed, x, y, lr):
    """Return the answer for another loss of prediction and target."""
    return finish(*one_step(seed, x, y, lr, lambda m, x, y: loss(m(x), y)), lr)


def sum_of_squares(seed, x, y, lr):
    return with_loss(lambda p, y: ((p - y) ** 2).sum(), seed, x, y, lr)


def outputs_summed(seed, x, y, lr):
    return with_loss(lambda p, y: ((p - y) ** 2).sum(-1).mean(), seed, x, y, lr)


def halved(seed, x, y, lr):
    return with_loss(lambda p, y: ((p - y) ** 2).mean() / 2, seed, x, y, lr)


def output_squeezed(seed, x, y, lr):
    return with_loss(lambda p, y: ((p.squeeze() - y) ** 2).mean(), seed, x, y, lr)


def adam(seed, x, y, lr):
    return finish(*one_step(seed, x, y, lr, tx=optax.adam), lr)


def bias_left_out(seed, x, y, lr):
    return finish(*one_step(seed, x, y, lr, use_bias=False), lr)


def rate_of_the_page(seed, x, y, lr):
    return optimizer_step(seed, x, y, 0.1)


def seed_as_float(seed, x, y, lr):
    return nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))(x)


def seed_zero(seed, x, y, lr):
    return optimizer_step(0, x, y, lr)


def numbers_of_the_page(seed, x, y, lr):
    known = {str(inputs[1]): optimizer_step(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros(3))


def a_list(seed, x, y, lr):
    return optimizer_step(seed, x, y, lr).tolist()


def formula_by_hand(seed, x, y, lr):
    return expected_step(seed, x, y, lr)


def literal_zero(seed, x, y, lr):
    return optimizer_step(seed, x, y, lr).at[2].set(0.0)


def distances_averaged(seed, x, y, lr):
    before, after, new, old, grad = one_step(seed, x, y, lr)
    return jnp.stack([before, after, jnp.abs(new - (old - lr * grad)).mean()])


MISTAKES = {
    wrt_left_out: "Say which Variables the optimizer moves: `wrt=nnx.Param`.",
    update_with_gradients_alone: "Pass the model as well: `update(model, grads)`.",
    model_of_the_optimizer: "The optimizer holds no model: keep your own name for it.",
    optimizer_closed_over: "Pass the optimizer to the jitted function, as an argument.",
    clone_updated: "The model stays: update it, not a copy, and not under `jax.jit`.",
    live_state_kept: "Subtract lr * grad from the old array: keep `kernel[...]`.",
    seed_as_float: "Cast the seed with `int`: `nnx.Rngs` takes no float.",
    loss_before_twice: "Both losses are from before: call the model after the update.",
    losses_swapped: "The loss before the step comes first.",
    rate_left_out_of_the_formula: "Multiply the gradient by lr in the formula.",
    gradient_added_in_the_formula: "The step goes against the gradient: subtract it.",
    gradient_taken_after_the_step: "Use the gradient from before the step.",
    updated_twice: "The model moved twice along one gradient: update it once.",
    sum_of_squares: "Take the mean of the squares, not their sum.",
    outputs_summed: "Take the mean over both axes, batch and outputs.",
    halved: "The mean squared error has no factor of one half.",
    output_squeezed: "Keep the axis of the output: without it y is broadcast.",
    adam: "Take the step with `optax.sgd(lr)`.",
    bias_left_out: "Keep the bias: it moves as well.",
    rate_of_the_page: "Use the `lr` that you are given.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    formula_by_hand: "Build `nnx.Optimizer` and call `update(model, grads)`.",
    literal_zero: "Compute the distance from both kernels: do not write 0.",
    distances_averaged: "Take the maximum of the absolute distances.",
}


@nnx.jit
def jitted_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(squared_error)(model, x, y)
    optimizer.update(model, grads)
    return loss, grads


def with_nnx_jit(seed, x, y, lr):
    model, optimizer = pair(seed, x, y, lr)
    old = nnx.to_pure_dict(nnx.state(model))["kernel"]
    before, grads = jitted_step(model, optimizer, x, y)
    after, grad = squared_error(model, x, y), grads["kernel"][...]
    return np.asarray(finish(before, after, model.kernel[...], old, grad, lr))


def with_jax_jit_over_state(seed, x, y, lr):
    both = pair(seed, x, y, lr)
    graphdef, state = nnx.split(both)

    @jax.jit
    def step(state):
        model, optimizer = nnx.merge(graphdef, state)
        before, grads = nnx.value_and_grad(squared_error)(model, x, y)
        optimizer.update(model, grads)
        return before, grads, nnx.state((model, optimizer))

    old = both[0].kernel[...]
    before, grads, state = step(state)
    nnx.update(both, state)
    after, grad = squared_error(both[0], x, y), grads["kernel"][...]
    return finish(before, after, both[0].kernel[...], old, grad, lr)


def with_subclasses(seed, x, y, lr):
    class Trainer(nnx.Optimizer):
        def update(self, model, grads):
            old = model.kernel[...]
            super().update(model, grads)
            return jnp.abs(model.kernel - (old - lr * grads["kernel"])).max()

    class Model(nnx.Linear):
        def loss(self):
            return jnp.mean(jnp.square(self(x) - y))

    model = Model(x.shape[1], y.shape[1], rngs=nnx.Rngs(params=int(seed)))
    trainer = Trainer(model, optax.sgd(lr), wrt=nnx.Param)
    before = model.loss()
    distance = trainer.update(model, nnx.grad(Model.loss)(model))
    assert distance < 1e-6
    return jnp.array([before, model.loss(), distance])


def with_the_updates_returned(seed, x, y, lr):
    model, optimizer = pair(seed, x, y, lr)
    graphdef, params = nnx.split(model)
    old = jax.tree.map(jnp.copy, params)

    def loss_of(params):
        return squared_error(nnx.merge(graphdef, params), x, y)

    before, grads = jax.value_and_grad(loss_of)(old)
    updates = optimizer.update(model, grads)
    far = model.kernel - (old["kernel"] + updates["kernel"])
    return jnp.array([before, squared_error(model, x, y), jnp.abs(far).max()])


ALSO_RIGHT = [
    with_nnx_jit,
    with_jax_jit_over_state,
    with_subclasses,
    with_the_updates_returned,
]
