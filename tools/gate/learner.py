"""What the tests of learners share: the lesson that is attempted, and a new one.

And what tells them how a command ends: its processes, and a wait for what it does.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnx_by_example import course
from tools.project import HANG

LESSON = course.named("call-vs-init")
SOLUTION = LESSON.section("solution")


def add_lesson(project: Path, name: str) -> None:
    """Do what CONTRIBUTING says: make the lesson, add the printed line to the nav."""
    said, status = run(project, "tools.website.lesson", name)
    assert status == 0, said
    line = next(s for s in said.splitlines() if s.endswith(f"{name}/index.md"))
    config = project / "mkdocs.yml"
    existing = "          - course/call-vs-init/index.md\n"
    text = config.read_text()
    assert existing in text
    config.write_text(text.replace(existing, f"{existing}{line}\n"))


def run(project: Path, *command: str) -> tuple[str, int]:
    """Run a Python module in the project; return what it said and how it ended."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True
    )
    return done.stdout + done.stderr, done.returncode


def alive(pid: int) -> bool:
    """Return whether a process runs; one that is dead and not yet buried does not."""
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    return False


def working_in(folder: Path) -> list[int]:
    """Return the processes whose working directory is this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").resolve() == folder.resolve():
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds; what it returned then."""
    end = time.monotonic() + HANG
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found
