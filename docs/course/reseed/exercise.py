"""The exercise of "Reseed": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def reseed_dropout(seed, x, rate):
    """Return an output in train mode, and one after reseeding, shape (2, *x.shape).

    Args:
      seed: seed of the stream `dropout`; a float such as `7.0` is accepted and cast.
      x: input of any shape, float32.
      rate: probability to drop an element, between 0 and 1.
    """
    # --8<-- [end:stub]
    model = nnx.Dropout(rate, rngs=nnx.Rngs(dropout=int(seed)))
    first = model(x)
    nnx.reseed(model, dropout=int(seed))  # key and counter start anew
    return jnp.stack([first, model(x)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    first, second = jnp.array([1.0, 2, 3, 4, 5, 6]), jnp.array([0.5, -1.5, 2, 1, 3, -2])
    for seed, x, rate in [(0.0, first, 0.5), (7.0, second, 0.25), *more]:
        answer = candidate(seed, x, rate)
        stream = nnx.Rngs(dropout=int(seed)).dropout.fork()  # a layer draws from a fork
        kept = stream.bernoulli(1 - rate, x.shape)
        row = jnp.where(kept, x / (1 - rate), 0)
        if getattr(answer, "shape", None) != (2, *x.shape):
            expected = f"an array of shape {(2, *x.shape)}, not {type(answer).__name__}"
        elif answer.dtype.kind != "f":
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, row, atol=1e-5):
            expected = f"{row}, twice"
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {rate})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (11.0, jnp.arange(1.0, 13).reshape(3, 4, 1), 0.625),
]


def idea(seen):
    """Return what right numbers lack: two calls of a layer, the second reseeded."""
    factors = []  # one for each call

    def with_other_key(layer):  # reseeding replaces it
        if layer.rngs is not None:
            layer.rngs.key[...] = jax.random.key(99)

    def multiplied(call):
        factors.append(2 + len(factors))
        return factors[-1] * call.proceed()

    run = seen.run(
        "each layer begins with another key",
        built={nnx.Dropout: with_other_key},
        calls={nnx.Dropout: multiplied},
    )
    calls = run.calls_of(nnx.Dropout)
    if len(calls) < 2:
        return f"calls of nnx.Dropout: {len(calls)}; call it, reseed it, call it again"
    if any(isinstance(call.kwargs.get("rngs"), jax.Array) for call in calls):
        return "a key is passed at the call: let the layer draw from its own stream"
    for row in (0, 1):
        if not any(seen.close(run.answer[row], call.output) for call in calls):
            return f"row {row} is not what a call of the layer returns"
    if seen.close(*run.answer):
        return "both rows are the output of one call"
    right = seen.answer[1]
    if not any(seen.close(run.answer[1], factor * right) for factor in factors):
        return "the second row is not drawn from the seed again, as after nnx.reseed"


def layer(seed, rate):
    """Return the layer that the exercise asks for."""
    return nnx.Dropout(rate, rngs=nnx.Rngs(dropout=int(seed)))


def rows(model, x, reseed):
    """Return an output of a model, and another after a change of it."""
    first = model(x)
    reseed(model)
    return jnp.stack([first, model(x)])


def another_stream(seed, x, rate):
    return rows(layer(seed, rate), x, lambda m: nnx.reseed(m, default=int(seed)))


def reseeded_to_zero(seed, x, rate):
    return rows(layer(seed, rate), x, lambda m: nnx.reseed(m, dropout=0))


def built_from_zero(seed, x, rate):
    return rows(layer(0, rate), x, lambda m: nnx.reseed(m, dropout=int(seed)))


def seed_zero(seed, x, rate):
    return reseed_dropout(0, x, rate)


def key_written_by_hand(seed, x, rate):
    stream = nnx.RngStream(int(seed), tag="dropout")
    return rows(layer(seed, rate), x, lambda m: setattr(m, "rngs", stream))


def in_eval_mode(seed, x, rate):
    model = layer(seed, rate)
    model.eval()
    return rows(model, x, lambda m: nnx.reseed(m, dropout=int(seed)))


def keep_rate(seed, x, rate):
    return reseed_dropout(seed, x, 1 - rate)


def rate_is_half_or_less(seed, x, rate):
    return reseed_dropout(seed, x, min(rate, 0.5))


def built_again(seed, x, rate):
    return jnp.stack([layer(seed, rate)(x), layer(seed, rate)(x)])


def key_at_the_call(seed, x, rate):
    key = nnx.Rngs(dropout=int(seed)).fork().dropout()
    model = nnx.Dropout(rate)
    return jnp.stack([model(x, rngs=key), model(x, rngs=key)])


def called_in_vain(seed, x, rate):
    model = layer(seed, rate)
    nnx.reseed(model, dropout=int(seed))
    y, _ = model(x), model(x)
    return jnp.stack([y, y])


def first_row_twice(seed, x, rate):
    y = layer(seed, rate)(x)
    return jnp.stack([y, y])


def formula_with_assert(seed, x, rate):
    kept = nnx.Rngs(int(seed)).fork().dropout.bernoulli(1 - rate, x.shape)
    by_hand = jnp.stack([jnp.where(kept, x / (1 - rate), 0)] * 2)
    answer = reseed_dropout(seed, x, rate)
    assert jnp.allclose(answer, by_hand)
    return by_hand


MISTAKES = {
    another_stream: (
        "The second row is the next draw. Between the calls, reseed the layer's own "
        "stream, by its name: `model.rngs.tag`."
    ),
    reseeded_to_zero: "The layer is reseeded to 0: give it `int(seed)`.",
    built_from_zero: "The layer is built from seed 0: pass the seed to `nnx.Rngs` too.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs` and to `nnx.reseed`.",
    key_written_by_hand: (
        "This is the seed's own key. A layer holds one folded from it: let "
        "`nnx.reseed` derive it."
    ),
    in_eval_mode: "In eval mode nothing is dropped: leave the layer in train mode.",
    keep_rate: "`rate` is the probability to drop, not the probability to keep.",
    rate_is_half_or_less: "Pass `rate` as it is: it may be larger than a half.",
    built_again: (
        "The second row must come after `nnx.reseed`: a new layer, an old state or a "
        "counter at 0 never takes the seed."
    ),
    key_at_the_call: "Passing the key is Linen's way: reseed the layer's own stream.",
    called_in_vain: "Stack what the two calls return: copy no row, and compute none.",
    first_row_twice: "One call cannot fill two rows: reseed the layer, call it again.",
    formula_with_assert: "Return what the layer returns, not what you compare it with.",
}


def reseeded_before_both(seed, x, rate):
    model, outputs = nnx.Dropout(rate, rngs=nnx.Rngs(dropout=99)), []
    for _ in range(2):
        nnx.reseed(model, dropout=int(seed))
        outputs.append(model(x))
    return jnp.stack(outputs)


def default_stream(seed, x, rate):
    model = nnx.Dropout(rate, rngs=nnx.Rngs(int(seed)))
    return rows(model, x, lambda m: nnx.reseed(m, default=int(seed)))


def jitted(seed, x, rate):
    model, forward = layer(seed, rate), nnx.jit(lambda model, x: model(x))
    first = forward(model, x)
    nnx.reseed(model, dropout=int(seed))
    return jnp.stack([first, forward(model, x)])


def with_an_assertion(seed, x, rate):
    model = layer(seed, rate)
    first = model(inputs=x)
    nnx.reseed(model, dropout=int(seed))
    second = model(inputs=x)
    assert jnp.array_equal(first, second)
    return jnp.stack([first, second])


def reseeded_in_jit(seed, x, rate):
    @nnx.jit
    def both(model, x):
        first = model(x)
        nnx.reseed(model, dropout=int(seed))
        return jnp.stack([first, model(x)])

    return both(layer(seed, rate), x)


ALSO_RIGHT = [
    reseeded_before_both,
    default_stream,
    jitted,
    with_an_assertion,
    reseeded_in_jit,
]
