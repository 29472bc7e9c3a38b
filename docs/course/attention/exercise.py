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
from contextlib import ExitStack
from unittest.mock import patch

from flax import linen as nn

INPUTS = [  # seed, x, heads
    (0.0, (jnp.arange(24.0) % 5 - 1).reshape(2, 3, 4), 2.0),
    (7.0, (jnp.arange(24.0) % 7 / 2 - 1).reshape(2, 3, 4), 2.0),
]


def formula_sum(seed, x, heads):
    """Return the sum by the formula, on the parameters of a new layer."""
    layer = nnx.MultiHeadAttention(
        int(heads), x.shape[-1], decode=False, rngs=nnx.Rngs(int(seed))
    )
    q, k, v = (
        jnp.einsum("blf,fhd->bhld", x, part.kernel[...]) + part.bias[:, None]
        for part in (layer.query, layer.key, layer.value)
    )
    mixed = jax.nn.softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v
    y = jnp.einsum("bhld,hdf->blf", mixed, layer.out.kernel[...]) + layer.out.bias
    return y.sum()


def rerun(candidate, inputs, *patches):
    """Return both numbers over the formula's, under the patches; None on an error."""
    with ExitStack() as stack:
        for context in (jax.disable_jit(), *patches):
            stack.enter_context(context)
        total = formula_sum(*inputs)
        try:
            return [round(float(part), 2) for part in candidate(*inputs) / total]
        except Exception:  # the candidate compares what it computes itself
            return None


def times(factor, layer):
    """Return a patch: the layer's call returns a multiple of its output."""
    call = layer.__call__
    return patch.object(layer, "__call__", lambda *a, **k: factor * call(*a, **k))


def with_other(name):
    """Return a patch: new layers come with other kernels, or other biases."""
    init = nnx.MultiHeadAttention.__init__

    def build(self, *args, **options):
        init(self, *args, **options)
        for part in (self.query, self.key, self.value, self.out):
            if param := getattr(part, name):
                param[...] += jnp.cos(jnp.arange(param.size)).reshape(param.shape)

    return patch.object(nnx.MultiHeadAttention, "__init__", build)


def missing_idea(candidate, inputs):
    """Return what the two numbers lack, although they are right, or None."""
    calls = times(2, nnx.MultiHeadAttention), times(3, nn.MultiHeadDotProductAttention)
    first, second = rerun(candidate, inputs, *calls) or (2, 1)
    if (first, second) == (1, 2):
        return "the layer's call gives the second number: swap the two"
    if first != 2:
        return "the first number does not come from a call of nnx.MultiHeadAttention"
    if second != 1:
        origin = "Linen's layer" if second == 3 else "the layer's own call"
        return f"the second number comes from {origin}, not from the formula"
    for name in ("kernel", "bias"):
        if (rerun(candidate, inputs, with_other(name)) or [1, 1]) != [1, 1]:
            return f"with another {name} in the layer, the two sums do not both follow"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, heads in inputs:
        answer, total = candidate(seed, x, heads), formula_sum(seed, x, heads)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape, wrong = getattr(answer, "shape", type(answer).__name__), None
        if shape != (2,):
            wrong = f"an array of shape (2,), not {shape}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, total, atol=1e-4):
            wrong = f"{total:.4f}, twice"
        if wrong:
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {heads})"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}"
    missing = missing_idea(candidate, inputs[0])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # an input that only `nbe` tries: each of its sizes differs, head_dim is 4
    (3.0, jnp.sin(jnp.arange(60.0)).reshape(1, 5, 12) + 0.5, 3.0),
]


def new_layer(seed, x, heads, **options):
    """Return the module that the exercise asks for."""
    options = {"decode": False, "rngs": nnx.Rngs(int(seed)), **options}
    return nnx.MultiHeadAttention(int(heads), x.shape[-1], **options)


def projected(layer, x):
    """Return queries, keys and values, [batch, length, heads, head_dim]."""
    return layer.query(x), layer.key(x), layer.value(x)


def with_formula(seed, x, heads, scale=None, axis=-1):
    """Return the answer with a variant of the formula."""
    layer = new_layer(seed, x, heads)
    q, k, v = projected(layer, x)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (scale or layer.head_dim) ** 0.5
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis), v)
    return jnp.array([layer(x).sum(), layer.out(mixed).sum()])


