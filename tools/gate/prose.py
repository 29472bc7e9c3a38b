"""Numbers in the text of a page: a block of the same section shows them.

Text cannot be run, so it must not know more than the blocks beside it, whose outputs
are compared in every run. When an output changes, the text about it fails.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext

from tools.gate.pages import Block, scan, shown_path

WORDS = ["three", "four", "five", "six", "seven", "eight", "nine", "ten"]
NUMBER = re.compile(
    r"(?<![\w.#])\d[\d,_]*(?:\.\d+)?(?:e-?\d+)?|\b(?:" + "|".join(WORDS) + r")\b",
    re.I,
)
# Not about the run: snippets, where links lead, releases of packages, pieces of code,
# what a page weighs in the search, how long it takes to read.
ASIDE = re.compile(
    r"--8<--.*|\nweight: .*|\]\([^)]*\)|https?://\S+|(flax|jax|python) \d+(\.\d+)+"
    r"|`[^`]*[a-z_][^`]*`|from linen in ten minutes",
    re.I,
)

# Words of prose in a lesson, and in sections of it.
MOST = 900
MOST_IN = {"Why it matters": 80, "The API": 120, "Worked example": 200, "Problem": 100}
WORD = re.compile(r"\b[a-z][\w'.-]*", re.I)


def numbers(text: str) -> Iterator[tuple[int, str, float]]:
    """Yield line, spelling and value, without a sign, of each number in a text."""
    text = ASIDE.sub(lambda aside: re.sub(".", " ", aside[0]), text)
    for found in NUMBER.finditer(text):
        written = found[0].rstrip(",_")
        word = written.lower()
        value = WORDS.index(word) + 3 if word in WORDS else re.sub("[,_]", "", word)
        yield text.count("\n", 0, found.start()), written, float(value)


def shown_by(code: str) -> set[float]:
    """Return every number that a block shows, those in its strings and names too."""
    found = re.findall(r"\d[\d_]*(?:\.\d+)?(?:e-?\d+)?", code)
    return {float(number.replace("_", "")) for number in found}


def sections(path: Path, blocks: list[Block]) -> Iterator[tuple[int, str, set]]:
    """Yield first line, text, and what its code shows, of each section that has code.

    A section that only includes code, such as the stub, states a task and runs nothing.
    The first lines of a page, which describe it, are about all of its code.
    """
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        for cell in jupytext.reads(text, fmt="py:percent").cells:
            if cell.cell_type == "markdown":
                first = text[: text.index(cell.source.split("\n")[0])].count("\n")
                yield first + 1, cell.source, shown_by(text)
        return
    lines = ["", *text.split("\n")]
    for start, _, body in scan(path, text):
        lines[start : start + len(body) + 2] = [""] * (len(body) + 2)
    heads = [n for n, line in enumerate(lines) if line.startswith(("## ", "### "))]
    for start, end in itertools.pairwise([0, *heads, len(lines)]):
        own = [b for b in blocks if not start or start <= b.example.start_line < end]
        if not all(block.snippet for block in own):
            code = "\n".join(block.source for block in own)
            yield start, "\n".join(lines[start:end]), shown_by(code)


def unproven(path: Path, blocks: list[Block]) -> list[str]:
    """Return place and spelling of each number that no block of its section shows."""
    return [
        f"{shown_path(path)}:{start + line}: no block of this section shows {written}: "
        "print it, or take it out"
        for start, text, shown in sections(path, blocks)
        for line, written, value in numbers(text)
        if value not in shown
    ]


def too_long(path: Path) -> list[str]:
    """Return what is longer in a lesson than the style allows, with its words of prose.

    Code, tables, sources and where links lead are not counted.
    """
    _, head, text = path.read_text("utf-8").partition("\nproves: ")
    if not head:
        return []
    lines = text.partition("\n---\n")[2].split("\n")
    for start, _, body in scan(path, "\n".join(lines)):
        lines[start - 1 : start + len(body) + 1] = [""] * (len(body) + 2)
    kept = (line for line in lines if not re.match(r" *(\||--8<--)", line))
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(kept)).partition("\n## Sources\n")[0]
    parts = dict(part.partition("\n")[::2] for part in text.split("\n## ")[1:])
    lengths = {"the lesson": (len(WORD.findall(text)), MOST)}
    for name, most in MOST_IN.items():
        lengths[f'"{name}"'] = len(WORD.findall(parts.get(name, ""))), most
    return [
        f"{shown_path(path)}: {words} words of prose in {name}, more than {most}"
        for name, (words, most) in lengths.items()
        if words > most
    ]
