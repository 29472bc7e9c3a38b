"""The guards themselves: pages are broken on purpose, and each break is seen.

Every case is a page that plain pytest-examples passes or never looks at.
"""

import re

import pytest

from tests.pages import PageError, all_pages, read_blocks
from tests.process import in_process
from tests.run_page import differences, run_page
from tools import hooks

GOOD = '```python\nx = 2\nprint("x is", x)\n#> x is 2\n```\n'

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
    "a line too many": ("print(1)\n#> 1\n#> 1\n", "nothing more"),
    "swapped": ("print(1)\n#> 2\nprint(2)\n#> 1\n", "#> 1"),
    "print removed": ("x = 1\n#> 1\n", "nothing more"),
    "after an expression": ("1 + 1\n#> 2\n", "nothing more"),
    "at the top": ("#> 1\nprint(1)\n#> 1\n", "print(1)"),
    "another arrow": ("print(1)\n# > 1\n", "starts with #>"),
    "a value in a comment": ("x = 2\nx + 1  # 3\n", "starts with #>"),
    "a shape in a comment": ("x = (4, 4)\nx  # (5, 5)\n", "starts with #>"),
    "an array in a comment": ("x = 1\n# [1. 2.]\n", "starts with #>"),
    "output in a comment": ("x = 1\n# Output: 2\n", "starts with #>"),
    "behind the code": ("print(1)  #> 1\n", "line of its own"),
    "never entered": ("if False:\n    print(1)\n    #> 1\n", "nothing more"),
    "never called": ("def f():\n    print(1)\n    #> 1\n", "nothing more"),
    "never raised": (
        "try:\n    x = 1\nexcept ValueError:\n    print(1)\n    #> 1\n",
        "nothing more",
    ),
    "second run of lines": ("print(1)\n#> 1\n\n#> 2\n", "nothing more"),
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
    "a lost stdout": (
        "import io\nimport sys\n\nsys.stdout = io.StringIO()\nprint(2)\n#> 2\n",
        "nothing more",
    ),
    "a subprocess": ('import os\n\n_ = os.system("echo a")\n', "#> a"),
    "a descriptor": ('import os\n\n_ = os.write(1, b"a\\n")\n', "#> a"),
    "a debugging print": ('import jax\n\njax.debug.print("a {}", 1)\n', "#> a 1"),
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
    "stdout": ('import sys\n\n_ = sys.stdout.write("a\\n")\n#> b\n', "#> a"),
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
    "the project": ("from tests.pages import ROOT\n", "No module named 'tests'"),
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


def write(folder, *blocks, name="page.md"):
    """Return a page of these blocks; each starts two lines below the one before."""
    path = folder / name
    path.write_text("\n".join(f"```python\n{block}```\n" for block in blocks))
    return path


def wrong(path):
    """Return what the doc-tests say of a page."""
    return "\n".join(differences(*run_page(path)))


