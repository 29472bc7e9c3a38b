"""`nbe watch`: from a save to a verdict, and from one lesson to the next."""

import os
import signal
import subprocess
import sys

import pytest

from nnx_by_example import course, progress
from tools.gate.learner import (
    LESSON,
    SOLUTION,
    add_lesson,
    alive,
    wait_for,
    working_in,
)
from tools.gate.memory import reads
from tools.project import HANG

pytestmark = reads("docs/course/call-vs-init/*", "docs/course/_template/*")
WRONG = SOLUTION.replace(" * scale", "")
LOOP = "while True: x = 1\n"


class Watching:
    """A running `nbe watch`: what it has shown, and the file that it watches."""

    def __init__(self, folder, package, *words):
        self.folder, self.shown = folder, ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nnx_by_example", "watch", "--plain", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(package), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)

    def file(self, name):
        """Return the attempt at a lesson."""
        return self.folder / "attempts" / f"{name}.py"

    def wait(self, word):
        """Wait until a word is shown; return what was shown since the last wait."""

        def seen():
            self.shown += (self.process.stdout.read() or b"").decode()
            return word in self.shown

        wait_for(seen)
        shown, self.shown = self.shown, ""
        return shown


@pytest.fixture
def watch(tmp_path):
    """Return a function that starts `nbe watch` in a new folder; end it afterwards."""
    started = []

    def start(package, *words):
        folder = tmp_path / "learner"
        folder.mkdir()
        started.append(Watching(folder, package, *words))
        return started[-1]

    yield start
    for watching in started:
        watching.process.send_signal(signal.SIGINT)
        watching.process.wait(HANG)
        watching.process.stdout.close()
        wait_for(lambda folder=watching.folder: not any(map(alive, working_in(folder))))


def test_a_save_is_judged_and_a_pass_leads_to_the_next_lesson(project, watch):
    add_lesson(project, "gated-unit")  # after LESSON; the others are solved before
    watching = watch(project, LESSON.name)
    watching.wait(f"Watching attempts/{LESSON.name}.py")
    file = watching.file(LESSON.name)
    others = [lesson.name for lesson in course.lessons() if lesson.name != LESSON.name]
    for name in others:
        progress.add("solved", name, file.parent)
    assert LESSON.section("stub") in file.read_text()

    file.write_text(WRONG)
    shown = watching.wait("Stuck?")
    assert "You left out the factor 1 / sqrt(in_features)." in shown
    assert f"{len(others)} of {len(others) + 2} solved" in shown

    file.unlink()  # as an editor saves: delete, and rename another file to this name
    draft = file.with_suffix(".tmp")
    draft.write_text(SOLUTION)
    draft.rename(file)
    shown = watching.wait("Watching attempts/gated-unit.py")
    assert f"{LESSON.name}: passed" in shown
    assert f"{len(others) + 1} of {len(others) + 2} solved" in shown

    folder = project / "docs" / "course" / "gated-unit"
    following = course.Lesson("gated-unit", 2, "", folder)
    watching.file("gated-unit").write_text(following.section("solution"))
    assert "You have solved every lesson." in watching.wait("every lesson")
    assert watching.process.wait(HANG) == 0


def test_a_save_ends_the_check_of_the_one_before(project, watch):
    watching = watch(project, LESSON.name)
    watching.wait("Read ")
    file = watching.file(LESSON.name)
    (watching.folder / "begun").mkdir()
    file.write_text(f"open('begun/loop', 'w')\n{LOOP}")
    wait_for((watching.folder / "begun" / "loop").exists)
    file.write_text(WRONG)
    shown = watching.wait("Stuck?")
    assert "no end" not in shown
    assert "You left out the factor" in shown


def test_many_saves_end_in_the_verdict_on_the_last(project, watch):
    watching = watch(project, LESSON.name)
    watching.wait("Read ")
    file = watching.file(LESSON.name)
    (watching.folder / "begun").mkdir()
    for number in range(5):  # one save is overtaken at once, one while it is checked
        file.write_text(f"# {number}\n{WRONG}")
        file.write_text(f"open('begun/{number}', 'w')\n{LOOP}")
        wait_for((watching.folder / "begun" / str(number)).exists)
    file.write_text("last = (\n")
    shown = watching.wait("last = (")
    assert "Traceback" not in shown
    assert watching.process.poll() is None


def test_watching_goes_on_when_the_file_or_its_folder_goes(project, watch):
    watching = watch(project, LESSON.name)
    watching.wait("Read ")
    file = watching.file(LESSON.name)
    file.write_text("x = (\n")
    assert "SyntaxError" in watching.wait("Stuck?")
    file.rename(file.with_name("elsewhere.py"))
    file.with_name("elsewhere.py").unlink()
    file.with_name("progress.txt").unlink(missing_ok=True)
    file.parent.rmdir()
    wait_for(file.parent.exists)  # it is made again
    file.write_text("y = (\n")
    assert "y = (" in watching.wait("Stuck?")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_all_its_processes(project, watch, number):
    watching = watch(project, LESSON.name)
    watching.wait("Read ")
    watching.file(LESSON.name).write_text(f"open('begun', 'w')\n{LOOP}")
    wait_for((watching.folder / "begun").exists)
    watching.process.send_signal(number)
    assert watching.process.wait(HANG) == 128 + number  # as shells say it
    assert "Traceback" not in watching.shown
    wait_for(lambda: not any(map(alive, working_in(watching.folder))))
