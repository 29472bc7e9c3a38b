"""Damages to a page, each of which makes it say what is not so.

Plain pytest-examples passes each of them, or never looks at it. `tests/test_guards.py`
tries them on the smallest page, `tests/test_proof.py` on every page that there is.
"""

import ast
import io
import itertools
import random
import re
import tokenize
from collections.abc import Callable
from pathlib import Path

from tools.gate.axes import CLAIM, comments
from tools.gate.comments import code_of
from tools.gate.pages import read_blocks
from tools.gate.prose import numbers, sections
from tools.gate.run_page import output_lines

# Code that a reader sees and nobody would run; the second line holds it.
UNSEEN = {
    "tildes": "\n~~~python\nprint(1)\n~~~\n",
    "four backticks": "\n````python\nprint(1)\n````\n",
    "attributes": "\n``` { .python .annotate }\nprint(1)\n```\n",
    "braces": "\n```{python}\nprint(1)\n```\n",
    "no kind": "\n```\nprint(1)\n```\n",
    "short kind": "\n```py\nprint(1)\n```\n",
    "upper case": "\n```Python\nprint(1)\n```\n",
    "jupyter": "\n```jupyter\nprint(1)\n```\n",
    "doctest": "\n```pycon\n>>> print(1)\n1\n```\n",
    "prompt": "\n```console\n>>> print(1)\n1\n```\n",
    "text": "\n```text\nimport jax\n```\n",
    "skip": '\n```python {test="skip"}\nprint(1)\n```\n',
    "on a bullet": "\n- ```python\n  print(1)\n  ```\n",
    "in a quotation": "\n> ```python\n> print(1)\n> ```\n",
    "inline": "\nSee ```print(1)``` here.\n",
    "never closed": "\n```python\nprint(1)\n",
    "closed elsewhere": "\n  ```python\n  print(1)\n```\n",
    "tab": "\n\t```python\n\tprint(1)\n\t```\n",
    "pre": "\n<pre>print(1)</pre>\n",
    "indented": "\n    print(1)\n",
    "tab without a tab's title": "\n=== NNX\n\n    ```python\n    print(1)\n    ```\n",
    "capital tag": "\n<PRE>print(1)</PRE>\n",
    "code tag": "\n<code>import jax<br>print(1)</code>\n",
    "details tag": "\n<details>\nText.\n</details>\n",
    "hidden": "\n<div hidden markdown>\n\n```python\nprint(1)\n```\n\n</div>\n",
    "open comment": "\n<!--\n\n```python\nprint(1)\n```\n\nText.\n",
    "bare prompt": "\n>>> print(1)\n1\n",
    "bare statements": "\nimport jax\nprint(1)\n",
    "bare output": "\n#> 1\n",
    "console with output": "\n```console\nmake test\n12 passed\n```\n",
    "title": '\n```python title="page.py"\nprint(1)\n```\n',
    "no statement": "\n```python\n# print(1)\n```\n",
    "string": '\n```python\nprint(1)\n#> 1\n"""\n2\n"""\n```\n',
    "prompt in a string": '\n```python\nx = """\n>>> 1 + 1\n3\n"""\n```\n',
    "control character": '\n```python\nx = "\x0c"\n```\n',
    "silenced": '\n```python\nimport warnings\nwarnings.simplefilter("ignore")\n```\n',
    "comment": "\n<!--\n```python\nprint(1)\n```\n-->\n",
    "snippet and code": '\n```python\n--8<-- "course/_template/exercise.py"\n1\n```\n',
}

