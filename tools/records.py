"""What the tests have found: a line of JSON for each verdict, the last one counts.

The doc-tests write it while they run, so that Ctrl-C loses nothing. The site reads from
it what the last run of each page and of each damage has shown.
"""

import json
from typing import Any

from filelock import FileLock

from tools.project import CACHE

FILE = CACHE / "verdicts.jsonl"


def read() -> dict[str, dict[str, Any]]:
    """Return the last verdict on each test, by the test's name.

    Each has `run`, the run that found it; `passed`; `state`, a hash of what it depends
    on; and `facts`, what the test has noted for the next run or for the site.
    """
    found = {}
    if FILE.exists():
        for line in FILE.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # cut short
                continue
            found[entry.pop("test")] = entry
    return found


def add(test: str, entry: dict[str, Any]) -> None:
    """Add the verdict on a test."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(FILE.with_suffix(".lock")), FILE.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"test": test, **entry}) + "\n")


def tidy() -> None:
    """Leave out the verdicts that later ones have replaced."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(FILE.with_suffix(".lock")):
        found = read().items()
        lines = [json.dumps({"test": test, **entry}) + "\n" for test, entry in found]
        draft = FILE.with_suffix(".draft")
        draft.write_text("".join(lines), "utf-8")
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
