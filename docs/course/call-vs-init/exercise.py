"""The exercise of "Call versus init": stub, solution, check, and attempts to judge.

The page includes the sections between the markers; the tests judge every attempt.
"""

# --8<-- [start:solution]
# --8<-- [start:model]
import jax
import jax.numpy as jnp
from flax import nnx


class MyLinear(nnx.Module):
    def __init__(self, in_features, out_features, rngs):
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
import inspect
import sys
from unittest.mock import patch

INPUTS = [  # seed, x, features
    (0.0, jnp.array([1.0, 2.0, 3.0, 4.0]), 2.0),
    (7.0, jnp.array([0.5, -1.5]), 3.0),
    (3.0, jnp.array([2.5]), 1.0),
]


def expected_sum(seed, x, features):
    """Return the sum of one forward pass, computed without a module."""
    key = nnx.Rngs(int(seed)).params()
    kernel = jax.random.normal(key, (x.shape[-1], int(features)), jnp.float32)
    return (x @ kernel / jnp.sqrt(x.shape[-1])).sum()


def module_call(frame):
    """Return the arguments if the frame is a call of a module of yours, or None."""
    names, rest, _, values = inspect.getargvalues(frame)
    given = [*(values.get(name) for name in names), *values.get(rest, ())]
    if not given or not isinstance(given[0], nnx.Module):
        return None
    module, code = type(given[0]), frame.f_code
    method = getattr(module.__call__, "__code__", None)
    yours = not module.__module__.startswith("flax.")
    return given if yours and (code is method or code.co_name == "__call__") else None


def watch(candidate, inputs, before_call=lambda model: None):
    """Return the answer, the modules built, and the calls: model, before, after, x."""
    built, calls, outermost, previous = [], [], None, sys.getprofile()
    construct = type(nnx.Module).__call__

    def build(cls, *args, **kwargs):
        built.append(construct(cls, *args, **kwargs))
        return built[-1]

    def profile(frame, event, _):
        nonlocal outermost
        if event == "call" and not outermost and (given := module_call(frame)):
            outermost = frame
            before_call(given[0])
            calls.append([given[0], nnx.clone(given[0]), None, given[1:]])
        elif event == "return" and frame is outermost:
            outermost, calls[-1][2] = None, nnx.clone(calls[-1][0])

    try:
        with jax.disable_jit():  # a jitted call would run only once
            candidate(*inputs)  # to compile while nobody watches is faster
            with patch.object(type(nnx.Module), "__call__", build):
                sys.setprofile(profile)
                return candidate(*inputs), built, calls
    finally:
        sys.setprofile(previous)


def equal(one, other):
    """Return whether two pytrees hold equal arrays at equal places."""
    leaves = jax.tree.leaves((one, other))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return True  # inside a gradient there are no numbers yet
    same = jax.tree.structure(one) == jax.tree.structure(other)
    return same and jax.tree.all(jax.tree.map(jnp.array_equal, one, other))


def impurity(built, calls):
    """Return why two calls of a model can differ, or None."""

    def same(one, other, kept):
        both = (nnx.to_pure_dict(nnx.state(model, kept)) for model in (one, other))
        return equal(*both)

    (model, before, after, inputs), (other, later, _, other_inputs) = (
        calls[0],
        calls[-1],
    )
    if sum(type(m) is type(model) for m in built) > 1 and other is not model:
        return "the calls do not share one model: build it once"
    if not equal(inputs, other_inputs):
        return "the second call has another input"
    if not same(before, after, nnx.RngCount):
        return "a call draws a key: draw keys in the constructor"
    if not same(before, after, nnx.Not(nnx.RngState)):
        return "a call changes the model: a forward pass only reads"
    if not same(after, later, nnx.Param):
        return "the model changes between the calls"


def params_of(model):
    """Return the model's parameters, the one with the fewest axes first."""
    state, is_leaf = nnx.state(model, nnx.Param), lambda v: isinstance(v, nnx.Param)
    return sorted(jax.tree.leaves(state, is_leaf), key=lambda param: param.ndim)


def misread_params(candidate, inputs):
    """Return what shows that the sums are not two calls' of one model, or None."""

    def watch_with(kernel, bias):
        def change(model):
            for param in params_of(model):
                param[...] = (bias if param.ndim == 1 else kernel)(param[...])

        return watch(candidate, inputs, change)

    _, x, features = inputs
    try:
        ones, *_ = watch_with(kernel=jnp.ones_like, bias=jnp.zeros_like)
        bias, *_ = watch_with(kernel=jnp.zeros_like, bias=jnp.ones_like)
        # Now each call finds a bias that is larger by one.
        answer, built, calls = watch_with(jnp.zeros_like, lambda bias: bias + 1)
    except Exception:  # the candidate compares what it computes itself
        return None
    if not jnp.allclose(ones, features * x.sum(), atol=1e-4):
        return "a kernel of ones does not give the sum of the inputs"
    if not jnp.allclose(bias, features):
        return f"a bias of ones adds {bias[0]!s}, not {features}"
    called = [model for model, *_ in calls]
    models = [m for m in built if any(m is other for other in called)] or called
    if max(params_of(model)[0].max() for model in models) < len(calls):
        return f"the calls do not share one model; models built: {len(models)}"
    if answer[0] == answer[1]:
        return "both numbers come from one call"


def missing_idea(candidate, inputs):
    """Return what the model lacks although its numbers are right, or None."""
    _, x, features = inputs
    _, built, calls = watch(candidate, inputs)
    if any(isinstance(module, nnx.Linear) for module in built):
        return "nnx.Linear is ready-made: create the kernel and the bias yourself"
    if len(calls) < 2:
        names = ", ".join(type(module).__name__ for module in built) or "none"
        return f"call your module twice; calls: {len(calls)}, modules built: {names}"
    if not built:
        return "your module is called, but not built: build it in the function"
    _, before, after, _ = calls[0]
    shapes = [param.shape for param in params_of(before)]
    if len(params_of(after)) > len(shapes):
        return "the first call creates parameters: the constructor does that"
    if shapes != [(int(features),), (x.size, int(features))]:
        return f"the first call finds nnx.Param of shapes {shapes}"
    return impurity(built, calls) or misread_params(candidate, inputs)


