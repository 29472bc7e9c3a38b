"""Runs a page and compares what it shows with what it prints.

pytest-examples finds the blocks, runs them and rewrites pages. This module adds what a
reader would do: the blocks of a page are one script, and the text under a statement is
byte for byte what that statement printed.
"""

import ast
import contextlib
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
    return same_program(block, "\n".join(lines) + "\n")


def same_program(block: Block, text: str) -> str:
    """Return the text: the block with its outputs, or without.

    Raises:
      PageError: if the outputs are not comments alone, so that they change the program.
    """
    with contextlib.suppress(SyntaxError):
        if ast.dump(ast.parse(text)) == ast.dump(ast.parse(block.source)):
            return text
    raise PageError(
        f"{block.place_of()}: outputs fit under one statement a line, without a "
        "backslash"
    )


def execute(script: str) -> tuple[dict[int, str], list[int], str | None]:
    """Return what `tests.script.run_script` says of a script, run in an empty folder.

    Raises:
      RuntimeError: if its process ends without an answer, or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "page.py").write_text(script, "utf-8")
        return in_process(run_script, folder, str(ROOT))


def run_blocks(blocks: list[Block]) -> Result:
    """Run the blocks as one script, to which the outputs that they show do not belong.

    Raises:
      PageError, RuntimeError: if the page cannot be run or shown.
    """
    script, places = [], []  # of each line: its text; its block and its number there
    shown = [output_lines(block) for block in blocks]
    for block, stale in zip(blocks, shown, strict=True):
        lines = [*block.source.removesuffix("\n").split("\n"), "", ""]
        numbers = [n for n in range(1, len(lines) + 1) if n not in stale]
        code = [lines[number - 1] for number in numbers]
        same_program(block, "\n".join(code))
        script += code
        places += [(block, number) for number in numbers]

    def on_page(match):
        block, number = places[int(match[1]) - 1]
        return block.place_of(number)

    printed, never_run, error = execute("\n".join(script))
    if error:
        error = re.sub(r'(?<=File ")[^"]*page\.py", line (\d+)', on_page, error)
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
    idle = [places[at - 1] for at in never_run]
    return Result(
        rendered,
        sum(text.count("\n") for text in printed.values()),
        # A check, which a page includes, has a branch for every mistake.
        [block.place_of(number) for block, number in idle if not block.snippet],
    )


def run_page(path: Path) -> tuple[list[Block], Result]:
    """Return the blocks of a page and what running them found."""
    blocks = []
    try:
        blocks = read_blocks(path)
        return blocks, run_blocks(blocks) if blocks else Result()
    except PageError as error:
        return blocks, Result(error=str(error))
    except RuntimeError as error:
        return blocks, Result(error=f"{shown_path(path)}: {error}")


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
