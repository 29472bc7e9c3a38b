"""The programs of `examples/`: executed once for each state, and shown as they ran."""

import json

import pytest

from tests.pages import ROOT
from tools import notebooks

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
