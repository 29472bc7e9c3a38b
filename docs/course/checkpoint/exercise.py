"""The exercise of "Checkpoint": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx


class Regressor(nnx.Module):
    def __init__(self, in_features, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(in_features, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)
        self.out = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x, rngs=None):  # x[batch, in_features]
        x = nnx.tanh(self.norm(self.hidden(x)))
        return self.out(self.dropout(x, rngs=rngs))


@functools.cache
def adam(rate):  # one for each rate: each new one has the step compiled again
    return optax.adam(rate)


@nnx.jit(donate_argnums=(0, 1, 2))
def train_step(model, optimizer, rngs, x, y):
    def mean_squared_error(model, key):
        return ((model(x, rngs=key) - y) ** 2).mean()

    loss, grads = nnx.value_and_grad(mean_squared_error)(model, rngs.dropout())
    optimizer.update(model, grads)
    return loss


@nnx.jit
def evaluate(model, x, y):
    view = nnx.view(model, deterministic=True, use_running_average=True)
    return ((view(x) - y) ** 2).mean()
    # --8<-- [end:model]


# --8<-- [start:stub]
def sweep(seed, x, y, shared, rates):
    """Return the losses of the last batch in evaluation mode, (rates, 1 + later steps).

    A row is one branch: its loss where it leaves the trunk, then after each later step.

    Args:
      seed: seed of `nnx.Rngs` for the weights, and of the stream `dropout`.
      x: inputs, shape (steps + 1, batch, in_features); step i takes batch i.
      y: targets, shape (steps + 1, batch, 1); no step takes the last batch.
      shared: how many steps the trunk takes, at `rates[0]`.
      rates: the learning rates of Adam, one for each branch.
    """
    # --8<-- [end:stub]

    def create(rate):
        model = Regressor(x.shape[-1], rngs=nnx.Rngs(seed))
        optimizer = nnx.Optimizer(model, adam(rate), wrt=nnx.Param)
        return model, optimizer, nnx.Rngs(dropout=seed)

    rows, trunk = [], create(rates[0])
    for i in range(shared):
        train_step(*trunk, x[i], y[i])
    with TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        path = Path(folder) / "fork"
        checkpointer.save(path, nnx.state(trunk))
        checkpointer.wait_until_finished()
        for rate in rates:
            branch = create(rate)
            nnx.update(branch, checkpointer.restore(path, nnx.state(branch)))
            losses = [evaluate(branch[0], x[-1], y[-1])]
            for i in range(shared, len(x) - 1):
                train_step(*branch, x[i], y[i])
                losses.append(evaluate(branch[0], x[-1], y[-1]))
            rows.append(losses)
    return jnp.array(rows)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    x = jnp.sin(jnp.arange(32.0)).reshape(4, 4, 2) * 2
    page = (0, x, x[..., :1], 2, (0.05, 0.01)), (7, x, x[..., 1:], 2, (0.01, 0.05))
    for seed, x, y, shared, rates in [*page, *more]:
        answer, right = candidate(seed, x, y, shared, rates), []
        for rate in rates:  # without files: each branch trains the trunk for itself
            rngs, model = nnx.Rngs(dropout=seed), Regressor(2, rngs=nnx.Rngs(seed))
            optimizer = nnx.Optimizer(model, adam(rate), wrt=nnx.Param)
            right.append([])
            for i in range(len(x)):
                optimizer.tx = adam(rate if i >= shared else rates[0])
                right[-1].append(evaluate(model, x[-1], y[-1]))
                train_step(model, optimizer, rngs, x[i], y[i])
        right, shape = jnp.array(right)[:, shared:], getattr(answer, "shape", None)
        if shape != right.shape or not jnp.allclose(answer, right, atol=1e-4):
            call = f"{candidate.__name__}({seed}, x, y, {shared}, {rates})"
            return f"{call}\n  expected: {right.round(3)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

X = jnp.cos(jnp.arange(32.0)).reshape(4, 4, 2)
Y = X.sum(axis=-1, keepdims=True) ** 2
HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3, X, Y, 2, (0.05,)),  # one branch
    (5, X, Y, 1, (0.05, 0.01)),  # another length of the trunk
]


def idea(seen):
    """Return what right losses lack: each branch starts from what a file gave back."""

    def doubled(call):
        return twice(call.proceed())

    before = seen.run(eager=False).answer
    hooks = {ocp.Checkpointer.restore: doubled}
    when = "Orbax gives back weights twice as large"
    run = seen.run(when, calls=hooks, eager=False)
    if not run.calls_of("restore"):
        return "nothing is restored by Orbax"
    for at, (row, old) in enumerate(zip(run.answer, before, strict=True)):
        if seen.close(row[0], old[0]):
            return f"branch {at} does not start from what Orbax gives back"


def twice(restored):
    """Return what was restored, with each float doubled."""
    if isinstance(restored, ocp.args.Composite):
        return ocp.args.Composite(**{k: twice(v) for k, v in restored.items()})

    def double(leaf):
        return 2 * leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(double, restored)


def create(seed, x, rate):
    model = Regressor(x.shape[-1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, adam(rate), wrt=nnx.Param)
    return model, optimizer, nnx.Rngs(dropout=seed)


def everything(run):
    return nnx.state(run)


def in_eval_mode(run, x, y):
    return evaluate(run[0], x, y)


@nnx.jit
def in_train_mode(run, x, y):
    return ((run[0](x, rngs=nnx.Rngs(0)) - y) ** 2).mean()


def attempt(
    name,
    *,
    part=everything,
    back=nnx.update,
    again=True,
    start=lambda shared: shared,
    rate_of=lambda rate, rates: rate,
    trunk_steps=lambda shared: shared,
    judged=in_eval_mode,
    live=0,
    fork=True,
    shape=jnp.array,
):
    """Return an attempt that does one step of the solution in another way."""

    def swept(seed, x, y, shared, rates):
        rows, trunk = [], create(seed, x, rates[0])
        for i in range(trunk_steps(shared)):
            train_step(*trunk, x[i], y[i])
        with TemporaryDirectory() as folder, ocp.StandardCheckpointer() as saver:
            saver.save(Path(folder) / "fork", part(trunk))
            saver.wait_until_finished()
            branch = None
            for at, rate in enumerate(rates):
                if branch is None or again:
                    branch = create(seed, x, rate_of(rate, rates))
                    back(branch, saver.restore(Path(folder) / "fork", part(branch)))
                    committed = jax.device_put(nnx.state(branch), jax.devices()[0])
                    nnx.update(branch, committed)  # as restored: compiled once for all
                if at < live:
                    branch = trunk
                losses = [judged(branch, x[-1], y[-1])]
                for i in range(start(shared), start(shared) + len(x) - 1 - shared):
                    train_step(*branch, x[i], y[i])
                    losses.append(judged(branch, x[-1], y[-1]))
                rows.append(losses if fork else losses[1:])
        return shape(rows)

    swept.__name__ = name
    return swept


def params_alone(run):
    return nnx.state(run[0], nnx.Param)


def into_the_model(run, restored):
    nnx.update(run[0], restored)


def without_files(seed, x, y, shared, rates):
    rows = []
    for rate in rates:
        run = create(seed, x, rates[0])
        for i in range(shared):
            train_step(*run, x[i], y[i])
        run[1].tx = adam(rate)
        losses = [evaluate(run[0], x[-1], y[-1])]
        for i in range(shared, len(x) - 1):
            train_step(*run, x[i], y[i])
            losses.append(evaluate(run[0], x[-1], y[-1]))
        rows.append(losses)
    return jnp.array(rows)


MISTAKES = {
    attempt("result_dropped", back=lambda run, restored: None): (
        "`restore` changes nothing by itself: write what it returns by `nnx.update`."
    ),
    attempt("model_alone", part=lambda run: nnx.state(run[0]), back=into_the_model): (
        "Save the optimizer and the streams too: Adam's averages start anew."
    ),
    attempt("params_alone", part=params_alone, back=into_the_model): (
        "Save the whole state: the statistics of the norm are no parameters."
    ),
    attempt(
        "streams_forgotten",
        part=lambda run: nnx.state(run[:2]),
        back=lambda run, restored: nnx.update(run[:2], restored),
    ): "Save `rngs` too: the dropout keys begin again.",
    attempt("data_from_the_start", start=lambda shared: 0): (
        "A branch goes on with the batch behind the trunk's last one."
    ),
    attempt("one_for_all", again=False): (
        "Each branch starts at the fork: make new objects and restore again."
    ),
    attempt("rate_of_the_trunk", rate_of=lambda rate, rates: rates[0]): (
        "The rate is no part of the state: build the optimizer with the branch's own."
    ),
    attempt("in_train_mode", judged=in_train_mode): (
        "The losses are those of evaluation mode: use `evaluate`."
    ),
    attempt("no_fork", fork=False): "The first column is the loss at the fork.",
    attempt("two_steps", trunk_steps=lambda shared: 2, start=lambda shared: 2): (
        "The trunk takes `shared` steps, not always two."
    ),
    attempt("one_axis", shape=lambda rows: jnp.squeeze(jnp.array(rows))): (
        "One rate makes one row: keep its axis."
    ),
    without_files: "Let each branch start from a checkpoint of Orbax.",
    attempt("first_one_live", live=1): (
        "Return what restored branches give: the first one goes on from the file, too."
    ),
}


def by_manager(seed, x, y, shared, rates):
    trunk, rows = create(seed, x, rates[0]), []
    for batch in zip(x[:shared], y[:shared], strict=True):
        train_step(*trunk, *batch)
    with TemporaryDirectory() as folder:
        with ocp.CheckpointManager(folder) as manager:
            state = ocp.args.StandardSave(nnx.state(trunk))
            manager.save(shared, args=ocp.args.Composite(state=state))
        with ocp.CheckpointManager(folder) as manager:
            for rate in rates:
                abstract = nnx.eval_shape(functools.partial(create, seed, x, rate))
                target = ocp.args.StandardRestore(nnx.state(abstract))
                args = ocp.args.Composite(state=target)
                restored = manager.restore(manager.latest_step(), args=args).state
                run = nnx.merge(nnx.graphdef(abstract), restored)
                losses = [in_eval_mode(run, x[-1], y[-1])]
                for batch in zip(x[shared:-1], y[shared:-1], strict=True):
                    train_step(*run, *batch)
                    losses.append(in_eval_mode(run, x[-1], y[-1]))
                rows.append(jnp.stack(losses))
    return jnp.stack(rows)


def restored_once(seed, x, y, shared, rates):
    start, rows = create(seed, x, rates[0]), []
    for i in range(shared):
        train_step(*start, x[i], y[i])
    with TemporaryDirectory() as folder, ocp.StandardCheckpointer() as saver:
        saver.save(Path(folder) / "all", nnx.to_pure_dict(nnx.state(start)))
        saver.wait_until_finished()
        pure = saver.restore(Path(folder) / "all", nnx.to_pure_dict(nnx.state(start)))
    for rate in rates:
        run = create(seed, x, rate)
        nnx.update(run, jax.tree.map(jnp.copy, pure))
        losses = [in_eval_mode(run, x[-1], y[-1])]
        for i in range(shared, len(x) - 1):
            train_step(*run, x[i], y[i])
            losses.append(in_eval_mode(run, x[-1], y[-1]))
        rows.append(losses)
    return jnp.array(rows)


ALSO_RIGHT = [
    by_manager,
    restored_once,
    attempt("three_saves", part=lambda run: nnx.state(list(run))),
]
