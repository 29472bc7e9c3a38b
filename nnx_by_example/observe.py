"""Observes what a function does with its modules, and runs it where they are altered.

A right number can be reached without the idea of a lesson. So `idea(seen)` of an
exercise runs the learner's function once more, here, and looks at what it did:

    def idea(seen):
        run = seen.run()
        if not run.calls_of(nnx.Linear):
            return "no nnx.Linear is called"
        doubled = seen.run("a layer returns twice as much", calls={nnx.Linear: double})
        if not seen.close(doubled.answer, 2 * seen.answer):
            return "the answer does not follow what the layer returns"

What is observed: every `nnx.Module` that is built; every call of one, nested ones too,
with its inputs, its output, its Variables before and after, whether it happens while a
function is compiled, and from within which functions of a library; calls of modules of
Linen; and calls of those functions and methods that `run` is asked to watch, whatever
name they were imported under.

What it cannot see: what a function does with arrays alone; a module that was built
before, until it is called; a call inside a function that was compiled before for inputs
of the same shapes, unless `eager`, which runs all Python anew. `assert` statements of
the observed code do not run, as under `python -O`: they may state numbers that do not
hold for altered modules. Any other exception is a `Finding`.

One name is private: a class builds its objects by the `__call__` of its own class,
`type(nnx.Module)`, for which NNX has no hook.
"""

import contextlib
import dataclasses
import functools
import gc
import inspect
import io
import itertools
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from unittest.mock import patch

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class State(dict):
    """The Variables of a module at one moment: type and value, by path."""

    def of(self, *kinds: type) -> dict[tuple, jax.Array]:
        """Return the values by path, of Variables of some types, or of all."""
        wanted = kinds or (nnx.Variable,)
        return {
            p: value for p, (kind, value) in self.items() if issubclass(kind, wanted)
        }

    def same(self, other: "State", *kinds: type) -> bool:
        """Return whether another state holds equal values at equal paths.

        Values without numbers, as while a function is compiled, are equal if they are
        one object.

        Args:
          other: the other state.
          kinds: the types of the Variables to compare; by default all.
        """
        ones, others = self.of(*kinds), other.of(*kinds)
        return ones.keys() == others.keys() and all(
            are_equal(value, others[path]) for path, value in ones.items()
        )


class Finding(Exception):  # noqa: N818  # it is no error of ours
    """Something that a run has shown: what is missing, and the error if one came."""

    def __init__(self, said: str, error: BaseException | None = None):
        super().__init__(said)
        self.error = error


@dataclasses.dataclass
class Call:
    """A call of a module, of a watched method, or of a watched function."""

    module: object
    """The module or other object, or None for a function."""
    name: str
    """The name of the method or function; `__call__` for a call of the module."""
    args: tuple
    """The inputs that were given by place."""
    kwargs: dict
    """The inputs that were given by name; for a function all of them, by parameter."""
    within: frozenset[str]
    """The modules of Python whose functions wait for it."""
    compiled: bool
    """Whether it happens while a function is compiled, or its shapes are computed."""
    depth: int
    """How many calls of modules wait for it: 0 for the outermost."""
    before: State = dataclasses.field(default_factory=State)
    """The type and value of each Variable, by path, when it begins."""
    after: State = dataclasses.field(default_factory=State)
    """The same when it ends; empty if it never does."""
    output: object = None
    """What it returns."""
    proceed: Callable = None
    """Makes the call, for a hook in its place: takes nothing, returns the output."""

    def inside(self, function: Callable) -> bool:
        """Return whether a function of the library is under way, such as `nnx.jit`."""
        return function.__module__ in self.within


