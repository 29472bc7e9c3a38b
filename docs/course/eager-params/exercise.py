"""The exercise of "Eager parameters": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def eager_params(seed, x, features):
    """Return the parameter counts before and after the first call, in shape (2,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (in_features,) or (batch, in_features), float32.
      features: number of outputs; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))

    def count():
        params = nnx.state(model, nnx.Param)
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    before = count()
    model(x)
    return jnp.array([before, count()])
    # --8<-- [end:solution]


# --8<-- [start:check]
from unittest.mock import patch

INPUTS = [  # seed, x, features
    (0.0, jnp.array([1.0, 2.0, 3.0, 4.0]), 3.0),
    (7.0, jnp.array([[0.5, -1.5, 2.0], [1.0, 0.0, -0.25]]), 2.0),
]
ADDED = 1000  # parameters that the first call of a watched layer adds


def watch(candidate, seed, x, features):
    """Return both counts, the kernels of the layers built, and the layers called.

    Here each layer has a bias of another size. Its first call adds parameters, and
    other state. Right counts follow; copies and formulas do not.
    """
    kernels, called, construct = [], [], nnx.Linear.__init__

    def build(layer, *args, **kwargs):
        construct(layer, *args, **kwargs)
        kernels.append(layer.kernel[...])
        layer.bias.set_value(jnp.zeros((10 * len(kernels), 1, layer.out_features)))
        cls = type(layer)  # a subclass of nnx.Linear may have a call of its own
        layer.__class__ = type(cls)(cls.__name__, (cls,), {"__call__": call})

    def call(layer, inputs):
        called.append(layer)
        if layer.bias.size < ADDED:
            layer.bias.set_value(jnp.zeros(layer.bias.size + ADDED))
            layer.statistics = nnx.Variable(jnp.zeros(5))
        return inputs @ layer.kernel

    watched = patch.object(nnx.Linear, "__init__", build)
    with jax.disable_jit(), watched:  # a jitted call could change only a copy
        before, after = map(int, candidate(seed, x, features))
    return before, after, kernels, called


