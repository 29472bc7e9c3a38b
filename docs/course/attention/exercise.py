"""The exercise of "Attention": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def attention(seed, x, heads):
    """Return the sums of a layer's output and of the formula's, in shape (2,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, length, features), float32.
      heads: number of heads, a divisor of features; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    layer = nnx.MultiHeadAttention(
        num_heads=int(heads),
        in_features=x.shape[-1],
        decode=False,
        rngs=nnx.Rngs(int(seed)),
    )
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    weights = jax.nn.softmax(scores, axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    return jnp.array([layer(x).sum(), layer.out(mixed).sum()])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    import numpy as np

    page = jnp.array([[[1.0, 2, 0, -1], [2, -1, 1, 0]]])
    for seed, x, heads in [(0.0, page, 2.0), (7.0, page, 2.0), *more]:
        answer, sizes = candidate(seed, x, heads), (int(heads), x.shape[-1])
        layer = nnx.MultiHeadAttention(*sizes, rngs=nnx.Rngs(int(seed)))
        parts = layer.query, layer.key, layer.value  # the biases are zero
        q, k, v = (np.einsum("blf,fhd->bhld", x, part.kernel[...]) for part in parts)
        weights = np.exp(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5)
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
        total = np.einsum("bhld,hdf->", mixed, layer.out.kernel[...])
        shaped = getattr(answer, "shape", None) == (2,)
        if shaped and np.allclose(answer, total, rtol=1e-4, atol=1e-4):
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {heads})"
        expected = f"{total:.4f}, twice, in an array of shape (2,)"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import flax.linen as nn
import numpy as np

HIDDEN = [(3.0, jnp.sin(jnp.arange(48.0)).reshape(2, 2, 12) + 0.5, 3.0)]


def idea(seen):
    """Return what right numbers lack: the layer's call, and a formula on its params."""
    layer, linen = nnx.MultiHeadAttention, nn.MultiHeadDotProductAttention
    size, half = seen.inputs[1].size, 50 * seen.inputs[1].size

    def trained(layer):
        for _, param in nnx.iter_graph(layer):
            if isinstance(param, nnx.Param):
                param[...] += np.cos(np.arange(param.size)).reshape(param.shape)

    def run(mark):  # where ready-made layers return more
        def marked(call):
            ready = type(call.module).__call__ in (layer.__call__, linen.__call__)
            return call.proceed() + mark * ready  # a subclass may hold the formula

        hooks = {"built": {layer: trained}, "calls": {layer: marked, linen: marked}}
        return *seen.run("the layer has other parameters", **hooks).answer, mark * size

    try:
        first, second, more = run(100)
    except seen.Finding:  # where the two sums are compared, they have to agree
        first, second, more = run(0)
    if second > half:
        what = "not from the formula" if first > half else "swap the two"
        return f"the second number comes from the call of a layer: {what}"
    if first < more - half:
        return "the first number does not come from a call of nnx.MultiHeadAttention"
    if not seen.close(first - more, second, atol=0.01):
        if seen.close(second, seen.answer[1]):
            return "the second number does not read the layer's parameters"
        return "with other kernels and biases in the layer, the two sums differ"


def new_layer(seed, x, heads, **options):
    """Return the module that the exercise asks for."""
    options = {"decode": False, "rngs": nnx.Rngs(int(seed)), **options}
    return nnx.MultiHeadAttention(int(heads), x.shape[-1], **options)


def projected(layer, x):
    """Return queries, keys and values, [batch, length, heads, head_dim]."""
    return layer.query(x), layer.key(x), layer.value(x)