def scale_forgotten(seed, x, heads):
    return with_formula(seed, x, heads, scale=1)


def scale_of_two(seed, x, heads):
    return with_formula(seed, x, heads, scale=2)


def scale_by_heads(seed, x, heads):
    return with_formula(seed, x, heads, scale=heads)


def root_forgotten(seed, x, heads):
    return with_formula(seed, x, heads, scale=(x.shape[-1] / heads) ** 2)


def softmax_over_queries(seed, x, heads):
    return with_formula(seed, x, heads, axis=-2)


def softmax_over_heads(seed, x, heads):
    return with_formula(seed, x, heads, axis=1)


def queries_and_keys_swapped(seed, x, heads):
    layer = new_layer(seed, x, heads)
    q, k, v = projected(layer, x)
    mixed = jax.nn.dot_product_attention(k, q, v)
    return jnp.array([layer(x).sum(), layer.out(mixed).sum()])


def heads_not_transposed(seed, x, heads):
    def split(part):  # [batch, heads, length, head_dim] by reshape alone
        b, n, h, d = part.shape
        return part.reshape(b, h, n, d).swapaxes(1, 2)

    layer = new_layer(seed, x, heads)
    mixed = jax.nn.dot_product_attention(*map(split, projected(layer, x)))
    return jnp.array([layer(x).sum(), layer.out(mixed).sum()])


def one_big_head(seed, x, heads):
    layer = new_layer(seed, x, heads)
    q, k, v = (part.reshape(x.shape) for part in projected(layer, x))
    mixed = jax.nn.softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v
    y = mixed @ layer.out.kernel.reshape(-1, x.shape[-1])
    return jnp.array([layer(x).sum(), y.sum()])


def heads_merged_last(seed, x, heads):
    layer = new_layer(seed, x, heads)
    mixed = jax.nn.dot_product_attention(*projected(layer, x)).swapaxes(2, 3)
    y = mixed.reshape(x.shape) @ layer.out.kernel.reshape(-1, x.shape[-1])
    return jnp.array([layer(x).sum(), y.sum()])


def batch_mixed(seed, x, heads):
    layer, rows = new_layer(seed, x, heads), x.reshape(1, -1, x.shape[-1])
    mixed = jax.nn.dot_product_attention(*projected(layer, rows))
    return jnp.array([layer(x).sum(), layer.out(mixed).sum()])


def two_heads_at_most(seed, x, heads):
    return attention(seed, x, min(heads, 2))


def seed_zero(seed, x, heads):
    return attention(0, x, heads)


def decode_left_out(seed, x, heads):
    return new_layer(seed, x, heads, decode=None)(x)


def heads_as_float(seed, x, heads):
    return nnx.MultiHeadAttention(heads, x.shape[-1], rngs=nnx.Rngs(int(seed)))


def seed_as_float(seed, x, heads):
    return new_layer(0, x, heads, rngs=nnx.Rngs(seed))(x)


