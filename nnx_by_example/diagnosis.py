"""Names a mistake by its answers: equal answers on hidden inputs get the same message.

Answers are compared as descriptions, plain data that travels between processes and lies
in the cache, so that the mistakes of a lesson are run once for each of its states.
"""

import math
import re

from nnx_by_example.verdict import IDEA, Verdict

MAX_VALUES = 1_000  # an answer with more is none that an exercise asks for
CLASS = r"<class '[^']*\.[^']*'>"  # of a module: learners name theirs as they like


def describe(answer) -> dict:
    """Return an answer, or the error that came instead, as plain data."""
    try:
        if isinstance(answer, BaseException):
            text = (str(answer).splitlines() or [""])[0]
            text = re.sub(CLASS, "<class>", text)
            return {"kind": type(answer).__name__, "text": text}
        if isinstance(answer, list | tuple):
            items = [describe(item) for item in answer[:MAX_VALUES]]
            return {"kind": type(answer).__name__, "items": items}
        import numpy as np  # here, so that the command starts without it

        array = np.asarray(answer)
        kind = {"b": "bool", "i": "int", "u": "int", "f": "float", "V": "float"}
        values = array.ravel()[:MAX_VALUES].astype(float).tolist()
        return {
            "kind": kind[array.dtype.kind],
            "shape": [*array.shape],
            "values": values,
        }
    except Exception:  # whatever a learner returns: it has no numbers to compare
        return {"kind": type(answer).__name__}


def same(one, other) -> bool:
    """Return whether two descriptions agree, numbers within float32's rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        close = math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-5)
        return close or (math.isnan(one) and math.isnan(other))
    return one == other


def advise(verdict: Verdict, known: list[dict]) -> None:
    """Put the message of the known mistake with the same answers into the verdict.

    Args:
      verdict: that of an attempt that failed.
      known: what `judge.known_mistakes` found.
    """
    idea = verdict.message if verdict.stage == IDEA else None
    for mistake in known:
        if mistake["idea"] == idea and same(mistake["answers"], verdict.answers):
            verdict.advice = mistake["says"]
            return
