"""The exercise of "Weights both ways": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:names]
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict


def linen_name(path, names):
    """Return Linen's path: what the longest entry of the table says, then the rest."""
    keys = [str(key) for key in path]
    for n in range(len(keys), 0, -1):
        if (begin := "/".join(keys[:n])) in names:
            return "/".join([names[begin], *keys[n:]])
    return "/".join(keys)


def by_linen_name(model, names):
    """Return the Variables of a model, but random state, by collection and path."""
    found = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.RngState))):
        collection = nnx.variable_name_from_type(type(variable))
        name = f"{collection}/{linen_name(path, names)}"
        if name in found:
            raise ValueError(f"the table names two Variables {name}")
        found[name] = variable
    return found
    # --8<-- [end:names]


# --8<-- [start:both_ways]
def from_linen(model, variables, names):
    """Write all of Linen's variables into a model, or raise and write none."""
    given, own = flatten_dict(variables, sep="/"), by_linen_name(model, names)
    faults = [f"missing: {name}" for name in own.keys() - given.keys()]
    faults += [f"left over: {name}" for name in given.keys() - own.keys()]
    for name in own.keys() & given.keys():
        kinds = [f"{a.dtype}{list(a.shape)}" for a in (given[name], own[name])]
        if kinds[0] != kinds[1]:
            faults.append(f"{name}: {kinds[0]} for {kinds[1]}")
    if faults:
        raise ValueError("\n".join(sorted(faults)))
    for name, variable in own.items():
        variable.set_value(jnp.array(given[name]))


def to_linen(model, names):
    """Return copies of a model's arrays as the variables of Linen."""
    own = by_linen_name(model, names)
    arrays = {name: jnp.copy(variable[...]) for name, variable in own.items()}
    return unflatten_dict(arrays, sep="/")
    # --8<-- [end:both_ways]


# --8<-- [start:stub]
def lstm_both_ways(variables, seed, carry, x):
    """Return four outputs, shape (4, batch, features), in this order.

    That of Linen's `nn.OptimizedLSTMCell` with `variables`; of the cell of NNX with the
    same weights; of a cell that NNX makes from `seed`; of Linen's with those weights.
    On both sides a call with `carry, x` returns the next carry and the output.

    Args:
      variables: what Linen's `init` returned for the cell.
      seed: seed of `nnx.Rngs`, an integer.
      carry: the cell's state, two arrays of shape (batch, features).
      x: input, shape (batch, in_features).
    """
    # --8<-- [end:stub]
    features = carry[0].shape[-1]
    linen_cell = nn.OptimizedLSTMCell(features)
    ported, fresh = [
        nnx.OptimizedLSTMCell(x.shape[-1], features, rngs=nnx.Rngs(seed))
        for _ in range(2)
    ]
    gates, joined = variables["params"], {}
    for side in "ih":
        four = [gates[side + gate] for gate in "ifgo"]
        joined[f"dense_{side}"] = jax.tree.map(lambda *a: jnp.hstack(a), *four)
    from_linen(ported, {"params": joined}, {})

    parted = {}
    for layer, arrays in flatten_dict(to_linen(fresh, {})["params"]).items():
        for gate, part in zip("ifgo", jnp.split(arrays, 4, axis=-1), strict=True):
            parted[layer[0][-1] + gate, layer[1]] = part
    back = {"params": unflatten_dict(parted)}
    linen, own = (linen_cell.apply(v, carry, x)[1] for v in (variables, back))
    return jnp.stack([linen, ported(carry, x)[1], fresh(carry, x)[1], own])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = []
    for seed, size in (0, 2), (7, 3):
        x, *carry = jax.random.normal(jax.random.key(seed), (3, 2, size))
        init = nn.OptimizedLSTMCell(size).init(jax.random.key(seed), carry, x)
        page.append((jax.tree.map(jnp.cos, init), seed, carry, x))  # no bias is zero
    for variables, seed, carry, x in [*page, *more]:
        answer = candidate(variables, seed, carry, x)
        size = carry[0].shape[-1]
        cell = nnx.OptimizedLSTMCell(x.shape[-1], size, rngs=nnx.Rngs(seed))
        linen = nn.OptimizedLSTMCell(size).apply(variables, carry, x)[1]
        right = jnp.stack([linen, linen, *[cell(carry, x)[1]] * 2])
        got = f"{type(answer).__name__}, not an array of shape {right.shape}"
        if getattr(answer, "shape", None) == right.shape:
            if jnp.allclose(answer, right, atol=1e-5):
                continue
            got = f"rows off by {abs(answer - right).max(axis=(1, 2))}"
        return f"{candidate.__name__}, seed {seed}, {size} features\n  got: {got}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

