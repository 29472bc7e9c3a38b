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
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    import numpy as np

    page = [(seed, jnp.array([1.0, 2, 3]), 2.0, 3.0) for seed in (0.0, 7.0)]
    for seed, x, features, depth in [*page, *more]:
        answer, y = candidate(seed, x, features, depth), np.asarray(x)
        rngs = nnx.Rngs(int(seed))
        for _ in range(int(depth)):
            layer = nnx.Linear(y.shape[-1], int(features), rngs=rngs)
            y = y @ np.asarray(layer.kernel)  # the bias is zero
        shaped = getattr(answer, "shape", None) == (2,)
        if shaped and np.allclose(answer, y.sum(), rtol=1e-4, atol=1e-5):
            continue
        sizes = f"jnp.array({x.tolist()}), {features}, {depth}"
        expected = f"{y.sum():.4f}, twice, in an array of shape (2,)"
        call = f"{candidate.__name__}({seed}, {sizes})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, jnp.array([[1.5, -0.5, 1], [2, 0.25, 3]]), 2.0, 5.0),
    (3.0, jnp.array([0.5, -1.5, 2]), 2.0, 1.0),
]


def idea(seen):
    """Return what right numbers lack: a loop over an nnx.List, an nnx.Sequential."""

    def of_ones(layer):
        if isinstance(layer, nnx.Linear):
            layer = nnx.clone(layer)
            layer.kernel[...] = jnp.ones_like(layer.kernel)
        return layer

    def read(call):
        found = call.proceed()
        if call.name == "__iter__":
            return map(of_ones, found)
        return [*map(of_ones, found)] if isinstance(found, list) else of_ones(found)

    def run(factor):  # where kernels that are read from an nnx.List are ones
        hooks = {nnx.List.__iter__: read, nnx.List.__getitem__: read}
        hooks[nnx.Sequential] = lambda call: factor * call.proceed()
        return seen.run("containers give other numbers", calls=hooks), factor

    try:
        ran, factor = run(3)
    except seen.Finding:  # where the two sums are compared, they have to agree
        ran, factor = run(1)
    yours = [vars(m).values() for m in ran.built if not isinstance(m, nnx.Sequential)]
    if not any(isinstance(value, nnx.List) for values in yours for value in values):
        return "no module of yours has an attribute that is an nnx.List"
    total = seen.inputs[1].sum() * seen.inputs[2] ** seen.inputs[3]
    if not seen.close(ran.answer[0], total):
        return "the first number does not come from a loop over all of the nnx.List"
    if not seen.close(ran.answer[1], factor * total):
        return "the second number is not the sum of what nnx.Sequential returns"


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


def both(x, layers, total=jnp.sum, container=nnx.List):
    """Return the two sums of some layers."""
    models = Held(container(layers)), nnx.Sequential(*layers)
    return jnp.array([total(model(x)) for model in models])


def mean_over_rows(*inputs):
    return both(inputs[1], linears(*inputs), lambda y: y.sum(-1).mean())


def first_and_last_always(seed, x, features, depth):
    return module_list(seed, x, features, max(depth, 2))


def one_layer_repeated(*inputs):
    first, *rest = linears(*inputs)
    return both(inputs[1], [first] + rest[:1] * len(rest))


def new_rngs_for_each(seed, x, features, depth):
    sizes = pairwise([x.shape[-1]] + [int(features)] * int(depth))
    return both(x, [nnx.Linear(*size, rngs=nnx.Rngs(int(seed))) for size in sizes])


def two_stacks_from_one_rngs(seed, x, features, depth):
    rngs, sizes = nnx.Rngs(int(seed)), (x.shape[-1], int(features), int(depth))
    stack, other = Stack(*sizes, rngs), Stack(*sizes, rngs)
    return jnp.array([stack(x).sum(), nnx.Sequential(*other.layers)(x).sum()])


def plain_list(*inputs):
    class Stack(Held):  # as in a learner's file, since the error names the class
        __module__, __qualname__ = "attempt", "Stack"

    return Stack(linears(*inputs))


def sequential_of_a_list(*inputs):
    return nnx.Sequential(linears(*inputs))(inputs[1])


def data_list(*inputs):
    return both(inputs[1], linears(*inputs), container=nnx.data)


def first_number_copied(*inputs):
    return both(inputs[1], linears(*inputs))[jnp.array([0, 0])]


def formula_with_assert(*inputs):
    sums, layers = both(inputs[1], linears(*inputs)), linears(*inputs)
    y = functools.reduce(lambda y, layer: y @ layer.kernel[...], layers, inputs[1])
    assert jnp.allclose(sums, y.sum(), rtol=1e-4)
    return jnp.array([y.sum(), y.sum()])


MISTAKES = {
    mean_over_rows: "Sum the whole output: no mean over the batch.",
    first_and_last_always: "A depth of 1 is one layer, from in_features to features.",
    one_layer_repeated: (
        "`[layer] * n` is one layer n times: build a new layer for each place."
    ),
    new_rngs_for_each: (
        "A new `nnx.Rngs` for each layer repeats its keys: pass one rngs to all."
    ),
    two_stacks_from_one_rngs: (
        "The second stack got later keys: give the first one's layers to "
        "`nnx.Sequential`."
    ),
    plain_list: "A module refuses a plain list of layers: write `nnx.List([...])`.",
    sequential_of_a_list: "Unpack the list with a star: `nnx.Sequential(*layers)`.",
    data_list: (
        "Keep the layers in a module of your own: `self.layers = nnx.List([...])`."
    ),
    first_number_copied: "Sum what the call of the `nnx.Sequential` itself returns.",
    formula_with_assert: "Sum what a loop over all layers of your `nnx.List` returns.",
}


def merged(*inputs):
    return both(inputs[1], nnx.merge(*nnx.split(nnx.List(linears(*inputs)))))


def appended(*inputs):
    class Grown(Held):
        def __call__(self, x):
            for i in range(len(self.layers)):
                x = self.layers[i](x)
            return x

    stack = Grown(nnx.List())
    for layer in linears(*inputs):
        stack.layers.append(layer)
    sequential = nnx.Sequential(*stack.layers[:])
    return jnp.stack([jnp.sum(model(inputs[1])) for model in (stack, sequential)])


def jitted_with_error(*inputs):
    models = Held(nnx.List(linears(*inputs))), nnx.Sequential(*linears(*inputs))
    first, second = map(jax.jit(lambda model: model(inputs[1]).sum()), models)
    if not jnp.allclose(first, second):
        raise ValueError("the sums differ")
    return jnp.array([first, second])


ALSO_RIGHT = [merged, appended, jitted_with_error]
