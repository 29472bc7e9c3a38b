"""The exercise of "RNG streams": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def rng_streams(seed, draws):
    """Return the draws of a stream and the same by hand, shape (2, draws), float32.

    Args:
      seed: seed of the stream and of the key; a float such as `7.0` is cast.
      draws: number of scalar normals in each row, at least 1; a float is cast.
    """
    # --8<-- [end:stub]
    rngs, key = nnx.Rngs(int(seed)), jax.random.key(int(seed))
    first, second = [], []
    for i in range(int(draws)):
        first.append(jax.random.normal(rngs.params()))
        second.append(jax.random.normal(jax.random.fold_in(key, i)))
    return jnp.array([first, second])
    # --8<-- [end:solution]


# --8<-- [start:check]
from unittest.mock import patch

INPUTS = [(0.0, 4.0), (7.0, 1.0), (3.0, 2.0)]  # seed, draws


def one_row(seed, draws, change=lambda key: key):
    """Return the numbers of one row, whose keys `change` may replace."""

    def draw(i):
        key = jax.random.fold_in(jax.random.key(int(seed)), i)
        return jax.random.normal(change(key))

    return jax.vmap(draw)(jnp.arange(int(draws)))


def missing_idea(candidate, seed=90.0, draws=3.0):
    """Return what a row lacks although its numbers are right, or None."""
    calls, call = [], nnx.RngStream.__call__

    def other(key):
        return jax.random.fold_in(key, 1)

    def call_for_other(stream):
        calls.append(stream)
        return other(call(stream))

    # Keys of streams now change: the first row alone follows. Without
    # `threefry_partitionable`, keys of split are not those of fold_in.
    with jax.disable_jit(), jax.threefry_partitionable(False):
        plain, changed = one_row(seed, draws), one_row(seed, draws, other)
        try:
            with patch.object(nnx.RngStream, "__call__", call_for_other):
                first, second = map(jnp.asarray, candidate(seed, draws))
        except Exception:  # the candidate compares the rows itself
            return None
    if jnp.allclose(first, changed, atol=1e-5):
        if jnp.allclose(second, plain, atol=1e-5):
            return None
        if not jnp.allclose(second, changed, atol=1e-5):
            return "the keys of the second row do not come from fold_in"
        if len(calls) > draws:
            return "the second row draws from a stream as well"
        return "the second row takes its keys or numbers from the first"
    if jnp.allclose(second, changed, atol=1e-5):
        return "the rows are exchanged\n  next:     put the stream's row first"
    return "not all of the first row comes from a stream: call rngs.params() for each"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, draws in inputs:
        answer, row = candidate(seed, draws), one_row(seed, draws)
        shape, wrong, hint = (2, int(draws)), None, None
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if getattr(answer, "shape", None) != shape:
            size = getattr(answer, "shape", type(answer).__name__)
            wrong = f"an array of shape {shape}, not {size}"
            hint = "make one array of both rows: jnp.array([first, second])"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"normals of dtype float32, not {answer.dtype}"
            hint = "return the numbers that jax.random.normal draws, as they are"
        elif not jnp.allclose(answer, row, atol=1e-5):
            first, second = (jnp.allclose(got, row, atol=1e-5) for got in answer)
            which = "second row" if first else "first row" if second else "both rows"
            wrong = f"two rows of {row}"
            hint = f"{which}: number i is jax.random.normal of key i, from 0"
        if wrong:
            call = f"{candidate.__name__}({seed}, {draws})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}"
    if missing := missing_idea(candidate):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (16777217.0, 2.0),  # float32 rounds this seed
    (5.0, 9.0),  # more draws than anybody writes out
]

# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.


def normals(keys):
    return jnp.array([jax.random.normal(key) for key in keys])


def stream_keys(seed, draws):
    rngs = nnx.Rngs(int(seed))
    return [rngs.params() for _ in range(int(draws))]


def folded_keys(seed, draws):
    key = jax.random.key(int(seed))
    return [jax.random.fold_in(key, i) for i in range(int(draws))]


def two_rows(first_keys, second_keys):
    return jnp.stack([normals(first_keys), normals(second_keys)])


def numbers_of_the_page(seed, draws):
    known = {inputs: rng_streams(*inputs) for inputs in INPUTS}
    return known.get((seed, draws), jnp.zeros((2, int(draws))))


def seed_zero(seed, draws):
    return rng_streams(0, draws)


def seed_not_cast(seed, draws):
    return two_rows([nnx.Rngs(seed).params()], folded_keys(seed, draws))


def seed_rounded(seed, draws):
    return rng_streams(int(jnp.asarray(seed)), draws)


def four_calls_written_out(seed, draws):
    rngs = nnx.Rngs(int(seed))
    keys = [rngs.params(), rngs.params(), rngs.params(), rngs.params()]
    return two_rows(keys[: int(draws)], folded_keys(seed, min(draws, 4)))


def one_column_per_row(seed, draws):
    return rng_streams(seed, draws).T


def a_pair_of_lists(seed, draws):
    return rng_streams(seed, draws).tolist()


def one_key_for_the_row(seed, draws):
    key = nnx.Rngs(int(seed)).params()
    return two_rows([key] * int(draws), folded_keys(seed, draws))


def one_key_with_a_shape(seed, draws):
    first = jax.random.normal(nnx.Rngs(int(seed)).params(), (int(draws),))
    return jnp.stack([first, normals(folded_keys(seed, draws))])


def counter_from_one(seed, draws):
    return two_rows(stream_keys(seed, draws), folded_keys(seed, draws + 1)[1:])


def key_folded_again_and_again(seed, draws):
    key, keys = jax.random.key(int(seed)), []
    for i in range(int(draws)):
        key = jax.random.fold_in(key, i)
        keys.append(key)
    return two_rows(stream_keys(seed, draws), keys)


def key_split_again_and_again(seed, draws):
    key, keys = jax.random.key(int(seed)), []
    for _ in range(int(draws)):
        key, subkey = jax.random.split(key)
        keys.append(subkey)
    return two_rows(stream_keys(seed, draws), keys)


def folded_into_a_key_of_the_stream(seed, draws):
    rngs, n = nnx.Rngs(int(seed)), int(draws)
    key, keys = rngs.params(), [rngs.params() for _ in range(n)]
    return two_rows(keys, [jax.random.fold_in(key, i) for i in range(n)])


def uniform_numbers(seed, draws):
    row = [jax.random.uniform(key) for key in stream_keys(seed, draws)]
    return jnp.array([row, row])


def other_name_of_one_stream(seed, draws):
    rngs, n = nnx.Rngs(int(seed)), int(draws)
    return two_rows(
        [rngs.params() for _ in range(n)], [rngs.dropout() for _ in range(n)]
    )


def name_without_stream(seed, draws):
    rngs = nnx.Rngs(dropout=int(seed))
    return normals([rngs.params() for _ in range(int(draws))])


def linen_make_rng(seed, draws):
    import flax.linen as nn

    class Keys(nn.Module):
        @nn.compact
        def __call__(self):
            return [self.make_rng("params") for _ in range(int(draws))]

    keys = Keys().apply({}, rngs={"params": jax.random.key(int(seed))})
    return two_rows(keys, folded_keys(seed, draws))


def equal_seeds_for_two_names(seed, draws):
    rngs, n = nnx.Rngs(params=int(seed), dropout=int(seed)), int(draws)
    return two_rows(
        [rngs.params() for _ in range(n)], [rngs.dropout() for _ in range(n)]
    )


def row_copied(seed, draws):
    row = normals(stream_keys(seed, draws))
    return jnp.stack([row, row])


def no_stream(seed, draws):
    return two_rows(folded_keys(seed, draws), folded_keys(seed, draws))


def split_keys(seed, draws):
    keys = jax.random.split(jax.random.key(int(seed)), int(draws))
    return two_rows(stream_keys(seed, draws), keys)


MISTAKES = {
    numbers_of_the_page: "These are the numbers of the page: draw them.",
    seed_zero: "The seed is ignored: both rows begin at `int(seed)`.",
    seed_not_cast: "`nnx.Rngs` refuses a float: pass `int(seed)`.",
    seed_rounded: "float32 rounds large seeds: cast with `int(seed)` alone.",
    four_calls_written_out: "Draw in a loop over `range(int(draws))`, of any length.",
    one_column_per_row: "The rows are columns here: the shape is (2, draws).",
    a_pair_of_lists: "Return an array, not lists: wrap them in `jnp.array`.",
    one_key_for_the_row: "One key gives one number: build `nnx.Rngs` once, and call "
    "`rngs.params()` again for every draw.",
    one_key_with_a_shape: "The first row is one draw of many numbers: make it scalar "
    "draws, each with a key of its own.",
    counter_from_one: "The counter starts at 0: fold in 0 for the first draw.",
    key_folded_again_and_again: "Fold every `i` into the key of the seed: a stream "
    "never replaces its key.",
    key_split_again_and_again: "A stream keeps its key, and so do you: fold `i` into "
    "the key of the seed.",
    folded_into_a_key_of_the_stream: "Your first `rngs.params()` feeds no draw: start "
    "the second row from `jax.random.key(int(seed))`.",
    uniform_numbers: "Draw with `jax.random.normal`, not `jax.random.uniform`.",
    other_name_of_one_stream: "Both names share one `default` stream: the second row "
    "goes on where the first stopped. Fold in `i` yourself.",
    name_without_stream: "This `nnx.Rngs` has no stream `params`: name it, or give the "
    "seed without a name.",
    linen_make_rng: "`make_rng` folds in Linen's path and counter: call "
    "`rngs.params()` of `nnx.Rngs`.",
    equal_seeds_for_two_names: "That a stream agrees with a stream proves little: the "
    "second row needs `jax.random.fold_in` and no stream.",
    row_copied: "A copy proves nothing: compute the second row with "
    "`jax.random.fold_in`.",
    no_stream: "Take the keys of the first row from `nnx.Rngs(int(seed))`.",
    split_keys: "`split` gives these keys by a trait of JAX's default generator, and "
    "needs their number beforehand: use `jax.random.fold_in`.",
}


def default_stream_in_a_comprehension(seed, draws):
    rngs, key, n = nnx.Rngs(int(seed)), jax.random.key(int(seed)), int(draws)
    stream = [jax.random.normal(rngs()) for _ in range(n)]
    return jnp.array(
        [stream, [jax.random.normal(jax.random.fold_in(key, i)) for i in range(n)]]
    )


def named_stream_with_its_own_key(seed, draws):
    rngs, n = nnx.Rngs(params=int(seed)), int(draws)
    by_hand = [jax.random.fold_in(rngs.params.key[...], i) for i in range(n)]
    return two_rows([rngs.params() for _ in range(n)], by_hand)


def methods_and_vmap(seed, draws):
    rngs, key = nnx.Rngs(jax.random.key(int(seed))), jax.random.key(int(seed))
    stream = jnp.stack([rngs.params.normal() for _ in range(int(draws))])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(int(draws)))
    return jnp.stack([stream, jax.vmap(jax.random.normal)(keys)])


@nnx.jit
def draw_under_jit(rngs):
    return jax.random.normal(rngs.params())


def jitted_draws(seed, draws):
    rngs = nnx.Rngs(int(seed))
    stream = [draw_under_jit(rngs) for _ in range(int(draws))]
    return jnp.stack([jnp.array(stream), normals(folded_keys(seed, draws))])


def loops_of_jax(seed, draws):
    key, n = jax.random.key(int(seed)), int(draws)

    def body(i, carry):
        rngs, row = carry
        return rngs, row.at[i].set(rngs.normal())

    def by_hand(_, i):
        return None, jax.random.normal(jax.random.fold_in(key, i))

    _, stream = nnx.fori_loop(0, n, body, (nnx.Rngs(int(seed)), jnp.zeros(n)))
    return jnp.stack([stream, jax.lax.scan(by_hand, None, jnp.arange(n))[1]])


def a_stream_of_my_own(seed, draws):
    class Stream:
        def __init__(self, seed):
            self.key, self.count = jax.random.key(seed), 0

        def __call__(self):
            self.count += 1
            return jax.random.fold_in(self.key, self.count - 1)

    mine = Stream(int(seed))
    return two_rows(stream_keys(seed, draws), [mine() for _ in range(int(draws))])


def rows_compared_in_numpy(seed, draws):
    import numpy as np

    stream = nnx.RngStream(int(seed), tag="params")
    first = np.array([jax.random.normal(stream()) for _ in range(int(draws))])
    second = np.asarray(normals(folded_keys(seed, draws)))
    assert np.array_equal(first, second)
    return np.stack([first, second])


ALSO_RIGHT = [
    default_stream_in_a_comprehension,
    named_stream_with_its_own_key,
    methods_and_vmap,
    jitted_draws,
    loops_of_jax,
    a_stream_of_my_own,
    rows_compared_in_numpy,
]
