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
from unittest.mock import patch

NEXT = "\n  next:     "
NAMES = "encoder", "decoder", "whole", "output"
INPUTS = [  # seed, x, features
    (0.0, jnp.array([1.0, 2.0, 3.0, 4.0]), 2.0),
    (7.0, jnp.array([0.5, -1.5, 2.0]), 2.0),
    (3.0, jnp.array([2.5]), 1.0),
]


def sizes(inputs, features):
    """Return how many numbers encoder and decoder hold: kernel and bias of each."""
    return [(inputs + 1) * features, (features + 1) * inputs]


def expected_numbers(seed, x, features):
    """Return the answer without a nested module: sizes by formula, layers loose."""
    rngs, parts = nnx.Rngs(int(seed)), sizes(x.size, int(features))
    encoder = nnx.Linear(x.size, int(features), rngs=rngs)
    decoder = nnx.Linear(int(features), x.size, rngs=rngs)
    total = (x @ encoder.kernel @ decoder.kernel).sum()  # the biases are zero
    return jnp.array([*parts, sum(parts), total])


def grow(model):
    """Give a model one feature more, weights of one, and five numbers of its own."""
    inputs, features = model.encoder.kernel.shape
    model.encoder.kernel.set_value(jnp.ones((inputs, features + 1)))
    model.encoder.bias.set_value(jnp.ones(features + 1))
    model.decoder.kernel.set_value(jnp.ones((features + 1, inputs)))
    model.beside = nnx.Param(jnp.ones(5))


def run_grown(candidate, seed, x, features):
    """Return the answer where each model has grown once built, and what was built."""
    built, construct = {}, type(nnx.Module).__call__

    def build(cls, *args, **kwargs):
        module = construct(cls, *args, **kwargs)
        built[cls.__name__] = hasattr(module, "encoder") and hasattr(module, "decoder")
        if built[cls.__name__]:
            grow(module)
        return module

    with patch.object(type(nnx.Module), "__call__", build), jax.disable_jit():
        return candidate(seed + 1, x, features), built  # a seed that no cache knows


def missing_idea(candidate, case):
    """Return what the model lacks although its numbers are right, or None."""
    _, x, features = case
    try:
        answer, built = run_grown(candidate, *case)
    except Exception:  # what the candidate asserts itself does not hold here
        return None
    if not any(built.values()):
        names = ", ".join(built) or None
        said = f"no __init__ sets both encoder and decoder; modules built: {names}"
        return f"{said}{NEXT}Set both attributes in the __init__ of one nnx.Module."
    parts = sizes(x.size, int(features) + 1)
    total = (x.sum() + 1) * (features + 1) * x.size
    right = [*parts, sum(parts) + 5, total]
    for name, given, wanted in zip(NAMES, answer, right, strict=True):
        if not jnp.allclose(given, wanted):
            said = f"the check adds parameters, and your number for the {name} does not"
            return f"{said} follow{NEXT}Take it from the {name} itself."


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for case in inputs:
        answer, expected = candidate(*case), expected_numbers(*case)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (4,):
            expected = f"an array of shape (4,), not {shape}"
            hint = "Put the four numbers into one jnp.array."
        elif not (same := jnp.isclose(answer, expected, atol=1e-5)).all():
            hint = f"Look at your number for the {NAMES[same.argmin()]} first."
        else:
            continue
        seed, x, features = case
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}{NEXT}{hint}"
    missing = missing_idea(candidate, inputs[0])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import collections
import functools

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (16_777_217.0, jnp.array([0.25, -0.75, 1.5]), 2.0),
    (12.0, jnp.array([1.25, -3.0]), 5.0),
]


