"""The exercise of "Sow and capture": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
import jax
import jax.numpy as jnp
from flax import nnx


class Recurrent(nnx.Module):
    def __init__(self, features, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, h, steps):  # h[batch, features]
        for t in range(steps):
            h = nnx.tanh(self.linear(h))
            h = self.perturb(f"gradient {t}", h, capture_noop=True)
            self.sow(nnx.Intermediate, "hidden", h, capture_noop=True)
        return h


# --8<-- [start:stub]
def norms_through_time(seed, x, steps):
    """Return norms of hidden values and of their gradients, shape (2, steps).

    The first row is of the values after each step, the second of the gradients of the
    loss, the mean of the squares of the last value, with respect to them.

    Args:
      seed: seed of `nnx.Rngs` for the linear layer, an integer.
      x: what the first step takes, shape (batch, features), float32.
      steps: how often the layer is applied, an integer.
    """
    # --8<-- [end:stub]
    model = Recurrent(x.shape[-1], rngs=nnx.Rngs(seed))
    _, zeros = nnx.capture(model, nnx.Perturbation)(x, steps)

    def loss(model, zeros):
        h, sown = nnx.capture(model, nnx.Intermediate, init=zeros)(x, steps)
        return (h**2).mean(), sown["hidden"].get_value()

    gradients, values = nnx.grad(loss, argnums=1, has_aux=True)(model, zeros)
    gradients = [gradients[f"gradient {t}"][...] for t in range(steps)]
    rows = [[jnp.linalg.norm(a) for a in row] for row in (values, gradients)]
    return jnp.array(rows)
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    row = jnp.array([[1.0, -0.5, 2.0]])
    for seed, x, steps in [(0, row, 3), (7, -2 * row, 2), *more]:
        answer, right = candidate(seed, x, steps), []
        layer, h = nnx.Linear(x.shape[-1], x.shape[-1], rngs=nnx.Rngs(seed)), x

        def loss(h, steps, layer=layer):
            for _ in range(steps):
                h = jnp.tanh(layer(h))
            return (h**2).mean()

        for t in range(steps):
            h = jnp.tanh(layer(h))
            gradient = jax.grad(loss)(h, steps - 1 - t)
            right.append([jnp.linalg.norm(h), jnp.linalg.norm(gradient)])
        right, shape = jnp.array(right).T, getattr(answer, "shape", None)
        if shape != right.shape or not jnp.allclose(answer, right, atol=1e-4):
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {steps})"
            return f"{call}\n  expected: {right.round(3)}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (5, jnp.array([[0.5, -1.0], [2.0, 1.5]]), 3),  # two rows
    (3, jnp.array([[1.0, 0.25]]), 5),  # more steps
]


def idea(seen):
    """Return what right norms lack: sown values, and gradients by perturb; or None."""

    def doubled(call):
        given = dict(zip(("variable_type", "name", "value"), call.args, strict=False))
        given = {**given, **call.kwargs}
        return call.module.sow(**{**given, "value": 2 * given["value"]})

    def silent(call):
        return 0 * call.proceed()

    sow, perturb = nnx.Module.sow, nnx.Module.perturb
    run = seen.run("twice the value is sown", calls={sow: doubled})
    if not run.calls_of("sow"):
        return "nothing is sown"
    if not seen.close(run.answer, seen.answer * jnp.array([[2], [1]])):
        return "the first row does not follow what is sown"
    kinds = nnx.Intermediate, nnx.Perturbation
    if any(seen.state(module).of(*kinds) for module in run.built):
        return "a module keeps what it sows: call it in nnx.capture"
    run = seen.run("perturb returns zeros", calls={perturb: silent})
    if not run.calls_of("perturb"):
        return "no value is perturbed"
    if not seen.close(run.answer[1], 0 * seen.answer[1]):
        return "the second row does not follow what perturb returns"


class Unrolled(nnx.Module):
    """The recurrent module, which may do one thing in another way."""

    def __init__(
        self,
        features,
        *,
        rngs,
        called="gradient {}",
        before=False,
        dropped=False,
        start=False,
        merge=None,
        noop=True,
    ):
        self.linear = nnx.Linear(features, features, rngs=rngs)
        self.called, self.before, self.dropped = called, before, dropped
        self.start, self.merge, self.noop = start, merge, noop

    def __call__(self, h, steps):
        for t in range(steps):
            if not self.start:
                h = self.linear(h) if self.before else nnx.tanh(self.linear(h))
            added = self.perturb(self.called.format(t), h, capture_noop=self.noop)
            options = {"reduce_fn": self.merge} if self.merge else {}
            self.sow(nnx.Intermediate, "h", h, capture_noop=self.noop, **options)
            h = h if self.dropped else added
            if self.before:
                h = nnx.tanh(h)
            if self.start:
                h = nnx.tanh(self.linear(h))
        return h


def mean_of_squares(h):
    return (h**2).mean()


def norm_of_all(h):
    return jnp.linalg.norm(h)


def attempt(
    name,
    *,
    steps_of=lambda steps: steps,
    of_loss=mean_of_squares,
    norm=norm_of_all,
    answer=jnp.array,
    seeded=nnx.Rngs,
    **options,
):
    """Return an attempt that does one step of the solution in another way."""

    def norms(seed, x, steps):
        model = Unrolled(x.shape[-1], rngs=seeded(seed), **options)
        steps = steps_of(steps)
        _, zeros = nnx.capture(model, nnx.Perturbation)(x, steps)

        def loss(model, zeros):
            h, sown = nnx.capture(model, nnx.Intermediate, init=zeros)(x, steps)
            return of_loss(h), sown["h"].get_value()

        found, values = nnx.grad(loss, argnums=1, has_aux=True)(model, zeros)
        names = [model.called.format(t) for t in range(steps)]
        rows = values, [found[name][...] for name in names]
        return answer([[norm(a) for a in row] for row in rows])

    norms.__name__ = name
    return norms


def by_hand(seed, x, steps):
    layer = nnx.Linear(x.shape[-1], x.shape[-1], rngs=nnx.Rngs(seed))

    def later(h, left):
        for _ in range(left):
            h = nnx.tanh(layer(h))
        return h

    values = [later(x, t + 1) for t in range(steps)]

    def loss(h, left):
        return mean_of_squares(later(h, left))

    found = [jax.grad(loss)(h, steps - 1 - t) for t, h in enumerate(values)]
    return jnp.array([[norm_of_all(a) for a in row] for row in (values, found)])


def beside_it(*inputs):
    norms_through_time(*inputs)
    return by_hand(*inputs)


def gradients_by_hand(*inputs):
    return jnp.stack([norms_through_time(*inputs)[0], by_hand(*inputs)[1]])


def closed_over(seed, x, steps):
    model = Recurrent(x.shape[-1], rngs=nnx.Rngs(seed))
    _, zeros = nnx.capture(model, nnx.Perturbation)(x, steps)
    return nnx.grad(lambda z: nnx.capture(model, init=z)(x, steps).mean())(zeros)


def newest(_, value):
    return (value,)


MISTAKES = {
    attempt("one_name", called="gradient"): (
        "One name has one gradient, the sum over all steps: number the names."
    ),
    attempt("sum_dropped", dropped=True): (
        "Go on with what `perturb` returns, or the gradients are zero."
    ),
    attempt("before_tanh", before=True): "Sow and perturb the result of tanh.",
    attempt("before_the_step", start=True): (
        "Sow the result of each step, not what it takes."
    ),
    attempt("rows_swapped", answer=lambda rows: jnp.array(rows[::-1])): (
        "The values come first, then their gradients."
    ),
    attempt("steps_by_kind", answer=lambda rows: jnp.array(rows).T): (
        "A step is a column: return shape (2, steps)."
    ),
    attempt("a_list", answer=list): "Return an array: wrap the rows in `jnp.array`.",
    attempt("sum_of_squares", of_loss=lambda h: (h**2).sum()): (
        "The loss is the mean of the squares, not the sum."
    ),
    attempt("mean_of_values", of_loss=lambda h: h.mean()): (
        "The loss is the mean of the squares, not of the values."
    ),
    attempt("squared_norms", norm=lambda h: (h**2).sum()): (
        "A norm is the root of the sum of the squares."
    ),
    attempt("first_row", norm=lambda h: jnp.linalg.norm(h[0])): (
        "The norm is of the whole batch, not of its first row."
    ),
    attempt("three_steps", steps_of=lambda steps: min(steps, 3)): (
        "Take all steps, however many there are."
    ),
    attempt("newest_alone", merge=newest): (
        "Your `reduce_fn` keeps the newest value alone: let `sow` append."
    ),
    attempt("seed_ignored", seeded=lambda seed: nnx.Rngs(0)): (
        "The seed is ignored: pass it to `nnx.Rngs`."
    ),
    closed_over: "Pass the model to the loss as an argument: a capture writes into it.",
    by_hand: "Sow the values, and capture them.",
    beside_it: "Return the norms of what was sown, not of what you compare it with.",
    gradients_by_hand: "Take the gradients with respect to the perturbations.",
}


def compiled(seed, x, steps):
    model = Unrolled(x.shape[-1], rngs=nnx.Rngs(seed))

    @nnx.jit
    def both(model):
        _, zeros = nnx.capture(model, nnx.Perturbation)(x, steps)

        def loss(model, zeros):
            wanted = nnx.capture(model, nnx.Intermediate, init=zeros)
            h, sown = wanted(x, steps)
            return mean_of_squares(h), sown["h"].get_value()

        found, values = nnx.grad(loss, argnums=1, has_aux=True)(model, zeros)
        found = [found[f"gradient {t}"][...] for t in range(steps)]
        return jnp.stack([jnp.stack([*map(norm_of_all, r)]) for r in (values, found)])

    return both(model)


class Probe(nnx.Module):
    def __call__(self, h):
        h = self.perturb(value=h, name="g", capture_noop=True)
        self.sow(nnx.Intermediate, value=h, name="h", capture_noop=True)
        return h


class WithProbes(nnx.Module):
    def __init__(self, features, steps, *, rngs):
        self.linear = nnx.Linear(features, features, rngs=rngs)
        self.probes = nnx.List([Probe() for _ in range(steps)])

    def __call__(self, h):
        for probe in self.probes:
            h = probe(nnx.tanh(self.linear(h)))
        return h


def a_probe_for_each_step(seed, x, steps):
    model = WithProbes(x.shape[-1], steps, rngs=nnx.Rngs(seed))
    _, zeros, sown = nnx.capture(model, nnx.Perturbation, nnx.Intermediate)(x)

    def loss(model, zeros):
        return (nnx.capture(model, init=zeros)(x) ** 2).mean()

    found = nnx.grad(loss, argnums=1)(model, zeros)["probes"]
    values = [sown["probes"][t]["h"][0] for t in range(steps)]
    gradients = [found[t]["g"][...] for t in range(steps)]
    return jnp.array([[norm_of_all(a) for a in row] for row in (values, gradients)])


def two_captures(seed, x, steps):
    model = Recurrent(x.shape[-1], rngs=nnx.Rngs(seed))

    @nnx.capture(nnx.Intermediate)
    def forward(model, h):
        return model(h, steps)

    _, sown = forward(model, x)
    _, zeros = nnx.capture(model, nnx.Perturbation)(x, steps)

    def loss(zeros, model):
        return mean_of_squares(nnx.capture(model, init=zeros)(x, steps))

    found = nnx.to_pure_dict(nnx.grad(loss)(zeros, model))
    rows = sown["hidden"].get_value(), [found[f"gradient {t}"] for t in range(steps)]
    return jnp.array([[jnp.sqrt((a**2).sum()) for a in row] for row in rows])


ALSO_RIGHT = [compiled, a_probe_for_each_step, two_captures]
