"""The exercise of "Module list": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx


class Stack(nnx.Module):
    def __init__(self, in_features, features, depth, rngs):
        sizes = pairwise([in_features] + [features] * depth)
        self.layers = nnx.List([nnx.Linear(*size, rngs=rngs) for size in sizes])

    def __call__(self, x):  # x[..., in_features]
        for layer in self.layers:
            x = layer(x)
        return x
        # --8<-- [end:model]


# --8<-- [start:stub]
def module_list(seed, x, features, depth):
    """Return the sums of one stack's output, by `nnx.List` and by `nnx.Sequential`.

    The answer has the shape (2,) and dtype float32.

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (in_features,) or (batch, in_features), float32.
      features: number of outputs of every layer; a float is accepted and cast.
      depth: number of layers, at least 1; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    rngs = nnx.Rngs(int(seed))
    stack = Stack(x.shape[-1], int(features), int(depth), rngs)
    sequential = nnx.Sequential(*stack.layers)
    return jnp.array([stack(x).sum(), sequential(x).sum()])
    # --8<-- [end:solution]


# --8<-- [start:check]
from contextlib import suppress
from unittest.mock import patch

INPUTS = [  # seed, x, features, depth
    (0.0, jnp.array([1.0, 2.0, 3.0]), 2.0, 3.0),
    (7.0, jnp.array([[0.5, -1.5]]), 4.0, 2.0),
]


def expected_sum(seed, x, features, depth):
    """Return the sum of the output, computed without a container."""
    rngs = nnx.Rngs(int(seed))
    for _ in range(int(depth)):
        layer = nnx.Linear(x.shape[-1], int(features), rngs=rngs)
        x = x @ layer.kernel + layer.bias
    return x.sum()


def missing_idea(candidate, inputs):
    """Return what the two numbers lack, although they are right, or None."""
    built, called, answer = [], [], None
    construct, read = type(nnx.Module).__call__, nnx.List._get_elem
    call, factor = nnx.Sequential.__call__, 2 ** int(inputs[-1])

    def build(*args, **kwargs):
        built.append(construct(*args, **kwargs))
        return built[-1]

    def doubled(self, key):  # whoever reads an nnx.List finds kernels times 2
        layer = read(self, key)
        if isinstance(layer, nnx.Linear) and not hasattr(layer, "doubled"):
            layer = nnx.clone(layer)
            layer.kernel[...], layer.doubled = 2 * layer.kernel, True
        return layer

    def tripled(*args, **kwargs):  # nnx.Sequential returns 3 times as much
        called.append(args)
        return 3 * call(*args, **kwargs)

    with (
        jax.disable_jit(),
        patch.object(type(nnx.Module), "__call__", build),
        patch.object(nnx.List, "_get_elem", doubled),
        patch.object(nnx.Sequential, "__call__", tripled),
        suppress(Exception),  # where the candidate compares the two sums itself
    ):
        answer = jnp.asarray(candidate(*inputs)) / expected_sum(*inputs)
    yours = [vars(m).values() for m in built if not isinstance(m, nnx.Sequential)]
    if not any(isinstance(value, nnx.List) for values in yours for value in values):
        return "no module of yours has an attribute that is an nnx.List"
    if not called:
        return "no nnx.Sequential is called"
    if answer is not None and not jnp.isclose(answer[0], factor):
        return "the first number does not come from a loop over all of the nnx.List"
    if answer is not None and not jnp.isclose(answer[1], 3 * factor):
        return "the second number is not the sum of what nnx.Sequential returns"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for case in inputs:
        answer, total, wrong, hint = candidate(*case), expected_sum(*case), None, None
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != (2,):
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong = f"an array of shape (2,), not {kind}"
            hint = "return the two sums in one array"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, total, rtol=1e-4, atol=1e-5):
            wrong = f"{total!s}, twice: both containers hold the same layers"
        if wrong:
            seed, x, *sizes = case
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), "
            call += ", ".join(map(str, sizes)) + ")"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools

