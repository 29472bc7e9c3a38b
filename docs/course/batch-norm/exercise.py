"""The exercise of "Batch norm": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


class BatchNorm(nnx.Module):
    def __init__(self, features, *, momentum, epsilon=1e-5):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.momentum = momentum
        self.epsilon = epsilon
        self.use_running_average = False

    def set_view(self, use_running_average: bool | None = None):
        """Set the mode, if `nnx.view` names one."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(self, x):  # x[batch, features]
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean = x.mean(axis=0)
            var = jnp.square(x - mean).mean(axis=0)
            keep, add = self.momentum, 1 - self.momentum
            self.mean[...] = keep * self.mean + add * mean
            self.var[...] = keep * self.var + add * var
        factor = jax.lax.rsqrt(var + self.epsilon) * self.scale
        return (x - mean) * factor + self.bias


# --8<-- [start:stub]
def batch_norm(batches, rows, momentum):
    """Return what a batch norm predicts for rows, after it has seen some batches.

    Args:
      batches: inputs of the train calls, shape (calls, batch, features), float32.
      rows: input of the eval call, shape (rows, features), float32.
      momentum: weight of the old running statistics, a float from 0 to 1.
    """
    # --8<-- [end:stub]
    model = BatchNorm(rows.shape[-1], momentum=momentum)
    train_model = nnx.view(model, use_running_average=False)
    eval_model = nnx.view(model, use_running_average=True)
    for batch in batches:
        train_model(batch)
    return eval_model(rows)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    one = jnp.array([[[1.0, 10.0], [2.0, 40.0]]]), jnp.array([[2.0, 20.0]]), 0.9
    two = jnp.array([[[0.5], [3.0], [-2.5]], [[4.0], [1.0], [1.0]]]), one[1].T, 0.25
    for batches, rows, momentum in [one, two, *more]:
        answer, mean, var = candidate(batches, rows, momentum), 0.0, 1.0
        for batch in batches:
            mean = momentum * mean + (1 - momentum) * batch.mean(axis=0)
            var = momentum * var + (1 - momentum) * batch.var(axis=0)
        right = (rows - mean) / jnp.sqrt(var + 1e-5)
        if (shape := getattr(answer, "shape", type(answer).__name__)) != right.shape:
            expected = f"an array of shape {right.shape}, not {shape}"
        elif not jnp.allclose(answer, right, rtol=1e-4, atol=1e-4):
            expected = jnp.array_str(right, precision=3)
        else:
            continue
        call = f"{candidate.__name__}(batches, rows, {momentum})"
        given = f"  batches = {batches.tolist()}\n  rows = {rows.tolist()}"
        return f"{call}\n{given}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # only `nbe` tries it: variances are small enough to show epsilon
    (
        jnp.array([[[0.0], [0.03125], [0.015625]], [[-0.03125], [0.0], [0.0]]]),
        jnp.array([[0.0], [0.0625]]),
        0.001,
    ),
]


def idea(seen):
    """Return what right numbers lack: your own module, its types, and its two modes."""
    (batches, rows, momentum), calls = seen.inputs, []

    def begins_higher(call):
        if not (calls or call.depth):
            add_half(call.module)
        calls.extend([call] * (not call.depth))
        return call.proceed()

    when = "scale, bias, mean and var begin 0.5 higher"
    run = seen.run(when, calls={nnx.Module: begins_higher})
    if run.built_of(nnx.BatchNorm):
        return "nnx.BatchNorm is ready-made"
    if len(calls) < 2:
        return f"calls of a module of your own: {len(calls)}"
    first, last = calls[0], calls[-1]
    if min(len(first.after.of(kind)) for kind in (nnx.Param, nnx.BatchStat)) < 2:
        found = [f"{p[-1]} {kind.__name__}" for p, (kind, _) in first.after.items()]
        return f"scale and bias are Param, mean and var BatchStat; found: {found}"
    if not last.after.same(last.before):
        return "the eval call writes"
    solution = BatchNorm(rows.shape[-1], momentum=momentum)
    add_half(solution)
    outputs = [solution(batch) for batch in batches]
    if not seen.close(calls[0].output, outputs[0]):
        return "the train output is not (x - mean) / sqrt(var + 1e-5) * scale + bias"
    solution.eval()
    right = solution(rows)
    if not seen.close(run.answer, right):
        would = f"if {when}, it returns {right.tolist()}"
        return f"{would}, but yours returns {run.answer.tolist()}"
    try:
        nnx.view(first.module, use_running_average=True)
    except ValueError as error:
        return f"{error}"


def add_half(model):
    """Add 0.5 to the parameters and statistics of a model."""
    for _, variable in nnx.iter_graph(model, graph=True):
        if isinstance(variable, nnx.Param | nnx.BatchStat):
            variable.set_value(variable.get_value() + 0.5)


def by_views(model):
    """Return the two modes of a model, for training and for predicting."""
    return [nnx.view(model, use_running_average=mode) for mode in (False, True)]


