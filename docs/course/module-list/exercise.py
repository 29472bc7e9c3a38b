"""The exercise of "Module list": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
from flax import nnx


class Connected(nnx.Module):
    def __init__(self, in_features, features, depth, *, rngs: nnx.Rngs):
        self.layers = nnx.List()
        for _ in range(depth):
            self.layers.append(nnx.Linear(in_features, features, rngs=rngs))
            in_features += features

    def __call__(self, x):  # x[..., in_features]
        for layer in self.layers:
            x = jnp.concatenate([x, nnx.relu(layer(x))], axis=-1)
        return x


# --8<-- [start:stub]
def module_list(seed, x, features, depth):
    """Return x and the outputs of all layers, joined along the last axis.

    Args:
      seed: seed of `nnx.Rngs`.
      x: input, shape (in_features,) or (batch, in_features), float32.
      features: number of outputs of every layer.
      depth: number of layers, at least 1.
    """
    # --8<-- [end:stub]
    model = Connected(x.shape[-1], features, depth, rngs=nnx.Rngs(seed))
    return model(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = jnp.array([[1.0, 2], [-1, 0.5]])
    for seed, x, features, depth in [(0, page, 2, 3), (7, page, 2, 2), *more]:
        answer, rngs, expected = candidate(seed, x, features, depth), nnx.Rngs(seed), x
        for _ in range(depth):
            layer = nnx.Linear(expected.shape[-1], features, rngs=rngs)
            output = jnp.maximum(expected @ layer.kernel, 0)  # the bias is zero
            expected = jnp.concatenate([expected, output], axis=-1)
        if getattr(answer, "shape", None) != expected.shape:
            said = f"an array of shape {expected.shape}"
        elif not jnp.allclose(answer, expected, atol=1e-5):
            said = expected.tolist()
        else:
            continue
        inputs = f"{seed}, jnp.array({x.tolist()}), {features}, {depth}"
        call = f"{candidate.__name__}({inputs})"
        return f"{call}\n  expected: {said}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools

import jax
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, jnp.array([[1.5, -0.5, 1], [2, 0.25, 3]]), 2, 2),
    (3, jnp.array([0.5, 1.5]), 2, 2),
]


def idea(seen):
    """Return what right numbers lack: one model that holds all layers."""
    _, x, _, depth = seen.inputs

    def trained(layer):
        shape, size = layer.kernel.shape, layer.kernel.size
        layer.kernel[...] = jnp.cos(jnp.arange(size)).reshape(shape)
        layer.bias[...] = jnp.full(layer.bias.shape, 0.5)

    run = seen.run("the layers have other parameters", built={nnx.Linear: trained})
    layers = run.built_of(nnx.Linear)
    if len(layers) != depth:
        return f"you build {len(layers)} layers of type nnx.Linear, instead of {depth}"
    if not seen.close(run.answer, joined(x, layers)):
        return "the answer does not follow kernel and bias of each layer: call them"
    for module in run.built:
        parts = [part for _, part in nnx.iter_graph(module, graph=True)]
        if sum(isinstance(part, nnx.Linear) for part in parts) == depth > 1:
            return None
    return "no module holds all layers, so an optimizer would miss some"


def joined(x, layers, call=lambda layer, x: nnx.relu(layer(x))):
    """Return x and the outputs of all layers."""
    for layer in layers:
        x = jnp.concatenate([x, call(layer, x)], axis=-1)
    return x


def linears(seed, x, features, depth):
    """Return the layers that the exercise asks for, in a plain list."""
    rngs, sizes = nnx.Rngs(seed), [x.shape[-1] + i * features for i in range(depth)]
    return [nnx.Linear(size, features, rngs=rngs) for size in sizes]


class Held(nnx.Module):
    """A module that is given its layers in a container, and a call."""

    def __init__(self, layers, call=joined):
        self.layers = layers
        self.call = nnx.static(call)

    def __call__(self, x):
        return self.call(x, list(self.layers))


def held(call, *inputs):
    """Return what a model with the layers does with the input."""
    return Held(nnx.List(linears(*inputs)), call)(inputs[1])


def plain_list(*inputs):
    class Connected(Held):  # as in a learner's file, since the error names the class
        __module__, __qualname__ = "attempt", "Connected"

    return Connected(linears(*inputs))


def new_rngs_for_each(seed, x, features, depth):
    sizes = [x.shape[-1] + i * features for i in range(depth)]
    layers = [nnx.Linear(size, features, rngs=nnx.Rngs(seed)) for size in sizes]
    return Held(nnx.List(layers))(x)


def chained(seed, x, features, depth):
    rngs, sizes = nnx.Rngs(seed), [x.shape[-1]] + [features] * (depth - 1)
    outputs = [x]
    for size in sizes:
        layer = nnx.Linear(size, features, rngs=rngs)
        outputs.append(nnx.relu(layer(outputs[-1])))
    return jnp.concatenate(outputs, axis=-1)


def added(seed, x, features, depth):
    rngs = nnx.Rngs(seed)
    layers = nnx.List([nnx.Linear(x.shape[-1], features, rngs=rngs)])
    for _ in range(depth - 1):
        layers.append(nnx.Linear(features, features, rngs=rngs))
    return functools.reduce(lambda h, layer: h + nnx.relu(layer(h)), layers, x)


def newest_first(*inputs):
    def call(x, layers):
        for layer in layers:
            x = jnp.concatenate([nnx.relu(layer(x)), x], axis=-1)
        return x

    return held(call, *inputs)


def without_input(*inputs):
    return held(joined, *inputs)[..., inputs[1].shape[-1] :]


def last_layer_alone(*inputs):
    return held(joined, *inputs)[..., -inputs[2] :]


def no_activation(*inputs):
    layers = linears(*inputs)
    return joined(inputs[1], layers, lambda layer, x: layer(x))


def all_activated(*inputs):
    return nnx.relu(held(joined, *inputs))


def activated_before(*inputs):
    return joined(inputs[1], linears(*inputs), lambda layer, x: layer(nnx.relu(x)))


def one_layer_less(seed, x, features, depth):
    return module_list(seed, x, features, depth - 1)


def seed_zero(seed, *rest):
    return module_list(0, *rest)


def axis_one(*inputs):
    def call(x, layers):
        for layer in layers:
            x = jnp.concatenate([x, nnx.relu(layer(x))], axis=1)
        return x

    return held(call, *inputs)


def grows_by_in_features(seed, x, features, depth):
    rngs, sizes = nnx.Rngs(seed), [x.shape[-1] * (i + 1) for i in range(depth)]
    return joined(x, [nnx.Linear(size, features, rngs=rngs) for size in sizes])


def in_no_module(*inputs):
    return joined(inputs[1], linears(*inputs))


def formula_with_assert(seed, x, features, depth):
    layers = linears(seed, x, features, depth)
    answer = Held(nnx.List(layers))(x)
    rngs, mine = nnx.Rngs(seed), x
    for _ in layers:
        draw = nnx.initializers.lecun_normal()
        kernel = draw(rngs.params(), (mine.shape[-1], features))
        rngs.params()  # that of the bias
        mine = jnp.concatenate([mine, nnx.relu(mine @ kernel)], axis=-1)
    assert jnp.allclose(answer, mine, atol=1e-5)
    return mine


MISTAKES = {
    plain_list: "A module refuses a plain list of layers: write `nnx.List([...])`.",
    new_rngs_for_each: (
        "A new `nnx.Rngs` for each layer repeats its keys: pass one rngs to all."
    ),
    chained: "Each layer gets the input and all outputs before it, not the last alone.",
    added: "Join the output to what came before: add nothing.",
    newest_first: "Put the newest output last, behind all others.",
    without_input: "The input comes first in the answer: start from it.",
    last_layer_alone: "Return all outputs: the last layer's is the end of the answer.",
    no_activation: "Apply `nnx.relu` to the output of each layer.",
    all_activated: "The input stays as it is: `nnx.relu` is for the outputs alone.",
    activated_before: "Call the layer first, then `nnx.relu`.",
    one_layer_less: "Build `depth` layers, the first included.",
    seed_zero: "Pass the seed to `nnx.Rngs`.",
    axis_one: "Join along the last axis, `axis=-1`: x may have no batch.",
    grows_by_in_features: "Each layer adds `features` to what the next one gets.",
    in_no_module: "Keep the layers in a module: `self.layers = nnx.List([...])`.",
    formula_with_assert: "Return what your model returns: compute no layer by hand.",
}


def data_list(*inputs):
    return np.asarray(Held(nnx.data(linears(*inputs)))(inputs[1]))


class Block(nnx.Module):
    """A layer that joins its output to its input."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return joined(x, [self.layer])


def sequential_of_blocks(*inputs):
    model = nnx.Sequential(*map(Block, linears(*inputs)))
    return nnx.jit(lambda model, x: model(x))(model, inputs[1])


def named_in_a_dict(*inputs):
    layers = nnx.Dict({f"layer_{i}": one for i, one in enumerate(linears(*inputs))})
    answer = joined(inputs[1], layers.values())
    if answer.shape[-1] != inputs[1].shape[-1] + inputs[2] * inputs[3]:
        raise ValueError("a layer is missing")
    return answer


def row_by_row(*inputs):
    model = nnx.merge(*nnx.split(Held(nnx.List(linears(*inputs)))))
    return (jax.vmap(model) if inputs[1].ndim == 2 else model)(inputs[1])


ALSO_RIGHT = [data_list, sequential_of_blocks, named_in_a_dict, row_by_row]
