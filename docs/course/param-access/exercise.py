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
from unittest.mock import patch

INPUTS = [  # seed, x, features, factor
    (0.0, jnp.array([1.0, 2.0, 3.0, 4.0]), 2.0, 3.0),
    (7.0, jnp.array([0.5, -1.5]), 3.0, -2.0),
]


def wrong_answer(answer, seed, x, features, factor):
    """Return what was expected, what came, and what to do next; or None."""
    plain = "Return `jnp.array([before, after, leaves])`, without a cast."
    if (shape := getattr(answer, "shape", type(answer).__name__)) != (3,):
        return "an array of shape (3,)", shape, plain
    if not jnp.issubdtype(answer.dtype, jnp.floating):
        return "numbers of dtype float32", answer.dtype, plain
    key, size = nnx.Rngs(int(seed)).params(), (x.shape[-1], int(features))
    before = (x @ nnx.initializers.lecun_normal()(key, size)).sum()
    right = jnp.array([before, before * factor, 1.0])
    if not (same := jnp.isclose(answer, right, atol=1e-4)).all():
        number = ["sum before the write", "sum after the write", "count of leaves"]
        return right, answer, f"Look at the {number[same.argmin()]}."


def watch(candidate, case, twisted=False):
    """Return the answer, each sight of a layer, and each kernel scaled in place.

    A layer is seen when it is built and when it is called. A twisted one has another
    kernel and one Param more, and multiplies `x` by the square of its kernel.
    """
    seen, init, call = [], nnx.Linear.__init__, nnx.Linear.__call__

    def see(layer):
        if not isinstance(kernel := layer.kernel[...], jax.core.Tracer):
            seen.append((layer, layer.kernel, kernel))

    def built(layer, *args, **options):
        init(layer, *args, **options)
        if twisted:
            layer.kernel[...] += 1.0 + len(seen)  # no two layers are equal
            layer.extra = nnx.Param(jnp.zeros(1))
        see(layer)

    def called(layer, inputs):
        see(layer)
        return inputs @ layer.kernel[...] ** 2 if twisted else call(layer, inputs)

    with jax.disable_jit(), patch.multiple(nnx.Linear, __init__=built, __call__=called):
        answer = candidate(*case)
    scaled = [old for m, _, old in seen if jnp.allclose(m.kernel[...], old * case[-1])]
    return answer, seen, scaled


def missing_idea(candidate, case):
    """Return what right numbers lack, and what to do next; or None."""
    (_, x, _, factor), write = case, "Write to `model.kernel[...]`."
    _, seen, scaled = watch(candidate, case)
    for layer, param, _ in seen:
        if layer.kernel is not param:
            kind = type(layer.kernel).__name__
            return f"the Param is replaced: `kernel` ends with type {kind}", write
    if not scaled:
        return "no nnx.Linear is scaled in place", write
    try:
        answer, _, scaled = watch(candidate, case, twisted=True)
    except Exception:  # the candidate checks its own numbers
        return None
    outputs = [(x @ k**n, factor**n) for k in scaled for n in (1, 2)]  # 2: called
    sums = [y.sum() * jnp.array([1, scale]) for y, scale in outputs]
    if not any(jnp.allclose(answer[:2], pair, rtol=1e-4) for pair in sums):
        return "a sum does not follow the kernel", "Call the layer on `x` for each sum."
    if answer[2] != 2:
        count = "Count the leaves of `nnx.state(model, nnx.Param)`."
        return "with one Param more in the layer, the count is not 2", count


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for case in inputs:
        answer = candidate(*case)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if wrong := wrong_answer(answer, *case):
            call = f"{case[0]}, jnp.array({case[1].tolist()}), {case[2]}, {case[3]}"
            lines = "{}({})\n  expected: {}\n  got:      {}\n  next:     {}"
            return lines.format(candidate.__name__, call, *wrong)
    if missing := missing_idea(candidate, inputs[0]):
        return "numbers right, idea missing: {}\n  next:     {}".format(*missing)
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (12.0, jnp.array([0.25, -0.75, -1.5]), 2.0, 2.5),
    (5.0, jnp.array([[1.0, -0.5], [0.25, 2.0], [3.0, 1.5]]), 1.0, -4.0),
]


def build(seed, x, features, use_bias=False):
    """Return the layer that the exercise asks for."""
    size = x.shape[-1], int(features)
    return nnx.Linear(*size, use_bias=use_bias, rngs=nnx.Rngs(int(seed)))


def count(model):
    """Return the number of Param leaves in a module."""
    return len(jax.tree.leaves(nnx.state(model, nnx.Param)))


