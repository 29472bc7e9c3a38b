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
from unittest.mock import patch

INPUTS = [  # seed, x, y, steps
    (0.0, jnp.array([[1.0, 2], [-1, 0.5]]), jnp.array([[-1.0], [1]]), 2.0),
    (7.0, jnp.array([[1.5, 0, -2], [0, 1, 0.5]]), jnp.array([[1.0, 0], [0.5, 2]]), 1.0),
]


def expected_moves(seed, x, y, steps):
    """Return the two distances, from gradients written out by hand."""
    tower = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))
    features = jnp.tanh(x @ tower.body.kernel[...])  # the biases begin at zero
    kernel, bias = start = tower.head.kernel[...], tower.head.bias[...]
    for _ in range(int(steps)):
        error = 2 * (features @ kernel + bias - y) / y.size
        kernel, bias = kernel - 0.1 * features.T @ error, bias - 0.1 * error.sum(0)
    moves = [jnp.abs(kernel - start[0]).max(), jnp.abs(bias - start[1]).max()]
    return jnp.array([0.0, max(moves)])


def missing_idea(candidate, inputs):
    """Return what the two numbers do not come from, or None."""
    init, update, calls, moved = nnx.Linear.__init__, nnx.Optimizer.update, [], []

    def is_body(layer):
        return isinstance(layer, nnx.Linear) and layer.out_features == 4

    def moving(self, model, grads, **options):  # each update moves the body by 1
        held = nnx.state(model, self.wrt)
        calls.append((len(jax.tree.leaves(held)), len(jax.tree.leaves(grads))))
        updates = update(self, model, grads, **options)
        for layer in [m for _, m in nnx.iter_modules(model) if is_body(m)]:
            layer.kernel[...] += 1.0
            moved.append(layer)
        return updates

    def broken(self, *args, **options):  # begins with a body that is not a number
        init(self, *args, **options)
        if is_body(self):
            self.kernel[...] *= jnp.nan
            self.bias[...] *= jnp.nan

    def body_and_head(owner, name, patched):
        with patch.object(owner, name, patched), jax.disable_jit():
            try:
                return jnp.asarray(candidate(*inputs))
            except Exception:  # the candidate checks its numbers itself
                return jnp.full(2, jnp.inf)

    body, _ = body_and_head(nnx.Optimizer, "update", moving)
    held, taken = calls[-1] if calls else (0, 0)
    if not calls:
        return "no nnx.Optimizer takes the steps: call its update"
    if held != 2:
        return f"the optimizer holds {held} arrays, and the head has 2"
    if taken != 2:
        return f"the gradient has {taken} arrays, and the head has 2"
    if not moved:  # the optimizer saw the head alone
        body, head = body_and_head(nnx.Linear, "__init__", broken)
        body = jnp.where(jnp.isnan(head) & ~jnp.isnan(body), 0.0, jnp.inf)
    if not body > 0.5:
        return "the first number stays 0 when the body of your model moves"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, y, steps in inputs:
        answer, wrong, hint = candidate(seed, x, y, steps), None, None
        moves = expected_moves(seed, x, y, steps)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if (shape := getattr(answer, "shape", type(answer).__name__)) != (2,):
            wrong, hint = f"an array of shape (2,), not {shape}", "use `jnp.array`"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif answer[0] != 0:
            wrong, hint = f"{moves}, the body exactly 0", "let the head train alone"
        elif not jnp.isclose(answer[1], moves[1], atol=1e-5):
            wrong = moves
        if wrong is not None:
            arrays = f"jnp.array({x.tolist()}), jnp.array({y.tolist()})"
            call = f"{candidate.__name__}({seed}, {arrays}, {steps})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    # the head's bias moves farthest
    (3.0, jnp.array([[0.25, -0.5, 1], [0.5, 1, -1]]), jnp.full((2, 1), 2.5), 3.0),
    # the head's farthest move is downwards
    (11.0, jnp.array([[2.5, -1.5], [-2, 1]]), jnp.array([[-3, 0.5], [2, -0.5]]), 1.0),
]
HEAD = nnx.All(nnx.Param, nnx.PathContains("head"))
RULES = {"train": optax.sgd(0.1), "freeze": optax.set_to_zero()}


