"""Runs a page's Python as one script: in a process of its own, or in a shared one.

What the process writes is read from its file descriptors, so it makes no difference who
writes: `print`, a logger, a subprocess, a thread.
"""

import ast
import atexit
import contextlib
import gc
import importlib
import os
import sys
import tempfile
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.abc import Loader
from pathlib import Path

from pytest_examples import CodeExample
from pytest_examples.config import ExamplesConfig
from pytest_examples.run_code import run_code

from tools.gate.axes import Axes, header_end
from tools.gate.world import World, runs_alone

LINE = sys.monitoring.events.LINE
START, RETURN = sys.monitoring.events.PY_START, sys.monitoring.events.PY_RETURN

# What tree mode switches off, which Flax plans as its default (FLIP 5310).
GRAPH = ("nnx_graph_mode", "nnx_graph_updates")

IDLE = "this line never runs: take it out, or show it run"


class UnsoundError(Exception):
    """A statement does what no page can show; the message says what."""


class Streams:
    """The standard output and error of this process, kept in files from now on."""

    def __init__(self):
        sys.stdout, sys.stderr = self.streams = [self._keep(1), self._keep(2)]
        sys.__stdout__, sys.__stderr__ = self.streams
        self.read = [0, 0]

    @staticmethod
    def _keep(descriptor):
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), descriptor)
        return open(descriptor, "w", encoding="utf-8", closefd=False)

    def take(self) -> str:
        """Return what was printed since the last call.

        Raises:
          UnsoundError: if it is not whole lines of text, or if anything went to stderr.
        """
        texts = []
        for index, stream in enumerate(self.streams):
            stream.flush()
            size = os.fstat(index + 1).st_size - self.read[index]
            written = os.pread(index + 1, size, self.read[index])
            texts.append(written.decode("utf-8", "backslashreplace"))
            self.read[index] += size
        out, err = texts
        if err:
            raise UnsoundError(
                f"this writes to stderr, which no page shows: {err.strip()}\n"
                "  To show a warning, record it as STYLE.md says"
            )
        if out and not out.endswith("\n"):
            raise UnsoundError(f"this prints without ending the line: {out!r}")
        if not out.replace("\n", "").isprintable():
            raise UnsoundError(f"tabs and control characters cannot be shown: {out!r}")
        return out


class Executed:
    """The lines of a script that have run, by what Python itself reports."""

    def __init__(self, axes: Axes):
        self.lines: set[int] = set()
        self.axes = axes
        self.tool = sys.monitoring.COVERAGE_ID
        sys.monitoring.use_tool_id(self.tool, "pages")
        callbacks = {LINE: self._ran, START: axes.start, RETURN: axes.end}
        for event, callback in callbacks.items():
            sys.monitoring.register_callback(self.tool, event, callback)

    def _ran(self, code, line):
        self.lines.add(line)
        if code in self.axes.of:
            return self.axes.line(sys._getframe(1), line)
        return sys.monitoring.DISABLE  # once is enough

    def close(self):
        """Let the next script be watched."""
        sys.monitoring.free_tool_id(self.tool)

    def watch(self, code):
        """Return the code, watched together with the functions defined in it."""
        events = LINE | START | RETURN if self.axes.adopt(code) else LINE
        sys.monitoring.set_local_events(self.tool, code, events)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                self.watch(inner)
        return code

    def missing(self, tree: ast.Module) -> list[int]:
        """Return the first lines of the statements that have not run."""
        return sorted(
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.stmt) and not is_declaration(node)
            if not self.lines & set(range(node.lineno, header_end(node) + 1))
        )


