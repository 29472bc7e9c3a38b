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
from unittest.mock import patch

import jax

INPUTS = [  # seed, x, position, heads
    (0.0, jnp.array([[1.0, 0, 2, -1], [0.5, 1, 0, 1], [2, -1, 1, 0]]), 1.0, 2.0),
    (7.0, jnp.array([[0.0, 2, -1, 1], [1.5, 0, 1, 2], [-0.5, 1, 2, 0]]), 2.0, 2.0),
]


def expected_changes(seed, x, position, heads, masked=True):
    """Return the changes by the formula of attention; the biases are zero."""
    layer = nnx.MultiHeadAttention(
        int(heads), x.shape[-1], decode=False, rngs=nnx.Rngs(int(seed))
    )
    visible = jnp.tril(jnp.ones((len(x), len(x)), bool)) | (not masked)
    kernels = [part.kernel[...] for part in (layer.query, layer.key, layer.value)]

    def attend(x):
        q, k, v = (jnp.einsum("lf,fhd->hld", x, kernel) for kernel in kernels)
        scores = q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
        return jnp.einsum("hld,hdf->lf", weights @ v, layer.out.kernel[...])

    moved = x.at[int(position)].add(1.0)
    return jnp.abs(attend(moved) - attend(x)).max(axis=-1)


def missing_idea(candidate, inputs):
    """Return what the zeros do not come from, or None."""
    masked, call = [], nnx.MultiHeadAttention.__call__
    unmasked = expected_changes(*inputs, masked=False)

    def blind(self, *args, mask=None, is_causal=False, **options):
        masked.append(mask is not None or bool(is_causal))
        return 2 * call(self, *args, **options)  # doubled, and without its mask

    with patch.object(nnx.MultiHeadAttention, "__call__", blind), jax.disable_jit():
        try:
            answer = jnp.asarray(candidate(*inputs))
        except Exception:  # the candidate compares what it computes itself
            answer = 2 * unmasked
    if not masked:
        return "no nnx.MultiHeadAttention is called"
    if not any(masked):
        return "no call has a mask: call the layer on all of x, with a mask"
    if not jnp.allclose(answer, 2 * unmasked, atol=1e-4):
        return "the answer does not follow what the calls return without a mask"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, position, heads in inputs:
        answer, wrong, hint = candidate(seed, x, position, heads), None, None
        changes = expected_changes(seed, x, position, heads)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != changes.shape:
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong = f"an array of shape {changes.shape}, not {kind}"
            hint = "return one number for each row of x, in one array"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, changes, atol=1e-5):
            wrong, answer = changes.tolist(), answer.tolist()
        if wrong:
            given = f"{seed}, jnp.array({x.tolist()}), {position}, {heads}"
            call = f"{candidate.__name__}({given})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools

import flax.linen as nn
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.sin(jnp.arange(30.0)).reshape(5, 6), 3.0, 3.0),
    (11.0, jnp.array([[1.5, -0.5, 2.0, 0.25]]), 0.0, 2.0),
]


def layer(seed, x, heads, **options):
    """Return the module that the exercise asks for."""
    options = {"decode": False, "rngs": nnx.Rngs(int(seed)), **options}
    return nnx.MultiHeadAttention(int(heads), x.shape[-1], **options)


def outputs(seed, x, position, heads, mask):
    """Return the outputs on the moved input and on x."""
    attention = layer(seed, x, heads)
    moved = x.at[int(position)].add(1.0)
    return attention(moved, mask=mask), attention(x, mask=mask)


def changes(*args, **options):
    """Return the largest absolute change of each row."""
    after, before = outputs(*args, **options)
    return jnp.abs(after - before).max(axis=-1)


def causal(x):
    return nnx.make_causal_mask(x[:, 0])


def mask_forgotten(seed, x, position, heads):
    return changes(seed, x, position, heads, None)


def one_call_masked(seed, x, position, heads):
    attention, moved = layer(seed, x, heads), x.at[int(position)].add(1.0)
    return jnp.abs(attention(moved) - attention(x, mask=causal(x))).max(axis=-1)


