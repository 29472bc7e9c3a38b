"""The exercise of "Bridge to Linen": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import bridge


# --8<-- [start:model]
class LinenBlock(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):  # x[batch, in_features]
        x = nn.Dense(self.features)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        # --8<-- [end:model]


# --8<-- [start:stub]
def adapted(variables, batches, x):
    """Return a block's output on x in eval mode, once it has seen new data.

    Args:
      variables: of a trained `LinenBlock`, as its `init` lays them out.
      batches: new data, shape (steps, batch, in_features), float32.
      x: inputs, shape (rows, in_features), float32.
    """
    # --8<-- [end:stub]
    features = variables["params"]["Dense_0"]["bias"].size
    rngs = nnx.Rngs(params=0, dropout=1)
    block = bridge.ToNNX(LinenBlock(features), rngs=rngs).lazy_init(x, train=False)
    nnx.update(block, variables["params"])
    nnx.update(block, variables["batch_stats"])
    for batch in batches:
        block(batch, train=True, mutable=["batch_stats"])
    return block(x, train=False)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows, page = jnp.array([[1.0, 2, 3], [0.5, -1, 0]]), []
    for seed in (0, 7):
        batches = 2 + jax.random.normal(jax.random.key(seed), (2, 3, 3))
        trained = LinenBlock(4).init(jax.random.key(seed + 1), rows, train=False)
        trained["batch_stats"]["BatchNorm_0"]["mean"] -= 1
        page.append((trained, batches, rows))
    for variables, batches, x in [*page, *more]:
        answer, now = candidate(variables, batches, x), variables
        block = LinenBlock(variables["params"]["Dense_0"]["bias"].size)
        given = {"rngs": {"dropout": jax.random.key(0)}, "mutable": ["batch_stats"]}
        for batch in batches:
            now = {**now, **block.apply(now, batch, train=True, **given)[1]}
        right = block.apply(now, x, train=False)
        same = getattr(answer, "shape", None) == right.shape
        if not same or not jnp.allclose(answer, right, atol=1e-4):
            said = f"expected: {jnp.array_str(right, 99, 2)}\n  got:      {answer}"
            return f"{candidate.__name__}(variables, batches, x)\n  {said}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.


def trained(features, in_features):
    """Return variables with numbers of no pattern."""
    shapes = LinenBlock(features).init(
        jax.random.key(0), jnp.ones((1, in_features)), train=False
    )
    return jax.tree.map(
        lambda a: 1 + jnp.sin(jnp.arange(a.size)).reshape(a.shape) / 2, shapes
    )


def data(steps, in_features):
    return jnp.cos(jnp.arange(steps * 3 * in_features)).reshape(steps, 3, in_features)


HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (trained(4, 3), data(3, 3), jnp.array([[1.0, 0, 2]])),  # three batches
    (trained(5, 2), data(2, 2), jnp.array([[1.0, 2], [0, 1]])),  # other sizes
]


def idea(seen):
    """Return what a right answer lacks: calls of the wrapper that move statistics."""

    def doubled(call):
        return 2 * call.proceed()

    found = seen.run(
        "Linen's norm returns twice as much", calls={nn.BatchNorm: doubled}
    )
    calls = found.calls_of(bridge.ToNNX)
    if not found.calls_of(nn.BatchNorm):
        return "no norm of Linen is called"
    if not calls:
        return "no bridge.ToNNX is called"
    moved = [
        call
        for call in calls
        if call.before.of(nnx.BatchStat)
        and not call.before.same(call.after, nnx.BatchStat)
    ]
    if len(moved) < len(seen.inputs[1]):
        return f"calls of the wrapper move its statistics {len(moved)} times"
    if not seen.close(found.answer, 2 * seen.answer):
        return "the answer does not follow what the Linen block returns"


def wrapped(variables, x, rngs=None):
    features = variables["params"]["Dense_0"]["bias"].size
    rngs = rngs or nnx.Rngs(0)
    return bridge.ToNNX(LinenBlock(features), rngs=rngs).lazy_init(x, train=False)


def filled(variables, x):
    block = wrapped(variables, x)
    nnx.update(block, variables["params"])
    nnx.update(block, variables["batch_stats"])
    return block


def step(block, batch):
    block(batch, train=True, mutable=["batch_stats"])


def run(block, batches, x):
    for batch in batches:
        step(block, batch)
    return block(x, train=False)


def without_new_data(variables, batches, x):
    return filled(variables, x)(x, train=False)


def fresh_weights(variables, batches, x):
    return run(wrapped(variables, x), batches, x)


def params_alone(variables, batches, x):
    block = wrapped(variables, x)
    nnx.update(block, variables["params"])
    return run(block, batches, x)


def whole_dict(variables, batches, x):
    block = wrapped(variables, x)
    nnx.update(block, variables)
    return run(block, batches, x)


def no_lazy_init(variables, batches, x):
    features = variables["params"]["Dense_0"]["bias"].size
    block = bridge.ToNNX(LinenBlock(features), rngs=nnx.Rngs(0))
    return run(block, batches, x)


def collection_not_named(variables, batches, x):
    block = filled(variables, x)
    for batch in batches:
        block(batch, train=True)
    return block(x, train=False)


def train_mode_at_the_end(variables, batches, x):
    block = filled(variables, x)
    run(block, batches, x)
    return block(x, train=True, mutable=["batch_stats"])


def all_rows_at_once(variables, batches, x):
    return run(filled(variables, x), batches.reshape(1, -1, x.shape[-1]), x)


def last_batch_alone(variables, batches, x):
    return run(filled(variables, x), batches[-1:], x)


def backwards(variables, batches, x):
    return run(filled(variables, x), batches[::-1], x)


def two_batches(variables, batches, x):
    return run(filled(variables, x), batches[:2], x)


def x_seen_too(variables, batches, x):
    block = filled(variables, x)
    run(block, batches, x)
    step(block, x)
    return block(x, train=False)


def four_features(variables, batches, x):
    block = bridge.ToNNX(LinenBlock(4), rngs=nnx.Rngs(0)).lazy_init(x, train=False)
    nnx.update(block, variables["params"])
    nnx.update(block, variables["batch_stats"])
    return run(block, batches, x)[:, :4]


def by_linen(variables, batches, x):
    block, old = LinenBlock(variables["params"]["Dense_0"]["bias"].size), variables
    for batch in batches:
        keys = {"dropout": jax.random.key(0)}
        _, new = block.apply(old, batch, True, rngs=keys, mutable=["batch_stats"])
        old = {**old, **new}
    return block.apply(old, x, train=False)


def wrapped_at_the_end(variables, batches, x):
    block, old = LinenBlock(variables["params"]["Dense_0"]["bias"].size), variables
    for batch in batches:
        keys = {"dropout": jax.random.key(0)}
        _, new = block.apply(old, batch, True, rngs=keys, mutable=["batch_stats"])
        old = {**old, **new}
    return filled(old, x)(x, train=False)


def rewritten(variables, batches, x):
    in_features, features = variables["params"]["Dense_0"]["kernel"].shape
    linear = nnx.Linear(in_features, features, rngs=nnx.Rngs(0))
    norm = nnx.BatchNorm(features, momentum=0.5, rngs=nnx.Rngs(0))
    nnx.update(linear, variables["params"]["Dense_0"])
    nnx.update(norm, variables["params"]["BatchNorm_0"])
    nnx.update(norm, variables["batch_stats"]["BatchNorm_0"])
    for batch in batches:
        norm(linear(batch))
    return nnx.relu(nnx.view(norm, use_running_average=True)(linear(x)))


MISTAKES = {
    without_new_data: "No statistic has moved: pass each batch with `train=True`.",
    fresh_weights: "Write the trained variables into the wrapper, after `lazy_init`.",
    params_alone: "The trained statistics belong to the block too: write both.",
    whole_dict: "The wrapper has no collections: write each collection by itself.",
    no_lazy_init: "Without `lazy_init` the wrapper has no variables to call or fill.",
    collection_not_named: 'Name what may change: `mutable=["batch_stats"]`.',
    train_mode_at_the_end: "The output on x is asked for in eval mode.",
    all_rows_at_once: "One call for each batch: the average moves at each.",
    last_batch_alone: "All batches count, not the last alone.",
    backwards: "Take the batches in their order.",
    two_batches: "There may be any number of batches.",
    x_seen_too: "x is only looked at: do not let it move the statistics.",
    four_features: "Read the number of features from the variables.",
    by_linen: "Wrap the block in `bridge.ToNNX`, and call the wrapper.",
    wrapped_at_the_end: "Let the wrapper see the batches, too, not x alone.",
    rewritten: "Do not port the block: wrap it as it is.",
}


def all_mutable(variables, batches, x):
    block = filled(variables, x)
    for batch in batches:
        block(batch, train=True, mutable=True)
    return block(x, train=False)


class Model(nnx.Module):
    def __init__(self, features, *, rngs: nnx.Rngs):
        self.block = bridge.ToNNX(LinenBlock(features))
        self.rngs = rngs

    def __call__(self, x, train):
        mutable = ["batch_stats"] if train else False
        return self.block(x, train=train, rngs=self.rngs, mutable=mutable)


def inside_a_module(variables, batches, x):
    features = variables["params"]["Dense_0"]["bias"].size
    model = Model(features, rngs=nnx.Rngs(3))
    bridge.lazy_init(model, x, train=False)
    nnx.update(model, {"block": variables["params"]})
    nnx.update(model, {"block": variables["batch_stats"]})
    for batch in batches:
        model(batch, train=True)
    return model(x, train=False)


def by_attributes(variables, batches, x):
    block = wrapped(variables, x)
    for collection in variables.values():
        for layer, arrays in collection.items():
            for name, array in arrays.items():
                getattr(block, layer)[name][...] = array
    return run(block, batches, x)


def compiled(variables, batches, x):
    @nnx.jit(graph=True, graph_updates=True)
    def jitted(block, batch):
        block(batch, train=True, mutable=["batch_stats"])

    block = filled(variables, x)
    for batch in batches:
        jitted(block, batch)
    return block(x, train=False)


ALSO_RIGHT = [all_mutable, inside_a_module, by_attributes, compiled]