def is_declaration(node: ast.stmt) -> bool:
    """Return whether a statement executes nothing: docstring, `global`, `x: int`."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    typed = isinstance(node, ast.AnnAssign) and node.value is None
    return text or typed or isinstance(node, ast.Global | ast.Nonlocal)


class StatementLoader(Loader):
    """Loads a script statement by statement and notes what each of them prints."""

    def __init__(self, source: str, path: str, begun: str, end: Callable):
        """Note what to run.

        Args:
          source: the script.
          path: where it lies.
          begun: a file that tells which statement began last, by its line.
          end: called with the module after the last statement: nothing may print then.
        """
        self.source, self.path, self.begun, self.end = source, path, begun, end
        self.printed: dict[int, str] = {}
        self.found: list[tuple[int, str]] = []

    def create_module(self, spec):
        """Return None: the import system makes the module as it does for a script."""

    def exec_module(self, module):
        """Run the script; note the output of each statement at its last line."""
        whole = compile(self.source, self.path, "exec", dont_inherit=True)
        future = whole.co_flags & 0x1FF0000  # `from __future__` holds for all of it
        tree = ast.parse(self.source)
        executed = Executed(Axes(self.source, tree))
        streams, statement = Streams(), None
        begun = os.open(self.begun, os.O_WRONLY)
        try:
            for statement in tree.body:
                # Should the statement end the process, this tells which it was.
                os.pwrite(begun, b"%8d" % statement.lineno, 0)
                piece = ast.Module([statement], [])
                code = compile(piece, self.path, "exec", future, True)
                exec(executed.watch(code), module.__dict__)
                if "jax" in sys.modules:
                    sys.modules["jax"].effects_barrier()
                text = streams.take()
                last = statement.end_lineno
                self.printed[last] = self.printed.get(last, "") + text
            self.end(module)
            self.found = [(line, IDLE) for line in executed.missing(tree)]
            self.found += executed.axes.findings()
            if late := streams.take():
                raise UnsoundError(
                    f"this is printed after the last statement: {late!r}"
                )
        except UnsoundError as error:
            raise UnsoundError(f"{error} (line {statement.lineno})") from None
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            name = type(error).__name__
            raise UnsoundError(
                f"the script ends itself by {name}: {error} (line {statement.lineno})"
            ) from error
        finally:
            executed.close()
            os.close(begun)


def forget(module) -> None:
    """Forget the names of a script: what nothing else holds ends now."""
    module.__dict__.clear()
    gc.collect()


def end_process(module) -> None:
    """Do what Python does at the end of a script: nothing may be left to print."""
    threading._shutdown()
    atexit._run_exitfuncs()
    forget(module)


def leave_project(root: str) -> None:
    """Let scripts see nothing of the project, whose modules stay in use here.

    In a copy of it, the one that is installed is on the path, too.
    """
    warnings.simplefilter("always")  # as for a reader, and stderr has to stay empty
    sys.path[:] = [
        path
        for path in sys.path
        if path not in ("", root) and not Path(path, "tools", "gate").exists()
    ]
    for name in list(sys.modules):
        if name.partition(".")[0] in ("tests", "tools"):
            del sys.modules[name]


Execution = tuple[dict[int, str], list[tuple[int, str]], str | None]


@contextlib.contextmanager
def in_mode(tree: bool) -> Iterator[None]:
    """Switch NNX to tree mode for a while, or leave it as it is."""
    if not tree:
        yield
        return
    config = importlib.import_module("flax").config
    before = {name: getattr(config, name) for name in GRAPH}
    try:
        for name in GRAPH:
            config.update(name, False)
        yield
    finally:
        for name, value in before.items():
            config.update(name, value)


def run_script(folder: str, root: str, begun: str, tree: bool = False) -> Execution:
    """Return what each last line of a statement printed, what is wrong, what failed.

    Wrong are lines that never ran, and comments that name other axes than values have.
    The script is `page.py` in `folder`, which is empty otherwise. It does not see the
    project, in `root`. The file `begun` tells which statement began last, by its line.
    Each warning goes to stderr, as it does for a reader, and stderr has to stay empty:
    nothing deprecated is taught. In tree mode it runs as if the two switches of NNX for
    graphs were off when flax was imported.
    """
    leave_project(root)
    with in_mode(tree):
        return execute(Path(folder, "page.py"), begun, end_process)


def execute(path: Path, begun: str, end: Callable) -> Execution:
    """Return what `run_script` does, of a script that is ended by `end`."""
    sys.path.insert(0, str(path.parent))
    os.chdir(path.parent)
    source = path.read_text("utf-8")
    loader = StatementLoader(source, str(path), begun, end)
    try:
        run_code(
            example=CodeExample.create(source, path=path),
            python_file=path,
            loader=loader,
            config=ExamplesConfig(),
            enable_print_mock=False,
            print_callback=None,
            include_print=None,
            module_globals=None,
            call=None,
        )
    except UnsoundError as error:
        return {}, [], str(error)
    except Exception as error:
        frames = error.__traceback__  # from the first that is the page's own
        while frames.tb_next and frames.tb_frame.f_code.co_filename != str(path):
            frames = frames.tb_next
        shown = traceback.format_exception(error.with_traceback(frames))
        return {}, [], "".join(shown)
    return loader.printed, loader.found, None


shared: World | None = None  # of the process in which scripts run after each other


def run_shared(
    folder: str, root: str, begun: str, tree: bool = False
) -> Execution | None:
    """Return what `run_script` does, or None if the script has to run alone.

    A script may run in a process that others have used, as long as it finds the process
    as it was, and leaves it so. If it does not, what it has found counts for nothing.
    """
    global shared
    path = Path(folder, "page.py")
    source = path.read_text("utf-8")
    if shared is None:
        leave_project(root)
        warm_up()
        shared = World()
    with contextlib.suppress(SyntaxError):
        if runs_alone(source) or (shared.imported and shared.shows(ast.parse(source))):
            return None
    home, main = Path.cwd(), sys.modules["__main__"]
    streams = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    with in_mode(tree):
        found = execute(path, begun, forget)
    sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = streams
    os.chdir(home)
    sys.modules["__main__"] = main
    sys.path.remove(folder)
    gc.collect()
    if shared.changes():
        os._exit(0)  # nothing may follow here
    gc.freeze()
    return found


def warm_up() -> None:
    """Do what the first script would do: start JAX, and write where scripts write."""
    Streams()
    import jax

    with tempfile.TemporaryDirectory():
        jax.jit(lambda x: x + 1)(jax.numpy.zeros(2)).block_until_ready()
    gc.collect()


# Each page ends with a collection, which need not look at what was imported before it.
gc.freeze()
