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


# --8<-- [start:expected]
INPUTS = [  # seed, x, features
    (0.0, jnp.array([1.0, 2.0, 3.0, 4.0]), 2.0),
    (7.0, jnp.array([0.5, -1.5]), 3.0),
    (3.0, jnp.array([2.5]), 1.0),
]


def expected_sum(seed, x, features):
    """Return the sum of one forward pass, computed without a module."""
    key = nnx.Rngs(int(seed)).params()
    kernel = jax.random.normal(key, (x.shape[-1], int(features)))
    return (x @ kernel / jnp.sqrt(x.shape[-1])).sum()

    # --8<-- [end:expected]


# --8<-- [start:watch]
import sys


def watch(candidate, *inputs):
    """Return the answer, and the arguments of the modules' constructors and calls."""
    seen, depth, previous = {"__init__": [], "__call__": []}, 0, sys.getprofile()

    def profile(frame, event, _):
        nonlocal depth
        code, values = frame.f_code, frame.f_locals
        names = code.co_varnames[: code.co_argcount]
        if event not in ("call", "return") or not names:
            return
        if isinstance(module := values.get(names[0]), nnx.Module):
            for name, calls in seen.items():
                method = getattr(type(module), name)
                if code.co_name == name or getattr(method, "__code__", None) is code:
                    if event == "call" and depth == 0:  # not inside another module
                        calls.append([values[name] for name in names])
                    depth += 1 if event == "call" else -1

    sys.setprofile(profile)
    try:
        with jax.disable_jit():  # a jitted call would be seen only while it compiles
            return candidate(*inputs), seen["__init__"], seen["__call__"]
    finally:
        sys.setprofile(previous)
        # --8<-- [end:watch]


