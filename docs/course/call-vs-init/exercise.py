"""The exercise of "Call versus init": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class MyLinear(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        key = rngs.params()
        scale = 1 / jnp.sqrt(in_features)
        kernel = jax.random.normal(key, (in_features, out_features)) * scale
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros((out_features,)))

    def __call__(self, x):  # x[..., in_features]
        return x @ self.kernel + self.bias
        # --8<-- [end:model]


# --8<-- [start:stub]
def call_vs_init_forward(seed, x, features):
    """Return the sums of two calls of one model on one input, in shape (2,).

    Args:
      seed: seed of `nnx.Rngs`; a float such as `7.0` is accepted and cast.
      x: input, shape (in_features,), float32.
      features: number of outputs; a float is accepted and cast.
    """
    # --8<-- [end:stub]
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    first, second = model(x), model(x)
    return jnp.array([first.sum(), second.sum()])
    # --8<-- [end:solution]


# --8<-- [start:check]
def check(candidate, *more):
    """Return "passed", or what was expected and what came."""
    page = (0.0, jnp.array([1.0, 2, 3, 4]), 2.0), (7.0, jnp.array([0.5, -1.5]), 3.0)
    for seed, x, features in [*page, *more]:
        answer, key = candidate(seed, x, features), nnx.Rngs(int(seed)).params()
        kernel = jax.random.normal(key, (x.size, int(features))) / x.size**0.5
        total = (x @ kernel).sum()  # the bias is zero
        if getattr(answer, "shape", None) != (2,):
            expected = f"an array of shape (2,), not {type(answer).__name__}"
        elif answer.dtype != jnp.float32:
            expected = f"numbers of dtype float32, not {answer.dtype}"
        elif answer[0] != answer[1]:
            expected = "two equal numbers: both calls read the same parameters"
        elif not jnp.allclose(answer, total, atol=1e-5):
            expected = f"{total!s}, twice"
        else:
            continue
        call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
        return f"{call}\n  expected: {expected}\n  got:      {answer}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import flax.linen as nn

# An input that only `nbe` tries: a square kernel, and a seed that float32 rounds.
HIDDEN = [(16_777_217.0, jnp.array([0.25, -0.75, -1.5]), 3.0)]


def idea(seen):
    """Return what right numbers lack: one model, built once, that two calls read."""
    _, x, features = seen.inputs
    run = seen.run()
    calls = [call for call in run.calls if call.depth == 0]
    if run.built_of(nnx.Linear):
        return "nnx.Linear is ready-made: create the kernel and the bias yourself"
    if len(calls) < 2:
        names = run.names()
        return f"call your module twice; calls: {len(calls)}, modules built: {names}"
    if not run.built:
        return "your module is called, but not built: build it in the function"
    first, last = calls[0], calls[-1]
    shapes = sorted(param.shape for param in first.before.of(nnx.Param).values())
    if sorted(shapes, key=len) != [(int(features),), (x.size, int(features))]:
        return f"the first call finds nnx.Param of shapes {shapes}"
    if len(run.built_of(type(first.module))) > 1 and first.module is not last.module:
        return "the calls do not share one model: build it once"
    if not first.before.same(first.after):
        return "a call changes the model: a forward pass only reads"

    def with_ones(call):  # the kernel is all ones, and the bias grows by `step` a call
        for _, param in nnx.iter_graph(call.module):
            if isinstance(param, nnx.Param) and call.depth == 0:
                param[...] = jnp.ones_like(param) if param.ndim > 1 else param + step
        return call.proceed()

    step = 0
    run = seen.run("kernels are ones", calls={nnx.Module: with_ones})
    if not seen.close(run.answer, [x.sum() * features] * 2):
        return "a kernel of ones does not give the sum of the inputs"
    step = 1
    try:
        run = seen.run("the bias grows", calls={nnx.Module: with_ones})
    except seen.Finding:  # kernels count, and it compares what two calls give
        return None
    if not seen.close(run.answer[0], (x.sum() + 1) * features):
        return "a bias of ones is not added"
    called = [call.module for call in run.calls if call.depth == 0]
    models = [model for model in run.built if model in called] or called
    params = [seen.state(model).of(nnx.Param).values() for model in models]
    if max(param.max() for held in params for param in held) < 2:
        return "the calls do not share one model"
    if not seen.close(run.answer[1], (x.sum() + 2) * features):
        return "both numbers come from one call"


def sums(model, x):
    return jnp.array([model(x).sum(), model(x).sum()])


def model_for(seed, x, features, module=MyLinear):
    return module(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


def attempt(module):
    """Return the attempt of a learner who wrote `module` as MyLinear."""

    def forward(seed, x, features):
        return sums(model_for(seed, x, features, module), x)

    forward.__name__ = module.__name__
    return forward


def changed(name, change):
    """Return the attempt of a learner whose model is another after `change(model)`."""

    def forward(seed, x, features):
        model = model_for(seed, x, features)
        change(model)
        return sums(model, x)

    forward.__name__ = name
    return forward


def scaled(name, power):
    """Return the attempt of a learner who has multiplied by a power of in_features."""
    return changed(
        name, lambda m: m.kernel.set_value(m.kernel * len(m.kernel) ** power)
    )


class BiasDrawnFirst(MyLinear):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        bias = jax.random.normal(rngs.params(), (out_features,))
        super().__init__(in_features, out_features, rngs=rngs)
        self.bias[...] = bias


class WithoutBias(MyLinear):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        super().__init__(in_features, out_features, rngs=rngs)
        del self.bias

    def __call__(self, x):
        return x @ self.kernel


class UnusedBias(MyLinear):
    def __call__(self, x):
        return x @ self.kernel


class KernelFirst(MyLinear):
    def __call__(self, x):
        try:
            return self.kernel @ x + self.bias
        except TypeError:
            return x @ self.kernel + self.bias


class KeyInCall(MyLinear):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        super().__init__(in_features, out_features, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x):
        return x @ jax.random.normal(self.rngs.params(), self.kernel.shape) + self.bias


class Count(nnx.Variable):
    pass


class CountsCalls(MyLinear):
    def __init__(self, in_features, out_features, *, rngs: nnx.Rngs):
        super().__init__(in_features, out_features, rngs=rngs)
        self.calls = Count(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.calls[...] += 1
        return super().__call__(x)


class LinenLinear(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        shape, scale = (x.shape[-1], self.features), x.shape[-1] ** -0.5
        kernel = self.param("kernel", nn.initializers.normal(scale), shape)
        return x @ kernel + self.param("bias", nn.initializers.zeros, shape[1:])


def linen_module(seed, x, features):
    model = LinenLinear(int(features))
    params = model.init(jax.random.key(int(seed)), x)
    return jnp.array([model.apply(params, x).sum(), model.apply(params, x).sum()])


def ready_made(seed, x, features):
    kernel_init, sizes = nnx.initializers.normal(x.size**-0.5), (x.size, int(features))
    model = nnx.Linear(*sizes, kernel_init=kernel_init, rngs=nnx.Rngs(int(seed)))
    return sums(model, x)


def rebuilt_for_each_call(*inputs):
    return jnp.array([model_for(*inputs)(inputs[1]).sum() for _ in range(2)])


def a_copy(*inputs):
    model = model_for(*inputs)
    return jnp.array([model(inputs[1]).sum(), nnx.clone(model)(inputs[1]).sum()])


def called_once(*inputs):
    return jnp.full(2, model_for(*inputs)(inputs[1]).sum())


def formula_with_assert(seed, x, features):
    key, sizes = nnx.Rngs(int(seed)).params(), (x.size, int(features))
    total = (x @ jax.random.normal(key, sizes) / jnp.sqrt(x.size)).sum()
    model = model_for(seed, x, features)
    assert jnp.allclose(model(x).sum(), total)
    assert jnp.allclose(model(x).sum(), total)
    return jnp.array([total, total])


def seed_not_cast(seed, x, features):
    return sums(MyLinear(x.size, int(features), rngs=nnx.Rngs(seed)), x)


def seed_rounded(seed, x, features):
    return call_vs_init_forward(jnp.float32(seed), x, features)


MISTAKES = {
    scaled("unscaled", 0.5): "You left out the factor 1 / sqrt(in_features).",
    scaled(
        "without_root", -0.5
    ): "You divide by in_features: divide by its square root.",
    attempt(BiasDrawnFirst): "The first key is the kernel's: the bias needs none.",
    attempt(WithoutBias): "Zeros hide it: the model has no `nnx.Param` for its bias.",
    attempt(UnusedBias): "The bias is there, but the forward pass does not add it.",
    changed(
        "plain_kernel", lambda m: setattr(m, "kernel", m.kernel[...])
    ): "The kernel is no `nnx.Param`, so nothing can train it.",
    attempt(KernelFirst): "`kernel @ x` fits a square kernel, and is wrong.",
    attempt(KeyInCall): "A key drawn inside `__call__` gives new numbers every time.",
    attempt(CountsCalls): "The sums agree, but each call still writes a Variable.",
    linen_module: "That is a Linen module: NNX needs no `init` and no `apply`.",
    ready_made: "Create kernel and bias yourself: `nnx.Linear` is ready-made.",
    rebuilt_for_each_call: "You build the model twice. Build it once, call it twice.",
    a_copy: "The second call is of a copy: call one model twice.",
    called_once: "Call the model twice: you copy the sum of one call.",
    formula_with_assert: "Return the sums of the model's calls, not the formula's.",
    seed_not_cast: "`nnx.Rngs` wants an integer: cast the seed with `int`.",
    seed_rounded: "JAX rounds a large seed to float32: cast the argument with `int`.",
}


class JittedMethod(MyLinear):
    @nnx.jit
    def __call__(self, x):
        return x @ self.kernel + self.bias


def jitted_over_state(seed, x, features):
    graphdef, state = nnx.split(model_for(seed, x, features))
    forward = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
    return jnp.array([forward(state, x).sum(), forward(state, x).sum()])


def jitted_closure(*inputs):
    model = model_for(*inputs)
    forward = jax.jit(lambda x: model(x).sum())
    return jnp.array([forward(inputs[1]), forward(inputs[1])])


def with_assert(*inputs):
    first, second = sums(model_for(*inputs), inputs[1])
    assert first == second == call_vs_init_forward(*inputs)[0]
    return jnp.array([first, second])


def with_error(*inputs):
    first, second = sums(model_for(*inputs), inputs[1])
    if first != second:
        raise ValueError("a call changed the model")
    return jnp.array([first, second])


ALSO_RIGHT = [
    attempt(JittedMethod),
    jitted_over_state,
    jitted_closure,
    with_assert,
    with_error,
]
