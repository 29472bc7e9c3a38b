"""The exercise of "Causal mask": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def causal_mask(seed, x, position, heads):
    """Return how far each output row moves when one input row does, shape (length,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (length, features), float32.
      position: the row of x to which 1.0 is added; a float is accepted and cast.
      heads: number of heads, a divisor of features; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    attention = nnx.MultiHeadAttention(
        num_heads=int(heads),
        in_features=x.shape[-1],
        decode=False,
        rngs=nnx.Rngs(int(seed)),
    )
    mask = nnx.make_causal_mask(x[:, 0])
    before = attention(x, mask=mask)
    after = attention(x.at[int(position)].add(1.0), mask=mask)
    return jnp.abs(after - before).max(axis=-1)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    import numpy as np

    page = jnp.array([[1, 2.0], [3, 1], [2, 0]])
    for seed, x, row, heads in [(0.0, page, 1.0, 2.0), (7.0, page, 2.0, 2.0), *more]:
        answer, both = candidate(seed, x, row, heads), np.stack([x, x])
        both[1, int(row)] += 1.0
        layer = nnx.MultiHeadAttention(int(heads), x.shape[1], rngs=nnx.Rngs(int(seed)))
        parts = layer.query, layer.key, layer.value  # the biases are zero
        q, k, v = (np.einsum("blf,fhd->bhld", both, part.kernel[...]) for part in parts)
        seen = np.exp(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5) * np.tri(len(x))
        mixed = seen / seen.sum(axis=-1, keepdims=True) @ v
        before, after = np.einsum("bhld,hdf->blf", mixed, layer.out.kernel[...])
        moves = np.abs(after - before).max(axis=-1)
        shaped = getattr(answer, "shape", None) == moves.shape
        if shaped and np.allclose(answer, moves, atol=1e-5):
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {row}, {heads})"
        return f"{call}\n  expected: an array, {moves.round(4)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.array([[1.5, -0.5, 2], [0.25, 1, -2], [-1, 3, 0.5]]), 1.0, 3.0),
    (11.0, jnp.array([[1.5, -0.5]]), 0.0, 2.0),
]


def idea(seen):
    """Return what right numbers lack: two calls of the layer, and a mask at both."""
    masked = []

    def run(hidden):  # where later rows stay hidden, or every row sees all rows alike
        def attend(q, k, v, mask=None, is_causal=False, **options):
            masked.append(mask is not None or bool(is_causal))
            if hidden:
                return jnp.cumsum(v, axis=-3)
            return jnp.broadcast_to(v.mean(axis=-3, keepdims=True), q.shape)

        def altered(layer):
            layer.attention_fn = attend

        hooks = {nnx.MultiHeadAttention: altered}
        return seen.run("each row sees all rows alike", built=hooks).answer

    try:
        moves = run(hidden=False)
    except seen.Finding:  # where it wants zeros, later rows have to be alike
        moves = run(hidden=True)[int(seen.inputs[2]) :]
    if not any(masked):
        return "no call has a mask: call the layer on all of x, with a mask"
    if not seen.close(moves, [max(moves)] * len(moves)):
        return "the rows do not follow what the calls return without their mask"


def layer(seed, x, heads, **options):
    """Return the module that the exercise asks for."""
    options = {"decode": False, "rngs": nnx.Rngs(int(seed)), **options}
    return nnx.MultiHeadAttention(int(heads), x.shape[-1], **options)


def causal(x):
    """Return the mask."""
    return nnx.make_causal_mask(x[:, 0])


def difference(seed, x, position, heads, mask):
    """Return the change of the output under a mask."""
    attention = layer(seed, x, heads)
    moved = x.at[int(position)].add(1.0)
    return attention(moved, mask=mask) - attention(x, mask=mask)


def changes(*args, **options):
    """Return the largest absolute change of each row."""
    return jnp.abs(difference(*args, **options)).max(axis=-1)


def mask_forgotten(*inputs):
    return changes(*inputs, None)


