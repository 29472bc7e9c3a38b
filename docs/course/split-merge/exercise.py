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
import sys
from unittest.mock import patch

INPUTS = [  # seed, x, features
    (0.0, jnp.array([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]), 2.0),
    (7.0, jnp.array([[0.5, -1.5]]), 3.0),
]
ROWS = iter(range(37, 10_000))  # another batch each time: functions compile anew


def expected_sum(seed, x, features):
    """Return the sum from the kernel alone; the bias starts at zero."""
    layer = nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return (x @ layer.kernel[...]).sum()


def traced(tree):
    """Return the stand-ins for arrays in a tree: what `jax.jit` passes in."""
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.core.Tracer)]


def missing_idea(candidate, seed, features):
    """Return what the compiled sum does not come from, or None."""
    x = jnp.array([[0.5, -1.0, 2.0]] * next(ROWS))
    call, previous, ratios = nnx.Linear.__call__, sys.getprofile(), jnp.array([1, 3])
    made, given, merged, frozen, compiled = [], [], [], [], []

    def profile(frame, event, _):  # sees a call however its function was imported
        code = frame.f_code
        if event == "call" and code is nnx.merge.__code__:
            merged.append(traced(frame.f_locals["states"]))
        elif event == "call" and code in (nnx.split.__code__, nnx.state.__code__):
            given.extend([] if any(merged) else traced(frame.f_locals["node"]))
        elif event == "return" and code is nnx.Linear.__init__.__code__:
            made.extend(traced(frame.f_locals["self"]))

    def marked(layer, x):  # triples what a layer returns whose params are stand-ins
        y, params = call(layer, x), traced(layer)
        try:
            bool(y.sum() > 0)  # only a compiled function has no numbers yet
            return y
        except jax.errors.ConcretizationTypeError:
            (compiled if params else frozen).extend(params or [layer])
            return 3 * y if params else y

    with patch.object(nnx.Linear, "__call__", marked):
        try:
            sys.setprofile(profile)
            ratios = candidate(seed, x, features) / expected_sum(seed, x, features)
        except Exception:  # perhaps the candidate asserts that the sums are equal
            pass
        finally:
            sys.setprofile(previous)
    if frozen and not compiled:
        return "the compiled function closes over the state: make it an argument"
    if {*map(id, compiled)} & {*map(id, made)}:
        return "the compiled function builds the model: pass the state in"
    if {*map(id, compiled)} & {*map(id, given)}:
        return "the compiled function splits the model: split it before, pass the state"
    if compiled and not any(merged):
        return "the compiled function takes the model: pass its state, and merge inside"
    if not merged:
        return "nnx.merge is never called"
    if not compiled:
        return "no merged nnx.Linear is called in a function that jax.jit compiles"
    for ratio, factor, kind in zip(ratios, (1, 3), ("direct", "compiled"), strict=True):
        if not jnp.isclose(ratio, factor, 1e-3):
            return f"no {kind} call of the layer gives its number of the answer"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, features in inputs:
        answer, wrong, hint = candidate(seed, x, features), None, ""
        total = expected_sum(seed, x, features)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape, dtype = (getattr(answer, name, None) for name in ("shape", "dtype"))
        if shape != (2,) or not jnp.issubdtype(dtype, jnp.floating):
            wrong, kind = "an array of shape (2,), dtype float32", type(answer).__name__
            answer = f"shape {shape}, dtype {dtype}" if shape is not None else kind
            hint = "\n  next:     put both sums, as two scalars, into jnp.array"
        elif not jnp.allclose(answer, total, atol=1e-4):
            wrong, answer = [total.item()] * 2, answer.tolist()
        if wrong:
            given = f"{seed}, jnp.array({x.tolist()}), {features}"
            call = f"{candidate.__name__}({given})"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}{hint}"
    missing = missing_idea(candidate, inputs[0][0], inputs[0][2])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools

import flax.linen as nn
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (
        7.0,
        jnp.array([[2.0, 0.25, 1.5], [-1.0, 3.0, 0.5]]),
        4.0,
    ),  # seed and shape of INPUTS
    (11.0, jnp.sin(jnp.arange(12.0)).reshape(3, 4), 1.0),
]