def tower(seed, x, y, kind=Tower):
    """Return the model that the exercise asks for."""
    return kind(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(int(seed)))


def train(model, x, y, steps, **options):
    """Return the state before and after training, as pure dicts."""
    given = {"tx": optax.sgd(0.1), "wrt": HEAD, "diff": HEAD, **options}
    optimizer = nnx.Optimizer(model, given["tx"], wrt=given["wrt"])
    loss = given.get("loss", mean_squared_error)
    grad = nnx.grad(loss, argnums=nnx.DiffState(0, given["diff"]))
    before = nnx.to_pure_dict(nnx.state(model))
    for _ in range(int(steps)):
        optimizer.update(model, grad(model, x, y))
    return before, nnx.to_pure_dict(nnx.state(model))


def largest(changes):
    return max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(changes))


def moves(before, after, size=largest):
    changes = jax.tree.map(lambda a, b: a - b, after, before)
    return jnp.array([size(changes["body"]), size(changes["head"])])


def solve(seed, x, y, steps, kind=Tower, size=largest, **options):
    """Return the answer of a solution that differs in its options."""
    return moves(*train(tower(seed, x, y, kind), x, y, steps, **options), size)


def stopped(model, x, y):
    h = jax.lax.stop_gradient(nnx.tanh(model.body(x)))
    return ((model.head(h) - y) ** 2).mean()


def everything_trained(*inputs):
    return solve(*inputs, wrt=nnx.Param, diff=nnx.Param)


def body_trained(*inputs):
    body = nnx.All(nnx.Param, nnx.PathContains("body"))
    return solve(*inputs, wrt=body, diff=body)


def filter_in_the_gradient_alone(*inputs):
    return solve(*inputs, wrt=nnx.Param)


def filter_in_the_optimizer_alone(*inputs):
    return solve(*inputs, diff=nnx.Param)


def labels_in_a_dict(*inputs):
    tx = optax.partition(RULES, {"body": "freeze", "head": "train"})
    return solve(*inputs, tx=tx, wrt=nnx.Param, diff=nnx.Param)


def labels_in_a_state(*inputs):
    tx = optax.partition(RULES, nnx.State({"body": "freeze", "head": "train"}))
    return solve(*inputs, tx=tx, wrt=nnx.Param, diff=nnx.Param)


def mistyped_path(*inputs):
    head = nnx.All(nnx.Param, nnx.PathContains("heads"))
    return solve(*inputs, wrt=head, diff=head)


def zero_gradients_and_decay(*inputs):
    tx = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
    return solve(*inputs, tx=tx, loss=stopped, wrt=nnx.Param, diff=nnx.Param)


def norm_in_the_body(*inputs):
    class Normed(Tower):
        def __init__(self, in_features, out_features, rngs):
            super().__init__(in_features, out_features, rngs)
            self.body = nnx.Sequential(self.body, nnx.BatchNorm(4, rngs=rngs))

    return solve(*inputs, kind=Normed)


def sum_of_squares(*inputs):
    return solve(*inputs, loss=lambda m, x, y: ((m(x) - y) ** 2).sum())


def seed_zero(seed, *inputs):
    return freeze(0, *inputs)


def seed_as_float(seed, x, y, steps):
    return Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))


def steps_as_float(seed, x, y, steps):
    return [mean_squared_error(tower(seed, x, y), x, y) for _ in range(steps)]


def one_step(seed, x, y, steps):
    return freeze(seed, x, y, 1)


def kernels_alone(*inputs):
    return solve(*inputs, size=lambda part: jnp.abs(part["kernel"]).max())


def sign_kept(*inputs):
    return solve(*inputs, size=lambda part: max(x.max() for x in part.values()))


def head_before_body(*inputs):
    return freeze(*inputs)[::-1]


