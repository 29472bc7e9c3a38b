"""The exercise of "Train loops": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:stub]
class Regressor(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(in_features, momentum=0.9, rngs=rngs)
        self.hidden = nnx.Linear(in_features, 8, rngs=rngs)
        self.out = nnx.Linear(8, out_features, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        return self.out(nnx.tanh(self.hidden(self.norm(x))))


def mean_squared_error(model, x, y):  # y[batch, out_features]
    return ((model(x) - y) ** 2).mean()
    # --8<-- [end:model]


def train_loops(seed, x, y, epochs):
    """Return what the best model predicts for the held-out rows of x, the last two.

    Best is the epoch after which the loss of the held-out rows is lowest.

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      x: input, shape (rows, in_features), float32.
      y: target, shape (rows, out_features), float32.
      epochs: how often to train on all other rows, an integer.
    """
    # --8<-- [end:stub]
    model = Regressor(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    eval_model = nnx.view(model, use_running_average=True)
    lowest, trained = jnp.inf, len(x) - 2
    for _ in range(epochs):
        for start in range(0, trained, 3):
            rows = slice(start, min(start + 3, trained))
            train_step(model, optimizer, x[rows], y[rows])
        loss = mean_squared_error(eval_model, x[-2:], y[-2:])
        if loss < lowest:
            lowest, best = loss, nnx.clone(eval_model, arrays=True)
    return best(x[-2:])


@nnx.jit(donate_argnums=(0, 1))
def train_step(model, optimizer, x, y):
    grads = nnx.grad(mean_squared_error)(model, x, y)
    optimizer.update(model, grads)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows = jnp.array([[1.0, -1.0, -1.0, 2.0, -1.5, -1.0, 0.5, 1.5]]).T
    for seed, x, y, epochs in [(0, rows, abs(rows), 3), (7, -rows, rows, 2), *more]:
        answer = candidate(seed, x, y, epochs)
        model, found = Regressor(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed)), []
        for start in [*range(0, len(x) - 2, 3)] * epochs:  # by hand, without Optax
            batch = x[:-2][start : start + 3], y[:-2][start : start + 3]
            grads = nnx.state(nnx.grad(mean_squared_error)(model, *batch), nnx.Param)
            params = nnx.state(model, nnx.Param)
            nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads))
            if start + 3 >= len(x) - 2:
                found.append(nnx.view(model, use_running_average=True)(x[-2:]))
        right = min(found, key=lambda guess, y=y: ((guess - y[-2:]) ** 2).mean())
        shape = getattr(answer, "shape", None)
        if shape != right.shape or not jnp.allclose(answer, right, atol=1e-3):
            call = f"{candidate.__name__}({seed}, x, y, {epochs}), x.T = {x.T.tolist()}"
            shown = jax.tree.map(lambda value: round(value, 3), right.tolist())
            return f"{call}\n  expected: {shown}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import itertools

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    # the last batch has two rows
    (
        4,
        jnp.array([[1.0, 0.5, 0.0, -2.0, -1.0, -2.0, 1.0]]).T,
        jnp.array([[0.0, -2.0, -1.5, 0.5, 1.0, -1.5, 1.0]]).T,
        4,
    ),
]
WIDTHS = itertools.count(5)


def idea(seen):
    """Return what a right prediction lacks: it is that of a model that was updated."""

    def thrice(call):
        return [call.proceed() for _ in range(3)][-1]

    wider = widened(*seen.inputs)  # a compiled function is traced anew
    for inputs, eager in ((seen.inputs, True), (wider, False)):
        run = seen.run(
            "each update is made three times",
            inputs=inputs,
            calls={nnx.Optimizer.update: thrice},
            eager=eager,
        )
        if not run.calls_of(nnx.Optimizer.update):
            return "no nnx.Optimizer takes the steps: call its update"
        if seen.close(run.answer, by_hand(*inputs, rate=0.3)):
            return None  # the second run is for who keeps what `jax.jit` returns
    return "the prediction does not follow the updates of the optimizer"


def widened(seed, x, y, epochs):
    return seed, jnp.tile(x, next(WIDTHS)), y, epochs


def batches_of(x, y, size=3, held_out=2):
    trained = len(x) - held_out
    for start in range(0, trained, size):
        rows = slice(start, min(start + size, trained))
        yield x[rows], y[rows]


@nnx.jit
def step_by_hand(model, x, y, rate):
    grads = nnx.state(nnx.grad(mean_squared_error)(model, x, y), nnx.Param)
    params = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda p, g: p - rate * g, params, grads))


def by_hand(seed, x, y, epochs, rate=0.1):
    model = Regressor(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    view, found = nnx.view(model, use_running_average=True), []
    for _ in range(epochs):
        for batch in batches_of(x, y):
            step_by_hand(model, *batch, rate)
        found.append((mean_squared_error(view, x[-2:], y[-2:]), view(x[-2:])))
    return min(found, key=lambda pair: pair[0])[1]


def plain_step(model, optimizer, x, y, loss=mean_squared_error):
    optimizer.update(model, nnx.grad(loss)(model, x, y))


compiled_step = nnx.jit(plain_step)


@nnx.jit
def summed_step(*inputs):
    plain_step(*inputs, loss=summed)


def summed(model, x, y):
    return ((model(x) - y) ** 2).sum()


def attempt(
    name,
    step=compiled_step,
    tx=optax.sgd,
    keep=lambda view: nnx.clone(view, arrays=True),
    batches=batches_of,
    judged=lambda x, y: (x[-2:], y[-2:]),
    averages=(False, True),
):
    """Return the attempt of a learner whose solution differs in its options."""

    def attempted(seed, x, y, epochs):
        model = Regressor(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
        train, view = (nnx.view(model, use_running_average=flag) for flag in averages)
        optimizer = nnx.Optimizer(model, tx(0.1), wrt=nnx.Param)
        lowest = jnp.inf
        for _ in range(epochs):
            for batch in batches(x, y):
                step(train, optimizer, *batch)
            loss = mean_squared_error(view, *judged(x, y))
            if loss < lowest:
                lowest, best = loss, keep(view)
        return best(x[-2:])

    attempted.__name__ = name
    return attempted


def whole_batches(x, y):
    return [(rows, targets) for rows, targets in batches_of(x, y) if len(rows) == 3]


def by_hand_beside(*inputs):
    train_loops(*inputs)
    return by_hand(*inputs)


MISTAKES = {
    attempt("alias_kept", keep=lambda view: view): (
        "You kept the model itself, which trains on: clone it when it is best."
    ),
    attempt("buffers_donated", step=train_step, keep=nnx.clone): (
        "The step deletes the arrays that it is given: clone with `arrays=True`."
    ),
    attempt("plain_jit", step=jax.jit(plain_step)): (
        "The model never learns: plain `jax.jit` drops what the step writes."
    ),
    attempt("best_on_the_rest", judged=lambda x, y: (x[:-2], y[:-2])): (
        "Best is what predicts the held-out rows best, not the others."
    ),
    attempt("evaluated_in_train_mode", averages=(False, False)): (
        "Evaluate by the running statistics, and do not move them."
    ),
    attempt("trained_in_eval_mode", averages=(True, True)): (
        "Train in train mode: the statistics never move."
    ),
    attempt("one_batch", batches=lambda x, y: [(x[:-2], y[:-2])]): (
        "Train on batches of three rows, one after another."
    ),
    attempt("all_rows_trained", batches=lambda x, y: batches_of(x, y, held_out=0)): (
        "Do not train on the held-out rows."
    ),
    attempt("remainder_dropped", batches=whole_batches): (
        "The last batch may be smaller: train on it, too."
    ),
    attempt("sum_of_squares", step=summed_step): (
        "The loss is the mean of the squares, not their sum."
    ),
    attempt("adam", tx=optax.adam): "Take the steps by `optax.sgd(0.1)`.",
    by_hand: "Let `nnx.Optimizer` take the steps.",
    by_hand_beside: "Return what the model predicts that the optimizer moved.",
}


@jax.jit
def returning_step(model, optimizer, x, y):
    plain_step(model, optimizer, x, y)
    return model, optimizer


def modules_returned(seed, x, y, epochs):
    model = Regressor(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    kept = {}
    for _ in range(epochs):
        for batch in batches_of(x, y):
            model, optimizer = returning_step(model, optimizer, *batch)
        view = nnx.view(model, use_running_average=True)
        kept[float(mean_squared_error(view, x[-2:], y[-2:]))] = view
    return np.asarray(kept[min(kept)](x[-2:]))


def split_once(seed, x, y, epochs):
    model = Regressor(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    view, found = nnx.view(model, use_running_average=True), []
    graphdef, state = nnx.split((model, optimizer))
    state = nnx.as_pure(state)

    @jax.jit
    def step(state, x, y):
        model, optimizer = nnx.merge(graphdef, state)
        plain_step(model, optimizer, x, y)
        return nnx.as_pure(nnx.state((model, optimizer)))

    for _ in range(epochs):
        for batch in batches_of(x, y):
            state = step(state, *batch)
        nnx.update((model, optimizer), state)
        predicted = view(x[-2:])
        found.append((((predicted - y[-2:]) ** 2).mean(), predicted))
    assert len(found) == epochs
    return min(found, key=lambda pair: pair[0])[1]


ALSO_RIGHT = [
    attempt("nothing_compiled", step=plain_step),
    attempt("undonated", keep=nnx.clone),
    modules_returned,
    split_once,
]
