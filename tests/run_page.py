"""Runs a page and compares what it shows with what it prints.

pytest-examples finds the blocks, runs them and rewrites pages. This module adds what a
reader would do: the blocks of a page are one script, and the text under a statement is
byte for byte what that statement printed.
"""

import ast
import dataclasses
import io
import json
import re
import sys
import tempfile
import tokenize
from importlib.metadata import version
from pathlib import Path

from tests.pages import (
    ROOT,
    Block,
    PageError,
    count_commands,
    read_blocks,
    shown_path,
)
from tests.process import in_process
from tests.script import run_script
from tools.hooks import fingerprint, record_of

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
    idle: list[str] = dataclasses.field(default_factory=list)
    """The places of statements that never ran."""
    error: str | None = None
    """Why the page cannot be run or shown; the other fields are empty then."""


def output_lines(source: str) -> set[int]:
    """Return the numbers of the lines that show an output.

    Raises:
      PageError: if an output stands where, or in a form in which, nothing can claim it.
    """
    numbers = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        alone = not token.line[: token.start[1]].strip()
        if token.string.startswith("#>") and alone:
            numbers.add(token.start[0])
        elif CLAIM.fullmatch(token.string):
            raise PageError(
                f"line {token.start[0]} of the block: an output starts with #> on a "
                "line of its own, under the whole statement that prints it"
            )
    return numbers


def with_outputs(source: str, printed: dict[int, str]) -> str:
    """Return the source with exactly the printed outputs, each under its statement.

    Raises:
      PageError: if that would change the program, or could not be told from a page.
    """
    stale, lines = output_lines(source), []
    for number, line in enumerate(source.removesuffix("\n").split("\n"), 1):
        if number not in stale:
            lines.append(line)
        for text in printed.get(number, "").split("\n")[:-1]:
            if "```" in text or "--8<--" in text:
                raise PageError(f"a page cannot show this output: {text}")
            lines.append(f"#> {text}".rstrip())
    rendered = "\n".join(lines) + "\n"
    try:
        same = ast.dump(ast.parse(rendered)) == ast.dump(ast.parse(source))
    except SyntaxError:
        same = False
    if not same:
        raise PageError("outputs fit under one statement a line, without a backslash")
    return rendered


def run_blocks(blocks: list[Block]) -> Result:
    """Run the blocks as one script in a process of its own."""
    script, places, starts = [], [], []
    for block in blocks:
        starts.append(len(script))
        lines = block.source.removesuffix("\n").split("\n")
        script += [*lines, "", ""]
        places += [block.place_of(number) for number in range(1, len(lines) + 3)]

    def on_page(match):
        return places[int(match[1]) - 1]

    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "page.py").write_text("\n".join(script), "utf-8")
            printed, never_run, error = in_process(run_script, folder, str(ROOT))
        if error:
            error = re.sub(r'(?<=File ")[^"]*page\.py", line (\d+)', on_page, error)
            return Result(error=re.sub(r"(?<=\()line (\d+)(?=\))", on_page, error))
        rendered, idle = [], []
        for block, start in zip(blocks, starts, strict=True):
            lines = range(1, block.source.count("\n") + 1)
            own = {n: printed.get(start + n, "") for n in lines}
            rendered.append(with_outputs(block.source, own))
            if not block.snippet:  # a check has a branch for every mistake
                idle += [block.place_of(n) for n in lines if start + n in never_run]
    except (PageError, RuntimeError) as error:
        return Result(error=str(error))
    return Result(rendered, sum(text.count("\n") for text in printed.values()), idle)


def run_page(path: Path) -> tuple[list[Block], Result]:
    """Return the blocks of a page and what running them found."""
    try:
        blocks = read_blocks(path)
    except PageError as error:
        return [], Result(error=str(error))
    result = run_blocks(blocks) if blocks else Result()
    if result.error:
        result.error = f"{shown_path(path)}: {result.error}"
    return blocks, result


def differences(blocks: list[Block], result: Result) -> list[str]:
    """Return what is wrong with a page that was run: place, shown and got."""
    if result.error:
        return [result.error]
    found = []
    for block, rendered in zip(blocks, result.rendered, strict=True):
        if rendered == block.source:
            continue
        shown, got = block.source.split("\n"), rendered.split("\n")
        pairs = enumerate(zip(shown, got, strict=False))
        at = next((n for n, (s, g) in pairs if s != g), min(len(shown), len(got)))
        found.append(
            f"{block.place_of(at + 1)}: what is shown is not what is printed\n"
            f"  shown: {''.join(shown[at : at + 1]) or 'nothing more'}\n"
            f"  got:   {''.join(got[at : at + 1]) or 'nothing more'}"
        )
    return found + [f"{place}: this line never runs" for place in result.idle]


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
                "commands": count_commands(path),
                "versions": VERSIONS,
            }
        )
    )