@dataclasses.dataclass
class Run:
    """What a function has done in one run."""

    answer: object = None
    """What it returned."""
    built: list = dataclasses.field(default_factory=list)
    """The modules that it built, in order; a module comes after its parts."""
    calls: list[Call] = dataclasses.field(default_factory=list)
    """The calls that were seen, in the order in which they began."""

    def built_of(self, *kinds: type) -> list:
        """Return the modules of some classes that it built."""
        return [module for module in self.built if isinstance(module, kinds)]

    def calls_of(self, *kinds: type | Callable | str) -> list[Call]:
        """Return calls of some classes' modules, or of methods or functions by name."""
        names = {getattr(k, "__name__", k) for k in kinds if not isinstance(k, type)}
        classes = tuple(kind for kind in kinds if isinstance(kind, type))
        return [
            call
            for call in self.calls
            if call.name in names
            or (call.name == "__call__" and isinstance(call.module, classes))
        ]

    def names(self) -> str:
        """Return the names of the classes of what it built, or "none"."""
        return ", ".join(type(module).__name__ for module in self.built) or "none"


class Seen:
    """What an `idea` is given: the learner's function, ready to be observed.

    It has all that an exercise needs, which so imports nothing of this package.
    """

    Finding = Finding

    def __init__(self, candidate: Callable, inputs: tuple, report: Callable):
        """Take a function that has answered right.

        Args:
          candidate: the function.
          inputs: those of the first call of the check.
          report: called before each run, as a sign of life.
        """
        self.candidate, self.inputs, self.report = candidate, inputs, report

    @functools.cached_property
    def answer(self) -> object:
        """Return the answer to `inputs` of a run in which nothing is altered."""
        return self.run().answer

    def run(
        self,
        when: str = "",
        *,
        inputs: tuple | None = None,
        built: Mapping[type, Callable] | None = None,
        calls: Mapping[type | Callable, Callable] | None = None,
        watch: Iterable[Callable] | Mapping[Callable, Callable] = (),
        eager: bool = True,
    ) -> Run:
        """Return what the function does in one more run, in which things may differ.

        Args:
          when: what differs, for the message if the function then raises.
          inputs: other inputs than `self.inputs`.
          built: by class of Module or Variable, what to do with each new object: it is
            called with it.
          calls: by class of module (of NNX or Linen), or by method such as
            `nnx.Optimizer.update` or `nnx.RngStream.__call__`, what to do in place of a
            call: it is called with the `Call` and returns the output.
          watch: functions whose calls are recorded, such as `nnx.merge`. Those that a
            library makes itself do not count. If it is a mapping, to what to do when
            one returns: it is called with the `Call`, and may alter the output.
          eager: whether compiled functions run as Python, each time.

        Raises:
          Finding: if the function raises, whatever it is, or returns None.
        """
        run, inputs = Run(), self.inputs if inputs is None else inputs
        where = f"when {when}, " if when else "where it is observed, "
        self.report()
        with contextlib.ExitStack() as stack:
            stack.enter_context(without_asserts(self.candidate))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            observer = Observer(run, dict(built or {}), dict(calls or {}))
            stack.enter_context(observer.patched())
            stack.enter_context(watched(run, watch))
            if eager:
                stack.enter_context(jax.disable_jit())
            try:
                run.answer = self.candidate(*inputs)
            except BaseException as error:  # `SystemExit` too
                text = (str(error).splitlines() or [""])[0]
                said = f"{where}your code raises {type(error).__name__}: {text}"
                raise Finding(said, error) from None
        if run.answer is None:
            raise Finding(f"{where}your code returns None")
        return run

    @staticmethod
    def state(module: object) -> State:
        """Return the Variables of a module, as they are now."""
        return state_of(module)

    @staticmethod
    def close(one, other, rtol: float = 1e-4, atol: float = 1e-4) -> bool:
        """Return whether two answers have one shape, and numbers that are close."""
        try:
            one, other = np.asarray(one, float), np.asarray(other, float)
        except (TypeError, ValueError):
            return False
        return one.shape == other.shape and np.allclose(one, other, rtol, atol)