def formula(layer, q, k, v, scale=None, axis=-1):
    """Return the sum by a variant of the formula."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (scale or layer.head_dim) ** 0.5
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis), v)
    return layer.out(mixed).sum()


def with_formula(seed, x, heads, **options):
    """Return the answer with a variant of the formula."""
    layer = new_layer(seed, x, heads)
    return jnp.array([layer(x).sum(), formula(layer, *projected(layer, x), **options)])


def scale_forgotten(*inputs):
    return with_formula(*inputs, scale=1)


def softmax_over_queries(*inputs):
    return with_formula(*inputs, axis=-2)


def heads_not_transposed(seed, x, heads):
    def split(part):  # [batch, heads, length, head_dim] by reshape alone
        b, n, h, d = part.shape
        return part.reshape(b, h, n, d).swapaxes(1, 2)

    layer = new_layer(seed, x, heads)
    return jnp.array([layer(x).sum(), formula(layer, *map(split, projected(layer, x)))])


def batch_mixed(seed, x, heads):
    layer, rows = new_layer(seed, x, heads), x.reshape(1, -1, x.shape[-1])
    second = formula(layer, *projected(layer, rows))
    return jnp.array([layer(x).sum(), second])


def decode_left_out(seed, x, heads):
    return new_layer(seed, x, heads, decode=None)(x)


def second_copied(seed, x, heads):
    return jnp.array([new_layer(seed, x, heads)(x).sum()] * 2)


def formula_with_assert(seed, x, heads):
    first, second = attention(seed, x, heads)
    assert jnp.allclose(first, second, atol=1e-4)
    return jnp.array([second, second])


def swapped(*inputs):
    return attention(*inputs)[::-1]


def kernels_drawn_again(seed, x, heads):
    rngs, features = nnx.Rngs(int(seed)), (int(heads), x.shape[-1] // int(heads))
    q, k, v = (nnx.LinearGeneral(x.shape[-1], features, rngs=rngs)(x) for _ in range(3))
    out = nnx.LinearGeneral(features, x.shape[-1], axis=(-2, -1), rngs=rngs)
    y = out(jax.nn.dot_product_attention(q, k, v))
    return jnp.array([new_layer(seed, x, heads)(x).sum(), y.sum()])


def biases_forgotten(seed, x, heads):
    layer = new_layer(seed, x, heads)
    parts = (layer.query, layer.key, layer.value)
    qkv = (jnp.einsum("blf,fhd->blhd", x, part.kernel[...]) for part in parts)
    return jnp.array([layer(x).sum(), formula(layer, *qkv)])


MISTAKES = {
    scale_forgotten: "Divide the scores by the root of head_dim.",
    softmax_over_queries: "Softmax goes over the keys, the last axis of the scores.",
    heads_not_transposed: "A reshape does not swap axes: transpose length and heads.",
    batch_mixed: "Each sequence of the batch looks at itself alone.",
    decode_left_out: "Say `decode=False` when you build the layer.",
    second_copied: "Compute the second number from query, key, value and out.",
    formula_with_assert: "Call the layer on x for the first number.",
    swapped: "The layer's sum comes first, the formula's second.",
    kernels_drawn_again: "Read the layer's kernels: new ones miss its training.",
    biases_forgotten: "Add the biases: they are zero only until you train.",
}


def mapped_with_error(seed, x, heads):
    layer = new_layer(seed, x, heads)
    first = jax.vmap(layer)(x).sum()
    second = layer.out(nnx.dot_product_attention(*projected(layer, x))).sum()
    if not jnp.allclose(first, second, atol=1e-4):
        raise ValueError("the sums differ")
    return jnp.array([first, second])


def jitted(seed, x, heads):
    @nnx.jit
    def both(layer, x):
        return jnp.array([layer(x).sum(), formula(layer, *projected(layer, x))])

    return both(new_layer(seed, x, heads), x)


def subclassed(seed, x, heads):
    class ByFormula(nnx.MultiHeadAttention):
        def __call__(self, x):
            return self.out(jax.nn.dot_product_attention(*projected(self, x)))

    mine = ByFormula(int(heads), x.shape[-1], rngs=nnx.Rngs(int(seed)))
    return jnp.array([new_layer(seed, x, heads)(x).sum(), mine(x).sum()])


ALSO_RIGHT = [mapped_with_error, jitted, subclassed]
