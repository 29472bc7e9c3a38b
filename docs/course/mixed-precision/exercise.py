"""The exercise of "Mixed precision": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:stub]
def averaged_kernels(seed, x, y, lr):
    """Return the running average of the kernel after each step, float32.

    Its shape is (steps, in_features, out_features).

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      x: inputs of each step, shape (steps, batch, in_features), float32.
      y: their targets, shape (steps, batch, out_features), float32.
      lr: learning rate of `optax.sgd`, a float.
    """
    # --8<-- [end:stub]
    sizes, rngs = (x.shape[-1], y.shape[-1]), nnx.Rngs(seed)
    model = nnx.Linear(*sizes, dtype=jnp.bfloat16, rngs=rngs)
    optimizer = nnx.Optimizer(model, optax.sgd(lr), wrt=nnx.Param)

    def loss_of(model, x, y):
        return ((model(x).astype(jnp.float32) - y) ** 2).mean()

    average, averages = model.kernel[...], []
    for batch in zip(x, y, strict=True):
        optimizer.update(model, nnx.grad(loss_of)(model, *batch))
        average = 0.9 * average + 0.1 * model.kernel
        averages.append(average)
    return jnp.stack(averages)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    one = jnp.array([2.0, -1.0, 1.0, 3.0, -2.0, 1.0, 0.5, 2.0]).reshape(2, 2, 2)
    page = (0, one, one[..., :1], 2e-3), (7, -one, abs(one[..., 1:]), 1e-3)
    for seed, x, y, lr in [*page, *more]:
        answer = candidate(seed, x, y, lr)
        layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
        start = average = kernel = layer.kernel[...]
        bias, right = layer.bias[...], []
        for rows, targets in zip(x, y, strict=True):  # by formula, unrounded
            error = 2 * (rows @ kernel + bias - targets) / targets.size
            kernel, bias = kernel - lr * rows.T @ error, bias - lr * error.sum(axis=0)
            average = 0.9 * average + 0.1 * kernel
            right.append(average)
        right, shape = jnp.stack(right), getattr(answer, "shape", None)
        bound = 0.05 * abs(right - start).max()  # a twentieth of the way
        if shape != right.shape or not jnp.allclose(answer, right, atol=bound):
            call = f"{candidate.__name__}({seed}, x, y, {lr}), x = {x.tolist()}"
            return f"{call}\n  expected: {right.round(5)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (  # two outputs
        3,
        jnp.arange(-6.0, 6.0).reshape(2, 3, 2) / 4,
        (jnp.arange(12.0) % 5 - 2).reshape(2, 3, 2),
        2e-3,
    ),
]


def idea(seen):
    """Return what right averages lack: a layer in bfloat16, which they follow."""
    calls = seen.run().calls_of(nnx.Linear)
    if not calls:
        return "no nnx.Linear is called"
    for call in calls:
        given, came = call.args[0].dtype, call.output.dtype
        if jnp.bfloat16 not in (came, call.module.dtype):
            return f"of {given} inputs, nnx.Linear computes in {came}"

    def forgets(call):
        return 0 * call.proceed()

    run = seen.run("the output is zero times itself", calls={nnx.Linear: forgets})
    seed, x, y, _ = seen.inputs
    start = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed)).kernel[...]
    still = jnp.broadcast_to(start, seen.answer.shape)
    if not seen.close(run.answer, still, rtol=0, atol=1e-6):
        return "the kernel moves without a gradient"


HALF = jnp.bfloat16
MIXED = {"dtype": HALF}


def mean_squared(model, x, y):
    return ((model(x).astype(jnp.float32) - y) ** 2).mean()


def sum_of_squares(model, x, y):
    return ((model(x).astype(jnp.float32) - y) ** 2).sum()


def outputs_added(model, x, y):
    return ((model(x).astype(jnp.float32) - y) ** 2).sum(axis=-1).mean()


def after(average, kernel):
    return 0.9 * average + 0.1 * kernel


def attempt(
    name,
    layer=MIXED,
    loss=mean_squared,
    start=lambda kernel: kernel,
    join=after,
    before=False,
    inputs=jnp.float32,
    seed=lambda seed: seed,
):
    """Return the attempt of a learner whose solution differs in its options."""
    grad = nnx.jit(nnx.grad(loss))

    def attempted(number, x, y, lr):
        sizes, rngs = (x.shape[-1], y.shape[-1]), nnx.Rngs(seed(number))
        model = nnx.Linear(*sizes, rngs=rngs, **layer)
        optimizer = nnx.Optimizer(model, optax.sgd(lr), wrt=nnx.Param)
        average, found = start(model.kernel[...]), []
        for rows, targets in zip(x.astype(inputs), y, strict=True):
            if before:
                average = join(average, model.kernel[...])
            optimizer.update(model, grad(model, rows, targets))
            if not before:
                average = join(average, model.kernel[...])
            found.append(average)
        return jnp.stack(found)

    attempted.__name__ = name
    return attempted


def by_formula(seed, x, y, lr):
    layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    kernel, bias, average, found = layer.kernel[...], 0.0, layer.kernel[...], []
    for rows, targets in zip(x, y, strict=True):
        error = 2 * (rows @ kernel + bias - targets) / targets.size
        kernel, bias = kernel - lr * rows.T @ error, bias - lr * error.sum(axis=0)
        average = after(average, kernel)
        found.append(average)
    return jnp.stack(found)


def formula_beside(*inputs):
    averaged_kernels(*inputs)
    return by_formula(*inputs)


def a_list(*inputs):
    return list(averaged_kernels(*inputs))


MISTAKES = {
    attempt("bfloat16_params", {"dtype": HALF, "param_dtype": HALF}): (
        "The steps are lost: leave `param_dtype` at float32."
    ),
    attempt(
        "bfloat16_average",
        start=lambda kernel: kernel.astype(HALF),
        join=(lambda average, kernel: after(average, kernel.astype(HALF))),
    ): "An average moves in small steps as well: keep it in float32.",
    attempt("rounded_kernel", join=lambda a, k: after(a, k.astype(HALF))): (
        "Average the params themselves, not what the layer rounds them to."
    ),
    attempt("no_dtype", {}): "Say what the layer computes in: `dtype=jnp.bfloat16`.",
    attempt("inputs_cast", {}, inputs=HALF): (
        "float32 params make float32 of bfloat16 inputs: give the layer a `dtype`."
    ),
    attempt("float16", {"dtype": jnp.float16}): "Compute in bfloat16, not in float16.",
    attempt("from_zero", start=jnp.zeros_like): (
        "Start the average at the first kernel, not at zero."
    ),
    attempt("swapped", join=lambda a, k: after(k, a)): (
        "The old average counts 0.9, the new kernel 0.1."
    ),
    attempt("one_step_late", before=True): "Average the kernel after each step.",
    attempt("no_average", join=lambda average, kernel: kernel): (
        "Return the averages, not the kernels."
    ),
    attempt("squares_added", loss=sum_of_squares): (
        "The loss is the mean of the squares, not their sum."
    ),
    attempt("over_outputs", loss=outputs_added): (
        "Take the mean over the outputs, too."
    ),
    attempt("seed_zero", seed=lambda seed: 0): "Pass `seed` to `nnx.Rngs`.",
    by_formula: "Let `nnx.Linear` compute, and `nnx.Optimizer` move it.",
    formula_beside: "Return the averages of the model that you train.",
    a_list: "Return an array, not a list: `jnp.stack` makes one.",
}


@nnx.jit
def train_step(model, optimizer, ema, x, y):
    optimizer.update(model, nnx.grad(mean_squared)(model, x, y))
    ema.update(model)


def by_ema(seed, x, y, lr):
    model = nnx.Linear(
        x.shape[-1],
        y.shape[-1],
        dtype=HALF,
        preferred_element_type=jnp.float32,
        rngs=nnx.Rngs(seed),
    )
    optimizer = nnx.Optimizer(model, optax.sgd(lr), wrt=nnx.Param)
    ema, found = nnx.EMA(model, decay=0.9), []
    for batch in zip(x, y, strict=True):
        train_step(model, optimizer, ema, *batch)
        found.append(ema.params.kernel[...])
    return jnp.stack(found)


def of_rounded_params(model, x, y):
    half = jax.tree.map(lambda param: param.astype(HALF), model)
    return mean_squared(half, x.astype(HALF), y)


ALSO_RIGHT = [
    by_ema,
    attempt("cast_at_the_call", {}, loss=of_rounded_params),
    attempt("compiled", join=lambda a, k: a + 0.1 * (k - a)),
    attempt("everything_named", {"dtype": HALF, "param_dtype": jnp.float32}),
]
