"""The command `nbe`: what it says of every kind of file, and what it leaves alone."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock
from unittest.mock import patch

import jsonschema
import pytest

from nnx_by_example import checking, cli, course, diagnosis, isolation, progress
from nnx_by_example.attempt import current
from nnx_by_example.verdict import ANSWERS, LOADS, RUNS, THERE
from tools.gate.learner import LESSON, SOLUTION, alive, wait_for, working_in
from tools.gate.memory import reads
from tools.gate.process import ENVIRONMENT, PROCESSES, in_process, lend
from tools.project import HANG, ROOT

# The command lists all lessons, and judges this one.
pytestmark = reads("docs/course/call-vs-init/*", "mkdocs.yml")
BEGIN = "def call_vs_init_forward(seed, x, features):\n    "
# For what is meant to be over the limit: after its last sign of life it does nothing
# else. All other files get what a learner's get.
TIGHT = isolation.Limits(cpu=0.5, idle=1, times=0)
LOOPS, SLEEPS = "no end after 0.5 s of computing", "no end after 1 s of waiting"

# What a file may hold: (text or bytes, the stage that fails, a word of the message, the
# number of the line that is named). Nothing but the last four lines of each is special.
FILES = {
    "empty": ("", LOADS, "is empty", None),
    "only spaces": ("\n  \n", LOADS, "is empty", None),
    "a missing bracket": ("x = 1\ny = (2\n", LOADS, "SyntaxError", 2),
    "tabs and spaces": ("if 1:\n\tx = 1\n        y = 2\n", LOADS, "TabError", 3),
    "not UTF-8": (b"x = 1\ny = '\xff'\n", LOADS, "SyntaxError", None),
    "a null byte": (b"x = 1\0\n", LOADS, "null bytes", None),
    "too large": ("#" * (1 << 20) + "#\n", LOADS, "more than 1 MB", None),
    "deeply nested": ("(" * 2000 + ")" * 2000, LOADS, "loading the file", None),
    "crash at import": ("x = 1\nx / 0\n", LOADS, "ZeroDivisionError", 2),
    "missing package": ("import flux\n", LOADS, "No module named 'flux'", 1),
    "exits at import": ("import sys\nsys.exit(0)\n", LOADS, "SystemExit", 2),
    "leaves at import": ("import os\nos._exit(0)\n", LOADS, "without an answer", 2),
    "loops at import": ("while True: x = 1\n", LOADS, LOOPS, 1),
    "another name": ("def call_vs_init(a):\n    pass\n", THERE, "no function", 1),
    "no function": ("x = 1\n", THERE, "it defines: no function", None),
    "no function but a number": ("call_vs_init_forward = 3\n", THERE, "type int", None),
    "two arguments": (
        "def call_vs_init_forward(a, b):\n    pass\n",
        THERE,
        "too many",
        1,
    ),
    "four arguments": (
        "def call_vs_init_forward(a, b, c, d):\n    return a\n",
        THERE,
        "missing a required argument: 'd'",
        1,
    ),
    "returns nothing": (BEGIN + "pass\n", ANSWERS, "got None", 1),
    "a generator": (BEGIN + "yield 1\n", ANSWERS, "not generator", 1),
    "a coroutine": ("async " + BEGIN + "return 1\n", ANSWERS, "not coroutine", 2),
    "raises": (BEGIN + "return x / nothing\n", RUNS, "NameError: name 'nothing'", 2),
    "a name of the page": (BEGIN + "return MyLinear(4, 2)\n", RUNS, "NameError", 2),
    "raises in a helper": (
        "def scale(n):\n    return 1 // n\n\n\n" + BEGIN + "return scale(0)\n",
        RUNS,
        "ZeroDivisionError",
        2,
    ),
    "raises in jax": (
        "import jax.numpy as jnp\n" + BEGIN + "return x @ jnp.ones(99)\n",
        RUNS,
        "TypeError: dot_general",
        3,
    ),
    "raises what nothing catches": (BEGIN + "raise BaseException(1)\n", RUNS, "1", 2),
    "a long error": (BEGIN + "raise ValueError('a' * 10**6)\n", RUNS, "aaa", 2),
    "exits": (BEGIN + "raise SystemExit(0)\n", RUNS, "SystemExit", 2),
    "leaves": ("import os\n" + BEGIN + "os._exit(0)\n", RUNS, "without an answer", 3),
    "loops": (BEGIN + "while True: x = 1\n", RUNS, LOOPS, 2),
    "loops and catches": (
        BEGIN + "while True:\n        try:\n            x / seed\n"
        "        except BaseException:\n            pass\n",
        RUNS,
        LOOPS,
        None,
    ),
    "sleeps": (
        "import time\n" + BEGIN + "time.sleep(99)\n",
        RUNS,
        SLEEPS,
        3,
    ),
    "polls": (
        "import time\n" + BEGIN + "while True:\n        time.sleep(0.01)\n",
        RUNS,
        SLEEPS,
        4,
    ),
    "closes its pipe and loops": (
        "import os\n" + BEGIN + "os.closerange(3, 99)\n    while True: x = 1\n",
        RUNS,
        LOOPS,
        4,
    ),
    "crashes": (
        "import ctypes\n" + BEGIN + "ctypes.string_at(0)\n",
        RUNS,
        "SIGSEGV",
        3,
    ),
    "aborts": ("import os\n" + BEGIN + "os.abort()\n", RUNS, "SIGABRT", 3),
    "kills itself": (
        "import os\n" + BEGIN + "os.kill(os.getpid(), 9)\n",
        RUNS,
        "SIGKILL",
        None,
    ),
    "never ends a call": (
        BEGIN + "return call_vs_init_forward(1, 2, 3)\n",
        RUNS,
        "Recur",
        2,
    ),
    "fills the memory": (
        "held = []\n"
        + BEGIN
        + "while True:\n        held.append(bytearray(1 << 34))\n",
        RUNS,
        "MemoryError",
        4,
    ),
    "prints a lot": (
        BEGIN + 'while True:\n        print("a" * 10**6)\n',
        RUNS,
        "large",
        3,
    ),
    "reads what nobody types": (BEGIN + "return input()\n", RUNS, "EOFError", 2),
    "ignores the limit": (
        "import signal\n\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "while True: x = 1\n",
        LOADS,
        LOOPS,
        None,
    ),
    "deletes itself and leaves": (
        "import os\n\nos.remove(__file__)\nos._exit(0)\n",
        LOADS,
        "without an answer",
        4,
    ),
    "deletes itself": (
        "import os\n\nos.remove(__file__)\n\n\ndef call_vs_init(a):\n    return 1\n",
        THERE,
        "no function",
        6,
    ),
    "a builtin": ("call_vs_init_forward = max\n", RUNS, "ValueError", None),
    "no source": (
        "exec('def call_vs_init_forward(a, b, c): return a / 0')\n",
        RUNS,
        "ZeroDivisionError",
        None,
    ),
    "an answer that cannot be shown": (
        "class Odd:\n    def __repr__(self):\n        raise ValueError('odd')\n\n\n"
        + BEGIN
        + "return Odd()\n",
        ANSWERS,
        "ValueError: odd",
        3,
    ),
    "an answer that is gone": (
        BEGIN + "y = x + 1\n    y.delete()\n    return y\n",
        ANSWERS,
        "Array has been deleted",
        None,
    ),
    "closes descriptors": (
        "import os\n" + BEGIN + "os.closerange(0, 99)\n    return x\n",
        RUNS,
        "pipe was closed",
        None,
    ),
}
# Files that differ from the solution in what does no harm: they pass.
HARMLESS = {
    "a byte order mark": b"\xef\xbb\xbf" + SOLUTION.encode(),
    "lines that end as on Windows": SOLUTION.replace("\n", "\r\n").encode(),
    "indented by tabs": SOLUTION.replace("    ", "\t").encode(),
    "no last line end": SOLUTION.rstrip().encode(),
    "a main part": (SOLUTION + '\n\nif __name__ == "__main__":\n    1 / 0\n').encode(),
    "a closed output": (
        "import sys\n" + SOLUTION + "\n\nsys.stdout.close()\n"
    ).encode(),
    "a deprecated call": SOLUTION.replace("self.bias\n", "self.bias.value\n").encode(),
    "a fork that goes on": ("import os\n\nos.fork()\n" + SOLUTION).encode(),
    "another print": (SOLUTION + "\n\nprint = None\nlen = None\n").encode(),
    "a limit taken away": (
        "import signal\n\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n" + SOLUTION
    ).encode(),
    "a thread left behind": (
        "import threading\nimport time\n\n"
        "threading.Thread(target=time.sleep, args=(99,)).start()\n" + SOLUTION
    ).encode(),
}
# By version 3 of https://exercism.org/docs/building/tooling/test-runners/interface
TEXT = {"type": ["string", "null"]}
EXERCISM = {
    "type": "object",
    "required": ["version", "status", "tests"],
    "additionalProperties": False,
    "properties": {
        "version": {"const": 3},
        "status": {"enum": ["pass", "fail", "error"]},
        "message": {**TEXT, "maxLength": 65_535},
        "tests": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "status"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "status": {"enum": ["pass", "fail", "error"]},
                    "message": {**TEXT, "maxLength": 65_535},
                    "output": {**TEXT, "maxLength": 500},
                    "test_code": TEXT,
                    "task_id": {"type": "integer"},
                },
            },
        },
    },
    # Only where nothing has run is there a message for the whole.
    "if": {"properties": {"status": {"const": "error"}}},
    "then": {"required": ["message"], "properties": {"message": {"type": "string"}}},
    "else": {"properties": {"message": {"type": "null"}}},
}


def nbe(folder, *words, **environment):
    """Run the command in a folder; return how it ended and what it wrote."""
    return subprocess.run(
        [sys.executable, "-m", "nnx_by_example", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture
def attempt(tmp_path):
    """Return a function that writes the attempt of the lesson in a new folder."""
    (tmp_path / "attempts").mkdir()

    def write(text):
        path = tmp_path / "attempts" / f"{LESSON.name}.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="module")
def warm():
    """Return a function that calls another in one process, which stays warm."""
    with patch.dict(os.environ, ENVIRONMENT), ProcessPoolExecutor(1, PROCESSES) as pool:
        yield lambda *asked, **options: pool.submit(*asked, **options).result()


@pytest.fixture
def command(warm):
    """Return a function that runs the command as `nbe` does, where jax is imported."""
    return functools.partial(warm, commanded)


def commanded(folder, *words, encoding="utf-8"):
    """Run the command in a folder; return how it ended and what it wrote."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        status = cli.main(words)
    for stream in streams:
        stream.seek(0)  # which writes what is held back
    return subprocess.CompletedProcess(words, status, *(s.read() for s in streams))