def attempt(name, module, modes=by_views, call=lambda model, x: model(x)):
    """Return the attempt of a learner who wrote `module` as BatchNorm."""

    def function(batches, rows, momentum):
        model = module(rows.shape[-1], momentum=momentum)
        train_model, eval_model = modes(model)
        for batch in batches:
            call(train_model, batch)
        return call(eval_model, rows)

    function.__name__ = name
    return function


def begun(name, **changes):
    """Return the attempt whose module begins with changed attributes."""

    class Changed(BatchNorm):
        def __init__(self, features, *, momentum):
            super().__init__(features, momentum=momentum)
            for attribute, change in changes.items():
                old = getattr(self, attribute)
                old = old[...] if isinstance(old, nnx.Variable) else old
                setattr(self, attribute, change(old))

    return attempt(name, Changed)


def called(change):
    """Return the attempt whose calls return `change(module, x, y)` for a right `y`."""

    class Changed(BatchNorm):
        def __call__(self, x):
            return change(self, x, super().__call__(x))

    return attempt(change.__name__, Changed)


def unbiased(model, x, y):
    if not model.use_running_average:
        model.var[...] += (1 - model.momentum) * x.var(axis=0) / (len(x) - 1)
    return y


def updates_in_eval_mode(model, x, y):
    if model.use_running_average:
        keep = model.momentum
        model.mean[...] = keep * model.mean + (1 - keep) * x.mean(axis=0)
    return y


def centres_only(model, x, y):
    return y if model.use_running_average else x - x.mean(axis=0) + model.bias


def replaces_variables(model, x, y):
    model.mean, model.var = model.mean[...], model.var[...]
    return y


class FlagAlone(nnx.Module):
    """A batch norm without `set_view`."""

    def __init__(self, features, *, momentum):
        BatchNorm.__init__(self, features, momentum=momentum)

    __call__ = BatchNorm.__call__


def flag_without_set_view(batches, rows, momentum):
    model = FlagAlone(rows.shape[-1], momentum=momentum)
    for batch in batches:
        model(batch)
    model.eval()
    return model(rows)


def last_batch_first(batches, rows, momentum):
    return batch_norm(batches[::-1], rows, momentum)


def one_large_batch(batches, rows, momentum):
    return batch_norm(batches.reshape(1, -1, rows.shape[-1]), rows, momentum)


def formula(batches, rows, momentum):
    mean, var = 0.0, 1.0
    for batch in batches:
        mean = momentum * mean + (1 - momentum) * batch.mean(axis=0)
        var = momentum * var + (1 - momentum) * batch.var(axis=0)
    return (rows - mean) / jnp.sqrt(var + 1e-5)


def formula_with_assert(*inputs):
    answer, by_hand = batch_norm(*inputs), formula(*inputs)
    assert jnp.allclose(answer, by_hand, atol=1e-4)
    return by_hand


MISTAKES = {
    attempt("predicts_in_train_mode", BatchNorm, lambda model: (model, model)): (
        "These are train outputs: predict with a view that uses the running averages."
    ),
    attempt("predicts_as_new", BatchNorm, call=jax.jit(lambda model, x: model(x))): (
        "These statistics are those of a new module: train calls write them, unless "
        "`jax.jit` drops what they write."
    ),
    begun("momentum_of_pytorch", momentum=lambda old: 1 - old): (
        "`momentum` weighs the old statistics here, not the new ones as in PyTorch."
    ),
    begun("no_epsilon", epsilon=lambda _: 0.0): "Add epsilon: a variance may be 0.",
    called(updates_in_eval_mode): "Write the statistics in train mode only.",
    called(unbiased): "Divide the squares by the batch size, not by one less.",
    called(centres_only): "Apply the whole formula to the train output too.",
    begun("statistics_as_param", mean=nnx.Param, var=nnx.Param): (
        "An optimizer would train these statistics: make them `nnx.BatchStat`."
    ),
    begun("statistics_as_variable", mean=nnx.Variable, var=nnx.Variable): (
        "No filter for `nnx.BatchStat` finds these statistics: give them that type."
    ),
    called(replaces_variables): "Write to `self.mean[...]`, to keep the Variable.",
    flag_without_set_view: "Give the module a method `set_view`, for `nnx.view`.",
    attempt(
        "ready_made",
        lambda f, momentum: nnx.BatchNorm(f, momentum=momentum, rngs=nnx.Rngs(0)),
    ): "Write the module yourself.",
    last_batch_first: "Call the batches in their order: the last weighs most.",
    one_large_batch: "Call the model once for each batch, not on all rows at once.",
    formula: "Write an `nnx.Module` which owns its statistics, and call it.",
    formula_with_assert: "Return what the module gives, not what you compare it with.",
}


def by_eval(batches, rows, momentum):
    norm = BatchNorm(momentum=momentum, features=rows.shape[-1])
    model = nnx.Sequential(norm)
    for batch in batches:
        model(batch)
    model.eval()
    return model(rows)


ALSO_RIGHT = [
    begun("own_type", mean=type("RunningStat", (nnx.BatchStat,), {})),
    attempt("jitted", BatchNorm, call=nnx.jit(lambda model, x: model(x))),
    by_eval,
]
