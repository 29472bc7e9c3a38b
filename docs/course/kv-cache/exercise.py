"""The exercise of "KV cache": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def kv_cache(seed, x, heads):
    """Return two sums of outputs and the cache index after the last token, shape (3,).

    Row 0 is the sum over one causal pass on all of x. Row 1 is the sum over the tokens
    passed one at a time through the cache. Row 2 is the index that the cache then has.

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, length, features), float32.
      heads: number of heads, a divisor of features; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    attention = nnx.MultiHeadAttention(
        num_heads=int(heads),
        in_features=x.shape[-1],
        decode=False,
        rngs=nnx.Rngs(int(seed)),
    )
    full = attention(x, mask=nnx.make_causal_mask(x[..., 0])).sum()
    attention.init_cache(x.shape)
    cached = 0.0
    for t in range(x.shape[1]):
        cached += attention(x[:, t : t + 1], decode=True).sum()
    return jnp.array([full, cached, attention.cache_index[...]])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    import numpy as np

    page = jnp.array([[[1.0, 2], [0, -1], [0.5, 3]]])
    for seed, x, heads in [(4.0, page, 2.0), (7.0, page, 2.0), *more]:
        answer, (_, length, features) = candidate(seed, x, heads), x.shape
        layer = nnx.MultiHeadAttention(int(heads), features, rngs=nnx.Rngs(int(seed)))
        parts = layer.query, layer.key, layer.value  # the biases are zero
        q, k, v = (np.einsum("blf,fhd->bhld", x, part.kernel[...]) for part in parts)
        seen = np.exp(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5) * np.tri(length)
        mixed = seen / seen.sum(axis=-1, keepdims=True) @ v
        total = np.einsum("bhld,hdf->", mixed, layer.out.kernel[...])
        shaped = getattr(answer, "shape", None) == (3,)
        if shaped and np.allclose(answer, [total, total, length], atol=1e-4):
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {heads})"
        expected = f"an array of {total:.4f} twice, and {length}"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax
import numpy as np

HIDDEN = [(3.0, jnp.sin(jnp.arange(12.0)).reshape(2, 3, 2), 1.0)]  # two sequences


def idea(seen):
    """Return what right rows lack: a pass over x, decoding, and the module's index."""
    x, decodes = seen.inputs[1], []

    def rows(step, more):  # where the pass returns threes, and decoding `step`
        def marked(call):
            y, module = call.proceed(), call.module
            decodes.append(not call.before.same(seen.state(module), nnx.Cache))
            if not decodes[-1]:
                return jnp.full_like(y, 3)
            module.cache_index[...] += more * (module.cache_index[...] == x.shape[1])
            return jnp.full_like(y, step)

        hooks = {nnx.MultiHeadAttention: marked}
        found = seen.run("calls return other numbers", calls=hooks).answer
        return zip(found, [3 * x.size, step * x.size, x.shape[1] + more], strict=True)

    for step, more in ((2, 100), (3, 100), (3, 0)):  # numbers that it may compare agree
        try:
            pairs = rows(step, more)
            break
        except seen.Finding:
            if not more:
                raise
    if not any(decodes):
        return "no call decodes: pass one token at a time, with decode=True"
    sources = "the pass over all of x", "the decoding calls", "the module's cache_index"
    for row, (found, expected) in enumerate(pairs):
        if not seen.close(found, expected):
            return f"row {row} does not follow {sources[row]}"


def layer(seed, x, heads, **options):
    """Return the module that the exercise asks for."""
    options = {"decode": False, "rngs": nnx.Rngs(int(seed)), **options}
    return nnx.MultiHeadAttention(int(heads), x.shape[-1], **options)


def full_sum(attention, x):
    """Return the sum of the causal pass."""
    mask = nnx.make_causal_mask(x[..., 0])
    return attention(x, mask=mask, decode=False).sum()


def tokens(x):
    """Return the tokens of x, each of shape (batch, 1, features)."""
    return jnp.split(x, x.shape[1], axis=1)


def decode(attention, token, **options):
    """Return the sum for one token."""
    return attention(token, decode=True, **options).sum()


