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
from contextlib import suppress
from unittest.mock import patch

INPUTS = [  # seed, tokens, vocabulary, features
    (0.0, jnp.array([0, 2, 1]), 5.0, 3.0),
    (7.0, jnp.array([3, 1]), 4.0, 2.0),
]


def missing_idea(candidate, inputs):
    """Return what is wrong when every table is wider and the first has an extra."""
    tables, names, alive = [], {}, []
    init, set_name = nnx.Embed.__init__, nnx.Pytree.__setattr__

    def wider(self, num_embeddings, features, **options):
        init(self, num_embeddings, features + 1, **options)
        if not tables:
            self.extra = nnx.Param(jnp.zeros(3))
        tables.append(self.embedding[...])

    def noted(self, name, value):
        if isinstance(value, nnx.Embed | nnx.Param):
            names.setdefault(id(value), set()).add((id(self), name))
            alive.append((self, value))
        set_name(self, name, value)

    answer = None
    with (
        patch.object(nnx.Embed, "__init__", wider),
        patch.object(nnx.Pytree, "__setattr__", noted),
        suppress(Exception),  # the candidate may check its own numbers
        jax.disable_jit(),
    ):
        answer = jnp.asarray(candidate(*inputs))
    if not tables:
        return "no nnx.Embed is built: its table must be the layer's"
    if max(map(len, names.values()), default=0) < 2:
        return "the layer has one name: give it a second, self.decoder = self.embed"
    if answer is None:
        return None
    logits = tables[0][inputs[1]] @ tables[0].T
    if not jnp.allclose(answer[0], logits.sum(), atol=1e-4):
        return "the logits do not follow the table: call the model"
    if not jnp.allclose(answer[1:], jnp.array([tables[0].size + 3, 2])):
        return "elements and leaves must be counted in nnx.state(model, nnx.Param)"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, tokens, vocabulary, features in inputs:
        answer, wrong = candidate(seed, tokens, vocabulary, features), None
        shape, key = (int(vocabulary), int(features)), nnx.Rngs(int(seed)).params()
        table = jax.random.normal(key, shape) / shape[1] ** 0.5
        logits = table[tokens] @ table.T
        expected = jnp.array([logits.sum(), table.size, 1])
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        got_shape = getattr(answer, "shape", None)
        if got_shape != (3,):
            kind = type(answer).__name__ if got_shape is None else got_shape
            wrong = f"an array of shape (3,), not {kind}"
        elif answer.dtype.kind not in "fiu":
            wrong = f"real numbers, not {answer.dtype}"
        elif not jnp.allclose(answer, expected, atol=1e-4):
            wrong = str(expected)
        if wrong:
            sizes = f"jnp.array({tokens.tolist()}), {vocabulary}, {features}"
            call = f"{candidate.__name__}({seed}, {sizes})"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}"
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import flax.linen as nn
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5.0, jnp.array([2, 2, 0, 2]), 3.0, 2.0),  # tokens repeat
    (11.0, jnp.array([0]), 1.0, 4.0),  # one token, fewer than features
]


def tied(seed, vocabulary, features):
    """Return the model that the exercise asks for."""
    return TiedModel(int(vocabulary), int(features), rngs=nnx.Rngs(int(seed)))


def result(model, logits):
    """Return the answer for a model and its logits."""
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    return jnp.array([logits.sum(), sum(leaf.size for leaf in leaves), len(leaves)])


def answer_of(make_decoder, seed, tokens, vocabulary, features):
    """Return the answer of a model whose decoder is made from its embedding."""
    rngs = nnx.Rngs(int(seed))
    embed = nnx.Embed(int(vocabulary), int(features), rngs=rngs)
    model = nnx.Dict(embed=embed, decoder=make_decoder(embed, rngs))
    h = model.embed(tokens)
    attend = getattr(model.decoder, "attend", model.decoder)
    return result(model, attend(h))


def two_embeddings(*inputs):
    def decoder(embed, rngs):
        return nnx.Embed(embed.num_embeddings, embed.features, rngs=rngs)

    return answer_of(decoder, *inputs)


def copied_embedding(*inputs):
    return answer_of(lambda embed, rngs: nnx.clone(embed), *inputs)


def counted_as_pytree(seed, tokens, vocabulary, features):
    model = tied(seed, vocabulary, features)
    elements = sum(leaf.size for leaf in jax.tree.leaves(model))
    return shared_submodule(seed, tokens, vocabulary, features).at[1].set(elements)


def linear_decoder(*inputs):
    def decoder(embed, rngs):
        return nnx.Linear(embed.features, embed.num_embeddings, rngs=rngs)

    return answer_of(decoder, *inputs)


def linen_model(seed, tokens, vocabulary, features):
    model = nn.Embed(int(vocabulary), int(features))
    params = model.init(jax.random.key(int(seed)), tokens)
    h = model.apply(params, tokens)
    logits = model.apply(params, h, method="attend")
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    return jnp.array([logits.sum(), sum(sizes), len(sizes)])


def seed_zero(seed, *rest):
    return shared_submodule(0, *rest)


def counts_swapped(*inputs):
    return shared_submodule(*inputs)[jnp.array([0, 2, 1])]


def embedding_summed(seed, tokens, vocabulary, features):
    model = tied(seed, vocabulary, features)
    return result(model, model.embed(tokens))


