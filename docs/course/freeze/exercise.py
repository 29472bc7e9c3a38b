"""The exercise of "Freeze": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:stub]
class Tower(nnx.Module):
    def __init__(self, in_features, out_features, rngs):
        self.body = nnx.Linear(in_features, 4, rngs=rngs)
        self.head = nnx.Linear(4, out_features, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        return self.head(nnx.tanh(self.body(x)))


def mean_squared_error(model, x, y):  # y[batch, out_features]
    return ((model(x) - y) ** 2).mean()
    # --8<-- [end:model]


def freeze(seed, x, y, steps):
    """Return how far body and head moved when the head trains alone, shape (2,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, in_features), float32.
      y: target, shape (batch, out_features), float32.
      steps: number of SGD steps; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    head = nnx.All(nnx.Param, nnx.PathContains("head"))
    model = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=head)
    grad = nnx.grad(mean_squared_error, argnums=nnx.DiffState(0, head))
    before = nnx.to_pure_dict(nnx.state(model))
    for _ in range(int(steps)):
        optimizer.update(model, grad(model, x, y))
    after = nnx.to_pure_dict(nnx.state(model))
    change = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after, before)
    return jnp.array([max(jax.tree.leaves(change[p])) for p in ("body", "head")])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    x, y = jnp.array([[1.0, 2.0], [-1.0, 0.5]]), jnp.array([[-1.0], [1.0]])
    page = (0.0, x, y, 2.0), (7.0, -x, y, 1.0)
    for seed, x, y, steps in [*page, *more]:
        answer = candidate(seed, x, y, steps)
        tower = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
        # The biases begin at zero.
        features, kernel, bias = jnp.tanh(x @ tower.body.kernel), tower.head.kernel, 0.0
        for _ in range(int(steps)):
            slope = 2 * (features @ kernel + bias - y) / y.size
            kernel, bias = kernel - 0.1 * features.T @ slope, bias - 0.1 * slope.sum(0)
        moved = jnp.abs(jnp.append(kernel - tower.head.kernel, bias)).max()
        shape = getattr(answer, "shape", None)
        if shape == (2,) and answer[0] == 0 and abs(answer[1] - moved) < 1e-5:
            continue
        arrays = f"jnp.array({x.tolist()}), jnp.array({y.tolist()})"
        call = f"{candidate.__name__}({seed}, {arrays}, {steps})"
        expected = f"an array of shape (2,): [0. {moved:.4f}], the body exactly 0"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    # the head's farthest move is its bias's, and downwards
    (9.0, jnp.array([[-0.5, -1.0, 1.0]]), jnp.array([[-2.5, -1.0]]), 3.0),
]
HEAD = nnx.All(nnx.Param, nnx.PathContains("head"))


def idea(seen):
    """Return what right numbers lack: an optimizer that holds the head alone."""
    found, update = [], nnx.Optimizer.update

    def not_a_number(layer):
        if layer.out_features == 4:  # a body
            layer.kernel[...] *= jnp.nan
            layer.bias[...] *= jnp.nan

    def stay(call):  # in place of an update
        given = dict(zip(("model", "grads"), call.args, strict=False)) | call.kwargs
        model, grads = given["model"], given["grads"]
        held = nnx.as_pure(nnx.state(model, call.module.wrt))
        found.append((len(jax.tree.leaves(held)), len(jax.tree.leaves(grads))))
        return jax.tree.map(jnp.zeros_like, held)

    answer = seen.run(
        "the body is not a number and an update moves nothing",
        built={nnx.Linear: not_a_number},
        calls={update: stay},
    ).answer
    if not found:
        return "no nnx.Optimizer takes the steps: call its update"
    held, taken = found[-1]
    if held != 2:
        return f"the optimizer holds {held} arrays, and the head has 2"
    if taken != 2:  # a compiler leaves out the gradients that nothing uses
        run = seen.run(calls={update: lambda call: call.proceed()}, eager=False)
        if not all(call.compiled for call in run.calls_of(update)):
            return f"the gradient has {taken} arrays, and the head has 2"
    if not seen.close(answer[1], 0):
        return "the second number is not 0 when no update moves the head"
    if not np.isnan(answer[0]):
        return "the first number does not follow the body of your model"


def two_towers(seed, x, y, kind=Tower):
    """Return the model that the exercise asks for, and a copy."""
    model = kind(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    return model, nnx.clone(model)


def largest(part):
    return max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(part))


