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
        x, kept = jnp.array(x), momentum ** jnp.arange(1, int(calls) + 1)
        answer = candidate(x, momentum, calls)
        right = (1 - kept) * x.mean(axis=0).sum()  # what is left of the zeros is `kept`
        if (shape := getattr(answer, "shape", type(answer).__name__)) != right.shape:
            expected = f"an array of shape {right.shape}, not {shape}"
        elif not jnp.allclose(answer, right, atol=1e-5):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}(jnp.array({x.tolist()}), {momentum}, {calls})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import jax
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (jnp.array([[1.25, -0.5, 3.0]]), 0.6, 1.0),
    (jnp.array([[0.5, 2.0], [1.5, -4.0], [2.5, 3.5]]), 0.75, 4.0),
]


def idea(seen):
    """Return what right numbers lack: a call that writes the mean into a Variable."""
    (x, momentum, calls), run, names = seen.inputs, seen.run(), set()
    own = [c for c in run.calls if not type(c.module).__module__.startswith("flax.")]
    if not own:
        return "no module of your own is called"
    module, before, after = own[0].module, own[0].before, own[0].after
    for path, value in after.of().items():
        if path not in before:
            return "the first call creates a Variable"
        kind, old = before[path]
        if value.shape[-1:] == x.shape[1:] and not issubclass(kind, nnx.Param):
            new = momentum * old + (1 - momentum) * x.mean(axis=0)
            names |= {path[-1]} if seen.close(value, new) else set()
    if not names:
        kinds = {type(v).__name__ for k, v in vars(module).items() if k[0] != "_"}
        holds = f"the module holds {', '.join(sorted(kinds))}"
        return f"no call writes the mean to a Variable that is no Param: {holds}"

    def add_one(call):
        for path, part in nnx.iter_graph(call.module):
            if isinstance(part, nnx.Variable) and path[-1] in names and not call.depth:
                part.set_value(part.get_value() + 1)
        return call.proceed()

    added = [0.0]
    for _ in range(int(calls)):
        added.append(momentum * (added[-1] + x.shape[1]))
    right = run.answer + np.array(added[1:])
    when = "1 is added to the mean before a call"
    answer = seen.run(when, calls={nnx.Module: add_one}).answer
    if not seen.close(answer, right):
        return f"when {when}, the sums are {right}, not {answer}"


average = RunningAverage.__call__


def attempt(name, mean=nnx.Variable, call=average):
    """Return the attempt whose module holds `mean(zeros)` and does `call(self, x)`."""

    class Made(RunningAverage):
        def __init__(self, features, momentum):
            self.momentum = momentum
            if mean:
                self.mean = mean(jnp.zeros(features))

        def __call__(self, x):
            return call(self, x)

    def calls_one_module(x, momentum, calls):
        module = Made(x.shape[-1], momentum)
        return jnp.stack([module(x).sum() for _ in range(int(calls))])

    calls_one_module.__name__ = name
    return calls_one_module


def assigns(self, x):
    self.mean = self.momentum * self.mean + (1 - self.momentum) * x.mean(axis=0)
    return self.mean


def creates_in_the_call(self, x):
    if not hasattr(self, "mean"):
        self.mean = nnx.Variable(jnp.zeros(x.shape[-1]))
    return average(self, x)


def counts(self, x):
    self.mean += 1
    return x.mean(axis=0) * (1 - self.momentum**self.mean)


def two_rows(x, momentum, calls):
    return running_average(x[jnp.array([0, -1])], momentum, calls)


def one_call_squeezed(x, momentum, calls):
    return jnp.squeeze(running_average(x, momentum, calls))


def variables_summed_late(x, momentum, calls):
    module = RunningAverage(x.shape[-1], momentum)
    outputs = [(module(x), module.mean)[1] for _ in range(int(calls))]
    return jnp.stack([output.sum() for output in outputs])


def one_module_for_each_call(x, momentum, calls):
    modules = [RunningAverage(x.shape[-1], momentum) for _ in range(int(calls))]
    return jnp.stack([module(x).sum() for module in modules])


def formula(x, momentum, calls):
    kept = momentum ** np.arange(1, int(calls) + 1)
    return x.mean(axis=0).sum() * (1 - kept)


def formula_with_assert(x, momentum, calls):
    sums, right = running_average(x, momentum, calls), formula(x, momentum, calls)
    assert jnp.allclose(sums, right)
    return right


MISTAKES = {
    attempt("replaced_variable", call=assigns): (
        "Your mean is a bare array: assign to `self.mean[...]`, of an `nnx.Variable`."
    ),
    attempt("creates_in_the_call", None, creates_in_the_call): (
        "Create the Variable in the constructor; in the first call is Linen's way."
    ),
    attempt("trained", nnx.Param): (
        "An optimizer trains every `nnx.Param`: keep statistics in an `nnx.Variable`."
    ),
    attempt("counts_in_an_int", lambda zeros: 0, counts): (
        "`nnx.jit` compiles anew for each Python int: keep the mean in a Variable."
    ),
    two_rows: "A batch has any number of rows: `x.mean(axis=0)` takes them all.",
    one_call_squeezed: "One call gives shape (1,): do not squeeze.",
    variables_summed_late: "Your outputs are one Variable: return `self.mean[...]`.",
    one_module_for_each_call: "Each of your calls starts from zeros: build one module "
    "before the loop. `jax.jit` drops what a call writes; `nnx.jit` keeps it.",
    formula: "No module of your own is called: write one whose call keeps the mean.",
    formula_with_assert: "Return sums of what the calls give, not of a formula.",
}


class Nested(nnx.Module):
    def __init__(self, features, momentum):
        self.parts = nnx.List([RunningAverage(features, momentum)])

    def __call__(self, x):
        return self.parts[0](x)


def with_numpy(x, momentum, calls):
    module, sums = Nested(momentum=momentum, features=x.shape[1]), []
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
    attempt("numpy_zeros", lambda zeros: nnx.Variable(np.array(zeros))),
    attempt("batch_stat", nnx.BatchStat),
    *(with_numpy, with_nnx_jit, with_scan),
]
