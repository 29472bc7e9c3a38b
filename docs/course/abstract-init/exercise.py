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
from unittest.mock import patch

INPUTS = [  # seed, x, features
    (7.0, jnp.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]), 3.0),
    (0.0, jnp.array([[0.5, -1.5]]), 5.0),
]


def watch(candidate, seed, x, features):
    """Return the answer, or None if it raises, and the keys of what is built.

    An abstract layer gets one output more than asked for, a real one two more, so that
    their counts differ. A once abstract layer adds to each row its largest |input|.
    """
    init, call, keys = nnx.Linear.__init__, nnx.Linear.__call__, {True: [], False: []}

    def build(self, in_features, out_features, **options):
        abstract = isinstance(jnp.zeros(1), jax.core.Tracer)  # nothing is computed
        keys[abstract].append(options["rngs"].params.key[...])
        init(self, in_features, out_features + 2 - abstract, **options)
        self.once_abstract = abstract

    def forward(self, inputs, **options):
        shift = jnp.abs(inputs).max(axis=-1, keepdims=True)
        return call(self, inputs, **options) + shift * self.once_abstract

    with (
        patch.object(nnx.Linear, "__init__", build),
        patch.object(nnx.Linear, "__call__", forward),
        jax.disable_jit(),
    ):
        try:
            return [float(n) for n in candidate(seed, x, features)], keys
        except Exception:  # the candidate compares what it computes itself
            return None, keys


def missing_idea(candidate, seed, x, features):
    """Return what the numbers do not come from, or None."""
    x = jnp.tile(x, 2)  # another size, so that nothing is cached
    answer, keys = watch(candidate, seed, x, features)
    if not keys[True] and not keys[False]:
        return "no nnx.Linear is built"
    if not keys[True]:
        return "no nnx.Linear is built inside nnx.eval_shape"
    if not keys[False]:
        return "no nnx.Linear is built outside nnx.eval_shape"
    if not all(key == jax.random.key(int(seed)) for key in keys[False]):
        return "a real model is not built from nnx.Rngs(int(seed))"
    if answer is None:
        return None
    one_more, two_more = ((x.shape[-1] + 1) * (int(features) + n) for n in (1, 2))
    if answer[0] != one_more:
        wrong = "counts real params" if answer[0] == two_more else "ignores the params"
        return f"the first number {wrong}: count the abstract model before you fill it"
    if answer[1] != two_more:
        wrong = "counts shapes" if answer[1] == one_more else "ignores the params"
        return f"the second number {wrong}: count the filled model"
    if answer[2] < 0:
        return "the third number can be negative: it must be an absolute difference"
    if abs(answer[2] - jnp.abs(x).max()) > 1e-4:
        models = "the filled abstract model and of the eager one, both called on x"
        return f"the third number does not compare the outputs of {models}"


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, features in inputs:
        answer, wrong = candidate(seed, x, features), None
        size = (x.shape[-1] + 1.0) * int(features)  # a kernel and a bias
        right = [size, size, 0.0]
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        shape = getattr(answer, "shape", None)
        if shape != (3,):
            kind = type(answer).__name__ if shape is None else f"shape {shape}"
            wrong = f"an array of shape (3,), not {kind}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.allclose(jnp.float32(answer), jnp.array(right), atol=1e-5):
            wrong, answer = right, answer.tolist()
        if wrong:
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
            return f"{call}\n  expected: {wrong}\n  got:      {answer}"
    if missing := missing_idea(candidate, *inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import flax.linen as nn
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (3.0, jnp.array([[0.25, -0.5], [2.0, 1.5], [1.0, 0.75]]), 1.0),
    (11.0, jnp.sin(jnp.arange(120.0)).reshape(2, 60), 51.0),
]


def layer(seed, x, features):
    """Return the layer that the exercise asks for."""
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def values(model):
    """Return a checkpoint of a model: nested dicts of arrays."""
    return nnx.to_pure_dict(nnx.state(model))


def both(seed, x, features):
    """Return the abstract model and the eager one."""
    eager = layer(seed, x, features)
    return nnx.eval_shape(lambda: layer(seed, x, features)), eager


