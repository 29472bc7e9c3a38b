"""The exercise of "Noise under jit": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class Noise(nnx.Module):
    def __init__(self, features, rngs):
        self.features = features
        self.rngs = rngs

    def __call__(self):
        return jax.random.normal(self.rngs.noise(), (self.features,))


def call(model):
    return model()
    # --8<-- [end:model]


# --8<-- [start:stub]
def noise_under_jit(seed, features):
    """Return the sums of the noise of three calls, made in three ways, shape (3, 3).

    Row 0 is eager, row 1 through `nnx.jit`, row 2 through `jax.jit`; a column per call.

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      features: size of the noise; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    rows = []
    for draw in (call, nnx.jit(call), jax.jit(call)):
        model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
        rows.append([draw(model).sum() for _ in range(3)])
    return jnp.array(rows)
    # --8<-- [end:solution]


# --8<-- [start:check]
import traceback
from unittest.mock import patch

INPUTS = [(7.0, 4.0), (0.0, 1.0)]  # seed, features
WAYS = "eagerly", "through nnx.jit", "through jax.jit"
OTHER_SIZE = 37.0  # so that a function which is compiled already is compiled anew


def expected_rows(seed, features, mark=lambda key, way: key):
    """Return the sums from keys alone. `mark` may turn each into another key."""
    keys = [jax.random.fold_in(jax.random.key(int(seed)), i) for i in range(3)]
    drawn = [keys, keys, [keys[0]] * 3]  # jax.jit never sees another count than 0
    noise = [
        [jax.random.normal(mark(key, way), (int(features),)) for key in row]
        for way, row in enumerate(drawn)
    ]
    return jnp.array(noise).sum(axis=-1)


def missing_idea(candidate, seed):
    """Return what the rows do not come from, or None."""
    draw, draws, mark = nnx.RngStream.__call__, [], jax.random.fold_in

    def marked(stream):  # gives other keys: eagerly, in nnx.jit and in jax.jit
        key = draw(stream)
        draws.append(key)
        # modules of the functions that wait for this key: is nnx.jit among them?
        callers = [f.f_globals.get("__name__") for f, _ in traceback.walk_stack(None)]
        if nnx.jit.__module__ in callers:
            return mark(key, 1)
        return mark(key, 2 if isinstance(key, jax.core.Tracer) else 0)

    with patch.object(nnx.RngStream, "__call__", marked):
        try:
            answer = candidate(seed, OTHER_SIZE)
            if not draws:
                return "no draw comes from a stream: call `self.rngs.noise()`"
            draws.clear()
            with jax.disable_jit():  # each call of a jitted function runs its Python
                candidate(seed, OTHER_SIZE)
        except Exception:  # perhaps the candidate asserts the usual numbers
            return None
    if getattr(answer, "shape", None) != (3, 3):
        return f"for {OTHER_SIZE} features there is no answer: compute each"
    same = jnp.isclose(answer, expected_rows(seed, OTHER_SIZE, mark), atol=1e-3)
    if wrong := [row for row in range(3) if not same[row].all()]:
        return "; ".join(f"row {row} is not drawn {WAYS[row]}" for row in wrong)
    if len(draws) < 9:
        return f"the numbers come from {len(draws)} calls, not from nine"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, features in inputs:
        answer, wrong, hint = candidate(seed, features), None, None
        rows = expected_rows(seed, features)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != (3, 3):
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong, answer = "an array of shape (3, 3)", kind
            hint = "sum the noise of each call, and put the nine sums into jnp.array"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong, answer = "numbers of dtype float32", f"dtype {answer.dtype}"
            hint = "return the sums as they are"
        elif not (same := jnp.isclose(answer, rows, atol=1e-4).all(axis=1)).all():
            row = same.tolist().index(False)
            wrong, answer = f"{rows[row].tolist()}", answer[row].tolist()
            hint = f"row {row}: call one fresh model three times {WAYS[row]}, and sum"
        if wrong:
            said = f"{candidate.__name__}({seed}, {features})\n  expected: {wrong}"
            said += f"\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    if missing := missing_idea(candidate, inputs[0][0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (7.0, 1.0),  # a seed of INPUTS with another size
    (11.0, 4.0),  # a seed that is not in INPUTS
]


IN_NNX, IN_JAX = nnx.jit(call), jax.jit(call)  # compiled once for each size


def rows_of(seed, features, ways=(call, IN_NNX, IN_JAX), build=Noise, fold=jnp.sum):
    """Return three numbers for each way to call a fresh module."""
    rows = []
    for draw in ways:
        model = build(int(features), rngs=nnx.Rngs(int(seed)))
        rows.append([fold(draw(model)) for _ in range(3)])
    return jnp.array(rows)


def jax_jit_twice(seed, features):
    return rows_of(seed, features, (call, IN_JAX, IN_JAX))


def nnx_jit_twice(seed, features):
    return rows_of(seed, features, (call, IN_NNX, IN_NNX))


def ways_swapped(seed, features):
    return rows_of(seed, features, (call, IN_JAX, IN_NNX))


