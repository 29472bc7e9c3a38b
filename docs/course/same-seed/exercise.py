"""The exercise of "Same seed": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:keys]
import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


def linen_key(key, *path):
    """Return the random key that Linen makes at a place of a model.

    Args:
      key: the key of the stream, as `init` or `apply` got it.
      path: names of the modules, from the outside in; then the count, from 1.
    """
    digest = hashlib.sha1()
    for part in path:
        if isinstance(part, int):
            part = part.to_bytes((part.bit_length() + 7) // 8, "big")
        else:
            part = part.encode()
        digest.update(part)
    return jax.random.fold_in(key, int.from_bytes(digest.digest()[:4], "big"))


class LinenKeys:
    """Gives a layer of NNX the keys that Linen's layer at a path would get."""

    def __init__(self, key, *path):
        self.key, self.path, self.count = key, path, 0

    def params(self):
        self.count += 1
        return linen_key(self.key, *self.path, self.count)
        # --8<-- [end:keys]


# --8<-- [start:model]
class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, train):  # x[batch, features]
        kept = nn.Dropout(0.5, deterministic=not train)(x)
        return x + nn.Dense(x.shape[-1])(kept)


class LinenStack(nn.Module):
    depth: int

    @nn.compact
    def __call__(self, x, train=False):
        for _ in range(self.depth):
            x = LinenBlock()(x, train)
        return nn.Dense(1, name="head")(x)
        # --8<-- [end:model]


# --8<-- [start:stub]
def train_output(seed, depth, x):
    """Return what a new `LinenStack` makes of x in train mode, shape (batch, 1).

    Its `init` gets the key of `seed`, and the stream `dropout` of its `apply` the key
    of `seed + 1`.

    Args:
      seed: an integer.
      depth: number of blocks.
      x: inputs, shape (batch, features), float32.
    """
    # --8<-- [end:stub]
    key, features = jax.random.key(seed), x.shape[-1]
    masks, dropout = jax.random.key(seed + 1), nnx.Dropout(0.5)
    for i in range(depth):
        block = f"LinenBlock_{i}"
        linear = nnx.Linear(features, features, rngs=LinenKeys(key, block, "Dense_0"))
        x = x + linear(dropout(x, rngs=linen_key(masks, block, "Dropout_0", 1)))
    return nnx.Linear(features, 1, rngs=LinenKeys(key, "head"))(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    first, second = jnp.array([[1.0, 2, 3], [0.5, -1, 0]]), jnp.array([[3.0, 1, -2]])
    for seed, depth, x in [(0, 2, first), (7, 2, second), *more]:
        answer, model = candidate(seed, depth, x), LinenStack(depth)
        variables = model.init(jax.random.key(seed), x)
        keys = {"dropout": jax.random.key(seed + 1)}
        right = model.apply(variables, x, train=True, rngs=keys)
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = jnp.array_str(right, precision=3)
        else:
            continue
        call = f"{candidate.__name__}({seed}, {depth}, jnp.array({x.tolist()}))"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import flax.core.scope

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3, 3, jnp.array([[1.0, 0.5, 2], [2, -1, 1]])),  # three blocks
    (5, 2, jnp.array([[1.0, -1, 2, 0.5, 3]])),  # five features
]


def idea(seen):
    """Return what right numbers lack: layers of NNX that get rebuilt keys."""
    if seen.run().calls_of(nn.Module):
        return "a module of Linen is called"

    def doubled(call):
        return 2 * call.proceed()

    for kind in (nnx.Linear, nnx.Dropout):
        what = f"nnx.{kind.__name__}"
        run = seen.run(f"{what} returns twice as much", calls={kind: doubled})
        if seen.close(run.answer, seen.answer):
            return f"the answer does not follow what {what} returns"


def forward(seed, depth, x, rngs_at, mask_at, head="head"):
    """Return the output of layers that get their keys from two functions."""
    features, dropout = x.shape[-1], nnx.Dropout(0.5)
    for i in range(depth):
        linear = nnx.Linear(
            features, features, rngs=rngs_at(f"LinenBlock_{i}", "Dense_0")
        )
        x = x + linear(dropout(x, rngs=mask_at(i, f"LinenBlock_{i}", "Dropout_0")))
    return nnx.Linear(features, 1, rngs=rngs_at(head))(x)


