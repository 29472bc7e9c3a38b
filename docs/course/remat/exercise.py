"""The exercise of "Remat": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Block(nnx.Module):
    def __init__(self, features, *, rngs: nnx.Rngs):
        self.up = nnx.Linear(features, 4 * features, rngs=rngs)
        self.norm = nnx.BatchNorm(4 * features, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)
        self.down = nnx.Linear(4 * features, features, rngs=rngs)

    def __call__(self, x, rngs):  # x[batch, features]
        hidden = nnx.gelu(self.norm(self.up(x)))
        return x + self.down(self.dropout(hidden, rngs=rngs))


def run(block, x, rngs):
    return block(x, rngs)


class Stack(nnx.Module):
    def __init__(self, depth, features, *, rngs: nnx.Rngs):
        self.blocks = nnx.List([Block(features, rngs=rngs) for _ in range(depth)])

    def __call__(self, x, rngs, run=run):  # x[batch, features]
        for block in self.blocks:
            x = run(block, x, rngs)
        return x
        # --8<-- [end:model]


@nnx.remat
def run_segment(blocks, x, rngs):
    for block in blocks:
        x = block(x, rngs)
    return x


# --8<-- [start:stub]
def train_in_segments(seed, x, y, depth, size, steps):
    """Return the output on x, in eval mode, of a model that was trained in segments.

    The model is `Stack(depth, features, rngs=nnx.Rngs(seed))`, and its masks come from
    one `nnx.Rngs(dropout=seed)`. It takes some steps of `optax.sgd(0.1)` on the mean
    squared error. The backward pass recomputes segments of `size` blocks in a row; the
    last one may be shorter.

    Args:
      seed: seed of both `nnx.Rngs`, an integer.
      x: input, shape (batch, features), float32.
      y: targets, shape (batch, features), float32.
      depth: how many blocks the model has.
      size: how many blocks a segment has.
      steps: how many steps to take.
    """
    # --8<-- [end:stub]

    def loss(model, rngs):
        out = x
        for start in range(0, depth, size):
            out = run_segment(model.blocks[start : start + size], out, rngs)
        return jnp.mean((out - y) ** 2)

    model = Stack(depth, x.shape[1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    rngs = nnx.Rngs(dropout=seed)
    for _ in range(steps):
        optimizer.update(model, nnx.grad(loss)(model, rngs))
    return nnx.view(model, deterministic=True, use_running_average=True)(x, None)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    a = jnp.array([[1.0], [-1.0], [2.0]])
    for seed, x, y, *sizes in [(0, a, -a, 2, 1, 2), (3, a, -a, 2, 2, 1), *more]:
        answer, rngs = candidate(seed, x, y, *sizes), nnx.Rngs(dropout=seed)
        model = Stack(sizes[0], x.shape[1], rngs=nnx.Rngs(seed))
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        grad = nnx.grad(lambda m, x, y, rngs: ((m(x, rngs) - y) ** 2).mean())
        for _ in range(sizes[2]):
            optimizer.update(model, grad(model, x, y, rngs))
        model.eval()
        if getattr(answer, "shape", None) != x.shape:
            expected = f"an array of shape {x.shape}, not {type(answer).__name__}"
        elif not jnp.allclose(answer, model(x, None), atol=1e-4):
            expected = model(x, None).round(4)
        else:
            continue
        call = f"{candidate.__name__}({seed}, {x.tolist()}, {y.tolist()}, *{sizes})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools
import itertools

ROWS = jnp.array([[0.5, 1.0, -1.0], [1.0, -1.0, 0.0], [-0.5, 2.0, 1.0]])
HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, ROWS, 2 * ROWS, 2, 1, 1),
    (1, ROWS[:, :1], ROWS[:, 1:2], 3, 2, 1),
]


MARKS = itertools.count()  # a segment whose blocks carry a new one is traced anew


def idea(seen):
    """Return what right numbers lack: blocks that are recomputed in segments."""
    inputs = 2, ROWS, ROWS**2, 5, 2, 1

    def run(when="", calls=None):
        mark = next(MARKS)
        marked = {nnx.Module: lambda module: setattr(module, "mark", mark)}
        return seen.run(when, inputs=inputs, built=marked, calls=calls)

    def recomputed(call):
        return type(call.module).__name__ == "Block" and call.inside(jax.checkpoint)

    calls = [call for call in run().calls if recomputed(call)]
    if not calls:
        return "no Block is recomputed: call the segments through nnx.remat"
    given = [(*call.args, *call.kwargs.values())[0] for call in calls]
    before = [None, *(call.output for call in calls[:-1])]
    starts = [i for i in range(len(calls)) if given[i] is not before[i]]
    sizes = {j - i for i, j in itertools.pairwise([*starts, len(calls)])}
    if sizes != {1, 2}:  # segments of equal structure are traced once
        return (
            f"of 5 blocks and segments of 2, segments have {sizes} blocks, not {{1, 2}}"
        )

    def doubled(call):
        return call.proceed() * (2 if recomputed(call) else 1)

    other = run("a block returns twice as much", {nnx.Module: doubled})
    if seen.close(other.answer, plain(*inputs)):
        return "the answer does not follow what the segments return"


def mean_of_squares(out, y):
    return jnp.mean((out - y) ** 2)


def in_eval_mode(model, x):
    model.eval()
    return model(x, None)


def segments(blocks, size):
    return [blocks[i : i + size] for i in range(0, len(blocks), size)]


def attempt(
    name,
    remat=nnx.remat,
    cut=segments,
    seeds=lambda seed: seed,
    features=lambda x: x.shape[1],
    masks=lambda seed: nnx.Rngs(dropout=seed),
    fresh=False,
    error=mean_of_squares,
    rule=optax.sgd,
    count=lambda steps: steps,
    predict=in_eval_mode,
):
    """Return the attempt of a learner whose solution differs in one place."""

    def attempted(seed, x, y, depth, size, steps):
        @remat
        def run_segment(blocks, x, rngs):
            for block in blocks:
                x = block(x, rngs)
            return x

        def loss(model, rngs):
            out = x
            for blocks in cut(model.blocks, size):
                out = run_segment(blocks, out, rngs)
            return error(out, y)

        model = Stack(depth, features(x), rngs=nnx.Rngs(seeds(seed)))
        optimizer = nnx.Optimizer(model, rule(0.1), wrt=nnx.Param)
        rngs = masks(seed)
        for _ in range(count(steps)):
            rngs = masks(seed) if fresh else rngs
            optimizer.update(model, nnx.grad(loss)(model, rngs))
        return predict(model, x)

    attempted.__name__ = name
    return attempted


def plainly(function):
    return function


plain = attempt("without_remat", remat=plainly)


def plain_beside(*inputs):
    train_in_segments(*inputs)
    return plain(*inputs)


MISTAKES = {
    attempt("jax_checkpoint", remat=jax.checkpoint): (
        "`jax.checkpoint` drops statistics and counts: use `nnx.remat`."
    ),
    plain: "Nothing is recomputed: call each segment through `nnx.remat`.",
    attempt("each_block", cut=lambda blocks, size: segments(blocks, 1)): (
        "A segment has `size` blocks: pass that many to one call of `nnx.remat`."
    ),
    attempt("whole_model", cut=lambda blocks, size: [blocks]): (
        "One segment for all blocks keeps as much as none: cut the blocks in segments."
    ),
    attempt(
        "size_as_number",
        cut=lambda blocks, size: segments(blocks, -(-len(blocks) // size)),
    ): "`size` is how many blocks a segment has, not how many segments there are.",
    attempt(
        "short_segment_lost",
        cut=lambda blocks, size: segments(blocks[: len(blocks) // size * size], size),
    ): "The last segment may be shorter: run it too.",
    attempt("one_feature", features=lambda x: 1): (
        "Read the number of features from the shape of `x`."
    ),
    attempt("seed_zero", seeds=lambda seed: 0): (
        "The seed of the model is ignored: pass it to `nnx.Rngs`."
    ),
    attempt("masks_of_zero", masks=lambda seed: nnx.Rngs(dropout=0)): (
        "The masks come from `nnx.Rngs(dropout=seed)`."
    ),
    attempt("fresh_masks", fresh=True): (
        "Make the `nnx.Rngs` of the masks once: new ones begin again at each step."
    ),
    attempt("sum_of_squares", error=lambda out, y: jnp.sum((out - y) ** 2)): (
        "The loss is the mean of the squares, not their sum."
    ),
    attempt("adam", rule=optax.adam): "The rule is `optax.sgd(0.1)`.",
    attempt("one_step_more", count=lambda steps: steps + 1): (
        "Take as many steps as `steps` says."
    ),
    attempt("in_train_mode", predict=lambda model, x: model(x, nnx.Rngs(0))): (
        "The output is that of a view in eval mode."
    ),
    plain_beside: "Return the output of the model that was trained in segments.",
}


def decorated(seed, x, y, depth, size, steps):
    class Segment(nnx.Module):
        def __init__(self, blocks):
            self.blocks = nnx.List(blocks)

        @nnx.remat
        def __call__(self, x, rngs):
            for block in self.blocks:
                x = block(x, rngs)
            return x

    model = Stack(depth, x.shape[1], rngs=nnx.Rngs(seed))
    parts = nnx.List([Segment(blocks) for blocks in segments(model.blocks, size)])
    optimizer = nnx.Optimizer(parts, optax.sgd(0.1), wrt=nnx.Param)

    def loss(parts, rngs):
        out = x
        for part in parts:
            out = part(out, rngs)
        return mean_of_squares(out, y)

    rngs = nnx.Rngs(dropout=seed)
    for _ in range(steps):
        optimizer.update(parts, nnx.grad(loss)(parts, rngs))
    return in_eval_mode(model, x)


def by_range(seed, x, y, depth, size, steps):
    @functools.partial(nnx.remat, static_argnums=(3,))
    def run_from(model, x, rngs, start):
        for block in model.blocks[start : start + size]:
            x = block(x, rngs)
        return x

    def loss(model, x, rngs):
        for start in range(0, depth, size):
            x = run_from(model, x, rngs, start)
        return mean_of_squares(x, y)

    model = Stack(depth, x.shape[1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    rngs = nnx.Rngs(dropout=seed)
    for _ in range(steps):
        optimizer.update(model, nnx.grad(loss)(model, x, rngs))
    return in_eval_mode(model, x)


def returned_from_checkpoint(seed, x, y, depth, size, steps):
    @jax.checkpoint
    def run_segment(blocks, x, rngs):
        for block in blocks:
            x = block(x, rngs)
        return x, blocks, rngs

    def loss(model, rngs):
        out, states = x, []
        for blocks in segments(list(model.blocks), size):
            out, blocks, rngs = run_segment(blocks, out, rngs)
            states += [nnx.state(block, nnx.BatchStat) for block in blocks]
        return mean_of_squares(out, y), (states, rngs)

    model = Stack(depth, x.shape[1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    rngs = nnx.Rngs(dropout=seed)
    for _ in range(steps):
        grads, (states, rngs) = nnx.grad(loss, has_aux=True)(model, rngs)
        optimizer.update(model, grads)
        for block, state in zip(model.blocks, states, strict=True):
            nnx.update(block, state)
    return in_eval_mode(model, x)


ALSO_RIGHT = [
    decorated,
    by_range,
    returned_from_checkpoint,
    attempt(
        "with_policy", remat=nnx.remat(policy=jax.checkpoint_policies.dots_saveable)
    ),
]