# --8<-- [start:idea]
def missing_idea(built, called, x, features):
    """Return what the model lacks although its numbers are right, or None."""
    if len(called) < 2:
        return f"call your module twice; {len(called)} calls were seen"
    model, *arguments = called[0]
    if sum(type(module) is type(model) for module, *_ in built) > 1:
        return "build one model, and call that one twice"
    shapes = sorted(p.shape for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    if shapes != sorted([(x.size, int(features)), (int(features),)]):
        return f"expected a kernel and a bias, got nnx.Param of shapes {shapes}"
    grown, kept = nnx.clone(model), nnx.Not(nnx.RngState)
    nnx.update(grown, jax.tree.map(lambda p: p + 1, nnx.state(grown, nnx.Param)))
    before = nnx.to_pure_dict(nnx.state(model, kept))
    moved = grown(*arguments).sum() - model(*arguments).sum()
    if not jnp.allclose(moved, features * (x.sum() + 1), atol=1e-4):
        return "the output does not follow the kernel and the bias"
    after = nnx.to_pure_dict(nnx.state(model, kept))
    if not jax.tree.all(jax.tree.map(jnp.array_equal, before, after)):
        return "a call changes the model: a forward pass only reads"
    # --8<-- [end:idea]


# --8<-- [start:check]
def check(candidate):
    """Return "passed", or the first thing that is wrong with `candidate`."""
    for seed, x, features in INPUTS:
        case = f"seed {seed}, x {x}, features {features}: "
        answer, built, called = watch(candidate, seed, x, features)
        if answer is None:
            return "got None: the body, or its return, is still to be written"
        if getattr(answer, "shape", None) != (2,):
            return case + f"expected an array of shape (2,), got {answer!r}"
        if answer[0] != answer[1]:
            return case + f"two calls of one model agree exactly, got {answer}"
        expected = expected_sum(seed, x, features)
        if not jnp.allclose(answer, expected, atol=1e-5):
            return case + f"expected {expected!s} twice, got {answer}"
        if missing := missing_idea(built, called, x, features):
            return f"numbers right, idea missing: {missing}"
    return "passed"
    # --8<-- [end:check]


# The attempts below are judged by the tests: `check` refuses every mistake, and accepts
# each right answer in another form. The message is for a grader that finds a learner's
# numbers equal to those of a mistake.


def attempt(module):
    """Return the forward function of a learner who wrote `module` as MyLinear."""

    def forward(seed, x, features):
        model = module(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
        return jnp.array([model(x).sum(), model(x).sum()])

    forward.__name__ = module.__name__
    return forward


class WithoutScale(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.kernel[...] = self.kernel * jnp.sqrt(in_features)


class ScaledByOutputs(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.kernel[...] = self.kernel * jnp.sqrt(in_features / out_features)


class ScaledWithoutRoot(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.kernel[...] = self.kernel / jnp.sqrt(in_features)


class UniformKernel(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        kernel = jax.random.uniform(rngs.params(), (in_features, out_features))
        self.kernel = nnx.Param(kernel / jnp.sqrt(in_features))
        self.bias = nnx.Param(jnp.zeros((out_features,)))


class BiasOfOnes(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.bias[...] = jnp.ones((out_features,))


class RandomBias(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.bias[...] = jax.random.normal(rngs.params(), (out_features,))


class BiasKeyFirst(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        rngs.params()
        super().__init__(in_features, out_features, rngs)


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


class KeyInCall(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.rngs = rngs

    def __call__(self, x):
        kernel = jax.random.normal(self.rngs.params(), self.kernel.shape)
        return x @ kernel / jnp.sqrt(x.shape[-1]) + self.bias


class CountingCalls(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls[...] += 1
        return super().__call__(x) * self.calls


class UnusedCounter(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(in_features, out_features, rngs)
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls[...] += 1
        return super().__call__(x)


class Transposed(MyLinear):
    def __init__(self, in_features, out_features, rngs):
        super().__init__(out_features, in_features, rngs)
        kernel = self.kernel[...].T * jnp.sqrt(out_features / in_features)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros((out_features,)))


def ready_made_layer(seed, x, features):
    model = nnx.Linear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return jnp.array([model(x).sum(), model(x).sum()])


def rebuilt_for_each_call(seed, x, features):
    first, second = (
        MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))(x).sum()
        for _ in range(2)
    )
    return jnp.array([first, second])


def rebuilt_from_one_stream(seed, x, features):
    rngs = nnx.Rngs(int(seed))
    first = MyLinear(x.shape[-1], int(features), rngs=rngs)(x).sum()
    return jnp.array([first, MyLinear(x.shape[-1], int(features), rngs=rngs)(x).sum()])


def called_once(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return jnp.full((2,), model(x).sum())


def outputs_not_sums(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return jnp.array([model(x), model(x)])


def means_not_sums(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return jnp.array([model(x).mean(), model(x).mean()])


def a_list(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    return [model(x).sum(), model(x).sum()]


def seed_zero(seed, x, features):
    return call_vs_init_forward(0, x, features)


def two_features(seed, x, features):
    return call_vs_init_forward(seed, x, 2)


def key_without_rngs(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    key = jax.random.key(int(seed))
    kernel = jax.random.normal(key, model.kernel.shape) / jnp.sqrt(x.shape[-1])
    model.kernel[...] = kernel
    return jnp.array([model(x).sum(), model(x).sum()])


def seed_not_cast(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(seed))
    return jnp.array([model(x).sum(), model(x).sum()])


def formula_only(seed, x, features):
    return jnp.full((2,), expected_sum(seed, x, features))


MISTAKES = {
    attempt(WithoutScale): "You left out the factor 1 / sqrt(in_features).",
    attempt(ScaledByOutputs): "Scale by the number of inputs, not of outputs.",
    attempt(ScaledWithoutRoot): "You divide by in_features: take its square root.",
    attempt(UniformKernel): "The kernel is drawn with `normal`, not with `uniform`.",
    attempt(BiasOfOnes): "The bias starts at zero, not at one.",
    attempt(RandomBias): "The bias starts at zero: it needs no key.",
    attempt(BiasKeyFirst): "The kernel takes the first key of the stream.",
    attempt(WithoutBias): "Zeros hide it: the model has no `nnx.Param` for its bias.",
    attempt(UnusedBias): "The bias is there, but the forward pass does not add it.",
    attempt(MinusBias): "Add the bias: as it starts at zero, the sign stays hidden.",
    attempt(
        CopyOfKernel
    ): "The forward pass reads a copy: training changes the `Param`.",
    attempt(PlainArrays): "Kernel and bias are plain arrays: wrap them in `nnx.Param`.",
    attempt(KeyInCall): "A key drawn inside `__call__` gives new numbers every time.",
    attempt(CountingCalls): "A call changes your model: a forward pass only reads.",
    attempt(UnusedCounter): "The sums agree, but each call still writes a Variable.",
    attempt(Transposed): "The kernel has shape (in_features, out_features).",
    ready_made_layer: "Write `MyLinear` yourself: `nnx.Linear` draws other weights.",
    rebuilt_for_each_call: "You build the model twice. Build it once, call it twice.",
    rebuilt_from_one_stream: "The second model takes the next keys: build only one.",
    called_once: "You call the model once and repeat the sum. Call it twice.",
    outputs_not_sums: "Return the sum of each output, not the outputs.",
    means_not_sums: "Return sums, not means.",
    a_list: "Return an array, not a list: wrap it in `jnp.array`.",
    seed_zero: "The seed is ignored: pass it to `nnx.Rngs`.",
    two_features: "The number of outputs is `int(features)`, not always 2.",
    key_without_rngs: "Take the key from the stream: `rngs.params()`.",
    seed_not_cast: "`nnx.Rngs` wants an integer: cast the seed with `int`.",
    formula_only: "The formula is right, but there is no module that you call.",
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
    model = BatchesOnly(x.size, int(features), nnx.Rngs(int(seed)))
    return jnp.array([model(x[None]).sum(), model(x[None]).sum()])


def with_a_debugging_call(seed, x, features):
    model = MyLinear(x.shape[-1], int(features), rngs=nnx.Rngs(int(seed)))
    first = model(x)
    assert jnp.array_equal(first, model(x))
    return jnp.array([first.sum(), model(x).sum()])


ALSO_RIGHT = [
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
