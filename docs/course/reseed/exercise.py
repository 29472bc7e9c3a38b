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
from unittest.mock import patch

import jax

INPUTS = [  # seed, x, rate
    (0.0, jnp.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 0.5),
    (7.0, jnp.array([[0.5, -1.5, 2.0], [1.0, 3.0, -2.5]]), 0.25),
]


def expected_row(seed, x, rate):
    """Return both rows of the answer, for they are equal, computed without a layer."""
    layer_key = jax.random.fold_in(jax.random.key(int(seed)), 0)  # the forked stream's
    draw_key = jax.random.fold_in(layer_key, 0)
    return jnp.where(
        jax.random.bernoulli(draw_key, 1 - rate, x.shape), x / (1 - rate), 0
    )


def run(candidate, inputs, numbered):
    """Return the answer of a run with altered layers, and the keys given to calls."""
    given, init, call = [], nnx.Dropout.__init__, nnx.Dropout.__call__

    def init_with_other_key(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if self.rngs is not None and not numbered:
            self.rngs.key[...] = jax.random.key(99)  # reseeding replaces it

    def numbered_call(self, inputs, **kwargs):  # the first output is doubled, the
        given.append(kwargs.get("rngs"))  # second tripled, and so on
        return call(self, inputs, **kwargs) * (len(given) + 1 if numbered else 1)

    with (
        patch.object(nnx.Dropout, "__init__", init_with_other_key),
        patch.object(nnx.Dropout, "__call__", numbered_call),
        jax.disable_jit(),
    ):
        try:
            return jnp.asarray(candidate(*inputs)), given
        except Exception:  # the candidate compares what it computes itself
            return None, given


def missing_idea(candidate, inputs):
    """Return what shows that the layer is not reseeded, or None."""
    row = expected_row(*inputs)
    answer, given = run(candidate, inputs, numbered=False)
    if len(given) < 2:
        return f"calls of nnx.Dropout: {len(given)}; call it, reseed it, call it again"
    if any(isinstance(key, jax.Array) for key in given):
        return "a key is passed at the call: let the layer draw from its own stream"
    if answer is not None and not jnp.allclose(answer[1], row, atol=1e-5):
        return "the second row is not drawn from the seed again, as after nnx.reseed"
    answer, given = run(candidate, inputs, numbered=True)
    if answer is not None:
        times = [round(float(jnp.abs(y).sum() / jnp.abs(row).sum())) for y in answer]
        if min(times) < 2 or times[0] == times[1]:
            return "the rows are not the outputs of two calls: stack the outputs"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, rate in inputs:
        answer, wrong, hint = candidate(seed, x, rate), None, None
        row = expected_row(seed, x, rate)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != (2, *x.shape):
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong = f"an array of shape {(2, *x.shape)}, not {kind}"
            hint = "return `jnp.stack` of two outputs, each of the shape of x"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"outputs of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, row, atol=1e-5):
            wrong = f"two rows {row.tolist()}"
            if jnp.allclose(answer[0], row, atol=1e-5):
                hint = "the first row is right; the second must come from the same seed"
        if wrong:
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {rate})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import flax.linen as nn
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.linspace(-1.0, 2.5, 8), 0.75),
    (11.0, jnp.array([[[1.5], [-0.5]], [[2.0], [4.0]], [[0.25], [-3.0]]]), 0.5),
]


def layer(seed, rate, **options):
    """Return the layer that the exercise asks for."""
    return nnx.Dropout(rate, rngs=nnx.Rngs(dropout=int(seed)), **options)


def rows(model, x, reseed):
    """Return an output of a model, and another after a change of it."""
    first = model(x)
    reseed(model)
    return jnp.stack([first, model(x)])


def another_stream(seed, x, rate):
    return rows(layer(seed, rate), x, lambda m: nnx.reseed(m, default=int(seed)))


def reseeded_to_zero(seed, x, rate):
    return rows(layer(seed, rate), x, lambda m: nnx.reseed(m, dropout=0))


def reseeded_to_the_next_seed(seed, x, rate):
    return rows(layer(seed, rate), x, lambda m: nnx.reseed(m, dropout=int(seed) + 1))


def built_from_zero(seed, x, rate):
    return rows(layer(0, rate), x, lambda m: nnx.reseed(m, dropout=int(seed)))


def seed_zero(seed, x, rate):
    return reseed_dropout(0, x, rate)


def key_written_by_hand(seed, x, rate):
    def write(model):
        model.rngs.key[...] = jax.random.key(int(seed))
        model.rngs.count[...] = 0

    return rows(layer(seed, rate), x, write)


def key_without_the_counter(seed, x, rate):
    def write(model):
        model.rngs.key[...] = jax.random.key(int(seed))

    return rows(layer(seed, rate), x, write)


def key_drawn_for_it(seed, x, rate):
    key = nnx.Rngs(dropout=int(seed)).dropout()
    return rows(layer(seed, rate), x, lambda m: nnx.reseed(m, dropout=key))


def in_eval_mode(seed, x, rate):
    model = layer(seed, rate)
    model.eval()
    return rows(model, x, lambda m: nnx.reseed(m, dropout=int(seed)))


def keep_rate(seed, x, rate):
    return reseed_dropout(seed, x, 1 - rate)


def not_scaled(seed, x, rate):
    return reseed_dropout(seed, x, rate) * (1 - rate)


def rate_is_half_or_less(seed, x, rate):
    return reseed_dropout(seed, x, min(rate, 0.5))


