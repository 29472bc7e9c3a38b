"""Executes the programs of `examples/` as notebooks, once for each state they are in.

A program is written as py:percent. Its notebook is kept as long as the program's bytes,
the versions of what it imports and the way it is drawn stay the same.
"""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from importlib.metadata import distributions
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tools import project
from tools.project import HANG

FIGURE_STYLE = Path(__file__).parent / "matplotlibrc"
COORDINATE = re.compile(r"-?\d+\.\d+")
INK = "#123456"  # what that file draws text and axes with
ENVIRONMENT = {
    "MATPLOTLIBRC": str(FIGURE_STYLE),
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
ARGUMENTS = ["--InlineBackend.figure_formats={'svg'}"]


class NotebookError(Exception):
    """A cell raised; the message names the program, the cell and the error."""


def execute_all(programs: Path, notebooks: Path) -> list[Path]:
    """Execute each program that has no notebook of its present state; return all.

    Raises:
      NotebookError: if a cell raises.
    """
    for program in stale(programs, notebooks):
        make(programs / program, notebooks)
    return prune(programs, notebooks)


def stale(programs: Path, notebooks: Path) -> dict[str, str]:
    """Return the programs without a notebook of their present state, and that state."""
    states = {path.name: fingerprint(path) for path in sorted(programs.glob("*.py"))}
    return {
        name: state
        for name, state in states.items()
        if not has(target(name, notebooks), "executed", state)
    }


def target(program: str, notebooks: Path) -> Path:
    """Return where the notebook of a program lies."""
    return notebooks / f"{Path(program).stem}.ipynb"


def has(notebook: Path, what: str, state: str) -> bool:
    """Return whether a notebook is what a state gives, "executed" or "announced"."""
    return notebook.exists() and f'"{what}": "{state}"' in notebook.read_text("utf-8")


def prune(programs: Path, notebooks: Path) -> list[Path]:
    """Delete the notebooks of programs that are gone; return where all others lie."""
    wanted = [target(path.name, notebooks) for path in sorted(programs.glob("*.py"))]
    for gone in set(notebooks.glob("*.ipynb")) - set(wanted):
        gone.unlink()
    return wanted


def make(program: Path, notebooks: Path) -> None:
    """Execute a program, and keep its notebook.

    Raises:
      NotebookError: if a cell raises.
    """
    print(f"Executing {program.name} ...", flush=True)
    state = fingerprint(program)
    notebook = execute(program)
    notebook.metadata["executed"] = state
    project.write(target(program.name, notebooks), nbformat.writes(notebook))


def announce(program: Path, notebooks: Path, kind: str, title: str, text: str) -> None:
    """Keep a notebook without outputs, which says why it has none."""
    notebook = read(program)
    note = textwrap.indent(text, "    ")
    cell = nbformat.v4.new_markdown_cell(f'!!! {kind} "{title}"\n\n{note}')
    notebook.cells.insert(1, cell)  # below the front matter
    notebook.metadata["announced"] = fingerprint(program)
    project.write(target(program.name, notebooks), nbformat.writes(notebook))


def read(program: Path) -> nbformat.NotebookNode:
    """Return the program as a notebook that has not run."""
    notebook = jupytext.read(program)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return notebook


def execute(program: Path) -> nbformat.NotebookNode:
    """Return the program as a notebook with the outputs of a fresh run.

    Raises:
      NotebookError: if a cell raises or writes to stderr.
    """
    notebook = read(program)
    # A cell takes what the machine needs for it, and a kernel that dies is seen. The
    # other two would begin without the kernel, and go on without the last output.
    client = NotebookClient(
        notebook,
        timeout=None,
        startup_timeout=HANG,
        iopub_timeout=HANG,
        extra_arguments=ARGUMENTS,
        coalesce_streams=True,
    )
    try:
        client.execute(
            cwd=str(program.parent),
            env={**os.environ, **ENVIRONMENT},
            stderr=subprocess.DEVNULL,  # the kernel's own chatter, not a cell's
        )
    except CellExecutionError as error:
        raise NotebookError(f"{program.name}: a cell raises\n{error}") from None
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise NotebookError(
                    f"{program.name}: a cell writes to stderr\n{output.text}"
                )
            if svg := output.get("data", {}).get("image/svg+xml"):
                output.data["image/svg+xml"] = for_both_schemes(svg)
    return notebook


def for_both_schemes(svg: str) -> str:
    """Return a figure whose text and axes have the colour of the page's text."""
    svg = svg[svg.index("<svg") :]
    # Away with the date, comments, rules that would reach the page, size and fonts.
    for part in (
        "<metadata>.*?</metadata>",
        "<!--.*?-->",
        "<style.*?</style>",
        r'\b(width|height)="[^"]*pt"',
        r"font-family: [^;\"]*;?",
    ):
        svg = re.sub(part, " ", svg, flags=re.S)
    # A tenth of a point is finer than a screen.
    svg = re.sub(r'\bd="[^"]*"', lambda path: COORDINATE.sub(in_tenths, path[0]), svg)
    return re.sub(r"\n\s*", "\n", svg.replace(INK, "currentColor")).strip()


def in_tenths(found: re.Match) -> str:
    """Return a number with one decimal at most."""
    return f"{float(found[0]):.1f}".removesuffix(".0")


def fingerprint(program: Path) -> str:
    """Return a hash of the program's bytes, its imports' versions and its drawing."""
    source = program.read_bytes()
    versions = owners(imported(source) | {"jaxlib"})
    drawing = Path(__file__).read_text("utf-8") + FIGURE_STYLE.read_text("utf-8")
    state = [sys.version, sorted(versions.items()), drawing]
    return hashlib.sha256(source + json.dumps(state).encode()).hexdigest()


def owners(packages: set[str]) -> dict[str, str]:
    """Return the distributions that have files of these packages, with their versions.

    It reads lists of files, and so takes a tenth of `packages_distributions`, which
    looks for each file on the disk.
    """
    theirs = re.compile(rf"^({'|'.join(packages)})(/|\.py,)", flags=re.M)
    return {
        one.name: one.version
        for one in distributions()
        if theirs.search(one.read_text("RECORD") or "")
    }


def imported(source: bytes) -> set[str]:
    """Return the names of the packages that a program imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}
