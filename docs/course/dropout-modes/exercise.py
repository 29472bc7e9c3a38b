"""The exercise of "Dropout modes": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:model]
class Regularised(nnx.Module):
    def __init__(self, in_features, features, rate, *, rngs: nnx.Rngs):
        self.dropout = nnx.Dropout(rate)
        self.linear = nnx.Linear(in_features, features, rngs=rngs)

    def __call__(self, x, rngs=None):  # x[..., in_features]
        return self.linear(self.dropout(x, rngs=rngs))
        # --8<-- [end:model]


# --8<-- [start:stub]
def error_bars(seed, x, rate, draws):
    """Return a prediction, and mean and deviation over masks, shape (3, 2), float32.

    Args:
      seed: seed of the stream `params`; that of `dropout` is one more.
      x: input, shape (in_features,), float32.
      rate: probability to drop a feature, between 0 and 1.
      draws: number of calls in train mode, each with a mask of its own.
    """
    # --8<-- [end:stub]
    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    model = Regularised(x.size, 2, rate, rngs=rngs)
    train_model = nnx.view(model, deterministic=False)
    eval_model = nnx.view(model, deterministic=True)
    drawn = jnp.stack([train_model(x, rngs=rngs) for _ in range(draws)])
    return jnp.stack([eval_model(x), drawn.mean(axis=0), drawn.std(axis=0)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    first, second = jnp.array([1.0, 2, 3, 4, 5, 6]), jnp.array([0.5, -1.5, 2, 1])
    for seed, x, rate, draws in [(0, first, 0.5, 4), (7, second, 0.25, 4), *more]:
        answer, key = candidate(seed, x, rate, draws), jax.random.key(seed + 1)
        keys = [jax.random.fold_in(key, i) for i in range(draws)]
        kept = jnp.stack([jax.random.bernoulli(k, 1 - rate, x.shape) for k in keys])
        linear = nnx.Linear(x.size, 2, rngs=nnx.Rngs(params=seed))
        drawn = linear(jnp.where(kept, x / (1 - rate), 0))
        right = jnp.stack([linear(x), drawn.mean(axis=0), drawn.std(axis=0)])
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {rate}, {draws})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (11, jnp.array([1.5, -0.5, 2.0]), 0.25, 5),
    (3, jnp.array([0.25, -3.0, 4.0, 1.0, 2.0]), 0.75, 4),
]


def idea(seen):
    """Return what right numbers lack: an eval row, and two that follow train calls.

    A call may say its mode itself, or leave it to the layer or to a view of it.
    """

    def multiplied(call):
        flag = call.kwargs.get("deterministic")
        flag = call.module.deterministic if flag is None else flag
        return (3 if flag else 2) * call.proceed()

    when = "each call multiplies its output"
    run = seen.run(when, calls={nnx.Dropout: multiplied})
    if not run.calls_of(nnx.Dropout):
        return "no nnx.Dropout is called"
    names, factors = (
        ("prediction (eval)", "mean (train)", "deviation (train)"),
        (3, 2, 2),
    )
    wrong = [
        name
        for name, factor, before, after in zip(
            names, factors, seen.answer, run.answer, strict=True
        )
        if not seen.close(after, factor * before)
    ]
    if wrong:
        return f"what nnx.Dropout returns in its mode has no effect on: {wrong}"


def built(seed, x, rate):
    """Return the streams and the model that the exercise asks for."""
    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    return rngs, Regularised(x.size, 2, rate, rngs=rngs)


def rows(prediction, drawn):
    drawn = jnp.stack(drawn)
    return jnp.stack([prediction, drawn.mean(axis=0), drawn.std(axis=0)])


def by_hand(seed, x, rate, draws):
    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    linear = nnx.Linear(x.size, 2, rngs=rngs)
    kept = [rngs.dropout.bernoulli(1 - rate, x.shape) for _ in range(draws)]
    return rows(linear(x), [linear(jnp.where(k, x / (1 - rate), 0)) for k in kept])


def prediction_in_train_mode(seed, x, rate, draws):
    rngs, model = built(seed, x, rate)
    drawn = [model(x, rngs=rngs) for _ in range(draws)]
    return rows(model(x, rngs=rngs), drawn)


def all_in_eval_mode(seed, x, rate, draws):
    _, model = built(seed, x, rate)
    model.eval()
    return rows(model(x), [model(x) for _ in range(draws)])


def new_rngs_at_each_call(seed, x, rate, draws):
    _, model = built(seed, x, rate)
    drawn = [model(x, rngs=nnx.Rngs(dropout=seed + 1)) for _ in range(draws)]
    return rows(nnx.view(model, deterministic=True)(x), drawn)


def stream_in_the_layer(seed, x, rate, draws):
    rngs, model = built(seed, x, rate)
    model.dropout = nnx.Dropout(rate, rngs=rngs)
    drawn = [model(x) for _ in range(draws)]
    return rows(nnx.view(model, deterministic=True)(x), drawn)


def equal_seeds(seed, x, rate, draws):
    rngs, model = nnx.Rngs(params=seed, dropout=seed), built(seed, x, rate)[1]
    drawn = [model(x, rngs=rngs) for _ in range(draws)]
    return rows(nnx.view(model, deterministic=True)(x), drawn)


def one_stream_for_both(seed, x, rate, draws):
    rngs = nnx.Rngs(seed)
    model = Regularised(x.size, 2, rate, rngs=rngs)
    drawn = [model(x, rngs=rngs) for _ in range(draws)]
    return rows(nnx.view(model, deterministic=True)(x), drawn)


def seed_zero(seed, x, rate, draws):
    return error_bars(0, x, rate, draws)


def keep_rate(seed, x, rate, draws):
    return error_bars(seed, x, 1 - rate, draws)


def rate_is_half_or_less(seed, x, rate, draws):
    return error_bars(seed, x, min(rate, 0.5), draws)


def four_draws(seed, x, rate, draws):
    return error_bars(seed, x, rate, 4)


def sample_deviation(seed, x, rate, draws):
    found = error_bars(seed, x, rate, draws)
    return found.at[2].mul(jnp.sqrt(draws / (draws - 1)))


def mean_in_place_of_prediction(seed, x, rate, draws):
    return error_bars(seed, x, rate, draws)[jnp.array([1, 1, 2])]


def over_all_outputs(seed, x, rate, draws):
    found = error_bars(seed, x, rate, draws)
    return jnp.array([found[0].mean(), found[1].mean(), found[2].mean()])


def linear_layer_alone(seed, x, rate, draws):
    rngs, model = built(seed, x, rate)
    return rows(model.linear(x), [model(x, rngs=rngs) for _ in range(draws)])


def formula_with_assert(seed, x, rate, draws):
    answer, formula = error_bars(seed, x, rate, draws), by_hand(seed, x, rate, draws)
    assert jnp.allclose(answer, formula, atol=1e-4)
    return formula


MISTAKES = {
    prediction_in_train_mode: "The prediction is noisy: take it from an eval view.",
    all_in_eval_mode: "The deviation is 0: draw from a view in train mode.",
    new_rngs_at_each_call: (
        "All masks are equal: pass one `nnx.Rngs` to every call, and not into "
        "`jax.jit`, which drops its count."
    ),
    stream_in_the_layer: (
        "A layer that holds a stream forks it, and draws other masks: give the layer "
        "no `rngs`, and pass them at the call."
    ),
    equal_seeds: "The seed of `dropout` is `seed + 1`.",
    one_stream_for_both: "Name two streams, `params` and `dropout`, with a seed each.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    keep_rate: "`rate` is the probability to drop, not the probability to keep.",
    rate_is_half_or_less: "Pass `rate` as it is: it may be larger than a half.",
    four_draws: "Draw as many masks as `draws` says.",
    sample_deviation: "Divide by the number of draws, as `jnp.std` does by default.",
    mean_in_place_of_prediction: (
        "The mean over masks only estimates the prediction: use eval mode."
    ),
    over_all_outputs: "Keep the outputs apart: reduce over the draws alone.",
    linear_layer_alone: "Call the model for the prediction, not one of its layers.",
    by_hand: "No mask may be drawn by hand: call `nnx.Dropout` for all of it.",
    formula_with_assert: "Return what the model returns, not what you compare it with.",
}


def flags_flipped(seed, x, rate, draws):
    rngs, model = built(seed, x, rate)
    drawn = [model(x, rngs=rngs) for _ in range(draws)]
    model.eval()
    return rows(model(x), drawn)


def keys_under_vmap(seed, x, rate, draws):
    rngs, model = built(seed, x, rate)
    keys = jnp.stack([rngs.dropout() for _ in range(draws)])
    drawn = jax.vmap(lambda key: model(x, rngs=key))(keys)
    return rows(nnx.view(model, deterministic=True)(x), list(drawn))


def jitted(seed, x, rate, draws):
    rngs, model = built(seed, x, rate)
    forward = nnx.jit(lambda model, x, rngs: model(x, rngs=rngs))
    drawn = [forward(model, x, rngs) for _ in range(draws)]
    return rows(forward(nnx.view(model, deterministic=True), x, None), drawn)


def flag_at_the_call(seed, x, rate, draws):
    class Own(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.dropout = nnx.Dropout(rate, deterministic=None)
            self.linear = nnx.Linear(x.size, 2, rngs=rngs)

        def __call__(self, x, deterministic, rngs=None):
            x = self.dropout(x, deterministic=deterministic, rngs=rngs)
            return self.linear(x)

    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    model = Own(rngs=rngs)
    drawn = [model(x, False, rngs) for _ in range(draws)]
    return rows(model(x, True), drawn)


ALSO_RIGHT = [flags_flipped, keys_under_vmap, jitted, flag_at_the_call]