def two_layers(seed, x, position, heads):
    rngs, moved = nnx.Rngs(int(seed)), x.at[int(position)].add(1.0)
    first, second = (layer(seed, x, heads, rngs=rngs) for _ in range(2))
    difference = second(moved, mask=causal(x)) - first(x, mask=causal(x))
    return jnp.abs(difference).max(axis=-1)


def mask_turned_round(seed, x, position, heads):
    return changes(seed, x, position, heads, 1 - causal(x))


def future_alone(seed, x, position, heads):
    return changes(seed, x, position, heads, causal(x).swapaxes(-1, -2))


def itself_hidden(seed, x, position, heads):
    mask = jnp.tril(jnp.ones((len(x), len(x))), -1)
    return changes(seed, x, position, heads, mask)


def mask_of_features(seed, x, position, heads):
    return changes(seed, x, position, heads, nnx.make_causal_mask(x))


def mask_of_one_row(seed, x, position, heads):
    return changes(seed, x, position, heads, nnx.make_causal_mask(x[0]))


def decode_left_out(seed, x, position, heads):
    return layer(seed, x, heads, decode=None)(x, mask=causal(x))


def decode_on(seed, x, position, heads):
    return layer(seed, x, heads, decode=True)(x, mask=causal(x))


def seed_as_float(seed, x, position, heads):
    return layer(0, x, heads, rngs=nnx.Rngs(seed))(x, mask=causal(x))


def only_the_query_moves(seed, x, position, heads):
    attention, moved = layer(seed, x, heads), x.at[int(position)].add(1.0)
    after = attention(moved, x, mask=causal(x))
    return jnp.abs(after - attention(x, mask=causal(x))).max(axis=-1)


def seed_zero(seed, x, position, heads):
    return causal_mask(0, x, position, heads)


def two_heads_at_most(seed, x, position, heads):
    return causal_mask(seed, x, position, min(heads, 2))


def one_position_too_far(seed, x, position, heads):
    return causal_mask(seed, x, (int(position) + 1) % len(x), heads)


def row_set_to_one(seed, x, position, heads):
    attention, moved = layer(seed, x, heads), x.at[int(position)].set(1.0)
    after, before = (attention(x, mask=causal(x)) for x in (moved, x))
    return jnp.abs(after - before).max(axis=-1)


def sign_kept(seed, x, position, heads):
    after, before = outputs(seed, x, position, heads, causal(x))
    return (after - before).max(axis=-1)


def by_feature(seed, x, position, heads):
    after, before = outputs(seed, x, position, heads, causal(x))
    return jnp.abs(after - before).max(axis=0)


def which_rows(seed, x, position, heads):
    return causal_mask(seed, x, position, heads) > 0


def squeezed(seed, x, position, heads):
    return causal_mask(seed, x, position, heads).squeeze()


def zeros_by_hand(seed, x, position, heads):
    return mask_forgotten(seed, x, position, heads).at[: int(position)].set(0.0)


def linen_layer(seed, x, position, heads):
    model = nn.MultiHeadDotProductAttention(num_heads=int(heads))
    params = model.init(jax.random.key(int(seed)), x)
    moved = x.at[int(position)].add(1.0)
    rows = [model.apply(params, x, mask=causal(x)) for x in (x, moved)]
    return jnp.abs(rows[1] - rows[0]).max(axis=-1)


