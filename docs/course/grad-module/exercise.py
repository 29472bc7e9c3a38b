"""The exercise of "Gradients of a module": stub, solution, check, attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:stub]
class NormedLinear(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(in_features, rngs=rngs)
        self.linear = nnx.Linear(in_features, out_features, rngs=rngs)

    def __call__(self, x):  # x[batch, in_features]
        return self.linear(self.norm(x))
        # --8<-- [end:model]


def grad_module(seed, x, features):
    """Return the norms of a student's gradient, by the paths of its params, shape (4,).

    Args:
      seed: seed of `nnx.Rngs` for the teacher, an integer; the student's is one more.
      x: input, shape (batch, in_features), float32.
      features: number of outputs of both, an integer.
    """
    # --8<-- [end:stub]
    teacher = NormedLinear(x.shape[-1], features, rngs=nnx.Rngs(seed))
    student = NormedLinear(x.shape[-1], features, rngs=nnx.Rngs(seed + 1))
    target = nnx.view(teacher, use_running_average=True)(x)

    def distillation_loss(student):
        return jnp.mean((student(x) - target) ** 2)

    grads = nnx.state(nnx.grad(distillation_loss)(student), nnx.Param)
    return jnp.stack([jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(grads)])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows = jnp.array([[1.0, 2.0], [0.5, -1.0], [0.0, 0.5]])
    for seed, x, features in [(0, rows, 1), (7, rows[:2], 1), *more]:
        answer = candidate(seed, x, features)
        seeds, sizes = (seed, seed + 1), (x.shape[-1], features)
        models = [NormedLinear(*sizes, rngs=nnx.Rngs(one)) for one in seeds]
        teacher, kernel = (model.linear.kernel[...] for model in models)
        normed = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
        error = normed @ kernel - x / jnp.sqrt(1 + 1e-5) @ teacher
        slope = 2 * error / error.size  # of the loss, by each output
        grads = slope.sum(0), normed.T @ slope  # of the linear layer
        grads += (slope @ kernel.T).sum(0), (slope @ kernel.T * normed).sum(0)
        right = jnp.stack([jnp.linalg.norm(grad) for grad in grads])
        shape = getattr(answer, "shape", None)
        if shape != (4,) or not jnp.allclose(answer, right, rtol=1e-3, atol=1e-4):
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
            expected = f"[{', '.join(f'{norm:.3f}' for norm in right)}]"
            return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # an input that only `nbe` tries; it catches a mistake of its own
    # two outputs
    (3, jnp.array([[1.0, -2.0], [0.25, 1.0], [2.0, 0.0]]), 2),
]


def idea(seen):
    """Return what right norms lack: a gradient that is taken of the module, or None."""

    def steeper(call):  # the same output, with twice the slope
        output = call.proceed()
        return 2 * output - jax.lax.stop_gradient(output)

    run = seen.run("the slope is doubled", calls={nnx.Linear: steeper})
    if not run.calls_of(nnx.Linear):
        return "no nnx.Linear is called: differentiate a loss of the model"
    if not seen.close(run.answer, 2 * seen.answer):
        return "the norms do not follow the slope of the model: return its gradient's"


def two_models(seed, x, features):
    sizes = x.shape[-1], features
    return [NormedLinear(*sizes, rngs=nnx.Rngs(seed + n)) for n in (0, 1)]


def distillation(student, teacher, x):
    return jnp.mean((student(x) - teacher(x)) ** 2)


def norms(grads):
    grads = nnx.state(grads, nnx.Param)
    return jnp.stack([jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(grads)])


def attempt(
    name,
    pair=two_models,
    modes=("train", "eval"),
    loss=distillation,
    grad=nnx.grad,
    size=norms,
):
    """Return the attempt of a learner whose solution differs in its options."""

    def attempted(seed, x, features):
        teacher, student = pair(seed, x, features)
        getattr(student, modes[0])()
        getattr(teacher, modes[1])()
        return size(grad(loss)(student, teacher, x))

    attempted.__name__ = name
    return attempted


def all_arrays(grads):
    return jnp.stack([jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(grads)])


def one_stream(seed, x, features):
    rngs = nnx.Rngs(seed)
    return [NormedLinear(x.shape[-1], features, rngs=rngs) for _ in "ts"]


def one_seed(seed, x, features):
    return [two_models(seed, x, features)[0] for _ in "ts"]


def teacher_closed_over(*inputs):
    teacher, student = two_models(*inputs)
    grads = nnx.grad(lambda student: distillation(student, teacher, inputs[1]))(student)
    return norms(grads)


def output_handed_over(*inputs):
    teacher, student = two_models(*inputs)
    teacher.eval()
    error = student(inputs[1]) - teacher(inputs[1])
    return norms(nnx.grad(lambda student: jnp.mean(error**2))(student))


def by_formula(seed, x, features):
    teacher, kernel = (m.linear.kernel[...] for m in two_models(seed, x, features))
    normed = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
    error = normed @ kernel - x / jnp.sqrt(1 + 1e-5) @ teacher
    slope = 2 * error / error.size
    back = slope @ kernel.T
    grads = slope.sum(0), normed.T @ slope, back.sum(0), (back * normed).sum(0)
    return jnp.stack([jnp.linalg.norm(grad) for grad in grads])


def formula_beside(*inputs):
    grad_module(*inputs)
    return by_formula(*inputs)


MISTAKES = {
    attempt("statistics_counted", grad=jax.grad, size=all_arrays): (
        "`jax.grad` gives the statistics a gradient, too: take the params' alone."
    ),
    attempt("teacher_in_train_mode", modes=("train", "train")): (
        "The teacher predicts by its statistics: use a view in eval mode."
    ),
    attempt("both_in_eval_mode", modes=("eval", "eval")): (
        "The student trains: it uses the statistics of the batch."
    ),
    teacher_closed_over: (
        "The loss closes over statistics, and a model in train mode writes them: use a "
        "view in eval mode as teacher, and merge a student with `copy=True`."
    ),
    attempt("gradient_of_the_teacher", grad=lambda f: nnx.grad(f, argnums=1)): (
        "Differentiate the loss in the student, not in the teacher."
    ),
    attempt("one_seed", pair=one_seed): "The student's seed is `seed + 1`.",
    attempt("one_stream", pair=one_stream): (
        "Each model has an `nnx.Rngs` of its own, from its own seed."
    ),
    attempt("squared", size=lambda grads: norms(grads) ** 2): (
        "A norm is the root of the sum of the squares."
    ),
    attempt("one_norm", size=lambda grads: jnp.linalg.norm(norms(grads))): (
        "Return a norm for each param, not one for all."
    ),
    attempt("sum_of_squares", loss=lambda *a: distillation(*a) * a[2].shape[0]): (
        "The loss is the mean of the squares, not their sum."
    ),
    attempt("first_output", loss=lambda s, t, x: ((s(x) - t(x))[:, 0] ** 2).mean()): (
        "Every output counts, not the first alone."
    ),
    output_handed_over: "Call the student in the loss: an outer output is constant.",
    by_formula: "Let `nnx.grad` find the gradient, not a formula.",
    formula_beside: "Return the norms of the gradient, not those of a formula.",
}


def by_split(*inputs):
    teacher, student = two_models(*inputs)
    target = nnx.view(teacher, use_running_average=True)(inputs[1])
    graphdef, params, rest = nnx.split(student, nnx.Param, ...)

    def loss(params):
        student = nnx.merge(graphdef, params, rest, copy=True)
        return jnp.mean((student(inputs[1]) - target) ** 2)

    return norms(jax.grad(loss)(params))


early = nnx.jit(nnx.value_and_grad(distillation))


def compiled_early(*inputs):
    teacher, student = two_models(*inputs)
    teacher.eval()
    answer = norms(early(student, teacher, inputs[1])[1])
    assert answer.shape == (4,)
    return answer


def covered(loss):
    return nnx.compat.grad(loss, argnums=nnx.DiffState(0, nnx.Param))


ALSO_RIGHT = [
    by_split,
    compiled_early,
    attempt("filtered", grad=covered),
    attempt("of_the_module", grad=jax.grad),
]
