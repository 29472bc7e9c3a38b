"""The programs of `examples/`: executed once for each state, and shown as they ran."""

import json

import pytest

from tools.project import ROOT
from tools.website import hooks, later, notebooks

PROGRAMS = sorted((ROOT / "examples").glob("*.py"))


def cells(notebook):
    """Return source and printed text of each code cell."""
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            texts = [o["text"] for o in cell["outputs"] if o.get("name") == "stdout"]
            yield "".join(cell["source"]), "".join("".join(text) for text in texts)


@pytest.fixture(scope="module")
def executed():
    """Execute the programs that changed; return the notebooks that the site shows."""
    return notebooks.execute_all(ROOT / "examples", ROOT / ".cache" / "notebooks")


def program(folder, code):
    """Return a folder with one program of one cell."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text("# %%\n" + code)
    return folder


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_the_notebook_prints_what_the_program_shows(executed, path):
    notebook = next(made for made in executed if made.stem == path.stem)
    for source, printed in cells(notebook):
        shown = [line for line in source.splitlines() if line.startswith("#>")]
        assert shown == [f"#> {line}".rstrip() for line in printed.splitlines()]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_the_notebook_draws_a_figure_for_both_schemes(executed, path):
    text = next(made for made in executed if made.stem == path.stem).read_text("utf-8")
    assert "currentColor" in text
    assert notebooks.INK not in text


def test_a_cell_that_raises_is_named(tmp_path):
    folder = program(tmp_path / "programs", "1 / 0\n")
    with pytest.raises(notebooks.NotebookError, match=r"(?s)program\.py.*ZeroDivision"):
        notebooks.execute_all(folder, tmp_path / "notebooks")
    assert not list((tmp_path / "notebooks").glob("*"))


def test_a_cell_that_warns_is_named(tmp_path):
    folder = program(tmp_path / "programs", 'import warnings; warnings.warn("old")\n')
    with pytest.raises(notebooks.NotebookError, match=r"(?s)program\.py.*old"):
        notebooks.execute_all(folder, tmp_path / "notebooks")


def test_a_program_runs_again_when_it_or_what_it_imports_changes(tmp_path, monkeypatch):
    runs = []

    def execute(path):
        runs.append(path.read_text())
        return notebooks.nbformat.v4.new_notebook()

    monkeypatch.setattr(notebooks, "execute", execute)
    folder, target = tmp_path / "programs", tmp_path / "notebooks"
    program(folder, "import jax\n")
    for _ in range(2):
        notebooks.execute_all(folder, target)
    assert len(runs) == 1
    program(folder, "import jax\n\nx = 1\n")
    notebooks.execute_all(folder, target)
    assert len(runs) == 2
    monkeypatch.setattr(notebooks, "owners", lambda names: dict.fromkeys(names, "2"))
    notebooks.execute_all(folder, target)
    assert len(runs) == 3


def test_the_notebook_of_a_program_that_is_gone_goes_too(tmp_path):
    (tmp_path / "stale.ipynb").write_text("{}")
    (tmp_path / "programs").mkdir()
    assert notebooks.execute_all(tmp_path / "programs", tmp_path) == []
    assert not list(tmp_path.glob("*.ipynb"))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Stand in for `mkdocs serve` of a site with one program; return its notebook."""
    program(tmp_path / "programs", "print(1 + 1)\n")
    monkeypatch.setattr(later, "EXAMPLES", tmp_path / "programs")
    monkeypatch.setattr(later, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(later, "PICTURES", {})
    monkeypatch.setattr(later, "failed", {})
    monkeypatch.setattr(later, "run", in_this_process)
    monkeypatch.setattr(later, "serving", True)
    return tmp_path / "notebooks" / "program.ipynb"


def in_this_process(name):
    """Make something as the other process does; return what it says if it fails."""
    try:
        later.make(name)
    except notebooks.NotebookError as error:
        return str(error)
    return ""


def test_the_first_page_does_not_wait_for_a_program(served):
    hooks.on_config({})
    text, rebuilt = served.read_text(), []
    assert later.COMING in text
    assert "print(1 + 1)" in text
    assert list(cells(served)) == [("print(1 + 1)", "")]
    later.work(lambda: rebuilt.append(served.read_text()))
    assert list(cells(served)) == [("print(1 + 1)", "2\n")]
    assert later.COMING not in served.read_text()
    assert rebuilt == [served.read_text()]
    hooks.on_config({})
    assert list(cells(served)) == [("print(1 + 1)", "2\n")]


def test_a_program_that_raises_meanwhile_is_said_on_its_page(served, caplog):
    program(later.EXAMPLES, "1 / 0\n")
    hooks.on_config({})
    rebuilt = []
    later.work(lambda: rebuilt.append(served.read_text()))
    assert "ZeroDivisionError" in caplog.text
    assert len(rebuilt) == 1
    assert later.FAILED in rebuilt[0]
    assert "ZeroDivisionError" in rebuilt[0]
    hooks.on_config({})  # as the site is built again
    assert served.read_text() == rebuilt[0]
    assert not later.waiting()
    program(later.EXAMPLES, "print(3)\n")
    hooks.on_config({})
    assert later.COMING in served.read_text()
    assert later.waiting()


def test_a_build_executes_what_a_page_only_announces(served):
    hooks.on_config({})
    notebooks.execute_all(later.EXAMPLES, later.NOTEBOOKS)
    assert list(cells(served)) == [("print(1 + 1)", "2\n")]


def test_pictures_that_fail_say_so_where_they_would_be(tmp_path, monkeypatch, caplog):
    draw = (lambda folder: {"a.svg": "state"}, None, ["a.svg"])
    monkeypatch.setattr(later, "PICTURES", {"drawn": draw})
    monkeypatch.setattr(later, "GENERATED", tmp_path)
    monkeypatch.setattr(later, "failed", {})
    monkeypatch.setattr(later, "serving", True)
    monkeypatch.setattr(later, "waiting", lambda w=later.waiting: pictures_of(w()))
    monkeypatch.setattr(later, "run", lambda name: "RuntimeError: <it> ended")
    later.announce_pictures()
    assert later.COMING in (tmp_path / "drawn" / "a.svg").read_text()
    later.work(lambda: None)
    assert "RuntimeError: &lt;it&gt; ended" in (tmp_path / "drawn/a.svg").read_text()
    assert "RuntimeError: <it> ended" in caplog.text


def pictures_of(waiting):
    """Return what waits to be made, without the programs."""
    return {name: state for name, state in waiting.items() if name == "drawn"}


def test_what_fails_in_the_other_process_is_heard():
    assert "no_such.py" in later.run("no_such.py")
