"""The exercise of "Train loops": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:step]
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

tx = optax.sgd(0.1, momentum=0.5)


def mean_squared_error(predicted, y):
    return ((predicted - y) ** 2).mean()


def train_step(model, optimizer, x, y):
    def loss_of(model):
        return mean_squared_error(model(x), y)

    loss, grads = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, grads)
    return loss


nnx_step = nnx.jit(train_step)
# --8<-- [end:step]


# --8<-- [start:split-step]
@jax.jit
def split_step(graphdef, state, x, y):
    model, optimizer = nnx.merge(graphdef, state)
    loss = train_step(model, optimizer, x, y)
    return loss, nnx.state((model, optimizer))
    # --8<-- [end:split-step]


# --8<-- [start:linen-step]
@jax.jit
def linen_step(params, opt_state, x, y):
    def loss_of(params):
        predicted = nn.Dense(y.shape[-1]).apply({"params": params}, x)
        return mean_squared_error(predicted, y)

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return loss, optax.apply_updates(params, updates), opt_state
    # --8<-- [end:linen-step]


# --8<-- [start:stub]
def train_loops(seed, x, y, steps):
    """Return the losses of three loops from the same weights, shape (3, steps).

    Row 0: `nnx.jit`. Row 1: `jax.jit` over split state. Row 2: Linen and Optax under
    `jax.jit`. Each loss is the one before its update.

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, in_features), float32.
      y: target, shape (batch, out_features), float32.
      steps: number of updates in each loop; a float is accepted and cast.
    """
    # --8<-- [end:stub]

    def start():
        model = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    rows = [], [], []
    model, optimizer = start()
    graphdef, state = nnx.split(start())
    params = nnx.to_pure_dict(nnx.state(start()[0], nnx.Param))
    opt_state = tx.init(params)
    for _ in range(int(steps)):
        rows[0].append(nnx_step(model, optimizer, x, y))
        loss, state = split_step(graphdef, state, x, y)
        rows[1].append(loss)
        loss, params, opt_state = linen_step(params, opt_state, x, y)
        rows[2].append(loss)
    return jnp.array(rows)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    x, y = jnp.array([[1.0], [2.0]]), jnp.array([[0.5, 1.0], [2.0, 0.0]])
    page = (0.0, x, y, 4.0), (7.0, x - 3, y, 3.0)
    for seed, x, y, steps in [*page, *more]:
        answer, rngs = candidate(seed, x, y, steps), nnx.Rngs(int(seed))
        error = x @ nnx.Linear(x.shape[-1], y.shape[-1], rngs=rngs).kernel - y
        moved, losses = 0, []
        for _ in range(int(steps)):
            losses.append(float((error**2).mean()))
            moved = 0.5 * moved + 2 * (x @ x.T + 1) @ error / y.size  # 1: the bias
            error = error - 0.1 * moved
        rows, shape = jnp.array([losses] * 3), getattr(answer, "shape", None)
        if shape == rows.shape and jnp.allclose(answer, rows, atol=1e-5):
            continue
        arrays = f"jnp.array({x.tolist()}), jnp.array({y.tolist()})"
        call = f"{candidate.__name__}({seed}, {arrays}, {steps})"
        expected = f"shape {rows.shape}, each row {[round(loss, 4) for loss in losses]}"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools
import itertools

import numpy as np
from flax.training.train_state import TrainState

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (11.0, jnp.array([[0.5], [-1.0]]), jnp.array([[1.0, 0.0], [0.0, -2.0]]), 6.0),
]
BATCHES = itertools.count(37)  # a size of its own each time: functions compile anew
# What an output is multiplied by: in each row, and where nothing is compiled.
FACTORS = {"nnx.jit": 1.5, "jax.jit": 0.5, "Linen under jax.jit": 2.0}
OTHERS = {"no compiled module": 1.0}


def formula(seed, x, y, steps, factor=1.0, momentum=0.5):
    """Return the losses of a loop whose model multiplies its output by a factor."""
    error = factor * x @ pair(seed, x, y)[0].kernel - y
    moved, losses = 0, []
    for _ in range(int(steps)):
        losses.append((error**2).mean())
        moved = momentum * moved + 2 * factor**2 * (x @ x.T + 1) @ error / y.size
        error = error - 0.1 * moved
    return jnp.array(losses)


def idea(seen):
    """Return what right numbers lack: each row comes from a loop of its own kind."""
    try:
        return other_loop(seen, FACTORS)
    except seen.Finding:  # it may compare its rows: one factor for all keeps them equal
        return other_loop(seen, dict.fromkeys(FACTORS, 1.5))


def other_loop(seen, factors):
    """Return which row does not come from its loop when outputs are multiplied."""
    batch, ways, factors = next(BATCHES), set(), factors | OTHERS
    inputs = seen.inputs[0], jnp.array([[1.0]] * batch), jnp.ones((batch, 2)), 2.0

    def scale(call):
        if call.depth:
            return call.proceed()
        linen = isinstance(call.module, nn.Module)
        way = "Linen under jax.jit" if linen else "jax.jit"
        way = "nnx.jit" if call.inside(nnx.jit) else way
        way = way if call.compiled else "no compiled module"
        ways.add(way)
        return factors[way] * call.proceed()

    run = seen.run(
        "the models multiply their outputs",
        inputs=inputs,
        calls={nnx.Module: scale, nn.Module: scale},
        watch=[nnx.merge],
        eager=False,
    )
    losses = {way: formula(*inputs, factor) for way, factor in factors.items()}
    for number, (way, row) in enumerate(zip(FACTORS, run.answer, strict=True)):
        found = [way for way in losses if seen.close(row, losses[way])]
        if way not in found or way not in ways:
            return f"row {number} comes from {[*found, '?'][0]}, not from {way}"
    if not any(call.compiled for call in run.calls_of(nnx.merge)):
        return "row 1 comes from jax.jit, but nothing is merged inside"


def pair(seed, x, y, *_):
    model = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def row_of(step, *carried, inputs):
    """Return the losses of a step that takes and returns what a loop carries."""
    (_, x, y, steps), losses = inputs, []
    for _ in range(int(steps)):
        loss, *carried = step(*carried, x, y)
        losses.append(loss)
    return jnp.array(losses)


def linen_row(*inputs):
    params = nnx.to_pure_dict(nnx.state(pair(*inputs)[0], nnx.Param))
    return row_of(linen_step, params, tx.init(params), inputs=inputs)


def attempt(name, number, row):
    """Return the attempt of a learner who finds one row in another way."""

    def attempted(*inputs):
        return train_loops(*inputs).at[number].set(row(*inputs))

    attempted.__name__ = name
    return attempted


def linen_init(*inputs):
    params = nn.Dense(2).init(jax.random.key(int(inputs[0])), inputs[1])["params"]
    return row_of(linen_step, params, tx.init(params), inputs=inputs)


def optimizer_closed_over(*inputs):
    model, optimizer = pair(*inputs)
    step = nnx.jit(lambda model, x, y: train_step(model, optimizer, x, y))
    return step(model, *inputs[1:3])


donating_step = jax.jit(split_step, donate_argnums=1)


def donated_state_read_again(*inputs):
    graphdef, state = nnx.split(pair(*inputs))
    return [donating_step(graphdef, state, *inputs[1:3]) for _ in range(2)]


def one_model_for_all(seed, x, y, steps):
    return formula(seed, x, y, 3 * int(steps)).reshape(3, -1)


def losses_after_the_update(seed, x, y, steps):
    return train_loops(seed, x, y, steps + 1)[:, 1:]


def four_steps_at_most(seed, x, y, steps):
    return train_loops(seed, x, y, min(steps, 4))


def nothing_compiled(*inputs):  # formulas get the verdict of eager loops, but sooner
    return jnp.array([formula(*inputs)] * 3)


def formula_with_assert(*inputs):
    rows = train_loops(*inputs)
    assert jnp.allclose(rows, formula(*inputs), atol=1e-5)
    return rows.at[2].set(formula(*inputs))


@jax.jit
def returning_step(model, optimizer, x, y):
    return train_step(model, optimizer, x, y), model, optimizer


def modules_returned(*inputs):
    row = row_of(returning_step, *pair(*inputs), inputs=inputs)
    return jnp.array([cached_partial(*inputs), row, linen_row(*inputs)])


MISTAKES = {
    attempt("plain_jit", 0, lambda *inputs: formula(*inputs)[0]): (
        "Row 0 stays at its first loss: plain `jax.jit` drops each update."
    ),
    attempt("state_not_carried", 1, lambda *inputs: formula(*inputs)[0]): (
        "Row 1 stays at its first loss: pass the new state on."
    ),
    attempt("params_alone_returned", 1, lambda *inputs: formula(*inputs, momentum=0)): (
        "Row 1 forgets its momentum: return all the state."
    ),
    attempt("linen_init", 2, linen_init): (
        "Row 2 starts from Linen's own weights: use those of the NNX model."
    ),
    optimizer_closed_over: "Pass the optimizer to the compiled step, as an argument.",
    donated_state_read_again: "A donated state is gone: use the one that came back.",
    one_model_for_all: "A loop goes on where another ended: build a model for each.",
    losses_after_the_update: "Record each loss before its update, not after it.",
    four_steps_at_most: "Make `int(steps)` updates, however many that are.",
    nothing_compiled: "Compile each step: `nnx.jit` in row 0, `jax.jit` in the others.",
    attempt("first_row_copied", 1, lambda *inputs: train_loops(*inputs)[0]): (
        "Row 1 needs its own loop: `jax.jit` over split state."
    ),
    attempt("second_row_copied", 2, lambda *inputs: train_loops(*inputs)[1]): (
        "Row 2 needs a loop of its own, in Linen."
    ),
    formula_with_assert: "Return the losses of Linen's loop, not those of a formula.",
    modules_returned: "Row 1: pass graphdef and state, and call `nnx.merge` inside.",
}


def cached_partial(*inputs):
    cached = nnx.cached_partial(nnx_step, *pair(*inputs))
    return jnp.array([cached(*inputs[1:3]) for _ in range(int(inputs[3]))])


def donated_state(*inputs):
    graphdef, state = nnx.split(pair(*inputs))
    step = functools.partial(donating_step, graphdef)
    return row_of(step, state, inputs=inputs)


class LinenModel(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)


@jax.jit
def train_state_step(state, x, y):
    def loss_of(params):
        return mean_squared_error(state.apply_fn({"params": params}, x), y)

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    return loss, state.apply_gradients(grads=grads)


def train_state_compared(*inputs):
    apply = LinenModel(inputs[2].shape[-1]).apply
    params = {"Dense_0": nnx.to_pure_dict(nnx.state(pair(*inputs)[0], nnx.Param))}
    state = TrainState.create(apply_fn=apply, params=params, tx=tx)
    rows = train_loops(*inputs)
    rows = rows.at[2].set(row_of(train_state_step, state, inputs=inputs))
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-5)
    assert jnp.allclose(rows[0], rows[1], atol=1e-5)
    return rows


ALSO_RIGHT = [
    attempt("cached", 0, cached_partial),
    attempt("donated", 1, donated_state),
    train_state_compared,
]
