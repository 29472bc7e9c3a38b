"""Checks a function of a running session: what `nbe check` says, in a notebook too."""

import contextlib
import html
import io
import re
import types
import warnings
from collections.abc import Callable
from pathlib import Path

from nnx_by_example import course
from nnx_by_example.course import Lesson
from nnx_by_example.verdict import Verdict

# One rule at the left, which both a light and a dark notebook show; all else is theirs.
CARD = (
    '<div style="border-left: 4px solid {colour}; padding-left: 1em">'
    "<p><strong>{headline}</strong></p>{rest}</div>"
)
COLOURS = {True: "#3fa34d", False: "#d9534f"}


class Shown:
    """A verdict that shows itself: as text, and in a notebook as HTML."""

    def __init__(self, verdict: Verdict, lesson: Lesson):
        self.verdict, self.lesson = verdict, lesson

    @property
    def passed(self) -> bool:
        """Return whether nothing is wrong."""
        return self.verdict.passed

    def __repr__(self) -> str:
        """Return what `nbe check` prints."""
        from nnx_by_example.show import Screen

        screen = Screen(plain=True)
        with screen.console.capture() as shown:
            screen.verdict(self.verdict, self.lesson)
        return shown.get().rstrip("\n")

    def _repr_html_(self) -> str:
        """Return the same as HTML; a notebook calls this name."""
        from nnx_by_example.show import headline

        verdict = self.verdict
        sign = "\N{CHECK MARK}" if verdict.passed else "\N{BALLOT X}"
        if verdict.passed:
            rest = paragraph(self.lesson.meta["proves"])
        else:
            rest = f"<pre>{html.escape(verdict.message)}</pre>"
            if verdict.line:
                code = f"line {verdict.line[0]}: {verdict.code}"
                rest += f"<pre>{html.escape(code)}</pre>"
            if verdict.output:
                rest += (
                    f"<p>Your code printed:</p><pre>{html.escape(verdict.output)}</pre>"
                )
            if verdict.advice:
                rest += paragraph(f"Next: {verdict.advice}")
        if verdict.note:
            rest += paragraph(f"Note: {verdict.note}")
        title = html.escape(f"{sign} {headline(verdict, self.lesson)}")
        colour = COLOURS[verdict.passed]
        return CARD.format(colour=colour, headline=title, rest=rest)


def paragraph(text: str) -> str:
    """Return a sentence as a paragraph of HTML."""
    return f"<p>{inline(text)}</p>"


def inline(text: str) -> str:
    """Return a text as HTML, what stands in backquotes as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))


def check(lesson: str, function: Callable) -> Shown:
    """Return the verdict of `nbe check` on a function of this session.

    The function runs here, with the inputs that no page shows too, and without the
    limits of `nbe`: Ctrl-C ends what does not end. It takes longer once for each lesson
    if the answer is wrong: the known mistakes have to be run then.

    Args:
      lesson: the name of a lesson, such as "call-vs-init".
      function: your answer; it may have any name.

    Raises:
      LookupError: if there is no such lesson; the message says which come near.
    """
    import jax  # here, so that the command starts without it

    from nnx_by_example import diagnosis, judge

    found = course.named(lesson)
    code = getattr(function, "__code__", None)
    verdict = Verdict(found.name, file=getattr(code, "co_filename", ""))
    if not callable(function):
        given = types.SimpleNamespace(**{found.function: function})
        return Shown(judge.missing(verdict, given, found.function), found)
    exercise, printed = judge.load(found.exercise), io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        jax.default_device(jax.devices("cpu")[0]),  # as `nbe check`, on any machine
    ):

        def report(message):
            if isinstance(message, int):  # only what the last call prints is shown
                printed.seek(printed.truncate(0))

        with judge.warnings_of(verdict):
            judge.judge(exercise, found.function, function, verdict, report)
        verdict.output = printed.getvalue()
        if verdict.answers:
            diagnosis.advise(verdict, mistakes_of(found))
    if not Path(verdict.file).exists():  # a cell of a notebook, or a line of a session
        verdict.file = "your code"
    return Shown(verdict, found)


def mistakes_of(lesson: Lesson) -> list[dict]:
    """Return what `judge.known_mistakes` finds, or found when it ran last."""
    from nnx_by_example import checking, judge

    file = checking.file_of_mistakes(lesson)
    if not (known := checking.kept(file)):
        with warnings.catch_warnings(action="ignore"):
            arguments = lambda message: None, lesson.exercise, lesson.function
            known = judge.known_mistakes(*arguments)
        with contextlib.suppress(OSError):
            checking.keep(known, file)
    return known