def judged(file: Path, limits: isolation.Limits = isolation.USUAL, lesson=LESSON):
    """Return the verdict on a file."""
    return checking.Check(lesson, file, limits).verdict()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory, warm):
    """Write every kind of file; return the path of each and the verdict on it."""
    lend()
    folder = tmp_path_factory.mktemp("files")
    files, found = {}, {}
    for number, (name, kind) in enumerate({**FILES, **HARMLESS}.items()):
        text = kind[0] if isinstance(kind, tuple) else kind
        files[name] = folder / f"attempt {number}.py"
        files[name].write_bytes(text if isinstance(text, bytes) else text.encode())
    before = {file: file.read_bytes() for file in files.values()}
    for name, file in files.items():
        over = name in FILES and FILES[name][2] in (LOOPS, SLEEPS)
        found[name] = file, warm(judged, file, TIGHT if over else isolation.USUAL)
    gone = [file for name, file in files.items() if name.startswith("deletes itself")]
    kept = {file: text for file, text in before.items() if file not in gone}
    assert {file: file.read_bytes() for file in folder.iterdir()} == kept
    return found


@pytest.mark.parametrize(("name", "kind"), FILES.items(), ids=FILES)
def test_a_bad_file_gets_its_own_message_and_its_line(verdicts, name, kind):
    text, stage, word, line = kind
    file, verdict = verdicts[name]
    assert (verdict.stage, verdict.file) == (stage, str(file)), verdict.text()
    assert word in verdict.message
    assert verdict.advice
    assert len(verdict.text()) < 3_000
    if line:
        assert verdict.line[0] == line, verdict.text()
        assert verdict.code == text.splitlines()[line - 1].strip()


