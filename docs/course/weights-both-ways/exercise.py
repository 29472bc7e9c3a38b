"""The exercise of "Weights both ways": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
def in_linen(weights, x):
    """Return what Linen gives for x with the weights of NNX, in float32.

    Args:
      weights: pure dict of an `nnx.OptimizedLSTMCell`: "dense_i" has a kernel of
        shape (in_features, 4 * features), "dense_h" a kernel of shape
        (features, 4 * features) and a bias of shape (4 * features,).
      x: sequences, shape (batch, time, in_features), float32.
    """
    # --8<-- [end:stub]
    cell = {}
    for kind in ("i", "h"):
        for name, array in weights[f"dense_{kind}"].items():
            for gate, part in zip("ifgo", jnp.split(array, 4, axis=-1), strict=True):
                cell.setdefault(kind + gate, {})[name] = part
    features = weights["dense_h"]["kernel"].shape[0]
    rnn = nn.RNN(nn.OptimizedLSTMCell(features))
    return rnn.apply({"params": {"cell": cell}}, x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = []
    for seed in (0, 5):
        rngs = nnx.Rngs(seed)
        cell = nnx.OptimizedLSTMCell(3, 2, rngs=rngs)
        cell.dense_h.bias[...] = rngs.normal((8,))
        weights = nnx.to_pure_dict(nnx.state(cell, nnx.Param))
        page.append((weights, rngs.normal((2, 4, 3))))
    for weights, x in [*page, *more]:
        answer, features = candidate(weights, x), len(weights["dense_h"]["kernel"])
        cell = nnx.OptimizedLSTMCell(x.shape[-1], features, rngs=nnx.Rngs(0))
        nnx.update(cell, weights)
        right = nnx.RNN(cell, rngs=nnx.Rngs(0))(x)
        same = getattr(answer, "shape", None) == right.shape
        if not same or not jnp.allclose(answer, right, atol=1e-4):
            said = f"expected: {jnp.array_str(right[0, -1], 99, 2)}, last of sequence 0"
            return f"{candidate.__name__}(weights, x)\n  {said}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.


def numbers(*shape):
    size = 1
    for length in shape:
        size *= length
    return jnp.sin(jnp.arange(1.0, size + 1) ** 2).reshape(shape)


def trained(in_features, features):
    """Return weights with numbers of no pattern."""
    dense_h = {"kernel": numbers(features, 4 * features), "bias": numbers(4 * features)}
    return {
        "dense_i": {"kernel": numbers(in_features, 4 * features)},
        "dense_h": dense_h,
    }


HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (trained(3, 5), numbers(2, 4, 3)),  # five features
    (trained(3, 2), numbers(1, 7, 3)),  # longer sequences
]


def idea(seen):
    """Return what a right answer lacks: a cell of Linen that gives it."""

    def doubled(call):
        carry, y = call.proceed()
        return carry, 2 * y

    found = seen.run(
        "Linen's cell returns twice as much", calls={nn.RNNCellBase: doubled}
    )
    if not found.calls_of(nn.RNNCellBase):
        return "no LSTM cell of Linen is called"
    if not seen.close(found.answer, 2 * seen.answer):
        return "the answer does not follow what Linen's cell returns"


def split(array):
    return jnp.split(array, 4, axis=-1)


def attempt(
    name, *, order="ifgo", split=split, keep=lambda part: part, swap="ih", run=None
):
    """Return an attempt that does one step of the solution in another way."""

    def answer(weights, x):
        cell = {}
        for kind, other in zip("ih", swap, strict=True):
            for part, array in keep(weights[f"dense_{kind}"]).items():
                for gate, one in zip(order, split(array), strict=True):
                    cell.setdefault(other + gate, {})[part] = one
        features = weights["dense_h"]["kernel"].shape[0]
        if run:
            return run(features, cell, x)
        return applied(features, cell, x)

    answer.__name__ = name
    return answer


def applied(features, cell, x, make=nn.OptimizedLSTMCell, **options):
    return nn.RNN(make(features), **options).apply({"params": {"cell": cell}}, x)


def interleaved(array):
    return [array[..., i::4] for i in range(4)]


def in_rows(array):
    if array.ndim == 1:
        return split(array)
    return [part.reshape(array.shape[0], -1) for part in jnp.split(array.ravel(), 4)]


def bias_zero(layer):
    return {name: a * (name == "kernel") for name, a in layer.items()}


def half_the_bias(layer):
    return {name: a if name == "kernel" else a / 2 for name, a in layer.items()}


def no_bias(layer):
    return {"kernel": layer["kernel"]}


def underscore(features, cell, x):
    return applied(features, {"if_": cell.pop("if"), **cell}, x)


def not_nested(features, cell, x):
    return nn.RNN(nn.OptimizedLSTMCell(features)).apply({"params": cell}, x)


def fresh(features, cell, x):
    rnn = nn.RNN(nn.OptimizedLSTMCell(features))
    return rnn.apply(rnn.init(jax.random.key(0), x), x)


def two_features(features, cell, x):
    return applied(2, cell, x)


def four_steps(features, cell, x):
    return applied(features, cell, x[:, :4])


def last_output(features, cell, x):
    return applied(features, cell, x)[:, -1]


def backwards(features, cell, x):
    return applied(features, cell, x, reverse=True)


def with_carry(features, cell, x):
    return applied(features, cell, x, return_carry=True)


def by_nnx(weights, x):
    features = weights["dense_h"]["kernel"].shape[0]
    cell = nnx.OptimizedLSTMCell(x.shape[-1], features, rngs=nnx.Rngs(0))
    nnx.update(cell, weights)
    return nnx.RNN(cell, rngs=nnx.Rngs(0))(x)


MISTAKES = {
    attempt("order_igfo", order="igfo"): "The order of the gates is i, f, g, o.",
    attempt("order_ifog", order="ifog"): "The gate g comes before o.",
    attempt("order_reversed", order="ogfi"): "Begin with the gate i, not with o.",
    attempt("interleaved", split=interleaved): (
        "Each gate is one block of columns, not every fourth column."
    ),
    attempt("in_rows", split=in_rows): "Split the last axis, the outputs of the layer.",
    attempt("bias_zero", keep=bias_zero): "The biases count: split them too.",
    attempt("half_the_bias", keep=half_the_bias): "Each bias is used once, as it is.",
    attempt("no_bias", keep=no_bias): "The layers from the state have a bias in Linen.",
    attempt("layers_swapped", swap="hi"): (
        "`dense_i` takes the input: its gates are `ii`, `if`, `ig` and `io`."
    ),
    attempt("underscore", run=underscore): "Linen's gate is `if`, without underscore.",
    attempt("not_nested", run=not_nested): "The gates are under the name `cell`.",
    attempt("fresh", run=fresh): "Pass the weights, not those of `init`.",
    attempt("two_features", run=two_features): "Read the features from the weights.",
    attempt("four_steps", run=four_steps): "A sequence may have any length.",
    attempt("last_output", run=last_output): "Return the outputs at all times.",
    attempt("backwards", run=backwards): "Read the sequence from its start.",
    attempt("with_carry", run=with_carry): "Return the outputs alone.",
    by_nnx: "Let Linen compute it: the weights go into a cell of `flax.linen`.",
}


def by_slices(weights, x):
    features = weights["dense_h"]["kernel"].shape[0]
    cell = {}
    for at, gate in enumerate("ifgo"):
        columns = slice(at * features, (at + 1) * features)
        cell["i" + gate] = {"kernel": weights["dense_i"]["kernel"][:, columns]}
        cell["h" + gate] = {
            "kernel": weights["dense_h"]["kernel"][:, columns],
            "bias": weights["dense_h"]["bias"][columns],
        }
    return applied(features, cell, x)


def compiled(features, cell, x):
    return jax.jit(applied, static_argnums=0)(features, cell, x)


def plain_cell(features, cell, x):
    return applied(features, cell, x, make=nn.LSTMCell)


ALSO_RIGHT = [
    by_slices,
    attempt("compiled", run=compiled),
    attempt("plain_cell", run=plain_cell),
]