# Outputs that a reader sees and no print made: (block, what the message must name).
UNTRUE = {
    "another digit": ("print(10)\n#> 11\n", "#> 10"),
    "a line missing": ("print(1)\nprint(2)\n#> 2\n", "#> 1"),
    "a line too many": ("print(1)\n#> 1\n#> 1\n", "got:   nothing"),
    "swapped": ("print(1)\n#> 2\nprint(2)\n#> 1\n", "#> 1"),
    "print removed": ("x = 1\n#> 1\n", "got:   nothing"),
    "after an expression": ("1 + 1\n#> 2\n", "got:   nothing"),
    "at the top": ("#> 7\nprint(1)\n#> 1\n", "got:   nothing"),
    "never entered": ("if False:\n    print(1)\n    #> 1\n", "got:   nothing"),
    "never called": ("def f():\n    print(1)\n    #> 1\n", "got:   nothing"),
    "never raised": (
        "try:\n    x = 1\nexcept ValueError:\n    print(1)\n    #> 1\n",
        "got:   nothing",
    ),
    "second run of lines": ("print(1)\n#> 1\n\n#> 2\n", "got:   nothing"),
    "reformatted": (
        "import numpy as np\n\nprint(np.ones((2, 1)))\n#> [[1.0][1.0]]\n",
        "#> [[1.]",
    ),
    "sorted set": ('print({"b": 1, "a": 2})\n#> {"a": 2, "b": 1}\n', "#> {'b': 1"),
    "a loop": ("for i in range(2):\n    print(i)\n#> 0\n#> 2\n", "#> 1"),
    "a saved stdout": (
        'import sys\n\nout = sys.stdout\n_ = out.write("a\\n")\n',
        "#> a",
    ),
    "a subprocess": ('import os\n\n_ = os.system("echo a")\n', "#> a"),
    "a descriptor": ('import os\n\n_ = os.write(1, b"a\\n")\n', "#> a"),
    "a debugging print": ('import jax\n\njax.debug.print("a {}", 1)\n', "#> a 1"),
    "stdout": ('import sys\n\n_ = sys.stdout.write("a\\n")\n#> b\n', "#> a"),
    "a lost stdout": (
        "import io\nimport sys\n\nsys.stdout = io.StringIO()\nprint(2)\n#> 2\n",
        "got:   nothing",
    ),
}

# Outputs in a form that no page can show; the run ends there.
UNSHOWN = {
    "another arrow": ("print(1)\n# > 1\n", "starts with #>"),
    "a value in a comment": ("x = 2\nx + 1  # 3\n", "starts with #>"),
    "a shape in a comment": ("x = (4, 4)\nx  # (5, 5)\n", "starts with #>"),
    "an array in a comment": ("x = 1\n# [1. 2.]\n", "starts with #>"),
    "output in a comment": ("x = 1\n# Output: 2\n", "starts with #>"),
    "behind the code": ("print(1)  #> 1\n", "line of its own"),
    "at the end": (
        'import atexit\n\n_ = atexit.register(print, "a")\n',
        "after the last",
    ),
    "a late thread": (
        "import threading\nimport time\n\n\ndef late():\n    time.sleep(0.2)\n"
        "    print(1)\n\n\nthreading.Thread(target=late).start()\n",
        "after the last",
    ),
    "a tab": ('print("a\\tb")\n', "control characters"),
    "a fence": ('print("`" * 3)\n', "cannot show this output"),
    "inside a string": ('print(1); x = """a\nb"""\n', "one statement a line"),
    "a backslash": ("x = 1 \\\n#> 1\ny = 2\n", "without a backslash"),
    "no end of line": ('print(1, end="")\n#> 1\n', "without ending the line"),
}

# Statements that a reader takes for true, and that nothing has executed.
IDLE = {
    "never called": "def f():\n    return undefined\n",
    "if False": "if False:\n    undefined()\n",
    "never entered": "try:\n    x = 1\nexcept ValueError:\n    undefined()\n",
    "never raised": (
        "from contextlib import suppress\n\nwith suppress(NameError):\n"
        "    undefined()\n    print(1)\n"
    ),
    "a warning caught": (
        "import warnings\n\ntry:\n    x = 1\nexcept DeprecationWarning:\n    x = 2\n"
    ),
    "another name": 'if __name__ == "main":\n    undefined()\n',
    "an empty loop": "for i in []:\n    undefined()\n",
    "after a return": "def f():\n    return 1\n    undefined()\n\n\nf()\n",
}

