"""Runs a lesson's notebook and judges its attempts, in the process that calls it.

Lessons may follow each other there: the modules of each are its own, and the observer
puts back what it alters. It imports little beyond what such a process has imported.
"""

import gc
import re
from pathlib import Path
from unittest.mock import patch

import jax
import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nnx_by_example import course, diagnosis, judge
from nnx_by_example.course import Lesson
from nnx_by_example.verdict import Verdict
from tools.gate.script import in_mode


def run_lesson(
    text: str, answer: str, path: Path, function: str, start: str
) -> tuple[tuple[list[str], list[str]], dict]:
    """Return what `run_cells` and `verdicts` do, which compile the same code.

    Args:
      text: the notebook, as it is published.
      answer: what to write into the cell for the answer.
      path: the lesson's `exercise.py`.
      function: name of the function that the learner writes.
      start: the untouched stub.
    """
    gc.freeze()  # whoever looks for a learner's functions finds them sooner
    here = Lesson(path.parent.name, 1, "", path.parent)  # the template is no lesson yet
    with patch.object(course, "lessons", lambda: [here]):
        return run_cells(text, answer), verdicts(path, function, start)


def run_cells(text: str, answer: str) -> tuple[list[str], list[str]]:
    """Return what the last cell of a notebook gives: of the stub, then of an answer.

    An error of any cell comes instead, and last. And return what is wrong with the
    outputs: which cell shows another than it prints.

    It runs from top to bottom in IPython, on the packages that are installed. Then, as
    a learner does, the answer is written into its cell, and that and those below run
    again.

    Args:
      text: the notebook, as it is published.
      answer: what to write into the cell for the answer.
    """
    shell, said, wrong = InteractiveShell.instance(), [], []
    shell.reset(new_session=False)  # a lesson before may have left names
    cells = [
        c for c in nbformat.reads(text, as_version=4).cells if c.cell_type == "code"
    ]
    cells = [cell for cell in cells if not cell.source.startswith("%pip")]
    tagged = ["answer" in cell.metadata.get("tags", []) for cell in cells]
    at = tagged.index(True)
    answered = nbformat.NotebookNode({**cells[at], "source": answer})
    for run in (cells, [answered, *cells[at + 1 :]]):
        for cell in run:
            with capture_output() as captured:
                result = shell.run_cell(cell.source)
                jax.effects_barrier()
            if error := result.error_before_exec or result.error_in_exec:
                return [*said, repr(error)], wrong
            wrong += differences(cell, captured)
        said.append(repr(result.result))
    return said, wrong


def differences(cell, captured) -> list[str]:
    """Return in one line what a cell prints, if the notebook shows something else.

    IPython prints a last value too. Only a verdict is one.
    """
    shown = "".join(output.text for output in cell.outputs)
    printed = re.sub(" +$", "", captured.stdout, flags=re.M) + captured.stderr
    if printed == shown or "verdict" in cell.metadata.get("tags", []):
        return []
    return [f"{cell.id} shows {shown!r}, and prints {printed!r}"]


def verdicts(path: Path, function: str, start: str) -> dict:
    """Return what is said of stub, solution and each attempt that an exercise lists."""
    exercise = judge.load(path)
    known = judge.known_mistakes(lambda message: None, path, function)
    solution = getattr(exercise, function)
    untouched = {}
    exec(start, untouched)

    def said(candidate, hidden=None):
        verdict = Verdict("lesson")
        judge.judge(exercise, function, candidate, verdict, hidden=hidden)
        diagnosis.advise(verdict, known)
        return verdict

    with in_mode(tree=True):
        in_tree_mode = said(solution)
    return {
        "solution": said(solution),
        "solution in tree mode": in_tree_mode,
        "stub": said(untouched[function]),
        "mistakes": [
            (mistake.__name__, said(mistake, entry["answers"]), entry["says"])
            for mistake, entry in zip(exercise.MISTAKES, known, strict=True)
        ],
        "also_right": [(f.__name__, said(f)) for f in exercise.ALSO_RIGHT],
        "caught": caught(exercise, solution, known),
        "known": known,
    }


def caught(exercise, solution, known: list[dict]) -> list[list[str]]:
    """Return, for each hidden input, the mistakes that no other input shows.

    Args:
      exercise: the module of the exercise.
      solution: its solution.
      known: what `judge.known_mistakes` found: each mistake's answers to hidden inputs.
    """
    shown: list[tuple] = []  # the inputs that the page tries
    exercise.check(lambda *inputs: shown.append(inputs) or solution(*inputs))
    right = judge.answers(exercise.HIDDEN, solution)
    found = [[] for _ in right]
    for mistake, entry in zip(exercise.MISTAKES, known, strict=True):
        pairs = zip(entry["answers"], right, strict=True)
        wrong = [at for at, pair in enumerate(pairs) if not diagnosis.same(*pair)]
        if len(wrong) == 1 and all(
            diagnosis.same(*(judge.answers([case], f) for f in (mistake, solution)))
            for case in shown
        ):
            found[wrong[0]].append(mistake.__name__)
    return found
