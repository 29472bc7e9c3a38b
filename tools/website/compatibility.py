"""Tables what `make matrix` measured: on which releases each page is true."""

import json
import re
from pathlib import Path

from tools.sources import RELEASES
from tools.website import cost

IN_TREE_MODE = "failed in tree mode"
# What a row of a table can be about.
NAMES = {"python": "Python ", "flax": "flax ", "jax": "jax ", "machine": ""}


def title(row: dict) -> str:
    """Return what a row is about, in words."""
    return ", ".join(text + row[name] for name, text in NAMES.items() if name in row)


def verdict(row: dict, failed: str = "failed") -> str:
    """Return on how many pages everything is true; `failed` names those that fail."""
    if "unavailable" in row:
        return "not available"
    if failed not in row:
        return "not tried"
    right = row["pages"] - len(row[failed])
    return f"{right} of {row['pages']}" if row[failed] else f"✓ all {right}"


def table(rows: list[dict]) -> str:
    """Return a Markdown table of rows, and below it a list of what fails, and why."""
    columns = [name for name in NAMES if name in rows[0]]
    lines = [
        [*(row[name] for name in columns), verdict(row), verdict(row, IN_TREE_MODE)]
        for row in rows
    ]
    heads = [*columns, "pages true", "in tree mode"]
    text = cost.table(heads, lines, align="---") + "\n"
    where: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        why_not = {"not available": row.get("unavailable")}
        for page, why in row.get("failed", why_not).items():
            where.setdefault((page, why), []).append(title(row))
        for page, why in row.get(IN_TREE_MODE, {}).items():
            if page not in row["failed"]:
                where.setdefault((page, why), []).append(f"{title(row)}, in tree mode")
    for (page, why), titles in where.items():
        text += f"\n- **{short(page)}**, {'; '.join(titles)}: `{why}`"
    return text + "\n"


def grid(rows: list[dict], pages: list[str]) -> str:
    """Return a Markdown table of pages by rows: true, or not, or not tried."""
    differ = [n for n in NAMES if len({row.get(n) for row in rows}) > 1]
    heads = ["<br>".join(row[name] for name in differ) for row in rows]
    heads = [head.replace(".", ".<wbr>") for head in heads]  # on a phone
    lines = [
        [short(page).rpartition("/")[2], *(cell(row, page) for row in rows)]
        for page in pages
    ]
    return cost.table(["page", *heads], lines, align="---") + "\n"


def cell(row: dict, page: str) -> str:
    """Return whether a page is true in a row of the result."""
    return "?" if "failed" not in row else "no" if page in row["failed"] else "✓"


def short(page: str) -> str:
    """Return the address of a page, which its readers know."""
    return re.sub(r"^(docs|examples)/|(/index)?\.(md|py)$", "", page)


def texts(measured: Path = RELEASES) -> dict[str, str]:
    """Return what the page includes, by name of the file."""
    found = json.loads(measured.read_text("utf-8"))
    then = title(found["versions"])
    about = f"Measured on {found['date']} with {then}, on {found['machine']}.\n"
    about += cost.other_releases(found["versions"])
    floor = found["floor"]
    return {
        "compatibility/about.md": about,
        "compatibility/releases.md": table(found["releases"]),
        "compatibility/machines.md": table(found["machines"]),
        "compatibility/pages.md": grid(found["releases"], found["tried"]),
        "compatibility/floor.md": f"On {floor['date']}:\n\n{table(floor['rows'])}",
    }