def weights_of(seed):
    return lambda *path: LinenKeys(jax.random.key(seed), *path)


def masks_of(seed):
    return lambda i, *path: linen_key(jax.random.key(seed), *path, 1)


def variant(name, *, rngs_at=None, mask_at=None, head="head", masks=1):
    """Return an attempt that takes other keys: each is a function of the seed."""

    def attempt(seed, depth, x):
        weights = (rngs_at or weights_of)(seed)
        return forward(
            seed, depth, x, weights, (mask_at or masks_of)(seed + masks), head
        )

    attempt.__name__ = name
    return attempt


class Counted(LinenKeys):
    """Keys that are counted from another number."""

    def __init__(self, start, key, *path):
        super().__init__(key, *path)
        self.count = start


def one_stream(seed):
    rngs = nnx.Rngs(seed)
    return lambda *path: rngs


def from_zero(seed):
    return lambda *path: Counted(-1, jax.random.key(seed), *path)


def counted_through(seed):
    keys, counts = jax.random.key(seed), iter(range(0, 99, 2))
    return lambda *path: Counted(next(counts), keys, *path)


def without_blocks(seed):
    return lambda *path: LinenKeys(jax.random.key(seed), path[-1])


def joined(seed):
    return lambda *path: LinenKeys(jax.random.key(seed), "/".join(path))


def numbered_layers(seed):
    def rngs_at(*path):
        number = path[0].removeprefix("LinenBlock_")
        named = path[0] == "head"
        return LinenKeys(
            jax.random.key(seed), *(path if named else (path[0], f"Dense_{number}"))
        )

    return rngs_at


def masks_from_stream(seed):
    rngs = nnx.Rngs(dropout=seed)
    return lambda i, *path: rngs


def one_mask(seed):
    return lambda i, *path: linen_key(jax.random.key(seed), "Dropout_0", 1)


def bare_key(seed):
    return lambda i, *path: jax.random.key(seed)


def masks_counted(seed):
    return lambda i, *path: linen_key(jax.random.key(seed), *path, i + 1)


def masks_without_count(seed):
    return lambda i, *path: linen_key(jax.random.key(seed), *path)


def masks_numbered(seed):
    return lambda i, *path: linen_key(jax.random.key(seed), path[0], f"Dropout_{i}", 1)


def eval_mode(seed, depth, x):
    model = LinenStack(depth)
    return model.apply(model.init(jax.random.key(seed), x), x)


def two_blocks(seed, depth, x):
    return train_output(seed, 2, x)


def three_features(seed, depth, x):
    return train_output(seed, depth, x[:, :3])


def by_linen(seed, depth, x):
    model, keys = LinenStack(depth), {"dropout": jax.random.key(seed + 1)}
    variables = model.init(jax.random.key(seed), x)
    return model.apply(variables, x, train=True, rngs=keys)


def masks_by_hand(seed, depth, x):
    key, features = jax.random.key(seed), x.shape[-1]
    for i in range(depth):
        block = f"LinenBlock_{i}"
        mask = linen_key(jax.random.key(seed + 1), block, "Dropout_0", 1)
        kept = jnp.where(jax.random.bernoulli(mask, 0.5, x.shape), 2 * x, 0)
        rngs = LinenKeys(key, block, "Dense_0")
        x = x + nnx.Linear(features, features, rngs=rngs)(kept)
    return nnx.Linear(features, 1, rngs=LinenKeys(key, "head"))(x)


