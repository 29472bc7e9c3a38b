"""The exercise of "Alias or snapshot": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax.numpy as jnp
import optax
from flax import nnx

SGD = optax.sgd(0.05, momentum=0.9)


class Line(nnx.Module):
    def __init__(self, slope):
        self.slope = nnx.Param(jnp.array(slope, jnp.float32))

    def __call__(self, x):
        return self.slope * x


def mse(model, x, y):
    return jnp.square(model(x) - y).mean()


def descend(model, optimizer, x, y):
    grads = nnx.grad(mse)(model, x, y)
    optimizer.update(model, grads)


train_step = nnx.jit(descend, donate_argnums=(0, 1))  # model and optimizer
# --8<-- [end:model]


# --8<-- [start:stub]
def state_alias(x, y):
    """Return the validation loss after each step, bad steps undone, shape (steps,).

    Args:
      x: inputs, shape (steps + 1, batch), float32; the last row is for validation.
      y: targets, in the shape of `x`.
    """
    # --8<-- [end:stub]
    model = Line(0.0)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    losses = [mse(model, x[-1], y[-1])]
    for inputs, targets in zip(x[:-1], y[:-1], strict=True):
        before = nnx.clone((model, optimizer), arrays=True)
        train_step(model, optimizer, inputs, targets)
        if mse(model, x[-1], y[-1]) > losses[-1]:
            nnx.update((model, optimizer), nnx.state(before))
        losses.append(mse(model, x[-1], y[-1]))
    return jnp.stack(losses[1:])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows = jnp.array([[1, 1], [2, 1], [2, -1], [1, 0.5], [1, 2], [1, 1]])
    signs = jnp.array([[1], [-1], [-1], [1], [1], [1]])  # two batches are spoiled
    heights = 3 * signs * rows + jnp.array([0.5, -0.5])
    for x, y in [(rows[3:], heights[3:]), (rows, heights), *more]:
        answer, slope, speed, losses = candidate(x, y), 0.0, 0.0, [jnp.mean(y[-1] ** 2)]
        for inputs, targets in zip(x[:-1], y[:-1], strict=True):
            new = 0.9 * speed + 2 * jnp.mean((slope * inputs - targets) * inputs)
            loss = jnp.mean(((slope - 0.05 * new) * x[-1] - y[-1]) ** 2)
            if loss <= losses[-1]:  # else slope and speed stay as they were
                slope, speed = slope - 0.05 * new, new
            losses.append(jnp.minimum(loss, losses[-1]))
        right, shape = jnp.stack(losses[1:]), getattr(answer, "shape", None)
        if shape != right.shape or not jnp.allclose(answer, right, 1e-3, 1e-3):
            call = f"{candidate.__name__}(x, y)\n  x = {x.tolist()}\n  y = {y.tolist()}"
            return f"{call}\n  expected: {right.round(2)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (
        jnp.array([[2.0, 1.0], [1.0, 1.0], [1.0, -2.0], [2.0, 1.0]]),
        jnp.array([[-5.5, -3.5], [3.5, 2.5], [3.5, -6.5], [6.5, 2.5]]),
    ),
    (
        jnp.array([[1.0, 0.0], [2.0, 1.0], [2.0, -2.0], [1.0, -1.0]]),
        jnp.array([[3.5, -0.5], [6.5, 2.5], [-5.5, 5.5], [3.5, -3.5]]),
    ),
]


def idea(seen):
    """Return what right losses lack: an optimizer, a model that is put back whole."""
    update, inputs = nnx.Optimizer.update, HIDDEN[0]  # its first step is undone
    if not seen.run(calls={update: lambda call: call.proceed()}).calls_of(update):
        return "no nnx.Optimizer.update is called"

    def add_count(module):
        module.count = nnx.BatchStat(jnp.zeros(()))

    def count(call):
        call.proceed()
        call.args[0].count[...] += 1

    run = seen.run(
        "the model adds to its output how many steps it took",
        inputs=inputs,
        built={nnx.Module: add_count},
        calls={
            nnx.Module: lambda call: call.proceed() + call.module.count,
            update: count,
        },
        eager=False,  # a step may return new modules
    )
    right = formula(*inputs, added=1.0)
    if not seen.close(run.answer, right, 1e-3):
        would = "if the model added to its output the steps it took, a BatchStat"
        return f"{would}, the losses would be {right}, but yours are {run.answer}"


def begin(slope=0.0):
    model = Line(slope)
    return model, nnx.Optimizer(model, SGD, wrt=nnx.Param)


def clone(both):
    return nnx.clone(both, arrays=True)


def put_back(both, before):
    nnx.update(both, nnx.state(before))


def attempt(name, take=clone, back=put_back, step=train_step):
    """Return the attempt that takes a snapshot, and puts it back, in another way."""

    def undoing(x, y):
        both = begin()
        losses = [mse(both[0], x[-1], y[-1])]
        for inputs, targets in zip(x[:-1], y[:-1], strict=True):
            before = take(both)
            step(*both, inputs, targets)
            if mse(both[0], x[-1], y[-1]) > losses[-1]:
                back(both, before)
            losses.append(mse(both[0], x[-1], y[-1]))
        return jnp.stack(losses[1:])

    undoing.__name__ = name
    return undoing


def recorded(name, keep, judged=lambda x, y, inputs, targets: (x[-1], y[-1])):
    """Return the attempt that does `keep(at, steps, before, after)` for each step.

    That is whether it keeps the step, and which loss it records.
    """

    def recording(x, y):
        both, (*losses,) = begin(), []
        for at, data in enumerate(zip(x[:-1], y[:-1], strict=True)):
            snapshot, rows = clone(both), judged(x, y, *data)
            before = mse(both[0], *rows)
            train_step(*both, *data)
            after, raw = mse(both[0], *rows), mse(both[0], x[-1], y[-1])
            kept, of_raw = keep(at, len(x) - 2, before, after)
            if not kept:
                put_back(both, snapshot)
            losses.append(raw if of_raw else mse(both[0], x[-1], y[-1]))
        return jnp.stack(losses)

    recording.__name__ = name
    return recording


def lowest_so_far(x, y):
    both = begin()
    losses = [mse(both[0], x[-1], y[-1])]
    for inputs, targets in zip(x[:-1], y[:-1], strict=True):
        train_step(*both, inputs, targets)
        losses.append(jnp.minimum(losses[-1], mse(both[0], x[-1], y[-1])))
    return jnp.stack(losses[1:])


def back_to_the_start(x, y):
    start = clone(begin())
    return attempt("", lambda _: start, lambda both, old: put_back(both, clone(old)))(
        x, y
    )


def validation_is_trained_on(x, y):
    again = jnp.concatenate([x, x[-1:]]), jnp.concatenate([y, y[-1:]])
    return state_alias(*again)


def stops_at_the_first_rise(x, y):
    losses = state_alias(x, y)
    flat = [n for n in range(1, len(losses)) if losses[n] == losses[n - 1]]
    return losses[: flat[0] + 1] if flat else losses


def formula(x, y, added=0.0):
    def loss(slope, count):
        return jnp.square(slope * x[-1] + added * count - y[-1]).mean()

    slope, speed, count, losses = 0.0, 0.0, 0, []
    for inputs, targets in zip(x[:-1], y[:-1], strict=True):
        error = slope * inputs + added * count - targets
        new = 0.9 * speed + 2 * jnp.mean(error * inputs)
        if loss(slope - 0.05 * new, count + 1) <= loss(slope, count):
            slope, speed, count = slope - 0.05 * new, new, count + 1
        losses.append(loss(slope, count))
    return jnp.stack(losses)


def formula_with_assert(x, y):
    measured, right = state_alias(x, y), formula(x, y)
    assert jnp.allclose(measured, right, 1e-3)
    return right


def params_alone(both, before):
    nnx.update(both[0], nnx.state(before[0], nnx.Param))
    nnx.update(both[1], nnx.state(before[1]))


MISTAKES = {
    attempt("state_as_snapshot", nnx.state, nnx.update): (
        "Nothing is put back: `nnx.state`, `nnx.split` and a merge without `copy=True` "
        "follow the model. Take `nnx.clone` of both, before the step."
    ),
    attempt("clone_shares_arrays", nnx.clone): (
        "The step is given the arrays of model and optimizer, and so of this snapshot: "
        "take `nnx.clone(…, arrays=True)`."
    ),
    attempt("model_alone", back=lambda both, before: put_back(both[0], before[0])): (
        "The optimizer keeps the momentum of the undone step: put it back as well."
    ),
    attempt("params_alone", back=params_alone): (
        "A step may change other Variables than Params: put the whole state back."
    ),
    recorded("loss_of_the_undone", lambda at, n, before, after: (after <= before, 1)): (
        "Measure the loss after the model is put back, not before."
    ),
    recorded("first_step_stays", lambda at, n, b, a: (at == 0 or a <= b, 0)): (
        "The first step may be bad too: compare it with the loss of the new model."
    ),
    recorded("last_step_stays", lambda at, n, b, a: (at == n or a <= b, 0)): (
        "The last step may be bad too: compare after each step, not before the next."
    ),
    recorded(
        "training_loss_decides",
        lambda at, n, before, after: (after <= before, 0),
        lambda x, y, inputs, targets: (inputs, targets),
    ): "Let the loss on the last row decide, not that on the batch of the step.",
    lowest_so_far: (
        "These are the lowest losses so far, of a model that nothing put back: take a "
        "snapshot before each step, for an alias such as `nnx.state` follows the model."
    ),
    back_to_the_start: "Go back by one step: take a snapshot before each.",
    validation_is_trained_on: "The last row is for validation: take no step on it.",
    stops_at_the_first_rise: "Go on after a bad step: the answer has shape (steps,).",
    formula: "Let an `nnx.Optimizer` take the steps.",
    formula_with_assert: "Return the losses of the model, not those of a formula.",
}


@jax.jit
def functional(model, optimizer, x, y):
    descend(model, optimizer, x, y)
    return model, optimizer


def modules_as_values(x, y):
    old, losses = begin(), []
    for inputs, targets in zip(x[:-1], y[:-1], strict=True):
        new, rows = functional(*old, inputs, targets), (x[-1], y[-1])
        old = new if mse(new[0], *rows) <= mse(old[0], *rows) else old
        losses.append(mse(old[0], *rows))
    return jnp.stack(losses)


def copies(both):
    return jax.tree.map(jnp.copy, nnx.state(both))


ALSO_RIGHT = [
    attempt("copied_arrays", copies, nnx.update),
    attempt("without_donation", nnx.clone, step=nnx.jit(descend)),
    attempt(
        "pure_dict", lambda both: nnx.to_pure_dict(nnx.state(both)), nnx.update, descend
    ),
    modules_as_values,
]
