"""What the tools share: the project's files, how far a run is, when it hangs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE, DOCS, EXAMPLES = (ROOT / name for name in (".cache", "docs", "examples"))
# Half an hour, in seconds: only what hangs takes so long on any machine. Whoever waits
# waits for an event; this only says that it will not come.
HANG = 1_800


def names() -> list[str]:
    """Return the names of the files that git knows or would add, sorted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [n for n in sorted(set(listed.stdout.splitlines())) if (ROOT / n).is_file()]


def copy(target: Path) -> list[str]:
    """Copy the files that git knows or would add; return their names, sorted."""
    found = names()
    for name in found:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return found


def write(file: Path, text: str) -> None:
    """Write a file at once, as another process may read it, unless it says the same."""
    if file.exists() and file.read_text("utf-8") == text:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(text, "utf-8")
    draft.replace(file)


def say(text: str) -> None:
    """Show how far a measurement is."""
    print(text, file=sys.stderr, flush=True)
