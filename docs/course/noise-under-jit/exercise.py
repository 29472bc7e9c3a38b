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
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    for seed, features in [(7.0, 4.0), (0.0, 4.0), *more]:
        answer, key = candidate(seed, features), jax.random.key(int(seed))
        keys = [jax.random.fold_in(key, i) for i in range(3)]
        sums = [jax.random.normal(key, (int(features),)).sum() for key in keys]
        right = jnp.array([sums, sums, [sums[0]] * 3])  # jax.jit keeps the count at 0
        if getattr(answer, "shape", None) != (3, 3):
            expected = f"an array of shape (3, 3), not {type(answer).__name__}"
        elif answer.dtype != jnp.float32:
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = f"{right} (rows: eager, nnx.jit, jax.jit)"
        else:
            continue
        call = f"{candidate.__name__}({seed}, {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [(11.0, 2.0)]  # only `nbe` tries it: a seed and a size that no page shows


def idea(seen):
    """Return what right numbers lack: nine draws of a stream, three in each way."""
    seed, _ = seen.inputs
    size = 37.0  # another one, so that what is compiled already is compiled anew

    def marked(call):  # gives other keys: eagerly, in nnx.jit and in jax.jit
        way = 1 if call.inside(nnx.jit) else 2 if call.compiled else 0
        return jax.random.fold_in(call.proceed(), way)

    when, draw = "a stream gives other keys", nnx.RngStream.__call__
    run = seen.run(when, inputs=(seed, size), calls={draw: marked}, eager=False)
    if not run.calls_of(nnx.RngStream):
        return "no draw comes from a stream: call `self.rngs.noise()`"
    right = sums_by_hand(seed, size, jax.random.fold_in)
    ways = "eagerly", "through nnx.jit", "through jax.jit"
    wrong = [row for row in range(3) if not seen.close(run.answer[row], right[row])]
    if wrong:
        return "; ".join(f"row {row} is not drawn {ways[row]}" for row in wrong)
    run = seen.run(calls={draw: lambda call: call.proceed()})
    if (draws := len(run.calls_of(nnx.RngStream))) < 9:
        return f"the numbers come from {draws} calls, not from nine"


def sums_by_hand(seed, features, mark=lambda key, way: key):
    """Return the sums from keys alone. `mark` may turn each into another key."""
    keys = [jax.random.fold_in(jax.random.key(int(seed)), i) for i in range(3)]
    noise = [
        [jax.random.normal(mark(key, way), (int(features),)) for key in row]
        for way, row in enumerate([keys, keys, [keys[0]] * 3])
    ]
    return jnp.array(noise).sum(axis=-1)


IN_NNX, IN_JAX = nnx.jit(call), jax.jit(call)  # compiled once for each size


def rows_of(seed, features, ways=(call, IN_NNX, IN_JAX), build=Noise):
    """Return three sums for each way to call a fresh module."""
    rows = []
    for draw in ways:
        model = build(int(features), rngs=nnx.Rngs(int(seed)))
        rows.append([draw(model).sum() for _ in range(3)])
    return jnp.array(rows)


def jax_jit_twice(seed, features):
    return rows_of(seed, features, (call, IN_JAX, IN_JAX))


def nnx_jit_twice(seed, features):
    return rows_of(seed, features, (call, IN_NNX, IN_NNX))


def one_model_for_all(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    return rows_of(seed, features, build=lambda features, rngs: model)


def new_model_for_each_call(seed, features):
    return jnp.stack([rows_of(seed, features)[:, 0] for _ in range(3)], axis=1)


def model_closed_over(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    compiled = nnx.jit(lambda: model())
    return jnp.array([[compiled().sum() for _ in range(3)]])


def size_not_cast(seed, features):
    return rows_of(seed, features, build=lambda size, rngs: Noise(features, rngs))


def numbers_of_the_page(seed, features):
    return rows_of(seed, features) if seed in (7, 0) else jnp.zeros((3, 3))


def second_row_copied(seed, features):
    return rows_of(seed, features)[jnp.array([0, 0, 2])]


def nothing_compiled(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    dropped = [nnx.clone(model)().sum() for _ in range(3)]
    row = [model().sum() for _ in range(3)]
    return jnp.array([row, row, dropped])


def one_call_three_times(seed, features):
    model = Noise(int(features), rngs=nnx.Rngs(int(seed)))
    rows = rows_of(seed, features, (call, IN_NNX))
    return jnp.array([*rows, [IN_JAX(model).sum()] * 3])


def formula_with_assert(seed, features):
    answer, by_hand = rows_of(seed, features), sums_by_hand(seed, features)
    assert jnp.allclose(answer, by_hand, atol=1e-4)
    return by_hand


MISTAKES = {
    jax_jit_twice: "Row 1 repeats: `jax.jit` drops the count, so call `nnx.jit`.",
    nnx_jit_twice: "Row 2 goes on counting: use `jax.jit`, and carry no count by hand.",
    one_model_for_all: "Row 1 starts where row 0 ended: build a model for each row.",
    new_model_for_each_call: (
        "All nine are equal: build one model for each row, and draw a key in each call."
    ),
    model_closed_over: "Make the model an argument of the function that you compile.",
    size_not_cast: "The size may be a float: make the shape from `int(features)`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    second_row_copied: "Row 1 needs three calls of its own, through `nnx.jit`.",
    nothing_compiled: "Rows 1 and 2 follow no `jit`: call a fresh model through each.",
    sums_by_hand: "Write the module: its call draws from the stream that it keeps.",
    formula_with_assert: "Return what the model gives, not what you compare it with.",
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


def without_graph_updates(seed, features):
    compiled = nnx.jit(call, graph_updates=False)
    return rows_of(seed, features, (call, compiled, IN_JAX))


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


ALSO_RIGHT = [
    in_the_function,
    without_graph_updates,
    compiled_in_a_subclass,
    merged_in_jax,
]
