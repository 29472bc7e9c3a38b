"""The exercise of "Abstract init": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class Classifier(nnx.Module):
    def __init__(self, inputs, features, classes, *, rngs: nnx.Rngs):
        self.body = nnx.Linear(inputs, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)
        self.head = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, x, rngs=None):  # x[batch, inputs]
        x = nnx.relu(self.norm(self.body(x)))
        return self.head(self.dropout(x, rngs=rngs))
        # --8<-- [end:model]


# --8<-- [start:stub]
def transfer(seed, checkpoint, x, classes):
    """Return the logits of a model with a new head, shape (batch, classes).

    They are what you see before the first step of fine-tuning, in evaluation mode.

    Args:
      seed: seed of `nnx.Rngs` for the new head, an integer.
      checkpoint: pure dict of the whole state of a trained `Classifier`.
      x: inputs, shape (batch, inputs), float32.
      classes: number of outputs of the new head, which need not be that of the old.
    """
    # --8<-- [end:stub]
    inputs, features = checkpoint["body"]["kernel"].shape
    head = nnx.Linear(features, classes, rngs=nnx.Rngs(seed))
    pure = {**checkpoint, "head": nnx.to_pure_dict(nnx.state(head))}

    def create():
        return Classifier(inputs, features, classes, rngs=nnx.Rngs(0))

    graphdef, state = nnx.split(nnx.eval_shape(create))
    nnx.replace_by_pure_dict(state, pure)
    model = nnx.merge(graphdef, state)
    return nnx.view(model, deterministic=True, use_running_average=True)(x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows = jnp.array([[1.0, 2, 3], [0.5, -1, 0]])
    trained = Classifier(3, 4, 2, rngs=nnx.Rngs(1))
    trained(rows, rngs=nnx.Rngs(2))  # a call that changes the statistics
    saved = nnx.to_pure_dict(nnx.state(trained))
    for seed, old, x, classes in [(7, saved, rows, 5), (0, saved, -rows, 3), *more]:
        answer = candidate(seed, old, x, classes)
        body, norm = old["body"], old["norm"]
        y = x @ body["kernel"] + body["bias"] - norm["mean"]
        y = y / jnp.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
        head = nnx.Linear(y.shape[-1], classes, rngs=nnx.Rngs(seed))
        expected = head(nnx.relu(y))
        right = getattr(answer, "shape", None) == expected.shape
        if not right or not jnp.allclose(answer, expected, atol=1e-4):
            call = f"{candidate.__name__}({seed}, checkpoint, {x.tolist()}, {classes})"
            row = jnp.array_str(expected[0], precision=3)
            said = f"shape {expected.shape}, first row {row}"
            return f"{call}\n  expected: {said}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.


def saved(inputs, features, classes):
    """Return the state of a classifier as a pure dict, with numbers of no pattern."""
    model = nnx.eval_shape(
        lambda: Classifier(inputs, features, classes, rngs=nnx.Rngs(0))
    )
    pure = nnx.to_pure_dict(nnx.state(model))
    return jax.tree.map(
        lambda s: 1 + jnp.sin(jnp.arange(s.size)).reshape(s.shape), pure
    )


HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, saved(2, 3, 4), jnp.array([[1.0, -2], [0.5, 1]]), 2),  # other widths
    (3, saved(3, 4, 2), jnp.array([[0.5, 1, -2], [2, 0, 1]]), 2),  # as many classes
]


def idea(seen):
    """Return what a right answer lacks: an abstract model, and a head that it uses."""
    classes, traced = seen.inputs[3], []

    def note(norm):
        traced.append(isinstance(norm.scale.get_value(), jax.core.Tracer))

    def doubled(call):
        return call.proceed() * (1 + (call.module.out_features == classes))

    seen.run(built={nnx.BatchNorm: note})
    if not any(traced):
        return "no model is built inside nnx.eval_shape"
    if not all(traced):
        return "a whole model is built outside nnx.eval_shape, with random weights"
    found = seen.run("the head returns twice as much", calls={nnx.Linear: doubled})
    if not seen.close(found.answer, 2 * seen.answer):
        return "the answer does not follow what the new head returns"


def sizes(checkpoint):
    return checkpoint["body"]["kernel"].shape


def build(checkpoint, classes):
    return Classifier(*sizes(checkpoint), classes, rngs=nnx.Rngs(0))


def new_head(seed, checkpoint, classes):
    return nnx.Linear(sizes(checkpoint)[1], classes, rngs=nnx.Rngs(seed))


def filled(abstract, pure):
    graphdef, state = nnx.split(abstract)
    nnx.replace_by_pure_dict(state, pure)
    return nnx.merge(graphdef, state)


def evaluated(model, x, **modes):
    modes = {"deterministic": True, "use_running_average": True, **modes}
    return nnx.view(model, **modes)(x)


def attempt(
    name, *, shape=nnx.eval_shape, build=build, head=new_head, old=dict, **modes
):
    """Return an attempt that does one step of the solution in another way."""

    def logits(seed, checkpoint, x, classes):
        abstract = shape(lambda: build(checkpoint, classes))
        pure = nnx.to_pure_dict(nnx.state(head(seed, checkpoint, classes)))
        model = filled(abstract, {**old(checkpoint), "head": pure})
        return evaluated(model, x, **modes)

    logits.__name__ = name
    return logits


def head_of_zeros(seed, checkpoint, classes):
    head = new_head(seed, checkpoint, classes)
    head.kernel[...] = jnp.zeros_like(head.kernel[...])
    return head


def head_from_the_model(seed, checkpoint, classes):
    inputs, features = sizes(checkpoint)
    return Classifier(inputs, features, classes, rngs=nnx.Rngs(seed)).head


def width_of_the_page(seed, checkpoint, classes):
    return nnx.Linear(4, classes, rngs=nnx.Rngs(seed))


def new_statistics(checkpoint):
    norm = checkpoint["norm"]
    fresh = {"mean": jnp.zeros_like(norm["mean"]), "var": jnp.ones_like(norm["var"])}
    return {**checkpoint, "norm": {**norm, **fresh}}


def head_not_filled(seed, checkpoint, x, classes):
    body = {name: part for name, part in checkpoint.items() if name != "head"}
    abstract = nnx.eval_shape(lambda: build(checkpoint, classes))
    return evaluated(filled(abstract, body), x)


def old_head_kept(seed, checkpoint, x, classes):
    abstract = nnx.eval_shape(lambda: build(checkpoint, classes))
    return evaluated(filled(abstract, checkpoint), x)


def rngs_from_outside(seed, checkpoint, x, classes):
    rngs = nnx.Rngs(seed)
    return nnx.eval_shape(lambda: Classifier(3, 4, classes, rngs=rngs))


def what_fits(seed, checkpoint, x, classes):
    pure = nnx.to_pure_dict(nnx.state(new_head(seed, checkpoint, classes)))
    if checkpoint["head"]["bias"].shape == (classes,):
        pure = checkpoint["head"]
    abstract = nnx.eval_shape(lambda: build(checkpoint, classes))
    return evaluated(filled(abstract, {**checkpoint, "head": pure}), x)


def formula_with_assert(seed, checkpoint, x, classes):
    body, norm = checkpoint["body"], checkpoint["norm"]
    y = x @ body["kernel"] + body["bias"] - norm["mean"]
    y = y * norm["scale"] * jax.lax.rsqrt(norm["var"] + 1e-5) + norm["bias"]
    head = new_head(seed, checkpoint, classes)
    logits = nnx.relu(y) @ head.kernel + head.bias
    by_model = transfer(seed, checkpoint, x, classes)
    assert jnp.allclose(logits, by_model, atol=1e-4)
    return logits


MISTAKES = {
    attempt("eager_model", shape=lambda make: make()): (
        "Only the head needs new weights: build the model inside `nnx.eval_shape`."
    ),
    attempt("result_passed", shape=lambda make: nnx.eval_shape(make())): (
        "Give `nnx.eval_shape` the function, not its result."
    ),
    attempt("abstract_head", head=lambda *inputs: nnx.eval_shape(new_head, *inputs)): (
        "Sizes must be integers in a trace: build the head for real."
    ),
    attempt("width_of_the_page", head=width_of_the_page): (
        "Read the head's number of inputs from the checkpoint."
    ),
    attempt("head_of_zeros", head=head_of_zeros): (
        "A head of zeros answers 0 for everything: keep its random kernel."
    ),
    attempt("head_of_a_new_model", head=head_from_the_model): (
        "The head is the first that `nnx.Rngs(seed)` serves: build it alone."
    ),
    attempt("new_statistics", old=new_statistics): (
        "Fill the statistics too: the checkpoint has the whole state."
    ),
    attempt("training_mode", use_running_average=False): (
        "The norm uses the batch: evaluate with `use_running_average=True`."
    ),
    attempt("dropout_on", deterministic=False): (
        "Dropout is on: evaluate with `deterministic=True`."
    ),
    attempt("seed_ignored", head=lambda _, *rest: new_head(0, *rest)): (
        "The head has another seed: build it from `nnx.Rngs(seed)`."
    ),
    head_not_filled: "The head is still a shape: give it arrays before the call.",
    old_head_kept: "The old head came back: nothing compares its size with the model.",
    rngs_from_outside: "Build `nnx.Rngs` inside the function that you pass.",
    what_fits: "The head is always new, also if the old one has its size.",
    formula_with_assert: "Return what the filled model gives.",
}


def updated_in_place(seed, checkpoint, x, classes):
    model = nnx.eval_shape(lambda: build(checkpoint, classes))
    body = {name: part for name, part in checkpoint.items() if name != "head"}
    nnx.update(model, body)
    model.head = new_head(seed, checkpoint, classes)
    model.eval()
    return model(x)


def old_model_with_another_head(seed, checkpoint, x, classes):
    old = checkpoint["head"]["bias"].size
    model = filled(nnx.eval_shape(lambda: build(checkpoint, old)), checkpoint)
    model.head = new_head(seed, checkpoint, classes)
    return nnx.jit(evaluated)(model, x)


def by_filter(seed, checkpoint, x, classes):
    abstract = nnx.eval_shape(lambda: build(checkpoint, classes))
    graphdef, _, rest = nnx.split(abstract, nnx.PathContains("head"), ...)
    nnx.replace_by_pure_dict(rest, {k: checkpoint[k] for k in ("body", "norm")})
    head = nnx.state({"head": new_head(seed, checkpoint, classes)})
    return evaluated(nnx.merge(graphdef, head, rest), x)


ALSO_RIGHT = [updated_in_place, old_model_with_another_head, by_filter]