def missing_idea(candidate, seed, x, features):
    """Return what is wrong with the way to the right numbers, or None."""
    try:
        before, after, kernels, called = watch(candidate, seed, x, features)
        if not kernels:
            return "the function builds no nnx.Linear"
        if not called:
            return "the model is never called"
        if after - before != ADDED:
            return (
                f"if the call adds {ADDED} parameters, you count {before} and {after}"
                "\n  next:     Count one model's nnx.Params, before and after its call."
            )
        _, _, others, _ = watch(candidate, seed + 1, x, features)
        if all(map(jnp.array_equal, kernels, others)):
            return "two seeds give the same kernel"
    except Exception:  # the candidate does not work with such a layer
        return None


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, features in inputs:
        answer = candidate(seed, x, features)
        count = x.shape[-1] * int(features) + int(features)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        shape = getattr(answer, "shape", type(answer).__name__)
        if shape != (2,):
            return (
                f"{call}\n  expected: an array of shape (2,), not {shape}"
                f"\n  got:      {answer}"
                "\n  next:     Return `jnp.array([before, after])`: two whole numbers."
            )
        if answer.tolist() != [count, count]:
            return f"{call}\n  expected: [{count} {count}]\n  got:      {answer}"
    if missing := missing_idea(candidate, *inputs[-1]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from functools import partial

import flax.linen as nn
import numpy as np

# An input that only `nbe` tries: it catches mistakes that the page's own let through.
HIDDEN = [(3.0, jnp.array([[0.25], [-1.5], [2.0]]), 5.0)]


def model_for(seed, x, features):
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def elements(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def count(model):
    return elements(nnx.state(model, nnx.Param))


def around_call(model, x, counted=count):
    """Return what `counted` says of a model before and after a call."""
    before = counted(model)
    model(x)
    return jnp.array([before, counted(model)])


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def without_rngs(seed, x, features):
    return around_call(nnx.Linear(x.shape[-1], int(features)), x)


def seed_for_rngs(seed, x, features):
    return around_call(nnx.Linear(x.shape[-1], int(features), rngs=int(seed)), x)


def rngs_by_position(seed, x, features):
    return nnx.Linear(x.shape[-1], int(features), nnx.Rngs(int(seed)))


def seed_not_cast(seed, x, features):
    return around_call(nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(seed)), x)


def features_not_cast(seed, x, features):
    return around_call(nnx.Linear(x.shape[-1], features, rngs=nnx.Rngs(int(seed))), x)


def without_in_features(seed, x, features):
    return around_call(nnx.Linear(int(features), rngs=nnx.Rngs(int(seed))), x)


def first_axis(seed, x, features):
    return around_call(
        nnx.Linear(x.shape[0], int(features), rngs=nnx.Rngs(int(seed))), x
    )


def sizes_swapped(seed, x, features):
    sizes = int(features), x.shape[-1]
    return around_call(nnx.Linear(*sizes, rngs=nnx.Rngs(int(seed))), x)


def squeezed(seed, x, features):
    return eager_params(seed, jnp.squeeze(x), features)


def init_first(seed, x, features):
    model = model_for(seed, x, features)
    params = model.init(jax.random.key(int(seed)), x)
    return jnp.array([elements(params), elements(params)])


def lazy_linen(seed, x, features):
    params = nn.Dense(int(features)).init(jax.random.key(int(seed)), x)
    return jnp.array([0, elements(params)])


def kernel_only(seed, x, features):
    model = model_for(seed, x, features)
    return around_call(model, x, lambda model: model.kernel.size)


def arrays_counted(seed, x, features):
    model = model_for(seed, x, features)
    return around_call(
        model, x, lambda model: len(jax.tree.leaves(nnx.state(model, nnx.Param)))
    )


def numbers_of_the_page(seed, x, features):
    return jnp.array([15, 15] if x.ndim == 1 else [8, 8])


def formula(seed, x, features):
    size = x.shape[-1] * int(features) + int(features)
    return jnp.array([size, size])


def formula_beside_the_model(seed, x, features):
    model = model_for(seed, x, features)
    model(x)
    return formula(seed, x, features)


def output_counted(seed, x, features):
    model = model_for(seed, x, features)
    return jnp.array([count(model), model(x).size])


def two_models(seed, x, features):
    before, model = count(model_for(seed, x, features)), model_for(seed, x, features)
    model(x)
    return jnp.array([before, count(model)])


def copied(seed, x, features):
    model = model_for(seed, x, features)
    before = count(model)
    model(x)
    return jnp.array([before, before])


def never_called(seed, x, features):
    model = model_for(seed, x, features)
    return jnp.array([count(model), count(model)])


def counted_after(seed, x, features):
    model = model_for(seed, x, features)
    model(x)
    return jnp.array([count(model), count(model)])


def all_state(seed, x, features):
    return around_call(model_for(seed, x, features), x, elements)


def seed_zero(seed, x, features):
    return eager_params(0, x, features)


MISTAKES = {
    without_rngs: "The constructor draws the kernel: give it `rngs=nnx.Rngs(...)`.",
    seed_for_rngs: "`rngs` hands out keys: pass `nnx.Rngs(int(seed))`, not the seed.",
    rngs_by_position: "`rngs` goes by name: write `rngs=nnx.Rngs(int(seed))`.",
    seed_not_cast: "`nnx.Rngs` wants an integer: cast the seed with `int`.",
    features_not_cast: "A shape wants integers: cast `features` with `int`.",
    without_in_features: "A size is missing: pass `x.shape[-1]` and `int(features)`.",
    first_axis: "The first axis may be the batch: the input size is `x.shape[-1]`.",
    sizes_swapped: "The sizes are swapped: inputs first, then outputs.",
    squeezed: "An axis of `x` is lost: use `x` as it is, with `x.shape[-1]` inputs.",
    init_first: "An NNX module has no `init`: it has its parameters already.",
    lazy_linen: "The model is empty before its call, as in Linen: build `nnx.Linear`.",
    kernel_only: "The bias is missing: the layer has one, and its elements count.",
    arrays_counted: "You count two arrays: add up their sizes.",
    numbers_of_the_page: "These are the numbers of the page: count your own model's.",
    formula: "Build an `nnx.Linear` in the function, and count what it holds.",
    formula_beside_the_model: "Read the counts from the model, not from a formula.",
    output_counted: "The second number counts the output: count the model again.",
    two_models: "The counts are of two models: build one, and count it twice.",
    copied: "The second count does not see the call: count the called model again.",
    never_called: "Call the model on `x` between the two counts.",
    counted_after: "Take the first count before the model has been called.",
    all_state: "Count parameters alone: give `nnx.state` the filter `nnx.Param`.",
    seed_zero: "The kernel ignores the seed: draw it with `nnx.Rngs(int(seed))`.",
}


# Right answers in other styles.


class Wrapped(nnx.Module):
    def __init__(self, *sizes, rngs):
        self.linear = nnx.Linear(*sizes, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)


class OwnCall(nnx.Linear):
    def __call__(self, x):
        return x @ self.kernel + self.bias


def in_a_module(seed, x, features):
    model = Wrapped(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return around_call(model, x)


def in_a_subclass(seed, x, features):
    model = OwnCall(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return around_call(model, x)


def in_a_sequence(seed, x, features):
    return around_call(nnx.Sequential(model_for(seed, x, features)), x)


def by_names(seed, x, features):
    layer = partial(nnx.Linear, rngs=nnx.Rngs(params=int(seed)))
    model = layer(in_features=x.shape[-1], out_features=int(features))
    return around_call(model, x, lambda m: float(m.kernel.size + m.bias[...].size))


def in_a_loop(seed, x, features):
    model, counts = model_for(seed, x, features), []
    for _ in range(2):
        counts.append(sum(map(jnp.size, jax.tree.leaves(nnx.state(model, nnx.Param)))))
        model(x)
    return np.asarray(counts)


def compiled(seed, x, features):
    model = model_for(seed, x, features)
    before = count(model)
    nnx.jit(lambda model, x: model(x))(model, x)
    return jnp.stack([before, count(model)])


def split_and_merged(seed, x, features):
    graphdef, params = nnx.split(model_for(seed, x, features), nnx.Param)[:2]
    before = elements(params)
    nnx.merge(graphdef, params)(x)
    return jnp.array([before, elements(params)])


ALSO_RIGHT = [
    in_a_module,
    in_a_subclass,
    in_a_sequence,
    by_names,
    in_a_loop,
    compiled,
    split_and_merged,
]