def test_a_name_of_the_page_is_said_to_stand_there(verdicts):
    advice = {
        name: verdicts[name][1].advice for name in ("raises", "a name of the page")
    }
    assert advice["a name of the page"].startswith("Define `MyLinear` in your code")
    assert "Define" not in advice["raises"]


def test_an_error_is_known_whatever_the_learner_calls_the_class():
    own, known, other = (
        diagnosis.describe(ValueError(f"data on <class 'attempt.{name}'> of {text}"))
        for name, text in [("Mine", "a list"), ("Held", "a list"), ("Held", "a dict")]
    )
    assert diagnosis.same(own, known)
    assert not diagnosis.same(known, other)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_passes(verdicts, name):
    assert verdicts[name][1].passed, verdicts[name][1].text()


def called(function, *arguments, on_report=lambda message: None):
    """Return what a function returns in a process of its own, or why it ended."""
    try:
        return isolation.Call(function, *arguments, limits=TIGHT).result(on_report)
    except isolation.EndedError as ended:
        return str(ended)


def steps(report, count, seconds):
    """Compute for some seconds after each of some signs of life."""
    for _ in range(count):
        report("alive")
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
    return "passed"


def test_many_calls_may_take_long_in_all(warm):
    assert warm(called, steps, 8, 0.2) == "passed"
    assert warm(called, steps, 1, 60) == LOOPS


