"""Every exercise: the stub fails, the solution passes, attempts are judged right.

An attempt is judged as `nbe` judges it, with the inputs that no page shows.
"""

import ast
import functools
from types import SimpleNamespace

import pytest

from nnx_by_example import checking, judge
from nnx_by_example.course import Lesson
from tools.gate.lesson import caught, run_cells, run_lesson
from tools.gate.memory import reads
from tools.gate.pages import read_blocks
from tools.gate.process import Server, in_process
from tools.project import ROOT
from tools.website import attempts

# Names of what only the observer may look into or alter.
INSIDE = {"__class__", "__code__", "__dict__", "__globals__"}
INSIDE |= {"inspect", "patch", "sys", "traceback"}
pytestmark = reads("mkdocs.yml", of=lambda run: run.folder.glob("*.*"))
LESSONS = [
    Lesson(path.parent.name, 1, "", path.parent)
    for path in sorted((ROOT / "docs" / "course").glob("*/exercise.py"))
]


@pytest.fixture(scope="module")
def server():
    """Start a process that runs lessons: what one has compiled serves the next."""
    with Server(run_lesson) as running:
        yield running


@pytest.fixture(scope="module", params=LESSONS, ids=lambda lesson: lesson.name)
def run(request, server):
    """Return a lesson, what its notebook prints, and the verdicts on its attempts."""
    chosen = request.param
    text = attempts.notebook(chosen, "https://example.com/", "https://example.com/x")
    arguments = chosen.exercise, chosen.function, chosen.start
    # Who asks for a number of devices has to be the first to compute anything.
    alone = "jax_num_cpu_devices" in chosen.page
    call = functools.partial(in_process, run_lesson) if alone else server.call
    found = call(text, chosen.section("solution"), *arguments)
    # The command compares attempts with them, also in the tests that come later.
    checking.keep(found[1]["known"], checking.file_of_mistakes(chosen))
    return chosen, *found


@pytest.fixture
def lesson(run):
    """Return a lesson, and the verdicts on its attempts."""
    return run[0], run[2]


def included(lesson: Lesson) -> dict[str, str]:
    """Return the sections of an exercise that its page shows: name and source."""
    blocks = read_blocks(lesson.folder / "index.md")
    wanted = f"course/{lesson.name}/exercise.py"
    pairs = [((b.snippet or "").partition(":"), b.source) for b in blocks]
    return {section: source for (file, _, section), source in pairs if file == wanted}


def faults(check: str) -> list[str]:
    """Return why a section `check` is not one that a reader can read and paste."""
    found = looks_inside(check)
    if [type(node) for node in ast.parse(check).body] != [ast.FunctionDef]:
        found.append("it is not one function, with nothing outside")
    lines = [line.strip() for line in check.splitlines()]
    if (size := sum(bool(line) and line[0] != "#" for line in lines)) > 20:
        found.append(f"it has {size} lines of code")
    return found


def looks_inside(source: str) -> list[str]:
    """Return the names in code that only the observer may use."""
    found = []
    for node in ast.walk(ast.parse(source)):
        name = (
            getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
            or ""
        )
        private = name.startswith("_") and not name.endswith("__") and name != "_"
        if private or name in INSIDE:
            found.append(f"it uses {name}")
    return found


def test_the_check_is_one_short_function_and_only_the_observer_looks_inside(lesson):
    assert faults(lesson[0].section("check")) == []
    assert looks_inside(lesson[0].exercise.read_text("utf-8")) == []


def test_a_check_of_another_form_is_seen():
    check = "def check(candidate, *more):\n" + 19 * "    pass\n"
    assert faults(check) == faults(check + "    # a comment\n") == []
    for before, after, fault in (
        ("INPUTS = []\n", "", "not one function"),
        ("import numpy\n", "", "not one function"),
        ("", "pass", "21 lines"),
        ("", "answer.__class__", "uses __class__"),
        ("", "import sys", "uses sys"),
        ("", "from unittest.mock import patch", "uses patch"),
    ):
        assert fault in " ".join(faults(f"{before}{check}    {after}\n"))


