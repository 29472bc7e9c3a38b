"""Runs a page and compares what it shows with what it prints.

pytest-examples finds the blocks, runs them and rewrites pages. This module adds what a
reader would do: the blocks of a page are one script, and the text under a statement is
byte for byte what that statement printed.
"""

import ast
import contextlib
import dataclasses
import difflib
import functools
import io
import re
import sys
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO

from tools.gate.axes import UNSEEN
from tools.gate.comments import claims
from tools.gate.pages import (
    ROOT,
    Block,
    PageError,
    count_commands,
    read_blocks,
    shown_path,
)
from tools.gate.process import Server, in_process
from tools.gate.prose import too_long, unproven
from tools.gate.script import IDLE, Execution, run_script, run_shared
from tools.sources import fingerprint

VERSIONS = {name: version(name) for name in ("jax", "flax", "pytest-examples")}
VERSIONS["python"] = ".".join(map(str, sys.version_info[:3]))

# Comments that claim an output: an arrow, "Output:", or nothing but a value.
CLAIM = re.compile(
    r"#+\s*((>|->|=>).*|(output|prints|out)\b.*|[\[({]?-?\d[\d\s.,:e+()\[\]{}-]*"
    r"|True|False|None)",
    flags=re.I,
)


@dataclasses.dataclass
class Result:
    """What a run of a page found."""

    rendered: list[str] = dataclasses.field(default_factory=list)
    """Each block's source with the outputs that were printed."""
    outputs: int = 0
    """How many output lines were printed."""
    found: list[str] = dataclasses.field(default_factory=list)
    """What is wrong with its lines: place and reason."""
    error: str | None = None
    """Why the page cannot be run or shown; the other fields are empty then."""


def output_lines(block: Block) -> set[int]:
    """Return the numbers of the lines that show an output.

    Raises:
      PageError: if an output stands where, or in a form in which, nothing can claim it.
    """
    numbers = set()
    for token in tokenize.generate_tokens(io.StringIO(block.source).readline):
        if token.type != tokenize.COMMENT:
            continue
        alone = not token.line[: token.start[1]].strip()
        if token.string.startswith("#>") and alone:
            numbers.add(token.start[0])
        elif CLAIM.fullmatch(token.string):
            raise PageError(
                f"{block.place_of(token.start[0])}: an output starts with #> on a line "
                "of its own, under the whole statement that prints it"
            )
    return numbers


def with_outputs(block: Block, stale: set[int], printed: dict[int, str]) -> str:
    """Return the source with exactly the printed outputs, each under its statement.

    Raises:
      PageError: if that would change the program, or could not be told from a page.
    """
    lines = []
    for number, line in enumerate(block.source.removesuffix("\n").split("\n"), 1):
        if number not in stale:
            lines.append(line)
        for text in printed.get(number, "").split("\n")[:-1]:
            if "```" in text or "--8<--" in text:
                raise PageError(
                    f"{block.place_of(number)}: a page cannot show this output: {text}"
                )
            lines.append(f"#> {text}".rstrip())
    same_program(block, "\n".join(lines), min(printed, default=0))
    return "\n".join(lines) + "\n"


def same_program(block: Block, text: str, line: int) -> None:
    """Do nothing if the text, with or without outputs, is the program of the block.

    Raises:
      PageError: naming the line, if the outputs are more than comments.
    """
    with contextlib.suppress(SyntaxError):
        if ast.dump(ast.parse(text)) == ast.dump(ast.parse(block.source)):
            return
    raise PageError(
        f"{block.place_of(line)}: outputs fit under one statement a line, without a "
        "backslash"
    )


def execute_alone(script: str, tree: bool = False) -> Execution:
    """Return what `run_script` says of a script in a process of its own.

    A process that ends without an answer, or not in time, is an error like others.
    """
    with written(script) as (folder, begun):
        try:
            return in_process(run_script, folder, str(ROOT), begun.name, tree)
        except RuntimeError as error:
            return {}, [], f"{error} (line {begun.read().strip()})"


def execute(script: str, tree: bool = False) -> Execution:
    """Return the same, from the process that scripts share where that is as good."""
    global shared
    with written(script) as (folder, begun):
        shared = shared or Server(run_shared, daemon=True)
        try:
            found = shared.call(folder, str(ROOT), begun.name, tree)
        except RuntimeError:  # it has left something behind, or hangs, or has ended
            shared, found = shared.close(), None
    return found or execute_alone(script, tree)


shared: Server | None = None
# A page that only shows other outputs, or has another text, is the same script.
remembered = functools.lru_cache(maxsize=64)(execute)


