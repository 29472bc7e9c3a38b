"""Axes in comments, such as `# x[batch, 3]`: whenever a page runs, the value has them.

A claim belongs to the statement on whose line it stands and is about the value of its
name, or about what is assigned if it has no name. Behind `def` it is about a parameter,
or else about what is returned; behind `return`, about that.
"""

import ast
import contextlib
import dataclasses
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

AXIS = r"(?:[^\W\d]\w*|\d+|\.{3})"
CLAIM = re.compile(rf"(?<![\w\].])(\w[\w.]*)?\[({AXIS}(?:, {AXIS})*)\]")
BARE = {"__builtins__": {}}
UNSEEN = "no value has shown these axes: put them behind the statement that makes it"


@dataclasses.dataclass
class Claim:
    """What one comment says of one value."""

    line: int
    """Where it stands."""
    text: str
    """How it is written."""
    value: str
    """The expression that it is about; empty if it is what a function returns."""
    axes: list[str]
    """Names, sizes, and `...` for any number of axes."""
    lines: range
    """The lines of its statement, without the statements inside it."""
    when: str
    """When its value is there: at a function's "start" or "return", or "after" it."""
    function: tuple[str, int] | None = None
    """Name and first line of the function on whose `def` it stands."""
    seen: bool = False
    """Whether it has been compared with a value."""

    def objection(self, shape: Any, known: dict[str, tuple[int, "Claim"]]) -> str:
        """Return why a shape is not as claimed, empty if it is.

        Axes of one name have one size in a statement of the page, and in one call of a
        function: it is `known`, with the claim that had it first. That one may have
        another size the next time, as in a loop.
        """
        has = f"{self.text} has shape {shape}"
        if not isinstance(shape, tuple):
            return f"{self.text} has no shape"
        at = self.axes.index("...") if "..." in self.axes else len(self.axes)
        names, some = self.axes[:at] + self.axes[at + 1 :], at < len(self.axes)
        if len(shape) < len(names) or (len(shape) > len(names) and not some):
            return has
        for name in [name for name, (_, first) in known.items() if first is self]:
            del known[name]
        fixed = shape[:at] + shape[len(shape) - len(names) + at :]
        for name, size in zip(names, fixed, strict=True):
            if name.isdigit():
                if size != int(name):
                    return has
            elif known.setdefault(name, (size, self))[0] != size:
                return f"{has}, and {name} is {known[name][0]} beside it"
        return ""


def comments(source: str) -> Iterator[tokenize.TokenInfo]:
    """Yield the comments of a program that are no outputs."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("#>"):
            yield token


def header_end(node: ast.stmt) -> int:
    """Return the last line of a statement, without the statements inside it."""
    inner = getattr(node, "body", None)
    return max(node.lineno, inner[0].lineno - 1) if inner else node.end_lineno


def claims(source: str, tree: ast.Module) -> Iterator[Claim]:
    """Yield what the comments behind the statements of a program say of axes."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for token in comments(source):
        line = token.start[0]
        if not token.line[: token.start[1]].strip():
            continue
        for found in CLAIM.finditer(token.string):
            own = [n for n in nodes if n.lineno <= line <= header_end(n)]
            if own:
                yield claim(line, found, own[-1])


def claim(line: int, found: re.Match, node: ast.stmt) -> Claim:
    """Return what a part of a comment behind a statement says."""
    value, axes = found[1] or "", found[2].split(", ")
    lines, function, when = range(node.lineno, header_end(node) + 1), None, "after"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = [n.arg for n in ast.walk(node.args) if isinstance(n, ast.arg)]
        when = "start" if value in arguments else "return"
        first = min(n.lineno for n in [node, *node.decorator_list])
        function = node.name, first
    elif isinstance(node, ast.Return):
        when = "return"
    elif not value and (target := assigned(node)):
        value = ast.unparse(target)
    return Claim(line, found[0], value, axes, lines, when, function)


def assigned(node: ast.stmt) -> ast.expr | None:
    """Return the target of a statement, if it has one."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return targets[0] if len(targets) == 1 else None


class Axes:
    """Compares the values of a script that runs with what its comments say of axes."""

    def __init__(self, source: str, tree: ast.Module):
        self.claims = list(claims(source, tree))
        self.free = list(self.claims)
        self.of: dict[CodeType, list[Claim]] = {}
        # Of each frame: the claims of the statement that runs, the sizes that it knows.
        self.frames: dict[int, tuple[list[Claim], dict]] = {}
        self.wrong: dict[int, str] = {}

    def adopt(self, code: CodeType) -> bool:
        """Return whether a piece of code has claims, which are its own from now on.

        Code comes before the code inside it, such as a generator in a statement.
        """
        lines = {line for _, _, line in code.co_lines()}
        key = code.co_name, code.co_firstlineno
        own = [
            c
            for c in self.free
            if (c.function == key if c.function else lines & set(c.lines))
        ]
        if own:
            self.free = [c for c in self.free if c not in own]
            self.of[code] = own
        return bool(own)

    def start(self, code: CodeType, _offset: int) -> None:
        """Compare the arguments of a function that begins."""
        frame = sys._getframe(1)
        self.frames[id(frame)] = [], {}
        for one in self.of[code]:
            if one.when == "start":
                self.compare(one, frame)

    def line(self, frame: FrameType, line: int) -> None:
        """Compare what the statement has made that ends before this line."""
        entered, _ = self.frames[id(frame)]
        for one in self.of[frame.f_code]:
            if one.when == "after" and one in entered and line not in one.lines:
                entered.remove(one)
                self.compare(one, frame)
            elif line in one.lines and one not in entered:
                entered.append(one)

    def end(self, code: CodeType, _offset: int, value: Any) -> None:
        """Compare what the last statement has made, and what is returned."""
        frame = sys._getframe(1)
        entered, _ = self.frames[id(frame)]
        for one in self.of[code]:
            if one.when == "return" and (one.function or one in entered):
                self.compare(one, frame, value)
            elif one.when == "after" and one in entered:
                self.compare(one, frame)
        del self.frames[id(frame)]

    def compare(self, one: Claim, frame: FrameType, value: Any = None) -> None:
        """Note what is wrong with a claim, given the value that is returned, if any."""
        one.seen = True
        names = BARE if one.when == "return" else frame.f_globals
        with contextlib.suppress(Exception):  # a name without a value has no shape
            value = eval(one.value, names, frame.f_locals)
        _, known = self.frames[id(frame)]
        if why := one.objection(getattr(value, "shape", None), known):
            self.wrong.setdefault(one.line, why)

    def findings(self) -> list[tuple[int, str]]:
        """Return the lines of the comments that are untrue, or shown by nothing."""
        unseen = {one.line: UNSEEN for one in self.claims if not one.seen}
        return sorted({**unseen, **self.wrong}.items())
