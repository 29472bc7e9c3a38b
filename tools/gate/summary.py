"""Sums up runs of the suite: by part, and by kind of damage.

Each run of pytest writes what it has found. Where the suite is divided over machines,
`python -m tools.gate.summary FILES` adds up what they wrote, as Markdown; it fails if
any test has failed. It needs no package.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from tools.project import CACHE

FILE = CACHE / "summary.json"
COLUMNS = ("passed", "failed", "unchanged", "seconds")


def write(parts: dict[str, Counter], damages: dict[str, list[int]], file: Path) -> None:
    """Write what a run has found."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"parts": parts, "damages": damages}), "utf-8")


def read(*files: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows of two tables, of parts and of damages, added up over files."""
    parts: dict[str, Counter] = {}
    damages: dict[str, Counter] = {}
    for file in files:
        found = json.loads(file.read_text("utf-8"))
        for name, numbers in found["parts"].items():
            parts.setdefault(name, Counter()).update(numbers)
        for kind, (tried, caught) in found["damages"].items():
            damages.setdefault(kind, Counter()).update(tried=tried, caught=caught)
    parts["all"] = sum(parts.values(), Counter())
    rows = [[name, *(f"{one[c]:.0f}" for c in COLUMNS)] for name, one in parts.items()]
    kinds = [
        [
            kind,
            f"{one['tried']}",
            f"{one['caught']}",
            f"{one['caught'] / (one['tried'] or 1):.0%}",
        ]
        for kind, one in damages.items()
    ]
    return rows, kinds


def lines(*files: Path) -> list[str]:
    """Return both tables for a terminal."""
    rows, kinds = read(*files)
    shown = []
    for head, body in (
        (["part", *COLUMNS], rows),
        (["damage, on all pages", "tried", "caught", ""], kinds),
    ):
        wide = max(len(row[0]) for row in [head, *body])
        for first, *rest in [head, *body] if body else []:
            shown.append(first.ljust(wide) + "".join(cell.rjust(11) for cell in rest))
        shown.append("")
    return shown


def main(names: list[str]) -> int:
    """Print the sums as Markdown; return 1 if a test has failed, else 0."""
    rows, kinds = read(*map(Path, names))
    heads = ["part", *COLUMNS], ["damage", "tried", "caught", "share"]
    for head, body in zip(heads, (rows, kinds), strict=True):
        for cells in (head, ["---"] * len(head), *body):
            print(f"| {' | '.join(cells)} |")
        print()
    return int(rows[-1][2] != "0")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