def columns_drawn_alike(seed, x, rate):
    model = layer(seed, rate, broadcast_dims=(0,) if x.ndim == 3 else ())
    return rows(model, x, lambda m: nnx.reseed(m, dropout=int(seed)))


def second_layer(seed, x, rate):
    rngs = nnx.Rngs(dropout=int(seed))
    nnx.Dropout(rate, rngs=rngs)
    model = nnx.Dropout(rate, rngs=rngs)
    return rows(model, x, lambda m: nnx.reseed(m, dropout=int(seed)))


def masks_alone(seed, x, rate):
    return reseed_dropout(seed, jnp.ones_like(x), rate) > 0


def their_difference(seed, x, rate):
    first, second = reseed_dropout(seed, x, rate)
    return second - first


def three_rows(seed, x, rate):
    model = layer(seed, rate)
    return jnp.stack([model(x), *rows(model, x, lambda m: nnx.reseed(m, dropout=0))])


def linen_with_one_key(seed, x, rate):
    rngs = {"dropout": jax.random.key(int(seed))}
    y = nn.Dropout(rate).apply({}, x, deterministic=False, rngs=rngs)
    return jnp.stack([y, y])


def numbers_of_the_page(seed, x, rate):
    known = {str(inputs[1]): reseed_dropout(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros((2, *x.shape)))


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


MISTAKES = {
    another_stream: (
        "The second row is the next draw. Between the calls, reseed the layer's own "
        "stream, by its name: `model.rngs.tag`."
    ),
    reseeded_to_zero: "The layer is reseeded to 0: give it `int(seed)`.",
    reseeded_to_the_next_seed: "Reseed to the same seed: another one, another mask.",
    built_from_zero: "The layer is built from seed 0: pass the seed to `nnx.Rngs` too.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs` and to `nnx.reseed`.",
    key_written_by_hand: (
        "This is the seed's own key. A layer holds one folded from it: let "
        "`nnx.reseed` derive it."
    ),
    key_without_the_counter: (
        "The key is written, but the counter goes on: `nnx.reseed` sets both."
    ),
    key_drawn_for_it: "Give `nnx.reseed` the seed, not a key that a stream has drawn.",
    in_eval_mode: "In eval mode nothing is dropped: leave the layer in train mode.",
    keep_rate: "`rate` is the probability to drop, not the probability to keep.",
    not_scaled: "What train mode keeps is divided by (1 - rate).",
    rate_is_half_or_less: "Pass `rate` as it is: it may be larger than a half.",
    columns_drawn_alike: "One mask is drawn for the whole batch: no `broadcast_dims`.",
    second_layer: "This is the second layer from these rngs: build one alone.",
    masks_alone: "Return the layer's outputs on `x`, not the masks.",
    their_difference: "Return both outputs, not their difference.",
    three_rows: "Two rows: the first output, and the one after `nnx.reseed`.",
    linen_with_one_key: "This is Linen's layer and its key: build `nnx.Dropout`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    built_again: (
        "The second row must be the layer's output after `nnx.reseed`: a new layer, a "
        "copied row, an old state or a counter at 0 never takes the seed."
    ),
    first_row_twice: "One call cannot fill two rows: reseed the layer, call it again.",
    called_in_vain: "Stack what the two calls return: copy no row, and compute none.",
    key_at_the_call: "Passing the key is Linen's way: reseed the layer's own stream.",
}


def reseeded_before_both(seed, x, rate):
    model, outputs = nnx.Dropout(rate, rngs=nnx.Rngs(dropout=99)), []
    for _ in range(2):
        nnx.reseed(model, dropout=int(seed))
        outputs.append(model(x))
    return jnp.stack(outputs)


def to_a_key(seed, x, rate):
    key = jax.random.key(int(seed))
    model = nnx.Dropout(rate, rngs=nnx.Rngs(dropout=key))
    return rows(model, x, lambda m: nnx.reseed(m, dropout=key))


def default_stream(seed, x, rate):
    model = nnx.Dropout(rate, rngs=nnx.Rngs(int(seed)))
    return rows(model, x, lambda m: nnx.reseed(m, default=int(seed)))


def in_a_module(seed, x, rate):
    class Regularised(nnx.Module):
        def __init__(self, rngs):
            self.dropout = nnx.Dropout(rate, rngs=rngs)

        def __call__(self, x):
            return self.dropout(x)

    model = Regularised(rngs=nnx.Rngs(params=0, dropout=int(seed)))
    return rows(model, x, lambda m: nnx.reseed(m, params=0, dropout=int(seed)))


def after_many_draws(seed, x, rate):
    model = layer(seed, rate)
    first = model(x)
    for _ in range(3):
        model(x)
    nnx.reseed(model, dropout=int(seed))
    return np.stack([first, model(x)])


def jitted(seed, x, rate):
    model, forward = layer(seed, rate), nnx.jit(lambda model, x: model(x))
    first = forward(model, x)
    nnx.reseed(model, dropout=int(seed))
    return jnp.stack([first, forward(model, x)])


def a_clone_reseeded(seed, x, rate):
    model = layer(seed, rate)
    first, twin = model(x), nnx.clone(model)
    nnx.reseed(twin, dropout=int(seed))
    return jnp.stack([first, twin(x)])


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
    with_an_assertion,
    reseeded_in_jit,
    reseeded_before_both,
    to_a_key,
    default_stream,
    in_a_module,
    after_many_draws,
    jitted,
    a_clone_reseeded,
]
