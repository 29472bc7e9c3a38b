"""Judges one attempt, in the process that `isolation` made for it.

This is the only module that runs a learner's code, and the only one that needs jax.
"""

import ast
import contextlib
import errno
import functools
import gc
import importlib.util
import inspect
import itertools
import linecache
import os
import sys
import textwrap
import time
import traceback
import types
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from nnx_by_example import diagnosis, observe
from nnx_by_example.verdict import ANSWERS, IDEA, LOADS, RUNS, THERE, Verdict, lines_of

UNWRITTEN = "got None: the body, or its return, is still to be written"
# A check or an idea may end what it says with what to do, if no mistake is known.
NEXT = "\n  next:     "
ALTERED = (
    "This run alters modules on purpose: where a check of your own raises or returns, "
    "make it an `assert`, which does not run here."
)
NO_MATCH = "Compare your steps with those of the problem, one by one."
UNSTEADY = (
    "The same call gives another answer each time: create all that changes, such as "
    "`nnx.Rngs`, inside the function."
)
MAX_LINES, MAX_COLUMNS = 8, 300  # of an error, which may print whole arrays

DEFAULT = "Mend what raises this, or look at what it is given."
# What to do about these errors, where no known mistake says it better.
ADVICE = {
    "EOFError": "Nobody types here: take every value from the arguments.",
    "MemoryError": "Your code asks for more memory than a check gives it.",
    "SystemExit": "Return the answer instead of ending the program.",
    "KeyboardInterrupt": "Return the answer instead of ending the program.",
    "ModuleNotFoundError": "Import only jax, flax and Python's own modules.",
    "SyntaxError": "Mend this line. Nothing has been run yet.",
    "IndentationError": "Mend this line. Nothing has been run yet.",
    "TabError": "Indent with spaces alone. Nothing has been run yet.",
    "RecursionError": "A function calls itself without end.",
}


class UnwrittenError(Exception):
    """The learner's function returned nothing."""


class LearnersError(Exception):
    """The learner's code raised `error` in `call`, or while it was loaded."""

    def __init__(self, error: BaseException, call: str = ""):
        self.error, self.call = error, call


def judge_file(
    report: Callable,
    exercise: Path,
    function: str,
    lesson: str,
    attempt: Path,
    source: bytes,
) -> Verdict:
    """Return the verdict on a learner's file.

    Args:
      report: called with the name of each stage when it begins, and before each call
        of the function as `judge` says.
      exercise: path of the lesson's `exercise.py`.
      function: name of the function that the learner writes.
      lesson: name of the lesson.
      attempt: path of the learner's file, which may be gone by now.
      source: what the file held.
    """
    sys.dont_write_bytecode = True
    gc.freeze()  # whoever looks for the learner's functions finds them sooner
    judged = load(exercise)
    sys.path.append(str(attempt.parent))  # last: no name of Python's own is taken
    cached = len(source), None, lines_of(source), str(attempt)
    linecache.cache[str(attempt)] = cached
    verdict = Verdict(lesson, LOADS, file=str(attempt))
    report(LOADS)
    with warnings_of(verdict):
        try:
            module = learners_module(attempt, source)
        except LearnersError as raised:
            return explain(verdict, raised)
        candidate = vars(module).get(function)
        if not callable(candidate):
            return missing(verdict, module, function)
        report(RUNS)
        judge(judged, function, candidate, verdict, report)
    return verdict


