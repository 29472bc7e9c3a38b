"""The models whose calls are timed, each in NNX and in Linen."""

import re

import flax.linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict


# --8<-- [start:wide]
class Wide(nnx.Module):
    """Layers side by side, of two params each: much to pass, little to compute."""

    def __init__(self, count, *, rngs):
        self.layers = nnx.List(nnx.Linear(1, 1, rngs=rngs) for _ in range(count))

    def __call__(self, x):  # x[batch, 1]
        return sum(layer(x) for layer in self.layers)


class LinenWide(nn.Module):
    """The same in Linen."""

    count: int

    def setup(self):
        self.layers = [nn.Dense(1) for _ in range(self.count)]

    def __call__(self, x):  # x[batch, 1]
        return sum(layer(x) for layer in self.layers)


# --8<-- [end:wide]


class Block(nnx.Module):
    """A block of a transformer: attention, then two layers, each added to x."""

    def __init__(self, features, heads, *, rngs):
        self.norm = nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            heads, features, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(features, rngs=rngs)
        self.up = nnx.Linear(features, 4 * features, rngs=rngs)
        self.down = nnx.Linear(4 * features, features, rngs=rngs)

    def __call__(self, x):  # x[batch, length, features]
        x = x + self.attention(self.norm(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    """Blocks one after the other."""

    def __init__(self, count, features, heads, *, rngs):
        blocks = (Block(features, heads, rngs=rngs) for _ in range(count))
        self.blocks = nnx.List(blocks)

    def __call__(self, x):  # x[batch, length, features]
        for block in self.blocks:
            x = block(x)
        return x


class LinenBlock(nn.Module):
    """The same block in Linen."""

    features: int
    heads: int

    def setup(self):
        self.norm = nn.LayerNorm()
        self.attention = nn.MultiHeadDotProductAttention(self.heads)
        self.norm2 = nn.LayerNorm()
        self.up = nn.Dense(4 * self.features)
        self.down = nn.Dense(self.features)

    def __call__(self, x):  # x[batch, length, features]
        x = x + self.attention(self.norm(x))
        return x + self.down(nn.gelu(self.up(self.norm2(x))))


class LinenTransformer(nn.Module):
    """The same blocks in Linen."""

    count: int
    features: int
    heads: int

    def setup(self):
        blocks = (LinenBlock(self.features, self.heads) for _ in range(self.count))
        self.blocks = list(blocks)

    def __call__(self, x):  # x[batch, length, features]
        for block in self.blocks:
            x = block(x)
        return x


# --8<-- [start:params]
def linen_params(model):
    """Return the params of an NNX model as the dict that its Linen twin takes."""
    params = {}
    for path, value in flatten_dict(nnx.to_pure_dict(nnx.state(model))).items():
        name = "/".join(map(str, path))  # "layers/N/kernel"
        params[re.sub(r"/(\d+)", r"_\1", name)] = value  # "layers_N/kernel"
    return unflatten_dict(params, sep="/")


# --8<-- [end:params]
