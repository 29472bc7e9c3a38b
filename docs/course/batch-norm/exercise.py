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
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    first = jnp.array([[1.0, 10.0], [2.0, 40.0], [6.0, 25.0]])
    second = jnp.array([[0.5, -1.5], [3.0, 1.0], [-2.5, 0.25]])
    for x, momentum in [(first, 0.9), (second, 0.0), *more]:
        answer = candidate(x, momentum)
        mean = (1 - momentum) * x.mean(axis=0)  # it begins at 0, and var at 1
        var = momentum + (1 - momentum) * x.var(axis=0)
        total = ((x - mean) / jnp.sqrt(var + 1e-5)).sum()
        right = jnp.array([0, mean.sum(), total, total])
        if getattr(answer, "shape", None) != (4,):
            expected = f"an array of shape (4,), not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, rtol=1e-4, atol=1e-4):
            expected = f"{right} (train mean, running mean, two eval sums)"
        else:
            continue
        call = f"{candidate.__name__}(jnp.array({x.tolist()}), {momentum})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # only `nbe` tries it: variances are small enough to show epsilon
    (jnp.array([[0.5, 0.375], [0.53125, 0.359375], [0.515625, 0.390625]]), 0.001),
]


def idea(seen):
    """Return what right numbers lack: your own module, whose Variables they follow."""
    (x, momentum), outputs = seen.inputs, []

    def altered(call):
        if call.depth:
            return call.proceed()
        if not outputs:
            begin_higher(call.module)
        outputs.append(call.proceed())
        return outputs[-1] + len(outputs) - 1  # each call adds one more

    run = seen.run("Variables begin 0.5 higher", calls={nnx.Module: altered})
    if run.built_of(nnx.BatchNorm):
        return "nnx.BatchNorm is ready-made"
    if len(outputs) < 3:
        return f"calls of the module: {len(outputs)}, not three"
    first, solution = run.calls[0], BatchNorm(x.shape[-1], momentum)
    if min(len(first.after.of(kind)) for kind in (nnx.Param, nnx.BatchStat)) < 2:
        found = [f"{p[-1]} {kind.__name__}" for p, (kind, _) in first.after.items()]
        return f"scale and bias are Param, mean and var BatchStat; found: {found}"
    parts = nnx.iter_modules(first.module)
    if not any(hasattr(part, "use_running_average") for _, part in parts):
        return "no module has the flag use_running_average, which eval() sets"
    begin_higher(solution)
    if not seen.close(outputs[0], solution(x)):
        return "the first output is not (x - mean) / sqrt(var + 1e-5) * scale + bias"
    solution.eval()
    total = solution(x).sum()
    right = jnp.array([0.5, solution.mean.sum(), total, total])
    added = jnp.round((run.answer - right) / x.size) * jnp.array([0, 0, 1, 1])
    follows = jnp.isclose(run.answer, right + added * x.size, 1e-4)
    if not follows.all():
        return f"numbers that do not follow your Variables: {jnp.flatnonzero(~follows)}"
    if added[2] == added[3]:
        return "both eval sums come from one call"


def begin_higher(model):
    """Add 0.5 to the parameters and statistics of a model."""
    for _, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Param | nnx.BatchStat):
            variable.set_value(variable.get_value() + 0.5)


def attempt(name, module):
    """Return the attempt of a learner who wrote `module` as BatchNorm."""

    def function(x, momentum):
        model = module(x.shape[-1], momentum)
        train_mean = model(x).mean()
        model.eval()
        first, second = model(x).sum(), model(x).sum()
        return jnp.array([train_mean, model.mean.sum(), first, second])

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
    mean = (1 - momentum) * x.mean(axis=0)
    var = momentum + (1 - momentum) * x.var(axis=0)
    total = ((x - mean) / jnp.sqrt(var + 1e-5)).sum()
    return jnp.array([0.0, mean.sum(), total, total])


def formula_with_assert(x, momentum):
    answer, by_hand = batch_norm(x, momentum), formula(x, momentum)
    assert jnp.allclose(answer, by_hand, atol=1e-4)
    return by_hand


MISTAKES = {
    attempt("other_flag", type("Other", (BatchNorm,), {"eval": lambda _: None})): (
        "These are train outputs: name the flag as `eval()` does."
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
    mode_as_argument: "Read the mode from `self.use_running_average`, no other.",
    attempt(
        "ready_made", lambda f, m: nnx.BatchNorm(f, momentum=m, rngs=nnx.Rngs(0))
    ): "Write the module yourself.",
    formula: "Write an `nnx.Module` which owns its statistics, and call it.",
    formula_with_assert: "Return what the module gives, not what you compare it with.",
}


def jitted_in_a_sequential(x, momentum):
    norm, call = BatchNorm(x.shape[-1], momentum), nnx.jit(lambda model, x: model(x))
    model = nnx.Sequential(norm)
    train_mean = call(model, x).mean()
    model.eval()
    sums = [call(model, x).sum() for _ in range(2)]
    return jnp.array([train_mean, norm.mean.sum(), *sums])


ALSO_RIGHT = [
    begun("own_type", mean=type("RunningStat", (nnx.BatchStat,), {})),
    jitted_in_a_sequential,
    attempt("by_keyword", lambda f, m: BatchNorm(momentum=m, features=f)),
]
