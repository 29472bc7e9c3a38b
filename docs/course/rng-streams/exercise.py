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
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    for seed, draws in [(7.0, 4.0), (0.0, 1.0), *more]:
        answer, key = candidate(seed, draws), jax.random.key(int(seed))
        keys = [jax.random.fold_in(key, i) for i in range(int(draws))]
        row = jnp.array([jax.random.normal(key) for key in keys])
        if getattr(answer, "shape", None) != (2, row.size):
            expected = f"an array of shape {(2, row.size)}, not {type(answer).__name__}"
        elif answer.dtype != jnp.float32:
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, row, atol=1e-5):
            expected = f"{row}, twice"
        else:
            continue
        call = f"{candidate.__name__}({seed}, {draws})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

# Inputs that only `nbe` tries: float32 rounds a seed; nobody writes out nine draws.
HIDDEN = [(16777217.0, 2.0), (5.0, 9.0)]


def idea(seen):
    """Return what right numbers lack: a row of a stream, and another of fold_in."""
    seed, draws = seen.inputs
    keys = folded_keys(seed, draws)

    def other(key):
        return jax.random.fold_in(key, 1)

    # Without `threefry_partitionable`, keys of split are not those of fold_in.
    with jax.threefry_partitionable(False):
        run = seen.run(
            "a stream gives other keys",
            calls={nnx.RngStream.__call__: lambda call: other(call.proceed())},
        )
        usual, changed = normals(keys), normals([other(key) for key in keys])
    (first, second), taken = run.answer, len(run.calls_of(nnx.RngStream))
    if not taken:
        return "no key comes from a stream: call rngs.params() for each"
    if seen.close(second, changed) and not seen.close(first, changed):
        return "the rows are exchanged: put the stream's row first"
    if not seen.close(first, changed):
        return "not all of the first row comes from a stream"
    if seen.close(second, changed) and taken > draws:
        return "the second row draws from a stream as well"
    if seen.close(second, changed):
        return "the second row takes its keys or numbers from the first"
    if not seen.close(second, usual):
        return "the keys of the second row do not come from fold_in"


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


def one_key_for_the_row(seed, draws):
    key = nnx.Rngs(int(seed)).params()
    return two_rows([key] * int(draws), folded_keys(seed, draws))


def one_key_with_a_shape(seed, draws):
    first = jax.random.normal(nnx.Rngs(int(seed)).params(), (int(draws),))
    return jnp.stack([first, normals(folded_keys(seed, draws))])


def counter_from_one(seed, draws):
    return two_rows(stream_keys(seed, draws), folded_keys(seed, draws + 1)[1:])


def two_streams(rngs, draws):
    first = [rngs.params() for _ in range(int(draws))]
    return two_rows(first, [rngs.dropout() for _ in range(int(draws))])


def other_name_of_one_stream(seed, draws):
    return two_streams(nnx.Rngs(int(seed)), draws)


def name_without_stream(seed, draws):
    rngs = nnx.Rngs(dropout=int(seed))
    return normals([rngs.params() for _ in range(int(draws))])


def equal_seeds_for_two_names(seed, draws):
    return two_streams(nnx.Rngs(params=int(seed), dropout=int(seed)), draws)


def row_copied(seed, draws):
    row = normals(stream_keys(seed, draws))
    return jnp.stack([row, row])


def no_stream(seed, draws):
    return two_rows(folded_keys(seed, draws), folded_keys(seed, draws))


def split_keys(seed, draws):
    keys = jax.random.split(jax.random.key(int(seed)), int(draws))
    return two_rows(stream_keys(seed, draws), keys)


def formula_with_assert(seed, draws):
    by_hand, stream = normals(folded_keys(seed, draws)), stream_keys(seed, draws)
    assert jnp.array_equal(normals(stream), by_hand)
    return jnp.stack([by_hand, by_hand])


MISTAKES = {
    seed_zero: "The seed is ignored: both rows begin at `int(seed)`.",
    seed_not_cast: "`nnx.Rngs` refuses a float: pass `int(seed)`.",
    seed_rounded: "float32 rounds large seeds: cast with `int(seed)` alone.",
    four_calls_written_out: "Draw in a loop over `range(int(draws))`, of any length.",
    one_key_for_the_row: "One key gives one number: build `nnx.Rngs` once, and call "
    "`rngs.params()` again for every draw.",
    one_key_with_a_shape: "The first row is one draw: give each number its own key.",
    counter_from_one: "The counter starts at 0: fold in 0 for the first draw.",
    other_name_of_one_stream: "Both names share one `default` stream: the second row "
    "goes on where the first stopped. Fold in `i` yourself.",
    name_without_stream: "This `nnx.Rngs` has no stream `params`: name it, or give the "
    "seed without a name.",
    equal_seeds_for_two_names: "That a stream agrees with a stream proves little: the "
    "second row needs `jax.random.fold_in` and no stream.",
    row_copied: "A copy proves nothing: draw the second row with `fold_in`.",
    no_stream: "Take the keys of the first row from `nnx.Rngs(int(seed))`.",
    split_keys: "`split` gives these keys by a trait of JAX's default generator, and "
    "needs their number beforehand: use `jax.random.fold_in`.",
    formula_with_assert: "Return what the stream's keys draw, not the comparison.",
}


def named_stream_with_its_own_key(seed, draws):
    rngs, n = nnx.Rngs(params=int(seed)), int(draws)
    by_hand = [jax.random.fold_in(rngs.params.key[...], i) for i in range(n)]
    return two_rows([rngs.params() for _ in range(n)], by_hand)


def methods_and_vmap(seed, draws):
    rngs, key = nnx.Rngs(jax.random.key(int(seed))), jax.random.key(int(seed))
    stream = jnp.stack([rngs.params.normal() for _ in range(int(draws))])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(int(draws)))
    return jnp.stack([stream, jax.vmap(jax.random.normal)(keys)])


def loops_of_jax(seed, draws):
    key, n = jax.random.key(int(seed)), int(draws)

    def body(i, carry):
        rngs, row = carry
        return rngs, row.at[i].set(rngs.normal())

    def by_hand(_, i):
        return None, jax.random.normal(jax.random.fold_in(key, i))

    _, stream = nnx.fori_loop(0, n, body, (nnx.Rngs(int(seed)), jnp.zeros(n)))
    return jnp.stack([stream, jax.lax.scan(by_hand, None, jnp.arange(n))[1]])


def rows_compared_in_numpy(seed, draws):
    import numpy as np

    stream = nnx.RngStream(int(seed), tag="params")
    first = np.array([jax.random.normal(stream()) for _ in range(int(draws))])
    second = np.asarray(normals(folded_keys(seed, draws)))
    assert np.array_equal(first, second)
    return np.stack([first, second])


ALSO_RIGHT = [
    named_stream_with_its_own_key,
    methods_and_vmap,
    loops_of_jax,
    rows_compared_in_numpy,
]
