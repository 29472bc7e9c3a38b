"""Every exercise: the stub fails, the solution passes, attempts are judged right.

An attempt is judged as `nbe` judges it, with the inputs that no page shows.
"""

import pytest

from nnx_by_example import diagnosis, judge
from nnx_by_example.course import Lesson
from nnx_by_example.verdict import Verdict
from tests.pages import ROOT, read_blocks
from tests.process import in_process

LESSONS = [
    Lesson(path.parent.name, 1, "", path.parent)
    for path in sorted((ROOT / "docs" / "course").glob("*/exercise.py"))
]


def verdicts(path, function: str, start: str) -> dict:
    """Return what is said of stub, solution and each attempt that an exercise lists."""
    exercise = judge.load(path)
    known = judge.known_mistakes(lambda message: None, path, function)
    solution = getattr(exercise, function)
    untouched = {}
    exec(start, untouched)

    def said(candidate):
        verdict = judge.judge(exercise, function, candidate, Verdict("lesson"))
        diagnosis.advise(verdict, known)
        return verdict

    cases = [*exercise.INPUTS, *exercise.HIDDEN]
    wanted = judge.answers(cases, solution)
    right = {  # for each mistake, on which inputs its answer is right
        f.__name__: list(map(diagnosis.same, judge.answers(cases, f), wanted))
        for f in exercise.MISTAKES
    }
    caught = []  # by each hidden input, what every other input lets through
    for at in range(len(exercise.INPUTS), len(cases)):
        only = [n != at for n in range(len(cases))]
        caught.append([name for name, found in right.items() if found == only])
    return {
        "solution": said(solution),
        "stub": said(untouched[function]),
        "mistakes": [(f.__name__, said(f), m) for f, m in exercise.MISTAKES.items()],
        "also_right": [(f.__name__, said(f)) for f in exercise.ALSO_RIGHT],
        "caught": caught,
    }


@pytest.fixture(scope="module", params=LESSONS, ids=lambda lesson: lesson.name)
def lesson(request):
    """Return a lesson, and the verdicts on its attempts from one run."""
    chosen = request.param
    found = in_process(verdicts, chosen.exercise, chosen.function, chosen.start)
    return chosen, found


def included(lesson: Lesson) -> dict[str, str]:
    """Return the sections of an exercise that its page shows: name and source."""
    blocks = read_blocks(lesson.folder / "index.md")
    wanted = f"course/{lesson.name}/exercise.py"
    pairs = [((b.snippet or "").partition(":"), b.source) for b in blocks]
    return {section: source for (file, _, section), source in pairs if file == wanted}


def test_the_solution_passes(lesson):
    assert lesson[1]["solution"].passed, lesson[1]["solution"].text()


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


def test_there_are_enough_attempts_to_judge(lesson):
    chosen, found = lesson
    mistakes, also_right = (1, 1) if chosen.name == "_template" else (8, 3)
    assert len(found["mistakes"]) >= mistakes
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
