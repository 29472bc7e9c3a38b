"""What the terminal shows: a verdict, the map of the course, a hint.

The text says it all, and colour only repeats it: in a log, without colour or on a light
terminal, nothing is lost. Where the terminal cannot write a sign, ASCII stands in.
"""

import itertools
import re

from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from nnx_by_example.course import Lesson
from nnx_by_example.progress import Progress
from nnx_by_example.verdict import (
    ANSWERS,
    IDEA,
    LOADS,
    MAX_COLUMNS,
    RUNS,
    THERE,
    Verdict,
)

# Named colours, which a light and a dark terminal each draw readably.
THEME = Theme(
    {
        "passed": "bold green",
        "failed": "bold red",
        "here": "bold blue",
        "label": "dim",
        "code": "cyan",
        "advice": "bold",
    }
)
BROKEN = "the check itself failed. Please report this:"
HEADLINES = {
    LOADS: "the file does not load",
    THERE: "the function is not there",
    RUNS: "your code does not run to its end",
    ANSWERS: "not yet",
    IDEA: "numbers right, idea missing",
}
SIGNS = {
    "passed": "✓",
    "failed": "✗",
    "here": "▶",
    "open": "·",
    "full": "█",
    "empty": "░",
}
PLAIN = {
    "passed": "+",
    "failed": "!",
    "here": ">",
    "open": " ",
    "full": "#",
    "empty": "-",
}
MAX_OUTPUT_LINES, MIN_COLUMNS = 20, 10
# What a learner prints cannot clear the terminal, or hide a verdict.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def headline(verdict: Verdict, lesson: Lesson) -> str:
    """Return in a few words what a check says of an attempt."""
    return f"{lesson.name}: {HEADLINES.get(verdict.stage, 'passed')}"


class Screen:
    """A terminal, or whatever stands in its place."""

    def __init__(self, plain: bool = False, stderr: bool = False):
        """Look at the terminal.

        Args:
          plain: whether to do without colour, signs and motion.
          stderr: whether to write to the standard error instead.
        """
        self.console = Console(
            theme=THEME,
            stderr=stderr,
            no_color=True if plain else None,
            highlight=False,
            emoji=False,
            markup=False,
            force_terminal=False if plain else None,
            force_jupyter=False,  # a notebook would get codes of a terminal
        )
        if self.console.width < MIN_COLUMNS:  # a terminal that does not know
            self.console.width = 80
        utf8 = self.console.encoding.lower().startswith("utf")
        self.signs = PLAIN if plain or not utf8 else SIGNS
        self.plain = plain

    def line(self, *parts: str | tuple[str, str]) -> None:
        """Write one line; a pair is a text and its style.

        On a terminal, a line that is too long goes on below its own beginning.
        """
        text = Text.assemble(*parts)
        text.plain = CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.plain)
        if self.console.is_terminal and text.plain.strip():
            indent = len(text.plain) - len(text.plain.lstrip())
            self.console.print(Padding(text[indent:], (0, 0, 0, indent), expand=False))
        else:
            self.console.print(text, soft_wrap=True)

    def verdict(self, verdict: Verdict, lesson: Lesson) -> None:
        """Show what a check says of an attempt."""
        self.headline(verdict, lesson)
        if verdict.passed:
            self.line(f"  {lesson.meta['proves']}")
            self.note(verdict)
            return
        self.line()
        for line in verdict.message.splitlines():
            self.line(f"  {line}")
        if verdict.line:
            place = f"  {verdict.file}:{verdict.line[0]}"
            self.line()
            self.line((place, "label"))
            self.line("    ", (verdict.code, "code"))
            if verdict.folded:
                self.line(
                    (f"    ({verdict.folded} frames below it are folded)", "label")
                )
        if verdict.output:
            self.line()
            self.line(("  Your code printed:", "label"))
            lines = verdict.output.splitlines()
            for line in lines[-MAX_OUTPUT_LINES:]:
                self.line("    ", line[:MAX_COLUMNS])
            if len(lines) > MAX_OUTPUT_LINES:
                self.line(
                    (
                        f"    (the last {MAX_OUTPUT_LINES} of {len(lines)} lines)",
                        "label",
                    )
                )
        if verdict.advice:
            self.line()
            self.line("  Next: ", (verdict.advice, "advice"))
        self.note(verdict)

    def headline(self, verdict: Verdict, lesson: Lesson) -> None:
        """Show in one line what a check says of an attempt."""
        style = "passed" if verdict.passed else "failed"
        self.line((f"{self.signs[style]} {headline(verdict, lesson)}", style))

    def note(self, verdict: Verdict) -> None:
        """Show the warning that the learner's code caused, if there is one."""
        if verdict.note:
            self.line()
            self.line(f"  Note: {verdict.note}")

    def summary(self, lesson: Lesson, verdict: Verdict | None) -> None:
        """Show a verdict as one line; None stands for a lesson that is not started."""
        if verdict is None:
            self.line(f"{self.signs['open']} {lesson.name}: not started")
        else:
            self.headline(verdict, lesson)

    def bar(self, lessons: list[Lesson], progress: Progress) -> None:
        """Show how much of the course is solved, as one line."""
        done = sum(lesson.name in progress.solved for lesson in lessons)
        width = 40
        full = round(width * done / len(lessons))
        self.line(
            (self.signs["full"] * full, "passed"),
            (self.signs["empty"] * (width - full), "label"),
            f" {done} of {len(lessons)} solved",
        )

    def course(
        self, lessons: list[Lesson], progress: Progress, here: Lesson | None
    ) -> None:
        """Show the map: phases, what is solved, where you are."""
        self.bar(lessons, progress)
        longest = max(len(lesson.name) for lesson in lessons)
        phases = itertools.groupby(lessons, key=lambda lesson: lesson.phase)
        for number, (phase, members) in enumerate(phases, 1):
            self.line()
            self.line((f"{number}. {phase}", "bold"))
            for lesson in members:
                state = "open"
                if lesson.name in progress.solved:
                    state = "passed"
                elif here and lesson.name == here.name:
                    state = "here"
                sign = self.signs[state]
                sign = f"[{sign}]" if self.signs is PLAIN else f" {sign} "
                style = state if state != "open" else ""
                text = f" {sign}{lesson.number:>3}  {lesson.name:<{longest}}  "
                where = "  (you are here)" if state == "here" else ""
                self.line((text, style), (lesson.meta["title"], style), where)

    def markdown(self, text: str) -> None:
        """Show a paragraph that was written for a page."""
        self.console.print(Markdown(text))

    def python(self, code: str) -> None:
        """Show code; it can be piped into a file as it stands."""
        if self.console.is_terminal and not self.plain:
            self.console.print(Syntax(code, "python", theme="ansi_light"))
        else:
            self.console.file.write(code)
