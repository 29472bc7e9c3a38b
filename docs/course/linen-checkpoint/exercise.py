"""The exercise of "Linen checkpoint": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:linen]
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx, serialization
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict


class State(TrainState):
    batch_stats: Any


def linen_state(variables, tx):
    parts = {name: variables.get(name, {}) for name in ("params", "batch_stats")}
    return State.create(apply_fn=None, tx=tx, **parts)


def variables_of(state):
    return {"params": state.params, "batch_stats": state.batch_stats}


@jax.jit(static_argnums=0)
def linen_step(model, state, x, y):
    def loss_of(params):
        variables = {**variables_of(state), "params": params}
        predicted, new = model.apply(variables, x, True, mutable=["batch_stats"])
        return ((predicted - y) ** 2).mean(), new

    (loss, new), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, **new), loss
    # --8<-- [end:linen]


# --8<-- [start:load]
def load(model, optimizer, saved, names):
    """Write Linen's training state into NNX's, and return the number of arrays.

    Args:
      model: its parameters and batch statistics are written, its streams are not.
      optimizer: an `nnx.Optimizer` with the transformation that Linen used.
      saved: what the file holds, nested dicts and lists of arrays.
      names: path of a layer in NNX, such as "body/0", by that in Linen.
    """
    kinds = nnx.Param, nnx.BatchStat, nnx.RngState
    _, params, stats, _ = nnx.split(model, *kinds)
    parts = {"params/": params, "batch_stats/": stats, "": nnx.state(optimizer)}
    wanted, found = {}, {}
    for prefix, part in parts.items():
        for path, variable in nnx.to_flat_state(part):
            wanted[prefix + "/".join(map(str, path))] = variable
    flat = flatten_dict(serialization.to_state_dict(saved), sep="/")
    flat["step"] = jnp.uint32(flat["step"])  # the dtype of NNX
    for path, array in flat.items():
        if array is not None:
            found.setdefault(renamed(path, names), []).append(array)
    compare(wanted, found)
    for path, variable in wanted.items():
        variable.set_value(jnp.array(found[path][0]))
    return len(wanted)
    # --8<-- [end:load]


# --8<-- [start:compare]
def renamed(path, names):
    """Return a path in which the layer has its name of NNX, if the table has it."""
    *layer, name = path.split("/")
    for start in range(len(layer)):  # the longest name that fits
        if (linen := "/".join(layer[start:])) in names:
            return "/".join([*layer[:start], names[linen], name])
    return path


def compare(wanted, found):
    """Raise a ValueError that names what does not fit in path, shape or dtype."""

    def described(arrays):
        return " and ".join(f"{a.shape} {a.dtype}" for a in arrays) or "nothing"

    faults = []
    for path in sorted({*wanted, *found}):
        model = described([wanted[path]] if path in wanted else [])
        file = described(found.get(path, []))
        if model != file:
            faults.append(f"{path}: the model has {model}, the file {file}")
    if faults:
        raise ValueError("\n".join(faults))
    # --8<-- [end:compare]


# --8<-- [start:model]
class Block(nnx.Module):
    def __init__(self, in_features, features, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(in_features, features, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        return nnx.tanh(self.norm(self.linear(x)))


class Tower(nnx.Module):
    def __init__(self, in_features, features, depth, *, rngs: nnx.Rngs):
        widths = [in_features, *[features] * (depth - 1)]
        blocks = [Block(width, features, rngs=rngs) for width in widths]
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(features, 1, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        for block in self.blocks:
            x = block(x)
        return self.head(x)
        # --8<-- [end:model]


# --8<-- [start:linen_model]
class LinenBlock(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):  # x[batch, in_features]
        x = nn.Dense(self.features, use_bias=False)(x)
        return nn.tanh(nn.BatchNorm(not train, momentum=0.9)(x))


class LinenTower(nn.Module):
    features: int
    depth: int

    @nn.compact
    def __call__(self, x, train=False):  # x[batch, in_features]
        for _ in range(self.depth):
            x = LinenBlock(self.features)(x, train)
        return nn.Dense(1)(x)
        # --8<-- [end:linen_model]


# --8<-- [start:stub]
DECAYING = optax.adam(optax.exponential_decay(0.1, 2, 0.5))


def resumed(raw, x, y):
    """Return what a tower predicts for x after one more step, shape (batch, 1).

    Args:
      raw: bytes of msgpack, the `State` of a `LinenTower` trained with `DECAYING`.
      x: inputs of the step, shape (batch, in_features), float32.
      y: targets, shape (batch, 1), float32; the loss is the mean squared error.
    """
    # --8<-- [end:stub]
    saved = serialization.msgpack_restore(raw)
    depth, features = len(saved["batch_stats"]), saved["params"]["Dense_0"]["kernel"]
    names = {"Dense_0": "head"}
    for i in range(depth):
        names[f"LinenBlock_{i}/Dense_0"] = f"blocks/{i}/linear"
        names[f"LinenBlock_{i}/BatchNorm_0"] = f"blocks/{i}/norm"
    model = Tower(x.shape[1], len(features), depth, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, DECAYING, wrt=nnx.Param)
    load(model, optimizer, saved, names)
    grads = nnx.grad(lambda model: ((model(x) - y) ** 2).mean())(model)
    optimizer.update(model, grads)
    return nnx.view(model, use_running_average=True)(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    x, page = jnp.array([[1.0, 2, 3], [0.5, -1, 0], [2, 0, -1]]), []
    for seed in (1, 2):
        tower = LinenTower(4, 2)
        state = linen_state(tower.init(jax.random.key(seed), x), DECAYING)
        for _ in range(3):
            state, _ = linen_step(tower, state, x, x[:, :1])
        page.append((serialization.to_bytes(state), x, 1 - x[:, :1]))
    for raw, x, y in [*page, *more]:
        answer, saved = candidate(raw, x, y), serialization.msgpack_restore(raw)
        depth, last = len(saved["batch_stats"]), saved["params"]["Dense_0"]["kernel"]
        tower, state = LinenTower(len(last), depth), linen_state(saved, DECAYING)
        state = serialization.from_bytes(state, raw)
        right = tower.apply(variables_of(linen_step(tower, state, x, y)[0]), x)
        same = getattr(answer, "shape", None) == right.shape
        if not same or not jnp.allclose(answer, right, atol=1e-3):
            said = f"expected: {jnp.array_str(right, 99, 2)}\n  got:      {answer}"
            return f"{candidate.__name__}(raw, x, y), {depth} blocks\n  {said}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.


def written(features, depth, in_features):
    """Return the bytes of a state with numbers of no pattern, after three steps."""
    first = LinenTower(features, depth).init(
        jax.random.key(0), jnp.ones((1, in_features))
    )
    state = linen_state(first, DECAYING)

    def number(leaf):
        leaf = jnp.asarray(leaf)
        if not leaf.ndim:
            return jnp.array(3, leaf.dtype)
        return jnp.abs(jnp.sin(1 + jnp.arange(leaf.size))).reshape(leaf.shape)

    return serialization.to_bytes(jax.tree.map(number, state))


ROWS = jnp.array([[1.0, -2], [0.5, 1], [2, 0]])
HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (written(4, 3, 2), ROWS, ROWS[:, :1]),  # three blocks
    (written(2, 1, 2), ROWS, ROWS[:, 1:]),  # another width
]


def idea(seen):
    """Return what a right answer lacks: an optimizer that goes on from the file."""
    before = int(serialization.msgpack_restore(seen.inputs[0])["step"])

    def doubled(call):
        return 2 * call.proceed()

    def proceed(call):
        return call.proceed()

    run = seen.run(calls={nnx.Optimizer.update: proceed})
    updates = [c for c in run.calls_of("update") if isinstance(c.module, nnx.Optimizer)]
    if not updates:
        return "no nnx.Optimizer updates the tower"
    counted = int(updates[-1].after[("step",)][1])
    if counted != before + 1:
        return f"the optimizer counts {counted} steps, and the file {before}"
    found = seen.run("the norms return twice as much", calls={nnx.BatchNorm: doubled})
    if seen.close(found.answer, seen.answer):
        return "the answer does not follow what the norms of the tower return"


def table(depth):
    names = {"Dense_0": "head"}
    for i in range(depth):
        names[f"LinenBlock_{i}/Dense_0"] = f"blocks/{i}/linear"
        names[f"LinenBlock_{i}/BatchNorm_0"] = f"blocks/{i}/norm"
    return names


def same(saved, *_):
    return saved


def built(saved, x):
    depth, width = len(saved["batch_stats"]), len(saved["params"]["Dense_0"]["kernel"])
    model = Tower(x.shape[1], width, depth, rngs=nnx.Rngs(0))
    return model, nnx.Optimizer(model, DECAYING, wrt=nnx.Param)


def filled(saved, x, alter=same):
    model, optimizer = built(saved, x)
    altered = alter(saved, model)
    load(model, optimizer, altered, table(len(saved["batch_stats"])))
    return model, optimizer


def step(model, optimizer, x, y, loss=lambda model, x, y: ((model(x) - y) ** 2).mean()):
    optimizer.update(model, nnx.grad(loss)(model, x, y))


def evaluated(model, x):
    return nnx.view(model, use_running_average=True)(x)


def attempt(name, alter=same, take=step, show=evaluated, optimizer_of=None):
    """Return an attempt that does one step of the solution in another way."""

    def answer(raw, x, y):
        saved = serialization.msgpack_restore(raw)
        model, optimizer = filled(saved, x, alter)
        if optimizer_of:
            optimizer = optimizer_of(model, optimizer)
        take(model, optimizer, x, y)
        return show(model, x)

    answer.__name__ = name
    return answer


def new_optimizer(model, optimizer, tx=DECAYING):
    return nnx.Optimizer(model, tx, wrt=nnx.Param)


def constant_rate(model, optimizer):
    fresh = nnx.Optimizer(model, optax.adam(0.03), wrt=nnx.Param)
    nnx.update(fresh.opt_state[0], nnx.state(optimizer.opt_state[0]))
    return fresh


def new_statistics(saved, model):
    stats = saved["batch_stats"]
    fresh = {"mean": 0.0, "var": 1.0}
    for layer in stats:
        norm = stats[layer]["BatchNorm_0"]
        new = {k: jnp.full(v.shape, fresh[k], jnp.float32) for k, v in norm.items()}
        stats = {**stats, layer: {"BatchNorm_0": new}}
    return {**saved, "batch_stats": stats}


def count(which):
    """Return what lets one count begin anew."""

    def forgotten(saved, model):
        opt_state = {k: dict(part) for k, part in saved["opt_state"].items()}
        for one in which:
            opt_state[one]["count"] = jnp.array(0, jnp.int32)
        return {**saved, "opt_state": opt_state}

    return forgotten


def step_forgotten(saved, model):
    return {**saved, "step": 0}


def averages_swapped(saved, model):
    adam = saved["opt_state"]["0"]
    swapped = {**adam, "mu": adam["nu"], "nu": adam["mu"]}
    return {**saved, "opt_state": {**saved["opt_state"], "0": swapped}}


def no_step(model, optimizer, x, y):
    pass


def two_steps(model, optimizer, x, y):
    step(model, optimizer, x, y)
    step(model, optimizer, x, y)


def in_eval_mode(model, optimizer, x, y):
    view = nnx.view(model, use_running_average=True)
    optimizer.update(model, nnx.grad(lambda m: ((m(x) - y) ** 2).mean())(view))


def sum_of_squares(model, optimizer, x, y):
    step(model, optimizer, x, y, lambda model, x, y: ((model(x) - y) ** 2).sum())


def called_before(model, optimizer, x, y):
    model(x)
    step(model, optimizer, x, y)


def in_train_mode(model, x):
    return model(x)


def by_linen(raw, x, y):
    saved = serialization.msgpack_restore(raw)
    width, depth = len(saved["params"]["Dense_0"]["kernel"]), len(saved["batch_stats"])
    tower = LinenTower(width, depth)
    state = serialization.from_bytes(linen_state(saved, DECAYING), raw)
    state, _ = linen_step(tower, state, x, y)
    return tower.apply(variables_of(state), x)


def two_blocks(raw, x, y):
    saved = serialization.msgpack_restore(raw)
    depth = 1 + ("LinenBlock_1" in saved["params"])
    width = len(saved["params"]["Dense_0"]["kernel"])
    model = Tower(x.shape[1], width, depth, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, DECAYING, wrt=nnx.Param)
    load(model, optimizer, saved, table(depth))
    step(model, optimizer, x, y)
    return evaluated(model, x)


def four_features(raw, x, y):
    saved = serialization.msgpack_restore(raw)
    depth = len(saved["batch_stats"])
    model = Tower(x.shape[1], 4, depth, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, DECAYING, wrt=nnx.Param)
    load(model, optimizer, saved, table(depth))
    step(model, optimizer, x, y)
    return evaluated(model, x)


def no_table(raw, x, y):
    saved = serialization.msgpack_restore(raw)
    model, optimizer = built(saved, x)
    load(model, optimizer, saved, {})
    step(model, optimizer, x, y)
    return evaluated(model, x)


def not_loaded(raw, x, y):
    model, optimizer = built(serialization.msgpack_restore(raw), x)
    step(model, optimizer, x, y)
    return evaluated(model, x)


MISTAKES = {
    attempt("new_statistics", new_statistics): (
        "Load the statistics too: eval mode uses them."
    ),
    attempt("new_optimizer", optimizer_of=new_optimizer): (
        "The optimizer is new: load its averages and counts, too."
    ),
    attempt("constant_rate", optimizer_of=constant_rate): (
        "The learning rate falls: build the optimizer from `DECAYING`."
    ),
    attempt("adam_count_forgotten", count(["0"])): (
        "Adam's count begins anew: load `opt_state/0/count`."
    ),
    attempt("schedule_forgotten", count(["1"])): (
        "The schedule begins anew: load `opt_state/1/count`."
    ),
    attempt("step_forgotten", step_forgotten): (
        "The optimizer counts from zero: load `step` too."
    ),
    attempt("averages_swapped", averages_swapped): (
        "Two averages have changed places: `mu` is that of the gradients."
    ),
    attempt("no_step", take=no_step): "Take one step after loading.",
    attempt("two_steps", take=two_steps): "Take one step, not two.",
    attempt("step_in_eval_mode", take=in_eval_mode): (
        "The step is one in train mode, which uses the batch and moves the statistics."
    ),
    attempt("sum_of_squares", take=sum_of_squares): (
        "The loss is the mean of the squared errors, not their sum."
    ),
    attempt("called_before", take=called_before): (
        "A call in train mode moves the statistics: make none but that of the step."
    ),
    attempt("shown_in_train_mode", show=in_train_mode): (
        "Return what the tower predicts in eval mode."
    ),
    by_linen: "Take the step in NNX, from the tower and an `nnx.Optimizer`.",
    two_blocks: "There may be more than two blocks: count them in the file.",
    four_features: "Read the width from the file.",
    no_table: "Linen's names are not those of the tower: write the table.",
    not_loaded: "The tower has random weights: load the file.",
}


@nnx.jit
def compiled_step(model, optimizer, x, y):
    step(model, optimizer, x, y)


def abstract_first(raw, x, y):
    saved = serialization.msgpack_restore(raw)
    model, optimizer = nnx.eval_shape(lambda: built(saved, x))
    load(model, optimizer, saved, table(len(saved["batch_stats"])))
    step(model, optimizer, x, y)
    return evaluated(model, x)


def renamed_part(part, depth):
    blocks = {}
    for i in range(depth):
        block = part[f"LinenBlock_{i}"]
        layers = {"linear": block.get("Dense_0"), "norm": block["BatchNorm_0"]}
        blocks[i] = {name: layer for name, layer in layers.items() if layer}
    return {"blocks": blocks} | ({"head": part["Dense_0"]} if "Dense_0" in part else {})


def by_hand(raw, x, y):
    saved = jax.tree.map(jnp.asarray, serialization.msgpack_restore(raw))
    (model, optimizer), depth = built(saved, x), len(saved["batch_stats"])
    for collection in ("params", "batch_stats"):
        nnx.update(model, renamed_part(saved[collection], depth))
    adam = dict(saved["opt_state"]["0"])
    for name in ("mu", "nu"):
        adam[name] = renamed_part(adam[name], depth)
    nnx.update(optimizer.opt_state[0], adam)
    optimizer.opt_state[1].count[...] = saved["opt_state"]["1"]["count"]
    optimizer.step[...] = saved["step"]
    step(model, optimizer, x, y)
    model.eval()
    return model(x)


ALSO_RIGHT = [attempt("compiled", take=compiled_step), abstract_first, by_hand]