# Comments that a reader takes for true, and that no output shows.
CLAIMED = {
    "an error": ("x = 1  # raises ValueError\n", "ValueError"),
    "another error": (
        "try:\n    [].pop()  # ValueError\nexcept IndexError as error:\n"
        "    print(type(error).__name__)\n#> IndexError\n",
        "ValueError",
    ),
    "an error without a name": ("x = 1  # fails\nprint(x)\n#> 1\n", "fails"),
    "an error of another line": (
        "try:\n    x = 1  # fails\n    [].pop()\nexcept IndexError as error:\n"
        "    print(error)\n#> pop from empty list\n",
        "fails",
    ),
    "a warning": ("x = 1  # warns, it is deprecated\n", "warns"),
    "a shape": ("y = (2, 3)\nsize = (3, 2)\n# y is (3, 2)\n", "(3, 2)"),
    "a shape of its statement": ("y = (3, 2)[::-1]  # y is (3, 2)\n", "(3, 2)"),
    "a shape above": (
        "print((3, 2))\n#> (3, 2)\ny = (2, 3)  # (3, 2) once more\nprint(y)\n"
        "#> (2, 3)\n",
        "(3, 2)",
    ),
    "a shape further below": (
        "# y is (3, 2)\ny = (2, 3)\nprint(y)\n#> (2, 3)\nprint((3, 2))\n#> (3, 2)\n",
        "(3, 2)",
    ),
    "a product": ("y = (2, 3)  # 3 x 2\n", "3 x 2"),
    "a dtype": (
        "import numpy as np\n\nx = np.ones(2, np.int8)  # in float16\nprint(x.dtype)\n"
        "#> int8\n",
        "float16",
    ),
    "a dtype of its statement": (
        "import numpy as np\n\nx = np.ones(2, np.int8) * 1.0  # x is int8\n",
        "int8",
    ),
    "a truth value": ("x = 1 > 2  # so x is True\nprint(x)\n#> False\n", "True"),
    "a number": ("x = 2 * 3\nprint(x)  # not 7\n#> 6\n", "7"),
    "a number in words": ("x = [1, 2]  # seven of them\n", "seven"),
    "a number of its statement": ("x = 4 / 2  # x is 4\n", "4"),
    "an outcome": ("x = [1]\ny = x  # the same list\n", "same"),
    "brackets": ("x = [2, 2]  # x is [1, -1]\n", "brackets are for axes"),
    "axes above a statement": (
        "import numpy as np\n\n# x[rows]\nx = np.ones(2)\n",
        "brackets are for axes",
    ),
    "axes at the top of a function": (
        "import numpy as np\n\n\ndef f(x):\n    # x[rows]\n    return x\n\n\n"
        "_ = f(np.ones((2, 3)))\n",
        "brackets are for axes",
    ),
    "axes missing": (
        "import numpy as np\n\nx = np.ones((2, 3))  # x[rows]\n",
        "has shape (2, 3)",
    ),
    "axes too many": (
        "import numpy as np\n\nx = np.ones(2)  # [rows, columns]\n",
        "has shape (2,)",
    ),
    "fewer than at least": (
        "import numpy as np\n\nx = np.ones(2)  # x[rows, ..., columns]\n",
        "has shape (2,)",
    ),
    "an axis of another size": (
        "import numpy as np\n\nx = np.ones((2, 3))  # x[rows, 2]\n",
        "has shape (2, 3)",
    ),
    "two sizes of one name": (
        "import numpy as np\n\nx = np.ones((2, 3))  # x[..., side, side]\n",
        "side is 2 beside it",
    ),
    "another size than beside it": (
        "import numpy as np\n\n\ndef f(x, y):  # x[items], y[items]\n"
        "    return x, y\n\n\n_ = f(np.ones(2), np.ones(3))\n",
        "items is 2 beside it",
    ),
    "axes of a number": ("x = 1  # x[rows]\n", "has no shape"),
    "axes of nothing": ("x = 1  # no_such_name[rows]\n", "has no shape"),
    "axes of what nobody keeps": ("print(1)  # [rows]\n#> 1\n", "has no shape"),
    "axes that never come": (
        "def f():  # gives [rows]\n    [].pop()\n\n\ntry:\n    f()\n"
        "except IndexError as error:\n    print(error)\n#> pop from empty list\n",
        "no value has shown",
    ),
    "axes of an argument": (
        "import numpy as np\n\n\ndef f(x):  # x[rows, columns]\n    return x\n\n\n"
        "_ = f(np.ones((1, 2)))\n_ = f(np.ones(2))\n",
        "has shape (2,)",
    ),
    "axes that a function gives": (
        "import numpy as np\n\n\n@np.vectorize\ndef f(x):  # gives [rows]\n"
        "    return x\n\n\n_ = f(np.ones(2))\n",
        "[rows] has shape ()",
    ),
    "axes behind a return": (
        "import numpy as np\n\n\ndef f(n):\n    x = np.ones((n, n))\n"
        "    if n > 1:\n        return x  # y[columns]\n    return x  # x[rows, 1]\n"
        "\n\n_ = f(1), f(2)\n",
        "y[columns] has shape (2, 2)",
    ),
    "axes in a function": (
        "import numpy as np\n\n\nclass Sum:\n    def of(self, x):\n"
        "        total = x.sum()  # total[columns]\n        return total\n\n\n"
        "_ = Sum().of(np.ones((2, 3)))\n",
        "has shape ()",
    ),
    "axes in a loop": (
        "import numpy as np\n\nfor x in (np.ones(1), np.ones((1, 1))):\n"
        "    y = 2 * x  # y[places]\n",
        "has shape (1, 1)",
    ),
    "axes of a loop": (
        "import numpy as np\n\nfor x in np.ones((2, 3)):  # x[rows, columns]\n"
        "    y = x\n",
        "has shape (3,)",
    ),
    "axes beside a generator": (
        "import numpy as np\n\nx = sum(row for row in np.ones((2, 3)))  # x[1]\n",
        "has shape (3,)",
    ),
    "axes of a part": (
        "import numpy as np\n\nparts = {}\nparts['x'] = np.ones(2)  # [rows, 2]\n",
        "has shape (2,)",
    ),
}

