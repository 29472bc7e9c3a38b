"""The exercise of "Scan over layers": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def read_every_layer(seed, depth, x):
    """Return what one shared norm makes of the output of every layer, and its mean.

    The `depth` layers `nnx.Linear` are built from `nnx.Rngs(seed).split(depth)`, with
    `jnp.tanh` behind each. The norm is one `nnx.BatchNorm` in train mode.

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      depth: number of layers, at least 1.
      x: input of the first layer, shape (batch, features), float32.

    Returns:
      the norm's outputs, shape (depth, batch, features), and its running mean after the
      last layer, shape (features,).
    """
    # --8<-- [end:stub]

    @nnx.vmap
    def build(rngs):
        return nnx.Linear(x.shape[-1], x.shape[-1], rngs=rngs)

    @nnx.scan
    def read(carry, layer):
        x, norm = carry
        x = jnp.tanh(layer(x))
        return (x, norm), norm(x)

    layers = build(nnx.Rngs(seed).split(depth))
    norm = nnx.BatchNorm(x.shape[-1], rngs=nnx.Rngs(0))
    (_, norm), readings = read((x, norm), layers)
    return readings, norm.mean[...]
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    one = jnp.array([[1.0, 0.0], [0.5, 2.0], [-1.0, 0.25]])
    for seed, depth, x in [(0, 3, one), (7, 1, one), *more]:
        answer, keys = candidate(seed, depth, x), nnx.Rngs(seed).split(depth)
        norm, y, rows = nnx.BatchNorm(x.shape[1], rngs=nnx.Rngs(0)), x, []
        for i in range(depth):
            own = jax.tree.map(lambda keys, i=i: keys[i], keys)
            y = jnp.tanh(nnx.Linear(x.shape[1], x.shape[1], rngs=own)(y))
            rows.append(norm(y))
        right = jnp.stack(rows), norm.mean[...]
        got, wanted = (jax.tree.map(jnp.shape, both) for both in (answer, right))
        if got == wanted and all(
            jnp.allclose(*pair, atol=1e-4) for pair in zip(right, answer, strict=True)
        ):
            continue
        expected = right if got == wanted else f"shapes {wanted}, not {got}"
        call = f"{candidate.__name__}({seed}, {depth}, jnp.array({x.tolist()}))"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [(5, 3, jnp.array([[1.0, -1.0, 0.0], [0.0, 2.0, 3.0]]))]  # three features


def idea(seen):
    """Return what right readings lack: layers that a scan or another loop calls."""
    _, depth, x = seen.inputs
    calls = seen.run().calls_of(nnx.Linear)
    if not calls:
        return "no nnx.Linear is called"
    if not all(call.inside(jax.lax.scan) for call in calls):
        return f"Python calls the {depth} layers one by one: let nnx.scan do it"

    hooks = {nnx.Linear: lambda call: call.args[0] + 1.0}
    run = seen.run("each layer adds 1 to its input", calls=hooks)
    norm, right = nnx.BatchNorm(x.shape[1], rngs=nnx.Rngs(0)), []
    for _ in range(depth):
        x = jnp.tanh(x + 1.0)
        right.append(norm(x))
    right = jnp.stack(right), norm.mean[...]
    for name, one, wanted in zip(("readings", "mean"), run.answer, right, strict=True):
        if not seen.close(one, wanted, atol=1e-3):
            return f"the {name} should follow what the layers return"
    return None


GRAPH = {"graph": True, "graph_updates": True}


def built(seed, depth, features, axis=0):
    """Return layers in one stack."""
    rngs, size = nnx.Rngs(seed), {"axis_size": depth}
    rngs, size = (rngs.split(depth), {}) if axis == 0 else (rngs, size)

    def build(rngs):
        return nnx.Linear(features, features, rngs=rngs)

    return nnx.vmap(build, in_axes=axis, **size)(rngs)


def new_norm(x, **options):
    return nnx.BatchNorm(x.shape[-1], **options, rngs=nnx.Rngs(0))


def carried(carry, layer):
    x, norm = carry
    x = jnp.tanh(layer(x))
    return (x, norm), norm(x)


def read(
    seed, depth, x, *, body=carried, layers=None, norm=None, reverse=False, axis=0
):
    """Return the answer, where an attempt may do one step in another way."""
    layers = layers or built(seed, depth, x.shape[-1], axis)
    carry = x, norm or new_norm(x)
    (_, norm), readings = nnx.scan(body, reverse=reverse)(carry, layers)
    return readings, norm.mean[...]


def at_axis(x, layers, norm, axis, **graph):
    def body(x, layer, norm):
        x = jnp.tanh(layer(x))
        return x, norm(x)

    axes = {"in_axes": (nnx.Carry, 0, axis), "out_axes": (nnx.Carry, 0)}
    _, readings = nnx.scan(body, **axes, **graph)(x, layers, norm)
    return readings, norm.mean[...]


def with_body(body):
    """Return an attempt that does in each layer what `body` does."""

    def attempt(seed, depth, x):
        return read(seed, depth, x, body=body)

    attempt.__name__ = body.__name__
    return attempt


def reading_carried_on(carry, layer):
    x, norm = carry
    reading = norm(jnp.tanh(layer(x)))
    return (reading, norm), reading


def input_for_each(carry, layer):
    x, norm = carry
    return (x, norm), norm(jnp.tanh(layer(x)))


def input_read(carry, layer):
    x, norm = carry
    reading = norm(x)
    return (jnp.tanh(layer(x)), norm), reading


def read_before_tanh(carry, layer):
    x, norm = carry
    x = layer(x)
    return (jnp.tanh(x), norm), norm(x)


def outputs_of_layers(x, layers):
    def body(x, layer):
        x = jnp.tanh(layer(x))
        return x, x

    return nnx.scan(body)(x, layers)[1]


def python_loop(seed, depth, x):
    layers, norm, readings = built(seed, depth, x.shape[-1]), new_norm(x), []
    for i in range(depth):
        x = jnp.tanh(jax.tree.map(lambda a, i=i: a[i], layers)(x))
        readings.append(norm(x))
    return jnp.stack(readings), norm.mean[...]


def norm_at_none(seed, depth, x):
    layers = built(seed, depth, x.shape[-1])
    return at_axis(x, layers, new_norm(x), None, **GRAPH)


def norm_for_each_layer(seed, depth, x):
    build = nnx.vmap(lambda _: new_norm(x))
    return at_axis(x, built(seed, depth, x.shape[-1]), build(jnp.arange(depth)), 0)


def one_key(seed, depth, x):
    return read(seed, depth, x, axis=None)


def last_layer_first(seed, depth, x):
    return read(seed, depth, x, reverse=True)


def norm_in_eval_mode(seed, depth, x):
    return read(seed, depth, x, norm=new_norm(x, use_running_average=True))


def outputs_in_one_call(seed, depth, x):
    norm = new_norm(x)
    readings = norm(outputs_of_layers(x, built(seed, depth, x.shape[-1])))
    return readings, norm.mean[...]


def seed_zero(seed, depth, x):
    return read(seed - seed, depth, x)


def two_features(seed, depth, x):
    return read(seed, depth, x, layers=built(seed, depth, 2))


def one_layer_squeezed(seed, depth, x):
    readings, mean = read(seed, depth, x)
    return jnp.squeeze(readings), mean


MISTAKES = {
    python_loop: "Let `nnx.scan` call the layer: a loop of Python repeats its code.",
    norm_at_none: (
        "At `None`, graph mode drops what the norm writes: put it into the carry."
    ),
    norm_for_each_layer: "One norm reads all layers: do not stack it.",
    one_key: "All layers are equal: split the streams before the `nnx.vmap`.",
    with_body(reading_carried_on): "The next layer gets the output, not the reading.",
    with_body(input_for_each): (
        "Each layer gets the output of the layer before: carry it on."
    ),
    with_body(input_read): "Read what comes out of a layer, not what goes in.",
    with_body(read_before_tanh): "`jnp.tanh` comes before the norm, too.",
    last_layer_first: "Go from the first layer to the last.",
    norm_in_eval_mode: "The shared norm is in train mode.",
    outputs_in_one_call: "The norm reads each layer by itself, not all in one batch.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    one_layer_squeezed: "One layer needs its axis, too: return three axes.",
    two_features: "The width of the layers is that of `x`, not always two.",
}


def as_state_axes(seed, depth, x):
    axes = nnx.StateAxes({nnx.BatchStat: nnx.Carry, ...: None})
    layers = built(seed, depth, x.shape[-1])
    return at_axis(x, layers, new_norm(x), axes, **GRAPH)


def by_lax_scan(seed, depth, x):
    carry = x, new_norm(x)
    (_, norm), readings = jax.lax.scan(carried, carry, built(seed, depth, x.shape[-1]))
    return readings, norm.mean[...]


def from_a_list(seed, depth, x):
    keys, parts = nnx.Rngs(seed).split(depth), []
    for i in range(depth):
        own = jax.tree.map(lambda a, i=i: a[i], keys)
        parts.append(nnx.Linear(x.shape[-1], x.shape[-1], rngs=own))
    layers = jax.tree.map(lambda *arrays: jnp.stack(arrays), *parts)
    return read(seed, depth, x, layers=layers)


def read_afterwards(seed, depth, x):
    norm = new_norm(x)
    outputs = outputs_of_layers(x, built(seed, depth, x.shape[-1]))
    readings = jnp.stack([norm(output) for output in outputs])
    return readings, norm.mean[...]


ALSO_RIGHT = [as_state_axes, by_lax_scan, from_a_list, read_afterwards]
