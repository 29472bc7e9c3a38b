"""The exercise of "Batch norm": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


class BatchNorm(nnx.Module):
    def __init__(self, features, momentum, epsilon=1e-5):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.momentum = momentum
        self.epsilon = epsilon
        self.use_running_average = False  # a new module is in train mode

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
def batch_norm(x, momentum):
    """Return train mean, running mean and the sums of two eval outputs, in shape (4,).

    Args:
      x: input, shape (batch, features), float32.
      momentum: weight of the old running statistics, a float from 0 to 1.
    """
    # --8<-- [end:stub]
    model = BatchNorm(x.shape[-1], momentum)
    train_mean = model(x).mean()
    model.eval()
    first, second = model(x), model(x)
    return jnp.array([train_mean, model.mean.sum(), first.sum(), second.sum()])
    # --8<-- [end:solution]


# --8<-- [start:check]
from unittest.mock import patch

import numpy as np

INPUTS = [  # x, momentum
    (jnp.array([[1.0, 10.0], [2.0, 40.0], [6.0, 25.0]]), 0.9),
    (jnp.array([[0.5, -1.5, 3.0, 1.0], [-2.5, 0.25, 1.0, 2.0]]), 0.5),
]
PARTS = "train mean", "running mean", "first eval sum", "second eval sum"


def right_answer(x, momentum, scale=1.0, bias=0.0, mean=0.0, var=1.0):
    """Return the four numbers from any initial values, computed without a module."""
    x = np.asarray(x)
    mean = momentum * mean + (1 - momentum) * x.mean(axis=0)
    var = momentum * var + (1 - momentum) * x.var(axis=0)
    total = (scale * (x - mean) / np.sqrt(var + 1e-5) + bias).sum()
    return np.array([bias, mean.sum(), total, total], np.float32)


def watch(candidate, x, momentum):
    """Return answer, modules, outputs; Variables begin 0.5 higher, call n adds n."""
    modules, outputs, inside, construct = [], [], [], type(nnx.Module).__call__

    def build(base, *args, **kwargs):
        def call(module, *args, **kwargs):
            inside.append(module)
            y = base.__call__(module, *args, **kwargs)
            inside.pop()
            if inside:  # another module has called this one
                return y
            outputs.append(y)
            return y + (len(outputs) - 1)  # to tell the outputs of two calls apart

        watched = type(base)(base.__name__, (base,), {"__call__": call})
        modules.append(construct(watched, *args, **kwargs))
        for variable in vars(modules[-1]).values():
            if isinstance(variable, nnx.Param | nnx.BatchStat):
                variable.set_value(variable.get_value() + 0.5)
        return modules[-1]

    with jax.disable_jit(), patch.object(type(nnx.Module), "__call__", build):
        return candidate(x, momentum), modules, outputs


def missing_idea(candidate, x, momentum):
    """Return what an answer with the right numbers lacks, or None."""
    try:
        answer, modules, outputs = watch(candidate, x, momentum)
    except Exception:  # the candidate compares its own numbers
        return None
    ready_made = any(isinstance(model, nnx.BatchNorm) for model in modules)
    if ready_made or not modules:
        return "nnx.BatchNorm is ready-made" if ready_made else "no nnx.Module is built"
    state = nnx.to_flat_state(nnx.state(modules[-1]))
    for kind in nnx.Param, nnx.BatchStat:
        if sum(isinstance(variable, kind) for _, variable in state) < 2:
            found = ", ".join(f"{path[-1]} {type(v).__name__}" for path, v in state)
            return f"scale and bias are Param, mean and var BatchStat; found {found}"
    if not any(hasattr(model, "use_running_average") for model in modules):
        return "no module has the flag use_running_average, which eval() sets"
    wanted = right_answer(x, momentum, scale=1.5, bias=0.5, mean=0.5, var=1.5)
    added = np.round((answer - wanted) / x.size) * np.array([0, 0, 1, 1])
    if len(outputs) < 3 or added[2] == added[3]:
        return "the three outputs come from fewer than three calls of the module"
    if not np.allclose((np.mean(outputs[0]), np.std(outputs[0])), (0.5, 1.5), 1e-3):
        return "the first output is not (x - mean) / sqrt(var + 1e-5) * scale + bias"
    follows = np.isclose(answer, wanted + added * x.size, 1e-4)
    if not follows.all():
        return f"the {PARTS[follows.argmin()]} does not come from your Variables"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for x, momentum in inputs:
        answer, wanted = candidate(x, momentum), right_answer(x, momentum)
        call = f"{candidate.__name__}(jnp.array({x.tolist()}), {momentum})"
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape, dtype = getattr(answer, "shape", None), getattr(answer, "dtype", object)
        if shape != (4,) or not jnp.issubdtype(dtype, jnp.floating):
            wanted, hint = "a float array of shape (4,)", "Put four floats in an array."
            answer = repr(answer)
        elif (right := np.isclose(answer, wanted, 1e-4, 1e-4)).all():
            continue
        else:
            hint = f"Look at the {PARTS[right.argmin()]} first."
        return f"{call}\n  expected: {wanted}\n  got:      {answer}\n  next:     {hint}"
    missing = missing_idea(candidate, *inputs[0])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

# Inputs that only `nbe` tries: variances small enough to show epsilon, a batch of one.
HIDDEN = [
    (jnp.array([[0.5, 0.375], [0.53125, 0.359375], [0.515625, 0.390625]]), 0.001),
    (jnp.array([[3.0, -1.0, 0.5]]), 0.0),
]


def attempt(name, module):
    """Return the attempt of a learner who wrote `module` as BatchNorm."""

    def function(x, momentum):
        model = module(x.shape[-1], momentum)
        train_mean = model(x).mean()
        model.eval()
        sums = [model(x).sum(), model(x).sum()]
        return jnp.array([train_mean, model.mean.sum(), *sums])

    function.__name__ = name
    return function


def begun(name, **changes):
    """Return the attempt whose module begins with changed attributes."""

    class Changed(BatchNorm):
        def __init__(self, features, momentum):
            super().__init__(features, momentum)
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


def statistics(name, of_batch):
    """Return the attempt that takes `of_batch(x)` for mean and variance of a batch."""

    class Changed(BatchNorm):
        def __call__(self, x):
            if self.use_running_average:
                return super().__call__(x)
            mean, var = of_batch(x)
            keep, add = self.momentum, 1 - self.momentum
            self.mean[...] = keep * self.mean + add * mean
            self.var[...] = keep * self.var + add * var
            return (x - mean) / jnp.sqrt(var + self.epsilon) * self.scale + self.bias

    return attempt(name, Changed)


def flag_of_another_name(x, momentum):
    model = BatchNorm(x.shape[-1], momentum)
    numbers = [model(x).mean(), model.mean.sum()]
    model.training = False
    return jnp.array([*numbers, model(x).sum(), model(x).sum()])


def updates_in_eval_mode(model, x, y):
    if model.use_running_average:
        keep = model.momentum
        model.mean[...] = keep * model.mean + (1 - keep) * x.mean(axis=0)
    return y


def centres_only(model, x, y):
    return y if model.use_running_average else x - x.mean(axis=0) + model.bias


def reads_running_statistics(model, x, y):
    return (x - model.mean) / jnp.sqrt(model.var + model.epsilon)


def replaces_variables(model, x, y):
    model.mean, model.var = model.mean[...], model.var[...]
    return y


class ModeAsArgument(BatchNorm):
    def __call__(self, x, train):
        self.use_running_average = not train
        y = super().__call__(x)
        del self.use_running_average
        return y


def mode_as_argument(x, momentum):
    model = ModeAsArgument(x.shape[-1], momentum)
    train_mean, first = model(x, True).mean(), model(x, False).sum()
    return jnp.array([train_mean, model.mean.sum(), first, model(x, False).sum()])


def formula(x, momentum):
    return jnp.array(right_answer(x, momentum))


def second_is_a_copy(x, momentum):
    model = BatchNorm(x.shape[-1], momentum)
    train_mean = model(x).mean()
    model.eval()
    total = model(x).sum()
    return jnp.array([train_mean, model.mean.sum(), total, total])


def zero_written_down(x, momentum):
    return jnp.array([0.0, *batch_norm(x, momentum)[1:]])


def numbers_of_the_page(x, momentum):
    known = {str(inputs): right_answer(*inputs) for inputs in INPUTS}
    return known.get(str((x, momentum)), np.ones(4, np.float32))


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.
MISTAKES = {
    attempt("never_in_eval_mode", type("M", (BatchNorm,), {"eval": lambda _: None})): (
        "Your eval calls train: call `eval()`, and read the flag that it sets."
    ),
    flag_of_another_name: "These are train outputs: let `eval()` set the flag.",
    begun("momentum_of_pytorch", momentum=lambda old: 1 - old): (
        "`momentum` weighs the old statistics here, not the new ones as in PyTorch."
    ),
    begun("default_for_zero", momentum=lambda old: old or 0.99): (
        "A momentum of 0.0 is valid: take it as it comes."
    ),
    begun("no_epsilon", epsilon=lambda _: 0.0): "Add epsilon: a variance may be 0.",
    begun("other_epsilon", epsilon=lambda _: 1e-6): "Epsilon is 1e-5, below the root.",
    begun("updates_nothing", momentum=lambda _: 1.0): (
        "Your train call leaves the running mean as it was: write `self.mean[...]`."
    ),
    begun("begins_in_eval_mode", use_running_average=lambda _: True): (
        "Your first call is in eval mode: the flag is to be False then."
    ),
    called(reads_running_statistics): "A train call uses the batch's own statistics.",
    called(updates_in_eval_mode): "Write the statistics in train mode only.",
    statistics("whole_batch", lambda x: (x.mean(), x.var())): (
        "Reduce over the batch alone: `axis=0`."
    ),
    statistics("unbiased", lambda x: (x.mean(axis=0), x.var(axis=0, ddof=1))): (
        "Divide the squares by the batch size, not by one less."
    ),
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    called(centres_only): "Apply the whole formula to the train output too.",
    begun("statistics_as_param", mean=nnx.Param, var=nnx.Param): (
        "An optimizer would train these statistics: make them `nnx.BatchStat`."
    ),
    begun("statistics_as_variable", mean=nnx.Variable, var=nnx.Variable): (
        "No filter for `nnx.BatchStat` finds these statistics: give them that type."
    ),
    called(replaces_variables): "Write to `self.mean[...]`, to keep the Variable.",
    mode_as_argument: "Read the mode from `self.use_running_average`, no other.",
    attempt(
        "ready_made", lambda f, m: nnx.BatchNorm(f, momentum=m, rngs=nnx.Rngs(0))
    ): "Write the module yourself.",
    formula: "Write an `nnx.Module` which owns its statistics, and call it.",
    second_is_a_copy: "Call the model three times, and use each output.",
    zero_written_down: "Compute the first number from the train output.",
}


RunningStat = type("RunningStat", (nnx.BatchStat,), {})


def in_a_sequential(x, momentum):
    norm = BatchNorm(x.shape[-1], momentum)
    model = nnx.Sequential(norm)
    train_mean = model(x).mean()
    model.eval()
    return np.array([train_mean, norm.mean.sum(), *(model(x).sum() for _ in range(2))])


def jitted(x, momentum):
    model, call = BatchNorm(x.shape[-1], momentum), nnx.jit(lambda model, x: model(x))
    train_mean = call(model, x).mean()
    model.set_attributes(use_running_average=True)
    sums = [model.mean.sum(), call(model, x).sum(), call(model, x).sum()]
    return jnp.array([train_mean, *sums])


def fast_variance(x):
    mean = x.mean(axis=0)
    return mean, jnp.maximum(0.0, jnp.square(x).mean(axis=0) - jnp.square(mean))


ALSO_RIGHT = [
    statistics("fast_variance", fast_variance),
    begun("own_type", mean=RunningStat, var=RunningStat),
    in_a_sequential,
    jitted,
    attempt("by_keyword", lambda f, m: BatchNorm(momentum=m, features=f)),
]