def stops(report):
    """Stop this process, as a machine does that is put to sleep."""
    report("alive")
    os.kill(os.getpid(), signal.SIGSTOP)
    return "passed"


def called_and_stopped(asleep):
    """Return how a process that stops ended; it goes on when it was looked at often."""
    looks, look = [], isolation.Effort.look

    def counted(effort):
        look(effort)
        looks.append(effort)
        if len(looks) > 2 * TIGHT.idle / isolation.STEP:
            os.kill(effort.pid, signal.SIGCONT)

    with (
        patch.object(isolation.Effort, "look", counted),
        patch.object(isolation, "asleep", asleep),
    ):
        return called(stops, on_report=lambda message: looks.clear())


def a_clock(pid):
    """Take time that passes for time that a process sleeps."""
    return 1.0


def test_a_process_that_is_stopped_does_not_sleep(warm):
    assert warm(called_and_stopped, isolation.asleep) == "passed"
    assert warm(called_and_stopped, a_clock) == SLEEPS


# The processor of both, and the lowest priority for all threads that there are.
LAST = """\
import os

for thread in map(int, os.listdir("/proc/self/task")):
    os.sched_setaffinity(thread, {min(os.sched_getaffinity(thread))})
    os.setpriority(os.PRIO_PROCESS, thread, 19)
"""
# Nothing that was compiled before is there.
COLD = 'import jax\n\njax.config.update("jax_enable_compilation_cache", False)\n'


@pytest.fixture
def eight_busy():
    """Have eight processes compute on one processor, each in a group of its own."""
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", f"{LAST}\nwhile True:\n    pass"],
            start_new_session=True,
        )
        for _ in range(8)
    ]
    yield
    for process in busy:
        process.kill()
        process.wait()


def test_a_right_answer_passes_on_a_machine_that_is_busy(tmp_path, warm, eight_busy):
    file = tmp_path / "attempt.py"
    file.write_text(LAST + COLD + SOLUTION)
    patience = isolation.Limits(idle=TIGHT.idle)  # less than it waits for its turn
    verdict = warm(judged, file, patience)
    assert verdict.passed, verdict.text()


@pytest.fixture
def slow(tmp_path):
    """Return a lesson whose solution computes for 0.3 s when it is called first."""
    shutil.copytree(LESSON.folder, tmp_path / LESSON.name)
    lesson = dataclasses.replace(LESSON, folder=tmp_path / LESSON.name)
    text = lesson.exercise.read_text()
    for old, new in {
        "import jax\n": "import time\n\nimport jax\n\nseconds = [0.3]\n",
        "    model = MyLinear": "    end = time.process_time() + sum(seconds)\n"
        "    seconds.clear()\n    while time.process_time() < end:\n        pass\n"
        "    model = MyLinear",
    }.items():
        text = text.replace(old, new, 1)
    lesson.exercise.write_text(text + "\n\nMISTAKES = {}\n")
    return lesson