def one_model_for_all(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    return rows_of(seed, features, build=lambda features, rngs: model)


def new_model_for_each_call(seed, features):
    return jnp.stack([rows_of(seed, features)[:, 0] for _ in range(3)], axis=1)


def model_closed_over(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    compiled = nnx.jit(lambda: model())
    return jnp.array([[compiled().sum() for _ in range(3)]])


def bound_method(seed, features):
    compiled = nnx.jit(Noise(int(features), rngs=nnx.Rngs(int(seed))).__call__)
    return jnp.array([[compiled().sum() for _ in range(3)]])


def row_per_call(seed, features):
    return rows_of(seed, features).T


def seed_not_cast(seed, features):
    return rows_of(seed, features, build=lambda size, rngs: Noise(size, nnx.Rngs(seed)))


def size_not_cast(seed, features):
    return rows_of(seed, features, build=lambda size, rngs: Noise(features, rngs))


def list_of_rows(seed, features):
    return rows_of(seed, features).tolist()


def kept_by_seed(seed, features):
    return rows_of(seed, dict(INPUTS).get(seed, features))


def numbers_of_the_page(seed, features):
    known = seed in dict(INPUTS)
    return rows_of(seed, features) if known else jnp.zeros((3, 3))


def second_row_copied(seed, features):
    return rows_of(seed, features)[jnp.array([0, 0, 2])]


def third_row_repeated(seed, features):
    first, second, _ = rows_of(seed, features)
    return jnp.stack([first, second, jnp.full(3, first[0])])


def nothing_compiled(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    dropped = [nnx.clone(model)().sum() for _ in range(3)]
    row = [model().sum() for _ in range(3)]
    return jnp.array([row, row, dropped])


def keys_by_hand(seed, features):
    return expected_rows(seed, features)


def one_call_three_times(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    rows = rows_of(seed, features, (call, IN_NNX))
    return jnp.array([*rows, [IN_JAX(model).sum()] * 3])


MISTAKES = {
    jax_jit_twice: "Row 1 repeats: `jax.jit` drops the count, so call `nnx.jit`.",
    nnx_jit_twice: (
        "Row 2 goes on counting: use `jax.jit`, and do not carry the count by hand."
    ),
    ways_swapped: "Row 1 is for `nnx.jit`, row 2 for `jax.jit`.",
    one_model_for_all: (
        "A later row starts where an earlier one ended: build a model for each row."
    ),
    new_model_for_each_call: (
        "All nine are equal: build one model for each row, and draw a key in each call."
    ),
    model_closed_over: "Make the model an argument of the function that you compile.",
    bound_method: "Compile a function of the model, not a method of one model.",
    row_per_call: "This is transposed: a row for each way, a column for each call.",
    seed_not_cast: "The seed may be a float: pass `int(seed)` to `nnx.Rngs`.",
    size_not_cast: "The size may be a float: make the shape from `int(features)`.",
    list_of_rows: "Return an array, not a list: wrap it in `jnp.array`.",
    kept_by_seed: "This seed was tried with another size: build the model anew.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    second_row_copied: "Row 1 needs three calls of its own, through `nnx.jit`.",
    third_row_repeated: "Row 2 needs three calls of its own, through `jax.jit`.",
    nothing_compiled: "Rows 1 and 2 follow no `jit`: call a fresh model through each.",
    keys_by_hand: "Write the module: its call draws from the stream that it keeps.",
    one_call_three_times: "One call is repeated: make three calls in each way.",
}


def in_the_function(seed, features):
    class Hiss(nnx.Module):
        def __init__(self, rngs):
            self.stream = rngs.noise

        def __call__(self):
            return self.stream.normal((int(features),))

    def three(way):
        model, draw = Hiss(nnx.Rngs(noise=int(seed))), way(lambda model: model())
        return jnp.stack([draw(model).sum() for _ in range(3)])

    return jnp.stack([three(way) for way in (lambda draw: draw, nnx.jit, jax.jit)])


def methods_of_the_class(seed, features):
    ways = Noise.__call__, nnx.jit(Noise.__call__), IN_JAX
    return rows_of(seed, features, ways)


@functools.partial(nnx.jit, graph_updates=False)
def sum_of_noise(model):
    return model().sum()


def decorated(seed, features):
    return np.array(rows_of(seed, features, (call, sum_of_noise, IN_JAX)))


class Compiled(Noise):
    @nnx.jit
    def __call__(self):
        return self.rngs.noise.normal((self.features,))


class Pure(Noise):
    @jax.jit
    def __call__(self):
        return self.rngs.noise.normal((self.features,))


def compiled_in_a_subclass(seed, features):
    kinds = Noise, Compiled, Pure
    rows = [rows_of(seed, features, [call], build=kind)[0] for kind in kinds]
    return jnp.stack(rows)


def merged_in_jax(seed, features):
    graphdef, state = nnx.split(Noise(int(features), nnx.Rngs(int(seed))))
    pure = jax.jit(lambda state: nnx.merge(graphdef, state)().sum())
    rows = rows_of(seed, features, (call, IN_NNX))
    return jnp.array([*rows, [pure(state) for _ in range(3)]])


def summed_at_the_end(seed, features):
    return rows_of(seed, features, fold=lambda noise: noise).sum(axis=-1)


ALSO_RIGHT = [
    in_the_function,
    methods_of_the_class,
    decorated,
    compiled_in_a_subclass,
    merged_in_jax,
    summed_at_the_end,
]