import flax.linen as nn
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, jnp.array([2.5]), 3.0, 5.0),
    (11.0, jnp.array([[1.5, -0.5], [2.0, 0.25], [-3.0, 4.0]]), 1.0, 2.0),
    (3.0, jnp.array([0.5, -1.5, 2.0, 1.0]), 2.0, 1.0),
]


def linears(seed, x, features, depth):
    """Return the layers that the exercise asks for, in a plain list."""
    rngs = nnx.Rngs(int(seed))
    sizes = pairwise([x.shape[-1]] + [int(features)] * int(depth))
    return [nnx.Linear(*size, rngs=rngs) for size in sizes]


class Held(nnx.Module):
    """A module that is given its layers in a container."""

    def __init__(self, layers):
        self.layers = layers

    def __call__(self, x):
        return functools.reduce(lambda y, layer: layer(y), self.layers, x)


def both(x, layers):
    """Return the two sums of some layers."""
    models = Held(nnx.List(layers)), nnx.Sequential(*layers)
    return jnp.array([model(x).sum() for model in models])


def three_layers_at_most(seed, x, features, depth):
    return module_list(seed, x, features, min(depth, 3))


def mean_over_rows(seed, x, features, depth):
    layers = linears(seed, x, features, depth)
    stack, sequential = Held(nnx.List(layers)), nnx.Sequential(*layers)
    return jnp.array([model(x).sum(-1).mean() for model in (stack, sequential)])


def first_and_last_always(seed, x, features, depth):
    return module_list(seed, x, features, max(depth, 2))


def one_layer_repeated(seed, x, features, depth):
    first, *rest = linears(seed, x, features, depth)
    return both(x, [first] + rest[:1] * len(rest))


def new_rngs_for_each(seed, x, features, depth):
    sizes = pairwise([x.shape[-1]] + [int(features)] * int(depth))
    return both(x, [nnx.Linear(*size, rngs=nnx.Rngs(int(seed))) for size in sizes])


def relu_between(seed, x, features, depth):
    first, *rest = linears(seed, x, features, depth)
    return both(x, [first, *(f for layer in rest for f in (nnx.relu, layer))])


def seed_zero(seed, x, features, depth):
    return module_list(0, x, features, depth)


def two_stacks_from_one_rngs(seed, x, features, depth):
    rngs = nnx.Rngs(int(seed))
    sizes = x.shape[-1], int(features), int(depth)
    stack, other = Stack(*sizes, rngs), Stack(*sizes, rngs)
    return jnp.array([stack(x).sum(), nnx.Sequential(*other.layers)(x).sum()])


def linen_setup(seed, x, features, depth):
    class Linen(nn.Module):
        def setup(self):
            self.layers = [nn.Dense(int(features)) for _ in range(int(depth))]

        def __call__(self, x):
            return functools.reduce(lambda y, layer: layer(y), self.layers, x)

    y, _ = Linen().init_with_output(jax.random.key(int(seed)), x)
    return jnp.array([y.sum(), y.sum()])


def plain_list(seed, x, features, depth):
    class Stack(nnx.Module):  # as in a learner's file, since the error names the class
        __module__, __qualname__ = "attempt", "Stack"

        def __init__(self, layers):
            self.layers = layers

    return Stack(linears(seed, x, features, depth))


def sequential_of_a_list(seed, x, features, depth):
    return nnx.Sequential(linears(seed, x, features, depth))(x)


def sequential_of_a_module_list(seed, x, features, depth):
    return nnx.Sequential(nnx.List(linears(seed, x, features, depth)))(x)


def numbers_of_the_page(seed, x, features, depth):
    known = {str(case[1]): module_list(*case) for case in INPUTS}
    return known.get(str(x), jnp.zeros(2))


def data_list(seed, x, features, depth):
    layers = linears(seed, x, features, depth)
    models = Held(nnx.data(layers)), nnx.Sequential(*layers)
    return jnp.array([model(x).sum() for model in models])


