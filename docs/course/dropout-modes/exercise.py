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
from unittest.mock import patch

import jax

INPUTS = [  # seed, x, rate
    (0.0, jnp.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 0.5),
    (7.0, jnp.array([[0.5, -1.5, 2.0], [1.0, 3.0, -2.5]]), 0.25),
]


def expected_rows(seed, x, rate):
    """Return the three outputs, computed from the keys and without a module."""
    layer_key = jax.random.fold_in(jax.random.key(int(seed)), 0)  # the forked stream's
    rows = []
    for draw in range(2):
        key = jax.random.fold_in(layer_key, draw)
        kept = jax.random.bernoulli(key, 1 - rate, x.shape)
        rows.append(jnp.where(kept, x / (1 - rate), 0.0))
    return jnp.stack([*rows, x])


def missing_idea(candidate, inputs):
    """Return what the three outputs do not come from, or None."""
    modes, factor, call = [], 1, nnx.Dropout.__call__

    def scaled(self, inputs, *, deterministic=None, rngs=None):
        modes.append(self.deterministic if deterministic is None else deterministic)
        return factor * call(self, inputs, deterministic=deterministic, rngs=rngs)

    with patch.object(nnx.Dropout, "__call__", scaled), jax.disable_jit():
        candidate(*inputs)
        evals = sum(map(bool, modes))
        trains, factor = len(modes) - evals, 2
        try:
            answer = jnp.asarray(candidate(*inputs))
        except Exception:  # the candidate compares what it computes itself
            answer = 2 * expected_rows(*inputs)
    if not modes:
        return "no nnx.Dropout is called"
    if not evals:
        return "no call is in eval mode: the third output is the layer's, after eval()"
    if trains < 2:
        return "fewer than two calls are in train mode: call the layer twice"
    if not jnp.allclose(answer, 2 * expected_rows(*inputs), atol=1e-5):
        return "a row of the answer is not what the layer returns"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, rate in inputs:
        answer, wrong, hint = candidate(seed, x, rate), None, None
        rows = expected_rows(seed, x, rate)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != rows.shape:
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong = f"an array of shape {rows.shape}, not {kind}"
            hint = "return `jnp.stack` of three outputs, each of the shape of x"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, rows, atol=1e-5):
            names = ("first train output", "second train output", "eval output")
            row = next(
                i for i in range(3) if not jnp.allclose(answer[i], rows[i], atol=1e-5)
            )
            wrong, answer = f"{rows[row].tolist()}", answer[row].tolist()
            hint = f"the {names[row]} differs"
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
    return nnx.Dropout(rate, rngs=nnx.Rngs(int(seed)), **options)


def rows(model, x, then=nnx.Module.eval):
    """Return two outputs of a model, then a third after a change of it."""
    first, second = model(x), model(x)
    then(model)
    return jnp.stack([first, second, model(x)])


def eval_forgotten(seed, x, rate):
    return rows(layer(seed, rate), x, then=lambda model: None)


def eval_from_the_start(seed, x, rate):
    return rows(layer(seed, rate, deterministic=True), x)


def train_called_at_the_end(seed, x, rate):
    model = layer(seed, rate)
    model.eval()
    first, second = model(x), model(x)
    model.train()
    return jnp.stack([first, second, model(x)])


def eval_first(seed, x, rate):
    return jnp.roll(dropout_modes(seed, x, rate), 1, axis=0)


def new_layer_each_time(seed, x, rate):
    first, second = layer(seed, rate)(x), layer(seed, rate)(x)
    return jnp.stack([first, second, layer(seed, rate, deterministic=True)(x)])


def new_layer_from_one_rngs(seed, x, rate):
    rngs = nnx.Rngs(int(seed))
    train = [nnx.Dropout(rate, rngs=rngs)(x) for _ in range(2)]
    return jnp.stack([*train, nnx.Dropout(rate, deterministic=True)(x)])


def drawn_before(seed, x, rate):
    model = layer(seed, rate)
    model(x)
    return rows(model, x)


def keep_rate(seed, x, rate):
    return dropout_modes(seed, x, 1 - rate)


def eval_scaled(seed, x, rate):
    """Dropout as it was first published: scaled at test time."""
    train = dropout_modes(seed, x, rate)[:2] * (1 - rate)
    return jnp.stack([*train, x * (1 - rate)])


def not_scaled(seed, x, rate):
    train = dropout_modes(seed, x, rate)[:2] * (1 - rate)
    return jnp.stack([*train, x])


def rate_is_half_or_less(seed, x, rate):
    return dropout_modes(seed, x, min(rate, 0.5))


def columns_drawn_alike(seed, x, rate):
    return rows(layer(seed, rate, broadcast_dims=(0,) if x.ndim == 3 else ()), x)


def seed_zero(seed, x, rate):
    return dropout_modes(0, x, rate)


def keys_from_the_call(seed, x, rate):
    rngs = nnx.Rngs(int(seed))
    model = nnx.Dropout(rate)
    first, second = model(x, rngs=rngs), model(x, rngs=rngs)
    return jnp.stack([first, second, model(x, deterministic=True)])


def one_key_for_all(seed, x, rate):
    model, key = nnx.Dropout(rate), jax.random.key(int(seed))
    first, second = model(x, rngs=key), model(x, rngs=key)
    return jnp.stack([first, second, model(x, deterministic=True)])


