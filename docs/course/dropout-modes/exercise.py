"""The exercise of "Dropout modes": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def dropout_modes(seed, x, rate):
    """Return two outputs in train mode and one in eval mode, shape (3, *x.shape).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input of any shape, float32.
      rate: probability to drop an element, between 0 and 1.
    """
    # --8<-- [end:stub]
    model = nnx.Dropout(rate, rngs=nnx.Rngs(int(seed)))
    first, second = model(x), model(x)  # a new module is in train mode
    model.eval()
    return jnp.stack([first, second, model(x)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    first, second = jnp.array([1.0, 2, 3, 4, 5, 6]), jnp.array([0.5, -1.5, 2, 1, 3, -2])
    for seed, x, rate in [(0.0, first, 0.5), (7.0, second, 0.25), *more]:
        answer = candidate(seed, x, rate)
        stream = nnx.Rngs(int(seed)).dropout.fork()  # a layer draws from a fork
        kept = jnp.stack([stream.bernoulli(1 - rate, x.shape) for _ in range(2)])
        right = jnp.stack([*jnp.where(kept, x / (1 - rate), 0), x])
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif answer.dtype.kind != "f":
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {rate})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (11.0, jnp.array([[[1.5], [-0.5]], [[2.0], [4.0]], [[0.25], [-3.0]]]), 0.75),
]


def idea(seen):
    """Return what right numbers lack: three calls of a layer, the last in eval mode.

    A call may say its mode itself, or leave it to the layer or to a view of it.
    """
    train, evaluation = [], []  # the factors of the calls in each mode

    def multiplied(call):
        flag = call.kwargs.get("deterministic")
        flag = call.module.deterministic if flag is None else flag
        factor = 2 + len(train) + len(evaluation)
        (evaluation if flag else train).append(factor)
        return factor * call.proceed()

    when = "each call multiplies its output"
    answer = seen.run(when, calls={nnx.Dropout: multiplied}).answer
    if not train + evaluation:
        return "no nnx.Dropout is called"
    if not evaluation:
        return "no call is in eval mode: the third output is the layer's, after eval()"
    if len(train) < 2:
        return "fewer than two calls are in train mode: call the layer twice"
    for row, factors in enumerate([train, train, evaluation]):
        if not any(seen.close(answer[row], f * seen.answer[row]) for f in factors):
            return f"row {row} is not what the layer returns in its mode"


def layer(seed, rate, **options):
    """Return the layer that the exercise asks for."""
    return nnx.Dropout(rate, rngs=nnx.Rngs(int(seed)), **options)


def rows(model, x, then=nnx.Module.eval):
    """Return two outputs of a model, then a third after a change of it."""
    first, second = model(x), model(x)
    then(model)
    return jnp.stack([first, second, model(x)])


def masks_by_hand(seed, x, rate):
    stream = nnx.Rngs(int(seed)).fork().dropout
    kept = [stream.bernoulli(1 - rate, x.shape) for _ in range(2)]
    return jnp.stack([*(jnp.where(mask, x / (1 - rate), 0.0) for mask in kept), x])


def eval_forgotten(seed, x, rate):
    return rows(layer(seed, rate), x, then=lambda model: None)


def eval_from_the_start(seed, x, rate):
    return rows(layer(seed, rate, deterministic=True), x)


def new_layer_each_time(seed, x, rate):
    modes = (False, False, True)
    return jnp.stack([layer(seed, rate, deterministic=mode)(x) for mode in modes])


def keep_rate(seed, x, rate):
    return dropout_modes(seed, x, 1 - rate)


def eval_scaled(seed, x, rate):
    train = dropout_modes(seed, x, rate)[:2] * (1 - rate)
    return jnp.stack([*train, x * (1 - rate)])


def rate_is_half_or_less(seed, x, rate):
    return dropout_modes(seed, x, min(rate, 0.5))


def seed_zero(seed, x, rate):
    return dropout_modes(0, x, rate)


def keys_from_the_call(seed, x, rate):
    rngs = nnx.Rngs(int(seed))
    model = nnx.Dropout(rate)
    first, second = model(x, rngs=rngs), model(x, rngs=rngs)
    return jnp.stack([first, second, model(x, deterministic=True)])


def flattened(seed, x, rate):
    return dropout_modes(seed, x.ravel(), rate)


def input_for_eval(seed, x, rate):
    model = layer(seed, rate)
    return jnp.stack([model(x), model(x), x])


def second_row_by_hand(seed, x, rate):
    model, by_hand = layer(seed, rate), masks_by_hand(seed, x, rate)
    first = model(x)
    model.eval()
    return jnp.stack([first, by_hand[1], model(x)])


def formula_with_assert(seed, x, rate):
    answer, by_hand = dropout_modes(seed, x, rate), masks_by_hand(seed, x, rate)
    assert jnp.allclose(answer, by_hand)
    return by_hand


MISTAKES = {
    eval_forgotten: "The third output is in train mode too: call `model.eval()` first.",
    eval_from_the_start: "All is in eval mode: a new layer trains until `eval()`.",
    new_layer_each_time: (
        "Your masks are equal: call one layer twice, and not under `jax.jit`, which "
        "drops its counter."
    ),
    keep_rate: "`rate` is the probability to drop, not the probability to keep.",
    eval_scaled: "Scale in train mode, by 1 / (1 - rate); in eval mode change nothing.",
    rate_is_half_or_less: "Pass `rate` as it is: it may be larger than a half.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    keys_from_the_call: "Give the rngs to the constructor: the layer keeps a stream.",
    flattened: "Keep the shape of `x`: the answer has the shape (3, *x.shape).",
    input_for_eval: (
        "The third row is no output in eval mode: call `model.eval()`, then the model."
    ),
    second_row_by_hand: "Call `nnx.Dropout` for both train rows: compute none by hand.",
    masks_by_hand: "No row may be computed by hand: call `nnx.Dropout` for all three.",
    formula_with_assert: "Return what the layer returns, not what you compare it with.",
}


def view_for_eval(seed, x, rate):
    model = layer(seed, rate)
    return jnp.stack([model(x), model(x), nnx.view(model, deterministic=True)(x)])


def flag_at_the_call(seed, x, rate):
    model = nnx.Dropout(rate, deterministic=True, rngs=nnx.Rngs(dropout=int(seed)))
    return jnp.stack([model(x, deterministic=flag) for flag in (False, False, True)])


def jitted(seed, x, rate):
    model, forward = layer(seed, rate), nnx.jit(lambda model, x: model(x))
    train = [forward(model, x) for _ in range(2)]
    model.eval()
    return jnp.stack([*train, forward(model, x)])


def stream_at_the_call(seed, x, rate):
    model, stream = nnx.Dropout(rate), nnx.Rngs(int(seed)).dropout.fork()
    train = [model(x, rngs=stream) for _ in range(2)]
    model.set_view(deterministic=True)
    return jnp.stack([*train, model(x)])


def with_keyword_input(seed, x, rate):
    model = layer(seed, rate)
    train = [model(inputs=x), model(inputs=x)]
    model.eval()
    assert jnp.array_equal(model(inputs=x), x)
    return jnp.stack([*train, model(inputs=x)])


def over_state(seed, x, rate):
    graphdef, state = nnx.split(layer(seed, rate))

    @jax.jit
    def step(state, x):
        model = nnx.merge(graphdef, state)
        return model(x), nnx.state(model)

    first, state = step(state, x)
    second, state = step(state, x)
    model = nnx.merge(graphdef, state)
    model.eval()
    return jnp.stack([first, second, model(x)])


ALSO_RIGHT = [
    view_for_eval,
    flag_at_the_call,
    jitted,
    stream_at_the_call,
    with_keyword_input,
    over_state,
]
