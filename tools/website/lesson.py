"""Starts a lesson: `make lesson NAME=jit-state` copies the tested template."""

import re
import sys
from pathlib import Path

from tools.project import DOCS

COURSE = DOCS / "course"


def create(name: str, course: Path = COURSE) -> Path:
    """Return the new lesson's folder, filled from the template.

    Raises:
      ValueError: if the name is not one, or is taken. Nothing is written then.
    """
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
        raise ValueError(
            f"{name!r} cannot name a lesson: use terms of the field, lower case, with "
            "hyphens, without numbers. For example: make lesson NAME=jit-state"
        )
    folder = course / name
    if folder.exists():
        raise ValueError(f"{folder} exists: choose another name, or edit that lesson")
    function = name.replace("-", "_")
    title = name.replace("-", " ").capitalize()
    folder.mkdir()
    for source in sorted((course / "_template").glob("*.*")):
        text = source.read_text("utf-8")
        for placeholder, value in {
            "_template": name,
            "lesson_name": function,
            "Lesson title": title,
        }.items():
            text = text.replace(placeholder, value)
        (folder / source.name).write_text(text, "utf-8")
    return folder


if __name__ == "__main__":
    try:
        made = create(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
    print(f"Made {made}.")
    print("Add it to its phase in the nav of mkdocs.yml:")
    print(f"          - course/{made.name}/index.md")
    print("Write its two files as STYLE.md says, then run: make update, make test lint")