from functools import partial


def example(seed, in_features, features):
    """Return inputs in which no weight and no state is zero."""
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(keys[0], (2, in_features))
    carry = list(jax.random.normal(keys[1], (2, 2, features)))
    init = nn.OptimizedLSTMCell(features).init(keys[2], carry, x)
    variables = jax.tree.map(lambda a: jnp.cos(5 * a + 1), init)
    return variables, seed, carry, x


HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    example(5, 1, 1),  # a state of one feature
    example(3, 2, 4),  # a state wider than the input
]
CELLS = {
    "Linen": (nn.OptimizedLSTMCell, [0, 3]),
    "NNX": (nnx.OptimizedLSTMCell, [1, 2]),
}


def idea(seen):
    """Return what right rows lack: two follow Linen's calls, and two those of NNX."""

    def doubled(call):
        carry, y = call.proceed()
        return carry, 2 * y

    for library, (kind, rows) in CELLS.items():
        when = f"the cells of {library} return twice as much"
        answer = seen.run(when, calls={kind: doubled}).answer
        factors = jnp.array([1.0 + (row in rows) for row in range(4)])
        if not seen.close(answer, factors.reshape(4, 1, 1) * seen.answer):
            return f"rows {rows}, and no others, are to come from {library}"


def cell_of(seed, carry, x, features=None):
    features = features or carry[0].shape[-1]
    return nnx.OptimizedLSTMCell(x.shape[-1], features, rngs=nnx.Rngs(seed))


def joined_along(axis, *gates):
    return jnp.concatenate(gates, axis=min(axis, gates[0].ndim - 1))


def from_gates(gates, order="ifgo", axis=-1):
    join = partial(joined_along, axis)
    sides = {f"dense_{s}": [gates[s + gate] for gate in order] for s in "ih"}
    return {layer: jax.tree.map(join, *four) for layer, four in sides.items()}


def to_gates(params, order="ifgo"):
    parted = {}
    for (layer, name), array in flatten_dict(params).items():
        for gate, part in zip(order, jnp.split(array, 4, axis=-1), strict=True):
            parted[layer[-1] + gate, name] = part
    return {"params": unflatten_dict(parted)}


def attempt(
    name,
    order="ifgo",
    order_back="ifgo",
    axis=-1,
    kept=lambda params: params,
    seed=lambda seed: seed,
    width=lambda x: None,
    load=lambda cell, params: from_linen(cell, {"params": params}, {}),
    own=lambda fresh, ported: fresh,
    rows=lambda rows: jnp.stack(rows),
):
    """Return an attempt that does one step of the solution in another way."""

    def both_ways(variables, number, carry, x):
        linen_cell = nn.OptimizedLSTMCell(carry[0].shape[-1])
        ported, fresh = (cell_of(seed(number), carry, x, width(x)) for _ in range(2))
        load(ported, kept(from_gates(variables["params"], order, axis)))
        fresh = own(fresh, ported)
        back = to_gates(to_linen(fresh, {})["params"], order_back)
        linen, last = (linen_cell.apply(v, carry, x)[1] for v in (variables, back))
        return rows([linen, ported(carry, x)[1], fresh(carry, x)[1], last])

    both_ways.__name__ = name
    return both_ways


def without_bias(params):
    bias = jnp.zeros_like(params["dense_h"]["bias"])
    return params | {"dense_h": params["dense_h"] | {"bias": bias}}


def not_joined(variables, seed, carry, x):
    cell = cell_of(seed, carry, x)
    from_linen(cell, variables, {})
    return cell(carry, x)[1]


