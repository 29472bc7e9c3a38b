"""The exercise of "Variable types": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class CallCount(nnx.Variable):
    """Number of forward calls: a type of your own needs no more than a name."""


class Block(nnx.Module):
    def __init__(self, in_features, features, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(in_features, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)
        self.calls = CallCount(jnp.zeros((), jnp.int32))

    def __call__(self, x, *, rngs=None):  # x[..., in_features]
        self.calls[...] += 1
        return self.dropout(self.norm(self.linear(x)), rngs=rngs)
        # --8<-- [end:model]


def combine(rule, states):
    """Return one state, in which each array is `rule` over those of all states."""
    return jax.tree.map(lambda *leaves: rule(jnp.stack(leaves), axis=0), *states)


# --8<-- [start:stub]
def variable_types(batches, rows):
    """Return what the merger of trained replicas predicts, shape (rows, 2).

    Args:
      batches: the batches of each replica, float32, in shape
        (replicas, calls, batch, in_features).
      rows: input of the merged block, shape (rows, in_features), float32.
    """
    # --8<-- [end:stub]
    blocks = []
    for seed, inputs in enumerate(batches):
        blocks.append(Block(rows.shape[-1], 2, rngs=nnx.Rngs(seed)))
        for batch in inputs:
            blocks[-1](batch, rngs=nnx.Rngs(0))
    merged = nnx.clone(blocks[0])
    rules = {nnx.Param: jnp.mean, nnx.BatchStat: jnp.mean, CallCount: jnp.sum}
    for kind, rule in rules.items():
        states = [nnx.state(block, kind) for block in blocks]
        nnx.update(merged, combine(rule, states))
    eval_block = nnx.view(merged, deterministic=True, use_running_average=True)
    return eval_block(rows)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    one = jnp.array([[[[1.0], [3.0]]], [[[4.0], [0.0]]]]), jnp.array([[2.0]])
    two = jnp.array([[[[2.0], [0]], [[1], [4]]], [[[3], [1]], [[0], [1]]]]), one[1]
    for batches, rows in [one, two, *more]:
        answer, rngs = candidate(batches, rows), map(nnx.Rngs, range(len(batches)))
        kernels = [nnx.Linear(rows.shape[-1], 2, rngs=r).kernel[...] for r in rngs]
        means, variances = 0.0, 1.0  # of the replicas
        for y in (batches @ jnp.stack(kernels)[:, None]).swapaxes(0, 1):
            means = (means + y.mean(axis=1)) / 2
            variances = (variances + y.var(axis=1)) / 2
        centred = rows @ sum(kernels) / len(kernels) - means.mean(axis=0)
        right = centred / jnp.sqrt(variances.mean(axis=0) + 1e-5)
        shape = getattr(answer, "shape", type(answer).__name__)
        if shape != right.shape or not jnp.allclose(answer, right, 1e-3, 1e-3):
            call = f"{candidate.__name__}({batches.tolist()}, {rows.tolist()})"
            expected = jnp.array_str(right, precision=3)
            return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # only `nbe` tries it, with three replicas
    (
        jnp.array([[[[1.0], [5.0]]], [[[-2.0], [0.0]]], [[[3.0], [4.0]]]]),
        jnp.array([[-1.0]]),
    ),
]


def idea(seen):
    """Return what right numbers lack: a merger whose parts follow their types."""
    batches, built = seen.inputs[0], []

    def add_more(norm):
        built.append(norm)
        norm.gain = nnx.Param(jnp.full((), 10.0 * len(built)))
        norm.drift = nnx.BatchStat(jnp.full((), 100.0 * len(built)))

    def added(call):
        return call.proceed() + call.module.gain + call.module.drift

    when = "the norm also adds a Param and a BatchStat"
    hooks = {"built": {nnx.BatchNorm: add_more}, "calls": {nnx.BatchNorm: added}}
    run = seen.run(when, **hooks)
    own = [call for call in run.calls if not call.depth]
    if not built or not own:
        return "no Block is called"
    counted = own[-1].before.get(("calls",), (None, None))[1]
    if counted != batches.shape[0] * batches.shape[1]:
        return f"before it predicts, the merged block counts {counted} calls"
    moved = run.answer - formula(*seen.inputs)
    right = 110.0 * (len(batches) + 1) / 2  # the mean of 110, 220 and so on
    if not seen.close(moved, moved * 0 + right, atol=1e-2):
        would = f"if {when}, their mean moves the predictions by {right}"
        return f"{would}, but yours by {moved.tolist()}"


def trained(batches, rows, seeds=None):
    """Return the replicas, each after its train calls."""
    blocks = []
    for seed, inputs in zip(seeds or range(len(batches)), batches, strict=True):
        blocks.append(Block(rows.shape[-1], 2, rngs=nnx.Rngs(seed)))
        for batch in inputs:
            blocks[-1](batch, rngs=nnx.Rngs(0))
    return blocks


def predicted(block, rows, **mode):
    """Return what a block predicts, unless told otherwise in eval mode."""
    mode = {"deterministic": True, "use_running_average": True} | mode
    return nnx.view(block, **mode)(rows)


RULES = {nnx.Param: jnp.mean, nnx.BatchStat: jnp.mean, CallCount: jnp.sum}


def attempt(name, rules, **mode):
    """Return the attempt that merges each type by another rule, or not at all."""

    def merging(batches, rows):
        blocks = trained(batches, rows)
        merged = nnx.clone(blocks[0])
        for kind, rule in rules.items():
            states = [nnx.state(block, kind) for block in blocks]
            nnx.update(merged, combine(rule, states))
        return predicted(merged, rows, **mode)

    merging.__name__ = name
    return merging


def mean_of_two_at_a_time(batches, rows):
    first, *others = trained(batches, rows)
    for other in others:
        for kind, rule in RULES.items():
            states = [nnx.state(block, kind) for block in (first, other)]
            nnx.update(first, combine(rule, states))
    return predicted(first, rows)


def mean_of_predictions(batches, rows):
    predictions = [predicted(block, rows) for block in trained(batches, rows)]
    return sum(predictions) / len(predictions)


def one_seed(batches, rows):
    blocks = trained(batches, rows, [0] * len(batches))
    merged = nnx.clone(blocks[0])
    for kind, rule in RULES.items():
        nnx.update(merged, combine(rule, [nnx.state(block, kind) for block in blocks]))
    return predicted(merged, rows)


def one_column(batches, rows):
    return variable_types(batches, rows)[:, :1]


def attributes_by_name(batches, rows):
    blocks = trained(batches, rows)
    merged = nnx.clone(blocks[0])
    for name in ("scale", "bias", "mean", "var"):
        values = [getattr(block.norm, name)[...] for block in blocks]
        getattr(merged.norm, name)[...] = sum(values) / len(values)
    for name in ("kernel", "bias"):
        values = [getattr(block.linear, name)[...] for block in blocks]
        getattr(merged.linear, name)[...] = sum(values) / len(values)
    merged.calls[...] = sum(block.calls[...] for block in blocks)
    return predicted(merged, rows)


def formula(batches, rows):
    rngs = [nnx.Rngs(seed) for seed in range(len(batches))]
    kernels = [nnx.Linear(rows.shape[-1], 2, rngs=r).kernel for r in rngs]
    means, variances = [], []
    for kernel, inputs in zip(kernels, batches, strict=True):
        mean, var = 0.0, 1.0
        for batch in inputs:
            y = batch @ kernel
            mean, var = (mean + y.mean(axis=0)) / 2, (var + y.var(axis=0)) / 2
        means, variances = [*means, mean], [*variances, var]
    kernel, mean, var = (sum(p) / len(p) for p in (kernels, means, variances))
    return (rows @ kernel - mean) / jnp.sqrt(var + 1e-5)


def formula_with_assert(batches, rows):
    measured, right = variable_types(batches, rows), formula(batches, rows)
    assert jnp.allclose(measured, right, 1e-3, 1e-3)
    return right


MISTAKES = {
    attempt(
        "statistics_of_the_first", {**RULES, nnx.BatchStat: lambda a, axis: a[0]}
    ): (
        "The statistics are those of one replica: average the `nnx.BatchStat` as well."
    ),
    attempt("params_of_the_first", {**RULES, nnx.Param: lambda a, axis: a[0]}): (
        "The weights are those of one replica: average every `nnx.Param`."
    ),
    attempt("count_of_the_first", {**RULES, CallCount: lambda a, axis: a[0]}): (
        "The calls are those of one replica: add up the `CallCount`."
    ),
    attempt("all_are_averaged", {nnx.Variable: jnp.mean}): (
        "`nnx.Variable` selects the counts too, and these are added: filter by type."
    ),
    attempt("all_are_added", {nnx.Variable: jnp.sum}): (
        "Params and statistics are averaged, and the counts alone are added."
    ),
    attempt("statistics_are_added", {**RULES, nnx.BatchStat: jnp.sum}): (
        "Divide the sum of the statistics by the number of replicas."
    ),
    attempt("predicts_in_train_mode", RULES, use_running_average=False): (
        "Predict by a view in which `use_running_average` is set."
    ),
    mean_of_two_at_a_time: "Halving pair by pair weighs the last replica most: average "
    "over all at once.",
    mean_of_predictions: "Merge the weights, not the predictions.",
    one_seed: "Build replica i from `nnx.Rngs(i)`.",
    one_column: "A block has two outputs: return shape (rows, 2).",
    attributes_by_name: "Names miss other Variables of the same type: filter by type.",
    formula: "Build a `Block` for each replica, call it, and merge their states.",
    formula_with_assert: "Return what the merged block predicts, not a formula.",
}


def split_and_merge(batches, rows):
    parts = [nnx.split(block, CallCount, ...) for block in trained(batches, rows)]
    graphdefs, counts, others = zip(*parts, strict=True)
    state = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *others)
    calls = sum(jax.tree.leaves(counts))
    merged = nnx.merge(graphdefs[0], counts[0], state)
    merged.calls[...] = calls
    return predicted(merged, rows)


def loop_over_variables(batches, rows):
    first, *others = trained(batches, rows)
    flat = [dict(nnx.to_flat_state(nnx.state(block))) for block in others]
    for path, variable in nnx.to_flat_state(nnx.state(first)):
        total = variable[...] + sum(one[path][...] for one in flat)
        mean = not isinstance(variable, CallCount)
        variable.set_value(total / len(batches) if mean else total)
    return predicted(first, rows)


def jitted_and_eval(batches, rows):
    step = nnx.jit(lambda block, batch, rngs: block(batch, rngs=rngs))
    blocks = []
    for seed, inputs in enumerate(batches):
        blocks.append(Block(rows.shape[-1], 2, rngs=nnx.Rngs(seed)))
        for batch in inputs:
            step(blocks[-1], batch, nnx.Rngs(1))
    merged = Block(rows.shape[-1], 2, rngs=nnx.Rngs(9))
    for kind, rule in RULES.items():
        nnx.update(merged, combine(rule, [nnx.state(block, kind) for block in blocks]))
    merged.eval()
    return merged(rows)


ALSO_RIGHT = [split_and_merge, loop_over_variables, jitted_and_eval]
