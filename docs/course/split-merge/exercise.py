"""The exercise of "Split and merge": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


@jax.jit
def compiled_sum(graphdef, state, x):
    return nnx.merge(graphdef, state)(x).sum()


# --8<-- [start:stub]
def split_merge(seed, x, features):
    """Return the sums of a layer's output, called directly and compiled, shape (2,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, in_features), float32.
      features: number of outputs; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    graphdef, state = nnx.split(model)
    return jnp.array([model(x).sum(), compiled_sum(graphdef, state, x)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = jnp.array([[1.0, 2, 3], [0.5, 0, -1]])
    for seed, x, features in [(0.0, page, 2.0), (7.0, -page, 2.0), *more]:
        answer = candidate(seed, x, features)
        layer = nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
        total = (x @ layer.kernel).sum()  # the bias is zero
        if getattr(answer, "shape", None) != (2,):
            expected = f"an array of shape (2,), not {type(answer).__name__}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, total, atol=1e-4):
            expected = f"{total}, twice: direct and compiled"
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import itertools
from contextlib import suppress

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (7.0, jnp.array([[2.0, 0.25, 1.5], [-1, 3, 0.5]]), 4.0),
    (11.0, jnp.array([[0.5, -0.25, 3], [-2, 1, 0.75], [1, 1.5, -1]]), 2.0),
]
ROWS = itertools.count(37)  # another batch in each run: what is compiled compiles anew


def idea(seen):
    """Return what the compiled sum does not come from, or None."""
    seed, x, features = seen.inputs
    inputs = seed, jnp.tile(x[:1], (next(ROWS), 1)), features
    joins = nnx.merge, nnx.call, nnx.update
    run = seen.run(inputs=inputs, watch=[nnx.split, nnx.state, *joins], eager=False)
    calls = [call for call in run.calls_of(nnx.Linear) if call.compiled]
    params = traced(*(call.before for call in calls))
    joined = [id(call) for call in run.calls_of(*joins) if call.compiled]
    early = itertools.takewhile(lambda call: id(call) not in joined, run.calls)
    split = [call.kwargs["node"] for call in early if "filters" in call.kwargs]
    if calls and not params:
        return "the compiled function closes over the state: make it an argument"
    if params & traced(*map(seen.state, run.built_of(nnx.Linear))):
        return "the compiled function builds the model: pass the state in"
    if params & traced(*map(seen.state, split)):
        return "the compiled function splits the model: split it before, pass the state"
    if params and not joined:
        return "the compiled function takes the model: pass its state, and merge inside"
    if not run.calls_of(*joins):
        return "nnx.merge is never called"
    if not params:
        return "no merged nnx.Linear is called in a function that jax.jit compiles"

    for factor in (3, 2):  # it may compare the two sums itself: 2 keeps them equal

        def more(call, factor=factor):
            return call.proceed() * (factor if traced(call.before) else 2)

        inputs = seed, jnp.tile(x[:1], (next(ROWS), 1)), features
        with suppress(*([seen.Finding] if factor == 3 else [])):
            hooks = {"calls": {nnx.Linear: more}, "eager": False}
            answer = seen.run("layers return more", inputs=inputs, **hooks).answer
            ratios = answer / (inputs[1] @ layer(*inputs).kernel).sum()
            if not seen.close(ratios, [2, factor], rtol=1e-3):
                said = f"2 times as much, {factor} times if it is compiled"
                grown = f"{ratios[0]:.1f} and {ratios[1]:.1f} times"
                return f"when the layer returns {said}, the sums grow {grown}"
            break


def traced(*states):
    """Return the identities of the values in states that stand in for arrays."""
    found = [value for state in states for value in state.of().values()]
    return {id(value) for value in found if isinstance(value, jax.core.Tracer)}


def layer(seed, x, features):
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def total(model, x):
    return model(x).sum()


def attempt(compiled, name=""):
    """Return an attempt whose second sum is what `compiled(model, x)` returns."""

    def sums(seed, x, features):
        model = layer(seed, x, features)
        return jnp.array([total(model, x), compiled(model, x)])

    sums.__name__ = name or compiled.__name__
    return sums


def nothing_compiled(model, x):
    return total(nnx.merge(*nnx.split(model)), x)


def sum_left_inside(model, x):
    def forward(state):
        model = nnx.merge(graphdef, state)
        model.total[...] = total(model, x)

    model.total = nnx.Variable(jnp.array(0.0))
    graphdef, state = nnx.split(model)
    jax.jit(forward)(state)
    return model.total[...]


def mode_set_after_the_split(model, x):
    model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), model)
    graphdef, state = nnx.split(model)
    model.eval()
    return compiled_sum(graphdef, state, x)


