"""Draws what `nbe` shows, from real runs, as pictures for light and dark pages.

Nothing here is typed from memory: the scenes run the command in a new folder, and the
text that it wrote becomes a picture. A scene runs again when the command, the lesson, a
version or what else it shows changes: only some show the whole course.
"""

import dataclasses
import hashlib
import html
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from nnx_by_example.course import ROOT, Lesson, config, lessons, named
from tools import project
from tools.project import HANG
from tools.website.cost import drawn

COLUMNS = 80
IMPORT = "from nnx_by_example import check"
LESSON = "call-vs-init"
ATTEMPT = f"attempts/{LESSON}.py"

# Stand-ins for the colours of the page, which decides what they are; the rest is dim.
COLOURS = {"fg": (1, 1, 1), "red": (2, 0, 0), "green": (0, 2, 0), "blue": (0, 0, 2)}
COLOURS["cyan"] = (0, 2, 2)
UNUSED = (9, 9, 9)
ANSI = ["", "red", "green", "", "blue", "", "cyan", ""]
THEME = TerminalTheme(
    (255, 255, 255), COLOURS["fg"], [COLOURS.get(name, UNUSED) for name in ANSI]
)
SVG = """\
<div class="terminal" tabindex="0" role="group" aria-label="Terminal"
  data-search-exclude data-state="STATE">
<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="LABEL"
viewBox="0 0 {terminal_width} {terminal_height}">
<style>{styles}</style>{matrix}</svg></div>
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\r")


@dataclasses.dataclass(frozen=True)
class Scene:
    """One run of the command that is shown."""

    name: str
    """The name of the picture."""
    command: str
    """What is typed."""
    label: str
    """What the picture shows, in words."""
    change: tuple[str, str] | None = None
    """What to replace in the solution to get the attempt; None leaves the file."""
    then: tuple[str, str] | None = None
    """What to save next, while the command watches."""
    whole: bool = False
    """Whether it shows other lessons too: the map, how many there are, the next one."""

    @property
    def prompt(self) -> str:
        """Return what is typed, as a terminal or a session of Python shows it."""
        of_python = f">>> {IMPORT}\n>>> {self.command}"
        return of_python if self.command.startswith("check") else f"$ {self.command}"


RIGHT = ("", "")
SCENES = [
    Scene(
        "list",
        "nbe list",
        "The map of the course, before the first lesson.",
        whole=True,
    ),
    Scene("start", f"nbe start {LESSON}", "The stub is written, and where to read on."),
    Scene(
        "wrong",
        f"nbe check {LESSON}",
        "A wrong answer: call, expected, got, the line, and the mistake by name.",
        (" * scale", ""),
    ),
    Scene(
        "raises",
        f"nbe check {LESSON}",
        "An error: the call, the message, the line of the attempt, and a next step.",
        ("int(features), rngs", "features, rngs"),
    ),
    Scene(
        "idea",
        f"nbe check {LESSON}",
        "Right numbers from one call: the idea is missing.",
        ("model(x), model(x)\n", "[model(x)] * 2\n"),
    ),
    Scene(
        "session",
        f'check("{LESSON}", call_vs_init_forward)',
        "In a session of Python: the same verdict on a function.",
        (" * scale", ""),
    ),
    Scene("hint", f"nbe hint {LESSON}", "The first of three hints."),
    Scene(
        "watch",
        f"nbe watch {LESSON}",
        "A save is checked, and passes: the lesson is solved.",
        (" * scale", ""),
        RIGHT,
        whole=True,
    ),
]


def stale(folder: Path) -> dict[str, str]:
    """Return the pictures that a folder lacks, and the state each would be of."""
    states = {f"{scene.name}.svg": fingerprint(scene) for scene in SCENES}
    return {n: state for n, state in states.items() if state not in drawn(folder / n)}


def draw_all(folder: Path) -> None:
    """Draw into a folder the scenes that have changed since they were drawn.

    The first that needs the known mistakes of the lesson finds and keeps them; then all
    others run at once, each in a folder of its own.
    """
    states = stale(folder)
    changed = [scene for scene in SCENES if f"{scene.name}.svg" in states]
    if not changed:
        return
    print("Drawing what nbe shows ...", flush=True)

    def picture(scene):
        name = f"{scene.name}.svg"
        with tempfile.TemporaryDirectory() as work:
            shown = run(scene, the_lesson(), Path(work))
        text = draw(scene.prompt, shown, scene.label, scene.name)
        project.write(folder / name, text.replace("STATE", states[name], 1))

    first = next((scene for scene in changed if scene.change), changed[0])
    picture(first)
    with ThreadPoolExecutor() as threads:
        list(threads.map(picture, [scene for scene in changed if scene != first]))


def the_lesson() -> Lesson:
    """Return the lesson that the scenes attempt."""
    return named(LESSON)


def fingerprint(scene: Scene) -> str:
    """Return a hash of all that decides what the command of a scene shows."""
    files = [*sorted((ROOT / "nnx_by_example").glob("*.py")), Path(__file__)]
    files += sorted(the_lesson().folder.glob("*.*"))
    parts = [file.read_bytes() for file in files]
    parts += [version(name).encode() for name in ("jax", "flax", "rich")]
    parts += [repr((scene, config()["site_url"])).encode()]
    if scene.whole:
        course = [(one.phase, one.name, one.meta["title"]) for one in lessons()]
        parts.append(repr(course).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def run(scene: Scene, lesson: Lesson, work: Path) -> str:
    """Return what the command of a scene writes, with its colours."""
    answer = save(scene.change, lesson, work)
    command = [sys.executable, "-m", "nnx_by_example", *scene.command.split()[1:]]
    if IMPORT in scene.prompt:
        program = f"{answer}\n\n{IMPORT}\n\nprint({scene.command})\n"
        command = [sys.executable, "-c", program]
    environment = {
        "FORCE_COLOR": "1",
        "TERM": "xterm",
        "COLUMNS": str(COLUMNS),
        "PYTHONPATH": str(ROOT),
    }
    cache = {"NBE_CACHE": str(ROOT / ".cache" / "nbe")}
    with subprocess.Popen(
        command,
        cwd=work,
        env={**cache, **os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        # A scene that waits for what never comes is an error, not an endless build.
        limit = threading.Timer(HANG, process.kill)
        limit.daemon = True
        limit.start()
        if scene.then:
            read_until("Stuck?", process)  # the verdict on the first save
            save(scene.then, lesson, work)
            text = read_until("Read |every lesson", process)
            process.terminate()
        else:
            text = process.stdout.read()
    limit.cancel()
    # A terminal has wiped what stands before these: the spinner, the last verdict.
    for wiped in ("\x1b[?25h", "\x1b[2J\x1b[H"):
        text = text.rpartition(wiped)[2]
    return CONTROL.sub("", text).strip("\n")


def read_until(end: str, process: subprocess.Popen) -> str:
    """Return what a process writes up to the line that has what `end` matches.

    Raises:
      RuntimeError: if it writes no such line.
    """
    text = ""
    for line in process.stdout:
        text += line
        if re.search(end, line):
            return text
    raise RuntimeError(f"it ended without {end!r}:\n{text}")


def save(change: tuple[str, str] | None, lesson: Lesson, work: Path) -> str:
    """Save the solution as an attempt, with one piece of it replaced; return it.

    Raises:
      ValueError: if the solution has no such piece: the answer would be right.
    """
    if change is None:
        return ""
    solution = lesson.section("solution")
    if change[0] not in solution:
        raise ValueError(f"the solution of {lesson.name} has no {change[0]!r}")
    file = work / ATTEMPT
    file.parent.mkdir(exist_ok=True)
    answer = solution.replace(*change) if change[0] else solution
    file.write_text(answer, "utf-8")
    return answer


def draw(prompt: str, shown: str, label: str, name: str) -> str:
    """Return a picture of a terminal: a prompt, and below it what was written."""
    sink = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    sink.print(Text(prompt, "bold"))
    sink.print(Text.from_ansi(shown))
    svg = sink.export_svg(theme=THEME, code_format=SVG, unique_id=f"term-{name}")
    svg = svg.replace("LABEL", html.escape(label))
    svg = re.sub(r' clip-path="[^"]*"', "", svg)
    svg = re.sub(r"<text [^>]*>\n</text>", "", svg)  # the ends of lines
    for colour, value in COLOURS.items():
        svg = svg.replace("#{:02x}{:02x}{:02x}".format(*value), f"var(--term-{colour})")
    svg = re.sub(r"fill: #[0-9a-f]{6}", "fill: var(--term-dim)", svg)
    return re.sub(r"\n\s*\n+", "\n", svg)
