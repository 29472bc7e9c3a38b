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


@jax.jit
def linen_step(state, x, y):
    def loss_of(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        predicted, new = state.apply_fn(variables, x, True, mutable=["batch_stats"])
        return ((predicted - y) ** 2).mean(), new

    (loss, new), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, **new), loss
    # --8<-- [end:linen]


# --8<-- [start:load]
def load(model, optimizer, saved, names):
    """Write Linen's training state into NNX's, and return the number of arrays.

    Args:
      model: has `nnx.Param` and `nnx.BatchStat`, and no other Variables.
      optimizer: an `nnx.Optimizer` with the transformation that Linen used.
      saved: what the file holds, nested dicts and lists of arrays.
      names: path of a layer in NNX, such as "body/0", by that in Linen.
    """
    _, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
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
def resumed(raw, x, y):
    """Return what a tower predicts for x after one more step, shape (batch, 1).

    Args:
      raw: bytes of msgpack, the `State` of a `LinenTower` in training with `tx`.
      x: inputs of the step, shape (batch, in_features), float32.
      y: targets, shape (batch, 1), float32; the loss is the mean squared error.
    """
    tx = optax.adam(optax.exponential_decay(0.1, 2, 0.5))
    # --8<-- [end:stub]
    saved = serialization.msgpack_restore(raw)
    depth, features = len(saved["batch_stats"]), saved["params"]["Dense_0"]["kernel"]
    names = {"Dense_0": "head"}
    for i in range(depth):
        names[f"LinenBlock_{i}/Dense_0"] = f"blocks/{i}/linear"
        names[f"LinenBlock_{i}/BatchNorm_0"] = f"blocks/{i}/norm"
    model = Tower(x.shape[1], len(features), depth, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    load(model, optimizer, saved, names)
    grads = nnx.grad(lambda model: ((model(x) - y) ** 2).mean())(model)
    optimizer.update(model, grads)
    return nnx.view(model, use_running_average=True)(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    x = jnp.array([[1.0, 2, 3], [0.5, -1, 0], [2, 0, -1]])
    tx, page = optax.adam(optax.exponential_decay(0.1, 2, 0.5)), []
    for depth in (2, 1):
        tower = LinenTower(4, depth)
        first = tower.init(jax.random.key(depth), x)
        state = State.create(apply_fn=tower.apply, tx=tx, **first)
        for _ in range(3):
            state, _ = linen_step(state, x, x[:, :1])
        page.append((serialization.to_bytes(state), x, 1 - x[:, :1]))
    for raw, x, y in [*page, *more]:
        answer, saved = candidate(raw, x, y), serialization.msgpack_restore(raw)
        last, stats = saved["params"]["Dense_0"]["kernel"], saved["batch_stats"]
        tower, old = LinenTower(len(last), len(stats)), saved["params"]
        new = State.create(apply_fn=tower.apply, tx=tx, params=old, batch_stats=stats)
        new, _ = linen_step(serialization.from_bytes(new, raw), x, y)
        variables = {"params": new.params, "batch_stats": new.batch_stats}
        right = tower.apply(variables, x)
        same = getattr(answer, "shape", None) == right.shape
        if not same or not jnp.allclose(answer, right, atol=1e-3):
            said = f"expected: {right[:, 0].round(2)}\n  got:      {answer}"
            return f"{candidate.__name__}(raw, x, y), {tower}\n  {said}"
    return "passed"
    # --8<-- [end:check]
