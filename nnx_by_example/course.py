"""The lessons: their order, and what each says about its exercise.

Everything is read from the pages and exercises of the site, as text: nothing of a
lesson is imported here, and a new lesson changes nothing here.
"""

import ast
import dataclasses
import functools
import re
import textwrap
from difflib import get_close_matches
from pathlib import Path

import yaml

PACKAGE = Path(__file__).parent
# A wheel carries the lessons inside the package; a checkout has them beside it.
ROOT = PACKAGE if (PACKAGE / "mkdocs.yml").exists() else PACKAGE.parent
DOCS = ROOT / "docs"

HINT = re.compile(r'^\?\?\? tip "(.+)"\n((?:\n| {4}.*\n?)+)', flags=re.M)
MARKER = re.compile(r" *# --8<-- \[(start|end):([\w-]+)\] *\n")


@dataclasses.dataclass(frozen=True)
class Lesson:
    """One lesson of the course."""

    name: str
    """The name of its folder, and its address."""
    number: int
    """Its place in the course, from 1."""
    phase: str
    """The title of the phase that it belongs to."""
    folder: Path
    """Where its page and its exercise lie."""

    @functools.cached_property
    def page(self) -> str:
        """Return the text of the page."""
        return (self.folder / "index.md").read_text("utf-8")

    @property
    def exercise(self) -> Path:
        """Return the path of `exercise.py`."""
        return self.folder / "exercise.py"

    @functools.cached_property
    def meta(self) -> dict:
        """Return the front matter of the page: title, proves, and more.

        Raises:
          ValueError: if it has no title, or does not say what the lesson proves.
        """
        meta = yaml.safe_load(self.page.split("---\n")[1])
        for key in ("title", "proves"):
            if key not in meta:
                raise ValueError(
                    f"{self.folder}/index.md: no {key}: in its front matter"
                )
        return meta

    @property
    def hints(self) -> list[tuple[str, str]]:
        """Return the title and the text of each hint, in the order of the page."""
        found = HINT.findall(self.page)
        return [(title, textwrap.dedent(text).strip()) for title, text in found]

    @property
    def function(self) -> str:
        """Return the name of the function that a learner writes."""
        return ast.parse(self.section("stub")).body[-1].name

    @property
    def start(self) -> str:
        """Return what a learner begins with: the imports and the stub."""
        body = ast.parse(self.section("solution")).body
        imports = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
        lines = "\n".join(ast.unparse(node) for node in imports)
        return f"{lines}\n\n\n{self.section('stub')}"

    def section(self, name: str) -> str:
        """Return the lines between two markers of `exercise.py`, as pages show them.

        Raises:
          ValueError: if the exercise has no such section.
        """
        kept, inside = [], False
        for line in self.exercise.read_text("utf-8").splitlines(keepends=True):
            marker = MARKER.fullmatch(line)
            if marker and marker[2] == name:
                inside = marker[1] == "start"
            elif inside and not marker:
                kept.append(line)
        if not kept:
            raise ValueError(f"{self.exercise} has no section {name!r}")
        return textwrap.dedent("".join(kept)).strip("\n") + "\n"


class _Config(yaml.SafeLoader):
    """Reads mkdocs.yml without the site's tools: a tag gives its last value or None."""

    def last(self, suffix, node):
        values = self.construct_sequence(node) if node.id == "sequence" else [None]
        return values[-1]


_Config.add_multi_constructor("", _Config.last)


@functools.cache
def config() -> dict:
    """Return mkdocs.yml; what stands behind a tag is its last value or None."""
    return yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader=_Config)


def lessons(nav: list | None = None, docs: Path = DOCS) -> list[Lesson]:
    """Return the lessons in the order of `nav`, by default that of mkdocs.yml."""
    nav = config()["nav"] if nav is None else nav
    course = next(entry["Course"] for entry in nav if "Course" in entry)
    phases = [next(iter(entry.items())) for entry in course if isinstance(entry, dict)]
    placed = [(phase, Path(page).parent) for phase, pages in phases for page in pages]
    return [
        Lesson(folder.name, number, phase, docs / folder)
        for number, (phase, folder) in enumerate(placed, 1)
    ]


def named(name: str) -> Lesson:
    """Return the lesson of that name, which may be written as that of a file.

    Raises:
      LookupError: if there is none; the message says which come near.
    """
    found = {lesson.name: lesson for lesson in lessons()}
    wanted = Path(name).stem.replace("_", "-")
    if lesson := found.get(name) or found.get(wanted):
        return lesson
    close = get_close_matches(wanted, found, 1)
    meant = f"Did you mean {close[0]}?" if close else "`nbe list` shows all names."
    raise LookupError(f"there is no lesson {name!r}. {meant}")
