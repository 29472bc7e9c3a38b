"""The exercise of "Split and merge": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class Network(nnx.Module):
    def __init__(self, features, *, rngs: nnx.Rngs):
        bias = nnx.initializers.normal(1.0)
        self.hidden = nnx.Linear(features, 4, bias_init=bias, rngs=rngs)
        self.out = nnx.Linear(4, 1, bias_init=bias, rngs=rngs)

    def __call__(self, x):  # x[batch, features]
        return self.out(nnx.tanh(self.hidden(x)))[:, 0]
        # --8<-- [end:model]


@jax.jit
def loss(graphdef, state, x, y):
    return jnp.mean((nnx.merge(graphdef, state)(x) - y) ** 2)


# --8<-- [start:stub]
def losses_between(first, second, x, y, points):
    """Return the losses on the straight line between two networks, shape (points,).

    Each is the mean squared error of one network. The parameters move in equal steps,
    from those of the first network to those of the second, both ends included.

    Args:
      first: seed of `nnx.Rngs` for the first network, an integer.
      second: seed for the second one.
      x: inputs, shape (batch, features), float32.
      y: targets, shape (batch,), float32.
      points: number of losses, at least 2.
    """
    # --8<-- [end:stub]
    features = x.shape[-1]
    graphdef, start = nnx.split(Network(features, rngs=nnx.Rngs(first)))
    end = nnx.state(Network(features, rngs=nnx.Rngs(second)))

    def between(t):
        return jax.tree.map(lambda a, b: (1 - t) * a + t * b, start, end)

    places = jnp.linspace(0, 1, points)
    return jnp.array([loss(graphdef, between(t), x, y) for t in places])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows, targets = jnp.array([[1.0, 2], [0.5, -1]]), jnp.array([1.0, -1])
    shown = [(0, 1, rows, targets, 3), (7, 2, -rows, targets, 3)]
    for first, second, x, y, points in [*shown, *more]:
        answer = candidate(first, second, x, y, points)
        ends = [Network(x.shape[-1], rngs=nnx.Rngs(seed)) for seed in (first, second)]
        expected = []
        for t in jnp.arange(points) / (points - 1):
            net = jax.tree.map(lambda a, b, t=t: a + t * (b - a), *ends)
            output = jnp.tanh(x @ net.hidden.kernel + net.hidden.bias) @ net.out.kernel
            expected.append(jnp.mean((output[:, 0] + net.out.bias - y) ** 2))
        wanted = jnp.array(expected)
        right = getattr(answer, "shape", None) == wanted.shape
        if not right or not jnp.allclose(answer, wanted, atol=1e-4):
            x_and_y = f"jnp.array({x.tolist()}), jnp.array({y.tolist()})"
            call = f"{candidate.__name__}({first}, {second}, {x_and_y}, {points})"
            said = jnp.array_str(wanted, precision=3)
            return f"{call}\n  expected: {said}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import itertools

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3, 4, jnp.array([[1.0, 0, -2], [0.5, 1, 1]]), jnp.array([0.0, 2]), 3),  # features
    (5, 6, jnp.array([[1.0, -1], [2, 0]]), jnp.array([1.0, 1]), 5),  # points
]
ROWS = itertools.count(37)  # another batch in each run: what is compiled compiles anew


def idea(seen):
    """Return what the losses do not come from, or None."""
    inputs = larger(seen.inputs)
    calls = seen.run(inputs=inputs, eager=False).calls_of(nnx.Linear)
    calls = [call for call in calls if call.compiled and is_last(call)]
    if not calls:
        return "no network is called in a function that JAX compiles"
    if not any(traced(call.before) for call in calls):
        return "the compiled function closes over the state: make it an argument"
    if len(calls) > 1:
        points = inputs[-1]
        return f"the forward pass is traced {len(calls)} times for {points} points"

    def more(call):
        return (2 if is_last(call) else 1) * call.proceed()

    inputs, hooks = larger(seen.inputs), {"calls": {nnx.Linear: more}, "eager": False}
    answer = seen.run("the network returns more", inputs=inputs, **hooks).answer
    if not seen.close(answer, losses(*inputs, factor=2), rtol=1e-3):
        return "the losses do not follow what the network returns"


def larger(inputs):
    """Return inputs of a batch that no function has been compiled for."""
    first, second, x, y, points = inputs
    rows = next(ROWS)
    return first, second, jnp.tile(x[:1], (rows, 1)), jnp.tile(y[:1], rows), points


def is_last(call):
    """Return whether it is the call of a network's last layer: one for each forward."""
    return call.module.out_features == 1


def traced(state):
    """Return whether a value stands in for an array."""
    return any(isinstance(value, jax.core.Tracer) for value in state.of().values())


def losses(first, second, x, y, points, factor=1):
    """Return the losses of networks that return `factor` times as much."""
    one, other = pair(first, second, x)
    nets = [nnx.merge(nnx.graphdef(one), line(one, other, t)) for t in places(points)]
    return jnp.array([jnp.mean((factor * net(x) - y) ** 2) for net in nets])


def pair(first, second, x):
    """Return both networks."""
    return [Network(x.shape[-1], rngs=nnx.Rngs(seed)) for seed in (first, second)]


def places(points):
    return jnp.linspace(0, 1, points)


def mixed(one, other, t):
    return jax.tree.map(lambda a, b: (1 - t) * a + t * b, one, other)


def line(one, other, t):
    """Return the state at one place between two networks."""
    return mixed(nnx.state(one), nnx.state(other), t)


