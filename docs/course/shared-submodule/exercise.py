"""The exercise of "Shared submodule": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


class TiedModel(nnx.Module):
    def __init__(self, vocabulary, features, rngs):
        self.embed = nnx.Embed(vocabulary, features, rngs=rngs)
        self.decoder = self.embed  # a second name, no second table

    def __call__(self, tokens):  # tokens[length]
        h = self.embed(tokens)  # h[length, features]
        return self.decoder.attend(h)  # logits[length, vocabulary]


# --8<-- [start:stub]
def shared_submodule(seed, tokens, vocabulary, features):
    """Return the sum of logits, parameter elements and Param leaves, shape (3,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      tokens: integers from 0 to vocabulary - 1, shape (length,), int32.
      vocabulary: number of tokens known; a float is accepted and cast.
      features: numbers per token in the table; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = TiedModel(int(vocabulary), int(features), rngs=nnx.Rngs(int(seed)))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    elements = sum(leaf.size for leaf in leaves)
    return jnp.array([model(tokens).sum(), elements, len(leaves)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = [(seed, jnp.array([0, 2, 1]), 5.0, 3.0) for seed in (0.0, 7.0)]
    for seed, tokens, vocabulary, features in [*page, *more]:
        answer = candidate(seed, tokens, vocabulary, features)
        shape, key = (int(vocabulary), int(features)), nnx.Rngs(int(seed)).params()
        table = jax.random.normal(key, shape) / shape[1] ** 0.5
        right = jnp.array([(table[tokens] @ table.T).sum(), table.size, 1])
        if getattr(answer, "shape", None) != (3,):
            expected = f"an array of shape (3,), not {type(answer).__name__}"
        elif answer.dtype.kind not in "fiu":
            expected = f"real numbers, not {answer.dtype}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right
        else:
            continue
        sizes = f"jnp.array({tokens.tolist()}), {vocabulary}, {features}"
        call = f"{candidate.__name__}({seed}, {sizes})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from contextlib import suppress

import numpy as np
from flax.errors import TraceContextError

HIDDEN = [(5.0, jnp.array([2, 2, 0]), 3.0, 5.0)]  # fewer rows than features


def idea(seen):
    """Return what right numbers lack: one table, used twice and counted once."""
    table, factor = jnp.arange(20.0).reshape(5, 4) / 10, 1

    def wider(embed):
        embed.embedding.set_value(table)

    def ones(call):  # and the table doubles, between its two uses
        nonlocal factor
        h = jnp.ones_like(call.proceed())
        with suppress(TraceContextError):  # under jax.vmap a module can only be read
            call.module.embedding[...] = 2 * table
            factor = 2
        return h

    hooks = {"built": {nnx.Embed: wider}, "calls": {nnx.Embed: ones}}
    run = seen.run("the table is wider", **hooks)
    if not run.built_of(nnx.Embed):
        return "no nnx.Embed is built: its table must be the layer's"
    total, elements, _ = np.asarray(run.answer, float)
    once = table.sum() * seen.inputs[1].size
    if not seen.close(total, factor * once):
        if seen.close(total, once):
            return "a write to the table reaches only one of its uses: it has a copy"
        return "the logits do not follow the table: call the model"
    if elements != table.size:
        return "with a wider table, you count as many elements as before"

    def longer(embed):
        embed.extra = nnx.Param(jnp.zeros(3))

    with suppress(seen.Finding):  # whoever unpacks the only leaf has counted the leaves
        run = seen.run("the table has company", built={nnx.Embed: longer})
        if run.answer[2] == 1:
            return "with another Param in the layer, you count as many leaves as before"


def answer_of(make_decoder, seed, tokens, vocabulary, features, counted=None):
    """Return the answer of a model whose decoder is made from its embedding."""
    rngs = nnx.Rngs(int(seed))
    embed = nnx.Embed(int(vocabulary), int(features), rngs=rngs)
    model = nnx.Dict(embed=embed, decoder=make_decoder(embed, rngs))
    attend = getattr(model.decoder, "attend", model.decoder)
    return result(model[counted] if counted else model, attend(model.embed(tokens)))


def result(model, logits):
    """Return the answer for a model and its logits."""
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    return jnp.array([logits.sum(), sum(leaf.size for leaf in leaves), len(leaves)])


def tied(seed, vocabulary, features):
    return TiedModel(int(vocabulary), int(features), rngs=nnx.Rngs(int(seed)))


def another(embed, rngs):
    return nnx.Embed(embed.num_embeddings, embed.features, rngs=rngs)


def two_embeddings(*inputs):
    return answer_of(another, *inputs)


def copied_embedding(*inputs):
    return answer_of(lambda embed, rngs: nnx.clone(embed), *inputs)


def copy_not_counted(*inputs):
    return answer_of(lambda embed, rngs: nnx.clone(embed), *inputs, counted="embed")


def counted_as_pytree(seed, tokens, *sizes):
    elements = sum(leaf.size for leaf in jax.tree.leaves(tied(seed, *sizes)))
    return shared_submodule(seed, tokens, *sizes).at[1].set(elements)


def seed_zero(seed, *rest):
    return shared_submodule(0, *rest)


def larger_size_is_vocabulary(seed, tokens, *sizes):
    return shared_submodule(seed, tokens, max(sizes), min(sizes))


def sizes_multiplied(seed, tokens, *sizes):
    logits = tied(seed, *sizes)(tokens)
    return jnp.array([logits.sum(), sizes[0] * sizes[1], 1])


def one_leaf_assumed(seed, tokens, *sizes):
    model = tied(seed, *sizes)
    return jnp.array([model(tokens).sum(), model.embed.embedding.size, 1])


def table_by_hand(seed, tokens, vocabulary, features):
    shape, key = (int(vocabulary), int(features)), nnx.Rngs(int(seed)).params()
    table = jax.random.normal(key, shape) / features**0.5
    return jnp.array([(table[tokens] @ table.T).sum(), table.size, 1])


def formula_with_assert(seed, tokens, *sizes):
    model, total = tied(seed, *sizes), table_by_hand(seed, tokens, *sizes)[0]
    logits = model(tokens)
    assert jnp.allclose(logits.sum(), total, atol=1e-5)
    return result(model, total)


MISTAKES = {
    two_embeddings: "These are two tables: write `self.decoder = self.embed`.",
    copied_embedding: (
        "Two leaves: a copy is no second name, `jax.jit` parts the names, and "
        "`jax.tree.leaves(model)` counts each. Count in `nnx.state(model, nnx.Param)`."
    ),
    copy_not_counted: "You count one of two tables: share the layer, do not copy it.",
    counted_as_pytree: "The table is counted once per name: count in `nnx.state`.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    larger_size_is_vocabulary: "`vocabulary` comes first, even if it is the smaller.",
    sizes_multiplied: "Count elements and leaves in `nnx.state(model, nnx.Param)`.",
    one_leaf_assumed: "Count the leaves: `len(jax.tree.leaves(state))`.",
    table_by_hand: "Build `nnx.Embed` with the rngs: draw no table by hand.",
    formula_with_assert: "Take the logits from the model: compute none by hand.",
}


def one_name(seed, tokens, *sizes):
    model = tied(seed, *sizes)
    del model.decoder
    return result(model, model.embed.attend(model.embed(tokens)))


def one_param_in_two_layers(*inputs):
    def decoder(embed, rngs):
        layer = another(embed, rngs)
        layer.embedding = embed.embedding
        return layer

    return answer_of(decoder, *inputs)


def token_by_token(seed, tokens, *sizes):
    model = tied(seed, *sizes)
    return np.asarray(result(model, jax.vmap(model)(tokens)))


def over_state(seed, tokens, *sizes):
    graphdef, params = nnx.split(tied(seed, *sizes), nnx.Param)
    forward = jax.jit(lambda params, tokens: nnx.merge(graphdef, params)(tokens))
    leaves = [leaf for _, leaf in nnx.to_flat_state(params)]
    elements = sum(np.prod(leaf.shape) for leaf in leaves)
    return jnp.array([forward(params, tokens).sum(), elements, len(leaves)])


def unpacked(seed, tokens, *sizes):
    model = tied(seed, *sizes)
    (leaf,) = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert jnp.isclose(model(tokens).sum(), nnx.jit(model)(tokens).sum())
    return jnp.stack([model(tokens).sum(), leaf.size, 1.0])


ALSO_RIGHT = [one_name, one_param_in_two_layers, token_by_token, over_state, unpacked]