def moves(start, model, size=largest):
    """Return how far body and head of two models are apart."""
    states = [nnx.to_pure_dict(nnx.state(one)) for one in (start, model)]
    change = jax.tree.map(lambda before, after: after - before, *states)
    return jnp.array([size(change["body"]), size(change["head"])])


def attempt(name, train=HEAD, wrt=None, diff=None, kind=Tower, size=largest, **given):
    """Return the attempt of a learner whose solution differs in its options."""
    loss, tx = given.get("loss", mean_squared_error), given.get("tx", optax.sgd(0.1))
    grad = nnx.grad(loss, argnums=nnx.DiffState(0, diff or train))

    def attempted(seed, x, y, steps):
        def step(model, optimizer):
            optimizer.update(model, grad(model, x, y))

        step = given.get("compile", lambda step: step)(step)
        model, start = two_towers(seed, x, y, kind)
        optimizer = nnx.Optimizer(model, tx, wrt=wrt or train)
        for _ in range(int(steps)):
            step(model, optimizer)
        return moves(start, model, size)

    attempted.__name__ = name
    return attempted


class Stopped(Tower):
    def __call__(self, x):
        return self.head(jax.lax.stop_gradient(nnx.tanh(self.body(x))))


class Normed(Tower):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.body = nnx.Sequential(self.body, nnx.BatchNorm(4, rngs=rngs))


def steps_by_hand(seed, x, y, steps):
    model, start = two_towers(seed, x, y)
    grad = nnx.grad(mean_squared_error, argnums=nnx.DiffState(0, HEAD))
    for _ in range(int(steps)):
        head, grads = nnx.state(model, HEAD), grad(model, x, y)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, head, grads))
    return moves(start, model)


def formula_with_assert(*inputs):
    measured, right = freeze(*inputs), steps_by_hand(*inputs)
    assert jnp.allclose(measured, right, atol=1e-5)
    return right


def zero_by_hand(*inputs):
    return jnp.array([0.0, freeze(*inputs)[1]])


MISTAKES = {
    attempt("everything_trained", train=nnx.Param): (
        "The body trains too: filter the head by its path."
    ),
    attempt("filter_in_the_gradient_alone", wrt=nnx.Param): (
        "Give the optimizer's `wrt` the same filter."
    ),
    attempt("filter_in_the_optimizer_alone", diff=nnx.Param): (
        "Give `nnx.DiffState` the same filter, or compile the whole step."
    ),
    attempt("zero_gradients", kind=Stopped, train=nnx.Param): (
        "The body does stay, but the optimizer holds it: select the head by `wrt`."
    ),
    attempt("mistyped_path", train=nnx.PathContains("heads")): (
        "Nothing moved: the filter selects nothing, or `before` is the live state."
    ),
    attempt("and_weight_decay", kind=Stopped, train=nnx.Param, tx=optax.adamw(0.1)): (
        "A gradient of zero does not stop weight decay: select by `wrt`, use SGD."
    ),
    attempt("norm_in_the_body", kind=Normed): (
        "No batch norm: its statistics move in train mode."
    ),
    attempt("sum_of_squares", loss=lambda m, x, y: ((m(x) - y) ** 2).sum()): (
        "The loss is the mean of the squares, not their sum."
    ),
    attempt("kernels_alone", size=lambda part: jnp.abs(part["kernel"]).max()): (
        "The biases count too: they may move farthest."
    ),
    attempt("sign_kept", size=lambda part: max(x.max() for x in part.values())): (
        "Take the absolute value before the maximum."
    ),
    steps_by_hand: "Let `nnx.Optimizer` take the steps, not a formula.",
    formula_with_assert: "Measure how far the optimizer moves the head.",
    zero_by_hand: "Measure how far the body moved: write no zero.",
}


def optimizer_of_the_head(seed, x, y, steps):
    model, start = two_towers(seed, x, y)
    features = jnp.tanh(model.body(x))
    optimizer = nnx.Optimizer(model.head, optax.sgd(0.1), wrt=nnx.Param)
    grad = nnx.grad(lambda head: ((head(features) - y) ** 2).mean())
    for _ in range(int(steps)):
        optimizer.update(grads=grad(model.head), model=model.head)
    answer = moves(start, model)
    assert answer[0] == 0
    return np.asarray(answer)


ALSO_RIGHT = [
    attempt("compiled", compile=nnx.jit),
    attempt("wrt_alone_compiled", diff=nnx.Param, compile=nnx.jit),
    attempt("predicate", train=lambda path, value: "head" in path),
    optimizer_of_the_head,
]