def model_for(seed, x, features, module=AutoEncoder):
    """Return a model of the size and seed that the exercise asks for."""
    return module(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def numbers(model, x, count=count_params):
    """Return the answer to the exercise, counted by `count`."""
    total = model(x).sum()  # first, for models that build in `__call__`
    counts = [count(part) for part in (model.encoder, model.decoder, model)]
    return jnp.array([*counts, total])


def named(name, function):
    function.__name__ = name
    return function


def attempt(name, module=AutoEncoder, count=count_params, answer=numbers):
    """Return the attempt of a learner who wrote this module, counts so, answers so."""
    return named(name, lambda *c: answer(model_for(*c, module), c[1], count))


def given(name, change):
    """Return a right attempt that takes the inputs `change(seed, x, features)`."""
    return named(name, lambda *inputs: nested_modules(*change(*inputs)))


def pair(in_features, features, rngs):
    encoder = nnx.Linear(in_features, features, rngs=rngs)
    return encoder, nnx.Linear(features, in_features, rngs=rngs)


def elements(state):
    return sum(leaf.size for leaf in jax.tree.leaves(state))


class DecoderFirst(AutoEncoder):
    def __init__(self, inputs, features, rngs):
        self.decoder, self.encoder = pair(features, inputs, rngs)


class RngsKept(AutoEncoder):
    def __init__(self, *sizes, rngs):
        super().__init__(*sizes, rngs)
        self.rngs = rngs


class NoBias(AutoEncoder):
    def __init__(self, inputs, features, rngs):
        linear = functools.partial(nnx.Linear, use_bias=False, rngs=rngs)
        self.encoder, self.decoder = linear(inputs, features), linear(features, inputs)


class SetInCall(AutoEncoder):
    def __init__(self, *sizes, rngs):
        self.sizes, self.rngs = sizes, rngs

    def __call__(self, x):
        AutoEncoder.__init__(self, *self.sizes, self.rngs)
        return super().__call__(x)


class LocalInCall(SetInCall):
    def __call__(self, x):
        encoder, decoder = pair(*self.sizes, self.rngs)
        return decoder(encoder(x))


LocalInCall.__name__ = SetInCall.__name__ = "AutoEncoder"  # as a learner's is


class PlainList(nnx.Module):
    def __init__(self, *sizes, rngs):
        self.layers = list(pair(*sizes, rngs))


PlainList.__module__, PlainList.__qualname__ = "attempt", "AutoEncoder"


def numbers_of_the_page(seed, x, features):
    known = {inputs[1].size: nested_modules(*inputs) for inputs in INPUTS}
    return known.get(x.size, jnp.zeros(4))


def seed_in_each(seed, x, features):
    model = model_for(seed, x, features)
    model.decoder = nnx.Linear(int(features), x.size, rngs=nnx.Rngs(int(seed)))
    return numbers(model, x)


def relu_between(seed, x, features):
    model = model_for(seed, x, features)
    total = model.decoder(nnx.relu(model.encoder(x))).sum()
    return numbers(model, x).at[3].set(total)


def seed_as_float(seed, x, features):
    return numbers(AutoEncoder(x.size, int(features), nnx.Rngs(seed)), x)


def features_as_float(seed, x, features):
    return numbers(AutoEncoder(x.size, features, nnx.Rngs(int(seed))), x)


def whole_added(seed, x, features):
    model = model_for(seed, x, features)
    parts = count_params(model.encoder), count_params(model.decoder)
    return jnp.array([*parts, sum(parts), model(x).sum()])


def loose_layers(seed, x, features):
    encoder, decoder = pair(x.size, int(features), nnx.Rngs(int(seed)))
    counts = count_params(encoder), count_params(decoder)
    return jnp.array([*counts, sum(counts), decoder(encoder(x)).sum()])


def whole_less_encoder(seed, x, features):
    model = model_for(seed, x, features)
    encoder, whole = count_params(model.encoder), count_params(model)
    return jnp.array([encoder, whole - encoder, whole, model(x).sum()])


def sequential(seed, x, features):
    model = nnx.Sequential(*pair(x.size, int(features), nnx.Rngs(int(seed))))
    return jnp.array([*map(count_params, (*model.layers, model)), model(x).sum()])


def sizes_by_formula(seed, x, features):
    model, inner = model_for(seed, x, features), int(features)
    parts = (x.size + 1) * inner, (inner + 1) * x.size
    return jnp.array([*parts, count_params(model), model(x).sum()])


decoder_first = attempt("decoder_first", DecoderFirst)
set_in_call = attempt("set_in_call", SetInCall)
plain_list = attempt("plain_list", PlainList)
leaves_counted = attempt("leaves_counted", count=lambda p: len(jax.tree.leaves(p)))
kernels_only = attempt(
    "kernels_only",
    count=lambda p: elements([k for k in jax.tree.leaves(p) if k.ndim > 1]),
)
all_state = attempt("all_state", RngsKept, lambda part: elements(nnx.state(part)))
mean_of_output = attempt(
    "mean_of_output", answer=lambda m, x, _: numbers(m, x).at[3].set(m(x).mean())
)
integers = attempt("integers", answer=lambda *a: numbers(*a).astype(int))
seed_ignored = given("seed_ignored", lambda s, x, f: (0, x, f))
seed_as_float32 = given("seed_as_float32", lambda s, x, f: (np.float32(s), x, f))
code_clipped = given("code_clipped", lambda s, x, f: (s, x, min(int(f), x.size)))

MISTAKES = {
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    seed_ignored: "The seed is ignored: pass it to `nnx.Rngs`.",
    seed_as_float32: "float32 rounds a large seed: give it to `int` as it comes.",
    code_clipped: "`features` may be more than the inputs: do not clip it.",
    decoder_first: "The decoder draws its keys first: build the encoder before it.",
    seed_in_each: "Each layer starts a stream of its own: share one `nnx.Rngs`.",
    leaves_counted: "These are numbers of arrays: add up the `size` of each.",
    kernels_only: "A bias is a parameter too: count every `nnx.Param`.",
    all_state: "The whole counts its `rngs` too: filter the state by `nnx.Param`.",
    relu_between: "Between the two layers is no activation: leave it out.",
    attempt("no_bias", NoBias): "A layer has a bias: leave `use_bias` as it is.",
    mean_of_output: "This is the mean of the output: sum it.",
    integers: "An integer dtype cuts the output off: return float32.",
    seed_as_float: "`nnx.Rngs` refuses a float: pass `int(seed)`.",
    features_as_float: "`nnx.Linear` refuses a float: pass `int(features)`.",
    attempt("local_in_call", LocalInCall): (
        "After `__init__` the model has no `encoder`: set it there, and not in `setup` "
        "or `__call__`."
    ),
    set_in_call: "The layers are made after the model: build them in its `__init__`.",
    plain_list: "A plain list cannot hold modules: give each an attribute of its own.",
    loose_layers: "The layers are loose: make both attributes of one `nnx.Module`.",
    sequential: "These paths begin with `layers`: name them `encoder` and `decoder`.",
    sizes_by_formula: (
        "A formula, or a layer outside the model, misses them: count the state of the "
        "model's `encoder`."
    ),
    whole_less_encoder: "The decoder has a state of its own: count that.",
    whole_added: "A sum, or a formula, misses them: count the state of the whole.",
}


def split_by_path(model, x, _):
    by_name = collections.Counter()
    for path, param in nnx.to_flat_state(nnx.state(model)):
        by_name[path[0]] += param.size
    counts = by_name["encoder"], by_name["decoder"], by_name.total()
    return np.array([*counts, float(model(x).sum())])


def by_attribute(model, x, _):
    parts = [p.kernel.size + p.bias.size for p in (model.encoder, model.decoder)]
    code = x @ model.encoder.kernel + model.encoder.bias
    total = jnp.sum(code @ model.decoder.kernel + model.decoder.bias)
    return jnp.stack([*map(jnp.float32, (*parts, elements(model))), total])


def checked_itself(model, x, count):
    answer = numbers(model, x, count)
    assert answer[2] == answer[0] + answer[1], "the parts do not add up"
    return answer


def compiled(seed, x, features):
    build = nnx.jit(model_for, static_argnums=(0, 2))
    model, forward = build(seed, x, features), nnx.jit(lambda model, x: model(x))
    return numbers(model, x).at[3].set(forward(model, x).sum())


def class_inside(seed, x, features):
    class Codec(nnx.Module):
        def __init__(self, linear):
            self.encoder = linear(in_features=x.size, out_features=int(features))
            self.decoder = linear(in_features=int(features), out_features=x.size)

    model = Codec(functools.partial(nnx.Linear, rngs=nnx.Rngs(params=int(seed))))
    decoder, encoder = (count_params(child) for _, child in nnx.iter_children(model))
    total = model.decoder(model.encoder(x)).sum()
    return np.asarray([encoder, decoder, count_params(model), total], np.float32)


ALSO_RIGHT = [
    attempt("split_by_path", answer=split_by_path),
    attempt("by_attribute", answer=by_attribute),
    attempt("checked_itself", answer=checked_itself),
    compiled,
    class_inside,
]