def check(candidate, inputs=INPUTS):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for case in inputs:
        answer, total, wrong, hint = candidate(*case), expected_sum(*case), None, None
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if getattr(answer, "shape", None) != (2,):
            wrong = f"an array of shape (2,), not {type(answer).__name__}"
        elif not jnp.issubdtype(answer.dtype, jnp.floating):
            wrong = f"numbers of dtype float32, not {answer.dtype}"
        elif not jnp.array_equal(answer[0], answer[1], equal_nan=True):
            _, built, calls = watch(candidate, case)
            hint = impurity(built, calls) if len(calls) > 1 else "call one model twice"
            wrong = "two equal numbers: both calls read the same parameters"
        elif not jnp.allclose(answer, total, atol=1e-5):
            wrong = f"{total!s}, twice"
        if wrong:
            seed, x, features = case
            call = f"{candidate.__name__}({seed}, jnp.array({x.tolist()}), {features})"
            said = f"{call}\n  expected: {wrong}\n  got:      {answer}"
            return f"{said}\n  next:     {hint}" if hint else said
    if missing := missing_idea(candidate, inputs[0]):
        return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# What follows is not on the page: it is for the tests and for the command `nbe`.

import functools

import flax.linen as nn
import numpy as np

HIDDEN = [  # inputs that only `nbe` tries; each catches a mistake of its own
    (12.0, jnp.array([0.25, -0.75, -1.5]), 3.0),
    (16_777_217.0, jnp.array([1.5, -2.0, -0.75, 1.25, -3.0]), 4.0),
]

normal, uniform = jax.random.normal, jax.random.uniform
init = nnx.initializers
PAGE_INPUT = jnp.array([1.0, 2.0, 3.0, 4.0])


def sums(model, x):
    """Return the sums of two calls of one model, the answer to the exercise."""
    return jnp.array([model(x).sum(), model(x).sum()])


def model_for(seed, x, features, module=MyLinear):
    """Return a model of the size and seed that the exercise asks for."""
    return module(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))


# Makers of attempts: each returns a learner's `call_vs_init_forward` with that name.


def named(name, function):
    """Return the function with a name for messages and tests."""
    function.__name__ = name
    return function


def attempt(module):
    """Return the attempt of a learner who wrote `module` as MyLinear."""
    return named(module.__name__, lambda s, x, f: sums(model_for(s, x, f, module), x))


def drawn(name, kernel, bias=lambda rngs, i, o: jnp.zeros(o)):
    """Return an attempt whose kernel is `kernel(rngs, in_features, out_features)`."""

    class Drawn(MyLinear):
        def __init__(self, *sizes, rngs):
            self.kernel = nnx.Param(kernel(rngs, *sizes))
            self.bias = nnx.Param(bias(rngs, *sizes))

    return named(name, lambda s, x, f: sums(model_for(s, x, f, Drawn), x))


def scaled(name, scale):
    """Return an attempt with a normal kernel times `scale(in, out)`."""
    return drawn(name, lambda rngs, i, o: normal(rngs.params(), (i, o)) * scale(i, o))


def initialized(name, initializer):
    """Return an attempt whose kernel is `initializer(key, shape)`."""
    return drawn(name, lambda rngs, *sizes: initializer(rngs.params(), sizes))


def biased(name, bias):
    """Return an attempt with a right kernel and the bias `bias(rngs, in, out)`."""
    return drawn(name, right_kernel, bias)


def keyed(name, key):
    """Return an attempt that draws its kernel from `key(rngs, seed)`."""

    def forward(seed, x, features):
        model = model_for(seed, x, features)
        drawn = normal(key(nnx.Rngs(int(seed)), int(seed)), model.kernel.shape)
        model.kernel[...] = drawn / jnp.sqrt(x.shape[-1])
        return sums(model, x)

    return named(name, forward)


def given(name, change):
    """Return a right attempt that takes the inputs `change(seed, x, features)`."""
    return named(name, lambda *inputs: call_vs_init_forward(*change(*inputs)))


def activated(name, function):
    """Return an attempt that applies `function` to the output."""
    return answered(name, lambda model, x: [function(model(x)).sum() for _ in range(2)])


def answered(name, answer):
    """Return an attempt that makes `answer(model, x)` of a right model."""

    def forward(seed, x, features):
        found = answer(model_for(seed, x, features), x)
        return jnp.array(found) if isinstance(found, list) else found

    return named(name, forward)


def right_kernel(rngs, in_features, out_features):
    """Return the kernel of the solution."""
    return normal(rngs.params(), (in_features, out_features)) / jnp.sqrt(in_features)


def symmetric(rngs, in_features, *out):
    """Return uniform numbers up to 1 / sqrt(in_features) on both sides of zero."""
    limit = in_features**-0.5
    return uniform(rngs.params(), out, minval=-limit, maxval=limit)


def truncated(key, shape):
    """Return normal numbers without those beyond two deviations."""
    return jax.random.truncated_normal(key, -2.0, 2.0, shape)


def lower(dtype, rngs, in_features, out_features):
    """Return a kernel that is drawn in another dtype and scaled in float32."""
    drawn = normal(rngs.params(), (in_features, out_features), dtype)
    return drawn / jnp.sqrt(in_features)


def numpy_numbers(rngs, in_features, out_features, old=False):
    """Return a kernel that NumPy draws from the same seed."""
    seed = int(jax.random.key_data(rngs.params.key[...])[-1])
    generator = np.random.RandomState(seed) if old else np.random.default_rng(seed)
    return jnp.array(
        generator.normal(size=(in_features, out_features)) / in_features**0.5
    )


