"""What the tools share: copies of the project, files, how far a measurement is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy(target: Path) -> list[str]:
    """Copy the files that git knows or would add; return their names, sorted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [n for n in sorted(set(listed.stdout.splitlines())) if (ROOT / n).is_file()]
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return names


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
