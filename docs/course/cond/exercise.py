"""The exercise of "Branches and loops": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx


def normalize(norms, x, *, domain):
    return norms[domain](x)


@nnx.jit
def step(norms, x, domain):
    branches = [partial(normalize, domain=i) for i in range(len(norms))]
    return nnx.switch(domain, branches, norms, x)


# --8<-- [start:stub]
def domain_means(batches, domains, count):
    """Return the running means of each domain at the end, shape (count, features).

    Args:
      batches: float32, shape (steps, batch, features); one batch for each step.
      domains: the domain of each batch, from 0 on, shape (steps,), int32.
      count: number of domains, an integer.
    """
    # --8<-- [end:stub]
    features, rngs = batches.shape[-1], nnx.Rngs(0)
    norms = [nnx.BatchNorm(features, momentum=0.9, rngs=rngs) for _ in range(count)]
    norms = nnx.List(norms)
    for x, domain in zip(batches, domains, strict=True):
        step(norms, x, domain)
    return jnp.stack([norm.mean[...] for norm in norms])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    x, chosen = jnp.arange(12.0).reshape(3, 2, 2), jnp.array([0, 1, 0])
    for batches, domains, count in [(x, chosen, 2), (x**2, 1 - chosen, 2), *more]:
        answer = candidate(batches, domains, count)
        right = jnp.zeros((count, batches.shape[-1]))
        for batch, domain in zip(batches, domains, strict=True):
            moved = 0.9 * right[domain] + 0.1 * batch.mean(axis=0)
            right = right.at[domain].set(moved)
        if getattr(answer, "shape", None) != right.shape:
            expected = f"an array of shape {right.shape}, not {type(answer).__name__}"
        elif not jnp.allclose(answer, right, atol=1e-4):
            expected = right.round(4).tolist()
        else:
            continue
        call = f"{candidate.__name__}(batches, jnp.array({domains.tolist()}), {count})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import itertools

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (jnp.arange(1.0, 21.0).reshape(5, 2, 2), jnp.array([3, 1, 0, 2, 3]), 4),
    # domains that no batch is of
    (jnp.arange(2.0, 10.0).reshape(2, 2, 2), jnp.array([1, 0]), 3),
]
STEPS, COUNT = 10, 3
SIZES = itertools.count(3)  # of features: each asks for an executable of its own


def idea(seen):
    """Return what right means lack: one program that chooses, and norms that move."""
    run = seen.run(
        "all batches are of one domain",
        inputs=(jnp.ones((STEPS, 2, next(SIZES))), jnp.ones(STEPS, jnp.int32), COUNT),
        eager=False,
    )
    calls = run.calls_of(nnx.BatchNorm)
    if not calls:
        return "no nnx.BatchNorm is called"
    traced = sum(call.compiled for call in calls)
    if not traced:
        return "the norms run eagerly: compile the function that chooses"
    if traced < COUNT:
        return "one program for each domain: let one program choose among all norms"
    if traced >= STEPS:
        return "each step is traced: compile the function once"
    hooks = {nnx.BatchNorm: lambda call: call.args[0]}
    run = seen.run("each norm returns its input and writes nothing", calls=hooks)
    if not seen.close(run.answer, jnp.zeros_like(seen.answer)):
        return "the means do not follow what the norms write"


def by_hand(
    batches,
    domains,
    count,
    *,
    momentum=0.9,
    place=lambda domain, count: domain,
    statistic=jnp.mean,
):
    """Return the means by formulas, where an attempt may do one thing otherwise."""
    found = jnp.zeros((count, batches.shape[-1]))
    for batch, domain in zip(batches, domains, strict=True):
        at = place(domain, count)
        moved = momentum * found[at] + (1 - momentum) * statistic(batch, axis=0)
        found = found.at[at].set(moved)
    return found


def attempt(name, base=by_hand, **changed):
    """Return an attempt that does one thing otherwise."""

    def means(batches, domains, count):
        return base(batches, domains, count, **changed)

    means.__name__ = name
    return means


def build(batches, count):
    features, rngs = batches.shape[-1], nnx.Rngs(0)
    norms = [nnx.BatchNorm(features, momentum=0.9, rngs=rngs) for _ in range(count)]
    return nnx.List(norms)


def means_of(norms):
    return jnp.stack([norm.mean[...] for norm in norms])


def stepwise(batches, domains, count, *, step):
    norms = build(batches, count)
    for x, domain in zip(batches, domains, strict=True):
        step(norms, x, domain)
    return means_of(norms)


def eager_step(norms, x, domain):
    norms[int(domain)](x)


def traced_each(norms, x, domain):
    def choose(norms, x, domain):
        branches = [partial(normalize, domain=i) for i in range(len(norms))]
        return nnx.switch(domain, branches, norms, x)

    nnx.eval_shape(choose, nnx.clone(norms), x, domain)  # as a new `nnx.jit`, but cheap
    norms[int(domain)](x)


@nnx.jit(static_argnums=2)
def static_step(norms, x, domain):
    norms[domain](x)


def step_of_int(norms, x, domain):
    static_step(norms, x, int(domain))


@nnx.jit
def python_if(norms, x, domain):
    for i, norm in enumerate(norms):
        if domain == i:
            norm(x)


def closed_over(batches, domains, count):
    norms = build(batches, count)

    @nnx.jit
    def step(x, domain):
        return nnx.switch(domain, [lambda x, n=norm: n(x) for norm in norms], x)

    for x, domain in zip(batches, domains, strict=True):
        step(x, domain)
    return means_of(norms)


def enough_norms(batches, domains, count):
    return by_hand(batches, domains, int(domains.max()) + 1)


def formula_with_assert(*inputs):
    found, formula = domain_means(*inputs), by_hand(*inputs)
    assert jnp.allclose(found, formula, atol=1e-4)
    return formula


MISTAKES = {
    attempt("in_lax_switch", momentum=1.0): (
        "The means stay at zero: use `nnx.switch` in `nnx.jit`, and train mode."
    ),
    attempt("late_lambda", place=lambda domain, count: count - 1): (
        "A lambda reads `i` when it is called, after the loop: bind it by `partial`."
    ),
    attempt("one_norm", place=lambda domain, count: slice(None)): (
        "Only the norm of the batch's domain sees it."
    ),
    attempt("usual_momentum", momentum=0.99): "Build each norm with `momentum=0.9`.",
    attempt("momentum_swapped", momentum=0.1): (
        "`momentum` is the share of the old mean that stays."
    ),
    attempt("variances", statistic=jnp.var): "Return the means, not the variances.",
    attempt("last_batches", momentum=0.0): (
        "Return the running means, not those of the last batches."
    ),
    attempt("two_domains", place=lambda domain, count: jnp.minimum(domain, 1)): (
        "There may be more than two domains: make a branch for each."
    ),
    enough_norms: "Build `count` norms: a domain may have no batch.",
    attempt("python_if", base=stepwise, step=python_if): (
        "`if` cannot look into a tracer: choose by `nnx.switch`."
    ),
    closed_over: "Pass the norms as operands of the switch, and as arguments.",
    attempt("not_compiled", base=stepwise, step=eager_step): (
        "Nothing is compiled: choose inside a function under `nnx.jit`."
    ),
    attempt("domain_static", base=stepwise, step=step_of_int): (
        "A static domain compiles a program for each: pass it as an array."
    ),
    attempt("traced_each", base=stepwise, step=traced_each): (
        "Call `nnx.jit` once, before the loop."
    ),
    by_hand: "Let an `nnx.BatchNorm` keep the means of each domain.",
    formula_with_assert: "Return the means of the norms, not those that you compare.",
}


@jax.jit
def returning_step(norms, x, domain):
    def branch(i):
        def normalized(norms, x):
            norms[i](x)
            return norms

        return normalized

    return jax.lax.switch(domain, [branch(i) for i in range(len(norms))], norms, x)


def modules_returned(batches, domains, count):
    norms = build(batches, count)
    for x, domain in zip(batches, domains, strict=True):
        norms = returning_step(norms, x, domain)
    return means_of(norms)


@nnx.jit
def step_of_conds(norms, x, domain):
    for i, norm in enumerate(norms):
        nnx.cond(domain == i, lambda n, x: n(x), lambda n, x: x, norm, x)


@nnx.jit
def run(norms, batches, domains):
    def body(i, norms):
        branches = [partial(normalize, domain=n) for n in range(len(norms))]
        nnx.switch(domains[i], branches, norms, batches[i])
        return norms

    nnx.fori_loop(0, len(batches), body, norms)


def in_a_loop(batches, domains, count):
    norms = build(batches, count)
    run(norms, batches, domains)
    return means_of(norms)


by_conds = attempt("by_conds", base=stepwise, step=step_of_conds)
ALSO_RIGHT = [modules_returned, by_conds, in_a_loop]
