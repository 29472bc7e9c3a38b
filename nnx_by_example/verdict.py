"""What a check says about an attempt, for people and for machines."""

import dataclasses
import io

STAGES = (
    "the file loads",
    "the function is there",
    "it runs",
    "the answers are right",
    "the idea is there",
)
LOADS, THERE, RUNS, ANSWERS, IDEA = STAGES

MAX_OUTPUT = 500  # characters, by the specification of Exercism
MAX_COLUMNS = 200  # of a line that is shown
CUT = "\nOutput was truncated. Please limit to 500 chars"


@dataclasses.dataclass
class Verdict:
    """The first thing that is wrong with an attempt, or that nothing is."""

    lesson: str
    """The name of the lesson."""
    stage: str | None = None
    """The first stage that failed, or None if all passed."""
    message: str = ""
    """What was expected and what happened; several lines."""
    line: tuple[int, str] | None = None
    """The learner's own line that it comes from: number and text."""
    file: str = ""
    """The learner's file, as it was given."""
    folded: int = 0
    """How many frames outside the learner's file are not shown."""
    advice: str = ""
    """The one next step."""
    note: str = ""
    """A warning that the learner's own code caused, such as of a deprecated call."""
    output: str = ""
    """What the learner's code printed, in the call that decided."""
    answers: list = dataclasses.field(default_factory=list)
    """What the attempt gave on the hidden inputs, as `diagnosis.describe` writes it."""

    @property
    def passed(self) -> bool:
        """Return whether nothing is wrong."""
        return self.stage is None

    @property
    def code(self) -> str:
        """Return the learner's own line as it is shown: not indented, not too long."""
        return self.line[1].strip()[:MAX_COLUMNS] if self.line else ""

    def text(self) -> str:
        """Return all that there is to say, as plain lines."""
        parts = [self.message]
        if self.line:
            parts.append(f"{self.file}:{self.line[0]}: {self.code}")
        if self.advice:
            parts.append(f"Next: {self.advice}")
        if self.note:
            parts.append(f"Note: {self.note}")
        return "\n".join(parts)


def lines_of(source: bytes) -> list[str]:
    """Return the lines of a learner's file, cut where Python cuts them."""
    text = io.TextIOWrapper(io.BytesIO(source), "utf-8-sig", errors="replace")
    return text.readlines()


def exercism(verdict: Verdict, function: str) -> dict:
    """Return the verdict as version 3 of what an Exercism test runner writes.

    The stages are its tests. Those after the first failure have not run: left out.
    Source: https://exercism.org/docs/building/tooling/test-runners/interface
    """
    done = STAGES if verdict.passed else STAGES[: STAGES.index(verdict.stage) + 1]
    tests = [{"name": name, "status": "pass", "test_code": function} for name in done]
    never_ran = verdict.stage in (LOADS, THERE)
    if not verdict.passed:
        status = "fail" if verdict.stage in (ANSWERS, IDEA) else "error"
        tests[-1].update(status=status, message=verdict.text())
    if verdict.output:
        output = verdict.output
        if len(output) > MAX_OUTPUT:
            output = output[: MAX_OUTPUT - len(CUT)] + CUT
        tests[-1]["output"] = output
    if never_ran:
        return result("error", tests, verdict.text())
    return result("pass" if verdict.passed else "fail", tests)


def result(status: str, tests: list[dict], message: str | None = None) -> dict:
    """Return what an Exercism test runner writes, version 3.

    Args:
      status: "pass", "fail", or "error" where nothing could be run.
      tests: the tests that were run, in their order.
      message: what went wrong where nothing could be run.
    """
    return {"version": 3, "status": status, "message": message, "tests": tests}
