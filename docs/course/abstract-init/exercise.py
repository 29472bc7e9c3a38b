"""The exercise of "Abstract init": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


def count(model):
    """Return the number of elements in all params of a model, real or abstract."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


# --8<-- [start:stub]
def abstract_init(seed, x, features):
    """Return two counts of params and a difference of outputs, in shape (3,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (batch, in_features), float32.
      features: number of outputs; a float is accepted and cast.
    """
    # --8<-- [end:stub]

    def create():
        return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))

    abstract, eager = nnx.eval_shape(create), create()
    checkpoint = nnx.to_pure_dict(nnx.state(eager))
    graphdef, state = nnx.split(abstract)
    nnx.replace_by_pure_dict(state, checkpoint)
    model = nnx.merge(graphdef, state)
    difference = jnp.abs(model(x) - eager(x)).max()
    return jnp.array([count(abstract), count(model), difference])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = jnp.array([[1.0, 2, 3], [0.5, -1, 0]])
    for seed, x, features in [(7.0, page, 3.0), (0.0, -page, 5.0), *more]:
        answer = candidate(seed, x, features)
        size = (x.shape[-1] + 1.0) * int(features)  # a kernel and a bias
        if getattr(answer, "shape", None) != (3,):
            expected = f"an array of shape (3,), not {type(answer).__name__}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(answer, jnp.array([size, size, 0]), atol=1e-5):
            expected = [size, size, 0.0]
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.array([[0.25, -0.5, 1], [2, 1.5, -1]]), 1.0),
    (11.0, jnp.array([[0.5, -0.25, 3], [-2, 1, 0.75]]), 2049.0),
]


def idea(seen):
    """Return what the numbers do not come from, or None."""
    seed, x, features = seen.inputs
    usual, kernels = layer(seed, x, features).kernel[...], ([], [])  # real, abstract

    def widen(layer):  # by a number of outputs that is smaller if it is abstract
        at = layer.was_abstract = isinstance(layer.kernel[...], jax.core.Tracer)
        kernels[at].append(layer.kernel[...])
        for param in (layer.kernel, layer.bias):
            wide = jnp.concatenate([param[...], param[..., : more[at]]], axis=-1)
            param.set_value(wide)

    def shifted(call):  # the output of a filled layer, by its largest |input|
        largest = jnp.abs([*call.args, *call.kwargs.values()][0]).max(-1, keepdims=True)
        filled = getattr(call.module, "was_abstract", False)
        return call.proceed() + more[2] * filled * largest

    hooks = {"built": {nnx.Linear: widen}, "calls": {nnx.Linear: shifted}}
    for more in ((1, 1, 1), (1, 1, 0), (2, 1, -1)):
        real, abstract = ((x.shape[-1] + 1) * (int(features) + n) for n in more[:2])
        try:
            run = seen.run("layers have more outputs", **hooks)
        except seen.Finding:
            if more == (1, 1, 0):
                raise
            continue  # it compares the shapes or the outputs of both
        if not all(kernels):
            where = "outside" if kernels[1] else "inside"
            return f"no nnx.Linear is built {where} nnx.eval_shape"
        if not all(seen.close(kernel, usual) for kernel in kernels[0]):
            return "a real model is not built from nnx.Rngs(int(seed))"
        rights = {"first": abstract, "second": real, "third": abs(more[2] * x).max()}
        for number, which in zip(run.answer, rights, strict=True):
            if not seen.close(number, rights[which]):
                got = f"the {which} number is {number:g}, not {rights[which]:g}"
                return f"when layers are wider, and those filled return more, {got}"


def layer(seed, x, features):
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def filled(abstract, eager):
    graphdef, state = nnx.split(abstract)
    nnx.replace_by_pure_dict(state, nnx.to_pure_dict(nnx.state(eager)))
    return nnx.merge(graphdef, state)


def attempt(name, *, shape=nnx.eval_shape, fill=filled, count=count, size=abs, more=0):
    """Return an attempt that does one step of the solution in another way."""

    def numbers(seed, x, features):
        abstract = shape(lambda: layer(seed, x, features))
        eager = layer(seed, x, features + more)
        model = fill(abstract, eager)
        difference = size(model(x) - eager(x)).max()
        return jnp.array([count(abstract), count(model), difference])

    numbers.__name__ = name
    return numbers


