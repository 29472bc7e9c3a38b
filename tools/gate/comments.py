"""Comments in the code of a page: what one claims, an output right below it shows.

Nobody runs a comment. One that says why claims nothing. One that says what happens has
to go, unless what is printed below it says the same. `tools/gate/axes.py` checks axes.
"""

import ast
import re
from collections.abc import Iterator

from tools.gate.axes import CLAIM, comments, header_end
from tools.gate.pages import Block
from tools.gate.prose import NUMBER, numbers, shown_by

# A value of code: a number, a dtype, a truth value.
VALUE = r"\b(?:u?int\d+|b?float\d\w*|complex\d+|bool|True|False|None)\b"
# What only an output can show: tuples and products of numbers; names of errors and
# warnings; a value that something is said to be.
RESULT = re.compile(
    r"\(-?\d[-\d., e]*,[-\d., e]*\)|\b\d+ ?[x×] ?\d+\b"
    r"|\b\w*(?:Error|Warning|Exception)\b"
    r"|(?:(?i:\b(?:is|are|has|have|gives?|makes?|becomes?|holds?|equals?))|=)"
    rf" (?P<value>-?(?:{VALUE}|(?i:{NUMBER.pattern})))"
)
# Words for a statement that does not end quietly.
ENDS = re.compile(
    r"\b(?:rais(?:es?|ed|ing)|throws?|fail(?:s|ed|ing|ures?)?|warn(?:s|ed|ings?)?"
    r"|errors?|crash(?:es|ed)?|refuse[sd]?|reject(?:s|ed)?|deprecated|illegal"
    r"|forbidden|cannot|can.t|impossible)\b",
    re.I,
)
# Words for what comes out.
OUTCOME = re.compile(
    r"\b(?:prints?|returns?|yields?|results?|equals?|identical|same|differs?|different"
    r"|unchanged|nothing|no (?:change|copy|effect))\b",
    re.I,
)
# A text cell of a program, and the line that begins a cell of code.
CELL = re.compile(
    r"^# %%(?: \[markdown\].*?(?=^# %%(?! \[markdown\])|\Z)|[^\n]*)", re.M | re.S
)
BRACKETS = (
    "in a comment, brackets are for axes behind the statement that makes the value, "
    "such as x[batch, 3]"
)
UNSHOWN = 'no output below this comment shows "{}": print it, or take it out'


def code_of(block: Block) -> str:
    """Return the source of a block, with the text cells of a program left blank."""
    if block.example.path.suffix != ".py":
        return block.source
    return CELL.sub(lambda cell: re.sub(".", " ", cell[0]), block.source)


def claims(block: Block, outputs: set[int]) -> Iterator[tuple[int, str]]:
    """Yield line and reason of each comment that claims what its block does not show.

    Args:
      block: the block. One that is included prints nothing: words of outcome in it are
        about answers that others give.
      outputs: the numbers of its lines that show an output.
    """
    source = code_of(block)
    tree, below = ast.parse(source), following(block.source.split("\n"), outputs)
    sure = endings(tree)
    for token in comments(source):
        line, text = token.start[0], re.sub(r"`|\(\d+\)!", "", token.string)
        alone = not token.line[: token.start[1]].strip()
        node, behind = statement(tree, line, alone)
        rest = CLAIM.sub("", text)
        if "[" in rest or (rest != text and not behind):
            yield line, BRACKETS
            continue
        code = ast.unparse(node) if node else ""
        found = unshown(rest, code, below[line])
        if not (below[line] and {line, node.lineno if node else 0} & sure):
            found += [word[0] for word in ENDS.finditer(rest)]
        if not (below[line] or block.snippet):
            found += [word[0] for word in OUTCOME.finditer(rest)]
        if found:
            yield line, UNSHOWN.format(found[0])


def unshown(text: str, code: str, printed: str) -> list[str]:
    """Return the values in a comment that neither its statement nor an output shows."""
    found = []
    for result in RESULT.finditer(text):
        said = result["value"] or result[0]
        number = next(numbers(result["value"] or ""), None)
        if not (number[2] in shown_by(printed) if number else said in printed):
            found.append(said)
    shown = shown_by(printed) | shown_by(code)
    found += [word for word in re.findall(VALUE, text) if word not in code + printed]
    return found + [said for _, said, value in numbers(text) if value not in shown]


def following(lines: list[str], outputs: set[int]) -> list[str]:
    """Return, for each line number, the outputs that come next, in the same cell.

    They touch each other: what is further below is about something else.
    """
    below, texts = "", [""] * (len(lines) + 1)
    for number in range(len(lines), 0, -1):
        texts[number] = below
        if lines[number - 1].startswith("# %%"):
            below = ""
        if number in outputs:
            below = lines[number - 1] + "\n" + (below if number + 1 in outputs else "")
    return texts


def statement(tree: ast.Module, line: int, alone: bool) -> tuple[ast.stmt | None, bool]:
    """Return the statement that a comment is about, and whether it stands behind it.

    One that has a line for itself is about the statement around it, or the next one.
    """
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    own = [node for node in nodes if node.lineno <= line <= header_end(node)]
    if alone:
        own = [node for node in own if not hasattr(node, "body")]
    after = [node for node in nodes if node.lineno > line]
    first = min(after, key=lambda node: node.lineno, default=None)
    return (own[-1], not alone) if own else (first, False)


def endings(tree: ast.Module) -> set[int]:
    """Return the lines on which something is known to raise or to warn.

    Every line of a block runs. So what catches an error has caught one, which the last
    statement under `try` has raised.
    """
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and node.handlers:
            end = node.handlers[-1].end_lineno
            lines |= {node.lineno, *range(node.body[-1].lineno, end + 1)}
        elif isinstance(node, ast.With) and "catch_warnings" in ast.unparse(node):
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines
