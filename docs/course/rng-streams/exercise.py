"""The exercise of "RNG streams": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def resumed_step(seed, done, x):
    """Return what the next step makes of x after some are done, shape and dtype of x.

    Args:
      seed: seed of the stream `noise`; that of `dropout` is one more.
      done: number of steps before this one, at least 0.
      x: float32, shape (rows, features).
    """
    # --8<-- [end:stub]
    rngs = nnx.Rngs(noise=seed, dropout=seed + 1)
    rngs.noise.count[...] = done
    rngs.dropout.count[...] = done * len(x)
    noisy = x + rngs.noise.normal(x.shape)
    kept = [rngs.dropout.bernoulli(0.5, x.shape[1:]) for _ in x]
    return jnp.where(jnp.stack(kept), noisy, 0)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    first, second = jnp.ones((2, 4)), jnp.arange(6.0).reshape(2, 3)
    for seed, done, x in [(7, 3, first), (0, 5, second), *more]:
        answer, key = candidate(seed, done, x), jax.random.key(seed + 1)
        keys = [jax.random.fold_in(key, done * len(x) + row) for row in range(len(x))]
        kept = jnp.stack([jax.random.bernoulli(k, 0.5, x.shape[1:]) for k in keys])
        key = jax.random.fold_in(jax.random.key(seed), done)
        right = jnp.where(kept, x + jax.random.normal(key, x.shape), 0)
        if getattr(answer, "shape", None) != x.shape:
            expected = f"an array of shape {x.shape}, not {type(answer).__name__}"
        elif answer.dtype != x.dtype:
            expected = f"numbers of dtype {x.dtype}, not {answer.dtype}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, {done}, jnp.array({x.tolist()}))"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [(11, 2, jnp.ones((3, 4)))]  # only `nbe` tries it: three rows


def idea(seen):
    """Return what right numbers lack: keys that two streams hand out."""
    taken = nnx.RngStream.__call__
    run = seen.run(
        "a stream gives other keys", calls={taken: lambda call: other(call.proceed())}
    )
    if not run.calls_of(nnx.RngStream):
        return "no key comes from a stream: set its count, and call it"
    ways = [by_hand(*seen.inputs, *marks) for marks in ((other, same), (same, other))]
    if seen.close(run.answer, by_hand(*seen.inputs, other, other)):
        return None
    if seen.close(run.answer, ways[0]):
        return "the masks do not come from a stream"
    if seen.close(run.answer, ways[1]):
        return "the noise does not come from a stream"
    return "neither noise nor masks follow the keys of a stream"


def same(key):
    return key


def other(key):
    return jax.random.fold_in(key, 99)


def by_hand(seed, done, x, of_noise=same, of_masks=same):
    """Return the answer from keys alone. The marks may turn each into another key."""
    keys = [done * len(x) + row for row in range(len(x))]
    keys = [of_masks(jax.random.fold_in(jax.random.key(seed + 1), i)) for i in keys]
    kept = jnp.stack([jax.random.bernoulli(key, 0.5, x.shape[1:]) for key in keys])
    key = of_noise(jax.random.fold_in(jax.random.key(seed), done))
    return jnp.where(kept, x + jax.random.normal(key, x.shape), 0)


def streams(seed, noise, dropout):
    """Return the two streams, at some counts."""
    rngs = nnx.Rngs(noise=seed, dropout=seed + 1)
    rngs.noise.count[...], rngs.dropout.count[...] = noise, dropout
    return rngs


def step(rngs, x):
    """Return what one step makes of x with the next keys."""
    noisy = x + rngs.noise.normal(x.shape)
    kept = [rngs.dropout.bernoulli(0.5, x.shape[1:]) for _ in x]
    return jnp.where(jnp.stack(kept), noisy, 0)


def from_the_start(seed, done, x):
    return step(streams(seed, 0, 0), x)


def both_counts_equal(seed, done, x):
    return step(streams(seed, done, done), x)


def masks_not_resumed(seed, done, x):
    return step(streams(seed, done, 0), x)


def counts_exchanged(seed, done, x):
    return step(streams(seed, done * len(x), done), x)


def one_step_too_far(seed, done, x):
    return step(streams(seed, done + 1, (done + 1) * len(x)), x)


def two_rows(seed, done, x):
    return step(streams(seed, done, 2 * done), x)


def one_stream(seed, done, x):
    rngs = nnx.Rngs(seed)
    rngs.default.count[...] = done * (1 + len(x))
    return step(rngs, x)


def equal_seeds(seed, done, x):
    rngs = nnx.Rngs(noise=seed, dropout=seed)
    rngs.noise.count[...], rngs.dropout.count[...] = done, done * len(x)
    return step(rngs, x)


def seed_zero(seed, done, x):
    return resumed_step(0, done, x)


def done_in_the_seed(seed, done, x):
    return step(streams(seed + done, 0, 0), x)


def one_mask_for_all_rows(seed, done, x):
    rngs = streams(seed, done, done * len(x))
    noisy = x + rngs.noise.normal(x.shape)
    return jnp.where(rngs.dropout.bernoulli(0.5, x.shape[1:]), noisy, 0)


def one_key_for_all_masks(seed, done, x):
    rngs = streams(seed, done, done * len(x))
    noisy = x + rngs.noise.normal(x.shape)
    return jnp.where(rngs.dropout.bernoulli(0.5, x.shape), noisy, 0)


def noise_after_the_mask(seed, done, x):
    dropped = resumed_step(seed, done, x) != 0
    noise = streams(seed, done, 0).noise.normal(x.shape)
    return jnp.where(dropped, x, 0) + noise


def scaled_as_dropout(seed, done, x):
    return 2 * resumed_step(seed, done, x)


def masks_by_hand(seed, done, x):
    formula = by_hand(seed, done, x)
    noise = streams(seed, done, 0).noise.normal(x.shape)
    return jnp.where(formula != 0, x + noise, 0)


def formula_with_assert(seed, done, x):
    answer, formula = resumed_step(seed, done, x), by_hand(seed, done, x)
    assert jnp.allclose(answer, formula, atol=1e-4)
    return formula


MISTAKES = {
    from_the_start: "These are the draws of the first step: set both counts.",
    both_counts_equal: "A step takes one key of `noise`, but one of `dropout` per row.",
    masks_not_resumed: "The masks begin anew: set the count of `dropout` too.",
    counts_exchanged: "The counts are exchanged: `dropout` is the stream of the rows.",
    one_step_too_far: "The count starts at 0: after `done` keys it is `done`.",
    two_rows: "Compute the count of `dropout` from the number of rows of `x`.",
    one_stream: "Name two streams, each with its own seed and its own count.",
    equal_seeds: "The seed of `dropout` is `seed + 1`.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    done_in_the_seed: "Keep the seed: what has moved on is the count.",
    one_mask_for_all_rows: "Each row has a mask of its own: take a key for each.",
    one_key_for_all_masks: "Draw the mask of each row with a key of its own.",
    noise_after_the_mask: "Add the noise first: the mask then zeroes noise as well.",
    scaled_as_dropout: "Leave what is kept as it is: this step does not scale.",
    by_hand: "Take the keys from an `nnx.Rngs`, whose counts you set.",
    masks_by_hand: "Draw the masks from the stream `dropout` as well.",
    formula_with_assert: "Return what the streams draw, not what you compare it with.",
}


def replayed(seed, done, x):
    rngs = nnx.Rngs(noise=seed, dropout=seed + 1)
    for _ in range(done):
        step(rngs, x)
    return step(rngs, x)


def counts_in_the_state(seed, done, x):
    rngs = nnx.Rngs(noise=seed, dropout=seed + 1)
    counts = {"noise": {"count": done}, "dropout": {"count": done * len(x)}}
    nnx.update(rngs, jax.tree.map(jnp.uint32, counts))
    return step(rngs, x)


def streams_alone(seed, done, x):
    noise = nnx.RngStream(jax.random.key(seed), tag="noise")
    dropout = nnx.RngStream(seed + 1, tag="dropout")
    noise.count.set_value(jnp.uint32(done))
    for _ in range(done * len(x)):
        dropout()
    kept = jnp.stack([jax.random.bernoulli(dropout(), 0.5, row.shape) for row in x])
    return (x + jax.random.normal(noise(), x.shape)) * kept


def compiled(seed, done, x):
    rngs = streams(seed, done, done * len(x))
    return nnx.jit(step)(rngs, x)


ALSO_RIGHT = [replayed, counts_in_the_state, streams_alone, compiled]
