"""The exercise of "Shared submodule": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Comparison(nnx.Module):
    def __init__(self, in_features, features, *, rngs: nnx.Rngs):
        self.encoder = nnx.Linear(in_features, features, rngs=rngs)

    def __call__(self, left, right):
        ends = jnp.tanh(self.encoder(left)), jnp.tanh(self.encoder(right))
        return ((ends[0] - ends[1]) ** 2).sum(axis=-1)


# --8<-- [start:stub]
def shared_submodule(seed, left, right, features):
    """Return the squared distance of each pair before and after a step.

    Args:
      seed: seed of `nnx.Rngs`.
      left: one half of each pair, shape (batch, in_features), float32.
      right: the other half, of the same shape and dtype.
      features: number of features into which each half is encoded.
    """
    # --8<-- [end:stub]
    model = Comparison(left.shape[-1], features, rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)
    before = model(left, right)
    gradient = nnx.grad(lambda model: model(left, right).mean())(model)
    optimizer.update(model, gradient)
    return jnp.stack([before, model(left, right)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = jnp.array([[1.0, 2], [-0.5, 1]]), jnp.array([[0.5, -1], [2, 1.0]])
    for seed, left, right, features in [(0, *page, 2), (7, *page, 2), *more]:
        answer = candidate(seed, left, right, features)

        def distances(kernel, bias, left=left, right=right):
            ends = (jnp.tanh(half @ kernel + bias) for half in (left, right))
            return ((next(ends) - next(ends)) ** 2).sum(axis=-1)

        layer = nnx.Linear(left.shape[1], features, rngs=nnx.Rngs(seed))
        params = layer.kernel[...], layer.bias[...]
        slopes = jax.grad(lambda *both: distances(*both).mean(), (0, 1))(*params)
        moved = jax.tree.map(lambda p, slope: p - 0.5 * slope, params, slopes)
        expected = jnp.stack([distances(*params), distances(*moved)])
        shaped = getattr(answer, "shape", None) == expected.shape
        if shaped and jnp.allclose(answer, expected, atol=1e-5):
            continue
        halves = ", ".join(f"jnp.array({half.tolist()})" for half in (left, right))
        call = f"{candidate.__name__}({seed}, {halves}, {features})"
        return f"{call}\n  expected: {expected.tolist()}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from contextlib import suppress

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, jnp.array([[1.5, -0.5, 1]]), jnp.array([[0.5, 0.25, -1]]), 4),
    (3, jnp.array([[0.5, 1], [2, -1]]), jnp.array([[1.5, 0], [1, 0.5]]), 1),
]


def idea(seen):
    """Return what right numbers lack: one encoder, called for both halves."""
    _, left, right, _ = seen.inputs
    used = {"left": set(), "right": set()}

    def trained(layer):
        layer.kernel[...] = jnp.cos(jnp.arange(layer.kernel.size)).reshape(
            layer.kernel.shape
        )
        layer.bias[...] = jnp.linspace(0.1, 0.4, layer.bias.size)

    run = seen.run("the encoder has other parameters", built={nnx.Linear: trained})
    layers = run.built_of(nnx.Linear)
    if not layers:
        return "no nnx.Linear is built: its parameters must be the encoder's"
    kernel = jnp.cos(jnp.arange(layers[0].kernel.size)).reshape(layers[0].kernel.shape)
    bias = jnp.linspace(0.1, 0.4, layers[0].bias.size)
    if not seen.close(run.answer, stepped(left, right, kernel, bias)):
        return "the distances do not follow kernel and bias: call the model"
    for call in run.calls_of(nnx.Linear):
        with suppress(jax.errors.TracerArrayConversionError):  # under vmap, one by one
            for name, half in (("left", left), ("right", right)):
                if call.args and np.array_equal(call.args[0], half):
                    used[name].add(id(call.module.kernel))
    if all(used.values()) and used["left"] != used["right"]:
        return "each half has an encoder of its own, held equal by hand: share one"


def distances(left, right, kernel, bias):
    """Return the squared distances, from the arrays of a layer."""
    ends = [jnp.tanh(half @ kernel + bias) for half in (left, right)]
    return ((ends[0] - ends[1]) ** 2).sum(axis=-1)


def stepped(left, right, kernel, bias, rate=0.5):
    """Return the answer, from the arrays of a layer."""

    def loss(params):
        return distances(left, right, *params).mean()

    params = kernel, bias
    moved = jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))
    return jnp.stack([distances(left, right, *p) for p in (params, moved)])


class Pair(nnx.Module):
    """A model that encodes the halves by two layers, which may be one."""

    def __init__(self, one, other, root=False):
        self.one, self.other = one, other
        self.root = root

    def __call__(self, left, right):
        ends = jnp.tanh(self.one(left)), jnp.tanh(self.other(right))
        squared = ((ends[0] - ends[1]) ** 2).sum(axis=-1)
        return squared**0.5 if self.root else squared


def encoder(seed, left, features):
    """Return the layer that the exercise asks for."""
    return nnx.Linear(left.shape[-1], features, rngs=nnx.Rngs(seed))


def trained(model, left, right, rate=0.5, loss=jnp.mean):
    """Return the answer of a model, which may hold one layer twice."""

    def total(model):
        return loss(model(left, right))

    before = model(left, right)
    gradient = nnx.grad(total, graph=True, graph_updates=True)(model)
    params = nnx.state(model, nnx.Param, graph=True)
    nnx.update(model, jax.tree.map(lambda p, g: p - rate * g, params, gradient))
    return jnp.stack([before, model(left, right)])


def shared(seed, left, right, features, root=False, **options):
    """Return the answer with another loss, rate or distance."""
    layer = encoder(seed, left, features)
    return trained(Pair(layer, layer, root), left, right, **options)


def two_encoders(seed, left, right, features):
    rngs = nnx.Rngs(seed)
    layers = (nnx.Linear(left.shape[-1], features, rngs=rngs) for _ in range(2))
    return trained(Pair(*layers), left, right)


def copied_encoder(seed, left, right, features):
    layer = encoder(seed, left, features)
    return trained(Pair(layer, nnx.clone(layer)), left, right)


def parted_by_jax_grad(seed, left, right, features):
    layer = encoder(seed, left, features)
    model = Pair(layer, layer)
    before = model(left, right)
    gradient = jax.grad(lambda model: model(left, right).mean())(model)
    for name in ("kernel", "bias"):
        slope = getattr(gradient.one, name)
        getattr(layer, name)[...] -= 0.5 * slope
    return jnp.stack([before, model(left, right)])


def held_equal_by_hand(seed, left, right, features):
    one = encoder(seed, left, features)
    other = nnx.clone(one)
    model = Pair(one, other)
    before = model(left, right)
    gradient = jax.grad(lambda model: model(left, right).mean())(model)
    for name in ("kernel", "bias"):
        parts = getattr(gradient.one, name), getattr(gradient.other, name)
        for layer in (one, other):
            getattr(layer, name)[...] -= 0.5 * (parts[0] + parts[1])
    return jnp.stack([before, model(left, right)])


def no_step(seed, left, right, features):
    layer = encoder(seed, left, features)
    return jnp.stack([Pair(layer, layer)(left, right)] * 2)


def upwards(*inputs):
    return shared(*inputs, rate=-0.5)


def rate_of_one(*inputs):
    return shared(*inputs, rate=1)


def summed(*inputs):
    return shared(*inputs, loss=jnp.sum)


def root_taken(*inputs):
    return shared(*inputs, root=True)


def means_returned(*inputs):
    return shared_submodule(*inputs).mean(axis=1)


def squeezed(*inputs):
    return shared_submodule(*inputs).squeeze()


def seed_zero(seed, *rest):
    return shared_submodule(0, *rest)


def features_of_input(seed, left, right, features):
    return shared_submodule(seed, left, right, max(features, left.shape[-1]))


def encoded_difference(seed, left, right, features):
    return shared_submodule(seed, left - right, jnp.zeros_like(left), features)


def formula_by_hand(seed, left, right, features):
    key, shape = nnx.Rngs(seed).params(), (left.shape[-1], features)
    kernel = nnx.initializers.lecun_normal()(key, shape)
    return stepped(left, right, kernel, jnp.zeros(features))


def formula_with_assert(seed, left, right, features):
    layer = encoder(seed, left, features)
    kernel, bias = map(jnp.copy, (layer.kernel[...], layer.bias[...]))
    answer = shared_submodule(seed, left, right, features)
    mine = formula_by_hand(seed, left, right, features)
    assert jnp.allclose(answer, stepped(left, right, kernel, bias), atol=1e-5)
    return mine


MISTAKES = {
    two_encoders: "The halves have two encoders: call one layer for both.",
    copied_encoder: (
        "A copy agrees until the first step: call the layer itself a second time."
    ),
    parted_by_jax_grad: (
        "The gradient of one use is lost: give the layer one name, not two."
    ),
    held_equal_by_hand: "Keep one layer, and call it twice: nothing to hold equal.",
    no_step: "Take the step: the second row is computed after it.",
    upwards: "Subtract the gradient: a step makes the mean smaller.",
    rate_of_one: "Multiply the gradient by the rate, 0.5.",
    summed: "The loss is the mean over the pairs, not their sum.",
    root_taken: "Leave out the root: the distances are squared.",
    means_returned: "Return every pair's distance: the mean is the loss alone.",
    squeezed: "Keep the axis of the pairs, even if there is one.",
    seed_zero: "Pass the seed to `nnx.Rngs`.",
    features_of_input: "The encoder maps `in_features` to `features`, be they fewer.",
    encoded_difference: "Encode each half, then subtract: tanh is not linear.",
    formula_by_hand: "Build `nnx.Linear`, and let the model compute the distances.",
}


def second_name(seed, left, right, features):
    layer = encoder(seed, left, features)
    return np.asarray(trained(Pair(layer, layer), left, right))


def one_param_in_two_layers(seed, left, right, features):
    rngs = nnx.Rngs(seed)
    one, other = (nnx.Linear(left.shape[-1], features, rngs=rngs) for _ in range(2))
    other.kernel, other.bias = one.kernel, one.bias
    return trained(Pair(one, other), left, right)


def both_halves_at_once(seed, left, right, features):
    layer = encoder(seed, left, features)

    def apart(layer):
        one, other = jnp.split(jnp.tanh(layer(jnp.concatenate([left, right]))), 2)
        return jnp.square(one - other).sum(axis=-1)

    before = apart(layer)
    slopes = jax.grad(lambda layer: apart(layer).mean())(layer)
    layer = jax.tree.map(lambda p, slope: p - slope / 2, layer, slopes)
    return jnp.array([before, apart(layer)])


def compiled(seed, left, right, features):
    model = Comparison(left.shape[-1], features, rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)

    @nnx.jit(donate_argnums=(0, 1))
    def step(model, optimizer):
        def loss(model):
            apart = jax.vmap(model)(left, right)
            return apart.mean(), apart

        gradient, before = nnx.grad(loss, has_aux=True)(model)
        optimizer.update(model, gradient)
        return before

    before = step(model, optimizer)
    after = model(left, right)
    if after.mean() > before.mean():
        raise ValueError("the step leads upwards")
    return jnp.stack([before, after])


ALSO_RIGHT = [second_name, one_param_in_two_layers, both_halves_at_once, compiled]
