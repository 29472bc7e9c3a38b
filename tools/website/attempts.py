"""What a lesson's page links to for those who attempt its problem elsewhere.

A notebook of the page, with what to install and `nbe`'s verdict; its link for Colab,
which opens notebooks from GitHub alone; and how to install the command `nbe`.
"""

import functools
import json
import re
import textwrap
from collections.abc import Callable
from importlib.metadata import version
from urllib.parse import urljoin

from nnx_by_example.course import Lesson
from nnx_by_example.session import inline
from tools.sources import SNIPPETS, expanded, site_config
from tools.website.twins import plain

# The branch to which the Pages workflow pushes the notebooks of the published site.
BRANCH = "notebooks"

# In the Markdown of a page: a block, a line that it prints, a tab or a box.
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", flags=re.M | re.S)
PRINTED = re.compile(r"^#> ?(.*)\n", flags=re.M)
BOX = re.compile(
    r"^```.*?^```$|"
    r'^(?P<kind>===|!!!|\?\?\?)\+?(?P<type>[ \w]*?) *(?:"(?P<title>[^\n]*)")?\n'
    r"(?P<body>(?: {4}[^\n]*\n|\n)+)",
    flags=re.M | re.S,
)
INDENT = re.compile(r"^ {4}", flags=re.M)

# What a notebook has in the place of two sections of a lesson.
VERDICT = """\
Write your answer above, then run that cell and this one. The verdict is that of `nbe
check`: the check of the page, on more inputs, and whether the idea is there.

```python
from nnx_by_example import check

check("{lesson.name}", {lesson.function})
```"""
SOLUTION = "It is folded [on the page]({url}#solution)."


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


def code_cell(source: str, *tags: str, shows: str = "") -> dict:
    """Return a cell of code, with what it shows if it has run."""
    metadata = {"tags": tags} if tags else {}
    stream = {"output_type": "stream", "name": "stdout"}
    outputs = [{**stream, "text": shows.splitlines(keepends=True)}] if shows else []
    made = {"cell_type": "code", "execution_count": None, "outputs": outputs}
    return {**text_cell(source), **made, "metadata": metadata}


def block_cell(code: str) -> dict:
    """Return a block of a page as a cell: what it prints is its output."""
    shown = "".join(f"{line}\n" for line in PRINTED.findall(code))
    return code_cell(PRINTED.sub("", code).strip(), shows=shown)


def flat(text: str) -> str:
    """Return Markdown whose tabs are headings, and its boxes what notebooks know."""

    def unboxed(found: re.Match) -> str:
        if not (kind := found["kind"]):
            return found[0]
        title = found["title"] or found["type"].strip().capitalize()
        body = flat(INDENT.sub("", found["body"])).strip()
        if kind == "===":
            return f"#### {title}\n\n{body}\n\n"
        if "```python" in body:  # a fold holds text alone
            return f"**{title}**\n\n{body}\n\n"
        if kind == "!!!":
            lines = ["> " + line for line in f"**{title}**\n\n{body}".split("\n")]
            return "".join(f"{line.rstrip()}\n" for line in lines) + "\n"
        head = f"<details>\n<summary>{inline(title)}</summary>"
        return f"{head}\n\n{body}\n\n</details>\n\n"

    return BOX.sub(unboxed, f"{text}\n")


def cells_of(text: str, absolute: Callable[[str], str]) -> list[dict]:
    """Return the cells of a page: each Python block one of code, all else text.

    Args:
      text: Markdown, without front matter.
      absolute: returns the address that a link inside the site leads to.
    """
    whole = expanded(text, site_config().mdx_configs[SNIPPETS])
    parts = BLOCK.split(flat(plain(whole, absolute)))
    cells = []
    for at, source in enumerate(parts):
        if at % 3 == 2:  # a text, an indent, and a block follow each other
            cells.append(block_cell(textwrap.dedent(source)))
        elif at % 3 == 0 and source.strip():
            cells.append(text_cell(source.strip()))
    return cells


def written(cells: list[dict]) -> str:
    """Return the file of a notebook with these cells."""
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # not drawn by chance: a build changes nothing
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = {"cells": cells, "metadata": {"kernelspec": kernel}}
    made |= {"nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def page_cells(
    title: str, text: str, address: str, repository: str, about: str = ""
) -> list[dict]:
    """Return the cells of a page's notebook: title, what to install, and the page.

    Args:
      title: of the page.
      text: its Markdown, without front matter; links are as in an `index.md`.
      address: where it is published.
      repository: address of the project.
      about: what comes below the title.
    """

    def absolute(target: str) -> str:
        path, *heading = target.partition("#")
        path = re.sub(r"(^|/)index\.md$", r"\1", path)
        path = re.sub(r"\.(md|ipynb)$", "/", path)
        return urljoin(address, path) + "".join(heading)

    about = f"{about}\n\n".lstrip()
    return [
        text_cell(f"# {title}\n\n{about}From [{address}]({address})"),
        code_cell(f"%pip install --quiet {pins(repository)}", "install"),
        *cells_of(text, absolute),
    ]


def notebook(lesson: Lesson, page_url: str, repository: str) -> str:
    """Return a lesson as a notebook, with the verdict in the place of the check.

    Args:
      lesson: the lesson.
      page_url: address of its page.
      repository: address of the project.
    """
    text = "".join(lesson.page.split("---\n", 2)[2:])
    for heading, instead in (("Check", VERDICT), ("Solution", SOLUTION)):
        section = part(lesson.page, heading)
        text = text.replace(section, instead.format(lesson=lesson, url=page_url))
    about = lesson.meta["proves"]
    cells = page_cells(lesson.meta["title"], text, page_url, repository, about)
    stub = lesson.section("stub").strip().splitlines(keepends=True)
    at = [cell["source"] for cell in cells].index(stub)
    cells[at] = code_cell(lesson.start.strip(), "answer")
    verdict = next(cell for cell in cells if cell["source"][-1].startswith("check("))
    verdict["metadata"] = {"tags": ["verdict"]}
    return written(cells)


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