def two_rows_at_most(seed, x, features):
    return split_merge(seed, x[:2], features)


def two_outputs(seed, x, features):
    return split_merge(seed, x, 2)


def built_in_the_function(*inputs):
    compiled = jax.jit(lambda: total(layer(*inputs), inputs[1]))
    return jnp.array([total(layer(*inputs), inputs[1]), compiled()])


def formula_with_assert(*inputs):
    sums, by_hand = split_merge(*inputs), (inputs[1] @ layer(*inputs).kernel).sum()
    assert jnp.allclose(sums, by_hand, atol=1e-4)
    return jnp.array([by_hand, by_hand])


MISTAKES = {
    attempt(lambda m, x: compiled_sum(nnx.graphdef(m), m.kernel[...], x), "part"): (
        "A part of the state is missing: merge with all of it."
    ),
    attempt(sum_left_inside): (
        "`jax.jit` drops what the function writes: return the sum."
    ),
    attempt(mode_set_after_the_split): (
        "The graphdef keeps the mode that the model had: call `eval()` before `split`."
    ),
    attempt(nothing_compiled): (
        "Merge and call the model in a function that `jax.jit` compiles."
    ),
    attempt(lambda m, x: jax.jit(lambda x: total(m, x))(x), "state_closed_over"): (
        "A state from outside becomes a constant: make it an argument of the function."
    ),
    attempt(nnx.jit(total), "model_compiled"): (
        "The function takes the model: split it before, and merge inside `jax.jit`."
    ),
    attempt(jax.jit(nothing_compiled), "split_in_the_function"): (
        "Split before the call: the model is no argument here."
    ),
    attempt(lambda m, x: jax.jit(jnp.matmul)(x, m.kernel[...]).sum(), "by_hand"): (
        "Call `nnx.merge` in the function, then the model it returns."
    ),
    two_rows_at_most: "Sum over all rows: the batch may have more than two.",
    two_outputs: "`features` is ignored: pass `int(features)` to `nnx.Linear`.",
    built_in_the_function: (
        "Build and split the model outside, and pass the state to the function."
    ),
    formula_with_assert: "Return the sums of the layer's calls, not the formula's.",
}


def sums_compared(*inputs):
    sums = split_merge(*inputs)
    if abs(sums[0] - sums[1]) > 1e-3:
        raise ValueError("the sums differ")
    return sums


def state_returned(model, x):
    def forward(graphdef, state):
        merged = nnx.merge(graphdef, state)
        return total(merged, x), nnx.split(merged)[1]

    found, state = jax.jit(forward)(*nnx.split(model))
    nnx.update(model, state)
    return found


def abstract_updated(model, x):
    def forward(state):
        abstract = nnx.eval_shape(lambda: nnx.Linear(*sizes, rngs=nnx.Rngs(0)))
        nnx.update(abstract, state)
        return total(abstract, x)

    sizes = model.kernel.shape
    return jax.jit(forward)(nnx.state(model))


def by_nnx_call(model, x):
    return jax.jit(lambda split: nnx.call(split)(x)[0].sum())(nnx.split(model))


ALSO_RIGHT = [sums_compared]
ALSO_RIGHT += map(attempt, [state_returned, abstract_updated, by_nnx_call])
