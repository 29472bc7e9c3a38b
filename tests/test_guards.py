"""The guards themselves: pages are broken on purpose, and each break is seen.

Every case is a page that plain pytest-examples passes or never looks at.
"""

import ast
import re

import pytest

from tools.gate.damages import CLAIMED, IDLE, UNSEEN, UNSHOWN, UNSOUND, UNTRUE
from tools.gate.memory import reads
from tools.gate.pages import PageError, all_pages, read_blocks
from tools.gate.process import in_process
from tools.gate.right import BLOCKS, PLACES
from tools.gate.run_page import judge
from tools.project import ROOT

pytestmark = reads("mkdocs.yml", "docs/course/_template/exercise.py")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
GOOD = '```python\nx = 2\nprint("x is", x)\n#> x is 2\n```\n'


def write(folder, *blocks, name="page.md"):
    """Return a page of these blocks; each starts two lines below the one before."""
    path = folder / name
    path.write_text("\n".join(f"```python\n{block}```\n" for block in blocks))
    return path


def wrong(path):
    """Return what the doc-tests say of a page."""
    return "\n".join(judge(path)[2])


def test_a_good_page_passes(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(GOOD)
    assert not wrong(path)


def test_a_page_that_holds_in_one_mode_alone_is_seen(tmp_path):
    block = """\
import jax
from flax import nnx

layer = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
grads = nnx.grad(lambda layer: layer(jax.numpy.ones((1, 2))).sum())(layer)
print(len(jax.tree.leaves(grads)))
#> 2
"""
    named = block.replace(")(l", ", graph=True, graph_updates=True)(l")
    for code, holds in ((block, False), (named, True)):
        path = write(tmp_path, code)
        assert not judge(path)[2]
        assert bool(judge(path, tree=True)[2]) != holds
        assert not judge(path)[2], "the process is back in graph mode"


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


@pytest.mark.parametrize(
    ("block", "named"), [*UNTRUE.values(), *UNSHOWN.values()], ids=[*UNTRUE, *UNSHOWN]
)
def test_an_untrue_output_is_seen(tmp_path, block, named):
    assert named in wrong(write(tmp_path, block))


@pytest.mark.parametrize(("block", "named"), CLAIMED.values(), ids=CLAIMED)
def test_a_comment_that_claims_what_no_output_shows_is_seen(tmp_path, block, named):
    (message,) = wrong(write(tmp_path, block)).splitlines()
    line, why = re.fullmatch(r".*/page\.md:(\d+): (.*)", message).groups()
    assert re.search("# (?!>)", block.split("\n")[int(line) - 2])
    assert named in why


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
    frame, code = message.splitlines()[1:3]
    assert re.fullmatch(r"  File \S*page\.md:7, in <module>", frame)
    assert code == "    z = x / 0"


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


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_an_unusual_block_is_accepted(tmp_path, block):
    assert not wrong(write(tmp_path, block))


@pytest.mark.parametrize("text", PLACES.values(), ids=PLACES)
def test_an_unusual_place_is_accepted(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text + "\n" + GOOD)
    assert not wrong(path)


@pytest.mark.parametrize("text", ["It prints 3.", "It prints three.", "Of 2.5, `-8`."])
def test_a_number_that_no_block_of_its_section_shows_is_seen(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(f"```python\nx = 3\n```\n\n## Section\n\n{text}\n\n{GOOD}")
    assert "page.md:7: no block of this section shows" in wrong(path)


@pytest.mark.parametrize(
    ("section", "most"), [("Problem", 100), ("Why it matters", 80), ("Check", 900)]
)
def test_a_lesson_that_says_too_much_is_seen(tmp_path, section, most):
    path = tmp_path / "page.md"
    page = "---\nproves: It ends.\n---\n\n# Page\n\n## {}\n\n{}\n\n## Sources\n\nOne.\n"
    path.write_text(page.format(section, "word " * (most + 1)), "utf-8")
    assert f"more than {most}" in wrong(path)
    path.write_text(page.format(section, "word " * (most - 9)), "utf-8")
    assert wrong(path) == ""


@reads("*")
def test_a_docstring_shows_no_code_that_nobody_runs():
    for path in ROOT.glob("*/**/*.py"):
        if {".venv", ".cache"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, DOCUMENTED):
                text = ast.get_docstring(node) or ""
                assert not re.search(r"```|~~~|>>>|^\.\. ", text, re.M), (
                    f"{path}: {text}"
                )


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
    assert "got:   nothing" in wrong(path)


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
    monkeypatch.setattr("tools.gate.pages.DOCS", tmp_path / "docs")
    with pytest.raises(PageError, match=name):
        all_pages()


@reads("*")
def test_there_are_pages_and_every_lesson_has_blocks():
    pages = all_pages()
    lessons = [path for path in pages if path.match("docs/course/*/index.md")]
    assert lessons
    assert all(len(read_blocks(path)) >= 5 for path in lessons)
