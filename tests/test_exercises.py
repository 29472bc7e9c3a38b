"""Every exercise: the stub fails, the solution passes, attempts are judged right."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, read_blocks
from tests.process import in_process

EXERCISES = sorted((ROOT / "docs" / "course").glob("*/exercise.py"))


def load(path: Path):
    """Return the exercise as a module, imported under the name of its folder."""
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verdicts(path: Path, stub: str) -> dict:
    """Return what the check of an exercise says about each attempt that it lists."""
    exercise = load(path)
    untouched = {}
    exec(stub, untouched)
    name = ast.parse(stub).body[-1].name

    def judge(candidate):
        try:
            return exercise.check(candidate)
        except (TypeError, ValueError) as error:  # what wrong input raises
            return f"raises {type(error).__name__}: {error}"

    return {
        "solution": judge(getattr(exercise, name)),
        "stub": judge(untouched[name]),
        "mistakes": {f.__name__: judge(f) for f in exercise.MISTAKES},
        "messages": list(exercise.MISTAKES.values()),
        "also_right": {f.__name__: judge(f) for f in exercise.ALSO_RIGHT},
    }


@pytest.fixture(scope="module", params=EXERCISES, ids=lambda path: path.parent.name)
def exercise(request):
    """Return the path of an exercise and the verdicts of its check, from one run."""
    stub = included(request.param)["stub"]
    return request.param, in_process(verdicts, request.param, stub)


def included(path: Path) -> dict[str, str]:
    """Return the sections of an exercise that its page shows: name and source."""
    blocks = read_blocks(path.parent / "index.md")
    wanted = f"course/{path.parent.name}/exercise.py"
    pairs = [((b.snippet or "").partition(":"), b.source) for b in blocks]
    return {section: source for (file, _, section), source in pairs if file == wanted}


def test_the_solution_passes(exercise):
    assert exercise[1]["solution"] == "passed"


def test_the_untouched_stub_fails_with_a_friendly_message(exercise):
    assert "still to be written" in exercise[1]["stub"]


def test_every_mistake_is_refused(exercise):
    accepted = [n for n, v in exercise[1]["mistakes"].items() if v == "passed"]
    assert not accepted


def test_there_are_enough_attempts_to_judge(exercise):
    path, found = exercise
    mistakes, also_right = (1, 1) if path.parent.name == "_template" else (8, 3)
    assert len(found["mistakes"]) >= mistakes
    assert len(found["also_right"]) >= also_right


def test_every_mistake_has_a_name_and_a_message_of_its_own(exercise):
    messages = exercise[1]["messages"]
    assert len(set(messages)) == len(exercise[1]["mistakes"]) == len(messages)


def test_no_right_answer_is_refused(exercise):
    refused = {n: v for n, v in exercise[1]["also_right"].items() if v != "passed"}
    assert not refused


def test_the_page_shows_stub_check_and_solution(exercise):
    assert {"stub", "check", "solution"} <= set(included(exercise[0]))
