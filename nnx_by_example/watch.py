"""Checks an answer whenever it is saved, and goes on when it passes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import watchfiles

from nnx_by_example import attempt, checking, course, isolation, progress
from nnx_by_example.course import Lesson
from nnx_by_example.isolation import BrokenCheckError
from nnx_by_example.show import BROKEN, Screen

# A save is seen after this many milliseconds without another change.
STEP = 30
# How often to look whether the folder itself is still there, in milliseconds.
LOOK = 1_000

Work = checking.Check | checking.Mistakes


class Watch:
    """A terminal that shows the verdict on the latest save.

    A save while a check runs ends that check and begins another. What is watched is the
    folder, so a file may be deleted and renamed, as editors do when they save.
    """

    def __init__(self, lesson: Lesson, screen: Screen):
        self.lesson: Lesson | None = lesson
        self.screen = screen
        self.check: checking.Check | None = None
        self.checked: bytes | None = None
        self.finished = threading.Event()
        self.lock = threading.Lock()
        self.threads: list[tuple[threading.Thread, Work]] = []

    @property
    def file(self) -> Path:
        """Return the file whose changes count."""
        return attempt.file_of(self.lesson)

    def run(self) -> bool:
        """Watch until the course is solved, or until Ctrl-C; return which."""
        try:
            isolation.start_server()
            self.begin()
            self.look()
            while not self.finished.is_set():
                progress.FOLDER.mkdir(exist_ok=True)
                for _ in watchfiles.watch(
                    progress.FOLDER,
                    step=STEP,
                    debounce=10 * STEP,
                    rust_timeout=LOOK,
                    yield_on_timeout=True,
                    stop_event=self.finished,
                    recursive=False,
                ):
                    self.look()
                    if not progress.FOLDER.exists():
                        break
        finally:
            for thread, work in self.threads:
                work.end()
                thread.join()  # it cleans up behind itself
        return self.finished.is_set()

    def start(self, work: Work, function: Callable, *more) -> None:
        """Call a function in a thread; its work is ended when the watch ends."""
        self.threads = [pair for pair in self.threads if pair[0].is_alive()]
        thread = threading.Thread(target=function, args=more, daemon=True)
        self.threads.append((thread, work))
        thread.start()

    def begin(self) -> None:
        """Write the stub of the lesson if there is none, and say what to do."""
        made = attempt.write_stub(self.lesson)
        self.checked = self.file.read_bytes() if made else None
        self.screen.line(
            (f"Watching {self.file}", "bold"), "  Save it to check it; Ctrl-C ends."
        )
        self.screen.line((f"Read {attempt.page_of(self.lesson)}", "label"))
        if made:  # there is time to run what the first wrong answer is compared with
            ahead = checking.Mistakes(self.lesson)
            self.start(ahead, ahead.get)

    def look(self) -> None:
        """Begin a check if the text of the file is not what was checked last."""
        with self.lock:
            if self.lesson is None:
                return
            try:
                text = self.file.read_bytes()
            except OSError:  # deleted, or between the two halves of a rename
                return
            if text == self.checked:
                return
            self.checked = text
            if self.check:
                self.check.abandon()
            self.check = checking.Check(self.lesson, self.file)
            arguments = (self.check, self.lesson, time.monotonic())
            self.start(self.check, self.judge, *arguments)

    def judge(self, check: checking.Check, lesson: Lesson, began: float) -> None:
        """Show the verdict of a check, unless another save has overtaken it."""
        try:
            verdict = check.verdict()
        except BrokenCheckError as error:
            self.screen.line(f"nbe: {BROKEN}\n{error}")
            return
        with self.lock:
            if check.abandoned:
                return
            if self.screen.console.is_terminal and not self.screen.plain:
                self.screen.console.clear()
            seconds = time.monotonic() - began
            self.screen.line((f"{time.strftime('%H:%M:%S')}, {seconds:.1f} s", "label"))
            self.screen.verdict(verdict, lesson)
            if not verdict.passed:
                lessons, done = course.lessons(), progress.read()
                self.screen.line()
                self.screen.bar(lessons, done)
                self.screen.line((f"Stuck? nbe hint {lesson.name}", "label"))
                return
            attempt.note("solved", lesson, self.screen)
            self.lesson = attempt.show_progress(self.screen, lesson)
            if self.lesson is None:
                self.finished.set()
            else:
                self.screen.line()
                self.begin()
