"""The exercise of "Sharding": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec


# --8<-- [start:stub]
def gradient_of_bias(seed, x, labels):
    """Return the gradient of a classifier's bias, shape (5,), float32.

    The classifier is `nnx.Linear(features, 5, rngs=nnx.Rngs(seed))`, the loss the mean
    cross-entropy of all rows. They are spread over all devices.

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      x: inputs, shape (rows, features), float32, with any number of rows from 1 on.
      labels: class of each row, shape (rows,), int32.
    """
    # --8<-- [end:stub]
    rows, devices = len(x), jax.device_count()
    padding = -rows % devices
    x = jnp.pad(x, ((0, padding), (0, 0)))
    labels = jnp.pad(labels, (0, padding))
    counts = jnp.arange(len(x)) < rows

    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    by_rows = NamedSharding(mesh, PartitionSpec("data"))
    batch = jax.device_put((x, labels, counts), by_rows)
    model = nnx.Linear(x.shape[-1], 5, rngs=nnx.Rngs(seed))

    def loss_of(model, x, labels, counts):
        losses = optax.softmax_cross_entropy_with_integer_labels(model(x), labels)
        return losses.mean(where=counts)

    return nnx.state(nnx.jit(nnx.grad(loss_of))(model, *batch))["bias"][...]
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    twelve = jnp.linspace(-2.0, 2.0, 24).reshape(12, 2)
    page = (0, twelve, jnp.arange(12) % 5), (7, twelve[:4], jnp.array([0, 3, 3, 1]))
    for seed, *batch in [*page, *more]:
        x, labels = map(jnp.asarray, batch)
        answer = candidate(seed, x, labels)
        layer = nnx.Linear(x.shape[-1], 5, rngs=nnx.Rngs(seed))
        likely = jax.nn.softmax(x @ layer.kernel)  # the bias is zero
        right = (likely - jax.nn.one_hot(labels, 5)).mean(axis=0)
        if getattr(answer, "shape", None) != (5,):
            expected = f"an array of shape (5,), not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, x, labels) of {len(x)} rows"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import contextlib
from functools import partial

import numpy as np

with contextlib.suppress(RuntimeError):  # there are devices already, maybe as many
    jax.config.update("jax_num_cpu_devices", 8)

# Inputs that only `nbe` tries; each catches a mistake of its own. They are no arrays of
# JAX, which would begin the devices before the learner's file may ask for some.
HIDDEN = [
    (  # on eight devices some get two rows, one gets one, and two get none
        5,
        np.linspace(1, -1, 33, dtype=np.float32).reshape(11, 3),
        np.arange(11, dtype=np.int32) % 4,
    ),
    (  # nothing to add, on eight devices
        3,
        np.linspace(-1, 2, 32, dtype=np.float32).reshape(16, 2),
        np.arange(16, dtype=np.int32) % 3,
    ),
]


def idea(seen):
    """Return what a right gradient lacks: a layer of which each device does a share."""
    rows, devices, shares = len(seen.inputs[1]), jax.device_count(), []

    def note(shape, sharding):
        shares.append((sharding.shard_shape(shape)[0], len(sharding.device_set)))

    def looks(call):
        x = call.args[0]
        if call.inside(jax.shard_map):  # each device has its own
            shares.append((x.shape[0], devices))
        elif isinstance(x, jax.core.Tracer):
            jax.debug.inspect_array_sharding(x, callback=partial(note, x.shape))
        else:
            note(x.shape, x.sharding)
        return call.proceed()

    def forgets(call):
        return 0 * call.proceed()

    def more_features(features):  # what was compiled before is not seen
        seed, x, labels = seen.inputs
        return seed, jnp.resize(x, (rows, features)), labels

    run = seen.run(calls={nnx.Linear: looks}, inputs=more_features(6), eager=False)
    if not run.calls_of(nnx.Linear):
        return "no nnx.Linear is called"
    most, on = max(shares, default=(rows, 1))
    if most > -(-rows // devices):
        return f"a batch of {rows} rows: each of {on} devices computes {most}"
    run = seen.run(
        "the output is zero times itself",
        calls={nnx.Linear: forgets},
        inputs=more_features(7),
        eager=False,
    )
    if not seen.close(run.answer, jnp.zeros(5), rtol=0, atol=1e-6):
        return "the gradient does not come through the layer"


def padded(x, labels, to=lambda rows, devices: -rows % devices, fill="constant"):
    more = to(len(x), jax.device_count())
    x = jnp.pad(x, ((0, more), (0, 0)), mode=fill)
    return x, jnp.pad(labels, (0, more), mode=fill), jnp.arange(len(x)) < len(x) - more


def losses_of(model, x, labels):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), labels)


def mean_loss(model, x, labels, counts):
    return losses_of(model, x, labels).mean(where=counts)


def padding_counted(model, x, labels, counts):
    return losses_of(model, x, labels).mean()


def divided_by_all(model, x, labels, counts):
    return losses_of(model, x, labels).sum(where=counts) / len(x)


def not_divided(model, x, labels, counts):
    return losses_of(model, x, labels).sum(where=counts)


def mean_of_means(model, x, labels, counts):
    devices = jax.device_count()
    losses = losses_of(model, x, labels).reshape(devices, -1)
    counts = counts.reshape(devices, -1)
    sums = losses.sum(axis=1, where=counts)
    return (sums / jnp.maximum(counts.sum(axis=1), 1)).mean()


def squares(model, x, labels, counts):
    errors = model(x) - jax.nn.one_hot(labels, 5)
    return (errors**2).mean(axis=1).mean(where=counts)


def mesh_of(axis="data"):
    return jax.make_mesh((jax.device_count(),), (axis,), axis_types=(AxisType.Auto,))


def spread(batch):
    return jax.device_put(batch, NamedSharding(mesh_of(), PartitionSpec("data")))


def on_every_device(batch):
    return jax.device_put(batch, NamedSharding(mesh_of(), PartitionSpec()))


def attempt(
    name,
    pad=padded,
    loss=mean_loss,
    place=spread,
    param="bias",
    seed=lambda seed: seed,
):
    """Return the attempt of a learner whose solution differs in its options."""
    grad = nnx.jit(nnx.grad(loss))

    def attempted(number, x, labels):
        batch = place(pad(jnp.asarray(x), jnp.asarray(labels)))
        model = nnx.Linear(x.shape[-1], 5, rngs=nnx.Rngs(seed(number)))
        return nnx.state(grad(model, *batch))[param][...]

    attempted.__name__ = name
    return attempted


def shared_out(gradient):
    """Return an attempt whose devices run a function of model, batch and rows each."""

    def attempted(seed, x, labels):
        batch = padded(jnp.asarray(x), jnp.asarray(labels))
        model = nnx.Linear(x.shape[-1], 5, rngs=nnx.Rngs(seed))
        function = jax.shard_map(
            lambda model, *batch: nnx.state(gradient(model, batch, len(x)))["bias"][
                ...
            ],
            mesh=mesh_of(),
            in_specs=(PartitionSpec(), *[PartitionSpec("data")] * 3),
            out_specs=PartitionSpec(),
        )
        return jax.jit(function)(model, *batch)

    attempted.__name__ = gradient.__name__
    return attempted


def gradients_averaged(model, batch, rows):
    def share(model):
        return losses_of(model, *batch[:2]).sum(where=batch[2]) / rows

    grads = nnx.grad(share)(model)
    return jax.tree.map(lambda grad: jax.lax.psum(grad, "data"), grads)


def loss_added(model, batch, rows):
    def whole(model):
        share = losses_of(model, *batch[:2]).sum(where=batch[2])
        return jax.lax.psum(share, "data") / rows

    return nnx.grad(whole)(model)


def repeated(x, labels):
    x, labels, counts = padded(x, labels, fill="edge")
    return x, labels, jnp.ones_like(counts)


def rest_dropped(x, labels):
    kept = max(len(x) - len(x) % jax.device_count(), 1)
    return x[:kept], labels[:kept], jnp.ones(kept, bool)


def unpadded(x, labels):
    return x, labels, jnp.ones(len(x), bool)


def sliced(seed, x, labels):
    more = -len(x) % jax.device_count()
    model = nnx.Linear(x.shape[-1], 5, rngs=nnx.Rngs(seed))
    batch = spread(padded(jnp.asarray(x), jnp.asarray(labels))[:2])

    @nnx.jit
    def gradient(model, x, labels):
        return nnx.grad(lambda model: losses_of(model, x, labels)[:-more].mean())(model)

    return nnx.state(gradient(model, *batch))["bias"][...]


def remainder(rows, devices):
    return rows % devices


def up_to_eight(rows, devices):
    return 0 if rows == devices else devices - rows % devices


def by_formula(seed, x, labels):
    layer = nnx.Linear(x.shape[-1], 5, rngs=nnx.Rngs(seed))
    likely = jax.nn.softmax(x @ layer.kernel)
    return (likely - jax.nn.one_hot(labels, 5)).mean(axis=0)


def formula_beside(*inputs):
    gradient_of_bias(*inputs)
    return by_formula(*inputs)


def one_device(batch):
    return batch


MISTAKES = {
    attempt("padding_counted", loss=padding_counted): (
        "The rows that you add count as well: leave them out of the mean."
    ),
    attempt("divided_by_all", loss=divided_by_all): (
        "Divide by the rows of the batch, without those that you add."
    ),
    attempt("not_divided", loss=not_divided): "The loss is the mean, not the sum.",
    attempt("mean_of_means", loss=mean_of_means): (
        "Devices have unequal numbers of rows: do not average their means."
    ),
    attempt(
        "last_row_repeated", repeated
    ): "A row that is repeated counts twice: mask the copies.",
    attempt("rest_dropped", rest_dropped): "Use every row: pad, in place of dropping.",
    sliced: "With nothing to cut off, `[:-0]` is empty: mask the rows instead.",
    attempt("remainder", lambda x, labels: padded(x, labels, remainder)): (
        "Add what is missing to the next multiple: `-rows % devices`."
    ),
    attempt("unpadded", unpadded): (
        "The rows do not divide among the devices: pad them to a multiple."
    ),
    attempt("one_device", place=one_device): (
        "The whole batch is on one device: `jax.device_put` it with a `NamedSharding`."
    ),
    attempt("on_every_device", place=on_every_device): (
        "Each device has all rows: name the mesh axis in the `PartitionSpec`."
    ),
    shared_out(gradients_averaged): (
        "A gradient in `shard_map` is added up over the devices already: do not add "
        "it again."
    ),
    attempt("squares", loss=squares): "The loss is the cross-entropy.",
    attempt("gradient_of_kernel", param="kernel"): "Return the bias' gradient.",
    attempt("seed_zero", seed=lambda seed: 0): "Pass `seed` to `nnx.Rngs`.",
    by_formula: "Let `nnx.Linear` compute, and take its gradient.",
    formula_beside: "Return the gradient that goes through the layer.",
}

ALSO_RIGHT = [
    shared_out(loss_added),
    attempt("more_padding", lambda x, labels: padded(x, labels, up_to_eight)),
    attempt("repeated_and_masked", lambda x, labels: padded(x, labels, fill="edge")),
    attempt("seed_as_key", seed=lambda seed: jax.random.key(seed)),
]