def attempt(at, name="", where=places):
    """Return an attempt whose losses are those of `at(one, other, t, x, y)`."""

    def between(first, second, x, y, points):
        one, other = pair(first, second, x)
        return jnp.array([at(one, other, t, x, y) for t in where(points)])

    between.__name__ = name or at.__name__
    return between


def by_state(one, other, t, x, y):
    return loss(nnx.graphdef(one), line(one, other, t), x, y)


def backwards(one, other, t, x, y):
    return by_state(other, one, t, x, y)


def outputs_mixed(one, other, t, x, y):
    return jnp.mean((mixed(one(x), other(x), t) - y) ** 2)


def losses_mixed(one, other, t, x, y):
    return mixed(by_state(one, other, 0, x, y), by_state(one, other, 1, x, y), t)


def kernels_alone(one, other, t, x, y):
    graphdef, kernels, rest = nnx.split(one, lambda path, _: path[-1] == "kernel", ...)
    wanted = nnx.state(other, lambda path, _: path[-1] == "kernel")
    state = nnx.merge_state(mixed(kernels, wanted, t), rest)
    return loss(graphdef, state, x, y)


def written_into_the_first(one, other, t, x, y):
    nnx.update(one, line(one, other, t))
    return loss(*nnx.split(one), x, y)


def sum_of_squares(one, other, t, x, y):
    return by_state(one, other, t, x, y) * len(y)


def absolute_errors(one, other, t, x, y):
    net = nnx.merge(nnx.graphdef(one), line(one, other, t))
    return jnp.mean(jnp.abs(net(x) - y))


def not_compiled(one, other, t, x, y):
    net = nnx.merge(nnx.graphdef(one), line(one, other, t))
    return jnp.mean((net(x) - y) ** 2)


def closed_over(one, other, t, x, y):
    net = nnx.merge(nnx.graphdef(one), line(one, other, t))
    return jax.jit(lambda x, y: jnp.mean((net(x) - y) ** 2))(x, y)


def compiled_at_each_point(one, other, t, x, y):
    @jax.jit
    def compiled(graphdef, state, x, y):
        return jnp.mean((nnx.merge(graphdef, state)(x) - y) ** 2)

    return compiled(nnx.graphdef(one), line(one, other, t), x, y)


def two_features(first, second, x, y, points):
    one, other = (Network(2, rngs=nnx.Rngs(seed)) for seed in (first, second))
    return jnp.array([by_state(one, other, t, x, y) for t in places(points)])


def formula_with_assert(first, second, x, y, points):
    one, other = pair(first, second, x)
    found = []
    for t in places(points):
        part = line(one, other, t)
        y_hat = jnp.tanh(x @ part["hidden"]["kernel"][...] + part["hidden"]["bias"])
        y_hat = (y_hat @ part["out"]["kernel"][...])[:, 0] + part["out"]["bias"]
        found.append(jnp.mean((y_hat - y) ** 2))
    answer = jnp.array(found)
    by_network = losses_between(first, second, x, y, points)
    assert jnp.allclose(answer, by_network, atol=1e-4)
    return answer


MISTAKES = {
    attempt(backwards): "The first loss is that of the first network: turn it round.",
    attempt(by_state, "end_left_out", lambda n: jnp.arange(n) / n): (
        "The last loss is that of the second network: include both ends."
    ),
    attempt(by_state, "three_points", lambda n: places(3)): (
        "`points` is ignored: return as many losses."
    ),
    attempt(outputs_mixed): "Move the parameters, not the outputs.",
    attempt(losses_mixed): (
        "The losses between are those of networks, not of a line of losses."
    ),
    attempt(kernels_alone): "Biases are parameters too: move the whole state.",
    attempt(written_into_the_first): (
        "The first network's state is live: let the tree map make a new one."
    ),
    attempt(sum_of_squares): "Return the mean of the squares, not their sum.",
    attempt(absolute_errors): "Square the errors.",
    attempt(not_compiled): "Call the network in a function that `jax.jit` compiles.",
    attempt(closed_over): (
        "A state from outside becomes a constant: make it an argument of the function."
    ),
    attempt(compiled_at_each_point): (
        "Compile once: a new function, or a static argument, is traced again."
    ),
    two_features: "Read the number of features from `x`.",
    formula_with_assert: "Return losses of networks that are called, by `nnx.merge`.",
}


def on_the_line(one, other, t, x, y):
    return jnp.mean((mixed(one, other, t)(x) - y) ** 2)


@jax.jit
def by_module(network, x, y):
    return jnp.mean((network(x) - y) ** 2)


def modules_mixed(one, other, t, x, y):
    return by_module(mixed(one, other, t), x, y)


@jax.jit
def by_pure_state(graphdef, one, other, t, x, y):
    return loss(graphdef, mixed(one, other, t), x, y)


def pure_states(one, other, t, x, y):
    states = [nnx.as_pure(nnx.state(network)) for network in (one, other)]
    return by_pure_state(nnx.graphdef(one), *states, t, x, y)


def all_at_once(first, second, x, y, points):
    one, other = pair(first, second, x)
    over_points = jax.vmap(on_the_line, in_axes=(None, None, 0, None, None))
    return jax.jit(over_points)(one, other, places(points), x, y)


compiled_by_nnx = nnx.jit(on_the_line)


def by_nnx_jit(one, other, t, x, y):
    return compiled_by_nnx(one, other, t, x, y)


ALSO_RIGHT = [all_at_once, *map(attempt, (modules_mixed, pure_states, by_nnx_jit))]
