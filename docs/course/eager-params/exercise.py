"""The exercise of "Eager parameters": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def eager_params(x, features):
    """Return the bytes of the parameters before and after the first call, shape (2,).

    Args:
      x: input, shape (in_features,) or (batch, in_features), float32.
      features: number of outputs.
    """
    # --8<-- [end:stub]
    sizes, dtype = (x.shape[-1], features), jnp.bfloat16
    model = nnx.Linear(*sizes, param_dtype=dtype, rngs=nnx.Rngs(0))

    def count_bytes():
        params = nnx.state(model, nnx.Param)
        return sum(leaf.nbytes for leaf in jax.tree.leaves(params))

    before = count_bytes()
    model(x)
    return jnp.array([before, count_bytes()])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (jnp.array([1.0, 2.0, 3.0, 4.0]), 3), (jnp.array([[0.5, -1.5]]), 2)
    for x, features in [*page, *more]:
        answer = candidate(x, features)
        elements = x.shape[-1] * features + features  # kernel and bias
        right = 2 * elements  # in bytes
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (2,):
            expected = f"an array of shape (2,), not {shape}"
        elif answer.tolist() != [right, right]:
            expected = f"[{right} {right}], because a call adds no parameters"
        else:
            continue
        call = f"{candidate.__name__}(jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from contextlib import suppress

import flax.linen as nn
import numpy as np

# An input that only `nbe` tries: it catches a mistake that the page's own let through.
HIDDEN = [(jnp.array([[0.25], [-1.5], [2.0], [1.0]]), 5)]


def idea(seen):
    """Return what right numbers lack: one model, counted before and after its call."""
    (x, features), widths = seen.inputs, []

    def widen(layer):  # each layer to another width
        widths.append(features + 100 * (1 + len(widths)))
        dtype = layer.kernel.dtype
        layer.kernel.set_value(jnp.zeros((x.shape[-1], widths[-1]), dtype))
        layer.bias.set_value(jnp.zeros(widths[-1], dtype))

    def grow(call):
        output = call.proceed()
        widen(call.module)
        return output

    def measure(layer):
        layer.statistics = nnx.BatchStat(np.zeros(5))

    when = "the layer is wider"
    runs = {when: seen.run(when, built={nnx.Linear: widen})}
    if not runs[when].built_of(nnx.Linear):
        return "the function builds no nnx.Linear"
    if not runs[when].calls_of(nnx.Linear):
        return "the model is never called"
    with suppress(seen.Finding):  # it refuses two unequal counts itself
        run = seen.run(calls={nnx.Linear: grow})
        runs["the call adds parameters"] = run
    with suppress(seen.Finding):  # it splits by `nnx.Param`, which refuses another type
        run = seen.run(built={nnx.Linear: measure})
        runs["5 numbers lie in an nnx.BatchStat, which is no nnx.Param"] = run
    for when, run in runs.items():
        call = run.calls_of(nnx.Linear)[0]
        states = [state.of(nnx.Param) for state in (call.before, call.after)]
        right = [sum(value.nbytes for value in state.values()) for state in states]
        if not seen.close(run.answer, right):
            got = np.asarray(run.answer).tolist()
            return f"when {when}, the bytes are {right}, not {got}"


def model_for(x, features, cls=nnx.Linear, **options):
    options = {"param_dtype": jnp.bfloat16, **options}
    return cls(x.shape[-1], features, rngs=nnx.Rngs(0), **options)


def total(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def count(model):
    return total(nnx.state(model, nnx.Param))


def attempt(name, layer=nnx.Linear, counted=count, **options):
    """Return the attempt of a learner who makes the model so, and counts it so."""

    def around_call(*inputs):
        model = model_for(*inputs, layer, **options)
        before = counted(model)
        model(inputs[0])
        return jnp.array([before, counted(model)])

    around_call.__name__ = name
    return around_call


def without_rngs(*sizes, rngs, **options):
    return nnx.Linear(*sizes, **options)


def without_in_features(in_features, features, **options):
    return nnx.Linear(features, **options)


def elements(model):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def first_axis(x, features):
    return model_for(x.T, features)(x)


def squeezed(x, features):
    return eager_params(jnp.squeeze(x), features)


def lazy_linen(x, features):
    model = nn.Dense(features, param_dtype=jnp.bfloat16)
    return jnp.array([0, total(model.init(jax.random.key(0), x))])


def formula(x, features):
    return jnp.full(2, 2 * (x.shape[-1] + 1) * features)


def formula_with_assert(x, features):
    model = model_for(x, features)
    model(x)
    assert model.bias.shape == (features,)
    assert count(model) == formula(x, features)[0]
    return formula(x, features)


def two_models(x, features):
    before, model = count(model_for(x, features)), model_for(x, features)
    model(x)
    return jnp.array([before, count(model)])


def copied(x, features):
    model = model_for(x, features)
    before, _ = count(model), model(x)
    return jnp.array([before, before])


def never_called(x, features):
    model = model_for(x, features)
    assert model.bias.shape == (features,)
    return jnp.array([count(model), count(model)])


def counted_after(x, features):
    model = model_for(x, features)
    model(x)
    return jnp.array([count(model), count(model)])


MISTAKES = {
    attempt("without_rngs", without_rngs): (
        "The constructor draws the kernel: give it `rngs=nnx.Rngs(0)`."
    ),
    attempt("without_in_features", without_in_features): (
        "A size is missing: pass `x.shape[-1]` and `features`."
    ),
    attempt("all_state", counted=total): (
        "Count parameters alone: give `nnx.state` the filter `nnx.Param`."
    ),
    attempt("elements_counted", counted=elements): (
        "These are numbers of elements: add up the bytes of each array, its `nbytes`."
    ),
    attempt("float32_params", param_dtype=jnp.float32): (
        "The parameters are float32: pass `param_dtype=jnp.bfloat16`."
    ),
    first_axis: "The first axis may be the batch: the input size is `x.shape[-1]`.",
    squeezed: "An axis of `x` is lost: use `x` as it is, with `x.shape[-1]` inputs.",
    lazy_linen: "The model is empty before its call, as in Linen: build `nnx.Linear`.",
    formula: "Build an `nnx.Linear` in the function, and count what it holds.",
    formula_with_assert: "Read the bytes from the model, not from a formula.",
    two_models: "The counts are of two models: build one, and count it twice.",
    copied: "The second count does not see the call: count the called model again.",
    never_called: "Call the model on `x` between the two counts.",
    counted_after: "Take the first count before the model has been called.",
}


class OwnCall(nnx.Linear):
    def __call__(self, x):
        return x @ self.kernel + self.bias


def compiled(x, features):
    model = model_for(x, features)
    before = count(model)
    nnx.jit(lambda model, x: model(x))(model, x)
    return jnp.stack([before, count(model)])


def split_and_merged(x, features):
    graphdef, params = nnx.split(model_for(x, features), nnx.Param)
    before = total(params)
    nnx.merge(graphdef, params)(x)
    if total(params) != before:
        raise ValueError("the call has added parameters")
    return jnp.array([before, total(params)])


def two_bytes_each(model):
    return 2 * elements(model)


ALSO_RIGHT = [
    attempt("in_a_subclass", OwnCall),
    attempt("by_names", counted=lambda model: model.kernel.nbytes + model.bias.nbytes),
    attempt("two_bytes_each", counted=two_bytes_each),
    compiled,
    split_and_merged,
]
