"""The exercise of "The same mask again": stub, solution, check, attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


# --8<-- [start:model]
class Encoder(nnx.Module):
    def __init__(self, in_features, features, *, rngs: nnx.Rngs):
        self.first = nnx.Dropout(0.5)
        self.linear = nnx.Linear(in_features, features, rngs=rngs)
        self.last = nnx.Dropout(0.5)

    def __call__(self, x, rngs=None):  # x[..., in_features]
        x = nnx.relu(self.linear(self.first(x, rngs=rngs)))
        return self.last(x, rngs=rngs)
        # --8<-- [end:model]


# --8<-- [start:stub]
def paired_changes(seed, x, dx, draws):
    """Return how the output changes with x, each time under one pair of masks.

    Args:
      seed: seed of the stream `params`; that of `dropout` is one more.
      x: input, shape (in_features,), float32.
      dx: number that is added to each feature.
      draws: number of pairs of masks, and of rows of the answer.
    """
    # --8<-- [end:stub]
    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    model, changes = Encoder(x.size, 4, rngs=rngs), []
    for _ in range(draws):
        again = nnx.clone(rngs)  # the keys and counts of now
        changes.append(model(x + dx, rngs=rngs) - model(x, rngs=again))
    return jnp.stack(changes)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""

    def changed(x, dx, linear, stream):
        ends = 2 * jnp.stack([x + dx, x]) * stream.bernoulli(0.5, x.shape)
        ends = 2 * nnx.relu(linear(ends)) * stream.bernoulli(0.5, (4,))
        return ends[0] - ends[1]

    first, second = jnp.array([1.0, 2, 3, -4, 5, 6]), jnp.array([0.5, -1.5, 2, 3])
    for seed, x, dx, draws in [(0, first, 0.5, 2), (7, second, 2.0, 2), *more]:
        rngs = nnx.Rngs(params=seed, dropout=seed + 1)
        answer, linear = candidate(seed, x, dx, draws), nnx.Linear(x.size, 4, rngs=rngs)
        right = jnp.stack([changed(x, dx, linear, rngs.dropout) for _ in range(draws)])
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {dx}, {draws})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

# Only `nbe` tries it: another number of draws and of features.
HIDDEN = [(11, jnp.array([1.5, -0.5, 2.0]), 1.5, 4)]


def idea(seen):
    """Return what right numbers lack: that all follow what both layers return."""
    run = seen.run(
        "each dropout layer returns twice as much",
        calls={nnx.Dropout: lambda call: 2 * call.proceed()},
    )
    if not run.calls_of(nnx.Dropout):
        return "no nnx.Dropout is called"
    if not seen.close(run.answer, 4 * seen.answer):  # two layers; the bias is zero
        return "the changes do not follow what both dropout layers return"


def built(seed, x):
    """Return the streams and the model that the exercise asks for."""
    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    return rngs, Encoder(x.size, 4, rngs=rngs)


def by_hand(seed, x, dx, draws):
    rngs = nnx.Rngs(params=seed, dropout=seed + 1)
    linear, rows = nnx.Linear(x.size, 4, rngs=rngs), []
    for _ in range(draws):
        first = rngs.dropout.bernoulli(0.5, x.shape)
        last = rngs.dropout.bernoulli(0.5, (4,))
        ends = [nnx.relu(linear(2 * z * first)) * 2 * last for z in (x + dx, x)]
        rows.append(ends[0] - ends[1])
    return jnp.stack(rows)


def keys_move_on(seed, x, dx, draws):
    rngs, model = built(seed, x)
    rows = [model(x + dx, rngs=rngs) - model(x, rngs=rngs) for _ in range(draws)]
    return jnp.stack(rows)


def one_key_for_both_layers(seed, x, dx, draws):
    rngs, model = built(seed, x)
    keys = [rngs.dropout() for _ in range(draws)]
    return jnp.stack([model(x + dx, rngs=k) - model(x, rngs=k) for k in keys])


def streams_of_a_key(seed, x, dx, draws):
    rngs, model = built(seed, x)
    keys, rows = [rngs.dropout() for _ in range(draws)], []
    for key in keys:
        ends = [model(z, rngs=nnx.Rngs(dropout=key)) for z in (x + dx, x)]
        rows.append(ends[0] - ends[1])
    return jnp.stack(rows)


def same_masks_in_all_draws(seed, x, dx, draws):
    return jnp.stack([paired_changes(seed, x, dx, 1)[0]] * draws)


def in_eval_mode(seed, x, dx, draws):
    _, model = built(seed, x)
    model.eval()
    return jnp.stack([model(x + dx) - model(x)] * draws)


def sign_turned(seed, x, dx, draws):
    return -paired_changes(seed, x, dx, draws)


def output_of_the_change(seed, x, dx, draws):
    rngs, model = built(seed, x)
    return jnp.stack([model(x * 0 + dx, rngs=rngs) for _ in range(draws)])


def per_unit(seed, x, dx, draws):
    return paired_changes(seed, x, dx, draws) / dx


def equal_seeds(seed, x, dx, draws):
    rngs, (_, model) = nnx.Rngs(dropout=seed), built(seed, x)
    return changes(model, rngs, x, dx, draws)


def one_stream_for_all(seed, x, dx, draws):
    rngs = nnx.Rngs(seed)
    return changes(Encoder(x.size, 4, rngs=rngs), rngs, x, dx, draws)


def changes(model, rngs, x, dx, draws):
    """Return what the solution does, for some model and streams."""
    again = nnx.clone(rngs)
    rows = [model(x + dx, rngs=rngs) - model(x, rngs=again) for _ in range(draws)]
    return jnp.stack(rows)


def seed_zero(seed, x, dx, draws):
    return paired_changes(0, x, dx, draws)


def mean_over_draws(seed, x, dx, draws):
    return paired_changes(seed, x, dx, draws).mean(axis=0)


def two_draws(seed, x, dx, draws):
    return paired_changes(seed, x, dx, 2)


def streams_held(seed, x, dx, draws):
    rngs, model = built(seed, x)
    model.first, model.last = (nnx.Dropout(0.5, rngs=rngs) for _ in range(2))
    rows = []
    for _ in range(draws):
        again = nnx.clone(model)
        rows.append(model(x + dx) - again(x))
    return jnp.stack(rows)


def formula_with_assert(seed, x, dx, draws):
    answer, formula = (
        paired_changes(seed, x, dx, draws),
        by_hand(seed, x, dx, draws),
    )
    assert jnp.allclose(answer, formula, atol=1e-4)
    return formula


MISTAKES = {
    keys_move_on: (
        "The second call of a pair has other masks: give it a copy of the streams. A "
        "state that is not copied moves on with them."
    ),
    one_key_for_both_layers: (
        "Both layers draw from one key: pass an `nnx.Rngs`, from which each takes one."
    ),
    streams_of_a_key: "The layers take the keys of `rngs`: start no stream from one.",
    same_masks_in_all_draws: "Each draw has masks of its own: let the stream go on.",
    in_eval_mode: "In eval mode nothing is dropped: leave the model in train mode.",
    sign_turned: "The change is the output at `x + dx` minus that at `x`.",
    output_of_the_change: "`relu` is not linear: call the model at `x + dx` and `x`.",
    per_unit: "Return the change as it is: do not divide by `dx`.",
    equal_seeds: "The seed of `dropout` is `seed + 1`.",
    one_stream_for_all: "Name two streams, `params` and `dropout`, with a seed each.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    mean_over_draws: "Return a row for each draw, not their mean.",
    two_draws: "Draw as many pairs of masks as `draws` says.",
    streams_held: "A layer forks what it is given: pass `rngs` at the call.",
    by_hand: "Draw no mask by hand: call the model.",
    formula_with_assert: "Return what the model returns, not what you compare it with.",
}


def clone_that_keeps_pace(seed, x, dx, draws):
    rngs, model = built(seed, x)
    return changes(model, rngs, x, dx, draws)


def counts_put_back(seed, x, dx, draws):
    rngs, model = built(seed, x)
    rows = []
    for i in range(draws):
        after = model(x + dx, rngs=rngs)
        rngs.dropout.count[...] = 2 * i
        rows.append(after - model(x, rngs=rngs))
    return jnp.stack(rows)


def state_put_back(seed, x, dx, draws):
    rngs, model = built(seed, x)
    rows = []
    for _ in range(draws):
        before = jax.tree.map(jnp.copy, nnx.state(rngs))
        after = model(x + dx, rngs=rngs)
        nnx.update(rngs, before)
        rows.append(after - model(x, rngs=rngs))
    return jnp.stack(rows)


def one_key_for_two_rows(seed, x, dx, draws):
    rngs, model = built(seed, x)
    both = nnx.vmap(lambda x, rngs: model(x, rngs=rngs), in_axes=(0, None))
    ends = jnp.stack([both(jnp.stack([x + dx, x]), rngs) for _ in range(draws)])
    return ends[:, 0] - ends[:, 1]


ALSO_RIGHT = [
    clone_that_keeps_pace,
    counts_put_back,
    state_put_back,
    one_key_for_two_rows,
]