def sequential_looped_over(seed, x, features, depth):
    sequential = nnx.Sequential(*linears(seed, x, features, depth))
    y = functools.reduce(lambda y, layer: layer(y), sequential.layers, x)
    return jnp.array([Held(nnx.List(sequential.layers))(x).sum(), y.sum()])


def list_beside_the_calls(seed, x, features, depth):
    layers = linears(seed, x, features, depth)
    Held(nnx.List(layers))
    y = functools.reduce(lambda y, layer: y @ layer.kernel[...], layers, x)
    return jnp.array([y.sum(), nnx.Sequential(*layers)(x).sum()])


def first_number_copied(seed, x, features, depth):
    return both(x, linears(seed, x, features, depth))[jnp.array([0, 0])]


MISTAKES = {
    three_layers_at_most: "Build `int(depth)` layers, however many that are.",
    mean_over_rows: "Sum the whole output: no mean over the batch.",
    first_and_last_always: "A depth of 1 is one layer, from in_features to features.",
    one_layer_repeated: (
        "`[layer] * n` is one layer n times: build a new layer for each place."
    ),
    new_rngs_for_each: (
        "A new `nnx.Rngs` for each layer repeats its keys: pass one rngs to all."
    ),
    relu_between: "There is no activation between the layers.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    two_stacks_from_one_rngs: (
        "The second stack got later keys: give the first one's layers to "
        "`nnx.Sequential`."
    ),
    linen_setup: "These are Linen's weights: build `nnx.Linear` layers from one rngs.",
    plain_list: "A module refuses a plain list of layers: write `nnx.List([...])`.",
    sequential_of_a_list: "Unpack the list with a star: `nnx.Sequential(*layers)`.",
    sequential_of_a_module_list: (
        "An `nnx.List` cannot be called: unpack it, `nnx.Sequential(*layers)`."
    ),
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    data_list: (
        "Keep the layers in a module of your own: `self.layers = nnx.List([...])`."
    ),
    sequential_looped_over: "Call the `nnx.Sequential` itself: it has the loop inside.",
    list_beside_the_calls: (
        "Let the first number come from a loop over all layers of your `nnx.List`."
    ),
    first_number_copied: "Sum what each container returns: copy neither sum.",
}


def built_again(seed, x, features, depth):
    first, second = linears(seed, x, features, depth), linears(seed, x, features, depth)
    stack = Held(nnx.List(first))
    return np.array([stack(x).sum(), nnx.Sequential(*second)(x).sum()])


def appended_in_the_constructor(seed, x, features, depth):
    class Grown(nnx.Module):
        def __init__(self, size, *, rngs):
            self.blocks = nnx.List()
            for _ in range(int(depth)):
                self.blocks.append(nnx.Linear(size, int(features), rngs=rngs))
                size = int(features)

        def forward(self, x):
            for i in range(len(self.blocks)):
                x = self.blocks[i](x)
            return x

    model = Grown(x.shape[-1], rngs=nnx.Rngs(params=int(seed)))
    sequential = nnx.Sequential(*model.blocks)
    return jnp.stack([jnp.sum(model.forward(x)), jnp.sum(sequential(x))])


def appended_later(seed, x, features, depth):
    stack = Held(nnx.List())
    for layer in linears(seed, x, features, depth):
        stack.layers.append(layer)
    sequential = nnx.Sequential(*stack.layers[:])
    return jnp.array([stack(x).sum(), sequential(x).sum()])


@nnx.jit
def total(model, x):
    return model(x).sum()


def jitted(seed, x, features, depth):
    layers = linears(seed, x, features, depth)
    models = Held(nnx.List(layers)), nnx.Sequential(*layers)
    return jnp.array([total(model, x) for model in models])


def compared(seed, x, features, depth):
    sums = module_list(seed, x, features, depth)
    assert jnp.allclose(sums[0], sums[1])
    return sums


ALSO_RIGHT = [
    built_again,
    appended_in_the_constructor,
    appended_later,
    jitted,
    compared,
]
