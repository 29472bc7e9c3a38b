"""The exercise of "Running average": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax.numpy as jnp
from flax import nnx


class RunningAverage(nnx.Module):
    def __init__(self, features, momentum):
        self.mean = nnx.Variable(jnp.zeros(features))
        self.momentum = momentum

    def __call__(self, x):  # x[batch, features]
        new = (1 - self.momentum) * x.mean(axis=0)
        self.mean[...] = self.momentum * self.mean + new
        return self.mean[...]
        # --8<-- [end:model]


# --8<-- [start:stub]
def running_average(x, momentum, calls):
    """Return the sum of the running mean after each call, in shape (calls,).

    Args:
      x: input of every call, shape (batch, features), float32.
      momentum: how much of the old mean a call keeps, from 0.0 to 1.0.
      calls: number of calls; a float such as `3.0` is accepted and cast.
    """
    # --8<-- [end:stub]
    average = RunningAverage(x.shape[-1], momentum)
    return jnp.stack([average(x).sum() for _ in range(int(calls))])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (
        ([[7.0, 10.0, 20.0], [9.0, 22.0, 28.0]], 0.5, 3.0),
        ([[0.5, -2, 1]], 0.9, 4.0),
    )
    for x, momentum, calls in [*page, *more]:
        x, total, right = jnp.array(x), 0.0, []
        answer = candidate(x, momentum, calls)
        for _ in range(int(calls)):
            total = momentum * total + (1 - momentum) * float(x.sum()) / len(x)
            right.append(total)
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (len(right),):
            expected = f"an array of shape ({len(right)},), not {shape}"
        elif not jnp.allclose(answer, jnp.array(right), atol=1e-5):
            expected = jnp.array(right)
        else:
            continue
        call = f"{candidate.__name__}(jnp.array({x.tolist()}), {momentum}, {calls})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax
import numpy as np

from nnx_by_example.observe import values

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (jnp.array([[1.25, -0.5, 3.0], [0.0, 0.5, 1.0]]), 0.6, 1.0),
    (jnp.array([[0.5, 2.0], [1.5, -4.0], [2.5, 3.5]]), 0.75, 4.0),
]


def idea(seen):
    """Return what right numbers lack: a call that writes the mean into a Variable."""
    (x, momentum, calls), run, names = seen.inputs, seen.run(), set()
    own = [c for c in run.calls if not type(c.module).__module__.startswith("flax.")]
    if not own:
        return "no module of your own is called"
    module, before, after = own[0].module, own[0].before, own[0].after
    new = (1 - momentum) * x.mean(axis=0)
    for path, value in values(after).items():
        if path not in before:
            return f"the first call creates a Variable: {path[-1]}"
        kind, old = before[path]
        if old.size == new.size and not issubclass(kind, nnx.Param):
            if seen.close(value.ravel(), momentum * old.ravel() + new):
                names.add(path[-1])
    if not names:
        parts = [f"{k}: {type(v).__name__}" for k, v in vars(module).items()]
        holds = ", ".join(part for part in parts if part[0] != "_")
        return f"no call writes the mean to a Variable that is no Param: {holds}"

    def add_one(call):
        for path, part in nnx.iter_graph(call.module):
            if isinstance(part, nnx.Variable) and path[-1] in names and not call.depth:
                part.set_value(part.get_value() + 1)
        return call.proceed()

    added = [0.0]
    for _ in range(int(calls)):
        added.append(momentum * (added[-1] + x.shape[1]))
    right, when = (
        run.answer + np.array(added[1:]),
        "1 is added to the mean before a call",
    )
    answer = seen.run(when, calls={nnx.Module: add_one}).answer
    if not seen.close(answer, right):
        return f"when {when}, the sums are {right}, not {answer}"


average = RunningAverage.__call__


# Makers of attempts: each returns a learner's `running_average` with that name.


def named(name, function):
    """Return the function with a name for messages and tests."""
    function.__name__ = name
    return function


def attempt(module):
    """Return the attempt of a learner who wrote `module` as RunningAverage."""

    def calls_one_module(x, momentum, calls):
        made = module(x.shape[-1], momentum)
        return jnp.stack([made(x).sum() for _ in range(int(calls))])

    return named(module.__name__, calls_one_module)


def made(name, mean=nnx.Variable, call=average):
    """Return the attempt whose module keeps `mean(zeros)` and does `call(self, x)`."""

    class Made(RunningAverage):
        def __init__(self, features, momentum):
            self.mean, self.momentum = mean(jnp.zeros(features)), momentum

        def __call__(self, x):
            return call(self, x)

    return attempt(named(name, Made))


def given(name, change):
    """Return the attempt that answers rightly for `change(x, momentum, calls)`."""
    return named(name, lambda *inputs: running_average(*change(*inputs)))


def assigns(self, x):
    self.mean = self.momentum * self.mean + (1 - self.momentum) * x.mean(axis=0)
    return self.mean


def multiplies_in_place(self, x):
    self.mean *= self.momentum
    self.mean += (1 - self.momentum) * x.mean(axis=0)
    return self.mean[...]


def returns_the_variable(self, x):
    average(self, x)
    return self.mean


def averages_the_wrong_axis(self, x):
    return average(self, x.T)


class CreatesInTheCall(RunningAverage):
    def __init__(self, features, momentum):
        self.momentum = momentum

    def __call__(self, x):
        if not hasattr(self, "mean"):
            self.mean = nnx.Variable(jnp.zeros(x.shape[-1]))
        return super().__call__(x)


class CountsInAnInt(RunningAverage):
    def __init__(self, features, momentum):
        self.calls, self.momentum = 0, momentum

    def __call__(self, x):
        self.calls += 1
        return x.mean(axis=0) * (1 - self.momentum**self.calls)


def variables_summed_at_the_end(x, momentum, calls):
    module = RunningAverage(x.shape[-1], momentum)
    outputs = [returns_the_variable(module, x) for _ in range(int(calls))]
    return jnp.stack([output.sum() for output in outputs])


def one_module_for_each_call(x, momentum, calls):
    modules = [RunningAverage(x.shape[-1], momentum) for _ in range(int(calls))]
    return jnp.stack([module(x).sum() for module in modules])


def updated_outside(x, momentum, calls):
    class Reads(RunningAverage):
        def __call__(self, x):
            return self.mean[...]

    module, sums = Reads(x.shape[-1], momentum), []
    for _ in range(int(calls)):
        average(module, x)
        sums.append(module(x).sum())
    return jnp.stack(sums)


def means_not_summed(x, momentum, calls):
    module = RunningAverage(x.shape[-1], momentum)
    return jnp.stack([module(x) for _ in range(int(calls))])


def means_averaged(x, momentum, calls):
    return means_not_summed(x, momentum, calls).mean(axis=1)


def one_call_squeezed(x, momentum, calls):
    return jnp.squeeze(running_average(x, momentum, calls))


def calls_not_cast(x, momentum, calls):
    module = RunningAverage(x.shape[-1], momentum)
    return jnp.stack([module(x).sum() for _ in range(calls)])


def formula(x, momentum, calls):
    kept = momentum ** np.arange(1, int(calls) + 1)
    return x.mean(axis=0).sum() * (1 - kept)


def module_for_show(x, momentum, calls):
    running_average(x, momentum, calls)
    return formula(x, momentum, calls)


def numbers_of_the_page(x, momentum, calls):
    known = {inputs[1]: running_average(*inputs) for inputs in INPUTS}
    return known.get(momentum, jnp.zeros(int(calls)))


MISTAKES = {
    given("momentum_swapped", lambda x, m, c: (x, 1 - m, c)): "`momentum` is what the "
    "old mean keeps; the mean of the batch gets `1 - momentum`.",
    given("without_old_mean", lambda x, m, c: (x, 0.0, c)): "Every sum is that of the "
    "batch: begin at zeros, keep the old mean, and use no bias correction.",
    given("sum_of_the_batch", lambda x, m, c: (x * len(x), m, c)): "Your sums are too "
    "large by the number of rows: take `x.mean(axis=0)`, of shape (features,).",
    given("two_rows", lambda x, m, c: (x[jnp.array([0, -1])], m, c)): "A batch has any "
    "number of rows: `x.mean(axis=0)` takes them all.",
    named(
        "before_the_update",
        lambda *inputs: jnp.append(0.0, running_average(*inputs)[:-1]),
    ): "Return the mean after the update, not before it.",
    made("wrong_axis", call=averages_the_wrong_axis): "x[batch, features] has the "
    "batch first: take the mean with `axis=0`.",
    made("in_place", call=multiplies_in_place): "A Variable refuses `*=` and `+=`: "
    "assign to `self.mean[...]`.",
    variables_summed_at_the_end: "All your outputs are one Variable, which holds the "
    "last mean: return `self.mean[...]`.",
    one_module_for_each_call: "Each of your calls starts from zeros: build one module "
    "before the loop. `jax.jit` drops what a call writes; `nnx.jit` keeps it.",
    means_not_summed: "One number for each call: sum over the features.",
    means_averaged: "You average over the features: sum over them.",
    calls_not_cast: "`calls` may be a float such as 3.0: cast it with `int`.",
    one_call_squeezed: "One call gives shape (1,): do not squeeze.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    made("replaced_variable", call=assigns): "Your mean is a bare array: make it an "
    "`nnx.Variable` in the constructor, and assign to `self.mean[...]`.",
    attempt(CreatesInTheCall): "Create the Variable in the constructor, which knows "
    "`features`; in the first call is Linen's way.",
    made("trained", nnx.Param): "An optimizer trains every `nnx.Param`: keep "
    "statistics in an `nnx.Variable` or `nnx.BatchStat`.",
    attempt(CountsInAnInt): "Your state is a Python int, so every call is another "
    "program to `nnx.jit`: keep the mean in an `nnx.Variable`.",
    module_for_show: "Compute each new mean from `self.mean`, and return sums of what "
    "the calls give.",
    formula: "No module of your own is called: write an `nnx.Module` whose `__call__` "
    "keeps the mean, and call it.",
    updated_outside: "Write `momentum * mean + (1 - momentum) * x.mean(axis=0)` to the "
    "Variable inside `__call__`.",
}


class Nested(nnx.Module):
    def __init__(self, features, momentum):
        self.parts = nnx.List([RunningAverage(features, momentum)])

    def __call__(self, x):
        return self.parts[0](x)


def with_numpy(x, momentum, calls):
    module, sums = RunningAverage(momentum=momentum, features=x.shape[1]), []
    while len(sums) < calls:
        sums.append(float(np.sum(module(x=x))))
    return np.asarray(sums, np.float32)


def with_nnx_jit(x, momentum, calls):
    module = RunningAverage(x.shape[1], momentum)
    step = nnx.jit(lambda module, x: module(x).sum())
    return jnp.stack([step(module, x) for _ in range(int(calls))])


def with_scan(x, momentum, calls):
    module = RunningAverage(x.shape[1], momentum)

    def step(module, _):
        return module, module(x).sum()

    return jax.lax.scan(step, module, length=int(calls))[1]


ALSO_RIGHT = [
    attempt(Nested),
    made("numpy_zeros", lambda zeros: nnx.Variable(np.array(zeros))),
    made("batch_stat", nnx.BatchStat),
    made("variable_summed_at_once", call=returns_the_variable),
    *(with_numpy, with_nnx_jit, with_scan),
]
