"""The exercise of "Causal mask": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def causal_mask(seed, x, heads, window):
    """Return what self-attention makes of x under a sliding window, like x.

    Args:
      seed: seed of `nnx.Rngs`.
      x: input, shape (length, features), float32.
      heads: number of heads, a divisor of features.
      window: how many positions each one sees, at least 1: itself, and those right
        before it. It may be larger than the length.
    """
    # --8<-- [end:stub]
    attention = nnx.MultiHeadAttention(
        num_heads=heads, in_features=x.shape[-1], decode=False, rngs=nnx.Rngs(seed)
    )
    at = jnp.arange(len(x))
    near = nnx.make_attention_mask(at, at, lambda query, key: query - key < window)
    return attention(x, mask=near, is_causal=True)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = jnp.array([[1, 2.0], [3, 1], [2, 0], [0.5, 1]])
    for seed, x, heads, window in [(0, page, 2, 2), (7, page, 2, 3), *more]:
        answer = candidate(seed, x, heads, window)
        layer = nnx.MultiHeadAttention(heads, x.shape[1], rngs=nnx.Rngs(seed))
        parts = layer.query, layer.key, layer.value  # the biases are zero
        q, k, v = (jnp.einsum("lf,fhd->hld", x, part.kernel[...]) for part in parts)
        seen = jnp.tri(len(x)) - jnp.tri(len(x), k=-window)
        weights = jnp.exp(q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5) * seen
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
        expected = jnp.einsum("hld,hdf->lf", mixed, layer.out.kernel[...])
        shaped = getattr(answer, "shape", None) == x.shape
        if shaped and jnp.allclose(answer, expected, atol=1e-4):
            continue
        call = (
            f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {heads}, {window})"
        )
        return f"{call}\n  expected: {expected.round(4)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # an input that only `nbe` tries
    (3, jnp.array([[1.5, -0.5, 2], [0.25, 1, -2], [-1, 3, 0.5], [1, 1, 0]]), 3, 2)
]


def idea(seen):
    """Return what right numbers lack: one call of the layer, with a mask."""
    masked = []

    def run(alike):  # where every row sees the mean of all, or the mask is only noted
        def altered(layer):
            usual = layer.attention_fn
            if usual is not nnx.dot_product_attention:
                masked.append(True)  # a formula of the learner's own may hold the mask

            def attend(q, k, v, mask=None, is_causal=False, **options):
                masked.append(mask is not None)
                if alike:
                    return jnp.broadcast_to(v.mean(axis=-3, keepdims=True), q.shape)
                return usual(q, k, v, mask=mask, is_causal=is_causal, **options)

            layer.attention_fn = attend

        hooks = {nnx.MultiHeadAttention: altered}
        return seen.run("each row sees all rows alike", built=hooks).answer

    try:
        rows = run(alike=True)
    except seen.Finding:  # where numbers are compared, they have to be right
        rows = jnp.zeros((2, 2)) if run(alike=False) is not None else None
    if not any(masked):
        return "no call has a mask: call the layer once on all of x, with a mask"
    if not seen.close(rows, jnp.broadcast_to(rows[0], rows.shape)):
        return "the rows are not what the call of the layer returns"


def layer(seed, x, heads, **options):
    """Return the module that the exercise asks for."""
    options = {"decode": False, "rngs": nnx.Rngs(seed), **options}
    return nnx.MultiHeadAttention(heads, x.shape[-1], **options)


def steps_back(x):
    """Return how far each key lies before each query, shape (length, length)."""
    at = jnp.arange(len(x))
    return at[:, None] - at


def band(x, window):
    """Return the mask, shape (1, length, length)."""
    back = steps_back(x)
    return ((back >= 0) & (back < window))[None]


def masked_by(make, *inputs):
    """Return the output under a mask that is made from distances and window."""
    seed, x, heads, window = inputs
    return layer(seed, x, heads)(x, mask=make(steps_back(x), window)[None])


def no_mask(seed, x, heads, window):
    return layer(seed, x, heads)(x)


def window_forgotten(seed, x, heads, window):
    return layer(seed, x, heads)(x, is_causal=True)


def one_too_many(seed, x, heads, window):
    return causal_mask(seed, x, heads, window + 1)


def without_itself(*inputs):
    return masked_by(lambda back, w: (back > 0) & (back <= w), *inputs)


def both_sides(*inputs):
    return masked_by(lambda back, w: abs(back) < w, *inputs)


def later_ones(*inputs):
    return masked_by(lambda back, w: (back <= 0) & (back > -w), *inputs)


def inverted(*inputs):
    return masked_by(lambda back, w: (back < 0) | (back >= w), *inputs)


def blocks(*inputs):
    seed, x, heads, window = inputs
    at = jnp.arange(len(x)) // window
    return layer(seed, x, heads)(x, mask=(at[:, None] == at)[None], is_causal=True)


def mask_of_features(seed, x, heads, window):
    return layer(seed, x, heads)(x, mask=nnx.make_causal_mask(x))


def decode_left_out(seed, x, heads, window):
    return layer(seed, x, heads, decode=None)(x, mask=band(x, window))


def two_heads(seed, x, heads, window):
    return layer(seed, x, 2)(x, mask=band(x, window))


def seed_zero(seed, *rest):
    return causal_mask(0, *rest)


def wrapped_round(*inputs):
    return masked_by(lambda back, w: back % len(back) < w, *inputs)


def window_by_window(seed, x, heads, window):
    attention = layer(seed, x, heads)
    starts = [max(0, row + 1 - window) for row in range(len(x))]
    return jnp.stack([attention(x[at : row + 1])[-1] for row, at in enumerate(starts)])


def by_hand(seed, x, heads, window):
    attention = layer(seed, x, heads)
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    return attention.out(nnx.dot_product_attention(q, k, v, mask=band(x, window)))


def by_hand_with_assert(seed, x, heads, window):
    answer = layer(seed, x, heads)(x, mask=band(x, window))
    mine = by_hand(seed, x, heads, window)
    assert jnp.allclose(answer, mine, atol=1e-4)
    return mine


def fused(seed, x, heads):
    """Return the product of the kernels of value and output."""
    attention = layer(seed, x, heads)
    kernels = attention.value.kernel[...], attention.out.kernel[...]
    return jnp.einsum("fhd,hdg->fg", *kernels)


MISTAKES = {
    no_mask: "Every row sees every other: pass a mask.",
    window_forgotten: "Each row sees all earlier ones: hide those before the window.",
    one_too_many: "Each row sees one too many: the window counts the row itself.",
    without_itself: "Each row sees itself too: it is the last of its window.",
    both_sides: "Later rows are visible: add `is_causal=True`.",
    later_ones: "The mask is transposed: each row looks at later rows.",
    inverted: "The mask is read inverted: `True`, not 0, means that a row may look.",
    blocks: "The window slides: each row has one of its own.",
    mask_of_features: (
        "`make_causal_mask` takes the last axis for the length: give it `x[:, 0]`."
    ),
    decode_left_out: "Say `decode=False` when you build the layer.",
    two_heads: "Pass `heads` as it is: there may be more than two.",
    seed_zero: "Pass the seed to `nnx.Rngs`.",
    wrapped_round: "The first rows see later ones: their window is shorter.",
    window_by_window: "Call the layer once on all of x: a mask says who sees whom.",
    by_hand_with_assert: "Return what the layer returns: compute no row by hand.",
}


def with_combined_masks(seed, x, heads, window):
    near = nnx.make_attention_mask(
        jnp.arange(len(x)), jnp.arange(len(x)), lambda q, k: k > q - window
    )
    mask = nnx.combine_masks(nnx.make_causal_mask(x[:, 0]), near)
    return np.asarray(layer(seed, x, heads)(x, mask=mask))


def compiled_in_a_batch(seed, x, heads, window):
    ones = jnp.ones((len(x), len(x)))
    mask = jnp.tril(ones) - jnp.tril(ones, -window)
    forward = nnx.jit(lambda attention, x: attention(x, mask=mask[None, None]))
    (y,) = forward(layer(seed, x, heads), x[None])
    return y


def subclassed(seed, x, heads, window):
    class Local(nnx.MultiHeadAttention):
        def __call__(self, x):
            return super().__call__(x, mask=band(x, window), decode=False)

    y = Local(heads, x.shape[1], rngs=nnx.Rngs(seed))(x)
    if not jnp.allclose(y[0], (x[:1] @ fused(seed, x, heads))[0], atol=1e-4):
        raise ValueError("the first row sees more than itself")
    return y


def attention_fn_of_jax(seed, x, heads, window):
    def near(q, k, v, **options):
        size = window - 1, 0
        return jax.nn.dot_product_attention(q, k, v, local_window_size=size)

    return layer(seed, x, heads, attention_fn=near)(x)


ALSO_RIGHT = [
    with_combined_masks,
    compiled_in_a_batch,
    subclassed,
    attention_fn_of_jax,
]