def updated_unjoined(variables, seed, carry, x):
    ported, fresh = (cell_of(seed, carry, x) for _ in range(2))
    nnx.update(ported, variables["params"])
    rows = lstm_both_ways(variables, seed, carry, x)
    return rows.at[1].set(ported(carry, x)[1]).at[2].set(fresh(carry, x)[1])


def from_pairs(name, order):
    def chosen(*inputs):
        return lstm_both_ways(*inputs)[jnp.array(order)]

    chosen.__name__ = name
    return chosen


def carries_returned(variables, seed, carry, x):
    cell = cell_of(seed, carry, x)
    return jnp.stack([cell(carry, x)[0][0]] * 4)


def given_twice(variables, seed, carry, x):
    linen = nn.OptimizedLSTMCell(carry[0].shape[-1]).apply(variables, carry, x)[1]
    own = cell_of(seed, carry, x)(carry, x)[1]
    return jnp.stack([linen, linen, own, own])


MISTAKES = {
    not_joined: "The cell of NNX has two layers: join the gates first.",
    updated_unjoined: "`nnx.update` takes unknown names in silence: use `from_linen`.",
    attempt("order_of_the_alphabet", order="fgio", order_back="fgio"): (
        "The order is i, f, g, o, not that of the alphabet."
    ),
    attempt("joined_in_another_order", order="ifog"): (
        "Join the gates in the order i, f, g, o."
    ),
    attempt("cut_in_another_order", order_back="igfo"): (
        "Cut in the order in which NNX joins: i, f, g, o."
    ),
    attempt("bias_left_out", kept=without_bias): (
        "The layers of the state have a bias, too."
    ),
    attempt("joined_below", axis=0): "Join along the last axis, not the first.",
    attempt("one_cell", own=lambda fresh, ported: ported): (
        "The third output needs a cell of its own: yours has Linen's weights."
    ),
    attempt("seed_zero", seed=lambda seed: 0): "The seed is ignored: use it.",
    from_pairs("nnx_first", [2, 3, 0, 1]): "Linen with its own weights comes first.",
    from_pairs("pairs_alone", [0, 2]): "Return all four outputs.",
    carries_returned: "A call returns the next carry first: take the output.",
    attempt("side_by_side", rows=jnp.concatenate): (
        "Stack the outputs: they need an axis of their own."
    ),
    attempt("axis_of_one_lost", rows=lambda rows: jnp.stack(rows).squeeze()): (
        "A state of one feature keeps its axis."
    ),
    attempt("width_of_the_input", width=lambda x: x.shape[-1]): (
        "The cell is as wide as its state, not as its input."
    ),
    given_twice: "Compute each row by the cell that it is to show: two by Linen's.",
}


def by_hand(variables, seed, carry, x):
    gates, features = variables["params"], carry[0].shape[-1]
    ported, fresh = (cell_of(seed, carry, x) for _ in range(2))
    for side, layer in ("i", ported.dense_i), ("h", ported.dense_h):
        kernels = [gates[side + gate]["kernel"] for gate in "ifgo"]
        layer.kernel[...] = jnp.concatenate(kernels, axis=1)
    ported.dense_h.bias[...] = jnp.hstack([gates["h" + g]["bias"] for g in "ifgo"])
    back, h = {}, fresh.dense_h
    for n, gate in enumerate("ifgo"):
        part = slice(n * features, (n + 1) * features)
        back["i" + gate] = {"kernel": fresh.dense_i.kernel[:, part]}
        back["h" + gate] = {"kernel": h.kernel[:, part], "bias": h.bias[part]}
    linen_cell = nn.OptimizedLSTMCell(features)
    weights = variables, {"params": back}
    linen, last = (linen_cell.apply(v, carry, x)[1] for v in weights)
    return jnp.array([linen, ported(carry, x)[1], fresh(carry, x)[1], last])


def merged(variables, seed, carry, x):
    def load(cell, params):
        nnx.update(cell, params)
        assert jnp.array_equal(cell.dense_h.bias, params["dense_h"]["bias"])

    return attempt("updated", load=load)(variables, seed, carry, x)


ALSO_RIGHT = [
    by_hand,
    merged,
    attempt("one_after_the_other", rows=lambda rows: jnp.array(list(rows))),
]
