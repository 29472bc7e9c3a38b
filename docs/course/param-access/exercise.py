"""The exercise of "Parameter access": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def param_access(seed, x, features, factor):
    """Return the output's sums before and after, and the Param leaves, in shape (3,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (..., in_features), float32.
      features: number of outputs; a float is accepted and cast.
      factor: what the kernel is multiplied by, a float.
    """
    # --8<-- [end:stub]
    rngs = nnx.Rngs(int(seed))
    model = nnx.Linear(x.shape[-1], int(features), use_bias=False, rngs=rngs)
    before = model(x).sum()
    model.kernel[...] = model.kernel[...] * factor
    after = model(x).sum()
    leaves = len(jax.tree.leaves(nnx.state(model, nnx.Param)))
    return jnp.array([before, after, leaves])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (0.0, [1.0, 2.0, 3.0, 4.0], 2.0, 3.0), (7.0, [0.5, -1.5, 0, 1], 2.0, -2.0)
    for seed, x, features, factor in [*page, *more]:
        x, rngs = jnp.array(x), nnx.Rngs(int(seed))
        answer = candidate(seed, x, features, factor)
        layer = nnx.Linear(x.shape[-1], int(features), use_bias=False, rngs=rngs)
        before = layer(x).sum()
        right = jnp.array([before, before * factor, 1.0])
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (3,):
            expected = f"an array of shape (3,), not {shape}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features}, "
        return f"{call}{factor})\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from contextlib import suppress

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (12.0, jnp.array([0.25, -0.75, -1.5, 2.0]), 2.0, 2.5),
    (5.0, jnp.array([[1.0, -0.5, 0.25, 2.0], [3.0, 1.5, 0.0, -1.0]]), 3.0, -4.0),
]


def idea(seen):
    """Return what right numbers lack: one Param, written in place between two calls."""
    (_, x, _, factor), built = seen.inputs, []

    def alter(layer):  # each layer: its kernel, and one Param more
        layer.kernel[...] += 1 + len(built)
        layer.extra = nnx.Param(jnp.zeros(1))
        built.append((layer, layer.kernel, layer.kernel[...]))

    def square(call):
        return call.proceed() ** 2

    run = seen.run("the layer has another kernel", built={nnx.Linear: alter})
    for layer, param, _ in built:
        if layer.kernel is not param:
            kind = type(layer.kernel).__name__
            return f"the Param is replaced: `kernel` ends with type {kind}"
    layers = [*run.built_of(nnx.Linear), *(call.module for call in run.calls)]
    ends = [layer.kernel[...] for layer in layers if isinstance(layer, nnx.Linear)]
    scaled = [
        k for _, _, k in built if any(seen.close(k * factor, end) for end in ends)
    ]
    if not scaled:
        return "no nnx.Linear is scaled in place"
    sums = [(x @ kernel).sum() * jnp.array([1, factor]) for kernel in scaled]
    if not any(seen.close(run.answer[:2], pair) for pair in sums):
        return "a sum does not follow the kernel"
    if run.answer[2] != 2:
        return "with one Param more in the layer, the count is not 2"
    with suppress(seen.Finding):  # it compares the two sums itself
        run = seen.run(calls={nnx.Linear: square})
        before, after, _ = run.answer
        if run.calls_of(nnx.Linear) and not seen.close(after, before * factor**2):
            return "a sum does not follow what the layer returns"


def build(seed, x, features, use_bias=False):
    size = x.shape[-1], int(features)
    return nnx.Linear(*size, use_bias=use_bias, rngs=nnx.Rngs(int(seed)))


def count(model):
    return len(jax.tree.leaves(nnx.state(model, nnx.Param)))


def report(before, after, leaves):
    return jnp.array([before.sum(), after.sum(), leaves])


def with_write(write):
    """Return the attempt of a learner who scales with `write(model, factor)`."""

    def attempt(seed, x, features, factor):
        model = build(seed, x, features)
        before = model(x)
        write(model, factor)
        return report(before, model(x), count(model))

    attempt.__name__ = write.__name__
    return attempt


@with_write
def attribute_assigned(model, factor):
    model.kernel = model.kernel * factor


@with_write
def operator_on_the_param(model, factor):
    model.kernel *= factor


@with_write
def local_array_changed(model, factor):
    kernel = model.kernel[...]
    kernel *= factor


@with_write
def factor_cast(model, factor):
    model.kernel[...] *= int(factor)


@with_write
def new_param(model, factor):
    model.kernel = nnx.Param(model.kernel * factor)


def with_bias(seed, x, features, factor):
    model = build(seed, x, features, use_bias=True)
    return report(model(x), model(x) * factor, count(model))


def first_axis(seed, x, features, factor):
    model = build(seed, x.T, features)
    return report(model(x), model(x) * factor, count(model))


def output_scaled(seed, x, features, factor):
    model = build(seed, x, features)
    return report(model(x), model(x) * factor, count(model))


def counted_too_early(seed, x, features, factor):
    model = build(seed, x, features)
    before, leaves = model(x), count(model)
    model.kernel = model.kernel * factor
    return report(before, model(x), leaves)


def one_by_hand(seed, x, features, factor):
    return param_access(seed, x, features, factor).at[2].set(1)


def formula_with_assert(seed, x, features, factor):
    before, after, leaves = param_access(seed, x, features, factor)
    assert jnp.allclose(after, before * factor)
    return report(before, before * factor, leaves)


MISTAKES = {
    attribute_assigned: "No Param is left: write to `model.kernel[...]` instead.",
    operator_on_the_param: "A Param has no `*=`: put `[...]` behind it.",
    local_array_changed: "Both sums are equal: write to the Param, then call again.",
    factor_cast: "The factor is no integer: do not cast it.",
    new_param: "Write into the Param that is there: others may hold it too.",
    with_bias: "The bias is a second Param: pass `use_bias=False`.",
    first_axis: "The last axis of `x` holds the features: use `x.shape[-1]`.",
    output_scaled: "Scale the kernel that the module holds, and let it stay.",
    counted_too_early: "An array has replaced the Param: write to the Param instead.",
    one_by_hand: "Count the leaves of `nnx.state(model, nnx.Param)`.",
    formula_with_assert: "Get both sums from one layer, called on `x`: no formula.",
}


@with_write
def with_update(model, factor):
    params = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda leaf: leaf * factor, params))


@with_write
def through_the_state(model, factor):
    for _, param in nnx.to_flat_state(nnx.state(model)):
        param[...] = param * factor


def jitted(seed, x, features, factor):
    @nnx.jit
    def scale(model):
        model.layers[0].kernel[...] *= factor

    model = nnx.Sequential(build(seed, x, features))
    forward = nnx.jit(lambda model, x: model(x).sum())
    before = forward(model, x)
    scale(model)
    return jnp.stack([before, forward(model, x), jnp.float32(count(model))])


def read_without_a_call(seed, x, features, factor):
    model = build(seed, x, features)
    before = x @ model.kernel
    model.kernel[...] *= factor
    leaves = sum(isinstance(v, nnx.Param) for _, v in nnx.iter_graph(model))
    return report(before, x @ model.kernel[...], leaves)


ALSO_RIGHT = [with_update, through_the_state, jitted, read_without_a_call]