def layer(seed, x, features):
    """Return the module that the exercise asks for."""
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def both(model, x, compiled, *states):
    """Return the direct sum, and that of a function compiled by `jax.jit`."""
    return jnp.array([model(x).sum(), jax.jit(compiled)(*states)])


def seed_zero(seed, x, features):
    return split_merge(0, x, features)


def seed_as_float(seed, x, features):
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(seed))(x)


def part_of_the_state(seed, x, features):
    graphdef, state = nnx.split(layer(seed, x, features))
    return compiled_sum(graphdef, {"kernel": state["kernel"]}, x)


def order_of_old_flax(seed, x, features):
    state, graphdef = nnx.split(layer(seed, x, features))
    return compiled_sum(graphdef, state, x)


def state_static(seed, x, features):
    forward = jax.jit(lambda g, s: nnx.merge(g, s)(x).sum(), static_argnums=(0, 1))
    return forward(*nnx.split(layer(seed, x, features)))


def sum_left_inside(seed, x, features):
    def forward(state):
        merged = nnx.merge(graphdef, state)
        merged.total[...] = merged(x).sum()

    model = layer(seed, x, features)
    model.total = nnx.Variable(jnp.array(0.0))
    graphdef, state = nnx.split(model)
    jax.jit(forward)(state)
    return jnp.array([model(x).sum(), model.total[...]])


def mode_set_after_the_split(seed, x, features):
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    model = nnx.Sequential(dropout, layer(seed, x, features))
    graphdef, state = nnx.split(model)
    model.eval()
    return both(model, x, lambda s: nnx.merge(graphdef, s)(x).sum(), state)


def a_list(seed, x, features):
    return list(split_merge(seed, x, features))


def linen_weights(seed, x, features):
    model = nn.Dense(int(features))
    variables = model.init(jax.random.key(int(seed)), x)
    sums = model.apply(variables, x).sum(), jax.jit(model.apply)(variables, x).sum()
    return jnp.array(sums)


