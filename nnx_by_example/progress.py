"""What a learner has solved: one line of text for each event, in `attempts/`.

Lines are only ever added, each by one write. So two commands at once lose nothing, and
a crash in the middle of a line loses that line alone: one that makes no sense is passed
over.
"""

import dataclasses
import datetime
import os
from pathlib import Path

FOLDER = Path("attempts")
NAME = "progress.txt"
HEAD = "# What you have solved with nbe. Delete a line to forget it.\n"


@dataclasses.dataclass
class Progress:
    """What has happened so far."""

    solved: set[str] = dataclasses.field(default_factory=set)
    """The names of the lessons that are solved."""
    hints: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many hints of a lesson have been shown."""


def read(folder: Path = FOLDER) -> Progress:
    """Return what the file says; one that is missing or unreadable says nothing."""
    progress = Progress()
    file = folder / NAME
    try:
        text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
    except OSError:
        return progress
    for line in text.splitlines():
        match line.split():
            case ["solved", lesson, _]:
                progress.solved.add(lesson)
            case ["hint", lesson, _]:
                progress.hints[lesson] = progress.hints.get(lesson, 0) + 1
            case ["reset", lesson, _]:
                progress.solved.discard(lesson)
                progress.hints.pop(lesson, None)
    return progress


def add(event: str, lesson: str, folder: Path = FOLDER) -> None:
    """Add one event: "solved", "hint" or "reset".

    Raises:
      OSError: if the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    line = f"{event} {lesson} {datetime.date.today()}\n"
    with (folder / NAME).open("ab+", buffering=0) as file:
        if not file.seek(0, os.SEEK_END):
            line = HEAD + line
        else:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a crash cut the last line short
                line = "\n" + line
        file.write(line.encode())