def filled(seed, x, heads, shape=None, given=None, step=decode, **options):
    """Return the three rows; shape is the cache's, given are the tokens to decode."""
    attention = layer(seed, x, heads)
    attention.init_cache(shape or x.shape)
    cached = sum(step(attention, token, **options) for token in given or tokens(x))
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


def no_cache_made(seed, x, heads):
    return decode(layer(seed, x, heads), x[:, :1])


def whole_sequence_decoded(seed, x, heads):
    return filled(seed, x, heads, given=[x])


def mask_while_decoding(seed, x, heads):
    return filled(seed, x, heads, mask=nnx.make_causal_mask(x[..., 0]))


def step_in_jax_jit(*inputs):
    return filled(*inputs, step=jax.jit(decode))


def cache_for_one_sequence(seed, x, heads):
    return filled(seed, x, heads, shape=(1, *x.shape[1:]))


def one_token_too_many(seed, x, heads):
    return filled(seed, x, heads, given=[*tokens(x), x[:, -1:]])


def cache_made_for_each_token(seed, x, heads):
    attention, cached = layer(seed, x, heads), 0.0
    for token in tokens(x):
        attention.init_cache(x.shape)
        cached += decode(attention, token)
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


def formula_with_assert(seed, x, heads):
    part = layer(seed, x, heads)
    qkv = part.query(x), part.key(x), part.value(x)
    total = part.out(jax.nn.dot_product_attention(*qkv, is_causal=True)).sum()
    full, cached, index = kv_cache(seed, x, heads)
    assert jnp.allclose(total, jnp.array([full, cached]), atol=1e-4)
    return jnp.array([total, total, index])


def full_pass_twice(seed, x, heads):
    full = full_sum(layer(seed, x, heads), x)
    return jnp.array([full, full, x.shape[1]])


def full_copied(seed, x, heads):
    return kv_cache(seed, x, heads)[jnp.array([0, 0, 2])]


def length_for_index(seed, x, heads):
    return kv_cache(seed, x, heads).at[2].set(x.shape[1])


MISTAKES = {
    no_cache_made: "Call `init_cache(x.shape)` before the first token.",
    whole_sequence_decoded: "Give the full pass `decode=False`; decode in a loop.",
    mask_while_decoding: "Decoding masks by itself: pass no mask with a token.",
    step_in_jax_jit: (
        "Each token meets an empty cache: use `nnx.jit` or none, and say `decode=True`."
    ),
    cache_for_one_sequence: "The cache holds one sequence: pass the batch too.",
    one_token_too_many: "A token comes after the cache is full: decode each once.",
    cache_made_for_each_token: "Call `init_cache` once, before the loop.",
    formula_with_assert: "Sum what the calls return: compute no row by a formula.",
    full_pass_twice: "Use the cache: pass each token alone, with `decode=True`.",
    full_copied: "Row 1 is a copy: sum what the decoding calls return.",
    length_for_index: "Read row 2 from the module: `cache_index[...]`.",
}


def two_modules(seed, x, heads):
    whole, step = layer(seed, x, heads), layer(seed, x, heads, decode=True)
    step.init_cache(x.shape)
    cached = jnp.concatenate([step(token) for token in tokens(x)], axis=1).sum()
    return np.asarray([whole(x, is_causal=True).sum(), cached, step.cache_index[...]])


def jitted_with_error(*inputs):
    full, cached, index = filled(*inputs, step=nnx.jit(decode))
    if not jnp.allclose(full, cached, atol=1e-4):
        raise ValueError("the sums differ")
    return jnp.stack([full, cached, index])


def scanned(seed, x, heads):
    attention = layer(seed, x, heads)
    attention.init_cache(x.shape)

    @nnx.scan(in_axes=(nnx.StateAxes({...: nnx.Carry}), 1), out_axes=1)
    def step(attention, token):
        return attention(token[:, None], decode=True)[:, 0]

    cached = step(attention, x).sum()
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


def by_view(seed, x, heads):
    attention = layer(seed, x, heads)
    writer = nnx.view(attention, decode=True)
    writer.init_cache(x.shape)
    cached = jnp.array([writer(inputs_q=token) for token in tokens(x)]).sum()
    return jnp.array([full_sum(attention, x), cached, writer.cache_index[...]])


ALSO_RIGHT = [two_modules, jitted_with_error, scanned, by_view]
