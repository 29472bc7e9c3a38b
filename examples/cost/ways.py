"""The ways to build and to call a model in Linen and in NNX.

Each function returns a dict: the name of a way, and a function without arguments that
goes that way once. All ways give one result; the page "What a call costs" shows it.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


# --8<-- [start:forward]
def forward_ways(model, linen_model, params, x):
    def call(model, x):
        return model(x)

    def merge_and_call(state, x):
        return nnx.merge(graphdef, state)(x)

    graphdef, state = nnx.split(model)
    pure = nnx.as_pure(state)  # arrays in place of Variables
    linen = jax.jit(linen_model.apply)
    graph, tree, module = nnx.jit(call), nnx.jit(call, graph=False), jax.jit(call)
    cached = nnx.cached_partial(nnx.jit(call), model)
    partial = nnx.jit_partial(call, model, graph=False)
    once, once_pure, each = (jax.jit(merge_and_call) for _ in range(3))
    return {
        "Linen": lambda: linen({"params": params}, x),
        "nnx.jit": lambda: graph(model, x),
        "nnx.jit, graph=False": lambda: tree(model, x),
        "nnx.cached_partial": lambda: cached(x),
        "nnx.jit_partial": lambda: partial(x),
        "jax.jit, module": lambda: module(model, x),
        "jax.jit, split each time": lambda: each(nnx.split(model)[1], x),
        "jax.jit, split once": lambda: once(state, x),
        "jax.jit, as_pure": lambda: once_pure(pure, x),
    }


# --8<-- [end:forward]


# --8<-- [start:step]
def train_step(model, optimizer, x, y):
    def loss_fn(model):
        return jnp.mean((model(x) - y) ** 2)

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


def linen_step(linen_model, tx):
    def step(state, x, y):
        params, opt_state = state

        def loss_fn(params):
            return jnp.mean((linen_model.apply({"params": params}, x) - y) ** 2)

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    return step


# --8<-- [end:step]


# --8<-- [start:split]
def split_step(graphdef, as_state):
    def step(state, x, y):
        model, optimizer = nnx.merge(graphdef, state, copy=True)
        loss = train_step(model, optimizer, x, y)
        return as_state(nnx.state((model, optimizer))), loss

    return step


def carry(step, state, *batch):
    """Return a function that steps on from the state of its last call."""

    def run():
        nonlocal state
        state, loss = step(state, *batch)
        return loss

    return run


# --8<-- [end:split]


# --8<-- [start:steps]
def step_ways(model, linen_model, params, x, y):
    def pair():
        copied = nnx.clone(model)
        return copied, nnx.Optimizer(copied, tx, wrt=nnx.Param)

    def split_each_time():
        state, loss = each(nnx.state(mine), x, y)
        nnx.update(mine, state)
        return loss

    tx = optax.adam(1e-3)
    graph, mine_graph = nnx.jit(train_step), pair()
    tree, mine_tree = nnx.jit(train_step, graph=False), pair()
    cached = nnx.cached_partial(nnx.jit(train_step), *pair())
    partial = nnx.jit_partial(train_step, *pair(), graph=False)
    mine = pair()
    graphdef, state = nnx.split(pair())
    each, once = (jax.jit(split_step(graphdef, lambda state: state)) for _ in range(2))
    once_pure = jax.jit(split_step(graphdef, nnx.as_pure))
    linen = jax.jit(linen_step(linen_model, tx))
    return {
        "Linen": carry(linen, (params, tx.init(params)), x, y),
        "nnx.jit": lambda: graph(*mine_graph, x, y),
        "nnx.jit, graph=False": lambda: tree(*mine_tree, x, y),
        "nnx.cached_partial": lambda: cached(x, y),
        "nnx.jit_partial": lambda: partial(x, y),
        "jax.jit, split each time": split_each_time,
        "jax.jit, split once": carry(once, state, x, y),
        "jax.jit, as_pure": carry(once_pure, nnx.as_pure(state), x, y),
    }


# --8<-- [end:steps]


# --8<-- [start:construct]
def construct_ways(make, linen_model, x):
    def init():
        return linen_model.init(jax.random.key(0), x)

    return {
        "Linen, init": init,
        "NNX, constructor": make,
        "Linen, jax.eval_shape": lambda: jax.eval_shape(lambda: init()),
        "NNX, nnx.eval_shape": lambda: nnx.eval_shape(lambda: make()),
    }


def compiled_constructors(make, linen_model, x):
    init, key = jax.jit(lambda key: linen_model.init(key, x)), jax.random.key(0)
    return {"Linen": lambda: init(key), "NNX": nnx.jit(lambda: make())}


# --8<-- [end:construct]