def linen_layer(seed, x, rate):
    model, rngs = nn.Dropout(rate), {"dropout": jax.random.key(int(seed))}
    first = model.apply({}, x, deterministic=False, rngs=rngs)
    return jnp.stack([first, first, model.apply({}, x, deterministic=True)])


def whole_rows_dropped(seed, x, rate):
    return rows(layer(seed, rate, broadcast_dims=(x.ndim - 1,)), x)


def flattened(seed, x, rate):
    return dropout_modes(seed, x.ravel(), rate)


def second_stream(seed, x, rate):
    rngs = nnx.Rngs(int(seed))
    nnx.Dropout(rate, rngs=rngs)
    return rows(nnx.Dropout(rate, rngs=rngs), x)


def numbers_of_the_page(seed, x, rate):
    known = {str(inputs[1]): dropout_modes(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros((3, *x.shape)))


def input_for_eval(seed, x, rate):
    model = layer(seed, rate)
    return jnp.stack([model(x), model(x), x])


def input_after_all(seed, x, rate):
    return rows(layer(seed, rate), x).at[2].set(x)


def second_row_by_hand(seed, x, rate):
    model, by_hand = layer(seed, rate), expected_rows(seed, x, rate)
    first = model(x)
    model.eval()
    return jnp.stack([first, by_hand[1], model(x)])


def masks_by_hand(seed, x, rate):
    return expected_rows(seed, x, rate)


MISTAKES = {
    eval_forgotten: "The third output is in train mode too: call `model.eval()` first.",
    eval_from_the_start: "All is in eval mode: a new layer trains until `eval()`.",
    train_called_at_the_end: "The modes are swapped: a new layer is in train mode.",
    eval_first: "The order is first train call, second train call, eval call.",
    new_layer_each_time: (
        "The second mask is the first again: build one layer and call it twice, not "
        "under `jax.jit`, which drops its counter."
    ),
    new_layer_from_one_rngs: "Each layer forks a stream of its own: build only one.",
    drawn_before: "The first row is the second draw: one call comes before it.",
    keep_rate: "`rate` is the probability to drop, not the probability to keep.",
    eval_scaled: "Scale in train mode, by 1 / (1 - rate); in eval mode change nothing.",
    not_scaled: "What train mode keeps is divided by (1 - rate).",
    rate_is_half_or_less: "Pass `rate` as it is: it may be larger than a half.",
    columns_drawn_alike: "One mask is drawn for the whole batch: no `broadcast_dims`.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    keys_from_the_call: "Give the rngs to the constructor: the layer keeps a stream.",
    one_key_for_all: "One key gives one mask: let the layer draw from its own stream.",
    linen_layer: "This is Linen's layer and its key: build `nnx.Dropout` with `rngs`.",
    whole_rows_dropped: "Elements are dropped one by one, not in rows of `x`.",
    flattened: "Keep the shape of `x`: the answer has the shape (3, *x.shape).",
    second_stream: "This is the second layer from these rngs: build one alone.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    input_for_eval: (
        "The third row is no output in eval mode: call `model.eval()`, then the model."
    ),
    input_after_all: (
        "Each row must be the output itself: stack what the layer returns."
    ),
    second_row_by_hand: "Call `nnx.Dropout` for both train rows: compute none by hand.",
    masks_by_hand: "No row may be computed by hand: call `nnx.Dropout` for all three.",
}


def view_for_eval(seed, x, rate):
    model = layer(seed, rate)
    still = nnx.view(model, deterministic=True)
    return jnp.stack([model(x), model(x), still(x)])


def flag_at_the_call(seed, x, rate):
    model = nnx.Dropout(rate, deterministic=True, rngs=nnx.Rngs(dropout=int(seed)))
    return jnp.stack([model(x, deterministic=flag) for flag in (False, False, True)])


def in_a_module(seed, x, rate):
    class Regularised(nnx.Module):
        def __init__(self, rngs):
            self.dropout = nnx.Dropout(rate, rngs=rngs)

        def __call__(self, x):
            return self.dropout(x)

    return rows(Regularised(rngs=nnx.Rngs(int(seed))), x)


def subclassed(seed, x, rate):
    class Named(nnx.Dropout):
        pass

    return rows(Named(rate, rngs=nnx.Rngs(int(seed))), x)


def jitted(seed, x, rate):
    forward = nnx.jit(lambda model, x: model(x))
    model = layer(seed, rate)
    model.train()
    train = [forward(model, x) for _ in range(2)]
    model.eval()
    return jnp.stack([*train, forward(model, x)])


def in_a_loop_of_modes(seed, x, rate):
    model, outputs = layer(seed, rate), []
    for mode in (model.train, model.train, model.eval):
        mode()
        outputs.append(model(x))
    return np.array(outputs)


def with_an_attribute(seed, x, rate):
    return rows(layer(seed, rate), x, lambda m: m.set_attributes(deterministic=True))


def with_keyword_input(seed, x, rate):
    model = layer(seed, rate)
    train = [model(inputs=x), model(inputs=x)]
    model.eval()
    assert jnp.array_equal(model(inputs=x), x)
    return jnp.stack([*train, model(inputs=x)])


def eval_before_train(seed, x, rate):
    model = layer(seed, rate)
    model.eval()
    third = model(x)
    model.train()
    return jnp.stack([model(x), model(x), third])


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
    with_keyword_input,
    eval_before_train,
    over_state,
    view_for_eval,
    flag_at_the_call,
    in_a_module,
    subclassed,
    jitted,
    in_a_loop_of_modes,
    with_an_attribute,
]