def numbers_of_the_page(seed, x, y, steps):
    known = {str(inputs[1]): freeze(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.array([0.0, 1.0]))


def formula_by_hand(*inputs):
    return expected_moves(*inputs)


def zero_by_hand(*inputs):
    return jnp.array([0.0, freeze(*inputs)[1]])


MISTAKES = {
    everything_trained: "The body trains too: filter the head by its path.",
    body_trained: "The filter is inverted: it must select the head.",
    filter_in_the_gradient_alone: "Give the optimizer's `wrt` the same filter.",
    filter_in_the_optimizer_alone: "Give `nnx.DiffState` the same filter.",
    labels_in_a_dict: "A dict of labels is Linen's: select the head by `wrt`.",
    labels_in_a_state: (
        "The body does stay, but its gradient is taken: use one filter, in `wrt` and "
        "in `nnx.DiffState`."
    ),
    mistyped_path: (
        "Nothing moved: the filter selects nothing (is the name right?), or `before` "
        "is the live state."
    ),
    zero_gradients_and_decay: (
        "A gradient of zero does not stop weight decay: select by `wrt`, use SGD."
    ),
    norm_in_the_body: "No batch norm: its statistics move in train mode.",
    sum_of_squares: "The loss is the mean of the squares, not their sum.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    seed_as_float: "Cast the seed with `int`: `nnx.Rngs` takes no float.",
    steps_as_float: "Cast the steps with `int`: `range` takes no float.",
    one_step: "Take `int(steps)` steps, however many that are.",
    kernels_alone: "The biases count too: they may move farthest.",
    sign_kept: "Take the absolute value before the maximum.",
    head_before_body: "The body's move comes first, then the head's.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    formula_by_hand: "Let `nnx.Optimizer` take the steps, not a formula.",
    zero_by_hand: "Measure how far the body moved: write no zero.",
}


def with_a_predicate(seed, x, y, steps):
    def head(path, value):
        return "head" in path and isinstance(value, nnx.Param)

    answer = solve(seed, x, y, steps, wrt=head, diff=head)
    assert answer[0] == 0
    return np.asarray(answer)


def with_a_type(seed, x, y, steps):
    class Trained(nnx.Param):
        pass

    model = tower(seed, x, y)
    for name in ("kernel", "bias"):
        setattr(model.head, name, Trained(getattr(model.head, name)[...]))
    return moves(*train(model, x, y, steps, wrt=Trained, diff=Trained))


def optimizer_of_the_head(seed, x, y, steps):
    model, start = tower(seed, x, y), tower(seed, x, y)
    optimizer = nnx.Optimizer(model.head, optax.sgd(0.1), wrt=nnx.Param)

    def loss(head):
        return jnp.mean((head(jnp.tanh(model.body(x))) - y) ** 2)

    for _ in range(int(steps)):
        optimizer.update(model.head, nnx.grad(loss)(model.head))
    states = [nnx.to_pure_dict(nnx.state(m)) for m in (start, model)]
    change = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), *states)
    return jnp.stack([jnp.stack([*c.values()]).max() for c in change.values()])


@nnx.jit
def train_step(model, optimizer, x, y):
    grad = nnx.value_and_grad(mean_squared_error, argnums=nnx.DiffState(0, HEAD))
    loss, grads = grad(model, x, y)
    optimizer.update(model, grads)
    return loss


def jitted(seed, x, y, steps):
    model = tower(seed, x, y)
    start = nnx.clone(model)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=HEAD)
    for _ in range(int(steps)):
        train_step(model, optimizer, x, y)
    return moves(*(nnx.to_pure_dict(nnx.state(m)) for m in (start, model)))


def merged(seed, x, y, steps):
    model = tower(seed, x, y)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=HEAD)
    before = nnx.to_pure_dict(nnx.state(model))
    for _ in range(int(steps)):
        graphdef, head, rest = nnx.split(model, HEAD, ...)

        def loss(head, graphdef=graphdef, rest=rest):
            return mean_squared_error(nnx.merge(graphdef, head, rest), x, y)

        optimizer.update(model, jax.grad(loss)(head))
    return moves(before, nnx.to_pure_dict(nnx.state(model)))


ALSO_RIGHT = [with_a_predicate, with_a_type, optimizer_of_the_head, jitted, merged]
