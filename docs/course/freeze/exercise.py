"""The exercise of "Freeze": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:stub]
class NormedTower(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        self.body = nnx.Linear(in_features, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, out_features, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        return self.head(nnx.tanh(self.norm(self.body(x))))


rule = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))


def freeze(seed, x, y, steps):
    """Return the predictions for x after norm and head have trained, shaped like y.

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      x: input, shape (batch, in_features), float32.
      y: target, shape (batch, out_features), float32.
      steps: number of steps by `rule`, an integer.
    """
    # --8<-- [end:stub]
    model = NormedTower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    frozen_norm = nnx.view(model, use_running_average=True)  # statistics are read only
    trained = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("body")))
    optimizer = nnx.Optimizer(model, rule, wrt=trained)

    @nnx.jit(donate_argnums=(0, 1))
    def train_step(model, optimizer):
        grads = nnx.grad(lambda model: ((model(x) - y) ** 2).mean())(model)
        optimizer.update(model, grads)

    for _ in range(steps):
        train_step(frozen_norm, optimizer)
    return frozen_norm(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    one, two = jnp.array([[1.0, 2.0], [-1.0, 0.5]]), jnp.array([[-1.0], [1.0]])
    for seed, x, y, steps in [(0, one, two, 2), (7, -one, two, 1), *more]:
        answer = candidate(seed, x, y, steps)
        tower = NormedTower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
        normed = tower.body(x) / jnp.sqrt(1 + 1e-5)  # by the statistics as built

        def predict(w, normed=normed):  # bias and kernel, shift and scale
            return jnp.tanh(normed * w[3] + w[2]) @ w[1] + w[0]

        weights = jax.tree.leaves(nnx.state((tower.head, tower.norm), nnx.Param))
        for _ in range(steps):
            grads = jax.grad(lambda w, y=y: ((predict(w) - y) ** 2).mean())(weights)
            weights = [0.99 * w - 0.1 * g for w, g in zip(weights, grads, strict=True)]
        right, got = predict(weights), getattr(answer, "shape", None)
        if got != y.shape or not jnp.allclose(answer, right, atol=1e-5):
            given = f"{seed}, jnp.array({x.tolist()}), jnp.array({y.tolist()}), {steps}"
            call = f"{candidate.__name__}({given})"
            shown = jax.tree.map(lambda value: round(value, 3), right.tolist())
            return f"{call}\n  expected: {shown}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    # two outputs
    (9, jnp.array([[-0.5, -1.0, 1.0]]), jnp.array([[-2.5, -1.0]]), 2),
]
TRAINED = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("body")))


def idea(seen):
    """Return what right numbers lack: updates that leave the body alone, or None."""
    moved, (seed, x, y, _) = [], seen.inputs

    def double(layer):
        layer.kernel[...] *= 2

    def undone(call):  # an update, and back
        given = dict(zip(("model", "grads"), call.args, strict=False)) | call.kwargs
        model = given["model"]
        body, start = getattr(model, "body", None), nnx.clone(nnx.state(model))
        before, updates = seen.state(body), call.proceed()
        moved.append(not before.same(seen.state(body), nnx.Param))
        nnx.update(model, start)
        return updates

    run = seen.run(
        "the kernels are doubled and each update is undone",
        built={nnx.Linear: double},
        calls={nnx.Optimizer.update: undone},
    )
    if not moved:
        return "no nnx.Optimizer takes the steps: call its update"
    if any(moved):
        return "the optimizer moves the body: let it train the norm and the head alone"
    tower = NormedTower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    double(tower.body)
    double(tower.head)
    tower.eval()
    if not seen.close(run.answer, tower(x)):
        return "the predictions do not follow the updates of the optimizer"


def mean_squared_error(model, x, y):
    return ((model(x) - y) ** 2).mean()


def attempt(
    name,
    train=TRAINED,
    tx=rule,
    kind=NormedTower,
    loss=mean_squared_error,
    grad=nnx.grad,
    modes=("eval", "eval"),
    after=lambda model, start: None,
    steps=lambda steps: steps,
    compiled=lambda step: step,
):
    """Return the attempt of a learner whose solution differs in its options."""

    @compiled
    def step(model, optimizer, x, y):
        optimizer.update(model, grad(loss)(model, x, y))

    def attempted(seed, x, y, count):
        model = kind(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
        start, optimizer = nnx.clone(model), nnx.Optimizer(model, tx, wrt=train)
        getattr(model, modes[0])()
        for _ in range(steps(count)):
            step(model, optimizer, x, y)
            after(model, start)
        getattr(model, modes[1])()
        return model(x)

    attempted.__name__ = name
    return attempted


class Stopped(NormedTower):
    def __call__(self, x):
        hidden = jax.lax.stop_gradient(self.body(x))
        return self.head(nnx.tanh(self.norm(hidden)))


def put_back(model, start):
    nnx.update(model.body, nnx.state(start.body))


def selected(*names):
    return nnx.Any(*map(nnx.PathContains, names))


def steps_by_hand(seed, x, y, steps):
    model = NormedTower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    model.eval()
    for _ in range(steps):
        params = nnx.state(model, TRAINED)
        grads = nnx.state(nnx.grad(mean_squared_error)(model, x, y), TRAINED)
        step = jax.tree.map(lambda p, g: p - 0.1 * (g + 0.1 * p), params, grads)
        nnx.update(model, step)
    return model(x)


def formula_with_assert(*inputs):
    measured, right = freeze(*inputs), steps_by_hand(*inputs)
    assert jnp.allclose(measured, right, atol=1e-5)
    return right


MISTAKES = {
    attempt("everything_trained", train=nnx.Param): (
        "The body trains too: let the optimizer's `wrt` leave it out."
    ),
    attempt("head_alone", train=selected("head")): (
        "The norm's scale and bias train too, beside the head."
    ),
    attempt("no_shift", train=selected("scale", "head")): (
        "The norm has a scale and a bias, and both train."
    ),
    attempt("zero_gradients", kind=Stopped, train=nnx.Param): (
        "Zero gradients do not stop weight decay: select by `wrt`."
    ),
    attempt("mistyped_path", train=selected("norms", "heads")): (
        "Nothing moved: count what your filter selects."
    ),
    attempt("statistics_moved", modes=("train", "eval")): (
        "The statistics moved: train in eval mode of batch norm."
    ),
    attempt("predicted_in_train_mode", modes=("eval", "train")): (
        "Predict with the statistics, not with those of the batch."
    ),
    attempt("without_decay", tx=optax.sgd(0.1)): (
        "Take the steps by `rule`, weight decay included."
    ),
    attempt("sum_of_squares", loss=lambda m, x, y: ((m(x) - y) ** 2).sum()): (
        "The loss is the mean of the squares, not their sum."
    ),
    attempt("first_output", loss=lambda m, x, y: ((m(x) - y)[:, 0] ** 2).mean()): (
        "Every column of y counts, not the first alone."
    ),
    attempt("before_the_last_step", steps=lambda steps: steps - 1): (
        "Predict after the last step."
    ),
    attempt("body_put_back", train=nnx.Param, after=put_back): (
        "Do not repair the body after each step: let no update move it."
    ),
    steps_by_hand: "Let `nnx.Optimizer` take the steps, not a formula.",
    formula_with_assert: "Return what the trained model predicts.",
}


def label_of(params):
    return nnx.map_state(lambda path, _: "no" if "body" in path else "yes", params)


def is_trained(path, _):
    return "body" not in path


def is_frozen(params):
    return nnx.map_state(lambda path, _: "body" in path, params)


labelled = optax.partition({"yes": rule, "no": optax.set_to_zero()}, label_of)
masked = optax.chain(rule, optax.masked(optax.set_to_zero(), is_frozen))


def two_optimizers(seed, x, y, steps):
    model = NormedTower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    model = nnx.view(model, use_running_average=True)
    parts = "norm", "head"
    rules = {p: nnx.Optimizer(getattr(model, p), rule, wrt=nnx.Param) for p in parts}
    for _ in range(steps):
        grads = nnx.state(nnx.grad(mean_squared_error)(model, x, y))
        for part, optimizer in rules.items():
            optimizer.update(grads=grads[part], model=getattr(model, part))
    answer = model(x)
    assert answer.shape == y.shape
    return np.asarray(answer)


def covered(loss):
    return nnx.compat.grad(loss, argnums=nnx.DiffState(0, TRAINED))


ALSO_RIGHT = [
    attempt("compiled", compiled=nnx.jit, train=nnx.All(nnx.Param, is_trained)),
    attempt("gradient_of_what_trains", grad=covered),
    attempt("labels", train=nnx.Param, tx=labelled),
    attempt("masked", train=nnx.Param, tx=masked),
    two_optimizers,
]
