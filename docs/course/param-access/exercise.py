"""The exercise of "Parameter access": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
class Network(nnx.Module):
    def __init__(self, in_features, features, *, rngs: nnx.Rngs):
        bias_init = nnx.initializers.normal(1.0)
        self.hidden = nnx.Linear(in_features, features, bias_init=bias_init, rngs=rngs)
        self.out = nnx.Linear(features, 2, bias_init=bias_init, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.tanh(self.hidden(x)))


def param_access(seed, x, features, rate):
    """Return the target's outputs before and after its update, shape (2, ..., 2).

    Args:
      seed: seed of the online network; that of the target is `seed + 1`.
      x: input, shape (..., in_features), float32.
      features: width of the hidden layer.
      rate: which part of the way each parameter of the target goes, from 0 to 1.
    """
    # --8<-- [end:stub]
    online = Network(x.shape[-1], features, rngs=nnx.Rngs(seed))
    target = Network(x.shape[-1], features, rngs=nnx.Rngs(seed + 1))
    before = target(x)
    here, there = nnx.state(target, nnx.Param), nnx.state(online, nnx.Param)
    nnx.update(target, jax.tree.map(lambda t, o: t + rate * (o - t), here, there))
    return jnp.stack([before, target(x)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows = jnp.array([[1.0, 2.0, -1.0], [0.5, -1.5, 0.0]])
    for seed, x, features, rate in [(0, rows, 3, 0.25), (7, rows, 3, 0.75), *more]:
        answer, mixed = candidate(seed, x, features, rate), []
        pair = [Network(x.shape[-1], features, rngs=nnx.Rngs(seed + n)) for n in (1, 0)]
        for t, o in zip(*[(net.hidden, net.out) for net in pair], strict=True):
            kernel = (1 - rate) * t.kernel + rate * o.kernel
            mixed += [(kernel, (1 - rate) * t.bias + rate * o.bias)]
        (kernel, bias), (out, out_bias) = mixed
        right = jnp.stack([pair[0](x), nnx.tanh(x @ kernel + bias) @ out + out_bias])
        if (shape := getattr(answer, "shape", type(answer).__name__)) != right.shape:
            expected = f"an array of shape {right.shape}, not {shape}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = right.tolist()
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features}, "
        return f"{call}{rate})\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import optax

# An input that only `nbe` tries: it catches a mistake that the page's own let through.
HIDDEN = [(3, jnp.array([0.25, -0.75, 1.5]), 3, 0.125)]


def idea(seen):
    """Return what right numbers lack: the target's Params, written in place."""
    (seed, x, features, rate), built = seen.inputs, []
    online, target = networks(seed, x, features)
    before = outputs(target, x, 2)
    move(target, online, rate)

    def note(layer):
        built.append((layer, {"kernel": layer.kernel, "bias": layer.bias}))

    def twice(call):
        return 2 * call.proceed()

    when = "each nnx.Linear returns twice as much"
    run = seen.run(when, built={nnx.Linear: note}, calls={nnx.Linear: twice})
    for layer, params in built:
        for name, param in params.items():
            if (now := getattr(layer, name)) is not param:
                kind = "another Param" if isinstance(now, nnx.Param) else "an array"
                return f"a Param of a layer is replaced: its `{name}` ends as {kind}"
    ends = [param[...] for _, params in built for param in params.values()]
    for layer in (target.hidden, target.out):
        if not any(seen.close(layer.kernel[...], end) for end in ends):
            return "no Param holds a moved kernel: the target is not written in place"
    if not seen.close(run.answer, [before, outputs(target, x, 2)]):
        return f"when {when}, your outputs do not follow"


def networks(seed, x, features):
    """Return the online and the target network."""
    seeds, size = (seed, seed + 1), x.shape[-1]
    return [Network(size, features, rngs=nnx.Rngs(one)) for one in seeds]


def outputs(network, x, factor=1):
    """Return the output of a network whose layers return `factor` as much."""
    hidden = factor * (x @ network.hidden.kernel + network.hidden.bias)
    return factor * (nnx.tanh(hidden) @ network.out.kernel + network.out.bias)


def params_of(*models):
    """Return the Params of networks, those at the same path together."""
    layers = [(model.hidden, model.out) for model in models]
    flat = [[p for one in pair for p in (one.kernel, one.bias)] for pair in layers]
    return list(zip(*flat, strict=True))


def move(target, online, rate):
    """Move the target towards the online network."""
    for t, o in params_of(target, online):
        t[...] = (1 - rate) * t + rate * o