def report(before, after, leaves):
    """Return the answer of two outputs and a count."""
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


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


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
def array_written_to(model, factor):
    kernel = model.kernel[...]
    kernel[...] = kernel * factor


@with_write
def first_row_scaled(model, factor):
    model.kernel[0] = model.kernel[0] * factor


@with_write
def factor_cast(model, factor):
    model.kernel[...] *= int(factor)


@with_write
def new_param(model, factor):
    model.kernel = nnx.Param(model.kernel * factor)


def seed_zero(seed, x, features, factor):
    return param_access(0, x, features, factor)


def numbers_of_the_page(seed, x, features, factor):
    known = {inputs[0]: param_access(*inputs) for inputs in INPUTS}
    return known.get(seed, jnp.zeros(3))


def elements_counted(seed, x, features, factor):
    return param_access(seed, x, features, factor).at[2].set(x.shape[-1] * features)


def scaled_too_early(seed, x, features, factor):
    model = build(seed, x, features)
    model.kernel[...] *= factor
    return report(model(x), model(x), count(model))


def with_bias(seed, x, features, factor):
    model = build(seed, x, features, use_bias=True)
    return report(model(x), model(x) * factor, count(model))


def first_axis(seed, x, features, factor):
    model = build(seed, jnp.ones(x.shape[0]), features)
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


def sum_by_formula(seed, x, features, factor):
    before, _, leaves = param_access(seed, x, features, factor)
    return report(before, before * factor, leaves)


def swapped(seed, x, features, factor):
    return param_access(seed, x, features, factor)[jnp.array([1, 0, 2])]


def means(seed, x, features, factor):
    model = build(seed, x, features)
    before = model(x).mean()
    model.kernel[...] *= factor
    return report(before, model(x).mean(), count(model))


def seed_uncast(seed, x, features, factor):
    model = nnx.Linear(x.shape[-1], int(features), use_bias=False, rngs=nnx.Rngs(seed))
    return report(model(x), model(x) * factor, count(model))


def features_uncast(seed, x, features, factor):
    rngs = nnx.Rngs(int(seed))
    model = nnx.Linear(x.shape[-1], features, use_bias=False, rngs=rngs)
    return report(model(x), model(x) * factor, count(model))


MISTAKES = {
    attribute_assigned: "No Param is left: write to `model.kernel[...]` instead.",
    operator_on_the_param: "A Param has no `*=`: put `[...]` behind it.",
    local_array_changed: "Both sums are equal: write to the Param, then call again.",
    array_written_to: "A JAX array is immutable: write to the Param it came from.",
    first_row_scaled: "One row is scaled: `[...]` means the whole kernel.",
    factor_cast: "The factor is no integer: do not cast it.",
    new_param: "Write into the Param that is there: others may hold it too.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    elements_counted: "Count the Param leaves, which are arrays, not their elements.",
    scaled_too_early: "Both sums come after the write: take the first before it.",
    with_bias: "The bias is a second Param: pass `use_bias=False`.",
    first_axis: "The last axis of `x` holds the features: use `x.shape[-1]`.",
    output_scaled: "Scale the kernel that the module holds, and let it stay.",
    counted_too_early: "An array has replaced the Param: write to the Param instead.",
    one_by_hand: "Count the leaves of `nnx.state(model, nnx.Param)`.",
    sum_by_formula: "Get both sums from one layer, called on `x`: no formula.",
    swapped: "The order is before, after: you return the sum after the write first.",
    means: "Take the sum of the output, not its mean.",
    seed_uncast: "The seed arrives as a float: pass `int(seed)`.",
    features_uncast: "The size arrives as a float: pass `int(features)`.",
}


@with_write
def with_set_value(model, factor):
    model.kernel.set_value(model.kernel.get_value() * factor)


@with_write
def row_by_row(model, factor):
    for row in range(model.kernel.shape[0]):
        model.kernel[row] *= factor


@with_write
def with_update(model, factor):
    params = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda leaf: leaf * factor, params))


@with_write
def through_the_state(model, factor):
    for _, param in nnx.to_flat_state(nnx.state(model)):
        param[...] = param * factor


def as_a_class(seed, x, features, factor):
    class Scaled(nnx.Module):
        def __init__(self):
            self.linear = build(seed, x, features)

        def scale(self):
            self.linear.kernel[...] *= factor

    model = Scaled()
    before = np.asarray(model.linear(x)).sum()
    model.scale()
    return np.array([before, jnp.sum(model.linear(x)), count(model)])


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


ALSO_RIGHT = [
    with_set_value,
    row_by_row,
    with_update,
    through_the_state,
    as_a_class,
    jitted,
    read_without_a_call,
]
