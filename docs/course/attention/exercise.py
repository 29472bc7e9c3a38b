"""The exercise of "Attention": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def attention(x, heads, fused, fused_bias, out):
    """Return what `nnx.MultiHeadAttention` makes of x, with another library's weights.

    Args:
      x: input, shape (batch, length, features), float32.
      heads: number of heads, a divisor of features.
      fused: kernels of query, key and value, one below the other; each gives
        `x @ kernel.T`, head after head. Shape (3 * features, features).
      fused_bias: their biases, shape (3 * features,).
      out: kernel of the output, which gives `joined_heads @ out.T`, without a bias.
        Shape (features, features).
    """
    # --8<-- [end:stub]
    features = x.shape[-1]
    layer = nnx.MultiHeadAttention(
        num_heads=heads, in_features=features, decode=False, rngs=nnx.Rngs(0)
    )
    kernels, biases = jnp.split(fused, 3), jnp.split(fused_bias, 3)
    parts = layer.query, layer.key, layer.value
    for part, kernel, bias in zip(parts, kernels, biases, strict=True):
        part.kernel[...] = kernel.T.reshape(features, heads, -1)
        part.bias[...] = bias.reshape(heads, -1)
    layer.out.kernel[...] = out.T.reshape(heads, -1, features)
    return layer(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page, shapes = [], ((1, 2, 4), (12, 4), (12,), (4, 4))
    for seed in (0, 7):
        keys = jax.random.split(jax.random.key(seed), 4)
        x, *weights = map(jax.random.normal, keys, shapes)
        page.append((x, 2, *weights))
    for x, heads, fused, fused_bias, out in [*page, *more]:
        answer = candidate(x, heads, fused, fused_bias, out)
        qkv = jnp.split(x @ fused.T + fused_bias, 3, axis=-1)
        q, k, v = (y.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2) for y in qkv)
        weights = jax.nn.softmax(q @ k.mT / q.shape[-1] ** 0.5)
        expected = (weights @ v).swapaxes(1, 2).reshape(x.shape) @ out.T
        shaped = getattr(answer, "shape", None) == x.shape
        if shaped and jnp.allclose(answer, expected, rtol=1e-4, atol=1e-4):
            continue
        call = f"{candidate.__name__}(x, {heads}, fused, fused_bias, out)"
        return f"{call}\n  expected: {expected.round(4)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # an input that only `nbe` tries
    (
        jnp.sin(jnp.arange(36.0)).reshape(2, 3, 6),
        3,
        jnp.cos(jnp.arange(108.0)).reshape(18, 6),
        jnp.sin(jnp.arange(18.0)),
        jnp.cos(jnp.arange(36.0)).reshape(6, 6) + 0.5,
    )
]


def idea(seen):
    """Return what right numbers lack: the call of the layer itself."""

    def more(call):
        return call.proceed() + 100

    hooks = {nnx.MultiHeadAttention: more}
    try:
        run, shift = seen.run("the layer returns more", calls=hooks), 100
    except seen.Finding:  # where numbers are compared, they have to be right
        run, shift = seen.run(), 0
    if not run.calls_of(nnx.MultiHeadAttention):
        return "no nnx.MultiHeadAttention is called: load the weights into one"
    if not seen.close(run.answer, seen.answer + shift):
        return "the answer is not what nnx.MultiHeadAttention returns"


def new_layer(x, heads, **options):
    """Return the layer, before it has the weights."""
    options = {"decode": False, "rngs": nnx.Rngs(0), **options}
    return nnx.MultiHeadAttention(heads, x.shape[-1], **options)


def loaded(x, heads, fused, fused_bias, out, order=(0, 1, 2), **options):
    """Return the layer with its weights, query, key and value in some order."""
    layer, size = new_layer(x, heads, **options), x.shape[-1]
    kernels, biases = jnp.split(fused, 3), jnp.split(fused_bias, 3)
    for place, name in zip(order, ("query", "key", "value"), strict=True):
        part = getattr(layer, name)
        part.kernel[...] = kernels[place].T.reshape(size, heads, -1)
        part.bias[...] = biases[place].reshape(heads, -1)
    layer.out.kernel[...] = out.T.reshape(heads, -1, size)
    return layer


def not_transposed(x, heads, fused, fused_bias, out):
    kernels = [kernel.T for kernel in jnp.split(fused, 3)]
    return attention(x, heads, jnp.concatenate(kernels), fused_bias, out)


def out_not_transposed(x, heads, fused, fused_bias, out):
    return attention(x, heads, fused, fused_bias, out.T)


def out_left_random(x, heads, *weights):
    layer = loaded(x, heads, *weights)
    layer.out.kernel[...] = new_layer(x, heads).out.kernel[...]
    return layer(x)


def heads_last(x, heads, fused, fused_bias, out):
    layer, size = loaded(x, heads, fused, fused_bias, out), x.shape[-1]
    for name, kernel in zip(
        ("query", "key", "value"), jnp.split(fused, 3), strict=True
    ):
        part = kernel.T.reshape(size, -1, heads).swapaxes(1, 2)
        getattr(layer, name).kernel[...] = part
    return layer(x)


def interleaved(x, heads, fused, fused_bias, out):
    size = x.shape[-1]
    apart = fused.reshape(heads, 3, -1, size).swapaxes(0, 1).reshape(fused.shape)
    biases = fused_bias.reshape(heads, 3, -1).swapaxes(0, 1).ravel()
    return attention(x, heads, apart, biases, out)


def bias_left_zero(x, heads, fused, fused_bias, out):
    return attention(x, heads, fused, jnp.zeros_like(fused_bias), out)


def key_and_value_swapped(x, *rest):
    return loaded(x, *rest, order=(0, 2, 1))(x)


def query_and_key_swapped(x, *rest):
    return loaded(x, *rest, order=(1, 0, 2))(x)


def two_heads(x, heads, *weights):
    return attention(x, 2, *weights)


def causal(x, *rest):
    return loaded(x, *rest)(x, is_causal=True)


def decode_left_out(x, *rest):
    return loaded(x, *rest, decode=None)(x)


def squeezed(*inputs):
    return attention(*inputs).squeeze()


def added_to_input(x, *rest):
    return x + attention(x, *rest)


def by_hand(x, heads, fused, fused_bias, out):
    qkv = jnp.split(x @ fused.T + fused_bias, 3, axis=-1)
    qkv = [part.reshape(*x.shape[:2], heads, -1) for part in qkv]
    return jax.nn.dot_product_attention(*qkv).reshape(x.shape) @ out.T


def by_hand_with_assert(*inputs):
    answer = loaded(*inputs)(inputs[0])
    mine = by_hand(*inputs)
    assert jnp.allclose(answer, mine, atol=1e-4)
    return mine


MISTAKES = {
    not_transposed: (
        "`fused` gives `x @ kernel.T`, and the layer `x @ kernel`: transpose each part."
    ),
    out_not_transposed: "Transpose the kernel of the output too.",
    out_left_random: "Load the kernel of the output too, into `layer.out`.",
    heads_last: (
        "Head after head: reshape to (features, heads, head_dim), in this order."
    ),
    interleaved: "First split off query, key and value, then the heads of each.",
    bias_left_zero: "Load the biases too: they are not zero here.",
    key_and_value_swapped: "Query, key, value: the value is the last part of `fused`.",
    query_and_key_swapped: "Query, key, value: the query is the first part of `fused`.",
    two_heads: "Pass `heads` as it is: there may be more than two.",
    causal: "No mask is asked for: each position sees all.",
    decode_left_out: "Say `decode=False` when you build the layer.",
    squeezed: "Keep all axes: a batch of one is a batch.",
    added_to_input: "Return what the layer returns: the input is not added to it.",
    by_hand: "Load the weights into an `nnx.MultiHeadAttention`, and call it.",
    by_hand_with_assert: "Return what the layer returns: your formula is the test.",
}


def by_update(x, heads, fused, fused_bias, out):
    layer, size = new_layer(x, heads), x.shape[-1]
    kernels = fused.reshape(3, heads, -1, size).transpose(0, 3, 1, 2)
    names, biases = ("query", "key", "value"), fused_bias.reshape(3, heads, -1)
    state = {
        name: {"kernel": kernels[i], "bias": biases[i]} for i, name in enumerate(names)
    }
    nnx.update(layer, {**state, "out": {"kernel": out.T.reshape(heads, -1, size)}})
    return nnx.jit(lambda layer, x: layer(x))(layer, x)


def without_bias_of_out(x, heads, fused, fused_bias, out):
    layer = loaded(x, heads, fused, fused_bias, out)
    layer.out = nnx.LinearGeneral(
        layer.out.in_features,
        x.shape[-1],
        axis=(-2, -1),
        use_bias=False,
        rngs=nnx.Rngs(0),
    )
    layer.out.kernel = nnx.Param(out.T.reshape(heads, -1, x.shape[-1]))
    answer = layer(x, x, x)
    if not jnp.allclose(answer, by_hand(x, heads, fused, fused_bias, out), atol=1e-4):
        raise ValueError("the formula says otherwise")
    return np.asarray(answer)


def sequence_by_sequence(x, *rest):
    return jax.vmap(loaded(x, *rest))(x)


ALSO_RIGHT = [by_update, without_bias_of_out, sequence_by_sequence]