def numbers_of_the_page(seed, x, features):
    known = {str(inputs[1]): split_merge(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros(2))


def two_rows_at_most(seed, x, features):
    return split_merge(seed, x[:2], features)


def kept_by_shape(seed, x, features):
    known = {inputs[1].shape: inputs for inputs in INPUTS}
    kept = known.get(x.shape, (seed, x, features))
    return split_merge(kept[0], x, kept[2])


def two_outputs(seed, x, features):
    return split_merge(seed, x, 2)


def first_copied(seed, x, features):
    return split_merge(seed, x, features)[jnp.array([0, 0])]


def second_copied(seed, x, features):
    return split_merge(seed, x, features)[jnp.array([1, 1])]


def nothing_compiled(seed, x, features):
    model = layer(seed, x, features)
    return jnp.array([model(x).sum(), nnx.merge(*nnx.split(model))(x).sum()])


def state_closed_over(seed, x, features):
    model = layer(seed, x, features)
    graphdef, state = nnx.split(model)
    return both(model, x, lambda x: nnx.merge(graphdef, state)(x).sum(), x)


def model_compiled(seed, x, features):
    model = layer(seed, x, features)
    return jnp.array([model(x).sum(), nnx.jit(lambda m, x: m(x).sum())(model, x)])


def split_in_the_function(seed, x, features):
    def forward(model):
        return nnx.merge(*nnx.split(model))(x).sum()

    model = layer(seed, x, features)
    return both(model, x, forward, model)


def built_in_the_function(seed, x, features):
    def forward():
        return nnx.merge(*nnx.split(layer(seed, x, features)))(x).sum()

    return both(layer(seed, x, features), x, forward)


def formula_by_hand(seed, x, features):
    def forward(params):
        return (x @ params["kernel"] + params["bias"]).sum()

    model = layer(seed, x, features)
    return both(model, x, forward, nnx.state(model))


MISTAKES = {
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    seed_as_float: "The seed may be a float: pass `int(seed)` to `nnx.Rngs`.",
    part_of_the_state: "A part of the state is missing: merge with all of it.",
    order_of_old_flax: "`nnx.split` returns the graphdef first, then the state.",
    state_static: "The state holds arrays: only the graphdef can be static.",
    sum_left_inside: "`jax.jit` drops what the function writes: return the sum.",
    mode_set_after_the_split: (
        "The graphdef keeps the mode that the model had: call `eval()` before `split`."
    ),
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    linen_weights: "These are Linen's weights: build `nnx.Linear` from `nnx.Rngs`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    two_rows_at_most: "Sum over all rows: the batch may have more than two.",
    kept_by_shape: "This shape was tried with another seed: build the model anew.",
    two_outputs: "`features` is ignored: pass `int(features)` to `nnx.Linear`.",
    first_copied: "The second number needs a call of its own, compiled.",
    second_copied: "The first number needs a call of its own, not compiled.",
    nothing_compiled: "Merge and call the model in a function that `jax.jit` compiles.",
    state_closed_over: (
        "A state from outside becomes a constant: make it an argument of the function."
    ),
    model_compiled: (
        "The function takes the model: split it before, and merge inside `jax.jit`."
    ),
    split_in_the_function: "Split before the call: the model is no argument here.",
    built_in_the_function: (
        "Build and split the model outside, and pass the state to the function."
    ),
    formula_by_hand: "Call `nnx.merge` in the function, then the model it returns.",
}


@functools.partial(jax.jit, static_argnums=0)
def by_place(graphdef, state, x):
    return nnx.merge(graphdef, state)(x)


@functools.partial(jax.jit, static_argnames="graphdef")
def by_name(state, x, *, graphdef):
    return nnx.merge(graphdef, state)(x).sum()


def static_argnums(seed, x, features):
    model = layer(seed, x, features)
    return jnp.stack([y.sum() for y in (model(x), by_place(*nnx.split(model), x))])


def static_argnames(seed, x, features):
    model = layer(seed, x, features)
    graphdef, state = nnx.split(model)
    return np.array([model(x).sum(), by_name(state, x, graphdef=graphdef)])


def closed_over_graphdef(seed, x, features):
    model = layer(seed, x, features)
    graphdef, *states = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def forward(*states):
        return nnx.merge(graphdef, *states, copy=True)(x)

    return jnp.array([jnp.sum(model(x)), jnp.sum(forward(*states))])


def bound_by_partial(seed, x, features, jit=jax.jit, merge=nnx.merge):
    def restored(graphdef, state):
        return merge(graphdef, state)

    def forward(graphdef, state, x):
        return restored(graphdef, state)(x).sum()

    model = layer(seed, x, features)
    graphdef, state = nnx.split(model)
    sums = model(x).sum(), jit(functools.partial(forward, graphdef))(state, x=x)
    assert jnp.allclose(*sums, atol=1e-5)
    return jnp.array(sums)


def pair_of_pure_dict(seed, x, features):
    model = nnx.Sequential(layer(seed, x, features))
    pair = nnx.graphdef(model), nnx.to_pure_dict(nnx.state(model))
    return both(model, x, lambda pair: nnx.merge(*pair)(x).sum(), pair)


def state_returned(seed, x, features):
    def forward(graphdef, state):
        model = nnx.merge(graphdef, state)
        return model(x).sum(), nnx.split(model)[1]

    model = layer(seed, x, features)
    total, state = jax.jit(forward)(*nnx.split(model))
    nnx.update(model, state)
    return jnp.array([jax.vmap(model)(x).sum(), total])


def by_nnx_call(seed, x, features):
    def forward(split):
        y, _ = nnx.call(split)(x)
        return y.sum()

    class Model(nnx.Linear):
        pass

    model = Model(x.shape[-1], int(features), rngs=nnx.Rngs(params=int(seed)))
    return both(model, x, forward, nnx.split(model))


ALSO_RIGHT = [
    static_argnums,
    static_argnames,
    closed_over_graphdef,
    bound_by_partial,
    pair_of_pure_dict,
    state_returned,
    by_nnx_call,
]