def test_the_limit_follows_what_the_solution_takes(tmp_path, warm, slow):
    file = tmp_path / "attempt.py"
    file.write_text(COLD + slow.section("solution"))
    fixed = isolation.Limits(cpu=0.1, times=0)
    message = warm(judged, file, fixed, slow).message
    assert message.endswith("no end after 0.1 s of computing")
    follows = dataclasses.replace(fixed, times=10)
    verdict = warm(judged, file, follows, slow)
    assert verdict.passed, verdict.text()
    file.write_text(BEGIN + "while True: x = 1\n")
    verdict = warm(judged, file, dataclasses.replace(fixed, times=2), slow)
    assert verdict.line[0] == 2
    allowed, own = re.search(
        r"no end after (\S+) s of computing, "
        r"where the lesson's own solution takes (\S+) s$",
        verdict.message,
    ).groups()
    assert float(own) >= 0.3
    assert float(allowed) == pytest.approx(2 * float(own), abs=0.2)


def test_a_deprecated_call_passes_with_a_note(verdicts):
    verdict = verdicts["a deprecated call"][1]
    assert verdict.passed
    assert re.match(r"line \d+: '.value' access is now deprecated", verdict.note)
    assert not verdicts["no last line end"][1].note


def test_what_an_attempt_prints_is_shown_without_harm(tmp_path, attempt, command):
    attempt(BEGIN + "print('\\x1b[2J' + chr(0xD800) + 'é', end='')\n    return x\n")
    for encoding in ("utf-8", "ascii"):
        done = command(tmp_path, "check", LESSON.name, encoding=encoding)
        assert done.returncode == 1
        assert not done.stderr
        assert "Your code printed:" in done.stdout
        assert "\x1b[2J" not in done.stdout


def test_a_helper_with_a_wrong_syntax_is_named(tmp_path, attempt, command):
    file = attempt("import helper\n")
    file.with_name("helper.py").write_text("x = 1\ny = = 2\n")
    done = command(tmp_path, "check", LESSON.name)
    assert "SyntaxError: invalid syntax (helper.py, line 2)" in done.stdout
    assert "Mend helper.py" in done.stdout


