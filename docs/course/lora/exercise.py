"""The exercise of "LoRA": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:model]
class Tower(nnx.Module):
    def __init__(self, in_features, features, out_features, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(in_features, features, rngs=rngs)
        self.second = nnx.Linear(features, features, rngs=rngs)
        self.out = nnx.Linear(features, out_features, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        return self.out(nnx.tanh(self.second(nnx.tanh(self.first(x)))))


def mean_squared_error(model, x, y):  # y[batch, out_features]
    return ((model(x) - y) ** 2).mean()


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(mean_squared_error)(model, x, y)
    optimizer.update(model, grads)
    return loss
    # --8<-- [end:model]


# --8<-- [start:adapt]
def adapt(model, rank, rngs):
    """Return a model with an adapter around each nnx.Linear; Variables are shared."""

    def wrap(path, node):
        if isinstance(node, nnx.Linear):
            sizes = node.in_features, rank, node.out_features
            return nnx.LoRA(*sizes, base_module=node, rngs=rngs)
        return node

    return nnx.recursive_map(wrap, model)
    # --8<-- [end:adapt]


# --8<-- [start:stub]
rule = optax.adam(0.1)


def specialise(weights, x, targets, rank, steps):
    """Return the merged kernel of `out` for each task, stacked along axis 0.

    Args:
      weights: of a trained `Tower`, as `nnx.to_pure_dict` gives them.
      x: inputs, shape (batch, in_features), float32.
      targets: of all tasks, shape (tasks, batch, out_features), float32.
      rank: of the adapters, an integer.
      steps: number of steps for each task, an integer.
    """
    # --8<-- [end:stub]
    in_features, features = weights["first"]["kernel"].shape
    tower = Tower(in_features, features, targets.shape[-1], rngs=nnx.Rngs(0))
    nnx.update(tower, weights)
    kernels = []
    for y in targets:
        adapted = adapt(tower, rank, nnx.Rngs(0))  # new adapters on the same base
        optimizer = nnx.Optimizer(adapted, rule, wrt=nnx.LoRAParam)
        for _ in range(steps):
            train_step(adapted, optimizer, x, y)
        out = adapted.out
        kernels.append(out.base_module.kernel + out.lora_a @ out.lora_b)
    return jnp.stack(kernels)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    a, b = jnp.array([[1.0, 2], [-1, 0.5]]), jnp.array([[[1.0], [-1]], [[-2], [1]]])
    w = nnx.to_pure_dict(nnx.state(Tower(2, 3, 1, rngs=nnx.Rngs(1))))
    for weights, x, y, rank, steps in [(w, a, b, 1, 2), (w, -a, b, 2, 1), *more]:
        answer, added = candidate(weights, x, y, rank, steps), []
        sizes = *weights["first"]["kernel"].shape, y.shape[-1]
        for task in y:
            model = adapt(Tower(*sizes, rngs=nnx.Rngs(1)), rank, nnx.Rngs(0))
            nnx.update(model, {k: {"base_module": v} for k, v in weights.items()})
            optimizer = nnx.Optimizer(model, rule, wrt=nnx.LoRAParam)
            for _ in range(steps):
                train_step(model, optimizer, x, task)
            added.append(model.out.lora_a @ model.out.lora_b)
        right = weights["out"]["kernel"] + jnp.array(added)
        got = getattr(answer, "shape", None)
        if got != right.shape or not jnp.allclose(answer, right, atol=1e-4):
            said = f"expected: {jnp.array_str(right, 99, 2)}\n  got:      {answer}"
            return f"{candidate.__name__}(w, x, y, {rank}, {steps})\n  {said}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.


def numbers(*shape):
    return jnp.sin(1 + jnp.arange(int(jnp.prod(jnp.array(shape))))).reshape(shape)


def dense(*shape):
    return {"kernel": numbers(*shape), "bias": numbers(shape[-1])}


def trained(in_features, features, out_features):
    """Return weights with numbers of no pattern."""
    return {
        "first": dense(in_features, features),
        "second": dense(features, features),
        "out": dense(features, out_features),
    }


HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (trained(2, 3, 1), numbers(2, 2), numbers(3, 2, 1), 1, 2),  # three tasks
    (trained(3, 4, 2), numbers(2, 3), numbers(2, 2, 2), 2, 3),  # other sizes
]


def idea(seen):
    """Return what a right answer lacks: updates that move the adapters alone."""
    moved, adapters = [], []

    def frozen(model):
        found = seen.state(model)
        kept = {p: v for p, v in found.items() if not issubclass(v[0], nnx.LoRAParam)}
        return type(found)(kept)

    def undone(call):  # an update, and back
        given = dict(zip(("model", "grads"), call.args, strict=False)) | call.kwargs
        model = given["model"]
        before, start = frozen(model), nnx.clone(nnx.state(model))
        adapters.append(seen.state(model).of(nnx.LoRAParam))
        updates = call.proceed()
        moved.append(not before.same(frozen(model)))
        nnx.update(model, start)
        return updates

    run = seen.run("each update is undone", calls={nnx.Optimizer.update: undone})
    if not moved:
        return "no nnx.Optimizer takes the steps"
    if not all(adapters):
        return "the optimizer gets a model without any nnx.LoRAParam"
    if any(moved):
        return "the optimizer moves the base: let it train the adapters alone"
    weights, _, targets, *_ = seen.inputs
    if not seen.close(run.answer, jnp.stack([weights["out"]["kernel"]] * len(targets))):
        return "the kernels do not follow the updates of the optimizer"


def tower_of(weights, out_features):
    sizes = weights["first"]["kernel"].shape
    tower = Tower(*sizes, out_features, rngs=nnx.Rngs(0))
    nnx.update(tower, weights)
    return tower


def merged(layer):
    return layer.base_module.kernel + layer.lora_a @ layer.lora_b


def attempt(
    name,
    wrt=nnx.LoRAParam,
    tx=lambda: rule,
    seed=lambda task: 0,
    keep=lambda task: False,
    tasks=lambda targets: targets,
    count=lambda steps: steps,
    sizes=lambda rank: rank,
    wrap=adapt,
    base=tower_of,
    end=lambda model: merged(model.out),
    stack=jnp.stack,
):
    """Return the attempt of a learner whose solution differs in its options."""

    def attempted(weights, x, targets, rank, steps):
        tower, kernels, model = base(weights, targets.shape[-1]), [], None
        for task, y in enumerate(tasks(targets)):
            if model is None or not keep(task):
                model = wrap(tower, sizes(rank), nnx.Rngs(seed(task)))
                optimizer = nnx.Optimizer(model, tx(), wrt=wrt)
            for _ in range(count(steps)):
                train_step(model, optimizer, x, y)
            kernels.append(end(model))
        return stack(kernels)

    attempted.__name__ = name
    return attempted


def untrained(weights, out_features):
    return Tower(*weights["first"]["kernel"].shape, out_features, rngs=nnx.Rngs(0))


def filled_after(tower, rank, rngs):
    weights = nnx.to_pure_dict(nnx.state(tower))
    model = adapt(untrained(weights, weights["out"]["bias"].size), rank, rngs)
    nnx.update(model, weights)
    return model


def out_alone(tower, rank, rngs):
    model = adapt(tower, rank, rngs)
    model.first, model.second = tower.first, tower.second
    return model


def merged_in_place(model):
    model.out.base_module.kernel[...] = merged(model.out)
    return jnp.copy(model.out.base_module.kernel[...])


def without_base(weights, x, targets, rank, steps):
    answer = specialise(weights, x, targets, rank, steps)
    return answer - weights["out"]["kernel"]


def by_hand(weights, x, targets, rank, steps):
    tower = tower_of(weights, targets.shape[-1])
    kernels = []
    for y in targets:
        model = adapt(tower, rank, nnx.Rngs(0))
        lora = nnx.state(model, nnx.LoRAParam)
        averages = rule.init(lora)
        for _ in range(steps):
            grads = nnx.state(nnx.grad(mean_squared_error)(model, x, y), nnx.LoRAParam)
            updates, averages = rule.update(grads, averages)
            lora = optax.apply_updates(lora, updates)
            nnx.update(model, lora)
        kernels.append(merged(model.out))
    return jnp.stack(kernels)


MISTAKES = {
    attempt("everything_trained", wrt=nnx.Param): (
        "The base trains too: `wrt=nnx.LoRAParam` leaves it out."
    ),
    attempt("adapters_kept", keep=lambda task: True): (
        "Each task begins with new adapters and new averages."
    ),
    attempt("first_two_alone", keep=lambda task: task > 1): (
        "There may be any number of tasks, and each begins anew."
    ),
    attempt("other_seeds", seed=lambda task: task): (
        "Begin each task with adapters from `nnx.Rngs(0)`."
    ),
    attempt("filled_after_wrapping", wrap=filled_after): (
        "Fill the tower, then wrap it: the wrappers move the paths."
    ),
    attempt("out_alone", wrap=out_alone): "All three layers have adapters.",
    attempt("rank_one", sizes=lambda rank: 1): "Take the rank that is given.",
    attempt("merged_in_place", end=merged_in_place): (
        "Do not merge into the base: the next task begins with it."
    ),
    attempt("not_merged", end=lambda model: model.out.base_module.kernel[...]): (
        "Add the product of the adapters to the kernel."
    ),
    without_base: "Add the base kernel to the product of the adapters.",
    attempt("another_layer", end=lambda model: merged(model.second)): (
        "The kernel of `out` is asked for."
    ),
    attempt("one_step_less", count=lambda steps: steps - 1): "Take all the steps.",
    attempt("one_output", base=lambda w, n: tower_of(w, 1)): (
        "Read the number of outputs from the targets."
    ),
    attempt("joined", stack=jnp.concatenate): "Stack the kernels along a new axis 0.",
    attempt("backwards", tasks=lambda targets: targets[::-1]): (
        "Take the tasks in their order."
    ),
    by_hand: "Let `nnx.Optimizer` take the steps.",
}


class Wrapped(nnx.Module):
    def __init__(self, tower, rank, rngs):
        self.tower = nnx.clone(tower)
        self.tower.first = self.around(tower.first, rank, rngs)
        self.tower.out = self.around(tower.out, rank, rngs)
        self.tower.second = self.around(tower.second, rank, rngs)

    def around(self, layer, rank, rngs):
        sizes = layer.in_features, rank, layer.out_features
        return nnx.LoRA(*sizes, base_module=layer, rngs=rngs)

    def __call__(self, x):
        return self.tower(x)


def reset(weights, x, targets, rank, steps):
    model = adapt(tower_of(weights, targets.shape[-1]), rank, nnx.Rngs(0))
    start, kernels = nnx.to_pure_dict(nnx.state(model, nnx.LoRAParam)), []
    for y in targets:
        nnx.update(model, start)
        optimizer = nnx.Optimizer(model, rule, wrt=nnx.LoRAParam)
        for _ in range(steps):
            train_step(model, optimizer, x, y)
        kernels.append(merged(model.out))
    return jnp.array(kernels)


ALSO_RIGHT = [
    reset,
    attempt("one_module", wrap=Wrapped, end=lambda model: merged(model.tower.out)),
    attempt("by_path", wrt=lambda path, _: path[-1] in ("lora_a", "lora_b")),
]
