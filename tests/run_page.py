"""Runs a page as the one program it is, and compares what it shows with what it prints.

pytest-examples finds the blocks, runs each and rewrites pages. This module adds what a
reader would do: all blocks share one namespace, in a process of their own, and the
text under a statement is byte for byte what that statement wrote to stdout.
"""

import ast
import contextlib
import dataclasses
import io
import json
import multiprocessing
import os
import sys
import tempfile
import tokenize
import traceback
import types
import warnings
from collections.abc import Callable
from importlib.abc import Loader
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pytest_examples.config import ExamplesConfig
from pytest_examples.run_code import run_code

from tests.pages import Block, count_other_fences, read_blocks, shown_path
from tools.hooks import CACHE, fingerprint, record_of

VERSIONS = {name: version(name) for name in ("jax", "flax", "pytest-examples")}
VERSIONS["python"] = ".".join(map(str, sys.version_info[:3]))

# What a page cannot see: a display, a terminal, and compilations that were done before.
ENVIRONMENT = {
    "MPLBACKEND": "template",
    "JAX_COMPILATION_CACHE_DIR": str(CACHE / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# The server has imported the libraries and created no array: each child starts warm,
# and no page sees what another did.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "jax",
        "flax.linen",
        "flax.nnx",
        "optax",
        "matplotlib.pyplot",
        "sklearn.datasets",
        "tests.run_page",
    ]
)


@dataclasses.dataclass
class Result:
    """What a run of a page found."""

    rendered: list[str] = dataclasses.field(default_factory=list)
    """Each block's source with the outputs that were printed."""
    outputs: int = 0
    """How many output lines were printed."""
    error: str | None = None
    """Why the run ended early, with the page's own line."""


class StatementLoader(Loader):
    """Runs a block statement by statement in the page's one module."""

    def __init__(self, module: types.ModuleType, path: Path):
        self.module, self.path = module, path
        self.printed: dict[int, str] = {}

    def create_module(self, spec):
        """Return the page's module, the same for every block."""
        return self.module

    def exec_module(self, module):
        """Run the block; note what was printed at the last line of each statement."""
        tree = ast.parse(self.path.read_text("utf-8"), str(self.path))
        for statement in tree.body:
            code = compile(ast.Module([statement], []), str(self.path), "exec")
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    exec(code, module.__dict__)
                except BaseException as error:
                    if isinstance(error, Exception):
                        raise
                    raise RuntimeError(f"the block ended by {error!r}") from error
                if "jax" in sys.modules:
                    sys.modules["jax"].effects_barrier()
            if err.getvalue():
                raise RuntimeError(
                    f"line {statement.lineno} writes to stderr, where no reader of "
                    f"this page looks: {err.getvalue().strip()}"
                )
            text = self.printed.get(statement.end_lineno, "") + out.getvalue()
            if text and not text.endswith("\n"):
                raise RuntimeError(
                    f"line {statement.lineno} prints without ending the line"
                )
            self.printed[statement.end_lineno] = text


def output_lines(source: str) -> set[int]:
    """Return the numbers of the lines that show an output.

    Raises:
      ValueError: if an output stands behind code, where nothing can claim it.
    """
    numbers = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("#>"):
            if token.line[: token.start[1]].strip():
                raise ValueError(
                    f"line {token.start[0]}: put the output on a line of its own, "
                    "under the whole statement that prints it"
                )
            numbers.add(token.start[0])
    return numbers


def with_outputs(source: str, printed: dict[int, str]) -> str:
    """Return the source with exactly the printed outputs, each under its statement."""
    stale, lines = output_lines(source), []
    for number, line in enumerate(source.splitlines(), 1):
        if number not in stale:
            lines.append(line)
        for text in printed.get(number, "").split("\n")[:-1]:
            lines.append(f"#> {text}".rstrip())
    return "\n".join(lines) + "\n"


def run_blocks(blocks: list[Block]) -> Result:
    """Run the blocks in one namespace, top to bottom, until one of them raises.

    Every warning is an error, so that nothing deprecated is taught.
    """
    result, module = Result(), types.ModuleType("__main__")
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for block in blocks:
            path = Path(folder, block.example.module_name + ".py")
            path.write_text(block.source, "utf-8")
            loader = StatementLoader(module, path)
            try:
                output_lines(block.source)
                run_code(
                    example=block.example,
                    python_file=path,
                    loader=loader,
                    config=ExamplesConfig(),
                    enable_print_mock=False,
                    print_callback=None,
                    include_print=None,
                    module_globals=None,
                    call=None,
                )
            except Exception as error:
                frames = "".join(traceback.format_exception(error))
                result.error = f"{block.place}: the block raises\n{frames}"
                return result
            result.rendered.append(with_outputs(block.source, loader.printed))
            result.outputs += sum(text.count("\n") for text in loader.printed.values())
    return result


def in_process(function: Callable, *args: Any, seconds: float = 300) -> Any:
    """Return `function(*args)`, called in a process of its own.

    Raises:
      RuntimeError: if the process ends without an answer, or takes too long.
    """
    receiver, sender = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=_send, args=(sender, function, args))
    with patch.dict(os.environ, ENVIRONMENT):  # the server starts with the first child
        child.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise RuntimeError(f"no end after {seconds:.0f} s")
        return receiver.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"the process ended by itself: {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
        receiver.close()


def _send(sender, function, args):
    sender.send(function(*args))


def run_page(path: Path) -> tuple[list[Block], Result]:
    """Return the blocks of a page and what running them found."""
    blocks = read_blocks(path)
    if not blocks:
        return blocks, Result()
    try:
        return blocks, in_process(run_blocks, blocks)
    except RuntimeError as error:
        return blocks, Result(error=f"{shown_path(path)}: {error}")


def differences(blocks: list[Block], result: Result) -> list[str]:
    """Return what is wrong with a page that was run: place, shown and got."""
    found = []
    for block, rendered in zip(blocks, result.rendered, strict=False):
        if rendered == block.source:
            continue
        shown, got = block.source.splitlines(), rendered.splitlines()
        same = 0
        while shown[same : same + 1] == got[same : same + 1]:
            same += 1
        place = shown_path(block.example.path)
        found.append(
            f"{place}:{block.example.start_line + same + 1}: "
            f"{block.snippet or 'the page'} shows what is not printed\n"
            f"  shown: {shown[same] if same < len(shown) else 'nothing more'}\n"
            f"  got:   {got[same] if same < len(got) else 'nothing more'}"
        )
    return [*found, result.error] if result.error else found


def record(path: Path, blocks: list[Block], result: Result) -> None:
    """Write down that these very blocks were run and found true."""
    target = record_of(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        json.dumps(
            {
                "fingerprint": fingerprint(path),
                "blocks": len(blocks),
                "outputs": result.outputs,
                "not_code": count_other_fences(path),
                "versions": VERSIONS,
            }
        )
    )