@contextlib.contextmanager
def warnings_of(verdict: Verdict):
    """Note the first warning that the learner's file causes in a `with` block."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for warning in caught:
        if warning.filename == verdict.file:
            text = " ".join(str(warning.message).split())
            verdict.note = f"line {warning.lineno}: {text}"[:MAX_COLUMNS]
            break


def usual_seconds(report: Callable, *arguments) -> float:
    """Return the CPU seconds that the slowest step of judging a solution takes here.

    Nothing that was compiled before is used: the learner's code may be the first that
    compiles what it does.

    Args:
      report: called as by `judge_file`.
      arguments: those of `judge_file`.
    """
    import jax  # here, so that the command starts without it

    jax.config.update("jax_enable_compilation_cache", False)
    times = []

    def note(message):
        times.append(time.process_time())
        report(message)

    judge_file(note, *arguments)
    times.append(time.process_time())
    return max(after - before for before, after in itertools.pairwise(times))


def load(path: Path) -> types.ModuleType:
    """Return an exercise as a module, under the name of its folder."""
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def learners_module(path: Path, source: bytes) -> types.ModuleType:
    """Return the learner's file as a module.

    Raises:
      LearnersError: if loading it raises anything.
    """
    module = types.ModuleType("attempt")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except BaseException as error:
        raise LearnersError(error) from None
    return module


def judge(
    exercise: types.ModuleType,
    function: str,
    candidate: Callable,
    verdict: Verdict,
    report: Callable = lambda message: None,
    hidden: list[dict] | None = None,
) -> Verdict:
    """Return the verdict on a function: the first thing that is wrong with it.

    Args:
      exercise: the module that holds the check and the idea.
      function: name of the function that the learner writes.
      candidate: the learner's function.
      verdict: what to fill in.
      report: called before each call of `candidate`, as a sign of life: with the size
        of what was printed so far, or with the stage if the call prints nothing.
      hidden: what `candidate` answers to the hidden inputs, where that is known.
    """
    given: list[tuple] = []  # the inputs of each call
    answer = None

    @functools.wraps(candidate)
    def recorded(*inputs):
        nonlocal answer
        given.append(inputs)
        report(size_of_output())
        try:
            answer = candidate(*inputs)
        except BaseException as error:
            raise LearnersError(error, shown_call(function, inputs)) from None
        if answer is None:
            raise UnwrittenError
        return answer

    recorded.__name__ = function
    solution = inspect.signature(getattr(exercise, function))
    try:
        with contextlib.suppress(ValueError):  # not every callable has a signature
            inspect.signature(candidate).bind(*solution.parameters)
    except TypeError as error:
        verdict.stage = THERE
        verdict.line = line_of(candidate, verdict.file, first=True)
        verdict.message = (
            f"{function} cannot be called as {function}{solution}: {error}"
        )
        verdict.advice = f"Begin it with `def {function}{solution}:`."
        return verdict
    try:
        said = exercise.check(recorded, *exercise.HIDDEN)
        verdict.stage = None if said == "passed" else ANSWERS
        if said == "passed" and (
            missing := idea_missing(exercise, candidate, given[0], verdict, report)
        ):
            verdict.stage, said = IDEA, missing
    except UnwrittenError:
        verdict.stage, verdict.message = ANSWERS, UNWRITTEN
        verdict.line = line_of(candidate, verdict.file)
        verdict.advice = f"Write the body; `nbe hint {verdict.lesson}` shows a hint."
        return verdict
    except LearnersError as raised:
        verdict.stage = RUNS
        explain(verdict, raised)
        name = getattr(raised.error, "name", None)
        if isinstance(raised.error, NameError) and name in names_of_page(exercise):
            verdict.advice = f"Define `{name}` in your code, as the lesson's page does."
        if isinstance(raised.error, MemoryError | OSError):
            return verdict  # once is enough
    except Exception as error:  # the answer is an object that no check can read
        call = shown_call(function, given[-1]) if given else ""
        verdict.stage = ANSWERS
        explain(verdict, LearnersError(error, call))
        verdict.advice = "Return a plain array."
        return verdict
    else:
        if verdict.passed:
            return verdict
        verdict.line = verdict.line or line_of(candidate, verdict.file)
        verdict.message, _, advice = said.partition(NEXT)
        verdict.advice = advice or NO_MATCH
        if verdict.stage == ANSWERS:
            _, _, rest = verdict.message.partition("\n")
            verdict.message = f"{shown_call(function, given[-1])}\n{rest}"
            again = answers([given[-1]], candidate, report)
            if not diagnosis.same(again, [diagnosis.describe(answer)]):
                verdict.advice = UNSTEADY
                return verdict
    verdict.answers = hidden or answers(exercise.HIDDEN, candidate, report)
    return verdict


def names_of_page(exercise: types.ModuleType) -> set[str]:
    """Return the names that a lesson's page takes from its exercise and defines."""
    _, _, text = inspect.getsource(exercise).partition("[start:model]")
    found = set()
    for node in ast.parse(textwrap.dedent(text.partition("# --8<-- [end:")[0])).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(one.id for one in node.targets if isinstance(one, ast.Name))
    return found


def idea_missing(
    exercise: types.ModuleType,
    candidate: Callable,
    inputs: tuple,
    verdict: Verdict,
    report: Callable,
) -> str | None:
    """Return what right numbers lack, or None; the verdict gets the line that raises.

    Args:
      exercise: the module with the lesson's `idea`.
      candidate: the learner's function.
      inputs: what the check has called it with first.
      verdict: what to fill in.
      report: called before each run, as a sign of life.
    """
    seen = observe.Seen(candidate, inputs, lambda: report(size_of_output()))
    try:
        return exercise.idea(seen)
    except observe.Finding as finding:
        if finding.error:
            explain(verdict, LearnersError(finding.error))
        return f"{finding}{NEXT}{ALTERED}"
    except Exception as error:  # of another kind than the answer that was right
        said = f"where modules are altered, your answer cannot be read: {error}"
        return f"{said}{NEXT}{ALTERED}"


