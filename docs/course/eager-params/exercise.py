"""The exercise of "Eager parameters": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def eager_params(seed, x, features):
    """Return the parameter counts before and after the first call, in shape (2,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (in_features,) or (batch, in_features), float32.
      features: number of outputs; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))

    def count():
        params = nnx.state(model, nnx.Param)
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    before = count()
    model(x)
    return jnp.array([before, count()])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (0.0, jnp.array([1.0, 2, 3, 4]), 3.0), (7.0, jnp.array([[0.5, -1.5]]), 2.0)
    for seed, x, features in [*page, *more]:
        answer, outputs = candidate(seed, x, features), int(features)
        count = x.shape[-1] * outputs + outputs  # kernel and bias
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (2,):
            expected = f"an array of shape (2,), not {shape}"
        elif answer.tolist() != [count, count]:
            expected = f"[{count} {count}], because a call adds no parameters"
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from contextlib import suppress

import flax.linen as nn
import numpy as np

# An input that only `nbe` tries: it catches a mistake that the page's own let through.
HIDDEN = [(3.0, jnp.array([[0.25], [-1.5], [2.0]]), 5.0)]


def idea(seen):
    """Return what right numbers lack: one model, counted before and after its call."""
    (seed, x, features), kernels = seen.inputs, []

    def widen(layer):  # each layer to another width
        kernels.append(layer.kernel[...])
        width = layer.kernel.shape[1] + 100 * len(kernels)
        layer.kernel.set_value(np.zeros((x.size, width)))
        layer.bias.set_value(np.zeros(width))

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
        run = seen.run(calls={nnx.Linear: grow}, inputs=(seed + 1, x, features))
        runs["the call adds parameters"] = run
    if jnp.array_equal(kernels[0], kernels[-1]):
        return "two seeds give the same kernel"
    with suppress(seen.Finding):  # it splits by `nnx.Param`, which refuses another type
        run = seen.run(built={nnx.Linear: measure})
        runs["5 numbers lie in an nnx.BatchStat, which is no nnx.Param"] = run
    for when, run in runs.items():
        call = run.calls_of(nnx.Linear)[0]
        states = [state.of(nnx.Param) for state in (call.before, call.after)]
        right = [sum(value.size for value in state.values()) for state in states]
        if not seen.close(run.answer, right):
            return f"when {when}, count {right}, not {np.asarray(run.answer).tolist()}"


def model_for(seed, x, features, cls=nnx.Linear):
    return cls(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def elements(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def count(model):
    return elements(nnx.state(model, nnx.Param))


def attempt(name, layer=nnx.Linear, counted=count):
    """Return the attempt of a learner who makes the model so, and counts it so."""

    def around_call(*inputs):
        model = model_for(*inputs, layer)
        before = counted(model)
        model(inputs[1])
        return jnp.array([before, counted(model)])

    around_call.__name__ = name
    return around_call


def seed_not_cast(seed, x, features):
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(seed))


def first_axis(seed, x, features):
    return model_for(seed, x.T, features)(x)


def squeezed(seed, x, features):
    return eager_params(seed, jnp.squeeze(x), features)


def seed_zero(seed, x, features):
    return eager_params(0, x, features)


def lazy_linen(seed, x, features):
    params = nn.Dense(int(features)).init(jax.random.key(int(seed)), x)
    return jnp.array([0, elements(params)])


def formula(seed, x, features):
    return jnp.full(2, (x.shape[-1] + 1) * int(features))


def formula_with_assert(seed, x, features):
    model = model_for(seed, x, features)
    model(x)
    assert model.bias.shape == (int(features),)
    assert count(model) == formula(seed, x, features)[0]
    return formula(seed, x, features)


def two_models(seed, x, features):
    before, model = count(model_for(seed, x, features)), model_for(seed, x, features)
    model(x)
    return jnp.array([before, count(model)])


def copied(seed, x, features):
    model = model_for(seed, x, features)
    before, _ = count(model), model(x)
    return jnp.array([before, before])


def never_called(seed, x, features):
    model = model_for(seed, x, features)
    assert model.bias.shape == (int(features),)
    return jnp.array([count(model), count(model)])


def counted_after(seed, x, features):
    model = model_for(seed, x, features)
    model(x)
    return jnp.array([count(model), count(model)])


MISTAKES = {
    attempt("without_rngs", lambda *sizes, rngs: nnx.Linear(*sizes)): (
        "The constructor draws the kernel: give it `rngs=nnx.Rngs(...)`."
    ),
    attempt("without_in_features", lambda _, size, rngs: nnx.Linear(size, rngs=rngs)): (
        "A size is missing: pass `x.shape[-1]` and `int(features)`."
    ),
    attempt("all_state", counted=elements): (
        "Count parameters alone: give `nnx.state` the filter `nnx.Param`."
    ),
    seed_not_cast: "`nnx.Rngs` wants an integer: cast the seed with `int`.",
    first_axis: "The first axis may be the batch: the input size is `x.shape[-1]`.",
    squeezed: "An axis of `x` is lost: use `x` as it is, with `x.shape[-1]` inputs.",
    seed_zero: "The kernel ignores the seed: draw it with `nnx.Rngs(int(seed))`.",
    lazy_linen: "The model is empty before its call, as in Linen: build `nnx.Linear`.",
    formula: "Build an `nnx.Linear` in the function, and count what it holds.",
    formula_with_assert: "Read the counts from the model, not from a formula.",
    two_models: "The counts are of two models: build one, and count it twice.",
    copied: "The second count does not see the call: count the called model again.",
    never_called: "Call the model on `x` between the two counts.",
    counted_after: "Take the first count before the model has been called.",
}


class OwnCall(nnx.Linear):
    def __call__(self, x):
        return x @ self.kernel + self.bias


def compiled(seed, x, features):
    model = model_for(seed, x, features)
    before = count(model)
    nnx.jit(lambda model, x: model(x))(model, x)
    return jnp.stack([before, count(model)])


def split_and_merged(seed, x, features):
    graphdef, params = nnx.split(model_for(seed, x, features), nnx.Param)
    before = elements(params)
    nnx.merge(graphdef, params)(x)
    if elements(params) != before:
        raise ValueError("the call has added parameters")
    return jnp.array([before, elements(params)])


ALSO_RIGHT = [
    attempt("in_a_subclass", OwnCall),
    attempt("by_names", counted=lambda model: model.kernel.size + model.bias[...].size),
    compiled,
    split_and_merged,
]
