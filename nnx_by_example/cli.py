"""The command `nbe`: what a learner types."""

import argparse
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnx_by_example import course, progress
from nnx_by_example.attempt import (
    current,
    file_of,
    note,
    page_of,
    show_next,
    show_progress,
    write_stub,
)
from nnx_by_example.checking import Check
from nnx_by_example.course import Lesson
from nnx_by_example.isolation import BrokenCheckError
from nnx_by_example.show import BROKEN, Screen
from nnx_by_example.verdict import exercism, result

PASSED, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


class UseError(Exception):
    """The command cannot do what was asked; the message says what to do instead."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 on a pass and on success only.

    Args:
      arguments: the words behind `nbe`; by default those that were typed.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot write is escaped
            stream.reconfigure(errors="backslashreplace")
    told: list[int] = []
    for name, status in {"SIGTERM": 143, "SIGHUP": 129}.items():
        if hasattr(signal, name):  # an ordinary exit, which ends what was started
            signal.signal(getattr(signal, name), partial(end, told, status))
    status = carry_out(parser().parse_args(arguments))
    return told[-1] if told else status


def end(told: list[int], status: int, *_) -> None:
    """Exit, and note it: what is raised in a callback, as that of an import, is lost.

    Args:
      told: where the status is noted.
      status: the exit code that a signal stands for.
    """
    told.append(status)
    sys.exit(status)


def carry_out(asked: argparse.Namespace) -> int:
    """Return the exit code of what was asked for."""
    asked.status = FAILED
    screen, errors = Screen(asked.plain), Screen(asked.plain, stderr=True)
    try:
        return asked.run(asked, screen)
    except UseError as error:
        errors.line(f"nbe: {error}")
        return WRONG_USE
    except BrokenPipeError:  # as in `nbe list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return asked.status
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        errors.line(f"nbe: {error.strerror or error}{name}")
        return asked.status
    except BrokenCheckError as error:
        if getattr(asked, "json", False):
            print(json.dumps(result("error", [], f"{BROKEN}\n{error}"), indent=2))
        errors.line(f"nbe: {BROKEN}\n{error}")
        return WRONG_USE
    except KeyboardInterrupt:
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    whole = argparse.ArgumentParser(
        prog="nbe",
        description="Attempt the problems of NNX by Example and get a verdict.",
        epilog="It is a study aid, not a sandbox: your code runs with your rights.",
    )
    whole.add_argument("--version", action="version", version=versions())
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--plain", action="store_true", help="no colour, signs or motion"
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(
        run: Callable, name: str, lesson: str | None = None
    ) -> argparse.ArgumentParser:
        text = run.__doc__.splitlines()[0]
        made = commands.add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(run=run)
        if lesson:
            made.add_argument("lesson", metavar="LESSON", nargs="?", help=lesson)
        return made

    here = "its name, as in the address of its page; by default the one where you are"
    command(show_list, "list")
    command(exchange, "progress").add_argument(
        "names", metavar="LESSON", nargs="*", help="one that you have solved elsewhere"
    )
    command(start, "start", here)
    check_one = command(check, "check", here)
    check_one.add_argument(
        "file", metavar="FILE", nargs="?", type=Path, help="your answer"
    )
    command(watch, "watch", here)
    command(hint, "hint", here)
    command(solution, "solution", here)
    reset_one = command(reset, "reset", here)
    reset_one.add_argument("--yes", action="store_true", help="do not ask")
    for made in (check_one, command(check_all, "check-all")):
        made.add_argument(
            "--json", action="store_true", help="as an Exercism test runner"
        )
    return whole


def versions() -> str:
    """Return the versions that a report of a defect should name."""
    try:
        own = version("nnx-by-example")
    except PackageNotFoundError:
        own = "from a checkout"
    return f"nnx-by-example {own}, jax {version('jax')}, flax {version('flax')}"


def lesson_named(name: str | None) -> Lesson:
    """Return the lesson of that name; without one, the first that is not solved.

    Raises:
      UseError: if there is none; the message says which come near.
    """
    if name is None:
        lessons = course.lessons()
        return current(lessons, progress.read()) or lessons[-1]
    try:
        return course.named(name)
    except LookupError as error:
        if name.endswith(".py"):
            message = f"name the lesson too: nbe check LESSON {name}"
            raise UseError(message) from None
        raise UseError(str(error)) from None


def show_list(asked: argparse.Namespace, screen: Screen) -> int:
    """Show the course, what you have solved, and where you are."""
    lessons, done = course.lessons(), progress.read()
    here = current(lessons, done)
    screen.course(lessons, done, here)
    screen.line()
    show_next(here, screen)
    return PASSED


def exchange(asked: argparse.Namespace, screen: Screen) -> int:
    """Add lessons to those that you have solved, and print all as one line."""
    given = [lesson_named(name).name for name in asked.names]  # before one is written
    before = progress.read().solved
    for name in dict.fromkeys(given):
        if name not in before:
            progress.add("solved", name)
    solved = progress.read().solved
    names = [lesson.name for lesson in course.lessons() if lesson.name in solved]
    if names:
        print(*names)  # one line, however narrow the terminal
    else:
        Screen(screen.plain, stderr=True).line("You have solved no lesson yet.")
    return PASSED


def start(asked: argparse.Namespace, screen: Screen) -> int:
    """Write the stub of a lesson to attempts/, never over your work."""
    lesson = lesson_named(asked.lesson)
    made = write_stub(lesson)
    screen.line(f"{'Wrote' if made else 'Left as it is:'} {file_of(lesson)}")
    screen.line(f"Read    {page_of(lesson)}")
    screen.line(f"Check   nbe check {lesson.name}")
    screen.line(f"Or      nbe watch {lesson.name}     checks whenever you save")
    return PASSED


def check(asked: argparse.Namespace, screen: Screen) -> int:
    """Check your answer to a lesson and say the first thing that is wrong."""
    lesson = lesson_named(asked.lesson)
    file = asked.file or file_of(lesson)
    if asked.file is None and (asked.lesson or "").endswith(".py"):
        file = Path(asked.lesson)
    with waiting(screen, lesson, asked.json) as on_stage:
        verdict = Check(lesson, file).verdict(on_stage)
    if verdict.passed:  # before anything is written: nobody may be there to read it
        note("solved", lesson, screen)
        asked.status = PASSED
    if asked.json:
        print(json.dumps(exercism(verdict, lesson.function), indent=2))
        return asked.status
    screen.verdict(verdict, lesson)
    if verdict.passed:
        show_progress(screen, lesson)
    else:
        screen.line((f"  Stuck? nbe hint {lesson.name}", "label"))
    return asked.status


@contextlib.contextmanager
def waiting(screen: Screen, lesson: Lesson, quiet: bool = False):
    """Show what goes on while a check runs; yield what to call with each stage."""
    begin = f"Checking {lesson.name}: importing jax and flax ..."
    if quiet or screen.plain or not screen.console.is_terminal:
        yield lambda stage: None
        return
    with screen.console.status(begin) as status:
        yield lambda stage: status.update(f"Checking {lesson.name}: {stage} ...")


def check_all(asked: argparse.Namespace, screen: Screen) -> int:
    """Check your answers to all lessons."""
    tests = []
    for lesson in course.lessons():
        file = file_of(lesson)
        if not os.path.lexists(file):
            verdict = None
            message = f"not started: nbe start {lesson.name}"
        else:
            with waiting(screen, lesson, asked.json) as on_stage:
                verdict = Check(lesson, file).verdict(on_stage)
            message = None if verdict.passed else verdict.text()
            if verdict.passed:
                note("solved", lesson, screen)
        status = "pass" if message is None else "fail"
        tests.append({"name": lesson.name, "status": status, "message": message})
        if not asked.json:
            screen.summary(lesson, verdict)
    if all(test["status"] == "pass" for test in tests):
        asked.status = PASSED
    if asked.json:
        status = "pass" if asked.status == PASSED else "fail"
        print(json.dumps(result(status, tests), indent=2))
    return asked.status


def watch(asked: argparse.Namespace, screen: Screen) -> int:
    """Check your answer whenever you save it, and go on to the next lesson."""
    from nnx_by_example.watch import Watch

    return PASSED if Watch(lesson_named(asked.lesson), screen).run() else FAILED


def hint(asked: argparse.Namespace, screen: Screen) -> int:
    """Show one more hint to a lesson each time."""
    lesson = lesson_named(asked.lesson)
    hints = lesson.hints
    shown = progress.read().hints.get(lesson.name, 0)
    number = min(shown, len(hints) - 1)
    title, text = hints[number]
    screen.line((f"{title} (of {len(hints)})", "bold"))
    screen.line()
    screen.markdown(text)
    screen.line()
    if number + 1 < len(hints):
        screen.line((f"One more: nbe hint {lesson.name}", "label"))
    else:
        screen.line((f"That was the last. nbe solution {lesson.name}", "label"))
    if shown < len(hints):
        note("hint", lesson, screen)
    return PASSED


def solution(asked: argparse.Namespace, screen: Screen) -> int:
    """Show the solution of a lesson."""
    screen.python(lesson_named(asked.lesson).section("solution"))
    return PASSED


def reset(asked: argparse.Namespace, screen: Screen) -> int:
    """Begin a lesson again from the stub; your answer is kept beside it."""
    lesson = lesson_named(asked.lesson)
    file = file_of(lesson)
    if not file.exists():
        raise UseError(
            f"there is no {file} to reset. `nbe start {lesson.name}` writes it."
        )
    if not asked.yes:
        print(
            f"Reset {file}? Your answer is kept beside it. [y/N] ", end="", flush=True
        )
        answer = sys.stdin.readline() if sys.stdin else ""
        if answer.strip().lower() not in ("y", "yes"):
            screen.line("Nothing is changed.")
            return FAILED
    backup = keep(file)
    file.unlink()
    write_stub(lesson)
    screen.line(f"Kept  {backup}")
    screen.line(f"Wrote {file}")
    note("reset", lesson, screen)
    return PASSED


def keep(file: Path) -> Path:
    """Copy an answer to a file beside it that did not exist; return that file."""
    text = file.read_bytes()
    for number in itertools.count(1):
        backup = file.with_name(f"{file.stem}.backup-{number}.py")
        with contextlib.suppress(FileExistsError), backup.open("xb") as kept:
            kept.write(text)
            return backup
