"""An attempt at a lesson: where it lies, how it begins, and how to go on from it."""

import contextlib
from pathlib import Path

from nnx_by_example import course, progress
from nnx_by_example.course import Lesson
from nnx_by_example.show import Screen


def current(
    lessons: list[Lesson], done: progress.Progress, after: int = 0
) -> Lesson | None:
    """Return the first lesson after a number, then before it, that is not solved."""
    order = [*lessons[after:], *lessons[:after]]
    return next((lesson for lesson in order if lesson.name not in done.solved), None)


def file_of(lesson: Lesson) -> Path:
    """Return where an attempt lies by default."""
    return progress.FOLDER / f"{lesson.name}.py"


def page_of(lesson: Lesson) -> str:
    """Return the address of a lesson's page."""
    return f"{course.config()['site_url'].rstrip('/')}/course/{lesson.name}/"


def write_stub(lesson: Lesson) -> bool:
    """Write the stub where an attempt lies; return whether there was none before."""
    file = file_of(lesson)
    file.parent.mkdir(parents=True, exist_ok=True)
    head = f"# {lesson.meta['title']}: {page_of(lesson)}\n# nbe check {lesson.name}\n\n"
    with contextlib.suppress(FileExistsError), file.open("x", encoding="utf-8") as stub:
        stub.write(head + lesson.start)
        return True
    return False


def note(event: str, lesson: Lesson, screen: Screen) -> None:
    """Write down what has happened; say so if that cannot be done, and go on."""
    if event == "solved" and lesson.name in progress.read().solved:
        return
    try:
        progress.add(event, lesson.name)
    except OSError as error:
        problem = f"nbe: {progress.FOLDER / progress.NAME}: {error.strerror}"
        Screen(screen.plain, stderr=True).line(problem)


def show_progress(screen: Screen, solved: Lesson) -> Lesson | None:
    """Show how much is solved and how to go on; return the next lesson, or None."""
    lessons, done = course.lessons(), progress.read()
    following = current(lessons, done, solved.number)
    screen.line()
    screen.bar(lessons, done)
    show_next(following, screen)
    return following


def show_next(following: Lesson | None, screen: Screen) -> None:
    """Show how to go on."""
    if following:
        screen.line(f"Next: nbe start {following.name}")
    else:
        screen.line("You have solved every lesson.")