def test_a_good_page_passes(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(GOOD)
    assert not wrong(path)


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
def test_code_that_nobody_runs_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(GOOD + "\nText.\n" + text)
    with pytest.raises(PageError, match=r"page\.md"):
        read_blocks(path)


def test_the_message_names_the_line_and_what_to_write(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("Text.\n\n~~~python\nprint(1)\n~~~\n")
    with pytest.raises(PageError, match=r"page\.md:3: .*three backticks"):
        read_blocks(path)


@pytest.mark.parametrize(("block", "named"), UNTRUE.values(), ids=UNTRUE)
def test_an_untrue_output_is_seen(tmp_path, block, named):
    assert named in wrong(write(tmp_path, block))


@pytest.mark.parametrize("block", IDLE.values(), ids=IDLE)
def test_code_that_never_runs_is_seen(tmp_path, block):
    assert re.search(
        r"page\.md:\d+: this line never runs", wrong(write(tmp_path, block))
    )


def test_every_kind_of_statement_can_run(tmp_path):
    block = (
        "import functools\nfrom dataclasses import dataclass\n\n\n@dataclass\n"
        'class Layer:\n    """A layer."""\n\n    size: int\n    name: str = "a"\n\n'
        "    @functools.cached_property\n    def double(self):\n"
        '        """Return a sum."""\n        global calls\n        calls = 1\n'
        "        try:\n            total = sum(\n                [\n"
        "                    self.size,\n                    self.size,\n"
        "                ]\n            )\n        finally:\n            pass\n"
        "        return (\n            total\n        )\n\n\n"
        "for n in range(3):\n    if n == 0:\n        continue\n    elif n == 1:\n"
        "        print(Layer(n).double, calls)\n    else:\n        break\n#> 2 1\n"
        "with open(__file__) as file:\n    file.read()\n"
    )
    assert not wrong(write(tmp_path, block))


@pytest.mark.parametrize(("block", "named"), UNSOUND.values(), ids=UNSOUND)
def test_a_block_that_ends_badly_is_seen(tmp_path, block, named):
    assert named in wrong(write(tmp_path, block))


def test_an_untrue_output_is_named_with_its_line(tmp_path):
    message = wrong(write(tmp_path, "x = 1\n", "print(x)\n#> 2\n"))
    assert "page.md:7:" in message
    assert "shown: #> 2" in message
    assert "got:   #> 1" in message


def test_an_error_is_named_with_its_line(tmp_path):
    message = wrong(write(tmp_path, "x = 1\n", "y = 1\nz = x / 0\n"))
    assert "page.md:7, in <module>" in message


def test_the_blocks_of_a_page_are_one_program(tmp_path):
    blocks = (
        "factor = 1\n\n\ndef scaled(x):\n    return factor * x\n",
        "factor = 3\nprint(scaled(2), __name__)\n#> 6 __main__\n",
    )
    assert not wrong(write(tmp_path, *blocks))


def test_a_page_leaves_nothing_behind_for_the_next(tmp_path):
    first = write(
        tmp_path,
        "import jax\nimport numpy as np\n\nnp.set_printoptions(precision=1)\n"
        'jax.config.update("jax_enable_x64", True)\nnp.left_behind = 1\n',
        name="first.md",
    )
    second = write(
        tmp_path,
        "import jax.numpy as jnp\nimport numpy as np\n\n"
        'print(jnp.array([1.234567]), hasattr(np, "left_behind"))\n'
        "#> [1.234567] False\n",
        name="second.md",
    )
    assert not wrong(first)
    assert not wrong(second)


def test_what_python_prints_is_what_a_page_shows(tmp_path):
    block = (
        "import numpy as np\n\n\ndef table():\n    for row in np.eye(2):\n"
        "        print(row)\n    print()\n\n\ntable()\n#> [1. 0.]\n#> [0. 1.]\n#>\n"
        "print(np.ones((2, 1)))\n#> [[1.]\n#>  [1.]]\n"
    )
    assert not wrong(write(tmp_path, block))


def test_a_future_import_holds_for_the_whole_page(tmp_path):
    blocks = (
        "from __future__ import annotations\n\nx = 1\n",
        "def f(x: int):\n    return x\n\n\n"
        "print(f(1), f.__annotations__)\n#> 1 {'x': 'int'}\n",
    )
    assert not wrong(write(tmp_path, *blocks))


def test_the_source_of_a_class_is_the_one_on_the_page(tmp_path):
    blocks = (
        "import inspect\n\n\nclass Layer:\n    size = 1\n",
        "print(inspect.getsource(Layer))\n#> class Layer:\n#>     size = 1\n#>\n",
    )
    assert not wrong(write(tmp_path, *blocks))


def test_a_warning_is_shown_by_recording_it(tmp_path):
    block = (
        "import warnings\n\nwith warnings.catch_warnings(record=True) as caught:\n"
        '    warnings.simplefilter("always")\n'
        '    warnings.warn("old", DeprecationWarning)\n'
        "print(caught[0].message)\n#> old\n"
    )
    assert not wrong(write(tmp_path, block))


def test_a_page_does_not_see_what_another_wrote_to_disk(tmp_path):
    block = (
        "from pathlib import Path\n\nprint(Path('left').exists())\n#> False\n"
        "_ = Path('left').write_text('x')\n"
    )
    path = write(tmp_path, block)
    assert not wrong(path)
    assert not wrong(path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("# %% [markdown]\n# ```python\n# print(1)\n# ```\n", "code in a text cell"),
        ("# %% [markdown]\n# Text.\n#\n#     x = 1\n", "code without a fence"),
        ("# %% [raw]\n# print(1)\n", "no Python"),
        ("# %%\n# !echo 1\n", "no Python"),
        ('# %% active="ipynb"\n# print(1)\n', "no Python"),
    ],
)
def test_a_program_that_hides_code_is_refused(tmp_path, code, message):
    path = tmp_path / "program.py"
    path.write_text(code + "\n# %%\nx = 1\n")
    with pytest.raises(PageError, match=message):
        read_blocks(path)


def test_a_missing_end_of_line_is_reported(tmp_path):
    path = tmp_path / "program.py"
    path.write_text("print(1)\n#> 1")
    assert "nothing more" in wrong(path)


def test_a_snippet_that_is_missing_is_refused(tmp_path):
    with pytest.raises(PageError, match=r"page\.md:1: .*no-such-file"):
        read_blocks(write(tmp_path, '--8<-- "course/no-such-file.py"\n'))


def test_a_hanging_page_ends(tmp_path):
    with pytest.raises(RuntimeError, match="no end after"):
        in_process(__import__("time").sleep, 60, seconds=0.5)


@pytest.mark.parametrize("name", ["page.markdown", "page.MD", "exercise.py"])
def test_files_that_the_doc_tests_cannot_see_are_refused(monkeypatch, tmp_path, name):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / name).write_text(GOOD)
    monkeypatch.setattr(hooks, "DOCS", tmp_path / "docs")
    with pytest.raises(PageError, match=name):
        all_pages()


def test_there_are_pages_and_every_lesson_has_blocks():
    pages = all_pages()
    lessons = [path for path in pages if path.match("docs/course/*/index.md")]
    assert lessons
    assert all(len(read_blocks(path)) >= 5 for path in lessons)