def columns(rngs, in_features, out_features):
    """Return a kernel with a key for each column."""
    drawn = [normal(rngs.params(), (in_features,)) for _ in range(out_features)]
    return jnp.stack(drawn, axis=1) / jnp.sqrt(in_features)


def unit(x):
    """Return an array divided by its norm."""
    return x / jnp.linalg.norm(x)


def standard(x):
    """Return an array divided by the deviation of its numbers."""
    return x / x.std()


class HalfPrecision(MyLinear):
    def __call__(self, x):
        kernel, bias = (p.astype(jnp.float16) for p in (self.kernel, self.bias))
        return x.astype(jnp.float16) @ kernel + bias


class Extended(MyLinear):
    """A right model, for subclasses that spoil it."""

    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.rngs, self.calls = rngs, nnx.Variable(jnp.array(0))


class BiasDrawnFirst(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        bias = normal(rngs.params(), (out_features,))
        super().__init__(in_features, out_features, rngs)
        self.bias[...] = bias


class OneKeyForBoth(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        key = rngs.params()
        kernel = normal(key, (in_features, out_features)) / jnp.sqrt(in_features)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(normal(key, (out_features,)))


class WithoutBias(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        del self.bias

    def __call__(self, x):
        return x @ self.kernel


class UnusedBias(MyLinear):
    def __call__(self, x):
        return x @ self.kernel


class MinusBias(MyLinear):
    def __call__(self, x):
        return x @ self.kernel - self.bias


class ScalarBias(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.bias = nnx.Param(jnp.zeros(()))


class BiasOfLengthOne(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.bias = nnx.Param(jnp.zeros((1,)))


class BiasAsARow(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.bias = nnx.Param(jnp.zeros((1, out_features)))


class CopyOfKernel(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.weights = nnx.data(self.kernel[...])

    def __call__(self, x):
        return x @ self.weights + self.bias


class PlainArrays(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.kernel, self.bias = self.kernel[...], self.bias[...]


class PlainKernel(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.kernel = self.kernel[...]


class KernelFirst(MyLinear):
    def __call__(self, x):
        return self.kernel @ x + self.bias


class KernelFirstIfItFits(MyLinear):
    def __call__(self, x):
        try:
            return self.kernel @ x + self.bias
        except TypeError:
            return x @ self.kernel + self.bias


class KernelStoredTurned(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.kernel = nnx.Param(self.kernel[...].T)

    def __call__(self, x):
        return self.kernel @ x + self.bias


class KeyInCall(Extended):
    def __call__(self, x):
        return x @ right_kernel(self.rngs, *self.kernel.shape) + self.bias


class WithDropout(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(super().__call__(x))


class WithNoise(Extended):
    def __call__(self, x):
        y = super().__call__(x)
        return y + normal(self.rngs.params(), y.shape)


class CountingCalls(Extended):
    def __call__(self, x):
        self.calls[...] += 1
        return super().__call__(x) * self.calls


class UnusedCounter(Extended):
    def __call__(self, x):
        self.calls[...] += 1
        return super().__call__(x)


class BiasGrows(MyLinear):
    def __call__(self, x):
        self.bias[...] += 1.0
        return super().__call__(x)


class BiasGrowsAfterwards(MyLinear):
    def __call__(self, x):
        y = super().__call__(x)
        self.bias[...] += 1.0
        return y


class KernelGrows(MyLinear):
    def __call__(self, x):
        self.kernel[...] += 1.0
        return super().__call__(x)


class LazyParams(nnx.Module):
    def __init__(self, in_features, out_features, rngs):
        self.sizes, self.rngs = (in_features, out_features), rngs

    def __call__(self, x):
        if not hasattr(self, "kernel"):
            self.kernel = nnx.Param(right_kernel(self.rngs, *self.sizes))
            self.bias = nnx.Param(jnp.zeros(self.sizes[1]))
        return x @ self.kernel + self.bias


def ready_made(seed, x, features):
    kernel_init = init.normal(x.shape[-1] ** -0.5)
    sizes = x.shape[-1], int(features)
    model = nnx.Linear(*sizes, kernel_init=kernel_init, rngs=nnx.Rngs(int(seed)))
    return sums(model, x)


@functools.cache
def kept(seed, size, features):
    return model_for(seed, jnp.ones(size), features)


def kept_from_before(seed, x, features):
    return sums(kept(seed, x.size, features), x)


def rebuilt_for_each_call(*inputs):
    return jnp.array([model_for(*inputs)(inputs[1]).sum() for _ in range(2)])


def rebuilt_from_one_stream(seed, x, features):
    rngs, sizes = nnx.Rngs(int(seed)), (x.shape[-1], int(features))
    return jnp.array([MyLinear(*sizes, rngs=rngs)(x).sum() for _ in range(2)])


def rebuilt_with_the_next_seed(seed, x, features):
    models = [model_for(seed + n, x, features) for n in range(2)]
    return jnp.array([model(x).sum() for model in models])


def seed_not_cast(seed, x, features):
    return sums(MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(seed)), x)


def features_not_cast(seed, x, features):
    return sums(MyLinear(x.shape[-1], features, rngs=nnx.Rngs(int(seed))), x)


def seed_for_rngs(seed, x, features):
    return sums(MyLinear(x.shape[-1], int(features), rngs=int(seed)), x)


def another_stream(seed, x, features):
    rngs = nnx.Rngs(dropout=int(seed))
    return sums(MyLinear(x.shape[-1], int(features), rngs=rngs), x)


def four_inputs(seed, x, features):
    return sums(MyLinear(4, int(features), rngs=nnx.Rngs(int(seed))), x)


def sizes_swapped(seed, x, features):
    return sums(MyLinear(int(features), x.shape[-1], rngs=nnx.Rngs(int(seed))), x)


def without_rngs(seed, x, features):
    return sums(MyLinear(x.shape[-1], int(features)), x)


def init_first(seed, x, features):
    model = model_for(seed, x, features)
    params = model.init(jax.random.key(int(seed)), x)
    return jnp.array([model.apply(params, x).sum(), model.apply(params, x).sum()])


def applied(seed, x, features):
    model = model_for(seed, x, features)
    params = nnx.state(model)
    return jnp.array([model.apply(params, x).sum(), model.apply(params, x).sum()])


def a_list(*inputs):
    return list(call_vs_init_forward(*inputs))


def a_dict(*inputs):
    return dict(zip(["first", "second"], call_vs_init_forward(*inputs), strict=True))


def a_string(*inputs):
    return str(call_vs_init_forward(*inputs))


def linen_dense(seed, x, features):
    model = nn.Dense(int(features))
    params = model.init(jax.random.key(int(seed)), x)
    return jnp.array([model.apply(params, x).sum(), model.apply(params, x).sum()])


class LinenLinear(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", init.normal(1 / shape[0] ** 0.5), shape)
        return x @ kernel + self.param("bias", init.zeros, shape[1:])


def linen_module(seed, x, features):
    model = LinenLinear(int(features))
    params = model.init(jax.random.key(int(seed)), x)
    return jnp.array([model.apply(params, x).sum(), model.apply(params, x).sum()])


def formula_only(seed, x, features):
    return jnp.full((2,), expected_sum(seed, x, features))


def numbers_of_the_page(seed, x, features):
    return jnp.full((2,), -2.8976293)


# Each wrong answer with what its author should hear. `check` refuses all of them. `nbe`
# tells it to whoever gives the same answers on HIDDEN, or lacks the same idea.

MISTAKES = {
    # The scale of the kernel.
    scaled("unscaled", lambda i, o: 1): (
        "You left out the factor 1 / sqrt(in_features)."
    ),
    scaled("by_outputs", lambda i, o: o**-0.5): (
        "Scale by the number of inputs, not of outputs."
    ),
    scaled("by_both", lambda i, o: (i + o) ** -0.5): (
        "Scale by the number of inputs alone: 1 / sqrt(in_features)."
    ),
    scaled("by_size", lambda i, o: (i * o) ** -0.5): (
        "You divide by the root of the kernel's size: take that of in_features."
    ),
    scaled("without_root", lambda i, o: 1 / i): (
        "You divide by in_features: divide by its square root."
    ),
    scaled("by_outputs_without_root", lambda i, o: 1 / o): (
        "You divide by out_features: divide by the square root of in_features."
    ),
    scaled("upside_down", lambda i, o: i**0.5): (
        "You multiply by sqrt(in_features): divide by it."
    ),
    scaled("multiplied", lambda i, o: i): (
        "You multiply by in_features: divide by its square root."
    ),
    scaled("for_relu", lambda i, o: (2 / i) ** 0.5): (
        "sqrt(2 / in_features) is He's scale: here it is 1 / sqrt(in_features)."
    ),
    scaled("as_glorot", lambda i, o: (2 / (i + o)) ** 0.5): (
        "That is Glorot's scale: here it is 1 / sqrt(in_features)."
    ),
    scaled("one_hundredth", lambda i, o: 0.01): (
        "You scale by 0.01: the scale is 1 / sqrt(in_features)."
    ),
    scaled("one_fiftieth", lambda i, o: 0.02): (
        "You scale by 0.02: the scale is 1 / sqrt(in_features)."
    ),
    scaled("one_tenth", lambda i, o: 0.1): (
        "You scale by 0.1: the scale is 1 / sqrt(in_features)."
    ),
    scaled("one_half", lambda i, o: 0.5): (
        "0.5 is right for 4 inputs only: compute 1 / sqrt(in_features)."
    ),
    scaled("without_parentheses", lambda i, o: 1 / i / 2): (
        "`1 / n ** 1 / 2` is `1 / n / 2`: write `1 / n ** 0.5`."
    ),
    scaled("by_square", lambda i, o: 1 / i**2): (
        "You divide by the square of in_features: divide by its square root."
    ),
    scaled("whole_root", lambda i, o: 1 / int(i**0.5)): (
        "You cut the root to a whole number: divide by `jnp.sqrt(in_features)`."
    ),
    scaled("averaged", lambda i, o: i**-1.5): (
        "You average over the inputs: the product with the kernel only sums."
    ),
    drawn("by_norm", lambda *args: unit(right_kernel(*args))): (
        "You divide the kernel by its norm: divide by the root of in_features."
    ),
    drawn(
        "by_deviation",
        lambda rngs, i, o: standard(normal(rngs.params(), (i, o))) / i**0.5,
    ): (
        "You divide the kernel by its own deviation: divide by the root of in_features."
    ),
    # The kernel's numbers.
    initialized("lecun_normal", init.lecun_normal()): (
        "These are the weights of `nnx.Linear`: draw yours with `jax.random.normal`."
    ),
    initialized("lecun_uniform", init.lecun_uniform()): (
        "`lecun_uniform` draws other numbers: use `jax.random.normal`."
    ),
    initialized("he_normal", init.he_normal()): (
        "`he_normal` draws other numbers: use `jax.random.normal`."
    ),
    initialized("he_uniform", init.he_uniform()): (
        "`he_uniform` draws other numbers: use `jax.random.normal`."
    ),
    initialized("glorot_normal", init.glorot_normal()): (
        "`glorot_normal` draws other numbers: use `jax.random.normal`."
    ),
    initialized("glorot_uniform", init.glorot_uniform()): (
        "`glorot_uniform` draws other numbers: use `jax.random.normal`."
    ),
    initialized("orthogonal", init.orthogonal()): (
        "`orthogonal` draws other numbers: use `jax.random.normal`."
    ),
    initialized("ones", init.ones): (
        "The kernel is all ones: draw it with `jax.random.normal`."
    ),
    drawn("scaled_ones", lambda rngs, i, o: jnp.full((i, o), i**-0.5)): (
        "The kernel is constant: draw it with `jax.random.normal`."
    ),
    initialized("zeros", init.zeros): (
        "The sums are zero: is the kernel zero, or multiplied by the bias?"
    ),
    initialized("uniform", uniform): (
        "Draw the kernel with `normal`, not with `uniform`, and scale it."
    ),
    drawn(
        "scaled_uniform", lambda rngs, i, o: uniform(rngs.params(), (i, o)) / i**0.5
    ): ("The kernel is drawn with `normal`, not with `uniform`."),
    drawn("symmetric_uniform", lambda rngs, i, o: symmetric(rngs, i, i, o)): (
        "The kernel is normal, not uniform around zero."
    ),
    drawn("as_in_torch", lambda rngs, i, o: symmetric(rngs, i, i, o), symmetric): (
        "That is PyTorch's layer: here the kernel is normal and the bias is zero."
    ),
    initialized(
        "truncated", lambda key, shape: truncated(key, shape) / shape[0] ** 0.5
    ): ("The kernel is drawn with `normal`, not with `truncated_normal`."),
    drawn("transposed", lambda rngs, i, o: normal(rngs.params(), (o, i)).T / i**0.5): (
        "Draw the kernel in shape (in_features, out_features)."
    ),
    drawn("turned", lambda rngs, i, o: normal(rngs.params(), (o, i)).T / o**0.5): (
        "Draw the kernel in shape (in_features, out_features); scale by the first."
    ),
    drawn("bfloat16", lambda *args: right_kernel(*args).astype(jnp.bfloat16)): (
        "The kernel is float32, not bfloat16."
    ),
    drawn("float16", lambda *args: right_kernel(*args).astype(jnp.float16)): (
        "The kernel is float32, not float16."
    ),
    drawn("drawn_bfloat16", lambda *args: lower(jnp.bfloat16, *args)): (
        "The kernel is drawn in float32, not in bfloat16."
    ),
    drawn("drawn_float16", lambda *args: lower(jnp.float16, *args)): (
        "The kernel is drawn in float32, not in float16."
    ),
    attempt(HalfPrecision): "Input and parameters stay in float32.",
    drawn("numpy_generator", lambda rngs, i, o: numpy_numbers(rngs, i, o)): (
        "NumPy draws other numbers: use `jax.random.normal` with `rngs.params()`."
    ),
    drawn("numpy_seed", lambda rngs, i, o: numpy_numbers(rngs, i, o, old=True)): (
        "`np.random` draws other numbers: use `jax.random.normal` with `rngs.params()`."
    ),
    linen_dense: "That is Linen, with weights of its own: write an `nnx.Module`.",
    linen_module: "That is a Linen module: NNX needs no `init` and no `apply`.",
    # The key.
    drawn("key_per_column", lambda rngs, i, o: columns(rngs, i, o)): (
        "One key draws the whole kernel: you take one for each column."
    ),
    keyed("fixed_key", lambda rngs, seed: jax.random.key(0)): (
        "The key is always that of seed 0: take it from `rngs.params()`."
    ),
    keyed("key_of_the_seed", lambda rngs, seed: jax.random.key(seed)): (
        "Take the key from the stream: `rngs.params()`."
    ),
    keyed("second_key", lambda rngs, seed: (rngs.params(), rngs.params())[1]): (
        "The kernel takes the first key of the stream."
    ),
    keyed("third_key", lambda rngs, seed: [rngs.params() for _ in range(3)][2]): (
        "The kernel takes the first key of the stream, and you take the third."
    ),
    keyed("left_of_split", lambda rngs, seed: jax.random.split(rngs.params())[0]): (
        "Use the key of `rngs.params()` as it is, without split or fork."
    ),
    keyed("right_of_split", lambda rngs, seed: jax.random.split(rngs.params())[1]): (
        "Use the key of `rngs.params()` itself: you take the second of a split."
    ),
    # The seed and the sizes.
    given("seed_zero", lambda seed, x, features: (0, x, features)): (
        "The seed is ignored: pass it to `nnx.Rngs`."
    ),
    given("seed_one", lambda seed, x, features: (1, x, features)): (
        "The seed is always 1: pass yours to `nnx.Rngs`."
    ),
    given("seed_forty_two", lambda seed, x, features: (42, x, features)): (
        "The seed is always 42: pass yours to `nnx.Rngs`."
    ),
    given("next_seed", lambda seed, x, features: (seed + 1, x, features)): (
        "You add one to the seed: pass it as it is."
    ),
    given("features_as_seed", lambda seed, x, features: (features, x, features)): (
        "You seed with `features`: the seed is the first argument."
    ),
    given(
        "rounded", lambda seed, x, features: (float(jnp.float32(seed)), x, features)
    ): ("JAX rounds a large seed to float32: cast the argument itself with `int`."),
    given("two_features", lambda seed, x, features: (seed, x, 2)): (
        "The number of outputs is `int(features)`, not always 2."
    ),
    given("one_feature", lambda seed, x, features: (seed, x, 1)): (
        "The number of outputs is `int(features)`, not always 1."
    ),
    given("eight_features", lambda seed, x, features: (seed, x, 8)): (
        "The number of outputs is `int(features)`, not always 8."
    ),
    given("one_more_feature", lambda seed, x, features: (seed, x, features + 1)): (
        "You add one to `features`: use it as it is."
    ),
    given("square", lambda seed, x, features: (seed, x, x.size)): (
        "The number of outputs is `int(features)`, not that of the inputs."
    ),
    given("whole_inputs", lambda seed, x, features: (seed, x // 1, features)): (
        "You round the input down: use `x` as it is."
    ),
    given("cut_inputs", lambda seed, x, features: (seed, jnp.trunc(x), features)): (
        "You cast the input to whole numbers: use `x` as it is."
    ),
    given(
        "unit_inputs",
        lambda seed, x, features: (seed, unit(x), features),
    ): ("You normalize the input: use `x` as it is."),
    given("page_input", lambda seed, x, features: (seed, PAGE_INPUT, features)): (
        "You use the input of the page: use `x`, which the function is given."
    ),
    seed_not_cast: "`nnx.Rngs` wants an integer: cast the seed with `int`.",
    features_not_cast: "A shape wants integers: cast `features` with `int`.",
    seed_for_rngs: "`rngs` is a stream of keys: pass `nnx.Rngs(int(seed))`.",
    another_stream: "Name no other stream: `nnx.Rngs(int(seed))` serves `params` too.",
    four_inputs: "The number of inputs is `x.shape[-1]`, not always 4.",
    sizes_swapped: "The sizes are swapped: inputs first, then outputs.",
    # The bias.
    biased("bias_of_ones", lambda rngs, i, o: jnp.ones(o)): (
        "The bias starts at zero, not at one."
    ),
    biased("bias_of_tenths", lambda rngs, i, o: jnp.full(o, 0.1)): (
        "The bias starts at zero, not at 0.1."
    ),
    biased("bias_of_hundredths", lambda rngs, i, o: jnp.full(o, 0.01)): (
        "The bias starts at zero, not at 0.01."
    ),
    biased("bias_of_scale", lambda rngs, i, o: jnp.full(o, i**-0.5)): (
        "The bias starts at zero: the scale is for the kernel."
    ),
    biased("normal_bias", lambda rngs, i, o: normal(rngs.params(), (o,))): (
        "The bias starts at zero: it needs no key."
    ),
    biased("scaled_bias", lambda rngs, i, o: normal(rngs.params(), (o,)) / i**0.5): (
        "The bias starts at zero: do not draw and scale it."
    ),
    biased("small_bias", lambda rngs, i, o: normal(rngs.params(), (o,)) * 0.01): (
        "The bias starts at zero, not at small random numbers."
    ),
    biased("uniform_bias", lambda rngs, i, o: uniform(rngs.params(), (o,))): (
        "The bias starts at zero: no `uniform` is drawn for it."
    ),
    attempt(BiasDrawnFirst): "The first key is the kernel's: the bias needs none.",
    attempt(
        OneKeyForBoth
    ): "Kernel and bias share a key: the bias is zero, without one.",
    attempt(WithoutBias): "Zeros hide it: the model has no `nnx.Param` for its bias.",
    attempt(UnusedBias): "The bias is there, but the forward pass does not add it.",
    attempt(MinusBias): "Add the bias: as it starts at zero, the sign stays hidden.",
    attempt(ScalarBias): "The bias has one number for each output, not one in all.",
    attempt(BiasOfLengthOne): "The bias has shape (out_features,), not (1,).",
    attempt(
        BiasAsARow
    ): "The bias has shape (out_features,): give it one axis, not two.",
    # The forward pass.
    activated("relu", jax.nn.relu): "A linear layer has no `relu`.",
    activated("tanh", jnp.tanh): "A linear layer has no `tanh`.",
    activated("sigmoid", jax.nn.sigmoid): "A linear layer has no `sigmoid`.",
    activated("gelu", jax.nn.gelu): "A linear layer has no `gelu`.",
    activated("silu", jax.nn.silu): "A linear layer has no `silu` (`swish`).",
    activated("softmax", jax.nn.softmax): "A linear layer has no `softmax`.",
    attempt(KernelFirst): "The order is `x @ kernel`, not `kernel @ x`.",
    attempt(KernelFirstIfItFits): "`kernel @ x` fits a square kernel, and is wrong.",
    attempt(
        KernelStoredTurned
    ): "The kernel has shape (in_features, out_features): store it so.",
    attempt(
        CopyOfKernel
    ): "The forward pass reads a copy of the kernel, not the `Param`.",
    attempt(
        PlainArrays
    ): "Kernel and bias are no `nnx.Param`, so nothing can train them.",
    attempt(PlainKernel): "The kernel is no `nnx.Param`, so nothing can train it.",
    attempt(KeyInCall): "A key drawn inside `__call__` gives new numbers every time.",
    attempt(WithDropout): "Dropout makes two calls differ: this layer has none.",
    attempt(WithNoise): "You add noise: a call draws nothing.",
    attempt(
        CountingCalls
    ): "The second sum is twice the first: a call changes the model.",
    attempt(UnusedCounter): "The sums agree, but each call still writes a Variable.",
    attempt(BiasGrows): "Each call adds to the bias: a forward pass only reads.",
    attempt(
        BiasGrowsAfterwards
    ): "Each call changes the bias for the next: only read it.",
    attempt(KernelGrows): "Each call changes the kernel: a forward pass only reads.",
    attempt(
        LazyParams
    ): "Create kernel and bias in the constructor, not at the first call.",
    without_rngs: "Pass `rngs=nnx.Rngs(int(seed))` to the constructor.",
    init_first: "NNX has no `init`: the constructor creates the parameters.",
    applied: "NNX has no `apply`: call the model itself.",
    # The answer.
    answered("outputs_not_sums", lambda model, x: [model(x), model(x)]): (
        "Return the sum of each output, not the outputs."
    ),
    answered("one_output", lambda model, x: model(x)): (
        "Call the model twice, and return the sum of each output."
    ),
    answered("means", lambda model, x: [model(x).mean(), model(x).mean()]): (
        "Return sums, not means."
    ),
    answered("largest", lambda model, x: [model(x).max(), model(x).max()]): (
        "Return sums, not the largest outputs."
    ),
    answered("smallest", lambda model, x: [model(x).min(), model(x).min()]): (
        "Return sums, not the smallest outputs."
    ),
    answered("first_output", lambda model, x: [model(x)[0], model(x)[0]]): (
        "Return the sum over all outputs, not the first output."
    ),
    answered("last_output", lambda model, x: [model(x)[-1], model(x)[-1]]): (
        "Return the sum over all outputs, not the last output."
    ),
    answered("products", lambda model, x: [model(x).prod(), model(x).prod()]): (
        "Return sums, not products."
    ),
    answered("squares", lambda model, x: [(model(x) ** 2).sum()] * 2): (
        "Return the sums of the outputs, not of their squares."
    ),
    answered("mean_squares", lambda model, x: [(model(x) ** 2).mean()] * 2): (
        "Return the sums of the outputs, not the means of their squares."
    ),
    answered("absolute", lambda model, x: [abs(model(x)).sum()] * 2): (
        "Return the sums of the outputs, without `abs`."
    ),
    answered("norms", lambda model, x: [jnp.linalg.norm(model(x))] * 2): (
        "Return sums, not norms."
    ),
    answered("negative", lambda model, x: [-model(x).sum()] * 2): (
        "The sign is wrong: return the sums themselves."
    ),
    answered("doubled", lambda model, x: [(model(x) + model(x)).sum()] * 2): (
        "Return the two sums beside each other, not added."
    ),
    answered("sum_and_zero", lambda model, x: [model(x).sum(), 0.0]): (
        "The second sum is zero: compute it, from the same `x`."
    ),
    answered("sum_and_mean", lambda model, x: [model(x).sum(), model(x).mean()]): (
        "Return two sums: the second is a mean."
    ),
    answered("sum_of_inputs", lambda model, x: [x.sum(), x.sum()]): (
        "You sum the input: sum the model's output."
    ),
    answered("sum_of_kernel", lambda model, x: [model.kernel.sum()] * 2): (
        "You sum the kernel: sum the model's output."
    ),
    answered("all_outputs", lambda model, x: jnp.concatenate([model(x), model(x)])): (
        "Return one sum for each call, not all outputs in a row."
    ),
    answered("added_calls", lambda model, x: model(x) + model(x)): (
        "You add the outputs of the two calls: return the sum of each."
    ),
    answered("one_sum", lambda model, x: model(x).sum()): (
        "Return both sums, as an array of shape (2,)."
    ),
    answered("one_sum_in_an_array", lambda model, x: [model(x).sum()]): (
        "Return both sums: your array holds one."
    ),
    answered("total", lambda model, x: (model(x) + model(x)).sum()): (
        "Return the two sums in an array, not their total."
    ),
    answered("three_sums", lambda model, x: [model(x).sum() for _ in range(3)]): (
        "Return two sums: your array holds three."
    ),
    answered("column", lambda model, x: [[model(x).sum()], [model(x).sum()]]): (
        "Return the sums in one axis of length 2, not in a column."
    ),
    answered("row", lambda model, x: [[model(x).sum(), model(x).sum()]]): (
        "Return the sums in one axis of length 2, not in a row of a matrix."
    ),
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    answered("a_tuple", lambda model, x: (model(x).sum(), model(x).sum())): (
        "Return an array, not a tuple: wrap it in `jnp.array([...])`."
    ),
    answered("tuple_of_outputs", lambda model, x: (model(x), model(x))): (
        "Return an array of two sums, not a tuple of outputs."
    ),
    a_dict: "Return one array, not a dict.",
    a_string: "Return an array of numbers, not text.",
    answered("half", lambda model, x: sums(model, x).astype(jnp.float16)): (
        "Return float32 numbers, not float16."
    ),
    answered("whole", lambda model, x: jnp.full(2, model(x).sum()).astype(int)): (
        "Return float32 numbers: do not cast the sums to integers."
    ),
    answered("equal", lambda model, x: jnp.array_equal(model(x), model(x))): (
        "Return the two sums, not whether they are equal."
    ),
    answered(
        "pair_of_bools", lambda model, x: [bool((model(x) == model(x)).all())] * 2
    ): ("Return the sums, not comparisons."),
    answered("round_four", lambda model, x: jnp.full(2, model(x).sum()).round(4)): (
        "Return the sums without rounding."
    ),
    answered("round_two", lambda model, x: jnp.full(2, model(x).sum()).round(2)): (
        "Return the sums as they are: you round them to two digits."
    ),
    # Two calls of one model.
    ready_made: "Create kernel and bias yourself: `nnx.Linear` is ready-made.",
    kept_from_before: "Build the model in the function: an old one has an old seed.",
    rebuilt_for_each_call: "You build the model twice. Build it once, call it twice.",
    rebuilt_from_one_stream: "The second sum takes the next key: draw only one kernel.",
    rebuilt_with_the_next_seed: "The second model has another seed: build only one.",
    answered(
        "a_copy", lambda model, x: [model(x).sum(), nnx.clone(model)(x).sum()]
    ): "The second call is of a copy: call one model twice.",
    answered(
        "never_called", lambda m, x: [(x @ m.kernel + m.bias).sum()] * 2
    ): "Your module is never called: write `model(x)`, twice.",
    answered("called_once", lambda model, x: [model(x).sum()] * 2): (
        "You call the model once and repeat the sum. Call it twice."
    ),
    answered(
        "first_sum_twice", lambda model, x: [model(x).sum(), model(x).sum()][:1] * 2
    ): ("You return the first sum twice: return one of each call."),
    answered("ones_second", lambda m, x: [m(x).sum(), m(jnp.ones_like(x)).sum()]): (
        "The second call sees ones: give both calls the same `x`."
    ),
    answered("shifted", lambda model, x: [model(x).sum(), model(x + 1).sum()]): (
        "The second call sees `x + 1`: give both calls the same `x`."
    ),
    formula_only: "No `nnx.Module` is built or called: write one, and call it twice.",
    numbers_of_the_page: "These are the numbers of the page: compute them.",
}


class KernelPart(nnx.Module):
    def __init__(self, in_features, out_features, rngs):
        key = rngs.params()
        kernel = jax.random.normal(key, (in_features, out_features))
        self.kernel = nnx.Param(kernel / in_features**0.5)

    def __call__(self, x):
        return jnp.einsum("...i,io->...o", x, self.kernel[...])


class NestedLinear(nnx.Module):
    def __init__(self, in_features, out_features, rngs):
        self.product = KernelPart(in_features, out_features, rngs)
        self.bias = nnx.Param(jnp.zeros(out_features))

    def __call__(self, x):
        return self.product(x) + self.bias


class PartPassedIn(nnx.Module):
    def __init__(self, part, out_features):
        self.part, self.bias = part, nnx.Param(jnp.zeros(out_features))

    def __call__(self, x):
        return self.part(x) + self.bias


class WithInitializer(nnx.Module):
    def __init__(self, size_in, size_out, *, rngs):
        init = nnx.initializers.normal(stddev=size_in**-0.5)
        self.w = nnx.Param(init(rngs.params(), (size_in, size_out), jnp.float32))
        self.b = nnx.Param(nnx.initializers.zeros(rngs.params(), (size_out,)))

    def __call__(self, x):
        return jnp.dot(x, self.w) + self.b


def part_built_outside(seed, x, features):
    part = KernelPart(x.shape[0], int(features), nnx.Rngs(int(seed)))
    model = PartPassedIn(part, int(features))
    return jnp.stack([jnp.sum(model(x)), jnp.sum(model(x))])


def jitted_call(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    forward = nnx.jit(lambda model, x: model(x))
    return jnp.array([forward(model, x).sum(), forward(model, x).sum()])


def in_a_loop(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(params=int(seed)))
    return jnp.asarray([float(model(x).sum()) for _ in range(2)])


def as_one_batch_row(seed, x, features):
    model = MyLinear(x.size, int(features), nnx.Rngs(int(seed)))
    rows = [model(x[None])[0], model(x[None])[0]]
    return jnp.stack(rows).sum(axis=-1)


class ForwardByName(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.rngs = rngs  # kept, and never drawn from

    def forward(self, x):
        return x @ self.kernel + self.bias

    __call__ = forward


class JittedMethod(MyLinear):
    @nnx.jit
    def __call__(self, x):
        return x @ self.kernel + self.bias


class BatchesOnly(MyLinear):
    def __call__(self, x):
        return jnp.einsum("bi,io->bo", x, self.kernel[...]) + self.bias


class Created(nnx.Module):
    @classmethod
    def create(cls, in_features, out_features, rngs):
        module = cls()
        kernel = jax.random.normal(rngs.params(), (in_features, out_features))
        module.kernel = nnx.Param(kernel / jnp.sqrt(in_features))
        module.bias = nnx.Param(jnp.zeros(out_features))
        return module

    def __call__(self, x):
        return self.bias + x @ self.kernel


def with_batches(seed, x, features):
    model = model_for(seed, x, features, BatchesOnly)
    return jnp.array([model(x[None]).sum(), model(x[None]).sum()])


def with_a_debugging_call(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    first = model(x)
    assert jnp.array_equal(first, model(x))
    return jnp.array([first.sum(), model(x).sum()])


class AnyArguments(MyLinear):
    def __call__(*args, **kwargs):
        self, x = args
        return x @ self.kernel + self.bias


class KeywordInput(MyLinear):
    def __call__(self, *, x):
        return x @ self.kernel + self.bias


class Rematerialized(MyLinear):
    @nnx.remat
    def __call__(self, x):
        return x @ self.kernel + self.bias


class ReadsByMethod(MyLinear):
    def __call__(self, x):
        return jnp.add(x @ self.kernel.get_value(), self.bias[...])


def class_inside(seed, x, features):
    class Local(MyLinear):
        def __call__(self, x):
            return x @ self.kernel + self.bias

    return sums(model_for(seed, x, features, Local), x)


def by_keyword(seed, x, features):
    model = model_for(seed, x, features, KeywordInput)
    return jnp.array([model(x=x).sum(), model(x=x).sum()])


def eager_then_jitted(seed, x, features):
    model = model_for(seed, x, features)
    jitted = nnx.jit(lambda model, x: model(x))
    return jnp.array([model(x).sum(), jitted(model, x).sum()])


def jitted_over_state(seed, x, features):
    graphdef, state = nnx.split(model_for(seed, x, features))
    forward = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
    return jnp.array([forward(state, x).sum(), forward(state, x).sum()])


def jitted_closure(seed, x, features):
    model = model_for(seed, x, features)
    forward = jax.jit(lambda x: model(x).sum())
    return jnp.array([forward(x), forward(x)])


@nnx.jit
def jitted_once(model, x):
    return model(x)


def jitted_outside(seed, x, features):
    model = model_for(seed, x, features)
    return jnp.array([jitted_once(model, x).sum(), jitted_once(model, x).sum()])


def mapped(seed, x, features):
    model = model_for(seed, x, features)
    return jax.lax.map(lambda _: model(x).sum(), jnp.arange(2))


def built_under_jit(seed, x, features):
    build = nnx.jit(lambda: model_for(seed, x, features))
    return sums(build(), x)


def with_a_spare_model(seed, x, features):
    model_for(seed + 1, x, features)
    return sums(model_for(seed, x, features), x)


def as_numpy(seed, x, features):
    return np.asarray(call_vs_init_forward(seed, x, features))


def an_error_of_its_own(seed, x, features):
    model = model_for(seed, x, features)
    y1, y2 = model(x), model(x)
    if not jnp.array_equal(y1, y2):
        raise ValueError("a call changed the model")
    return jnp.stack([y1, y2]).sum(axis=1)


ALSO_RIGHT = [
    attempt(AnyArguments),
    attempt(Rematerialized),
    attempt(ReadsByMethod),
    class_inside,
    by_keyword,
    eager_then_jitted,
    jitted_over_state,
    jitted_closure,
    jitted_outside,
    mapped,
    built_under_jit,
    with_a_spare_model,
    as_numpy,
    an_error_of_its_own,
    attempt(Created.create),
    attempt(ForwardByName),
    attempt(JittedMethod),
    with_batches,
    with_a_debugging_call,
    attempt(NestedLinear),
    attempt(WithInitializer),
    part_built_outside,
    jitted_call,
    in_a_loop,
    as_one_batch_row,
]
