"""The exercise of "Ensembles with vmap": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Regressor(nnx.Module):
    def __init__(self, features, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(features, 16, rngs=rngs)
        self.head = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):  # x[..., features]
        return self.head(nnx.relu(self.hidden(x)))[..., 0]
        # --8<-- [end:model]


sgd = optax.sgd(0.1)


@nnx.vmap(in_axes=(0, None, None, 0))
def loss_of(member, x, y, weights):
    return (weights * (member(x) - y) ** 2).sum()


@nnx.jit
def train_step(ensemble, optimizer, x, y, weights):
    def loss(ensemble):
        return loss_of(ensemble, x, y, weights).sum()

    optimizer.update(ensemble, nnx.grad(loss)(ensemble))


# --8<-- [start:stub]
def leave_one_out(seed, x, y, steps):
    """Return the prediction for each row by a model that has not seen it.

    Member i of an ensemble is `Regressor(features, rngs=...)` with stream i of
    `nnx.Rngs(seed).split(rows)`. It takes some steps of `optax.sgd(0.1)` on the mean
    squared error of all rows but row i, and then predicts row i.

    Args:
      seed: seed of `nnx.Rngs`, an integer.
      x: at least two rows, shape (rows, features), float32.
      y: targets, shape (rows,), float32.
      steps: how many steps each member takes, an integer.
    """
    # --8<-- [end:stub]
    rows, features = x.shape
    make = nnx.vmap(lambda rngs: Regressor(features, rngs=rngs))
    ensemble = make(nnx.Rngs(seed).split(rows))
    optimizer = nnx.Optimizer(ensemble, sgd, wrt=nnx.Param)
    weights = (1 - jnp.eye(rows)) / (rows - 1)  # weights[member, row]
    for _ in range(steps):
        train_step(ensemble, optimizer, x, y, weights)
    return nnx.vmap(lambda member, row: member(row))(ensemble, x)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    rows, targets = jnp.array([[0.0], [0.5], [1.0]]), jnp.array([0.0, 1.0, 0.5])
    slope = jax.grad(lambda m, x, y, i: jnp.delete((m(x) - y) ** 2, i).mean() / 10)
    for seed, x, y, steps in [(0, rows, targets, 2), (3, rows + 1, -targets, 1), *more]:
        answer, right = candidate(seed, x, y, steps), jnp.zeros(0)
        for i, key in enumerate(jax.random.split(nnx.Rngs(seed)(), len(x))):
            model = Regressor(x.shape[1], rngs=nnx.Rngs(key))
            for _ in range(steps):
                model = jax.tree.map(jnp.subtract, model, slope(model, x, y, i))
            right = jnp.append(right, model(x[i]))
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right.round(4)
        else:
            continue
        call = f"{candidate.__name__}({seed}, {x.tolist()}, {y.tolist()}, {steps})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, jnp.array([[0.5, 1.0], [1.0, -1.0], [-0.5, 2.0]]), jnp.array([1.0, 0, 2]), 1),
    (1, jnp.array([[-1.0], [0.0], [0.5], [2.0]]), jnp.arange(4.0) / 4, 1),
]

ROWS, STEPS = 7, 2


def idea(seen):
    """Return what right predictions lack: members that train in one call."""
    x = jnp.linspace(-1, 1, ROWS)[:, None]
    inputs = 2, x, x[:, 0] ** 2, STEPS
    calls = [c for c in seen.run(inputs=inputs).calls_of(nnx.Module) if c.depth == 0]
    if not calls:
        return "no Regressor is called"
    if len(calls) >= ROWS * STEPS:
        said = f"{len(calls)} calls for {STEPS} steps of {ROWS} members"
        return f"{said}: let nnx.vmap train all members in one"

    def doubled(call):
        return call.proceed() * (2 if call.depth == 0 else 1)

    run = seen.run("a member returns twice as much", calls={nnx.Module: doubled})
    if seen.close(run.answer, seen.answer):
        return "the answer does not follow what the members return"


def attempt(
    name,
    streams=lambda seed, rows: nnx.Rngs(seed).split(rows),
    features=lambda x: x.shape[1],
    weights=lambda rows: (1 - jnp.eye(rows)) / (rows - 1),
    total=jnp.sum,
    optimizer=lambda: optax.sgd(0.1),
    count=lambda steps: steps,
    predict=lambda ensemble, x: nnx.vmap(lambda m, row: m(row))(ensemble, x),
):
    """Return the attempt of a learner whose solution differs in one place."""

    def attempted(seed, x, y, steps):
        rows = len(x)
        ensemble = nnx.vmap(lambda r: Regressor(features(x), rngs=r))(
            streams(seed, rows)
        )
        given = weights(rows)

        @nnx.vmap(in_axes=(0, 0))
        def loss_of(member, weights):
            return (weights * (member(x) - y) ** 2).sum()

        def loss(ensemble):
            return total(loss_of(ensemble, given))

        trainer = nnx.Optimizer(ensemble, optimizer(), wrt=nnx.Param)
        for _ in range(count(steps)):
            trainer.update(ensemble, nnx.grad(loss)(ensemble))
        return predict(ensemble, x)

    attempted.__name__ = name
    return attempted


def one_stream(seed, rows):
    key = jax.random.split(nnx.Rngs(seed)(), rows)[0]
    return nnx.vmap(lambda i: nnx.Rngs(key))(jnp.arange(rows))


def all_rows(ensemble, x):
    return nnx.vmap(lambda m, x: m(x), in_axes=(0, None))(ensemble, x)


def one_by_one(seed, x, y, steps):
    def error(model, x, y):
        return ((model(x) - y) ** 2).mean()

    answer = []
    for i, key in enumerate(jax.random.split(nnx.Rngs(seed)(), len(x))):
        model = Regressor(x.shape[1], rngs=nnx.Rngs(key))
        others = jnp.delete(x, i, axis=0), jnp.delete(y, i)
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        for _ in range(steps):
            optimizer.update(model, nnx.grad(error)(model, *others))
        answer.append(model(x[i]))
    return jnp.stack(answer)


def by_einsum(seed, x, y, steps):
    def apply(params, x):
        hidden = nnx.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        return (hidden @ params["head"]["kernel"] + params["head"]["bias"])[..., 0]

    def loss(params, weights):
        return (weights * (apply(params, x) - y) ** 2).sum()

    rows = len(x)
    keys = jax.random.split(nnx.Rngs(seed)(), rows)
    models = [Regressor(x.shape[1], rngs=nnx.Rngs(key)) for key in keys]
    pure = [nnx.to_pure_dict(nnx.state(model)) for model in models]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pure)
    weights = (1 - jnp.eye(rows)) / (rows - 1)
    for _ in range(steps):
        grads = jax.vmap(jax.grad(loss))(params, weights)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    return jax.vmap(apply)(params, x)


def formula_beside(*inputs):
    leave_one_out(*inputs)
    return by_einsum(*inputs)


MISTAKES = {
    attempt("one_stream", streams=one_stream): (
        "All members begin with equal weights: split the streams."
    ),
    attempt("seed_zero", streams=lambda seed, rows: nnx.Rngs(0).split(rows)): (
        "The seed is ignored: pass it to `nnx.Rngs`."
    ),
    attempt("three_members", streams=lambda seed, rows: nnx.Rngs(seed).split(3)): (
        "Split the streams into as many as there are rows."
    ),
    attempt("one_feature", features=lambda x: 1): (
        "Rows may have more features than one: read it from the shape of `x`."
    ),
    attempt("trained_on_all", weights=lambda rows: jnp.ones((rows, rows)) / rows): (
        "Member i must not see row i: give that row the weight 0."
    ),
    attempt("trained_on_its_own", weights=jnp.eye): (
        "Member i sees all rows but row i, not row i alone."
    ),
    attempt("mean_of_all", weights=lambda rows: (1 - jnp.eye(rows)) / rows): (
        "The mean is over one row less than there are: divide by that number."
    ),
    attempt("sum_of_squares", weights=lambda rows: 1 - jnp.eye(rows)): (
        "The loss of a member is the mean of the squares, not their sum."
    ),
    attempt("mean_of_members", total=jnp.mean): (
        "A mean over the members makes each step shorter: add their losses."
    ),
    attempt("adam", optimizer=lambda: optax.adam(0.1)): "The rule is `optax.sgd(0.1)`.",
    attempt("one_step_more", count=lambda steps: steps + 1): (
        "Take as many steps as `steps` says, and predict after the last."
    ),
    attempt("one_step_less", count=lambda steps: steps - 1): (
        "The last step counts too: predict after it."
    ),
    attempt("every_row", predict=all_rows): (
        "Each member predicts its own row alone: map over the rows too."
    ),
    attempt("mean_prediction", predict=lambda e, x: all_rows(e, x).mean(axis=0)): (
        "Other members have seen row i: its prediction is that of member i."
    ),
    one_by_one: "Train all members in one step, with `nnx.vmap`.",
    by_einsum: "Call the members with `nnx.vmap`: no formula is needed.",
    formula_beside: "Return what the members predict.",
}


def optimizer_each(seed, x, y, steps):
    rows, tx = len(x), optax.sgd(0.1)

    @nnx.vmap
    def make(rngs):
        member = Regressor(x.shape[1], rngs=rngs)
        return member, nnx.Optimizer(member, tx, wrt=nnx.Param)

    @nnx.vmap
    def train_step(member, optimizer, seen):
        def loss(member):
            return jnp.mean((member(x) - y) ** 2, where=seen)

        optimizer.update(member, nnx.grad(loss)(member))

    members, optimizers = make(nnx.Rngs(seed).split(rows))
    for _ in range(steps):
        train_step(members, optimizers, ~jnp.eye(rows, dtype=bool))
    return jnp.diag(all_rows(members, x))


def by_state(seed, x, y, steps):
    rows = len(x)
    make = nnx.vmap(lambda rngs: Regressor(x.shape[1], rngs=rngs))
    graphdef, params = nnx.split(make(nnx.Rngs(seed).split(rows)))
    others = jnp.array([[j for j in range(rows) if j != i] for i in range(rows)])

    def loss(params, others):
        predicted = nnx.merge(graphdef, params)(x[others])
        return ((predicted - y[others]) ** 2).mean()

    for _ in range(steps):
        grads = jax.vmap(jax.grad(loss))(params, others)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    return jax.vmap(lambda params, row: nnx.merge(graphdef, params)(row))(params, x)


def whole_training_mapped(seed, x, y, steps):
    @nnx.vmap(in_axes=(0, 0))
    def train(rngs, i):
        member = Regressor(x.shape[1], rngs=rngs)
        optimizer = nnx.Optimizer(member, optax.sgd(0.1), wrt=nnx.Param)

        def loss(member):
            return jnp.mean((member(x) - y) ** 2, where=jnp.arange(len(x)) != i)

        for _ in range(steps):
            optimizer.update(member, nnx.grad(loss)(member))
        return member(x[i])

    return train(nnx.Rngs(seed).split(len(x)), jnp.arange(len(x)))


ALSO_RIGHT = [optimizer_each, by_state, whole_training_mapped]
