"""What a page shows its readers: the code blocks, in order, with snippets expanded.

A page is written in a narrow dialect. Three parties have to agree on its blocks: a
scanner of that dialect (which knows line numbers), pytest-examples (which runs and
updates them), and the site's own Markdown parser (which knows what a reader sees).
"""

import ast
import dataclasses
import functools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import markdown
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.utils.meta import get_data
from pymdownx.snippets import SnippetMissingError
from pytest_examples import CodeExample, find_examples

from tools import hooks

ROOT = hooks.ROOT

# Fences that are not run. Anything else than these and `python` is refused.
NOT_CODE = {"console", "text"}

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[a-z]*)(?P<options>( [a-z_]+=\"[^\"]*\")*)$"
)
SNIPPET = re.compile(r'--8<-- "(?P<source>[^"\n]+)"')
HOW_TO_WRITE = 'write three backticks and "python", on a line of their own'


class PageError(Exception):
    """A page is wrong; each line of the message names a place and what to do."""


@dataclasses.dataclass
class Block:
    """One piece of Python that a page shows."""

    example: CodeExample
    """Where it stands on the page, as pytest-examples found it."""
    source: str
    """What a reader sees and copies: the snippet expanded, the indent removed."""
    snippet: str | None = None
    """The file and section it is included from, if it is."""

    @property
    def place(self) -> str:
        """Return the path and the line of the block's fence."""
        return f"{shown_path(self.example.path)}:{self.example.start_line}"


def shown_path(path: Path) -> str:
    """Return `path` as messages show it: relative to the project if it is inside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


@functools.cache
def site_config() -> MkDocsConfig:
    """Return the site's configuration, so that pages are parsed as the site does."""
    return load_config(str(ROOT / "mkdocs.yml"))


def all_pages() -> list[Path]:
    """Return every file whose Python is run, as `tools/hooks.py` lists them.

    Raises:
      PageError: if a file stands beside them in a form that the doc-tests cannot see.
    """
    unseen = [
        path
        for folder in (hooks.DOCS, hooks.ROOT / "examples")
        for path in folder.rglob("*")
        if path.suffix in {".markdown", ".MD", ".ipynb", ".html"}
    ]
    programs = [*hooks.DOCS.rglob("*.py"), *(hooks.ROOT / "examples").rglob("*.py")]
    unseen += [path for path in programs if "```" in path.read_text("utf-8")]
    if unseen:
        names = ", ".join(map(shown_path, unseen))
        raise PageError(f"{names}: holds blocks that the doc-tests cannot see")
    return hooks.pages()


def count_other_fences(path: Path) -> int:
    """Return how many fences of a page are declared not to be code."""
    if path.suffix == ".py":
        return 0
    return sum(kind != "python" for _, kind, _ in scan(path, path.read_text("utf-8")))


def read_blocks(path: Path) -> list[Block]:
    """Return the Python blocks of a page, or the one block that a program is.

    Raises:
      PageError: if anything on the page looks like code and would not be run.
    """
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        whole = CodeExample.create(text, path=path, start_line=0)
        whole.group = uuid4()
        return [Block(whole, text)]

    expected = list(scan(path, text))
    seen, leftovers = rendered_blocks(path, text)
    if leftovers:
        raise PageError("\n".join(leftovers))

    blocks = [read_block(example) for example in find_examples(path)]
    python = [line for line, kind, _ in expected if kind == "python"]
    if [block.example.start_line for block in blocks] != python:
        raise PageError(f"{shown_path(path)}: pytest-examples finds other blocks")
    shown = [source for kind, source in seen if kind == "python"]
    for block, source in zip(blocks, shown, strict=False):
        if block.source.strip("\n") != source.strip("\n"):
            raise PageError(f"{block.place}: the page shows other code than this")
    if len(shown) != len(blocks):
        raise PageError(
            f"{shown_path(path)}: {len(blocks)} blocks are written, a reader sees "
            f"{len(shown)}: is one in a comment, or not indented as its list or tab?"
        )
    return blocks


def is_python(text: str) -> bool:
    """Return whether text that is declared not to be code is Python all the same."""
    if any(line.lstrip().startswith(">>>") for line in text.splitlines()):
        return True
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return False
    statements = (ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, statements) for node in ast.walk(tree))