def numbers_of_the_page(seed, x, heads):
    known = {str(inputs[1]): attention(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros(2))


def means(seed, x, heads):
    return attention(seed, x, heads) / x.size


def a_list(seed, x, heads):
    return list(attention(seed, x, heads))


def second_copied(seed, x, heads):
    return jnp.array([new_layer(seed, x, heads)(x).sum()] * 2)


def formula_twice(seed, x, heads):
    return attention(seed, x, heads)[jnp.array([1, 1])]


def swapped(seed, x, heads):
    return attention(seed, x, heads)[::-1]


def linen_applied(seed, x, heads):
    layer = new_layer(seed, x, heads)
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
    model = nn.MultiHeadDotProductAttention(num_heads=int(heads))
    return jnp.array([layer(x).sum(), model.apply({"params": params}, x).sum()])


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
    mixed = jax.nn.dot_product_attention(*qkv)
    y = jnp.einsum("blhd,hdf->blf", mixed, layer.out.kernel[...])
    return jnp.array([layer(x).sum(), y.sum()])


MISTAKES = {
    scale_forgotten: "Divide the scores by the root of head_dim.",
    scale_of_two: "The scale is no constant: it is the root of head_dim.",
    scale_by_heads: "Scale by the size of a head, not by how many there are.",
    root_forgotten: "Divide by the root of head_dim, not by head_dim.",
    softmax_over_queries: "Softmax goes over the keys, the last axis of the scores.",
    softmax_over_heads: "The heads do not compete: softmax over the keys.",
    queries_and_keys_swapped: "Query and key are swapped: softmax goes over the keys.",
    heads_not_transposed: "A reshape does not swap axes: transpose length and heads.",
    one_big_head: "Each head compares on its own: keep the axis of the heads.",
    heads_merged_last: "Merge heads and head_dim in this order for the output.",
    batch_mixed: "Each sequence of the batch looks at itself alone.",
    two_heads_at_most: "Pass `heads` as it is: there may be more than two.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    decode_left_out: "Say `decode=False` when you build the layer.",
    heads_as_float: "Cast `heads` with `int`: a float is no shape.",
    seed_as_float: "Cast the seed with `int`: `nnx.Rngs` takes no float.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    means: "Return sums, not means.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    second_copied: "Compute the second number from query, key, value and out.",
    formula_twice: "Call the layer on x for the first number.",
    swapped: "The layer's sum comes first, the formula's second.",
    linen_applied: "Linen's layer is a layer again: write the formula.",
    kernels_drawn_again: "Read the layer's kernels: new ones miss its training.",
    biases_forgotten: "Add the biases: they are zero only until you train.",
}


def by_reshape(seed, x, heads):
    layer, (b, n, f) = new_layer(seed, x, heads), x.shape

    def split(part):  # [batch, heads, length, head_dim]
        y = x @ part.kernel.reshape(f, f) + part.bias.reshape(f)
        return y.reshape(b, n, int(heads), -1).transpose(0, 2, 1, 3)

    q, k, v = split(layer.query), split(layer.key), split(layer.value)
    scores = jnp.exp(q @ k.swapaxes(-1, -2) / jnp.sqrt(f / heads))
    mixed = (scores / scores.sum(-1, keepdims=True)) @ v
    merged = mixed.transpose(0, 2, 1, 3).reshape(x.shape)
    y = merged @ layer.out.kernel.reshape(f, f) + layer.out.bias
    return np.array([layer(x, x, x).sum(), y.sum()])


def head_by_head(seed, x, heads):
    layer = new_layer(seed, x, heads)
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
    total = layer.out.bias.sum() * x.shape[0] * x.shape[1]
    for h in range(int(heads)):
        q, k, v = (
            x @ params[name]["kernel"][:, h] + params[name]["bias"][h]
            for name in ("query", "key", "value")
        )
        weights = jax.nn.softmax(q @ k.mT / q.shape[-1] ** 0.5)
        total += (weights @ v @ params["out"]["kernel"][h]).sum()
    return jnp.stack([layer(x).sum(), total])


def with_ready_made_formula(seed, x, heads):
    layer = new_layer(seed, x, heads)
    mixed = nnx.dot_product_attention(*projected(layer, x))
    both = jnp.array([jnp.sum(layer(inputs_q=x)), jnp.sum(layer.out(mixed))])
    assert jnp.allclose(both[0], both[1], atol=1e-4)
    return both


@nnx.jit
def both_sums(layer, x):
    mixed = jax.nn.dot_product_attention(*projected(layer, x))
    return jnp.stack([layer(x), layer.out(mixed)]).sum(axis=(1, 2, 3))


def jitted(seed, x, heads):
    return both_sums(new_layer(seed, x, heads), x)


def subclassed(seed, x, heads):
    class ByFormula(nnx.MultiHeadAttention):
        def __call__(self, x):
            q, k, v = projected(self, x)
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / self.head_dim**0.5
            mixed = jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v)
            return self.out(mixed)

    size = {"num_heads": int(heads), "in_features": x.shape[-1]}
    mine = ByFormula(**size, rngs=nnx.Rngs(int(seed)))
    return jnp.array([new_layer(seed, x, heads)(x).sum(), mine(x).sum()])


ALSO_RIGHT = [
    by_reshape,
    head_by_head,
    with_ready_made_formula,
    jitted,
    subclassed,
]