def test_no_file_of_the_folder_stands_for_one_of_pythons_own(tmp_path, attempt):
    file = attempt(SOLUTION)
    for folder in (tmp_path, file.parent):
        for name in ("random", "tempfile", "jax", "rich"):
            (folder / f"{name}.py").write_text("print('taken')\nwhile True: x = 1\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("nbe"), "check", LESSON.name, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["status"] == "pass"


@pytest.mark.parametrize(
    "text", ["null", "3", '"a"', "{}", "[]", '[{"says": 1}]', "[["]
)
def test_a_cache_that_is_damaged_is_made_anew(tmp_path, monkeypatch, text):
    monkeypatch.setattr(checking, "CACHE", tmp_path)
    monkeypatch.setattr(checking, "Call", lambda *arguments, **limits: "begun")
    mistakes = checking.Mistakes(LESSON)
    mistakes.file.parent.mkdir()
    mistakes.file.write_text(text)
    assert checking.Mistakes(LESSON).call == "begun"
    mistakes.file.write_text('[{"answers": [], "idea": null, "says": "a"}]')
    assert checking.Mistakes(LESSON).call is None


def test_no_process_of_an_attempt_stays_behind(tmp_path, warm):
    noted = tmp_path / "pid"
    file = tmp_path / "attempt.py"
    file.write_text(
        "import os\nimport time\n\nif os.fork() == 0:\n"
        f"    open({str(noted)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(10**6)\n"  # never ends by itself
        f"name = {str(noted)!r}\n"
        "while not (os.path.exists(name) and os.path.getsize(name)):\n"
        "    time.sleep(0.01)\n"
    )
    warm(judged, file)
    # A signal is on its way when the kill returns.
    wait_for(lambda: not alive(int(noted.read_text())))


def test_files_that_are_none_are_refused_without_a_run(tmp_path):
    pipe, link = tmp_path / "pipe.py", tmp_path / "link.py"
    os.mkfifo(pipe)
    link.symlink_to(link)
    broken = tmp_path / "broken.py"
    broken.symlink_to(tmp_path / "nowhere.py")
    for file, word in {
        tmp_path / "gone.py": "there is no file",
        tmp_path: "no file with Python",
        pipe: "no file with Python",
        link: "no file with Python",
        broken: "no file with Python",
    }.items():
        _, verdict = checking.read(LESSON, file)
        assert verdict.stage == LOADS
        assert word in verdict.message


def read_as_nobody(file: Path):
    """Return the verdict on a file of somebody else."""
    with contextlib.suppress(PermissionError):  # no root, so nobody else already
        os.seteuid(65_534)
    return checking.read(LESSON, file)[1]


def test_a_file_that_cannot_be_read_is_refused():
    # Not below pytest's own folder, which nobody else may enter.
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    file = folder / "attempt.py"
    file.write_text(SOLUTION)
    folder.chmod(0o755)
    file.chmod(0)
    try:
        assert "Permission denied" in in_process(read_as_nobody, file).message
    finally:
        shutil.rmtree(folder)


def test_the_first_steps_of_a_learner(tmp_path, command):
    shown = command(tmp_path, "list")
    assert shown.returncode == 0
    assert f"0 of {len(course.lessons())} solved" in shown.stdout
    assert "(you are here)" in shown.stdout
    assert re.search(r"jax \d.*, flax \d", nbe(tmp_path, "--version").stdout)
    assert command(tmp_path, "start", LESSON.name).returncode == 0
    file = tmp_path / "attempts" / f"{LESSON.name}.py"
    assert LESSON.section("stub") in file.read_text()
    first = command(tmp_path, "check", LESSON.name)
    assert first.returncode == 1
    assert "still to be written" in first.stdout
    last = len(LESSON.hints)
    hints = [command(tmp_path, "hint", LESSON.name).stdout for _ in range(last + 1)]
    shown = [f"Hint {number}" for number in range(1, last + 1)]
    assert [hint[:6] for hint in hints] == [*shown, shown[-1]]
    file.write_text(command(tmp_path, "solution", LESSON.name).stdout)
    passed = command(tmp_path, "check", LESSON.name)
    assert passed.returncode == 0
    assert "passed" in passed.stdout
    assert LESSON.name in progress.read(tmp_path / "attempts").solved
    assert not passed.stderr


def test_the_next_lesson_is_the_next_that_is_not_solved():
    lessons = course.lessons()
    done = progress.Progress(solved={lessons[2].name})
    assert current(lessons, done) == lessons[0]
    assert current(lessons, done, after=2) == lessons[3]
    done.solved.update(lesson.name for lesson in lessons[1:])
    assert current(lessons, done, after=2) == lessons[0]
    done.solved.add(lessons[0].name)
    assert current(lessons, done, after=2) is None


def test_progress_is_one_line_that_another_folder_reads(tmp_path, command):
    names = [lesson.name for lesson in course.lessons()]
    (tmp_path / "other").mkdir()
    empty = command(tmp_path, "progress")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "no lesson yet" in empty.stderr
    assert not (tmp_path / "attempts").exists()
    progress.add("solved", names[3], tmp_path / "attempts")
    progress.add("solved", "gone-since", tmp_path / "attempts")
    line = command(tmp_path, "progress", *reversed(names), names[0]).stdout
    assert line == " ".join(names) + "\n"  # far more than 80 columns
    text = (tmp_path / "attempts" / progress.NAME).read_text()
    assert all(text.count(f"solved {name} ") == 1 for name in names)
    assert command(tmp_path / "other", "progress", *line.split()).stdout == line
    assert command(tmp_path / "other", "progress").stdout == line


def test_start_and_reset_lose_nothing(tmp_path, attempt, command):
    file = attempt("mine = 1\n")
    assert "Left as it is" in command(tmp_path, "start", LESSON.name).stdout
    assert file.read_text() == "mine = 1\n"
    unsure = command(tmp_path, "reset", LESSON.name)  # nobody answers
    assert unsure.returncode == 1
    assert file.read_text() == "mine = 1\n"
    for number in (1, 2):
        assert command(tmp_path, "reset", LESSON.name, "--yes").returncode == 0
        assert LESSON.section("stub") in file.read_text()
        kept = file.with_name(f"{LESSON.name}.backup-{number}.py")
        assert kept.exists()
    assert file.with_name(f"{LESSON.name}.backup-1.py").read_text() == "mine = 1\n"
    assert command(tmp_path / "attempts", "reset", LESSON.name).returncode == 2


@pytest.mark.parametrize(
    "text", [SOLUTION, SOLUTION.replace(" * scale", ""), "x = (\n"]
)
def test_json_has_the_form_of_a_test_runner(tmp_path, attempt, text, command):
    attempt(text.replace("    model =", "    print('x' * 999)\n    model ="))
    for words in (["check", LESSON.name], ["check-all"]):
        done = command(tmp_path, *words, "--json")
        result = json.loads(done.stdout)
        jsonschema.validate(result, EXERCISM)
        assert (result["status"] == "pass") == (done.returncode == 0)
        assert not done.stderr


def test_a_result_of_another_form_is_not_valid():
    good = {"version": 3, "status": "pass", "tests": [{"name": "a", "status": "pass"}]}
    jsonschema.validate(good, EXERCISM)
    for change in ({"version": 2}, {"status": "error"}, {"tests": []}, {"extra": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **change}, EXERCISM)


def test_a_known_mistake_is_named_in_the_terminal(tmp_path, attempt, command):
    attempt(SOLUTION.replace(" * scale", ""))
    done = command(tmp_path, "check", LESSON.name)
    assert done.returncode == 1
    assert (
        "call_vs_init_forward(0.0, jnp.array([1.0, 2.0, 3.0, 4.0]), 2.0)" in done.stdout
    )
    assert "expected: -2.8976293, twice" in done.stdout
    assert "got:      [-5.7952585 -5.7952585]" in done.stdout
    assert f"attempts/{LESSON.name}.py:28" in done.stdout
    assert "You left out the factor 1 / sqrt(in_features)." in done.stdout


def test_a_terminal_of_80_columns_without_colour_shows_it_all(tmp_path):
    for environment in (
        {"NO_COLOR": "1", "FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"},
        {"PYTHONIOENCODING": "ascii"},
    ):
        shown = nbe(tmp_path, "list", **environment)
        assert shown.returncode == 0
        assert max(map(len, shown.stdout.splitlines())) <= 80
        assert "\x1b[3" not in shown.stdout
        assert LESSON.name in shown.stdout
    assert shown.stdout.isascii()
    assert nbe(tmp_path, "list", "--plain").stdout == shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "call-vs-int"], "Did you mean call-vs-init?"),
        (["check", "zzz"], "`nbe list` shows all names"),
        (["reset", "call-vs-init"], "there is no attempts/call-vs-init.py to reset"),
        (["progress", "call-vs-init", "bach-norm"], "Did you mean batch-norm?"),
        (["grade"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_use_is_told_what_to_do(tmp_path, words, said):
    done = nbe(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error_in_one_line(tmp_path):
    (tmp_path / "attempts").write_text("a file, not a folder\n")
    done = nbe(tmp_path, "start")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "attempts" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    command = f"{sys.executable} -m nnx_by_example solution {LESSON.name} | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "import jax\n"
    assert not done.stderr


def test_a_pass_counts_although_nobody_reads_of_it(tmp_path, attempt):
    attempt(SOLUTION)
    command = f"{sys.executable} -m nnx_by_example check {LESSON.name} | true"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, shell=True, cwd=tmp_path, env=environment, check=True)
    assert LESSON.name in progress.read(tmp_path / "attempts").solved


def test_progress_that_cannot_be_written_is_said_and_no_more(
    tmp_path, attempt, command
):
    file = attempt("mine = 1\n")
    (tmp_path / "attempts" / progress.NAME).mkdir()
    hint = command(tmp_path, "hint", LESSON.name)
    assert hint.returncode == 0
    assert hint.stdout.startswith("Hint 1")
    reset = command(tmp_path, "reset", LESSON.name, "--yes")
    assert reset.returncode == 0
    assert f"Kept  attempts/{LESSON.name}.backup-1.py" in reset.stdout
    for done in (hint, reset):
        assert progress.NAME in done.stderr
        assert "Traceback" not in done.stderr
    assert file.with_name(f"{LESSON.name}.backup-1.py").read_text() == "mine = 1\n"


def test_progress_survives_a_crash_in_the_middle_of_a_line(tmp_path):
    progress.add("solved", "call-vs-init", tmp_path)
    progress.add("hint", "param-access", tmp_path)
    file = tmp_path / progress.NAME
    whole = file.read_bytes()
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size] + b"\xff" * (size % 2))
        progress.add("solved", "dropout-modes", tmp_path)
        found = progress.read(tmp_path)
        assert "dropout-modes" in found.solved
        if size > whole.index(b"hint"):
            assert "call-vs-init" in found.solved


