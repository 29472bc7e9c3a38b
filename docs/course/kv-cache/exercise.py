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
from unittest.mock import patch

import jax

INPUTS = [  # seed, x, heads
    (4.0, jnp.array([[[1.0, 2], [0, -1]], [[0.5, 3], [2, 0]], [[1, 1], [-1, 2]]]), 2.0),
    (7.0, jnp.array([[[0.5, 1], [2, -1]], [[-1, 0], [1, 0]], [[0, 1.5], [2, 1]]]), 2.0),
]


def expected_rows(seed, x, heads):
    """Return the rows by the formula of attention; the biases are zero."""
    layer = nnx.MultiHeadAttention(int(heads), x.shape[-1], rngs=nnx.Rngs(int(seed)))
    parts = layer.query, layer.key, layer.value
    q, k, v = (jnp.einsum("blf,fhd->bhld", x, part.kernel[...]) for part in parts)
    scores = q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5
    visible = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
    total = jnp.einsum("bhld,hdf->blf", weights @ v, layer.out.kernel[...]).sum()
    return jnp.array([total, total, x.shape[1]])


def missing_idea(candidate, inputs):
    """Return what the rows do not come from, or None."""
    decoding, call, length = [], nnx.MultiHeadAttention.__call__, inputs[1].shape[1]
    expected = expected_rows(*inputs) * jnp.array([3, 2, 1]) + jnp.array([0, 0, 100])

    def marked(self, *args, decode=None, **options):  # each row changes in its own way
        y = call(self, *args, decode=decode, **options)
        decoding.append(self.decode if decode is None else decode)
        if not decoding[-1]:
            return 3 * y
        last = self.cache_index[...] == length
        self.cache_index[...] += jnp.where(last, 100, 0)
        return 2 * y

    with patch.object(nnx.MultiHeadAttention, "__call__", marked):
        try:
            answer = jnp.asarray(candidate(*inputs))
        except Exception:  # the candidate compares what it computes itself
            answer = expected
    if not decoding:
        return "no nnx.MultiHeadAttention is called"
    if not any(decoding):
        return "no call decodes: pass one token at a time, with decode=True"
    if answer.shape != (3,):
        return f"no answer of shape (3,) for an x of shape {inputs[1].shape}"
    same = jnp.isclose(answer, expected, atol=1e-3)
    sources = "the pass over all of x", "the decoding calls", "the module's cache_index"
    for row, source in enumerate(sources):
        if not same[row]:
            return f"row {row} does not follow {source}"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, heads in inputs:
        answer, wrong, hint = candidate(seed, x, heads), None, None
        rows = expected_rows(seed, x, heads)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != (3,):
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong = f"an array of shape (3,), not {kind}"
            hint = "put the two sums and the index into one jnp.array"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, rows, atol=1e-4):
            wrong, answer = rows.tolist(), answer.tolist()
        if wrong:
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {heads})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    seed, x, heads = inputs[0]
    unseen = seed, x[:1, :2], heads  # a function that is compiled already is so anew
    if missing := missing_idea(candidate, unseen):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # the input that only `nbe` tries: one sequence, longer, with more heads
    (3.0, (jnp.arange(18.0) * 7 % 11 / 4 - 1).reshape(1, 3, 6), 3.0),
]


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


def decoded(attention, tokens, **options):
    """Return the sum over the tokens, each decoded."""
    return sum(attention(token, decode=True, **options).sum() for token in tokens)


def filled(seed, x, heads, shape=None, given=None, **options):
    """Return the three rows; shape is the cache's, given are the tokens to decode."""
    attention = layer(seed, x, heads)
    attention.init_cache(shape or x.shape)
    cached = decoded(attention, given or tokens(x), **options)
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def no_cache_made(seed, x, heads):
    return jnp.array([decoded(layer(seed, x, heads), tokens(x))])


def whole_sequence_decoded(seed, x, heads):
    return filled(seed, x, heads, given=[x])


def mask_while_decoding(seed, x, heads):
    return filled(seed, x, heads, mask=nnx.make_causal_mask(x[..., 0]))


def step_in_jax_jit(seed, x, heads):
    step = jax.jit(lambda attention, token: attention(token, decode=True).sum())
    attention = layer(seed, x, heads)
    attention.init_cache(x.shape)
    cached = sum(step(attention, token) for token in tokens(x))
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


def cache_for_one_token(seed, x, heads):
    return filled(seed, x, heads, shape=x[:, :1].shape)


def one_token_too_many(seed, x, heads):
    return filled(seed, x, heads, given=[*tokens(x), x[:, -1:]])


def cache_kept_from_a_first_run(seed, x, heads):
    attention = layer(seed, x, heads)
    attention.init_cache(x.shape)
    decoded(attention, tokens(x))
    cached = decoded(attention, tokens(x))
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


def cache_made_for_each_token(seed, x, heads):
    attention, cached = layer(seed, x, heads), 0.0
    for token in tokens(x):
        attention.init_cache(x.shape)
        cached += decoded(attention, [token])
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


