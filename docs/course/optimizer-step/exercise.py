"""The exercise of "Optimizer step": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:stub]
def optimizer_step(seed, x, y, lr):
    """Return the kernel after each step, shape (steps, in_features, out_features).

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      x: inputs of each step's parts, shape (steps, parts, rows, in_features).
      y: their targets, shape (steps, parts, rows, out_features).
      lr: learning rate of `optax.sgd`, a float.
    """
    # --8<-- [end:stub]
    model = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    rule = optax.sgd(lr, momentum=0.9)
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)

    def loss_of(model, x, y):
        return ((model(x) - y) ** 2).mean()

    kernels = []
    for batch in zip(x, y, strict=True):
        grads = [nnx.grad(loss_of)(model, *part) for part in zip(*batch, strict=True)]
        mean = jax.tree.map(lambda *parts: sum(parts) / len(parts), *grads)
        optimizer.update(model, mean)
        kernels.append(model.kernel[...])
    return jnp.stack(kernels)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    one = jnp.array([1.0, 2.0, -1.0, 0.5, 0.0, 1.0, 2.0, -2.0]).reshape(2, 2, 2, 1)
    for seed, x, y, lr in [(0, one, abs(one), 0.1), (7, -one, one + 1, 0.2), *more]:
        answer = candidate(seed, x, y, lr)
        layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
        weights, right, trace = jnp.vstack(jax.tree.leaves(layer)[::-1]), [], 0.0
        for rows, targets in zip(x, y, strict=True):  # a step by formula
            rows = jnp.insert(rows.reshape(-1, x.shape[-1]), x.shape[-1], 1.0, axis=1)
            error = rows @ weights - targets.reshape(-1, y.shape[-1])
            trace = 0.9 * trace + 2 * rows.T @ error / error.size
            weights = weights - lr * trace
            right.append(weights[:-1])
        right, shape = jnp.stack(right), getattr(answer, "shape", None)
        if shape != right.shape or not jnp.allclose(answer, right, atol=1e-5):
            call = f"{candidate.__name__}({seed}, x, y, {lr}), x = {x.tolist()}"
            return f"{call}\n  expected: {right.round(3)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (  # three parts, two outputs
        3,
        jnp.arange(-6.0, 6.0).reshape(2, 3, 2, 1) / 4,
        (jnp.arange(24.0) % 5 - 2).reshape(2, 3, 2, 2),
        0.1,
    ),
]


def idea(seen):
    """Return what right kernels lack: they follow updates, from one part at a time."""
    x = seen.inputs[1]

    def farther(call):
        model = call.args[0]
        before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
        update = call.proceed()
        after = nnx.state(model, nnx.Param)
        nnx.update(model, jax.tree.map(lambda b, a: a + (a - b), before, after))
        return update

    run = seen.run(
        "each update moves the model twice as far",
        calls={nnx.Optimizer.update: farther},
        eager=True,
    )
    if not run.calls_of(nnx.Optimizer.update):
        return "no nnx.Optimizer takes the steps: call its update"
    if not seen.close(run.answer, by_formula(*seen.inputs, twice=True)):
        return "the kernels do not follow the updates of the optimizer"
    rows = [call.args[0].size // x.shape[-1] for call in run.calls_of(nnx.Linear)]
    if max(rows, default=0) > x.shape[2]:
        return f"a call of the model gets {max(rows)} rows, and a part has {x.shape[2]}"


def mean_squared(predicted, y):
    return ((predicted - y) ** 2).mean()


def by_formula(seed, x, y, lr, twice=False):
    layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    kernel, bias, trace, found = layer.kernel[...], 0.0, (0.0, 0.0), []
    for rows, targets in zip(x, y, strict=True):
        rows, targets = rows.reshape(-1, x.shape[-1]), targets.reshape(-1, y.shape[-1])
        error = 2 * (rows @ kernel + bias - targets) / targets.size
        trace = rows.T @ error + 0.9 * trace[0], error.sum(axis=0) + 0.9 * trace[1]
        rate = 2 * lr if twice else lr
        kernel, bias = kernel - rate * trace[0], bias - rate * trace[1]
        found.append(kernel)
    return jnp.stack(found)


def mean_of(grads):
    return jax.tree.map(lambda *parts: sum(parts) / len(parts), *grads)


def sum_of(grads):
    return jax.tree.map(lambda *parts: sum(parts), *grads)


def updated(model, optimizer, grads):
    optimizer.update(model, grads)


def built_anew(model, optimizer, grads):
    nnx.Optimizer(model, optimizer.tx, wrt=nnx.Param).update(model, grads)


def copy_updated(model, optimizer, grads):
    jax.jit(updated)(model, optimizer, grads)


def attempt(
    name,
    tx=lambda lr: optax.sgd(lr, momentum=0.9),
    loss=mean_squared,
    joined=mean_of,
    step=updated,
    kept=lambda model: model.kernel[...],
    use_bias=True,
    seed=lambda seed: seed,
):
    """Return the attempt of a learner whose solution differs in its options."""

    def attempted(number, x, y, lr):
        sizes, rngs = (x.shape[-1], y.shape[-1]), nnx.Rngs(seed(number))
        model = nnx.Linear(*sizes, use_bias=use_bias, rngs=rngs)
        optimizer = nnx.Optimizer(model, tx(lr), wrt=nnx.Param)
        grad, found = nnx.grad(lambda model, x, y: loss(model(x), y)), []
        for batch in zip(x, y, strict=True):
            parts = [grad(model, *part) for part in zip(*batch, strict=True)]
            step(model, optimizer, joined(parts))
            found.append(kept(model))
        return jnp.stack([jnp.asarray(kernel) for kernel in found])

    attempted.__name__ = name
    return attempted


def wrt_left_out(seed, x, y, lr):
    return nnx.Optimizer(nnx.Linear(1, 1, rngs=nnx.Rngs(seed)), optax.sgd(lr))


def step_for_each_part(seed, x, y, lr):
    steps, parts = x.shape[:2]
    one = x.reshape(-1, 1, *x.shape[2:]), y.reshape(-1, 1, *y.shape[2:])
    kernels = optimizer_step(seed, *one, lr)
    return kernels.reshape(steps, parts, *kernels.shape[1:])[:, -1]


def whole_batch(seed, x, y, lr):
    merged = (z.reshape(z.shape[0], 1, -1, z.shape[-1]) for z in (x, y))
    return optimizer_step(seed, *merged, lr)


def formula_beside(*inputs):
    optimizer_step(*inputs)
    return by_formula(*inputs)


MISTAKES = {
    wrt_left_out: "Say which Variables the optimizer moves: `wrt=nnx.Param`.",
    attempt("gradients_added", joined=sum_of): (
        "Take the mean of the parts' gradients, not their sum."
    ),
    attempt("last_part_alone", joined=lambda parts: parts[-1]): (
        "Use the gradients of all parts, not the last one's alone."
    ),
    step_for_each_part: "Make one step for each batch, not one for each part.",
    attempt("optimizer_built_anew", step=built_anew): (
        "Pass `momentum=0.9`, and build the optimizer once: a new one has none yet."
    ),
    attempt("copy_updated", step=copy_updated): (
        "The model never moves: plain `jax.jit` drops what `update` writes."
    ),
    attempt("variable_kept", kept=lambda model: model.kernel): (
        "Keep the array, `kernel[...]`: the Variable moves on."
    ),
    attempt("adam", tx=optax.adam): "The rule is `optax.sgd`.",
    attempt("sum_of_squares", loss=lambda p, y: ((p - y) ** 2).sum()): (
        "The loss is the mean of the squares, not their sum."
    ),
    attempt("outputs_added", loss=lambda p, y: ((p - y) ** 2).sum(-1).mean()): (
        "Take the mean over the outputs, too."
    ),
    attempt("bias_left_out", use_bias=False): "Keep the bias: it moves as well.",
    attempt("seed_zero", seed=lambda seed: 0): "Pass `seed` to `nnx.Rngs`.",
    whole_batch: "Call the model on one part at a time.",
    by_formula: "Let `nnx.Optimizer` take the steps.",
    formula_beside: "Return the kernels of the model that the optimizer moves.",
}


def several_steps(seed, x, y, lr):
    model = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    rule = optax.MultiSteps(optax.sgd(lr, momentum=0.9), x.shape[1])
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    grad, kernels = nnx.grad(lambda m, x, y: mean_squared(m(x), y)), []
    for batch in zip(x, y, strict=True):
        for part in zip(*batch, strict=True):
            optimizer.update(model, grad(model, *part))
        kernels.append(model.kernel[...])
    return np.stack(kernels)


@nnx.jit
def compiled_step(model, optimizer, x, y):
    def total(model):
        return sum(mean_squared(model(part), at) for part, at in zip(x, y, strict=True))

    grads = nnx.grad(total)(model)
    optimizer.update(model, jax.tree.map(lambda grad: grad / len(x), grads))
    return model.kernel[...]


def compiled(seed, x, y, lr):
    model = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    rule = optax.sgd(lr, momentum=0.9)
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    kernels = [compiled_step(model, optimizer, *b) for b in zip(x, y, strict=True)]
    assert len(kernels) == len(x)
    return jnp.stack(kernels)


ALSO_RIGHT = [
    several_steps,
    compiled,
    attempt("named_stream", seed=lambda seed: jax.random.key(seed)),
]