def test_two_commands_at_once_lose_no_progress(tmp_path):
    code = (
        "import sys\nfrom nnx_by_example import progress\n"
        "for n in range(300):\n    progress.add('solved', sys.argv[1] + str(n))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", code, name], cwd=tmp_path, env=environment
        )
        for name in ("a", "b")
    ]
    assert [command.wait(HANG) for command in commands] == [0, 0]
    assert len(progress.read(tmp_path / "attempts").solved) == 600


def test_two_checks_at_once_agree(tmp_path, attempt):
    attempt(SOLUTION)
    checks = [
        subprocess.Popen(
            [sys.executable, "-m", "nnx_by_example", "check", LESSON.name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert [check.wait(HANG) for check in checks] == [0, 0]


@pytest.fixture
def temporary():
    """Return a folder with a short path: that of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_temporary_folder_with_a_long_path_is_named(tmp_path, attempt):
    attempt(SOLUTION)
    long = tmp_path / ("long" * 30)
    long.mkdir()
    done = nbe(tmp_path, "check", LESSON.name, TMPDIR=str(long))
    assert "set TMPDIR to a shorter one" in done.stderr


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
@pytest.mark.parametrize("begun", [True, False], ids=["running", "importing jax"])
def test_an_ended_check_leaves_nothing_behind(
    tmp_path, temporary, attempt, number, status, begun
):
    attempt("import time\n\nopen('begun', 'w')\ntime.sleep(10**6)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "nnx_by_example", "check", LESSON.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(
        (tmp_path / "begun").exists if begun else lambda: list(temporary.iterdir())
    )
    os.killpg(process.pid, number)  # as a terminal does, to all of them
    _, errors = process.communicate(timeout=HANG)
    assert process.returncode == status, errors.decode()
    assert b"Traceback" not in errors
    wait_for(lambda: not any(map(alive, working_in(tmp_path))))
    assert not list(temporary.glob("nbe-*"))


LOST = """
import os, signal
from nnx_by_example import cli

class Signalled:
    def __del__(self):  # Python prints what is raised here, and goes on
        os.kill(os.getpid(), signal.SIGHUP)
        for _ in range(1000): pass

cli.carry_out = lambda asked: Signalled() and 1
raise SystemExit(cli.main(["list"]))
"""


def test_an_exit_that_python_loses_is_the_exit_all_the_same():
    done = subprocess.run(
        [sys.executable, "-c", LOST],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "Exception ignored" in done.stderr
    assert done.returncode == 129


def test_a_loop_ends_when_nobody_looks_any_more(tmp_path, temporary, attempt):
    attempt("open('begun', 'w')\nwhile True: x = 1\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "nnx_by_example", "check", LESSON.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
    )
    wait_for((tmp_path / "begun").exists)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(alive, working_in(tmp_path))))


def test_ctrl_c_is_not_lost_while_the_server_starts(monkeypatch):
    interrupt = functools.partial(os.kill, os.getpid(), signal.SIGINT)
    monkeypatch.setattr(isolation.forkserver, "ensure_running", interrupt)
    with mock.patch.dict(os.environ), pytest.raises(KeyboardInterrupt):
        isolation.start_server()  # it sets what its processes start with