def scan(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, kind and body of each fence; refuse every other way to write one.

    Raises:
      PageError: naming the line and what to write instead.
    """
    fence, start, body = None, 0, []
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{shown_path(path)}:{number}"
        if fence is not None and line == fence["indent"] + "```":
            yield start, fence["kind"], "\n".join(body)
            if fence["kind"] in NOT_CODE and is_python("\n".join(body)):
                raise PageError(
                    f"{shown_path(path)}:{start}: this is Python that nobody runs: "
                    f"{HOW_TO_WRITE}"
                )
            fence = None
        elif "```" not in line and "~~~" not in line:
            body.append(line)
        elif fence is not None:
            raise PageError(f"{place}: the fence of line {start} is still open here")
        elif not (found := FENCE.match(line)):
            raise PageError(
                f"{place}: not a fence that the doc-tests can see: {HOW_TO_WRITE}"
            )
        elif found["kind"] != "python" and found["kind"] not in NOT_CODE:
            raise PageError(
                f"{place}: fence of kind {found['kind'] or 'none'!r}: {HOW_TO_WRITE}, "
                f"or one of {', '.join(sorted(NOT_CODE))} for what is not code"
            )
        else:
            fence, start, body = found, number, []
    if fence is not None:
        raise PageError(f"{shown_path(path)}:{start}: this fence is never closed")


def rendered_blocks(path: Path, text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the blocks that a reader sees (kind, source) and any code outside them."""
    recorded: list[tuple[str, str]] = []

    def record(source, language, css_class, options, md, **kwargs):
        recorded.append((language, source))
        return f'<hr data-block="{len(recorded) - 1}">'

    config = site_config()
    options = dict(config.mdx_configs)
    options["pymdownx.superfences"] = {
        **options.get("pymdownx.superfences", {}),
        "custom_fences": [{"name": "*", "class": "", "format": record}],
    }
    body, _ = get_data(text)
    try:
        html = markdown.markdown(
            body, extensions=config.markdown_extensions, extension_configs=options
        )
    except SnippetMissingError as error:
        raise PageError(f"{shown_path(path)}: {error}") from None
    html = re.sub(r"<!--.*?-->", "", html, flags=re.S)
    visible = [int(n) for n in re.findall(r'<hr data-block="(\d+)"', html)]

    leftovers = []
    for pre in re.findall(r"<pre\b[^>]*>(?:<code>)?(.*?)</pre>", html, flags=re.S):
        first = next((line for line in pre.splitlines() if line.strip()), "")
        at = next((i for i, s in enumerate(text.splitlines(), 1) if first in s), 0)
        leftovers.append(
            f"{shown_path(path)}:{at}: code without a fence: {HOW_TO_WRITE}"
        )
    return [recorded[n] for n in visible], leftovers


def read_block(example: CodeExample) -> Block:
    """Return the block as a reader sees it.

    Raises:
      PageError: if a snippet is not the whole of its block, or is not found.
    """
    if "--8<--" not in example.source:
        return Block(example, example.source)
    snippet = SNIPPET.fullmatch(example.source.strip("\n"))
    if not snippet:
        raise PageError(
            f"{shown_path(example.path)}:{example.start_line}: a block is either code, "
            'or one snippet line: --8<-- "course/LESSON/exercise.py:SECTION"'
        )
    config = site_config()
    md = markdown.Markdown(
        extensions=["pymdownx.snippets"],
        extension_configs={
            "pymdownx.snippets": config.mdx_configs["pymdownx.snippets"]
        },
    )
    expanded = md.preprocessors["snippet"].run(snippet[0].split("\n"))
    source = "\n".join(expanded).strip("\n") + "\n"
    return Block(example, source, snippet=snippet["source"])