def mean_of_logits(seed, tokens, vocabulary, features):
    model = tied(seed, vocabulary, features)
    return result(model, model(tokens).mean())


def tokens_without_repeats(seed, tokens, vocabulary, features):
    return shared_submodule(seed, jnp.unique(tokens), vocabulary, features)


def larger_size_is_vocabulary(seed, tokens, *sizes):
    return shared_submodule(seed, tokens, max(sizes), min(sizes))


def rows_counted(seed, tokens, vocabulary, features):
    answer = shared_submodule(seed, tokens, vocabulary, features)
    return answer.at[1].set(int(vocabulary))


def bytes_counted(*inputs):
    return shared_submodule(*inputs) * jnp.array([1, 4, 1])


def numbers_of_the_page(*inputs):
    known = {str(case[1]): shared_submodule(*case) for case in INPUTS}
    return known.get(str(inputs[1]), jnp.zeros(3))


def a_list(*inputs):
    return shared_submodule(*inputs).tolist()


def sizes_multiplied(seed, tokens, vocabulary, features):
    model = tied(seed, vocabulary, features)
    return jnp.array([model(tokens).sum(), int(vocabulary) * int(features), 1])


def one_name(seed, tokens, vocabulary, features):
    model = nnx.Embed(int(vocabulary), int(features), rngs=nnx.Rngs(int(seed)))
    return result(model, model.attend(model(tokens)))


def table_by_hand(seed, tokens, vocabulary, features):
    key, sizes = nnx.Rngs(int(seed)).params(), (int(vocabulary), int(features))
    table = jax.random.normal(key, sizes) / sizes[1] ** 0.5
    return jnp.array([(table[tokens] @ table.T).sum(), table.size, 1])


def logits_by_hand(seed, tokens, vocabulary, features):
    answer = table_by_hand(seed, tokens, vocabulary, features)
    model = tied(seed, vocabulary, features)
    return result(model, model(tokens)).at[0].set(answer[0])


MISTAKES = {
    two_embeddings: "These are two tables: write `self.decoder = self.embed`.",
    copied_embedding: (
        "Two leaves: a copy is no second name, `jax.jit` parts the names, and "
        "`jax.tree.leaves(model)` counts each. Count in `nnx.state(model, nnx.Param)`."
    ),
    counted_as_pytree: "The table is counted once per name: count in `nnx.state`.",
    linear_decoder: "`nnx.Linear` has its own weights: call the embedding's `attend`.",
    linen_model: "This is Linen's layer, with Linen's key: build `nnx.Embed`.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    counts_swapped: "The elements come before the leaves.",
    embedding_summed: "This is the sum of `h`: pass `h` to `self.decoder.attend`.",
    mean_of_logits: "Sum the logits, do not average them.",
    tokens_without_repeats: "A token that comes twice has two rows of logits.",
    larger_size_is_vocabulary: "`vocabulary` comes first, even if it is the smaller.",
    rows_counted: "These are the rows of the table: `leaf.size` counts its elements.",
    bytes_counted: "These are bytes: `leaf.size` counts elements.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    sizes_multiplied: "Count elements and leaves in `nnx.state(model, nnx.Param)`.",
    one_name: "Give the layer a second name: `self.decoder = self.embed`.",
    table_by_hand: "Build `nnx.Embed` with the rngs: draw no table by hand.",
    logits_by_hand: "Take the logits from the model: compute none by hand.",
}


def in_a_dict(*inputs):
    return answer_of(lambda embed, rngs: embed, *inputs)


def one_param_in_two_layers(*inputs):
    def decoder(embed, rngs):
        layer = nnx.Embed(embed.num_embeddings, embed.features, rngs=rngs)
        layer.embedding = embed.embedding
        return layer

    return answer_of(decoder, *inputs)


def passed_to_a_decoder(*inputs):
    class Decoder(nnx.Module):
        def __init__(self, table):
            self.table = table

        def __call__(self, h):
            return h @ self.table[...].T

    return answer_of(lambda embed, rngs: Decoder(embed.embedding), *inputs)


def jitted(seed, tokens, vocabulary, features):
    model = tied(seed, vocabulary, features)
    logits = nnx.jit(lambda model, tokens: model(tokens))(model, tokens)
    return np.asarray(result(model, logits))


def over_state(seed, tokens, vocabulary, features):
    graphdef, params = nnx.split(tied(seed, vocabulary, features), nnx.Param)
    forward = jax.jit(lambda params, tokens: nnx.merge(graphdef, params)(tokens))
    leaves = [leaf for _, leaf in nnx.to_flat_state(params)]
    elements = sum(np.prod(leaf.shape) for leaf in leaves)
    return jnp.array([forward(params, tokens).sum(), elements, len(leaves)])


def one_leaf_unpacked(seed, tokens, vocabulary, features):
    model = tied(seed, vocabulary, features)
    (leaf,) = jax.tree.leaves(nnx.state(model, nnx.Param))
    return jnp.stack([jnp.sum(model(tokens)), leaf.size, 1.0])


ALSO_RIGHT = [
    in_a_dict,
    one_param_in_two_layers,
    passed_to_a_decoder,
    jitted,
    over_state,
    one_leaf_unpacked,
]
