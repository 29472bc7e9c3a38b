"""What the tests have found: a line of JSON for each verdict, the last one counts.

The doc-tests write it while they run, so that Ctrl-C loses nothing. The site reads from
it what the last run of each page and of each damage has shown.
"""

import json
from pathlib import Path
from typing import Any

from tools.project import ROOT

FILE = ROOT / ".cache" / "verdicts.jsonl"


def read(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the last verdict on each test, by the test's name.

    Each has `run`, the run that found it; `passed`; `state`, a hash of what it depends
    on; and `facts`, what the test has noted for the next run or for the site.
    """
    file, found = file or FILE, {}
    if file.exists():
        for line in file.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # cut short
                continue
            found[entry.pop("test")] = entry
    return found


def add(test: str, entry: dict[str, Any], file: Path | None = None) -> None:
    """Add the verdict on a test."""
    file = file or FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"test": test, **entry}) + "\n")


def tidy() -> None:
    """Leave out the verdicts that later ones have replaced."""
    draft = FILE.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    for test, entry in read().items():
        add(test, entry, draft)
    if draft.exists():
        draft.replace(FILE)


def facts(kind: str) -> list[Any]:
    """Return what the tests that passed have noted under a name."""
    entries = read().values()
    return [e["facts"][kind] for e in entries if e["passed"] and kind in e["facts"]]


def damages() -> dict[str, list[int]]:
    """Return how many damages of each kind were tried and caught, on all pages."""
    totals: dict[str, list[int]] = {}
    for found in facts("damages"):
        for kind, numbers in found.items():
            before = totals.get(kind, [0, 0])
            totals[kind] = [a + b for a, b in zip(before, numbers, strict=True)]
    return totals
