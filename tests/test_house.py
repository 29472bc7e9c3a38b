"""The house: imports run one way, in no circle, and a page imports none of ours."""

import ast
import re
import shutil
import subprocess
import sys

import pytest

from tools import project
from tools.gate.memory import reads
from tools.project import ROOT

pytestmark = reads("*.py")
OURS = {"tests", "tools", "nnx_by_example"}
LINT = "import sys, importlinter.cli as l; sys.exit(l.lint_imports(no_cache=True))"
# An import to add to a file, and what refuses it.
WRONG = {
    "the site knows the gate": (
        "tools/website/hooks.py",
        "from tools.gate import pages",
        "tools.website is not allowed to import tools.gate",
    ),
    "the gate knows the site": (
        "tools/gate/pages.py",
        "from tools.website import hooks",
        "tools.gate is not allowed to import tools.website",
    ),
    "the site uses what measures": (
        "tools/website/hooks.py",
        "from tools.measure import bench",
        "tools.website is not allowed to import tools.measure",
    ),
    "what both stand on knows one": (
        "tools/sources.py",
        "from tools.website import hooks",
        "tools.sources is not allowed to import tools.website",
    ),
    "a tool uses a test": (
        "tools/measure/speed.py",
        "from tests import conftest",
        "tools.measure is not allowed to import tests",
    ),
    "what is installed needs the rest": (
        "nnx_by_example/cli.py",
        "from tools import project",
        "nnx_by_example is not allowed to import tools.project",
    ),
    "a test uses another": (
        "tests/test_watch.py",
        "from tests import test_nbe",
        "tests.test_watch is not allowed to import tests.test_nbe",
    ),
    "a circle": (
        "nnx_by_example/watch.py",
        "from nnx_by_example import cli",
        "No circle BROKEN",
    ),
}


def lint(folder):
    """Return whether the contracts of pyproject.toml hold, and what is said of them."""
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True
    )
    return done.returncode == 0, done.stdout + done.stderr


def imported(source):
    """Return the names of the packages that a program imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.partition(".")[0] for name in found}


def test_imports_run_one_way_and_in_no_circle():
    kept, said = lint(ROOT)
    assert kept, said


@pytest.mark.parametrize(("file", "line", "refusal"), WRONG.values(), ids=WRONG)
def test_an_import_the_other_way_is_refused(tmp_path, file, line, refusal):
    for name in project.names():
        if name == "pyproject.toml" or re.fullmatch(r"(tests|tools|nnx_.*)/.*py", name):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / file).open("a") as module:
        module.write(f"\n{line}\n")
    kept, said = lint(tmp_path)
    assert not kept
    assert refusal in " ".join(said.split())


def test_what_readers_take_away_imports_nothing_of_ours():
    files = [
        name for name in project.names() if re.match(r"(docs|examples)/.*py$", name)
    ]
    assert len(files) > 20
    for name in files:
        assert not OURS & imported((ROOT / name).read_text("utf-8")), name
    assert imported("def f():\n    from tools.gate import pages\n") & OURS


def test_the_folder_of_the_tests_holds_tests_alone():
    for name in project.names():
        if name.startswith("tests/"):
            assert re.fullmatch(r"tests/(test_\w+|conftest|__init__)\.py", name), name