class Observer:
    """Records what is built and called, and lets hooks alter it."""

    def __init__(self, run: Run, built: dict, calls: dict):
        """Take what to fill in, and the hooks as `Seen.run` describes them."""
        self.run, self.built = run, built
        self.hooks = {k: hook for k, hook in calls.items() if isinstance(k, type)}
        self.methods = {k: h for k, h in calls.items() if not isinstance(k, type)}
        self.active: list[Call] = []

    @contextlib.contextmanager
    def patched(self):
        """Observe for the time of a `with` block."""
        with contextlib.ExitStack() as stack:
            kinds = [nnx.Module]
            kinds += [nnx.Variable] * any(
                issubclass(k, nnx.Variable) for k in self.built
            )
            for kind in kinds:
                build = self.building(stack, type(kind).__call__)
                stack.enter_context(patch.object(type(kind), "__call__", build))
            for cls in subclasses(nnx.Module):
                self.wrap(stack, cls, "__call__")
            for method in self.methods:
                owner = inspect.getmodule(method)
                for name in method.__qualname__.split(".")[:-1]:
                    owner = getattr(owner, name)
                self.wrap(stack, owner, method.__name__)
            stack.enter_context(nn.intercept_methods(self.intercept))
            yield

    def building(self, stack, construct: Callable) -> Callable:
        """Return what stands in place of the construction of an object."""

        def build(cls, *args, **kwargs):
            made = construct(cls, *args, **kwargs)
            if isinstance(made, nnx.Module):
                self.run.built.append(made)
                for base in type(made).__mro__:  # one that was defined in this run
                    if base is not nnx.Module and issubclass(base, nnx.Module):
                        self.wrap(stack, base, "__call__")
            for kind, hook in self.built.items():
                if isinstance(made, kind):
                    hook(made)
            return made

        return build

    def wrap(self, stack, cls: type, name: str) -> None:
        """Let a method of a class be recorded, if the class has it itself."""
        method = vars(cls).get(name)
        if not callable(method) or hasattr(method, "observed"):
            return

        @functools.wraps(method)
        def recorded(module, *args, **kwargs):
            bound = method.__get__(module, cls)
            hook = self.methods.get(method) or self.hook(module, name)
            return self.record(module, name, args, kwargs, bound, hook)

        recorded.observed = True
        stack.enter_context(patch.object(cls, name, recorded))

    def hook(self, module: object, name: str) -> Callable | None:
        """Return what is to happen in place of a call of a module, or None."""
        found = [h for kind, h in self.hooks.items() if isinstance(module, kind)]
        return found[0] if found and name == "__call__" else None

    def intercept(self, method: Callable, args, kwargs, context) -> object:
        """Record a call of a module of Linen, as `nn.intercept_methods` asks."""
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        hook = self.hook(context.module, "__call__")
        return self.record(context.module, "__call__", args, kwargs, method, hook)

    def record(self, module, name, args, kwargs, method, hook) -> object:
        """Make a call and record it; that of a base class on the same module is not."""
        if any(call.module is module and call.name == name for call in self.active):
            return method(*args, **kwargs)
        call = Call(
            module, name, args, kwargs, callers(), has_no_numbers(), len(self.active)
        )
        call.before, call.proceed = state_of(module), lambda: method(*args, **kwargs)
        self.run.calls.append(call)
        self.active.append(call)
        try:
            call.output = hook(call) if hook else call.proceed()
        finally:
            self.active.remove(call)
        call.after = state_of(module)
        return call.output


@contextlib.contextmanager
def watched(run: Run, functions: Iterable[Callable] | Mapping[Callable, Callable]):
    """Record calls of functions, for the time of a `with` block, by `sys.monitoring`.

    Args:
      run: what to fill in.
      functions: what to watch, and what to do when one returns, if that is given.
    """
    hooks = functions if isinstance(functions, Mapping) else {}
    codes, begun = {inspect.unwrap(f).__code__: f for f in functions}, []
    if not codes:
        yield
        return
    monitoring = sys.monitoring
    tool = next(n for n in range(5, -1, -1) if monitoring.get_tool(n) is None)
    events = monitoring.events.PY_START | monitoring.events.PY_RETURN

    def start(code, _):
        frame, function = inspect.currentframe().f_back, codes[code]
        given = {**frame.f_locals}
        call = Call(None, function.__name__, (), given, callers(), has_no_numbers(), 0)
        if not called_by(frame, "flax"):
            run.calls.append(call)
        begun.append((frame, call))

    def end(code, _, output):
        frame = inspect.currentframe().f_back
        while begun:  # of one that raises there is no end
            began, call = begun.pop()
            if began is frame:
                call.output = output
                if codes[code] in hooks and any(call is one for one in run.calls):
                    hooks[codes[code]](call)
                return

    monitoring.use_tool_id(tool, "nnx_by_example")
    try:
        monitoring.register_callback(tool, monitoring.events.PY_START, start)
        monitoring.register_callback(tool, monitoring.events.PY_RETURN, end)
        for code in codes:
            monitoring.set_local_events(tool, code, events)
        yield
    finally:
        for code in codes:
            monitoring.set_local_events(tool, code, 0)
        monitoring.free_tool_id(tool)