@contextlib.contextmanager
def written(script: str) -> Iterator[tuple[str, IO]]:
    """Write a script into an empty folder; yield it, and a file for `run_script`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.NamedTemporaryFile("r") as begun,
    ):
        Path(folder, "page.py").write_text(script, "utf-8")
        yield folder, begun


def run_blocks(blocks: list[Block], execute: Callable) -> Result:
    """Run the blocks as one script, to which the outputs that they show do not belong.

    Args:
      blocks: of one page.
      execute: what to run the script with: `execute`, or `execute_alone`.

    Raises:
      PageError: if the page cannot be run or shown.
    """
    script, places = [], []  # of each line: its text; its block and its number there
    shown = [output_lines(block) for block in blocks]
    for block, stale in zip(blocks, shown, strict=True):
        lines = [*block.source.removesuffix("\n").split("\n"), "", ""]
        numbers = [n for n in range(1, len(lines) + 1) if n not in stale]
        code = [lines[number - 1] for number in numbers]
        same_program(block, "\n".join(code), min(stale, default=0))
        script += code
        places += [(block, number) for number in numbers]

    def on_page(match):
        block, number = places[int(match[1]) - 1]
        return block.place_of(number)

    printed, found, error = execute("\n".join(script))
    if error:
        error = re.sub(r'(?<=File )"[^"]*page\.py", line (\d+)', on_page, error)
        error = re.sub(r"[^\s\"]*/page\.py:(\d+)", on_page, error)
        error = re.sub(r"(?<=\()line (\d+)(?=\))", on_page, error)
        raise PageError(f"{shown_path(blocks[0].example.path)}: {error}")
    rendered = []
    for block, stale in zip(blocks, shown, strict=True):
        own = {
            places[at - 1][1]: text
            for at, text in printed.items()
            if places[at - 1][0] is block
        }
        rendered.append(with_outputs(block, stale, own))
    wrong = []
    for at, why in found:
        block, number = places[at - 1]
        # A check, which a page includes, has a branch for every mistake.
        if not (block.snippet and why in (IDLE, UNSEEN)):
            wrong.append(f"{block.place_of(number)}: {why}")
    return Result(rendered, sum(t.count("\n") for t in printed.values()), wrong)


def run_page(path: Path, execute: Callable = execute) -> tuple[list[Block], Result]:
    """Return the blocks of a page and what running them found."""
    blocks = []
    try:
        blocks = read_blocks(path)
        return blocks, run_blocks(blocks, execute) if blocks else Result()
    except PageError as error:
        return blocks, Result(error=str(error))


def judge(
    path: Path, execute: Callable = execute, tree: bool = False
) -> tuple[list[Block], Result, list[str]]:
    """Return the blocks of a page, what running them found, and what is wrong.

    What is wrong with a page is what is wrong when it runs in a process of its own.

    Args:
      path: of the page.
      execute: what to run it with first.
      tree: whether NNX is in tree mode.
    """
    runs = (execute, execute_alone)
    for run in (functools.partial(one, tree=True) if tree else one for one in runs):
        blocks, result = run_page(path, run)
        wrong = differences(path, blocks, result)
        if not wrong:
            break
    return blocks, result, wrong


def differences(path: Path, blocks: list[Block], result: Result) -> list[str]:
    """Return what is wrong with a page that was run: place, shown and got."""
    if result.error:
        return [result.error]
    found = []
    for block, rendered in zip(blocks, result.rendered, strict=True):
        shown, got = block.source.split("\n"), rendered.split("\n")
        changes = difflib.SequenceMatcher(None, shown, got, autojunk=False)
        for what, at, end, start, stop in changes.get_opcodes():
            if what != "equal":
                found.append(
                    f"{block.place_of(at + 1)}: what is shown is not what is printed. "
                    "Are code and text right? Then `make update` writes it\n"
                    f"  shown: {' | '.join(shown[at:end]) or 'nothing'}\n"
                    f"  got:   {' | '.join(got[start:stop]) or 'nothing'}"
                )
    found += result.found
    for block in blocks:
        for line, why in claims(block, output_lines(block)):
            found.append(f"{block.place_of(line)}: {why}")
    return found + unproven(path, blocks) + too_long(path)


def counts(path: Path, blocks: list[Block], result: Result) -> dict:
    """Return what the site shows of a page that was run and found true."""
    return {
        "name": shown_path(path),
        "fingerprint": fingerprint(path),
        "blocks": len(blocks),
        "outputs": result.outputs,
        "commands": count_commands(path),
        "versions": VERSIONS,
    }