def one_call_masked(seed, x, position, heads):
    attention, moved = layer(seed, x, heads), x.at[int(position)].add(1.0)
    return jnp.abs(attention(moved) - attention(x, mask=causal(x))).max(axis=-1)


def mask_turned_round(seed, x, position, heads):
    return changes(seed, x, position, heads, 1 - causal(x))


def future_alone(seed, x, position, heads):
    return changes(seed, x, position, heads, causal(x).mT)


def mask_of_features(seed, x, position, heads):
    return changes(seed, x, position, heads, nnx.make_causal_mask(x))


def decode_left_out(seed, x, position, heads):
    return layer(seed, x, heads, decode=None)(x, mask=causal(x))


def two_heads_at_most(seed, x, position, heads):
    return causal_mask(seed, x, position, min(heads, 2))


def sign_kept(seed, x, position, heads):
    return difference(seed, x, position, heads, causal(x)).max(axis=-1)


def by_feature(seed, x, position, heads):
    return jnp.abs(difference(seed, x, position, heads, causal(x))).max(axis=0)


def squeezed(*inputs):
    return causal_mask(*inputs).squeeze()


def zeros_by_hand(seed, x, position, heads):
    return mask_forgotten(seed, x, position, heads).at[: int(position)].set(0.0)


def formula_with_assert(seed, x, position, heads):
    def formula(x):
        qkv = attention.query(x), attention.key(x), attention.value(x)
        return attention.out(jax.nn.dot_product_attention(*qkv, is_causal=True))

    attention, moved = layer(seed, x, heads), x.at[int(position)].add(1.0)
    after = attention(moved, mask=causal(x))
    assert jnp.allclose(formula(moved), after, atol=1e-5)
    return jnp.abs(formula(moved) - formula(x)).max(axis=-1)


MISTAKES = {
    mask_forgotten: "Every row sees every other: pass `mask=` at both calls.",
    one_call_masked: "One of the two calls has no mask: pass it at both.",
    mask_turned_round: "The mask is inverted: 1 means that a row may look.",
    future_alone: "The mask is transposed: each row looks at later rows.",
    mask_of_features: (
        "`make_causal_mask` takes the last axis for the length: give it `x[:, 0]`."
    ),
    decode_left_out: "Say `decode=False` when you build the layer.",
    two_heads_at_most: "Pass `heads` as it is: there may be more than two.",
    sign_kept: "Take the absolute value before the maximum.",
    by_feature: "Take the maximum over the features, the last axis.",
    squeezed: "Keep the axis: one position gives the shape (1,).",
    zeros_by_hand: "The later rows are wrong too: use a mask, not zeros.",
    formula_with_assert: "Compare what two calls return: their mask makes the zeros.",
}


def with_is_causal(seed, x, position, heads):
    attention, moved = layer(seed, x, heads), x.at[int(position)].add(1.0)
    after, before = (attention(x, is_causal=True) for x in (moved, x))
    return np.max(np.abs(after - before), axis=1)


def jitted(seed, x, position, heads):
    forward = nnx.jit(lambda attention, x: attention(x, mask=causal(x)))
    attention = layer(seed, x, heads)
    moved = x.at[int(position), :].set(x[int(position)] + 1)
    return jnp.abs(forward(attention, moved) - forward(attention, x)).max(-1)


def subclassed(seed, x, position, heads):
    class Causal(nnx.MultiHeadAttention):
        def __call__(self, x):
            return super().__call__(x, mask=causal(x), decode=False)

    model = Causal(int(heads), x.shape[1], rngs=nnx.Rngs(int(seed)))
    moved = x + jnp.eye(len(x))[int(position)][:, None]
    moves = jnp.abs(model(moved) - model(x)).max(axis=-1)
    if moves[: int(position)].any():
        raise ValueError("an earlier row moves")
    return moves


ALSO_RIGHT = [with_is_causal, jitted, subclassed]