def numbers_of_the_page(seed, x, position, heads):
    known = {str(inputs[1]): causal_mask(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros(len(x)))


def formula_by_hand(seed, x, position, heads):
    return expected_changes(seed, x, position, heads)


def zeros_over_the_mask(seed, x, position, heads):
    return causal_mask(seed, x, position, heads).at[: int(position)].set(0.0)


MISTAKES = {
    mask_forgotten: "Every row sees every other: pass `mask=` at both calls.",
    one_call_masked: "One of the two calls has no mask: pass it at both.",
    two_layers: "The second layer has other weights: build one, and call it twice.",
    mask_turned_round: "The mask is inverted: 1 means that a row may look.",
    future_alone: "The mask is transposed: each row looks at later rows.",
    itself_hidden: "A row may look at itself too: keep the mask's diagonal.",
    mask_of_features: (
        "`make_causal_mask` takes the last axis for the length: give it `x[:, 0]`."
    ),
    mask_of_one_row: "The mask has the size of the features: give it a column of x.",
    decode_left_out: "Say `decode=False` when you build the layer.",
    decode_on: "`decode=True` takes one position at a time: say `decode=False`.",
    seed_as_float: "Cast the seed with `int`: `nnx.Rngs` takes no float.",
    only_the_query_moves: "Keys and values must move too: pass the moved x alone.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    two_heads_at_most: "Pass `heads` as it is: there may be more than two.",
    one_position_too_far: "Another row moved: positions count from zero.",
    row_set_to_one: "Add 1.0 to the row, do not set the row to 1.0.",
    sign_kept: "Take the absolute value before the maximum.",
    by_feature: "Take the maximum over the features, the last axis.",
    which_rows: "Return how far each row moved, not whether it did.",
    squeezed: "Keep the axis: one position gives the shape (1,).",
    zeros_by_hand: "The later rows are wrong too: use a mask, not zeros.",
    linen_layer: "These are Linen's weights: build `nnx.MultiHeadAttention`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    formula_by_hand: "Call `nnx.MultiHeadAttention` instead of its formula.",
    zeros_over_the_mask: (
        "Compare what the two calls return: their mask makes the zeros, not you."
    ),
}


def remembered(attempt):
    """Return an attempt that computes each answer once: the tests ask for it often."""
    known = {}

    @functools.wraps(attempt)
    def recalled(*inputs):
        key = str(inputs), nnx.MultiHeadAttention.__call__  # the check replaces it
        if key not in known:
            known[key] = attempt(*inputs)
        return known[key]

    return recalled


MISTAKES = {remembered(attempt): says for attempt, says in MISTAKES.items()}


def with_is_causal(seed, x, position, heads):
    attention, moved = layer(seed, x, heads), x.at[int(position)].add(1.0)
    after, before = (attention(x, is_causal=True) for x in (moved, x))
    return jnp.max(jnp.abs(after - before), axis=1)


def with_tril(seed, x, position, heads):
    mask = jnp.tril(jnp.ones((len(x), len(x)), bool))
    return np.asarray(changes(seed, x, position, heads, mask))


def jitted(seed, x, position, heads):
    forward = nnx.jit(lambda attention, x: attention(x, mask=causal(x)))
    attention = layer(seed, x, heads)
    moved = x.at[int(position), :].set(x[int(position)] + 1)
    return jnp.abs(forward(attention, moved) - forward(attention, x)).max(-1)


def in_a_module(seed, x, position, heads):
    class Causal(nnx.Module):
        def __init__(self, rngs):
            self.attention = layer(seed, x, heads, rngs=rngs)

        def __call__(self, x):
            return self.attention(x, x, x, mask=causal(x))

    model, rows = Causal(nnx.Rngs(params=int(seed))), jnp.arange(len(x))[:, None]
    moved = jnp.where(rows == int(position), x + 1, x)
    return jnp.abs(model(moved) - model(x)).max(axis=-1)


def subclassed(seed, x, position, heads):
    class Causal(nnx.MultiHeadAttention):
        def __call__(self, x):
            return super().__call__(x, mask=causal(x), decode=False)

    model = Causal(
        num_heads=int(heads), in_features=x.shape[1], rngs=nnx.Rngs(int(seed))
    )
    moved = x + jnp.eye(len(x))[int(position)][:, None]
    difference = jnp.abs(model(moved) - model(x)).max(axis=-1)
    assert not difference[: int(position)].any()
    return difference


ALSO_RIGHT = [
    with_is_causal,
    with_tril,
    jitted,
    in_a_module,
    subclassed,
]