MISTAKES = {
    variant("one_stream", rngs_at=one_stream): "A seed alone gives NNX's weights.",
    variant("from_zero", rngs_at=from_zero): "The count of a module begins at 1.",
    variant("counted_through", rngs_at=counted_through): (
        "Each module counts for itself, from 1."
    ),
    variant("without_blocks", rngs_at=without_blocks): (
        "The path of a kernel begins with its block: `LinenBlock_0`."
    ),
    variant(
        "joined", rngs_at=joined
    ): "Names are hashed one after the other, without a slash.",
    variant("numbered_layers", rngs_at=numbered_layers): (
        "Each block numbers its own layers: all are `Dense_0`."
    ),
    variant("unnamed_head", head="Dense_0"): "The last layer has a name: `head`.",
    variant("masks_from_stream", mask_at=masks_from_stream): (
        "A stream of NNX knows no path: rebuild the key of each mask."
    ),
    variant(
        "one_mask", mask_at=one_mask
    ): "Each block has a path, and so a mask of its own.",
    variant(
        "bare_key", mask_at=bare_key
    ): "Linen folds path and count into the key of a mask.",
    variant("masks_counted", mask_at=masks_counted): (
        "Each dropout draws once, so its count is 1 in every block."
    ),
    variant("masks_without_count", mask_at=masks_without_count): (
        "The count follows the path of a mask too."
    ),
    variant("masks_numbered", mask_at=masks_numbered): (
        "Each block has one dropout, and it is `Dropout_0`."
    ),
    variant(
        "masks_of_seed", masks=0
    ): "The stream `dropout` has the key of `seed + 1`.",
    eval_mode: "This is eval mode: dropout has to drop.",
    two_blocks: "There are `depth` blocks.",
    three_features: "The last axis of x tells the number of features.",
    by_linen: "Do without Linen: build the layers of NNX from rebuilt keys.",
    masks_by_hand: "Let `nnx.Dropout` drop: it takes the rebuilt key as `rngs=`.",
}


def lazy_rng(seed, depth, x):
    def rebuilt(key, *path):
        return flax.core.scope.LazyRng.create(key, *path).as_jax_rng()

    class Keys:
        def __init__(self, seed, *path):
            self.key, self.counts = jax.random.key(seed), iter(range(1, 9))
            self.path = path

        def params(self):
            return rebuilt(self.key, *self.path, next(self.counts))

    masks = jax.random.key(seed + 1)
    return forward(
        seed,
        depth,
        x,
        lambda *path: Keys(seed, *path),
        lambda i, *path: rebuilt(masks, *path, 1),
    )


class Block(nnx.Module):
    def __init__(self, features, *, rngs: nnx.Rngs):
        self.dropout = nnx.Dropout(0.5)
        self.linear = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, x, rngs=None):
        return x + self.linear(self.dropout(x, rngs=rngs))


class Stack(nnx.Module):
    def __init__(self, depth, features, *, rngs: nnx.Rngs):
        self.blocks = nnx.List([Block(features, rngs=rngs) for _ in range(depth)])
        self.head = nnx.Linear(features, 1, rngs=rngs)

    def __call__(self, x, keys):
        for block, key in zip(self.blocks, keys, strict=True):
            x = block(x, rngs=key)
        return self.head(x)


def written_kernels(seed, depth, x):
    model, key = Stack(depth, x.shape[-1], rngs=nnx.Rngs(0)), jax.random.key(seed)
    layers = {
        (f"LinenBlock_{i}", "Dense_0"): b.linear for i, b in enumerate(model.blocks)
    }
    for path, layer in {**layers, ("head",): model.head}.items():
        init = nnx.initializers.lecun_normal()
        layer.kernel[...] = init(linen_key(key, *path, 1), layer.kernel.shape)
    key = jax.random.key(seed + 1)
    masks = [linen_key(key, f"LinenBlock_{i}", "Dropout_0", 1) for i in range(depth)]
    return model(x, masks)


def compiled(seed, depth, x):
    model = Stack(depth, x.shape[-1], rngs=nnx.Rngs(0))
    for i, block in enumerate(model.blocks):
        rngs = LinenKeys(jax.random.key(seed), f"LinenBlock_{i}", "Dense_0")
        block.linear = nnx.Linear(x.shape[-1], x.shape[-1], rngs=rngs)
    rngs = LinenKeys(jax.random.key(seed), "head")
    model.head = nnx.Linear(x.shape[-1], 1, rngs=rngs)
    masks = masks_of(seed + 1)
    keys = [masks(i, f"LinenBlock_{i}", "Dropout_0") for i in range(depth)]
    return jax.jit(lambda model, x, keys: model(x, keys))(model, x, keys)


ALSO_RIGHT = [lazy_rng, written_kernels, compiled]
