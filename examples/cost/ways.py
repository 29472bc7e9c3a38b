"""The ways to build and to call a model in Linen and in NNX.

Each function returns a dict: the name of a way, and a function without arguments that
goes that way once. All ways give one result; a test compares them. A step donates what
it replaces, in Linen and in NNX.
"""

import time
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import optax
from flax import nnx

GRAPH = {"graph": True, "graph_updates": True}  # today's default, by name
GRAPH_ALONE = {"graph": True, "graph_updates": False}
# What `mode_of` finds in the name of a way.
IN_TREE_MODE = "in tree mode"


@contextmanager
def tree_mode():
    """Set tree mode for all that is built or called inside."""
    with nnx.set_graph_mode(False), nnx.set_graph_updates(False):
        yield


# --8<-- [start:train_step]
def train_step(model, optimizer, x, y):
    """Update model and optimizer; return the loss before it, a scalar."""

    def loss_fn(model):
        return jnp.mean((model(x) - y) ** 2)

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


# --8<-- [end:train_step]


# --8<-- [start:python_share]
def python_share(step, batches):
    """Return how much of a loop has passed when its last call returns, from 0 to 1.

    Args:
      step: compiled; returns the loss.
      batches: about ten, as JAX lets a call wait when too many steps are queued.
    """
    jax.block_until_ready([step(*batch) for batch in batches[:2]])  # compiles
    start = time.perf_counter()
    for batch in batches:
        loss = step(*batch)
    returned = time.perf_counter() - start
    jax.block_until_ready(loss)
    return returned / (time.perf_counter() - start)


# --8<-- [end:python_share]


def forward_ways(model, linen_model, params, x):
    """Return the ways to compute the model's output on x."""

    def call(model, x):
        return model(x)

    def merge_and_call(state, x):
        return nnx.merge(graphdef, state)(x)

    graphdef, state = nnx.split(model)
    pure = nnx.as_pure(state)  # arrays in place of Variables
    linen, module = jax.jit(linen_model.apply), jax.jit(call)
    graph, alone = nnx.jit(call, **GRAPH), nnx.jit(call, **GRAPH_ALONE)
    tree = nnx.jit(call, graph=False)
    with tree_mode():
        tree_by_mode = nnx.jit(call)
    cached = nnx.cached_partial(nnx.jit(call, **GRAPH), model, **GRAPH)
    partial = nnx.jit_partial(call, model, graph=False)
    once, each = jax.jit(merge_and_call), jax.jit(merge_and_call)
    return {
        "Linen": lambda: linen({"params": params}, x),
        "nnx.jit": lambda: graph(model, x),
        "nnx.jit, graph_updates=False": lambda: alone(model, x),
        "nnx.jit, graph=False": lambda: tree(model, x),
        f"nnx.jit {IN_TREE_MODE}": lambda: tree_by_mode(model, x),
        "nnx.cached_partial": lambda: cached(x),
        "nnx.jit_partial": lambda: partial(x),
        "jax.jit, module": lambda: module(model, x),
        "jax.jit, split each time": lambda: each(nnx.split(model)[1], x),
        "jax.jit, as_pure": lambda: once(pure, x),
    }


def linen_step(linen_model, tx):
    """Return the train step of Linen: of state and batch, new state and loss."""

    def step(state, x, y):
        params, opt_state = state

        def loss_fn(params):
            return jnp.mean((linen_model.apply({"params": params}, x) - y) ** 2)

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    return step


def split_step(graphdef, as_state):
    """Return the train step over split state, which comes back as `as_state` says."""

    def step(state, x, y):
        model, optimizer = nnx.merge(graphdef, state)
        loss = train_step(model, optimizer, x, y)
        return as_state(nnx.state((model, optimizer))), loss

    return step


def returning(model, optimizer, x, y):
    """Return model and optimizer after a step, and the loss."""
    loss = train_step(model, optimizer, x, y)
    return (model, optimizer), loss


def carry(step, state):
    """Return a function of the batch that steps on from the state of its last call."""

    def run(*batch):
        nonlocal state
        state, loss = step(state, *batch)
        return loss

    return run


def step_ways(model, linen_model, params, x, y):
    """Return the ways to take a train step: each goes on with a model of its own."""

    def pair():
        copied = nnx.clone(model, arrays=True)
        return copied, nnx.Optimizer(copied, tx, wrt=nnx.Param)

    def split_each_time():
        state, loss = each(nnx.state(mine), x, y)
        nnx.update(mine, state)
        return loss

    def on_batch(step, *args):
        return lambda: step(*args, x, y)

    def bare(step):
        return jax.jit(step, donate_argnums=0)

    tx, both = optax.adam(1e-3), {"donate_argnums": (0, 1)}
    with tree_mode():
        tree_by_mode = nnx.jit(train_step, **both)
    graph = nnx.jit(train_step, **GRAPH, **both)
    alone = nnx.jit(train_step, **GRAPH_ALONE, **both)
    tree = nnx.jit(train_step, graph=False, **both)
    cached = nnx.cached_partial(nnx.jit(train_step, **GRAPH, **both), *pair(), **GRAPH)
    # What is bound counts as one argument.
    bound = nnx.jit_partial(train_step, *pair(), graph=False, donate_argnums=0)
    modules = bare(lambda pair, x, y: returning(*pair, x, y))
    mine, (graphdef, state) = pair(), nnx.split(pair())
    each = bare(split_step(graphdef, lambda state: state))
    once = bare(split_step(graphdef, lambda state: state))
    once_pure = bare(split_step(graphdef, nnx.as_pure))
    pure = nnx.as_pure(nnx.state(pair()))
    linen, params = bare(linen_step(linen_model, tx)), jax.tree.map(jnp.copy, params)
    return {
        "Linen": on_batch(carry(linen, (params, tx.init(params)))),
        "nnx.jit": on_batch(graph, *pair()),
        "nnx.jit, graph_updates=False": on_batch(alone, *pair()),
        "nnx.jit, graph=False": on_batch(tree, *pair()),
        f"nnx.jit {IN_TREE_MODE}": on_batch(tree_by_mode, *pair()),
        "nnx.cached_partial": on_batch(cached),
        "nnx.jit_partial": on_batch(bound),
        "jax.jit, modules returned": on_batch(carry(modules, pair())),
        "jax.jit, split each time": split_each_time,
        "jax.jit, split once": on_batch(carry(once, state)),
        "jax.jit, as_pure": on_batch(carry(once_pure, pure)),
    }


def construct_ways(make, linen_model, x):
    """Return the ways to make the params, or their shapes alone."""

    def init():
        return linen_model.init(jax.random.key(0), x)

    return {
        "Linen, init": init,
        "NNX, constructor": make,
        "Linen, jax.eval_shape": lambda: jax.eval_shape(lambda: init()),
        "NNX, nnx.eval_shape": lambda: nnx.eval_shape(lambda: make()),
    }


def compiled_constructors(make, linen_model, x):
    """Return the compiled ways to make the params."""
    init, key = jax.jit(lambda key: linen_model.init(key, x)), jax.random.key(0)
    return {"Linen": lambda: init(key), "NNX": nnx.jit(lambda: make())}