@contextlib.contextmanager
def without_asserts(function: Callable):
    """Let no `assert` run in the module of a function, for the time of a `with` block.

    Their code is compiled as `python -O` does, and takes the place of the usual code of
    each function that was defined in the module.
    """
    function = inspect.unwrap(function)
    named, kept = getattr(function, "__globals__", None), {}
    try:
        for one in functions_of(named) if named is not None else ():
            file = one.__code__.co_filename
            source = "".join(linecache.getlines(file, named))
            if "assert" not in source:
                continue
            code = optimized(source, file).get(place(one.__code__))
            if code and code.co_freevars == one.__code__.co_freevars:
                kept[one], one.__code__ = one.__code__, code
        yield
    finally:
        for one, code in kept.items():
            one.__code__ = code


def functions_of(named: dict) -> list[types.FunctionType]:
    """Return every function of a module, those inside others and in classes too."""
    referrers = gc.get_referrers(named)
    return [one for one in referrers if isinstance(one, types.FunctionType)]


@functools.lru_cache(maxsize=64)
def optimized(source: str, file: str) -> dict[tuple, types.CodeType]:
    """Return the code of every function of a file without its `assert` statements."""
    found, left = {}, [compile(source, file, "exec", dont_inherit=True, optimize=1)]
    while left:
        code = left.pop()
        found[place(code)] = code
        left += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return found


def place(code: types.CodeType) -> tuple:
    """Return what tells the code of one function of a file from all others."""
    return code.co_qualname, code.co_firstlineno


def subclasses(cls: type) -> list[type]:
    """Return all classes that derive from a class."""
    direct = type.__subclasses__(cls)
    return [*direct, *(below for one in direct for below in subclasses(one))]


def called_by(frame: types.FrameType, package: str) -> bool:
    """Return whether a package calls a function, maybe through what JAX wraps it in."""
    names = (
        one.f_globals.get("__name__") or "" for one, _ in traceback.walk_stack(frame)
    )
    packages = (name.partition(".")[0] for name in itertools.islice(names, 1, None))
    return next((name for name in packages if name != "jax"), "") == package


def callers() -> frozenset[str]:
    """Return the modules of Python whose functions are under way."""
    frames = traceback.walk_stack(None)
    return frozenset(str(frame.f_globals.get("__name__")) for frame, _ in frames)


def state_of(module: object) -> State:
    """Return the Variables of a module or of another node, as they are now."""
    found = State()
    if isinstance(module, nnx.Pytree):
        for path, part in nnx.iter_graph(module, graph=True):
            if isinstance(part, nnx.Variable):
                value = part.get_value()  # NumPy's arrays are written in place
                value = value.copy() if isinstance(value, np.ndarray) else value
                found[path] = type(part), value
    return found


def has_no_numbers() -> bool:
    """Return whether arrays have no numbers now, as while a function is compiled."""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def are_equal(one: jax.Array, other: jax.Array) -> bool:
    """Return whether two arrays, or keys, are equal."""
    if any(isinstance(value, jax.core.Tracer) for value in (one, other)):
        return one is other
    if jax.dtypes.issubdtype(getattr(one, "dtype", None), jax.dtypes.prng_key):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    return np.array_equal(one, other)
