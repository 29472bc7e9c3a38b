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
import sys
import traceback
from unittest.mock import patch

import numpy as np

X, Y = jnp.array([[1.0, 2, 0.5], [0, 1, -1]]), jnp.array([[0.5, 1], [-1, 0]])
INPUTS = [(0.0, X, Y, 4.0), (7.0, X - 0.5, Y, 3.0)]  # seed, x, y, steps
# What the check multiplies the output of a module by, for each way to call it.
FACTORS = {"nnx.jit": 1.5, "jax.jit and nnx.merge": 0.5, "Linen under jax.jit": 2.0}
OTHERS = {"jax.jit without nnx.merge": 0.75, "no compiled module": 1.0}
ROWS = iter(range(37, 10_000))  # another batch each time: functions compile anew


def expected_losses(seed, x, y, steps, factor=1.0, rate=0.1, momentum=0.5):
    """Return the losses of one loop by formulas; `factor` multiplies each output."""
    layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    x, y, kernel = (np.array(array, float) for array in (x, y, layer.kernel))
    bias, losses, kernel_speed, bias_speed = 0, [], 0, 0
    for _ in range(int(steps)):
        error = factor * (x @ kernel + bias) - y
        losses.append((error**2).mean())
        slope = 2 * factor * error / y.size  # of the loss, by each x @ kernel + bias
        kernel_speed = momentum * kernel_speed + x.T @ slope
        bias_speed = momentum * bias_speed + slope.sum(axis=0)
        kernel, bias = kernel - rate * kernel_speed, bias - rate * bias_speed
    return np.array(losses)


def missing_idea(candidate, seed):
    """Return what a row does not come from, or None."""
    x, merged = jnp.array([[1.0, -0.5]] * next(ROWS)), []
    inputs, call, param = (seed, x, x[:, :1], 2), nnx.Linear.__call__, nn.Module.param

    def compiled(array):
        try:
            bool(array.sum() > 0)  # has no value yet if a function is being compiled
        except jax.errors.ConcretizationTypeError:
            return True

    def marked(layer, x):
        y, frames = call(layer, x), traceback.walk_stack(None)
        if nnx.jit.__module__ in {frame.f_globals["__name__"] for frame, _ in frames}:
            return FACTORS["nnx.jit"] * y
        way = f"jax.jit {'and' if merged else 'without'} nnx.merge"
        return (FACTORS | OTHERS)[way] * y if compiled(y) else y

    def marked_param(*args, **options):  # what a Linen module computes with
        value = param(*args, **options)
        return FACTORS["Linen under jax.jit"] * value if compiled(value) else value

    def profile(frame, event, _):  # sees nnx.merge however it was imported
        if event == "call" and frame.f_code is nnx.merge.__code__:
            inside = frame.f_back.f_globals["__name__"].startswith("flax.")
            leaves = [] if inside else jax.tree.leaves(frame.f_locals["states"])
            merged.extend(x for x in leaves if isinstance(x, jax.core.Tracer))

    previous, linear = sys.getprofile(), patch.object(nnx.Linear, "__call__", marked)
    with linear, patch.object(nn.Module, "param", marked_param):
        try:
            sys.setprofile(profile)
            answer = candidate(*inputs)
        except Exception:  # perhaps the candidate compares the rows itself
            return None
        finally:
            sys.setprofile(previous)
    known = {w: expected_losses(*inputs, f) for w, f in (FACTORS | OTHERS).items()}
    for n, (way, row) in enumerate(zip(FACTORS, answer, strict=True)):
        found = [w for w in known if np.allclose(row, known[w], 1e-3)]
        if found != [way]:
            return f"row {n} comes from {found[0] if found else '?'}, not from {way}"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, y, steps in inputs:
        answer, wrong = candidate(seed, x, y, steps), None
        shape, losses = (3, int(steps)), expected_losses(seed, x, y, steps)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if (got := getattr(answer, "shape", type(answer).__name__)) != shape:
            wrong, answer = f"an array of shape {shape}", got
        elif not np.allclose(answer, losses, atol=1e-5):
            wrong, answer = f"three rows {losses.round(4).tolist()}", answer.tolist()
        if wrong:
            given = f"{seed}, jnp.array({x.tolist()}), jnp.array({y.tolist()}), {steps}"
            call = f"{candidate.__name__}({given})"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}"
    missing = missing_idea(candidate, inputs[0][0])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from flax.training.train_state import TrainState

HIDDEN = [(11.0, X, -Y, 6.0)]  # more steps than the page has, but no new shape


def start(seed, x, y, *_):
    model = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def nnx_row(*inputs, step=nnx_step):
    (model, optimizer), (_, x, y, steps) = start(*inputs), inputs
    return jnp.array([step(model, optimizer, x, y) for _ in range(int(steps))])


def row_of(step, *carried, inputs):
    """Return the losses of a step that takes and returns what a loop carries."""
    (_, x, y, steps), losses = inputs, []
    for _ in range(int(steps)):
        loss, *carried = step(*carried, x, y)
        losses.append(loss)
    return jnp.array(losses)


def split_row(*inputs):
    graphdef, state = nnx.split(start(*inputs))
    return row_of(lambda *args: split_step(graphdef, *args), state, inputs=inputs)


def linen_row(params, inputs):
    return row_of(linen_step, params, tx.init(params), inputs=inputs)