def filled(abstract, checkpoint):
    """Return a model with the values of a checkpoint; `abstract` stays as it is."""
    graphdef, state = nnx.split(abstract)
    nnx.replace_by_pure_dict(state, checkpoint)
    return nnx.merge(graphdef, state)


def report(x, abstract, model, eager, count=count):
    """Return the answer from three models."""
    difference = jnp.abs(model(x) - eager(x)).max()
    return jnp.array([count(abstract), count(model), difference])


def three(seed, x, features):
    """Return the abstract model, the filled one and the eager one."""
    abstract, eager = both(seed, x, features)
    return abstract, filled(abstract, values(eager)), eager


def usual(seed, x, features, count):
    """Return the answer, with another way to count."""
    return report(x, *three(seed, x, features), count)


def leaves_counted(seed, x, features):
    return usual(seed, x, features, lambda m: len(jax.tree.leaves(nnx.state(m))))


def nbytes_of_a_shape(seed, x, features):
    return usual(seed, x, features, lambda model: model.kernel.nbytes)


def small_leaves_left_out(seed, x, features):
    def count(model):
        leaves = jax.tree.leaves(nnx.state(model))
        return sum(leaf.size for leaf in leaves if leaf.size > 1)

    return usual(seed, x, features, count)


def bias_left_out(seed, x, features):
    return usual(seed, x, features, lambda model: model.kernel.size)


def as_integers(seed, x, features):
    return abstract_init(seed, x, features).astype(int)


def half_precision(seed, x, features):
    return abstract_init(seed, x, features).astype(jnp.float16)


def abstract_called(seed, x, features):
    abstract, eager = both(seed, x, features)
    return report(x, abstract, abstract, eager)


def model_instead_of_function(seed, x, features):
    return nnx.eval_shape(layer(seed, x, features))


def sizes_traced(seed, x, features):
    return nnx.eval_shape(nnx.Linear, x.shape[-1], int(features), rngs=nnx.Rngs(0))


def rngs_from_outside(seed, x, features):
    rngs = nnx.Rngs(int(seed))
    return nnx.eval_shape(lambda: nnx.Linear(x.shape[-1], int(features), rngs=rngs))


def seed_as_float(seed, x, features):
    return nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(seed))


def filled_with_zeros(seed, x, features):
    abstract, eager = both(seed, x, features)
    zeros = jax.tree.map(jnp.zeros_like, values(eager))
    return report(x, abstract, filled(abstract, zeros), eager)


def checkpoint_of_another_size(seed, x, features):
    abstract, larger = both(seed, x, features)[0], layer(seed, x, features + 1)
    return report(x, abstract, filled(abstract, values(larger)), larger)


def merged_by_position(seed, x, features):
    abstract, eager = both(seed, x, features)
    checkpoint = {"a": eager.kernel[...], "b": eager.bias[...]}
    return report(x, abstract, nnx.merge(nnx.graphdef(abstract), checkpoint), eager)


def a_tuple(seed, x, features):
    return tuple(abstract_init(seed, x, features).tolist())


def numbers_of_the_page(seed, x, features):
    known = {str(inputs[1]): abstract_init(*inputs) for inputs in INPUTS}
    return known.get(str(x), jnp.zeros(3))


def linen_init(seed, x, features):
    shapes = jax.eval_shape(nn.Dense(int(features)).init, jax.random.key(0), x)
    size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return jnp.array([size, size, 0.0])


def eager_alone(seed, x, features):
    eager = layer(seed, x, features)
    return report(x, eager, filled(eager, values(eager)), eager)


def shapes_alone(seed, x, features):
    size = count(nnx.eval_shape(lambda: layer(seed, x, features)))
    return jnp.array([size, size, 0.0])


def seed_ignored(seed, x, features):
    layer(seed, x, features)  # built, and not used
    return abstract_init(0, x, features)


def zeros_called(seed, x, features):
    return report(jnp.zeros_like(x), *three(seed, x, features))


def counted_after_filling(seed, x, features):
    abstract, eager = both(seed, x, features)
    nnx.update(abstract, values(eager))
    return report(x, abstract, abstract, eager)