def test_the_solution_passes(lesson):
    assert lesson[1]["solution"].passed, lesson[1]["solution"].text()


def test_the_solution_passes_in_tree_mode(lesson):
    verdict = lesson[1]["solution in tree mode"]
    assert verdict.passed, verdict.text()


def test_a_notebook_judges_the_answer_that_is_pasted_into_it(run):
    (of_stub, *of_solution), _ = run[1]
    assert "still to be written" in of_stub
    assert [shown.splitlines()[0] for shown in of_solution] == [
        f"+ {run[0].name}: passed"
    ]


def test_a_notebook_shows_what_its_cells_print(run):
    assert run[1][1] == []


def test_a_notebook_that_shows_something_else_is_seen():
    cells = [
        attempts.block_cell("print(1)\n#> 1\n"),
        attempts.block_cell("print(2)\n#> 3\n"),
        attempts.block_cell("print(4)\n"),
        attempts.block_cell("5\n"),
        attempts.code_cell("", "answer"),
    ]
    _, wrong = in_process(run_cells, attempts.written(cells), "print(6)")
    assert [line.split()[0] for line in wrong] == [f"cell-{n}" for n in (1, 2, 3, 4)]


def test_the_untouched_stub_fails_with_a_friendly_message(lesson):
    stub = lesson[1]["stub"]
    assert not stub.passed
    assert "still to be written" in stub.message
    assert "nbe hint" in stub.advice


def test_every_mistake_is_refused_with_its_own_message(lesson):
    wrong = [
        f"{name}: {'accepted' if verdict.passed else verdict.text()}"
        for name, verdict, message in lesson[1]["mistakes"]
        if verdict.passed or verdict.advice != message
    ]
    assert not wrong, "\n".join(wrong)


def test_there_are_enough_attempts_to_judge_and_not_too_many(lesson):
    chosen, found = lesson
    mistakes, also_right = (1, 1) if chosen.name == "_template" else (8, 3)
    assert mistakes <= len(found["mistakes"]) <= 20
    assert len(found["also_right"]) >= also_right


def test_every_mistake_has_a_name_and_a_message_of_its_own(lesson):
    names, _, messages = zip(*lesson[1]["mistakes"], strict=True)
    assert len(set(names)) == len(set(messages)) == len(names)


def test_no_right_answer_is_refused(lesson):
    refused = [f"{n}: {v.text()}" for n, v in lesson[1]["also_right"] if not v.passed]
    assert not refused, "\n".join(refused)


def test_every_hidden_input_catches_a_mistake_that_all_others_miss(lesson):
    caught = lesson[1]["caught"]
    assert caught
    assert all(caught), caught


def test_the_page_shows_stub_check_and_solution(lesson):
    sections = included(lesson[0])
    assert {"stub", "check", "solution"} <= set(sections)
    assert all(lesson[0].section(name) == text for name, text in sections.items())


def test_the_page_names_its_command_and_its_notebook(lesson):
    chosen, _ = lesson
    assert f"nbe check {chosen.name} my_attempt.py\n" in chosen.page
    assert f'--8<-- "attempt/{chosen.name}.md"\n' in chosen.page
    assert len(chosen.hints) >= 2


def test_what_a_hidden_input_catches_is_what_no_other_input_shows():
    def wrong_at(*places):
        def mistake(place):
            return -place if place in places else place

        mistake.__name__ = f"wrong_at_{'_'.join(map(str, places))}"
        return mistake

    mistakes = [wrong_at(*at) for at in [(1,), (3,), (1, 3), (3, 4), (5,)]]
    hidden = [(3,), (4,), (5,)]
    exercise = SimpleNamespace(
        check=lambda solution: [solution(1), solution(2)],
        HIDDEN=hidden,
        MISTAKES=mistakes,
    )
    known = [{"answers": judge.answers(hidden, mistake)} for mistake in mistakes]
    found = caught(exercise, wrong_at(), known)
    assert found == [["wrong_at_3"], [], ["wrong_at_5"]]