def weights(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def with_row(number, row, inputs):
    return train_loops(*inputs).at[number].set(row)


plain_step = jax.jit(train_step)
donating_step = jax.jit(split_step, donate_argnums=1)


def plain_jit(*inputs):
    return with_row(0, nnx_row(*inputs, step=plain_step), inputs)


def state_not_carried(*inputs):
    return with_row(1, train_loops(*inputs)[1, 0], inputs)


def params_not_kept(*inputs):
    return with_row(2, train_loops(*inputs)[2, 0], inputs)


def params_alone_returned(*inputs):
    return with_row(1, expected_losses(*inputs, momentum=0.0), inputs)


def opt_state_made_anew(*inputs):
    return with_row(2, expected_losses(*inputs, momentum=0.0), inputs)


def optimizer_closed_over(*inputs):
    model, optimizer = start(*inputs)
    step = nnx.jit(lambda model, x, y: train_step(model, optimizer, x, y))
    return step(model, *inputs[1:3])


def donated_state_read_again(*inputs):
    graphdef, state = nnx.split(start(*inputs))
    return [donating_step(graphdef, state, *inputs[1:3]) for _ in range(2)]


def one_model_for_all(seed, x, y, steps):
    return train_loops(seed, x, y, 3 * int(steps))[0].reshape(3, -1)


def weights_taken_too_late(*inputs):
    model, optimizer = start(*inputs)
    for _ in range(int(inputs[3])):
        nnx_step(model, optimizer, *inputs[1:3])
    return with_row(2, linen_row(weights(model), inputs), inputs)


def linen_init(seed, x, *rest):
    params = nn.Dense(2).init(jax.random.key(int(seed)), x)["params"]
    return with_row(2, linen_row(params, (seed, x, *rest)), (seed, x, *rest))


def losses_after_the_update(seed, x, y, steps):
    return train_loops(seed, x, y, steps + 1)[:, 1:]


def four_steps_at_most(seed, x, y, steps):
    return train_loops(seed, x, y, min(steps, 4))


def outputs_summed(*inputs):  # the loss and each gradient: twice as large
    return jnp.array([2 * expected_losses(*inputs, rate=0.2)] * 3)


def seed_zero(seed, *inputs):
    return train_loops(0, *inputs)


def nothing_compiled(*inputs):  # formulas get the verdict of eager loops, but sooner
    return jnp.array([expected_losses(*inputs)] * 3)


def first_row_copied(*inputs):
    return jnp.array([nnx_row(*inputs)] * 3)


def second_row_copied(*inputs):
    return jnp.stack([nnx_row(*inputs), *[split_row(*inputs)] * 2])


@jax.jit
def returning_step(model, optimizer, x, y):
    return train_step(model, optimizer, x, y), model, optimizer


def modules_returned(*inputs):
    row = row_of(returning_step, *start(*inputs), inputs=inputs)
    return jnp.stack([nnx_row(*inputs), row, row])


MISTAKES = {
    plain_jit: "Row 0 stays at its first loss: plain `jax.jit` drops each update.",
    state_not_carried: "Row 1 stays at its first loss: pass the new state on.",
    params_not_kept: "Row 2 stays at its first loss: pass the new params on.",
    params_alone_returned: "Row 1 forgets its momentum: return all the state.",
    opt_state_made_anew: "Row 2 forgets its momentum: call `tx.init` once.",
    optimizer_closed_over: "Pass the optimizer to the compiled step, as an argument.",
    donated_state_read_again: "A donated state is gone: use the one that came back.",
    one_model_for_all: "A loop goes on where another ended: build a model for each.",
    weights_taken_too_late: "Row 2 starts from trained weights: take them first.",
    linen_init: "Row 2 starts from Linen's own weights: use those of the NNX model.",
    losses_after_the_update: "Record each loss before its update, not after it.",
    four_steps_at_most: "Make `int(steps)` updates, however many that are.",
    outputs_summed: "Take the mean over both axes, batch and outputs.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    nothing_compiled: "Compile each step: `nnx.jit` in row 0, `jax.jit` in the others.",
    first_row_copied: "Row 1 needs its own loop: `jax.jit` over split state.",
    second_row_copied: "Row 2 needs a loop of its own, in Linen.",
    modules_returned: "Row 1: pass graphdef and state, and call `nnx.merge` inside.",
}


def cached_partial(*inputs):
    cached = nnx.cached_partial(nnx_step, *start(*inputs))
    first = [cached(*inputs[1:3]) for _ in range(int(inputs[3]))]
    last = linen_row(weights(start(*inputs)[0]), inputs)
    return np.array([first, split_row(*inputs), last])


@jax.jit
def pure_step(graphdef, rest, params, opt_state, x, y):
    def loss_of(params):
        return mean_squared_error(nnx.merge(graphdef, params, rest)(x), y)

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = tx.update(grads, opt_state)
    return loss, graphdef, rest, optax.apply_updates(params, updates), opt_state


def params_split_off(*inputs):
    model, _ = start(*inputs)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    params, last = nnx.as_pure(params), linen_row(weights(model), inputs)
    second = row_of(pure_step, graphdef, rest, params, tx.init(params), inputs=inputs)
    return jnp.stack([nnx_row(*inputs), second, last])


@jax.jit
def train_state_step(state, x, y):
    def loss_of(params):
        return mean_squared_error(state.apply_fn({"params": params}, x), y)

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    return loss, state.apply_gradients(grads=grads)


def train_state_compared(*inputs):
    apply, params = nn.Dense(inputs[2].shape[-1]).apply, weights(start(*inputs)[0])
    state = TrainState.create(apply_fn=apply, params=params, tx=tx)
    rows = nnx_row(*inputs), row_of(train_state_step, state, inputs=inputs)
    assert jnp.allclose(*rows, atol=1e-5)
    return jnp.array([rows[0], split_row(*inputs), rows[1]])


ALSO_RIGHT = [cached_partial, params_split_off, train_state_compared]