# Blocks that end as no reader expects.
UNSOUND = {
    "raises": ("x = 1\n1 / 0\n", "ZeroDivisionError"),
    "wrong syntax": ("x = = 1\n", "SyntaxError"),
    "warns": (
        'import warnings\n\nwarnings.warn("old", DeprecationWarning)\n',
        "DeprecationWarning",
    ),
    "deprecated in flax": (
        "import jax.numpy as jnp\nfrom flax import nnx\n\n"
        "x = nnx.Param(jnp.ones(2)).value\n",
        "DeprecationWarning",
    ),
    "warns where errors are caught": (
        "import warnings\n\ntry:\n"
        '    warnings.warn("old", DeprecationWarning)\nexcept Exception as error:\n'
        "    print(error)\n#> old\n",
        "DeprecationWarning",
    ),
    "stderr": ('import sys\n\n_ = sys.stderr.write("a\\n")\n', "stderr"),
    "the project": ("from tools.gate.pages import ROOT\n", "No module named 'tools'"),
    "a logger": ('import logging\n\nlogging.warning("a")\n', "stderr"),
    "never awaited": (
        "async def f():\n    return 1\n\n\nc = f()\n",
        "never awaited",
    ),
    "a late future": ("x = 1\nfrom __future__ import annotations\n", "SyntaxError"),
    "skips": ('import pytest\n\npytest.skip("later")\n', "Skipped"),
    "exits": ("raise SystemExit(0)\n", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "leaves": ("import os\n\nos._exit(0)\n", "ended by itself"),
}

# Of these, what shows only when the script has ended. Some name its last line.
LATE = ["at the end", "a late thread", "a fence", "inside a string", "never awaited"]

# Changes to a block that make its page untrue. Each takes the block's lines, and the
# numbers, from 0, of those that show an output. It returns other lines, or None if it
# finds nothing to change.


def other_digit(line: str) -> str:
    """Return the line with another last digit, if it has one."""
    return re.sub(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), line)


def change_digit(lines: list[str], outputs: list[int]) -> list[str] | None:
    """Change a digit of the last output that has one."""
    for at in reversed(outputs):
        if (changed := other_digit(lines[at])) != lines[at]:
            return [*lines[:at], changed, *lines[at + 1 :]]
    return None


