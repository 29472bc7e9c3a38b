"""What a lesson's page links to for those who attempt its problem elsewhere.

A notebook with the stub, what to install, and `nbe`'s verdict; its link for Colab,
which opens notebooks from GitHub alone; and how to install the command `nbe`.
"""

import functools
import json
import re
from importlib.metadata import version

from nnx_by_example.course import Lesson

# The branch to which the Pages workflow pushes the notebooks of the published site.
BRANCH = "notebooks"
FENCE = re.compile(r"^```.*?^```$\n?", flags=re.M | re.S)


def part(page: str, heading: str) -> str:
    """Return the text of a page below a heading of the second level."""
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].strip()


def invariant(text: str) -> str:
    """Return the last line of output in "Worked example": what a lesson proves."""
    section = part(text, "Worked example") + "\n"
    lines = re.findall(r"^ *#> ?(.*)\n", section, flags=re.M)
    return lines[-1] if lines else ""


def package(repository: str) -> str:
    """Return what pip installs `nbe` from."""
    return f"git+{repository.rstrip('/')}"


@functools.cache
def pins(repository: str) -> str:
    """Return what a notebook installs, as pip takes it: `nbe`, and its versions."""
    versions = [f'"{name}=={version(name)}"' for name in ("flax", "jax")]
    return " ".join([f'"nnx-by-example @ {package(repository)}"', *versions])


def text_cell(source: str) -> dict:
    """Return a cell of text; as of the others, the tests check that it is valid."""
    lines = source.splitlines(keepends=True)
    return {"cell_type": "markdown", "metadata": {}, "source": lines}


def code_cell(source: str, *tags: str) -> dict:
    """Return a cell of code that has not run."""
    made = {"cell_type": "code", "execution_count": None, "outputs": []}
    metadata = {"tags": tags} if tags else {}
    return {**text_cell(source), **made, "metadata": metadata}


def notebook(lesson: Lesson, page_url: str, repository: str) -> str:
    """Return a lesson's problem as a notebook: install, stub and verdict.

    Args:
      lesson: the lesson.
      page_url: address of its page.
      repository: address of the project.
    """
    problem = FENCE.sub("", part(lesson.page, "Problem"))
    verdict = f'check("{lesson.name}", {lesson.function})'
    cells = [
        text_cell(
            f"# {lesson.meta['title']}: the problem\n\n{problem}\n\n"
            f"The lesson, with hints and the solution: [{page_url}]({page_url})"
        ),
        code_cell(f"%pip install --quiet {pins(repository)}", "install"),
        text_cell("## Your answer\n\nWrite it here, then run all cells."),
        code_cell(lesson.start.strip(), "answer"),
        text_cell(
            "## The verdict\n\nThat of `nbe check`: the check of the page, on more "
            "inputs, and whether the idea is there."
        ),
        code_cell(f"from nnx_by_example import check\n\n{verdict}", "verdict"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # not drawn by chance: a build changes nothing
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = {"cells": cells, "metadata": {"kernelspec": kernel}}
    made |= {"nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def colab(lesson: Lesson, repository: str) -> str | None:
    """Return the address that opens the notebook in Colab, or None off GitHub."""
    _, github, name = repository.rstrip("/").partition("https://github.com/")
    if not github:
        return None
    base = "https://colab.research.google.com/github"
    return f"{base}/{name}/blob/{BRANCH}/{lesson.name}.ipynb"


def links(lesson: Lesson, repository: str) -> str:
    """Return the buttons that open a lesson's notebook, as Markdown."""
    file = f"{lesson.name}.ipynb"
    buttons = [f'[Download the notebook]({file}){{ .md-button download="{file}" }}']
    if address := colab(lesson, repository):
        buttons.insert(0, f"[Open in Colab]({address}){{ .md-button }}")
    return "\n".join(buttons) + "\n"


def install(repository: str) -> str:
    """Return the command that installs `nbe`, as a block of a page."""
    return f'```console\npip install "{package(repository)}"\n```\n'
