"""The exercise of "Nested modules": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class AutoEncoder(nnx.Module):
    def __init__(self, in_features, features, rngs):
        self.encoder = nnx.Linear(in_features, features, rngs=rngs)
        self.decoder = nnx.Linear(features, in_features, rngs=rngs)

    def __call__(self, x):  # x[..., in_features]
        return self.decoder(self.encoder(x))
        # --8<-- [end:model]


def count_params(module):
    """Return how many numbers the parameters of a module hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


# --8<-- [start:stub]
def nested_modules(seed, x, features):
    """Return three parameter counts and the sum of the output, shape (4,), float32.

    The counts are those of the encoder, of the decoder and of the whole.

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (in_features,), float32.
      features: size of the code in the middle; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = AutoEncoder(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    counts = [count_params(part) for part in (model.encoder, model.decoder, model)]
    return jnp.array([*counts, model(x).sum()], jnp.float32)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (0.0, [1.0, 2.0, 3.0, 4.0], 2.0), (7.0, [0.5, -1.5, 2.0, 0.0], 2.0)
    for seed, x, features in [*page, *more]:
        x, size, inner, rngs = jnp.array(x), len(x), int(features), nnx.Rngs(int(seed))
        answer = candidate(seed, x, features)
        encoder = nnx.Linear(size, inner, rngs=rngs)
        decoder = nnx.Linear(inner, size, rngs=rngs)
        counts = (size + 1) * inner, (inner + 1) * size  # kernel and bias of each
        right = jnp.array([*counts, sum(counts), decoder(encoder(x)).sum()])
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (4,):
            expected = f"an array of shape (4,), not {shape}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import collections
from contextlib import suppress

import numpy as np

# An input that only `nbe` tries: it catches a mistake that the page's own let through.
HIDDEN = [(16_777_217.0, jnp.array([1.25, -3.0]), 5.0)]


def idea(seen):
    """Return what right numbers lack: two submodules of one module, counted there."""
    (seed, x, features), models = seen.inputs, []

    def widen(model):  # by one feature, with weights of one
        if hasattr(model, "encoder") and hasattr(model, "decoder"):
            models.append(model)
            model.encoder.kernel.set_value(jnp.ones((x.size, width)))
            model.encoder.bias.set_value(jnp.ones(width))
            model.decoder.kernel.set_value(jnp.ones((width, x.size)))

    def extend(model):
        if hasattr(model, "encoder"):
            model.beside = nnx.Param(jnp.ones(beside))

    def wrong(run, total):
        counts = (x.size + 1) * width, (width + 1) * x.size
        right = *counts, sum(counts) + beside, total
        names = "encoder", "decoder", "whole", "output"
        for name, number, wanted in zip(names, run.answer, right, strict=True):
            if not seen.close(number, wanted):
                return f"your number for the {name} does not follow"

    width, beside, inputs = int(features) + 1, 0, (seed + 1, x, features)
    run = seen.run("the code is wider", built={nnx.Module: widen}, inputs=inputs)
    if not models:
        return f"no __init__ sets encoder and decoder; modules built: {run.names()}"
    if missing := wrong(run, (x.sum() + 1) * width * x.size):
        return f"the code is made wider, and {missing}"
    width, beside = width - 1, 5
    with suppress(seen.Finding):  # it takes the submodules from a list of two
        run = seen.run(built={nnx.Module: extend})
        if missing := wrong(run, run.answer[3]):
            return f"the model gets parameters beside its submodules, and {missing}"


def model_for(seed, x, features, module=AutoEncoder):
    return module(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def numbers(model, x, count=count_params):
    """Return the answer to the exercise, counted by `count`."""
    counts = [count(part) for part in (model.encoder, model.decoder, model)]
    return jnp.array([*counts, model(x).sum()])


def attempt(name, module=AutoEncoder, count=count_params, answer=numbers):
    """Return the attempt of a learner who wrote this module, counts so, answers so."""

    def counted(*inputs):
        return answer(model_for(*inputs, module), inputs[1], count)

    counted.__name__ = name
    return counted


def pair(in_features, features, rngs):
    encoder = nnx.Linear(in_features, features, rngs=rngs)
    return encoder, nnx.Linear(features, in_features, rngs=rngs)


class DecoderFirst(AutoEncoder):
    def __init__(self, inputs, features, rngs):
        self.decoder, self.encoder = pair(features, inputs, rngs)


class LocalInCall(AutoEncoder):
    def __init__(self, *sizes, rngs):
        self.sizes, self.rngs = sizes, rngs

    def __call__(self, x):
        return nnx.Sequential(*pair(*self.sizes, self.rngs))(x)


class PlainList(nnx.Module):
    def __init__(self, *sizes, rngs):
        self.layers = list(pair(*sizes, rngs))


for cls in (LocalInCall, PlainList):  # as a learner's is called
    cls.__module__, cls.__name__, cls.__qualname__ = "attempt", *["AutoEncoder"] * 2


def seed_in_each(seed, x, features):
    model = model_for(seed, x, features)
    model.decoder = nnx.Linear(int(features), x.size, rngs=nnx.Rngs(int(seed)))
    return numbers(model, x)


def code_clipped(seed, x, features):
    return nested_modules(seed, x, min(int(features), x.size))


def whole_added(seed, x, features):
    model = model_for(seed, x, features)
    parts = count_params(model.encoder), count_params(model.decoder)
    return jnp.array([*parts, sum(parts), model(x).sum()])


def loose_layers(seed, x, features):
    encoder, decoder = pair(x.size, int(features), nnx.Rngs(int(seed)))
    counts = count_params(encoder), count_params(decoder)
    return jnp.array([*counts, sum(counts), decoder(encoder(x)).sum()])


def formula_with_assert(seed, x, features):
    model, inner = model_for(seed, x, features), int(features)
    parts = (x.size + 1) * inner, (inner + 1) * x.size
    assert count_params(model) == sum(parts)
    return jnp.array([*parts, sum(parts), model(x).sum()])


MISTAKES = {
    attempt("decoder_first", DecoderFirst): (
        "The decoder draws its keys first: build the encoder before it."
    ),
    attempt("leaves_counted", count=lambda part: len(jax.tree.leaves(part))): (
        "These are numbers of arrays: add up the `size` of each."
    ),
    attempt("local_in_call", LocalInCall): (
        "After `__init__` there is no `encoder`: set it there, and not in `__call__`."
    ),
    attempt("plain_list", PlainList): (
        "A plain list cannot hold modules: give each an attribute of its own."
    ),
    seed_in_each: "Each layer starts a stream of its own: share one `nnx.Rngs`.",
    code_clipped: "`features` may be more than the inputs: do not clip it.",
    loose_layers: "The layers are loose: make both attributes of one `nnx.Module`.",
    formula_with_assert: "A formula misses them: count the state of the `encoder`.",
    whole_added: "A sum, or a formula, misses them: count the state of the whole.",
}


def split_by_path(model, x, _):
    by_name = collections.Counter()
    for path, param in nnx.to_flat_state(nnx.state(model)):
        by_name[path[0]] += param.size
    counts = by_name["encoder"], by_name["decoder"], by_name.total()
    assert counts[2] == count_params(model) == counts[0] + counts[1]
    return np.array([*counts, float(model(x).sum())])


def by_children(model, x, count):
    decoder, encoder = (count(child) for _, child in nnx.iter_children(model))
    return np.asarray([encoder, decoder, count(model), model(x).sum()], np.float32)


def compiled(seed, x, features):
    build = nnx.jit(model_for, static_argnums=(0, 2))
    model, forward = build(seed, x, features), nnx.jit(lambda model, x: model(x))
    return numbers(model, x).at[3].set(forward(model, x).sum())


ALSO_RIGHT = [
    attempt("split_by_path", answer=split_by_path),
    attempt("by_children", answer=by_children),
    compiled,
]