def mask_forgotten(seed, x, heads):
    return kv_cache(seed, x, heads).at[0].set(layer(seed, x, heads)(x).sum())


def index_of_the_last_token(seed, x, heads):
    return kv_cache(seed, x, heads) - jnp.array([0, 0, 1])


def squeezed(seed, x, heads):
    return kv_cache(seed, x.squeeze(), heads)


def seed_zero(seed, x, heads):
    return kv_cache(0, x, heads)


def two_tokens_at_most(seed, x, heads):
    return filled(seed, x, heads, given=tokens(x)[:2])


def numbers_of_the_page(seed, x, heads):
    known = any(x is shown[1] for shown in INPUTS)
    return kv_cache(seed, x, heads) if known else jnp.zeros(3)


def formula_by_hand(seed, x, heads):
    return expected_rows(seed, x, heads)


def full_pass_twice(seed, x, heads):
    full = full_sum(layer(seed, x, heads), x)
    return jnp.array([full, full, x.shape[1]])


def full_copied(seed, x, heads):
    return kv_cache(seed, x, heads)[jnp.array([0, 0, 2])]


def cached_copied(seed, x, heads):
    return kv_cache(seed, x, heads)[jnp.array([1, 1, 2])]


def length_for_index(seed, x, heads):
    return kv_cache(seed, x, heads).at[2].set(x.shape[1])


MISTAKES = {
    no_cache_made: "Call `init_cache(x.shape)` before the first token.",
    whole_sequence_decoded: (
        "Decoding takes one token a call. Give the full pass `decode=False`, and loop "
        "over the length for the rest."
    ),
    mask_while_decoding: "Decoding masks by itself: pass no mask with a token.",
    step_in_jax_jit: (
        "Each token meets an empty cache: use `nnx.jit` or none, and say `decode=True`."
    ),
    cache_for_one_token: "The cache has one place: pass `x.shape` to `init_cache`.",
    one_token_too_many: "A token comes after the cache is full: decode each once.",
    cache_kept_from_a_first_run: "Call `init_cache` again before you start over.",
    cache_made_for_each_token: "Call `init_cache` once, before the loop.",
    mask_forgotten: "The full pass needs a causal mask.",
    index_of_the_last_token: "Return the index as it is: it counts the tokens.",
    squeezed: "Keep the axes of x: the batch may be one.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    two_tokens_at_most: "Loop over the length of x: it may be more than two.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    formula_by_hand: "Call `nnx.MultiHeadAttention` instead of its formula.",
    full_pass_twice: "Use the cache: pass each token alone, with `decode=True`.",
    full_copied: "Row 1 is a copy: sum what the decoding calls return.",
    cached_copied: "Row 0 is a copy: sum what the call on all of x returns.",
    length_for_index: "Read row 2 from the module: `cache_index[...]`.",
}


def two_modules(seed, x, heads):
    whole, step = layer(seed, x, heads), layer(seed, x, heads, decode=True)
    step.init_cache(x.shape)
    cached = jnp.concatenate([step(token) for token in tokens(x)], axis=1)
    full = whole(x, is_causal=True)
    return np.asarray([full.sum(), cached.sum(), step.cache_index[...]])


def jitted(seed, x, heads):
    step = nnx.jit(lambda attention, token: attention(token, decode=True))
    attention = layer(seed, x, heads)
    attention.init_cache(x.shape)
    cached = sum(step(attention, token).sum() for token in tokens(x))
    return jnp.stack([full_sum(attention, x), cached, attention.cache_index[...]])


def scanned(seed, x, heads):
    attention = layer(seed, x, heads)
    attention.init_cache(x.shape)

    @nnx.scan(in_axes=(nnx.StateAxes({...: nnx.Carry}), 1), out_axes=1)
    def step(attention, token):
        return attention(token[:, None], decode=True)[:, 0]

    cached = step(attention, x).sum()
    return jnp.array([full_sum(attention, x), cached, attention.cache_index[...]])


def in_a_module(seed, x, heads):
    class Writer(nnx.Module):
        def __init__(self, rngs):
            self.attention = layer(seed, x, heads, rngs=rngs)

        def __call__(self, x, decode=False):
            return self.attention(x, decode=decode, is_causal=not decode)

    model, cached = Writer(nnx.Rngs(params=int(seed))), []
    model.attention.init_cache(x.shape)
    full = model(x)
    while (index := int(model.attention.cache_index[...])) < x.shape[1]:
        cached.append(model(x[:, index, None], decode=True))
    assert jnp.allclose(full, jnp.concatenate(cached, axis=1), atol=1e-5)
    return jnp.array([full.sum(), sum(y.sum() for y in cached), index])


def by_view(seed, x, heads):
    attention = layer(seed, x, heads)
    writer = nnx.view(attention, decode=True)
    writer.init_cache(x.shape)
    cached = jnp.array([writer(inputs_q=token) for token in tokens(x)]).sum()
    index = jnp.max(nnx.state(writer, nnx.Cache)["cache_index"][...])
    return jnp.array([full_sum(attention, x), cached, index.astype(float)])


ALSO_RIGHT = [two_modules, jitted, scanned, in_a_module, by_view]
