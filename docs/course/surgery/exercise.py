"""The exercise of "Model surgery": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Tower(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(in_features, 4, rngs=rngs)
        self.second = nnx.Linear(4, 4, rngs=rngs)
        self.out = nnx.Linear(4, out_features, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        return self.out(nnx.tanh(self.second(nnx.tanh(self.first(x)))))


rule = optax.sgd(0.1, momentum=0.9)


@nnx.jit
def train_step(model, optimizer, x, y):
    grads = nnx.grad(lambda model: ((model(x) - y) ** 2).mean())(model)
    optimizer.update(model, grads)
    # --8<-- [end:model]


# --8<-- [start:stub]
class Residual(nnx.Module):
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):  # x[batch, features]
        return x + self.layer(x)


def deepen(seed, x, y, before, after):
    """Return the predictions for x in the end, shaped like y.

    Args:
      seed: seed of `nnx.Rngs` for the `Tower`, an integer.
      x: inputs, shape (batch, in_features), float32.
      y: targets, shape (batch, out_features), float32.
      before: number of steps before `second` is wrapped, an integer.
      after: number of steps after that, an integer.
    """
    # --8<-- [end:stub]
    model = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    for _ in range(before):
        train_step(model, optimizer, x, y)
    model.second = Residual(model.second)
    kept = nnx.to_pure_dict(nnx.state(optimizer))
    averages = kept["opt_state"][0]["trace"]
    averages["second"] = {"layer": averages["second"]}  # the path in the new model
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    nnx.update(optimizer, kept)
    for _ in range(after):
        train_step(model, optimizer, x, y)
    return model(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    a, b = jnp.array([[1.0, 2.0], [-1.0, 0.5]]), jnp.array([[-1.0], [1.0]])
    for seed, x, y, before, after in [(0, a, b, 2, 2), (7, -a, b, 1, 2), *more]:
        answer = candidate(seed, x, y, before, after)
        tower = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
        w = jax.tree.leaves(nnx.state(tower))

        def loss(w, skip, x=x, y=y):  # w: bias and kernel of first, out, second
            hidden = jnp.tanh(x @ w[1] + w[0])
            right = jnp.tanh(hidden @ w[5] + w[4] + skip * hidden) @ w[3] + w[2]
            return ((right - y) ** 2).mean(), right

        moves = rule.init(w)
        for skip in [0] * before + [1] * after:
            moves = rule.update(jax.grad(loss, has_aux=True)(w, skip)[0], moves)[1]
            w = [one - 0.1 * move for one, move in zip(w, moves[0].trace, strict=True)]
        right, got = loss(w, 1)[1], getattr(answer, "shape", None)
        if got != y.shape or not jnp.allclose(answer, right, atol=1e-4):
            said = f"expected: {jnp.array_str(right, 99, 3)}\n  got:      {answer}"
            return f"{candidate.__name__}({seed}, x, y, {before}, {after})\n  {said}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

ROWS = jnp.array([[1.0, 0.0, 2.0], [0.5, -1.0, 1.0]])
HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3, ROWS, jnp.array([[1.0, -1.0], [0.0, 2.0]]), 2, 2),  # other sizes
    (5, ROWS[:, 1:], jnp.array([[1.0], [-2.0]]), 2, 3),  # three later steps
]


def idea(seen):
    """Return what a right answer lacks: updates of a model that is wrapped in time."""
    seed, x, y, before, after = seen.inputs
    widths = []

    def undone(call):  # an update, and back
        given = dict(zip(("model", "grads"), call.args, strict=False)) | call.kwargs
        model = given["model"]
        start = nnx.clone(nnx.state(model))
        widths.append(isinstance(getattr(model, "second", None), nnx.Linear))
        updates = call.proceed()
        nnx.update(model, start)
        return updates

    run = seen.run("each update is undone", calls={nnx.Optimizer.update: undone})
    if len(widths) < before + after:
        return f"nnx.Optimizer takes {len(widths)} steps of {before + after}"
    tower = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    tower.second = Residual(tower.second)
    if not seen.close(run.answer, tower(x)):
        return "the predictions do not follow the updates of the optimizer"


def attempt(
    name,
    seed=lambda seed: seed,
    in_features=lambda x: x.shape[-1],
    kind=Residual,
    carry=lambda kept: kept,
    tx=rule,
    first=lambda before: before,
    later=lambda after: after,
    end=lambda model, x: model(x),
):
    """Return the attempt of a learner whose solution differs in its options."""

    def attempted(number, x, y, before, after):
        model = Tower(in_features(x), y.shape[-1], rngs=nnx.Rngs(seed(number)))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(first(before)):
            train_step(model, optimizer, x, y)
        kept = nnx.to_pure_dict(nnx.state(optimizer))
        model.second = kind(model.second)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        if isinstance(model.second, Residual) and tx is rule:
            averages = kept["opt_state"][0]["trace"]
            averages["second"] = {"layer": averages["second"]}
        nnx.update(optimizer, carry(kept))
        for _ in range(later(after)):
            train_step(model, optimizer, x, y)
        return end(model, x)

    attempted.__name__ = name
    return attempted


def without(*names):
    def carry(kept):
        for name in names:
            kept["opt_state"][0]["trace"].pop(name)
        return kept

    return carry


def old_paths(seed, x, y, before, after):
    model = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    for _ in range(before):
        train_step(model, optimizer, x, y)
    model.second = Residual(model.second)
    for _ in range(after):
        train_step(model, optimizer, x, y)
    return model(x)


class Doubled(Residual):
    def __call__(self, x):
        return 2 * self.layer(x)


def new_layer(layer):
    return Residual(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))


def by_formula(seed, x, y, before, after):
    tower = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    graphdef, state = nnx.split(tower)
    averages = rule.init(state)
    for wrapped in [False] * before + [True] * after:

        def loss(state, wrapped=wrapped):
            model = nnx.merge(graphdef, state, copy=True)
            model.second = Residual(model.second) if wrapped else model.second
            return ((model(x) - y) ** 2).mean()

        updates, averages = rule.update(jax.grad(loss)(state), averages)
        state = optax.apply_updates(state, updates)
    model = nnx.merge(graphdef, state)
    model.second = Residual(model.second)
    return model(x)


MISTAKES = {
    attempt("all_from_zero", carry=lambda kept: {"step": kept["step"]}): (
        "The averages of all layers go on: write them into the new optimizer."
    ),
    attempt("second_from_zero", carry=without("second")): (
        "The averages of `second` go on too, under its new path."
    ),
    attempt("second_alone", carry=without("first", "out")): (
        "The averages of `first` and `out` go on too."
    ),
    old_paths: "The old optimizer does not fit the new paths: build another.",
    attempt("not_wrapped", kind=lambda layer: layer): "Wrap `second` in `Residual`.",
    attempt("new_layer", kind=new_layer): "Wrap the trained layer, not a new one.",
    attempt("doubled", kind=Doubled): "The wrapper adds its input to the output.",
    attempt("no_step_before", first=lambda before: 0): "Train before you wrap, too.",
    attempt("one_step_less", later=lambda after: after - 1): "Take all later steps.",
    attempt("two_later_steps", later=lambda after: 2): (
        "Take as many later steps as the argument says."
    ),
    attempt("two_inputs", in_features=lambda x: 2): "Read the sizes from x and y.",
    attempt("seed_zero", seed=lambda seed: 0): "The seed is ignored.",
    attempt("inner_layer", end=lambda m, x: m.out(nnx.tanh(m.first(x)))): (
        "Return what the whole model predicts."
    ),
    by_formula: "Let `nnx.Optimizer` take the steps.",
}


def by_attributes(seed, x, y, before, after):
    model = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    old = nnx.Optimizer(model, rule, wrt=nnx.Param)
    for _ in range(before):
        train_step(model, old, x, y)
    model.second = Residual(model.second)
    new = nnx.Optimizer(model, rule, wrt=nnx.Param)
    was, now = old.opt_state[0].trace, new.opt_state[0].trace
    for name in ("kernel", "bias"):
        now["second"]["layer"][name][...] = was["second"][name][...]
        now["first"][name][...] = was["first"][name][...]
        now["out"][name][...] = was["out"][name][...]
    for _ in range(after):
        train_step(model, new, x, y)
    return model(x)


def by_map(seed, x, y, before, after):
    model = Tower(x.shape[-1], y.shape[-1], rngs=nnx.Rngs(seed))
    old = nnx.Optimizer(model, rule, wrt=nnx.Param)
    for _ in range(before):
        train_step(model, old, x, y)
    model = nnx.recursive_map(
        lambda path, node: Residual(node) if path == ("second",) else node, model
    )
    new = nnx.Optimizer(model, rule, wrt=nnx.Param)
    nnx.update(new, nnx.state(old, nnx.Not(nnx.PathContains("second"))))
    moved = nnx.to_pure_dict(nnx.state(old.opt_state[0].trace["second"]))
    nnx.update(new.opt_state[0].trace["second"], {"layer": moved})
    for _ in range(after):
        train_step(model, new, x, y)
    return model(x)


ALSO_RIGHT = [by_attributes, by_map, attempt("options")]