def by_position(abstract, eager):
    arrays = {"a": eager.kernel[...], "b": eager.bias[...]}
    return nnx.merge(nnx.graphdef(abstract), arrays)


def in_place(abstract, eager):
    nnx.update(abstract, nnx.state(eager))
    return abstract


def compared(abstract, eager):
    states = [nnx.to_pure_dict(nnx.state(model)) for model in (abstract, eager)]
    one, other = (jax.tree.map(jnp.shape, state) for state in states)
    if one != other:
        raise ValueError("the checkpoint is of another size")
    return filled(abstract, eager)


def rngs_from_outside(seed, x, features):
    rngs = nnx.Rngs(int(seed))
    return nnx.eval_shape(lambda: nnx.Linear(x.shape[-1], int(features), rngs=rngs))


def shapes_alone(seed, x, features):
    size = count(nnx.eval_shape(lambda: layer(seed, x, features)))
    return jnp.array([size, size, 0.0])


def seed_ignored(seed, x, features):
    return abstract_init(0, x, features)


def formula_with_assert(seed, x, features):
    size, found = (x.shape[-1] + 1) * features, abstract_init(seed, x, features)
    assert found[0] == found[1] == size
    return jnp.array([size, size, 0.0])


def half_precision(*inputs):
    return abstract_init(*inputs).astype(jnp.float16)


MISTAKES = {
    attempt("small_left_out", count=lambda m: count(m) - (m.bias.size == 1)): (
        "An array of one element counts as well."
    ),
    attempt("model_instead_of_function", shape=lambda make: nnx.eval_shape(make())): (
        "Give `nnx.eval_shape` the function, not its result."
    ),
    attempt("eager_alone", shape=lambda make: make()): (
        "Pass the constructor to `nnx.eval_shape`, and count what it returns."
    ),
    attempt("abstract_called", fill=lambda abstract, eager: abstract): (
        "A shape has no values to call or index: fill the model first."
    ),
    attempt("merged_by_position", fill=by_position): (
        "`nnx.merge` ignores names: use `nnx.replace_by_pure_dict`."
    ),
    attempt("counted_after_filling", fill=in_place): (
        "`nnx.update` fills the model in place: count before it."
    ),
    attempt("checkpoint_of_another_size", more=1): (
        "The checkpoint is of another size than the shapes."
    ),
    attempt("sign_kept", size=jnp.array): "Take the absolute value before the maximum.",
    rngs_from_outside: "Build `nnx.Rngs` inside the function that you pass.",
    shapes_alone: "Build an eager model as well, and fill in its values.",
    seed_ignored: "A model has another seed: pass `int(seed)` to `nnx.Rngs`.",
    formula_with_assert: "Count the arrays of the abstract model instead of a formula.",
    half_precision: "float16 rounds counts above 2048: return float32.",
}


def updated_in_place(seed, x, features):
    eager = layer(seed, x, features)
    model = nnx.eval_shape(lambda: layer(seed, x, features))
    size = count(model)
    nnx.update(model, nnx.state(eager))
    return jnp.stack([size, count(model), jnp.max(jnp.abs(eager(x) - model(x)))])


def split_inside(seed, x, features):
    graphdef, state = jax.eval_shape(lambda: nnx.split(layer(seed, x, features)))
    eager = layer(seed, x, features)
    model = nnx.merge(graphdef, nnx.state(eager))
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    return jnp.array([size, count(model), jnp.abs(model(x) - eager(x)).max()])


def jitted(seed, x, features):
    forward = nnx.jit(lambda model, x: model(x))
    abstract = jax.eval_shape(lambda: layer(seed, x, features))
    eager = nnx.jit(lambda: layer(seed, x, features))()
    model = filled(abstract, eager)
    assert count(model) == (x.shape[-1] + 1) * features
    difference = jnp.abs(forward(model, x) - forward(eager, x)).max()
    return jnp.array([count(abstract), count(model), difference])


ALSO_RIGHT = [
    updated_in_place,
    split_inside,
    attempt("compared", fill=compared),
    jitted,
]
