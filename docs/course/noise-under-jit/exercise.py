"""The exercise of "Noise under jit": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


class Noisy(nnx.Module):
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x, rngs):
        return x + self.scale * rngs.noise.normal(x.shape)


@nnx.jit
def augment(model, x, rngs):
    return model(x, rngs)


# --8<-- [start:stub]
def noisy_batches(seed, batches, scale):
    """Return the batches with noise of their own, shape and dtype of `batches`.

    Args:
      seed: seed of the stream `noise`.
      batches: float32, shape (steps, batch, features); one batch for each step.
      scale: standard deviation of the noise.
    """
    # --8<-- [end:stub]
    model, rngs = Noisy(scale), nnx.Rngs(noise=seed)
    return jnp.stack([augment(model, x, rngs) for x in batches])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    first, second = jnp.zeros((3, 1, 2)), jnp.arange(6.0).reshape(3, 1, 2)
    for seed, batches, scale in [(7, first, 1.0), (0, second, 0.5), *more]:
        answer, key = candidate(seed, batches, scale), jax.random.key(seed)
        keys = [jax.random.fold_in(key, i) for i in range(len(batches))]
        noise = jnp.stack([jax.random.normal(k, batches.shape[1:]) for k in keys])
        right = batches + scale * noise
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif answer.dtype != right.dtype:
            expected = f"numbers of dtype {right.dtype}, not {answer.dtype}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({batches.tolist()}), {scale})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import itertools

# Inputs that only `nbe` tries: more steps, and batches of two rows.
HIDDEN = [(11, jnp.ones((4, 1, 2)), 0.25), (5, jnp.ones((3, 2, 2)), 2.0)]


SIZES = itertools.count(3)  # of features: each asks for an executable of its own


def idea(seen):
    """Return what right numbers lack: a module, compiled once for all batches."""
    draw, batches = nnx.RngStream.__call__, jnp.ones((5, 1, next(SIZES)))
    run = seen.run(
        "there are five batches",
        inputs=(2, batches, 1.0),
        calls={draw: lambda call: call.proceed()},
        eager=False,
    )
    calls, draws = run.calls_of(nnx.Module), run.calls_of(nnx.RngStream)
    if not calls:
        return "no module adds the noise"
    # A method that is decorated is called eagerly, and draws while it is traced.
    modules = [call for call in calls if call.compiled and call.depth == 0]
    traced = modules or [call for call in draws if call.compiled]
    if not traced:
        return "the module runs eagerly: compile the function that calls it"
    if len(traced) >= len(batches):
        return (
            f"{len(traced)} traces for 5 batches of one shape: compile once, not each"
        )
    when = "a stream gives other keys"
    other = seen.run(when, calls={draw: lambda call: other_key(call.proceed())})
    if seen.close(other.answer, seen.answer):
        return "the noise does not come from a stream of nnx.Rngs"


def other_key(key):
    return jax.random.fold_in(key, 99)


def by_hand(seed, batches, scale):
    keys = [jax.random.fold_in(jax.random.key(seed), i) for i in range(len(batches))]
    noise = jnp.stack([jax.random.normal(key, batches.shape[1:]) for key in keys])
    return batches + scale * noise


def over(batches, step):
    return jnp.stack([step(x) for x in batches])


def rngs_through_jax_jit(seed, batches, scale):
    model, rngs = Noisy(scale), nnx.Rngs(noise=seed)
    draw = jax.jit(lambda x, rngs: model(x, rngs))
    return over(batches, lambda x: draw(x, rngs))


def rngs_closed_over(seed, batches, scale):
    model, rngs = Noisy(scale), nnx.Rngs(noise=seed)
    return over(batches, nnx.jit(lambda x: model(x, rngs)))


def not_compiled(seed, batches, scale):
    model, rngs = Noisy(scale), nnx.Rngs(noise=seed)
    return over(batches, lambda x: model(x, rngs))


def compiled_for_each(seed, batches, scale):
    model, rngs = Noisy(scale), nnx.Rngs(noise=seed)
    return over(
        batches, lambda x: nnx.jit(lambda m, x, rngs: m(x, rngs))(model, x, rngs)
    )


def all_at_once(seed, batches, scale):
    return augment(Noisy(scale), batches, nnx.Rngs(noise=seed))


def scale_forgotten(seed, batches, scale):
    return noisy_batches(seed, batches, 1.0)


def scale_as_variance(seed, batches, scale):
    return noisy_batches(seed, batches, scale**0.5)


def seed_zero(seed, batches, scale):
    return noisy_batches(0, batches, scale)


def count_from_one(seed, batches, scale):
    rngs = nnx.Rngs(noise=seed)
    rngs.noise()
    return over(batches, lambda x: augment(Noisy(scale), x, rngs))


def three_steps(seed, batches, scale):
    return noisy_batches(seed, batches[:3], scale)


def noise_alone(seed, batches, scale):
    return noisy_batches(seed, jnp.zeros_like(batches), scale)


def split_at_the_start(seed, batches, scale):
    streams = nnx.Rngs(noise=seed).split(len(batches))
    forward = nnx.vmap(augment, in_axes=(None, 0, 0))
    return forward(Noisy(scale), batches, streams)


def one_row_for_the_batch(seed, batches, scale):
    rngs = nnx.Rngs(noise=seed)
    model = Noisy(scale)
    noise = [augment(model, jnp.zeros_like(x[:1]), rngs) for x in batches]
    return batches + jnp.stack(noise)


def formula_with_assert(seed, batches, scale):
    answer, formula = noisy_batches(seed, batches, scale), by_hand(seed, batches, scale)
    assert jnp.allclose(answer, formula, atol=1e-4)
    return formula


MISTAKES = {
    rngs_through_jax_jit: (
        "Each batch has the same noise: `jax.jit` drops the count, a seed inside is "
        "a constant. Use `nnx.jit`, or pass a fresh key."
    ),
    rngs_closed_over: "Make the streams an argument of the function that you compile.",
    not_compiled: "Nothing is compiled: wrap the function in `nnx.jit` or `jax.jit`.",
    compiled_for_each: "Wrap the function once, before the loop, or each is traced.",
    all_at_once: "One key draws the noise of all batches: draw a key for each step.",
    scale_forgotten: "The noise is not scaled: multiply it by `scale`.",
    scale_as_variance: "`scale` is the standard deviation, not the variance.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    count_from_one: "The first batch gets the first key: draw none before.",
    three_steps: "Go through all batches, however many there are.",
    noise_alone: "Add the noise to the batch.",
    split_at_the_start: "Take the next key at each step, in place of a split.",
    one_row_for_the_batch: "Each row of a batch has noise of its own: draw `x.shape`.",
    by_hand: "Write a module that draws from a stream, and compile its call.",
    formula_with_assert: "Return what the module gives, not what you compare it with.",
}


def key_at_the_call(seed, batches, scale):
    class OneKey(nnx.Module):
        def __call__(self, x, key):
            return x + scale * jax.random.normal(key, x.shape)

    rngs, model = nnx.Rngs(noise=seed), OneKey()
    forward = jax.jit(lambda model, x, key: model(x, key))
    return over(batches, lambda x: forward(model, x, rngs.noise()))


def rngs_returned(seed, batches, scale):
    @jax.jit
    def step(model, x, rngs):
        return model(x, rngs), rngs

    rngs, outputs = nnx.Rngs(noise=seed), []
    for x in batches:
        y, rngs = step(Noisy(scale), x, rngs)
        outputs.append(y)
    return jnp.stack(outputs)


def stream_held(seed, batches, scale):
    class Held(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.noise = rngs.noise

        @nnx.jit
        def __call__(self, x):
            return x + scale * self.noise.normal(x.shape)

    return over(batches, Held(rngs=nnx.Rngs(noise=seed)))


def scanned(seed, batches, scale):
    model = Noisy(scale)

    @jax.jit
    def loop(rngs, batches):
        return jax.lax.scan(lambda rngs, x: (rngs, model(x, rngs)), rngs, batches)[1]

    return loop(nnx.Rngs(noise=seed), batches)


ALSO_RIGHT = [key_at_the_call, rngs_returned, stream_held, scanned]
