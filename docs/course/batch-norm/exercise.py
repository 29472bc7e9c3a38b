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
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np

INPUTS = [  # x[batch, features], momentum
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


def watch(candidate, x, momentum, starts):
    """Return answer, modules and their outputs; Variables begin with other values."""
    modules, outputs = [], {}
    construct, init = type(nnx.Module).__call__, nnx.Variable.__init__

    def build(cls, *args, **kwargs):
        owner = next((c for c in cls.__mro__ if "__call__" in vars(c)), None)
        if owner and owner not in outputs:
            call, ys = vars(owner)["__call__"], outputs.setdefault(owner, [])
            calling = patch.object(
                owner, "__call__", lambda *a, **k: ys.append(call(*a, **k)) or ys[-1]
            )
            patches.enter_context(calling)
        modules.append(construct(cls, *args, **kwargs))
        return modules[-1]

    def begin(variable, value, **kwargs):
        for kind, (one, zero) in starts.items():
            if isinstance(variable, kind):
                value = jnp.where(value == 0, zero, jnp.where(value == 1, one, value))
        init(variable, value, **kwargs)

    with ExitStack() as patches, jax.disable_jit():  # a jitted call would run once
        patches.enter_context(patch.object(type(nnx.Module), "__call__", build))
        patches.enter_context(patch.object(nnx.Variable, "__init__", begin))
        return candidate(x, momentum), modules, list(outputs.values())


def missing_idea(candidate, x, momentum):
    """Return what an answer with the right numbers lacks, or None."""
    starts = {nnx.Param: (1.5, 0.5), nnx.BatchStat: (2.0, 0.25)}  # for ones and zeros
    try:
        answer, modules, outputs = watch(candidate, x, momentum, starts)
    except Exception:  # the candidate compares its own numbers
        return None
    ready_made = any(isinstance(model, nnx.BatchNorm) for model in modules)
    if ready_made or not modules:
        return "nnx.BatchNorm is ready-made" if ready_made else "no nnx.Module is built"
    state = nnx.to_flat_state(nnx.state(modules[-1]))
    if any(sum(isinstance(v, kind) for _, v in state) != 2 for kind in starts):
        found = ", ".join(f"{path[-1]} {type(v).__name__}" for path, v in state)
        return f"scale and bias are Param, mean and var BatchStat; found {found}"
    if not any(hasattr(model, "use_running_average") for model in modules):
        return "no module has the flag use_running_average, which eval() sets"
    firsts = [ys[0] for ys in outputs if len(ys) > 2]
    if not (firsts := [y for y in firsts if getattr(y, "shape", None) == x.shape]):
        return "each of the three outputs takes a call of the module"
    normal = 1.5 * (x - x.mean(axis=0)) / x.std(axis=0) + 0.5
    if not any(np.allclose(y, normal, atol=1e-3) for y in firsts):
        return "the first call does not return the normalised batch"
    follows = np.isclose(answer, right_answer(x, momentum, 1.5, 0.5, 0.25, 2.0), 1e-4)
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
        said = f"{call}\n  expected: {wanted}\n  got:      {answer}"
        return f"{said}\n  next:     {hint}"
    missing = missing_idea(candidate, *inputs[0])
    return f"numbers right, idea missing: {missing}" if missing else "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from types import SimpleNamespace

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


def statistics(of_batch):
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

    return attempt(of_batch.__name__, Changed)


def never_in_eval_mode(x, momentum):
    model = BatchNorm(x.shape[-1], momentum)
    train_mean, *sums = model(x).mean(), model(x).sum(), model(x).sum()
    return jnp.array([train_mean, model.mean.sum(), *sums])


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


def whole_batch(x):
    return x.mean(), x.var()


def unbiased(x):
    return x.mean(axis=0), x.var(axis=0, ddof=1)


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


def flax_batch_norm(features, momentum):
    no_keys = SimpleNamespace(params=lambda: None)  # ones and zeros need none
    return nnx.BatchNorm(features, momentum=momentum, rngs=no_keys)


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
    never_in_eval_mode: "Your eval calls move the statistics: call `model.eval()`.",
    flag_of_another_name: (
        "These are no eval outputs: call `eval()`, with a flag `use_running_average`."
    ),
    begun("momentum_of_pytorch", momentum=lambda old: 1 - old): (
        "`momentum` weighs the old statistics here, not the new ones as in PyTorch."
    ),
    begun("default_for_zero", momentum=lambda old: old or 0.99): (
        "A momentum of 0.0 is valid: take it as it comes."
    ),
    begun("no_epsilon", epsilon=lambda _: 0.0): "Add epsilon, or divide by zero.",
    begun("other_epsilon", epsilon=lambda _: 1e-6): "Epsilon is 1e-5, below the root.",
    called(updates_in_eval_mode): "Write the statistics in train mode only.",
    statistics(whole_batch): "Reduce over the batch alone: `axis=0`.",
    statistics(unbiased): "Divide the squares by the batch size, not by one less.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    called(centres_only): "Divide the train output by the root of the variance too.",
    begun("statistics_as_param", mean=nnx.Param, var=nnx.Param): (
        "An optimizer would train these statistics: make them `nnx.BatchStat`."
    ),
    begun("statistics_as_variable", mean=nnx.Variable, var=nnx.Variable): (
        "No filter for `nnx.BatchStat` finds these statistics: give them that type."
    ),
    mode_as_argument: "Read the mode from an attribute, which `eval()` sets.",
    attempt("ready_made", flax_batch_norm): "Write the module yourself.",
    formula: "Write an `nnx.Module` which owns its statistics, and call it.",
    second_is_a_copy: "Call the model again for the second eval sum.",
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
    statistics(fast_variance),
    begun("own_type", mean=RunningStat, var=RunningStat),
    in_a_sequential,
    jitted,
    attempt("by_keyword", lambda f, m: BatchNorm(momentum=m, features=f)),
]