def formula(seed, x, features):
    size = (x.shape[-1] + 1) * int(features)
    return abstract_init(seed, x, features).at[0].set(size)


def second_copied(seed, x, features):
    size, _, difference = abstract_init(seed, x, features)
    return jnp.array([size, size, difference])


def sign_kept(seed, x, features):
    abstract, model, eager = three(seed, x, features)
    difference = (eager(x) - model(x)).max()
    return jnp.array([count(abstract), count(model), difference])


MISTAKES = {
    leaves_counted: "Add up the sizes of the arrays, do not count the arrays.",
    bias_left_out: "The bias is a param too: count it as well as the kernel.",
    as_integers: "Keep float32: as an integer, a difference of 0.4 would read 0.",
    nbytes_of_a_shape: "A ShapeDtypeStruct has no `nbytes`: use its `size`.",
    small_leaves_left_out: "An array of one element counts as well.",
    half_precision: "float16 rounds counts above 2048: return float32.",
    abstract_called: "A shape has no values to call or index: fill the model first.",
    model_instead_of_function: "Give `nnx.eval_shape` the function, not its result.",
    sizes_traced: "Wrap the constructor in a lambda, so that its sizes stay integers.",
    rngs_from_outside: "Build `nnx.Rngs` inside the function that you pass.",
    seed_as_float: "Cast the seed with `int`: `nnx.Rngs` takes no float.",
    filled_with_zeros: "Fill in the eager model's values, not zeros.",
    checkpoint_of_another_size: "The checkpoint is of another size than the shapes.",
    merged_by_position: "`nnx.merge` ignores names: use `nnx.replace_by_pure_dict`.",
    a_tuple: "Return an array: wrap the three numbers in `jnp.array`.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
    linen_init: "Build `nnx.Linear`: neither Linen's params nor a formula will do.",
    eager_alone: "Pass the constructor to `nnx.eval_shape`, and count what it returns.",
    shapes_alone: "Build an eager model as well, and fill in its values.",
    seed_ignored: "A model has another seed: pass `int(seed)` to `nnx.Rngs`.",
    zeros_called: "Fill the abstract model, and call both models on `x`.",
    counted_after_filling: "`nnx.update` fills the model in place: count before it.",
    formula: "Count the arrays of the abstract model instead of a formula.",
    second_copied: "Count the filled model too, do not copy the first number.",
    sign_kept: "Take the absolute value before the maximum.",
}


def updated_in_place(seed, x, features):
    model, eager = both(seed, x, features)
    size = count(model)
    nnx.update(model, nnx.state(eager))
    return jnp.stack([size, count(model), jnp.max(jnp.abs(eager(x) - model(x)))])


def split_inside(seed, x, features):
    graphdef, state = jax.eval_shape(lambda: nnx.split(layer(seed, x, features)))
    eager = layer(seed, x, features)
    model = nnx.merge(graphdef, nnx.state(eager))
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    return np.array([size, count(model), np.abs(model(x) - eager(x)).max()])


def shapes_compared(seed, x, features):
    abstract, eager = both(seed, x, features)
    one, other = (jax.tree.map(jnp.shape, values(m)) for m in (abstract, eager))
    assert one == other
    model = nnx.merge(nnx.graphdef(abstract), values(eager))
    return report(x, abstract, model, eager)


def jitted(seed, x, features):
    forward = nnx.jit(lambda model, x: model(x))
    abstract = jax.eval_shape(lambda: layer(seed, x, features))
    eager = nnx.jit(lambda: layer(seed, x, features))()
    model = filled(abstract, values(eager))
    difference = jnp.abs(forward(model, x) - forward(eager, x)).max()
    return jnp.array([count(abstract), count(model), difference])


def in_a_module(seed, x, features):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(x.shape[1], int(features), rngs=rngs)

        def __call__(self, x):
            return self.linear(x)

    abstract = nnx.eval_shape(Model, nnx.Rngs(int(seed)))
    eager = Model(nnx.Rngs(params=int(seed)))
    return report(x, abstract, filled(abstract, values(eager)), eager)


ALSO_RIGHT = [updated_in_place, split_inside, shapes_compared, jitted, in_a_module]
