"""The exercise of "Running average": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
from flax import nnx


class Count(nnx.Variable):
    """Number of calls."""


class CorrectedAverage(nnx.Module):
    def __init__(self, features, momentum):
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.calls = Count(jnp.zeros((), jnp.int32))
        self.momentum = momentum

    def __call__(self, x):  # x[batch, features]
        self.calls[...] += 1
        new = (1 - self.momentum) * x.mean(axis=0)
        self.mean[...] = self.momentum * self.mean + new
        return self.mean[...] / (1 - self.momentum ** self.calls[...])


# --8<-- [start:stub]
def running_average(x, momentum):
    """Return the corrected running mean after each call, shape (calls, features).

    Args:
      x: the batch of each call, shape (calls, batch, features), float32.
      momentum: how much of the old mean a call keeps, from 0.0 to below 1.0.
    """
    # --8<-- [end:stub]
    average = CorrectedAverage(x.shape[-1], momentum)
    return jnp.stack([average(batch) for batch in x])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    two = jnp.array([[[7.0, 10.0]], [[3.0, -4.0]]])
    three = jnp.array([[[0.5, -2], [1, 4]], [[1.5, 0], [3, 2]], [[-1, 4], [0, 1]]])
    for x, momentum in [(two, 0.75), (three, 0.9), *more]:
        answer, mean, right = candidate(x, momentum), 0.0, []
        for calls, batch in enumerate(x, 1):
            mean = momentum * mean + (1 - momentum) * batch.mean(axis=0)
            right.append(mean / (1 - momentum**calls))
        right = jnp.stack(right)
        if (shape := getattr(answer, "shape", type(answer).__name__)) != right.shape:
            expected = f"an array of shape {right.shape}, not {shape}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = jnp.array_str(right, precision=3)
        else:
            continue
        call = f"{candidate.__name__}(jnp.array({x.tolist()}), {momentum})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (jnp.array([[[1.25, -0.5, 3.0], [0.25, 0.5, 1.0]]]), 0.6),
    (jnp.array([[[0.5], [1.5], [5.5]], [[2.0], [-4.0], [3.5]]]), 0.5),
]


def idea(seen):
    """Return what right numbers lack: all that changes lies in Variables, no Params."""
    x, _ = seen.inputs
    run = seen.run()
    own = [c for c in run.calls if not type(c.module).__module__.startswith("flax.")]
    if not own:
        return "no module of your own is called"
    before, after = own[0].before, own[0].after
    if after.keys() - before.keys():
        return "the first call creates a Variable"
    if lost := before.keys() - after.keys():
        return f"after the first call {min(lost)[-1]} is no Variable any more"
    if not after.same(before, nnx.Param):
        return "a call writes an nnx.Param"

    def as_new(call):  # its Variables are what they were before the first call
        for path, part in nnx.iter_graph(call.module, graph=True):
            if isinstance(part, nnx.Variable) and path in before and not call.depth:
                part.set_value(before[path][1])
        return call.proceed()

    when = "each call finds the Variables of a new module"
    answer = seen.run(when, calls={nnx.Module: as_new}).answer
    if not seen.close(answer, x.mean(axis=1)):
        would = f"when {when}, it returns the mean of its batch"
        return f"{would}, {x.mean(axis=1).tolist()}, but yours returns {answer}"


corrected = CorrectedAverage.__call__


def attempt(name, mean=nnx.BatchStat, call=corrected, zero=Count):
    """Return the attempt whose module holds `mean(zeros)` and does `call(self, x)`."""

    class Made(CorrectedAverage):
        def __init__(self, features, momentum):
            self.momentum = momentum
            self.calls = zero(jnp.zeros((), jnp.int32))
            if mean:
                self.mean = mean(jnp.zeros(features))

        def __call__(self, x):
            return call(self, x)

    def calls_one_module(x, momentum):
        module = Made(x.shape[-1], momentum)
        return jnp.stack([module(batch) for batch in x])

    calls_one_module.__name__ = name
    return calls_one_module


def plain(self, x):
    new = (1 - self.momentum) * x.mean(axis=0)
    return self.momentum * self.mean + new


def assigns(self, x):
    self.calls[...] += 1
    self.mean = plain(self, x)
    return self.mean / (1 - self.momentum ** self.calls[...])


def creates_in_the_call(self, x):
    if not hasattr(self, "mean"):
        self.mean = nnx.BatchStat(jnp.zeros(x.shape[-1]))
    return corrected(self, x)


def counts_in_an_int(self, x):
    self.calls += 1
    self.mean[...] = plain(self, x)
    return self.mean / (1 - self.momentum**self.calls)


def not_corrected(self, x):
    self.mean[...] = plain(self, x)
    return self.mean[...]


def keeps_the_corrected(self, x):
    self.mean[...] = corrected(self, x)
    return self.mean[...]


def counts_too_late(self, x):
    self.mean[...] = plain(self, x)
    self.calls[...] += 1
    return self.mean / (1 - self.momentum ** (self.calls - 1))


def first_mean_taken_over(self, x):
    new = x.mean(axis=0)
    self.mean[...] = jnp.where(self.calls == 0, new, plain(self, x))
    self.calls[...] += 1
    return self.mean[...]


def weighs_the_new(self, x):
    self.momentum, kept = 1 - self.momentum, self.momentum
    y, self.momentum = corrected(self, x), kept
    return y


def two_rows(x, momentum):
    return running_average(x[:, jnp.array([0, -1])], momentum)


def one_call_squeezed(x, momentum):
    answer = running_average(x, momentum)
    return answer[0] if len(x) == 1 else answer


def variables_kept(x, momentum):
    module = CorrectedAverage(x.shape[-1], momentum)
    kept = [(module(batch), module.mean)[1] for batch in x]
    return jnp.stack([mean[...] for mean in kept])


def one_module_for_each_call(x, momentum):
    modules = [CorrectedAverage(x.shape[-1], momentum) for _ in x]
    return jnp.stack([module(batch) for module, batch in zip(modules, x, strict=True)])


def formula(x, momentum):
    ages = np.arange(len(x))
    weights = np.tril(momentum ** np.abs(ages[:, None] - ages))
    return jnp.array(weights / weights.sum(axis=1, keepdims=True)) @ x.mean(axis=1)


def formula_with_assert(x, momentum):
    means, right = running_average(x, momentum), formula(x, momentum)
    assert jnp.allclose(means, right)
    return right


MISTAKES = {
    attempt("replaced_variable", call=assigns): (
        "Your mean became a bare array: assign to `self.mean[...]`."
    ),
    attempt("creates_in_the_call", None, creates_in_the_call): (
        "Create the Variable in the constructor; in the first call is Linen's way."
    ),
    attempt("trained", nnx.Param): (
        "An optimizer trains an `nnx.Param`: keep statistics in an `nnx.BatchStat`."
    ),
    attempt("counts_in_an_int", call=counts_in_an_int, zero=lambda zero: 0): (
        "A Python int is a static part of compiled code: count in a Variable."
    ),
    attempt("not_corrected", call=not_corrected): (
        "Divide by `1 - momentum**calls`: the share of the zeros that are left."
    ),
    attempt("keeps_the_corrected", call=keeps_the_corrected): (
        "Store the mean as it is, and correct what you return."
    ),
    attempt("counts_too_late", call=counts_too_late): (
        "Count the call before you correct: after the first, `calls` is 1."
    ),
    attempt("first_mean_taken_over", call=first_mean_taken_over): (
        "Correct every call: a first mean taken over whole weighs too much later."
    ),
    attempt("weighs_the_new", call=weighs_the_new): (
        "`momentum` is the share of the old mean, not of the new one."
    ),
    two_rows: "A batch has any number of rows: `x.mean(axis=0)` takes them all.",
    one_call_squeezed: "One call gives shape (1, features): keep the axis of calls.",
    variables_kept: "Keep what a call returns: the Variable holds the last mean alone.",
    one_module_for_each_call: "Each of your calls starts from zeros: build one module "
    "before the loop. `jax.jit` drops what a call writes; `nnx.jit` keeps it.",
    formula: "No module of your own is called: write one whose call keeps the mean.",
    formula_with_assert: "Return what the calls give, not a formula.",
}


class Weighted(nnx.Module):
    def __init__(self, features, momentum):
        self.sums = nnx.BatchStat(np.zeros(features + 1, np.float32))
        self.momentum = momentum

    def __call__(self, x):
        one = jnp.append(x.mean(axis=0), 1.0)
        self.sums.set_value(self.momentum * self.sums + (1 - self.momentum) * one)
        return self.sums[:-1] / self.sums[-1]


class Nested(nnx.Module):
    def __init__(self, features, momentum):
        self.parts = nnx.List([Weighted(features, momentum)])

    def __call__(self, x):
        return self.parts[0](x)


def sum_of_weights(x, momentum):
    module, means = Nested(momentum=momentum, features=x.shape[2]), []
    while len(means) < len(x):
        means.append(np.asarray(module(x=x[len(means)])))
    return np.stack(means)


def with_nnx_jit(x, momentum):
    module = CorrectedAverage(x.shape[-1], momentum)
    step = nnx.jit(lambda module, batch: module(batch))
    return jnp.stack([step(module, batch) for batch in x])


def with_scan(x, momentum):
    module = CorrectedAverage(x.shape[-1], momentum)

    def step(module, batch):
        y = module(batch)
        return module, y

    return jax.lax.scan(step, module, x)[1]


ALSO_RIGHT = [
    attempt("variable", nnx.Variable, zero=nnx.Variable),
    *(sum_of_weights, with_nnx_jit, with_scan),
]
