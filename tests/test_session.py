"""`check` in a running session: the verdict of `nbe check`, as text and as HTML."""

import os
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

import nnx_by_example
from nnx_by_example import checking, course, judge, session
from nnx_by_example.verdict import RUNS, Verdict
from tools.gate.memory import reads
from tools.gate.process import in_process
from tools.project import ROOT

LESSON = course.named("call-vs-init")
SOLUTION = LESSON.section("solution")
CALL = "return jnp.array([first.sum(), second.sum()])"

pytestmark = reads("nnx_by_example/*", "mkdocs.yml", "docs/course/call-vs-init/*")

# What a learner wrote, by what is wrong with it.
ANSWERS = {
    "a right answer": SOLUTION,
    "a wrong scale": SOLUTION.replace("scale = 1 /", "scale = 1 + 0 *"),
    "one call": SOLUTION.replace(CALL, "return jnp.full(2, first.sum())").replace(
        "first, second = model(x), model(x)", "first = model(x)"
    ),
    "an error": SOLUTION.replace(CALL, "return first / nothing"),
    "the stub": LESSON.start,
    "prints": SOLUTION.replace(CALL, "print('one', 'two')\n    return first"),
    "another signature": LESSON.start.replace("(seed, x, features)", "(seed)"),
    "a warning": SOLUTION.replace(
        CALL, f'import warnings\n    warnings.warn("old", stacklevel=1)\n    {CALL}'
    ),
}


def of_session(path):
    """Return what `check` shows of a file: text, HTML, and whether it passed."""
    module = judge.learners_module(path, path.read_bytes())
    shown = nnx_by_example.check("call-vs-init", module.call_vs_init_forward)
    return repr(shown), shown._repr_html_(), shown.passed


@pytest.fixture(params=ANSWERS)
def verdicts(request, tmp_path):
    """Return what the command finds of an answer, and what a session shows of it."""
    file = tmp_path / "answer.py"
    file.write_text(ANSWERS[request.param])
    return checking.Check(LESSON, file).verdict(), *in_process(of_session, file)


def test_a_notebook_gets_no_codes_of_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    shown = session.Shown(Verdict(LESSON.name), LESSON)
    assert "\x1b" not in repr(shown) + shown._repr_html_()
    assert f"\N{CHECK MARK} {LESSON.name}" in shown._repr_html_()
    assert capsys.readouterr().out == ""


def test_a_session_says_what_the_command_says(verdicts):
    found, text, html, passed = verdicts
    assert text == repr(session.Shown(found, LESSON))
    assert passed == found.passed
    shown = " ".join(BeautifulSoup(html, "html.parser").get_text(" ").split())
    for part in (found.message, found.code, found.output, found.note):
        assert " ".join(part.split()) in shown
    assert " ".join(found.advice.replace("`", " ").split()) in shown
    assert ("passed" in shown) == passed


def test_a_script_names_a_known_mistake_of_a_function_with_another_name(tmp_path):
    script = tmp_path / "script.py"  # without a guard for the processes that it starts
    script.write_text(
        "from nnx_by_example import check\n\n"
        + SOLUTION.replace("scale = 1 /", "scale = 1 + 0 *").replace(
            "call_vs_init_forward", "forward"
        )
        + '\n\nprint(check("call_vs_init", forward))\n'
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "NBE_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    assert "not yet" in done.stdout
    assert "You left out the factor 1 / sqrt(in_features)." in done.stdout


def test_what_is_no_lesson_and_no_function_gets_an_answer():
    with pytest.raises(LookupError, match=r"'call-vs-int'\. Did you mean call-vs-init"):
        nnx_by_example.check("call-vs-int", print)
    shown = nnx_by_example.check("call-vs-init", 3)
    assert not shown.passed
    assert "is no function, but of type int" in repr(shown)


def test_html_shows_signs_as_they_are():
    verdict = Verdict("call-vs-init", RUNS, "x < 1 & y", advice="Write `a < b`.")
    html = session.Shown(verdict, LESSON)._repr_html_()
    assert "<pre>x &lt; 1 &amp; y</pre>" in html
    assert "<code>a &lt; b</code>" in html