def with_write(write):
    """Return the attempt of a learner who updates with `write(target, online, rate)`.

    If it returns a network, that one is the target after the update.
    """

    def attempt(seed, x, features, rate):
        online, target = networks(seed, x, features)
        before = target(x)
        after = write(target, online, rate) or target
        return jnp.stack([before, after(x)])

    attempt.__name__ = write.__name__
    return attempt


@with_write
def attribute_assigned(target, online, rate):
    for t, o in ((target.hidden, online.hidden), (target.out, online.out)):
        t.kernel = (1 - rate) * t.kernel + rate * o.kernel
        t.bias = (1 - rate) * t.bias + rate * o.bias


@with_write
def new_params(target, online, rate):
    for t, o in ((target.hidden, online.hidden), (target.out, online.out)):
        t.kernel = nnx.Param((1 - rate) * t.kernel + rate * o.kernel)
        t.bias = nnx.Param((1 - rate) * t.bias + rate * o.bias)


@with_write
def operator_on_the_param(target, online, rate):
    for t, o in ((target.hidden, online.hidden), (target.out, online.out)):
        t.kernel += rate * (o.kernel - t.kernel)
        t.bias += rate * (o.bias - t.bias)


@with_write
def local_arrays_changed(target, online, rate):
    for t, o in params_of(target, online):
        array = t[...]
        array += rate * (o - array)


@with_write
def rate_of_the_target(target, online, rate):
    move(target, online, 1 - rate)


@with_write
def kernels_alone(target, online, rate):
    for t, o in params_of(target, online)[::2]:
        t[...] = (1 - rate) * t + rate * o


@with_write
def one_layer_alone(target, online, rate):
    for t, o in params_of(target, online)[:2]:
        t[...] = (1 - rate) * t + rate * o


@with_write
def whole_way(target, online, rate):
    move(target, online, 1)


@with_write
def a_copy(target, online, rate):
    graphdef, state = nnx.split(target)
    moved = jax.tree.map(lambda t, o: t + rate * (o - t), state, nnx.state(online))
    return nnx.merge(graphdef, moved)


def equal_seeds(seed, x, features, rate):
    _, target = networks(seed - 1, x, features)
    return jnp.stack([target(x)] * 2)


def outputs_mixed(seed, x, features, rate):
    online, target = networks(seed, x, features)
    return jnp.stack([target(x), (1 - rate) * target(x) + rate * online(x)])


def second_axis(seed, x, features, rate):
    return param_access(seed, x.reshape(-1, x.shape[1]), features, rate)


def formula(seed, x, features, rate):
    online, target = networks(seed, x, features)
    before = outputs(target, x)
    move(target, online, rate)
    return jnp.stack([before, outputs(target, x)])


MISTAKES = {
    attribute_assigned: "Arrays stand where Params were: write to `...kernel[...]`.",
    new_params: "Write into the Params that are there: others may hold them too.",
    operator_on_the_param: "A Param has no `+=`: put `[...]` behind it.",
    local_arrays_changed: "The target stays as it was: write into its Params.",
    rate_of_the_target: "`rate` is the part of the online network, not of the target.",
    kernels_alone: "The biases are parameters as well: move them too.",
    one_layer_alone: "The second layer stays where it was: move all parameters.",
    whole_way: "The target becomes the online network: go `rate` of the way.",
    a_copy: "A new network is moved: write into the Params of the target.",
    equal_seeds: "Both networks start from one seed: the target's is `seed + 1`.",
    outputs_mixed: "Move parameters, not outputs: between the layers is a `tanh`.",
    second_axis: "`x` may be one input, without a batch axis: use `x.shape[-1]`.",
    formula: "Return what the target network gives when it is called.",
}


@with_write
def by_index(target, online, rate):
    move(target, online, rate)


@with_write
def through_flat_states(target, online, rate):
    states = nnx.to_flat_state(nnx.state(target)), nnx.to_flat_state(nnx.state(online))
    for (_, t), (_, o) in zip(*states, strict=True):
        t.set_value(optax.incremental_update(o[...], t[...], rate))


@with_write
def compiled(target, online, rate):
    nnx.jit(move, static_argnums=2)(target, online, rate)


@with_write
def over_modules(target, online, rate):
    moved = jax.tree.map(lambda t, o: t + rate * (o - t), target, online)
    nnx.update(target, nnx.state(moved))


ALSO_RIGHT = [by_index, through_flat_states, compiled, over_modules]