def answers(
    cases: list[tuple], candidate: Callable, report: Callable = lambda message: None
) -> list[dict]:
    """Return what a function gives on some inputs, described."""
    found = []
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        for inputs in cases:
            report(RUNS)
            try:
                found.append(diagnosis.describe(candidate(*inputs)))
            except BaseException as error:
                found.append(diagnosis.describe(error))
    return found


def known_mistakes(report: Callable, exercise: Path, function: str) -> list[dict]:
    """Return what each of an exercise's `MISTAKES` gives, and what its author hears.

    Args:
      report: called before each call of the function, as a sign of life.
      exercise: path of `exercise.py`.
      function: name of the function that the learner writes.
    """
    sys.dont_write_bytecode = True
    judged, known = load(exercise), []
    right = answers(judged.HIDDEN, getattr(judged, function), report)
    for mistake, says in judged.MISTAKES.items():
        given, idea = answers(judged.HIDDEN, mistake, report), None
        if diagnosis.same(given, right):
            arguments = judged, function, mistake, Verdict(""), report
            verdict = judge(*arguments, hidden=given)
            idea = verdict.message if verdict.stage == IDEA else None
        known.append({"answers": given, "idea": idea, "says": says})
    return known


def missing(verdict: Verdict, module: types.ModuleType, function: str) -> Verdict:
    """Return the verdict on a file that does not define the function."""
    verdict.stage = THERE
    defined = {
        name: found
        for name, found in vars(module).items()
        if inspect.isfunction(found) and found.__module__ == module.__name__
    }
    if function in vars(module):
        value = type(vars(module)[function]).__name__
        verdict.message = f"{function} is no function, but of type {value}"
        verdict.advice = (
            f"Define it with `def {function}(...):`, and do not reuse its name."
        )
    else:
        names = ", ".join(defined) or "no function"
        verdict.message = (
            f"the file defines no function {function}; it defines: {names}"
        )
        verdict.advice = (
            f"Write it; `nbe start {verdict.lesson}` gives its first lines."
        )
    if close := get_close_matches(function, defined, 1, 0.5):
        verdict.advice = f"Rename {close[0]} to {function}."
        verdict.line = line_of(defined[close[0]], verdict.file, first=True)
    return verdict


def explain(verdict: Verdict, raised: LearnersError) -> Verdict:
    """Return the verdict on code that raised: the error, and the learner's own line."""
    error, kind = raised.error, type(raised.error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [n for n, frame in enumerate(frames) if frame.filename == verdict.file]
    summary = traceback.TracebackException.from_exception(error)
    summary.__notes__ = None  # jax adds one on every error
    lines = list(summary.format_exception_only())
    verdict.advice = ADVICE.get(kind, DEFAULT)
    verdict.line = None
    if isinstance(error, SyntaxError):
        lines = [f"{kind}: {error.msg}"]
    if isinstance(error, SyntaxError) and error.filename == verdict.file:
        verdict.line = (error.lineno or 1, error.text or "")
    elif isinstance(error, SyntaxError):
        place = Path(error.filename or "a text").name
        lines = [f"{kind}: {error.msg} ({place}, line {error.lineno})"]
        verdict.advice = f"Mend {place}, which your file runs."
    if not verdict.line and own:
        verdict.line = (frames[own[-1]].lineno, frames[own[-1]].line or "")
        verdict.folded = len(frames) - 1 - own[-1]
    text = [line[:MAX_COLUMNS] for line in "".join(lines).strip().splitlines()]
    raises = "\n          ".join(text[:MAX_LINES])
    verdict.message = f"{raised.call or 'loading the file'}\n  raises: {raises}"
    if getattr(error, "errno", None) == errno.EFBIG:
        verdict.advice = "Print and write less: a check allows 16 MB."
    return verdict


def shown_call(function: str, inputs: tuple) -> str:
    """Return a call as a reader can paste it."""
    texts = [f"jnp.array({x.tolist()})" if hasattr(x, "tolist") else x for x in inputs]
    return f"{function}({', '.join(map(str, texts))})"


def line_of(
    candidate: Callable, file: str, first: bool = False
) -> tuple[int, str] | None:
    """Return the line of a function's last `return`, or where it begins, or None.

    Args:
      candidate: the function.
      file: the learner's file; a line of another one is not shown.
      first: whether it is the first line that is wanted.
    """
    try:
        inner = inspect.unwrap(candidate)
        if inner.__code__.co_filename != file:
            return None
        lines, begin = inspect.getsourcelines(inner)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (AttributeError, OSError, TypeError, ValueError, SyntaxError):
        return None
    returns = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Return)]
    at = 0 if first else max(returns, default=1) - 1
    return begin + at, lines[at].rstrip()


def size_of_output() -> int:
    """Return how many bytes this process has written to its standard output."""
    with contextlib.suppress(OSError, ValueError):  # it may be closed
        sys.stdout.flush()
        return os.fstat(1).st_size
    return 0
