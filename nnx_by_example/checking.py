"""Checks a learner's file: looks at it, has it judged, and says what came of it."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from nnx_by_example import diagnosis, judge
from nnx_by_example.course import PACKAGE, Lesson
from nnx_by_example.isolation import CACHE, USUAL, Call, EndedError, Limits
from nnx_by_example.verdict import LOADS, RUNS, Verdict, lines_of

MAX_BYTES = 1 << 20
# The modules on which it depends what is found of a known mistake.
JUDGES = ("judge", "diagnosis", "observe")


class Check:
    """A check of one file that can be abandoned while it is under way."""

    def __init__(self, lesson: Lesson, file: Path, limits: Limits = USUAL):
        self.lesson, self.file, self.limits = lesson, file, limits
        self.call: Call | None = None
        self.mistakes: Mistakes | None = None
        self.abandoned = False

    def verdict(self, on_stage: Callable = lambda stage: None) -> Verdict:
        """Return the verdict; it takes seconds where jax has to be imported.

        Args:
          on_stage: called with the name of each stage when it begins.

        Raises:
          BrokenCheckError: if the check of the lesson itself is broken.
        """
        lesson, stage, before = self.lesson, LOADS, 0
        source, refused = read(lesson, self.file)
        if refused:
            return refused

        def note(message):
            nonlocal stage, before
            if isinstance(message, int):
                before = message  # only what the last call prints is shown
            else:
                on_stage(stage := message)

        path, self.mistakes = self.file.resolve(), Mistakes(lesson)
        asked = (judge.judge_file, lesson, lesson.name, path, source)
        self.call = begin(*asked, limits=self.limits)
        if self.abandoned:  # while it began
            self.call.kill()
        try:
            try:
                verdict = self.call.result(note)
            except EndedError as ended:
                verdict = ended_early(lesson, path, source, stage, ended)
            verdict.file = str(self.file)
            verdict.output = self.call.output[before:].decode(errors="replace")
            if verdict.answers and not self.abandoned:
                on_stage("comparing it with known mistakes, which takes longer once")
                diagnosis.advise(verdict, self.mistakes.get())
        finally:
            self.mistakes.cancel()
        return verdict

    def abandon(self) -> None:
        """End the check: its verdict is not wanted any more."""
        self.abandoned = True
        if self.call:
            self.call.kill()

    def end(self) -> None:
        """End all of the check, also what a later one would have found done."""
        self.abandon()
        if self.mistakes:
            self.mistakes.end()


def begin(
    function: Callable, lesson: Lesson, *more: object, limits: Limits = USUAL
) -> Call:
    """Return a call on a lesson's exercise whose limit follows the machine.

    Args:
      function: one of `judge`.
      lesson: the lesson.
      more: further arguments of the function.
      limits: what the call may use, where the lesson's own solution needs no more.
    """
    file, own = lesson.exercise, lesson.section("solution").encode()
    usual = functools.partial(
        Call,
        judge.usual_seconds,
        file,
        lesson.function,
        lesson.name,
        file.with_name("solution.py"),
        own,
        limits=dataclasses.replace(limits, cpu=math.inf),
    )
    return Call(function, file, lesson.function, *more, limits=limits, usual=usual)


def read(lesson: Lesson, file: Path) -> tuple[bytes, Verdict | None]:
    """Return the text of a file, and the verdict if it need not be run."""
    verdict = Verdict(lesson.name, LOADS, file=str(file))
    verdict.advice = "Name the file that holds your answer."
    begin = f"`nbe start {lesson.name}` gives you a file to begin with."
    source = b""
    try:
        if not os.path.lexists(file):
            verdict.message, verdict.advice = f"there is no file {file}", begin
        elif not file.is_file():
            verdict.message = f"{file} is no file with Python in it"
        elif file.stat().st_size > MAX_BYTES:
            verdict.message = f"{file} has more than {MAX_BYTES >> 20} MB"
        elif not (source := file.read_bytes()).strip(b"\xef\xbb\xbf \t\r\n"):
            verdict.message, verdict.advice = f"{file} is empty", begin
        elif b"\0" in source:
            verdict.message = f"{file} holds null bytes: it is no text, or not UTF-8"
            verdict.advice = "Save it as UTF-8."
        else:
            compile(source, str(file), "exec", dont_inherit=True)
            return source, None
    except OSError as error:
        verdict.message = f"{file} cannot be read: {error.strerror}"
        verdict.advice = "Look at its name and its permissions."
    except Exception as error:  # SyntaxError, and what absurd nesting raises
        verdict = judge.explain(verdict, judge.LearnersError(error))
        if not isinstance(error, SyntaxError):
            verdict.advice = "Python cannot read it: write it in smaller pieces."
    return source, verdict


def ended_early(
    lesson: Lesson, path: Path, source: bytes, stage: str, ended: EndedError
) -> Verdict:
    """Return the verdict on code that ended its process."""
    verdict = Verdict(lesson.name, stage, str(ended), advice=ended.advice)
    if stage == RUNS:
        verdict.message = f"{lesson.function}(...)\n  ended:    {ended}"
    lines = lines_of(source)
    for frame, line in ended.frames:
        if frame == str(path) and line <= len(lines):
            verdict.line = (line, lines[line - 1])
            break
    return verdict


def file_of_mistakes(lesson: Lesson) -> Path:
    """Return where the known mistakes of a lesson are kept, in its present state."""
    state = [sys.version, *(version(name) for name in ("jax", "jaxlib", "flax"))]
    digest = hashlib.sha256(repr(state).encode())
    for file in (lesson.exercise, *(PACKAGE / f"{name}.py" for name in JUDGES)):
        digest.update(file.read_bytes())
    return CACHE / "mistakes" / f"{lesson.name}-{digest.hexdigest()[:16]}.json"


def keep(known: list[dict], file: Path) -> None:
    """Write what `judge.known_mistakes` found, at once: others may read it.

    Raises:
      OSError: if it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(known), "utf-8")
    draft.replace(file)


def kept(file: Path) -> list[dict]:
    """Return what a file of mistakes holds, or nothing if it holds anything else."""
    try:
        known = json.loads(file.read_text("utf-8"))
        whole = all(entry.keys() >= {"answers", "idea", "says"} for entry in known)
    except (OSError, ValueError, TypeError, AttributeError):
        return []
    return known if whole else []


class Mistakes:
    """The known mistakes of a lesson with their answers, found once and then kept.

    They are kept in a file for each state of the exercise, of this package and of jax
    and flax. One that cannot be read is made anew, and then written if it can be.
    """

    def __init__(self, lesson: Lesson):
        """Read them, or begin to run them in a process of their own."""
        self.file = file_of_mistakes(lesson)
        self.known, self.call = kept(self.file), None
        if not self.known:
            self.call = begin(judge.known_mistakes, lesson)

    def get(self) -> list[dict]:
        """Return what `judge.known_mistakes` found, when it is there."""
        if self.call:
            try:
                self.known = self.call.result()
            except EndedError:
                return []  # too small a machine: the verdict stands without a diagnosis
            finally:
                self.call = None
            with contextlib.suppress(OSError):
                keep(self.known, self.file)
        return self.known

    def end(self) -> None:
        """End the process, if there is one; whoever waits for it cleans up."""
        if call := self.call:
            call.kill()

    def cancel(self) -> None:
        """End what nobody waits for and nobody needs."""
        if self.call:
            self.call.close()
            self.call = None