def delete_output(lines: list[str], outputs: list[int]) -> list[str] | None:
    """Delete the last output line."""
    return [*lines[: outputs[-1]], *lines[outputs[-1] + 1 :]] if outputs else None


def swap_outputs(lines: list[str], outputs: list[int]) -> list[str] | None:
    """Swap the first two outputs that differ."""
    for one, other in itertools.pairwise(outputs):
        if lines[one] != lines[other]:
            swapped = list(lines)
            swapped[one], swapped[other] = lines[other], lines[one]
            return swapped
    return None


def add_output(lines: list[str], outputs: list[int]) -> list[str] | None:
    """Add an output below the last line."""
    return [*lines, "#> 1"]


def remove_print(lines: list[str], outputs: list[int]) -> list[str] | None:
    """Put another statement in place of the last one that prints; leave its output."""
    nodes = ast.walk(ast.parse("\n".join(lines)))
    prints = [n for n in nodes if isinstance(n, ast.Expr) and is_print(n.value)]
    if not prints or not outputs:
        return None
    last = max(prints, key=lambda node: node.lineno)
    kept = " " * last.col_offset + "pass"
    return [*lines[: last.lineno - 1], kept, *lines[last.end_lineno :]]


def is_print(node: ast.expr) -> bool:
    """Return whether an expression calls `print`."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "print"


MUTATIONS = {
    "a digit of an output": change_digit,
    "an output line deleted": delete_output,
    "two outputs swapped": swap_outputs,
    "a stale #> added where nothing prints": add_output,
    "the print removed, its #> left": remove_print,
}


def mutate(path: Path, target: Path, mutation: Callable) -> list[int]:
    """Write a copy of a page with a change in every block; return which have one."""
    lines, changed = ["", *path.read_text("utf-8").split("\n")], []
    for at, block in reversed(list(enumerate(read_blocks(path)))):
        source = block.source.removesuffix("\n").split("\n")
        outputs = [number - 1 for number in sorted(output_lines(block))]
        other = None if block.snippet else mutation(source, outputs)
        if other:
            first = block.example.start_line + 1
            indent = " " * block.example.indent
            lines[first : first + len(source)] = [indent + line for line in other]
            changed.append(at)
    target.write_text("\n".join(lines[1:]), "utf-8")
    return changed


def change_code(path: Path, target: Path, seed: int) -> None:
    """Write a copy with another digit in one number of the code, chosen at random."""
    places = []
    for block in read_blocks(path):
        lines = io.StringIO("" if block.snippet else block.source)
        for token in tokenize.generate_tokens(lines.readline):
            if token.type == tokenize.NUMBER:
                places.append((block.example, token))
    example, token = random.Random(seed).choice(places)
    lines = ["", *path.read_text("utf-8").split("\n")]
    row, column = example.start_line + token.start[0], example.indent + token.start[1]
    line, end = lines[row], column + len(token.string)
    lines[row] = line[:column] + other_digit(token.string) + line[end:]
    target.write_text("\n".join(lines[1:]), "utf-8")


def change_text(path: Path, target: Path) -> list[int]:
    """Write a copy with another first number in each section; return their lines."""
    lines, changed = ["", *path.read_text("utf-8").split("\n")], []
    for start, text, _ in sections(path, read_blocks(path)):
        for line, written, _ in itertools.islice(numbers(text), 1):
            lines[start + line] = lines[start + line].replace(written, "8675309")
            changed.append(start + line)
    target.write_text("\n".join(lines[1:]), "utf-8")
    return changed


def change_comments(path: Path, target: Path) -> list[int]:
    """Write a copy with another claim in each comment; return their lines."""
    lines, changed = ["", *path.read_text("utf-8").split("\n")], []
    for block in read_blocks(path):
        for token in [] if block.snippet else comments(code_of(block)):
            at = block.example.start_line + token.start[0]
            code = lines[at].removesuffix(token.string)
            axes = CLAIM.sub(r"\1[a, b, c, d, e, f, \2]", token.string)
            untrue = axes if axes != token.string else f"{axes}, of 8675309"
            lines[at] = code + untrue
            changed.append(at)
    target.write_text("\n".join(lines[1:]), "utf-8")
    return changed
