"""The exercise of "State under jit": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


def mean_squared_error(model, x, y):
    return ((model(x) - y) ** 2).mean()


@nnx.jit(donate_argnums=(0, 1, 2))
def step(online, target, optimizer, x, y, decay):
    optimizer.update(online, nnx.grad(mean_squared_error)(online, x, y))

    def follow(old, new):
        return decay * old + (1 - decay) * new

    old, new = (nnx.state(model, nnx.Param) for model in (target, online))
    nnx.update(target, jax.tree.map(follow, old, new))
    return target(x)


# --8<-- [start:stub]
def target_predictions(seed, x, y, decays):
    """Return what the target predicts after each step, shape of `y`.

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      x: inputs of each step, shape (steps, batch, in_features).
      y: what `online` learns, shape (steps, batch, out_features).
      decays: how much of the target each step keeps, shape (steps,).
    """
    # --8<-- [end:stub]
    online = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    target = nnx.clone(online, arrays=True)
    optimizer = nnx.Optimizer(online, optax.sgd(0.1), wrt=nnx.Param)
    batches = zip(x, y, decays, strict=True)
    return jnp.stack([step(online, target, optimizer, *batch) for batch in batches])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    data, kept = jnp.array([[[2.0, -1.0]], [[0.5, 1.0]]]), jnp.array([0.5, 0.75])
    page = (0, data, data[..., :1] + 1, kept), (7, -data, data[..., 1:], 1 - kept)
    for seed, x, y, decays in [*page, *more]:
        answer, right = candidate(seed, x, y, decays), []
        layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
        online = target = jnp.vstack([layer.kernel[...], layer.bias[...]])
        for inputs, wanted, decay in zip(x, y, decays, strict=True):
            rows = jnp.hstack([inputs, jnp.ones_like(inputs[:, :1])])
            grads = 2 * rows.T @ (rows @ online - wanted) / wanted.size
            online = online - 0.1 * grads
            target = decay * target + (1 - decay) * online
            right.append(rows @ target)
        shape = getattr(answer, "shape", None)
        if shape != y.shape or not jnp.allclose(answer, jnp.stack(right), atol=1e-4):
            call = f"{candidate.__name__}({seed}, x, y, {decays.tolist()})"
            expected = jax.tree.map(lambda v: round(v, 3), jnp.stack(right).tolist())
            return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import itertools

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    # a batch of two rows
    (
        5,
        jnp.array([[[1.0, 2.0], [0.0, -1.0]], [[0.5, 0.5], [2.0, 1.0]]]),
        jnp.array([[[1.0], [2.0]], [[-1.0], [0.5]]]),
        jnp.array([0.5, 0.25]),
    ),
    # two outputs
    (
        11,
        jnp.array([[[1.0, -0.5]], [[0.25, 2.0]]]),
        jnp.array([[[1.0, -2.0]], [[0.5, 3.0]]]),
        jnp.array([0.75, 0.5]),
    ),
]
STEPS = 8
SIZES = itertools.count(3)  # of features: each asks for an executable of its own


def idea(seen):
    """Return what right numbers lack: one step, compiled once and donated."""

    def traces(what, last, first):
        x = jnp.ones((STEPS, 1, next(SIZES)))
        run = seen.run(
            f"there are {STEPS} steps with {what} decays",
            inputs=(2, x, x[..., :1], jnp.tile(jnp.linspace(0.5, last, STEPS // 2), 2)),
            built={nnx.Linear: lambda layer: first.append(layer.kernel[...])},
            eager=False,
        )
        calls = run.calls_of(nnx.Linear)
        return len(calls), sum(call.compiled for call in calls)

    calls, traced = traces("different", 0.9, kept := [])
    if not calls:
        return "no nnx.Linear is called"
    if not traced:
        return "the layers run eagerly: compile the step"
    if traced >= STEPS:
        what = "each step" if traces("equal", 0.5, [])[1] >= STEPS else "each decay"
        return f"{what} is traced: compile once for all"
    if not any(map(deleted, kept)):
        return "nothing is donated: old and new arrays are in memory at once"

    def doubled(call):
        return 2 * call.proceed()

    run = seen.run("each layer returns twice as much", calls={nnx.Linear: doubled})
    if seen.close(run.answer, seen.answer):
        return "the predictions do not follow what the layers return"


def deleted(array):
    return not isinstance(array, jax.core.Tracer) and array.is_deleted()


def by_hand(
    seed,
    x,
    y,
    decays,
    *,
    shares=lambda decay: (decay, 1 - decay),
    loss=lambda errors: (errors**2).mean(),
    followed=slice(None),
    late=True,
    predicts="target",
):
    """Return the predictions by formulas, where an attempt may differ in a step."""
    layer = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    online = target = jnp.vstack([layer.kernel[...], layer.bias[...]])
    found = []
    for inputs, wanted, decay in zip(x, y, decays, strict=True):
        rows = jnp.hstack([inputs, jnp.ones_like(inputs[:, :1])])
        before, old = target, online
        errors, pull = jax.vjp(lambda w, r=rows, y=wanted: r @ w - y, online)
        online = online - 0.1 * pull(jax.grad(loss)(errors))[0]
        keep, move = shares(decay)
        new = keep * target + move * (online if late else old)
        target = target.at[followed].set(new[followed])
        found.append(
            rows @ {"target": target, "online": online, "old": before}[predicts]
        )
    return jnp.stack(found)


def attempt(name, base=by_hand, **changed):
    """Return an attempt that does one thing otherwise."""

    def predictions(seed, x, y, decays):
        return base(seed, x, y, decays, **changed)

    predictions.__name__ = name
    return predictions


def plain_step(online, target, optimizer, x, y, decay):
    optimizer.update(online, nnx.grad(mean_squared_error)(online, x, y))
    old, new = (nnx.state(model, nnx.Param) for model in (target, online))
    mixed = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)
    nnx.update(target, mixed)
    return target(x)


undonated_step = nnx.jit(plain_step)
static_step = nnx.jit(plain_step, static_argnums=5, donate_argnums=(0, 1, 2))


def stepwise(seed, x, y, decays, *, step, copied=True):
    online = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    target = nnx.clone(online, arrays=copied)
    optimizer = nnx.Optimizer(online, optax.sgd(0.1), wrt=nnx.Param)
    batches = zip(x, y, decays, strict=True)
    return jnp.stack([step(online, target, optimizer, *batch) for batch in batches])


def step_of_floats(*inputs):
    *models, x, y, decay = inputs
    return static_step(*models, x, y, float(decay))


def traced_each(*inputs):  # as a new `nnx.jit` at each step, but cheaper
    nnx.eval_shape(lambda *given: plain_step(*given), *map(nnx.clone, inputs))
    return step(*inputs)


def closed_over(seed, x, y, decays):
    online, target = (nnx.Linear(2, y.shape[-1], rngs=nnx.Rngs(seed)) for _ in "ab")
    optimizer = nnx.Optimizer(online, optax.sgd(0.1), wrt=nnx.Param)
    compiled = nnx.jit(
        lambda x, y, decay: plain_step(online, target, optimizer, x, y, decay)
    )
    return jnp.stack([compiled(*batch) for batch in zip(x, y, decays, strict=True)])


def formula_with_assert(*inputs):
    found, formula = target_predictions(*inputs), by_hand(*inputs)
    assert jnp.allclose(found, formula, atol=1e-4)
    return formula


MISTAKES = {
    attempt("target_is_online", predicts="online"): (
        "Return what the target predicts, which is a network of its own."
    ),
    attempt("arrays_shared", base=stepwise, step=step, copied=False): (
        "The clone shares the arrays of `online`: pass `arrays=True`."
    ),
    attempt("in_jax_jit", shares=lambda decay: (1, 0)): (
        "The target never moves: `jax.jit` drops what the step writes."
    ),
    attempt("decay_swapped", shares=lambda decay: (1 - decay, decay)): (
        "`decay` is the share of the target that a step keeps."
    ),
    attempt("followed_first", late=False): (
        "The target follows `online` as it is after its step."
    ),
    attempt("kernel_alone", followed=slice(-1)): "The bias of the target follows, too.",
    attempt("predicted_first", predicts="old"): "Predict after the target has moved.",
    attempt("added_over_rows", loss=lambda e: (e**2).sum(axis=0).mean()): (
        "The loss is the mean over the rows of the batch, not the sum."
    ),
    attempt("added_over_outputs", loss=lambda e: (e**2).sum(axis=1).mean()): (
        "The loss is the mean over the outputs as well, not their sum."
    ),
    closed_over: "Pass both networks and the optimizer as arguments of the step.",
    attempt("not_compiled", base=stepwise, step=plain_step): (
        "Nothing is compiled: wrap the step in `nnx.jit`."
    ),
    attempt("traced_each", base=stepwise, step=traced_each): (
        "Each call of `nnx.jit` makes a function without an executable: call it once."
    ),
    attempt("decay_static", base=stepwise, step=step_of_floats): (
        "A static decay is part of the key: pass it as an array."
    ),
    attempt("not_donated", base=stepwise, step=undonated_step): (
        "Donate what the step changes, by `donate_argnums`."
    ),
    by_hand: "Build `nnx.Linear`, and let the step call it.",
    formula_with_assert: "Return what the target gives, not what you compare it with.",
}


def modules_returned(seed, x, y, decays):
    @jax.jit(donate_argnums=0)
    def step(models, *batch):
        return plain_step(*models, *batch), models

    online = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    models = online, nnx.clone(online, arrays=True)
    models, found = (*models, nnx.Optimizer(online, optax.sgd(0.1), wrt=nnx.Param)), []
    for batch in zip(x, y, decays, strict=True):
        predicted, models = step(models, *batch)
        found.append(predicted)
    return jnp.stack(found)


def scanned(seed, x, y, decays):
    online = nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    target = nnx.clone(online, arrays=True)
    optimizer = nnx.Optimizer(online, optax.sgd(0.1), wrt=nnx.Param)
    graphdef, state = nnx.split((online, target, optimizer))

    def body(state, batch):
        models = nnx.merge(graphdef, state)
        predicted = plain_step(*models, *batch)
        return nnx.as_pure(nnx.state(models)), predicted

    loop = jax.jit(lambda *given: jax.lax.scan(body, *given), donate_argnums=0)
    return loop(nnx.as_pure(state), (x, y, decays))[1]


@nnx.jit(donate_argnums=(0, 1))
def learn(online, optimizer, x, y):
    optimizer.update(online, nnx.grad(mean_squared_error)(online, x, y))


@nnx.jit(donate_argnums=0)
def follow(target, online, decay):
    for name in ("kernel", "bias"):
        old, new = getattr(target, name), getattr(online, name)
        old[...] = decay * old + (1 - decay) * new


def in_two_steps(seed, x, y, decays):
    online, target = (
        nnx.Linear(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed)) for _ in "ab"
    )
    optimizer = nnx.Optimizer(online, optax.sgd(0.1), wrt=nnx.Param)
    found = []
    for *batch, decay in zip(x, y, decays, strict=True):
        learn(online, optimizer, *batch)
        follow(target, online, decay)
        found.append(target(batch[0]))
    return jnp.stack(found)


ALSO_RIGHT = [modules_returned, scanned, in_two_steps]
