"""What a page shows its readers: the code blocks, in order, with snippets expanded.

A page is written in a narrow dialect. Three parties have to agree on its blocks: a
scanner of that dialect (which knows line numbers), pytest-examples (which runs and
updates them), and the site's own Markdown parser (which knows what a reader sees).
"""

import ast
import dataclasses
import functools
import html
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import jupytext
import markdown
from mkdocs.utils.meta import get_data
from pymdownx.snippets import SnippetMissingError
from pytest_examples import CodeExample, find_examples

from tools import sources
from tools.project import DOCS, EXAMPLES, ROOT
from tools.sources import SNIPPETS, site_config

FENCE = re.compile(r"(?P<indent> *)```(?P<kind>[a-z]*)")
SNIPPET = re.compile(r'--8<-- "(?P<source>[^"\n]+)"')
# A console block shows commands to type, never what they print.
COMMAND = re.compile(r" *(make|pip|git|nbe)( [\w.=\"/-]+)*")
# Raw HTML can hide code or pass for it: a page needs none but this.
DIV = r'/?div(?: class="[a-z -]+")?(?: markdown)?>'
TAG = re.compile(rf"<(?!{DIV}|https?:)[a-zA-Z/!]")
PROMPT = re.compile(r" *(>>>|\.\.\.|In \[)")
STATEMENT = re.compile(
    r" *(#>|import \w+$|from [\w.]+ import |print\(|(def|class) \w+[(:])"
)
SILENCE = re.compile(r"(\w+\.)*(simplefilter|filterwarnings)\((?!'always')")
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

    def place_of(self, number: int = 0) -> str:
        """Return path and line of a line of the block; 0 is the fence."""
        path, start = shown_path(self.example.path), self.example.start_line
        if self.snippet:
            return f"{path}:{start} (line {number} of {self.snippet})"
        return f"{path}:{start + number}"


def shown_path(path: Path) -> str:
    """Return `path` as messages show it: relative to the project if it is inside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def all_pages() -> list[Path]:
    """Return every file whose Python is run, and see that no other holds code.

    Raises:
      PageError: if a file stands beside them that could hold code, and is not run.
    """
    pages = sources.pages()
    run = [*pages, *DOCS.glob("course/*/exercise.py"), *DOCS.rglob("*picture.py")]
    run += [*EXAMPLES.glob("cost/*.py"), sources.COSTS, sources.RELEASES]
    for folder in (DOCS, EXAMPLES):
        for path in folder.rglob("*"):
            known = path in run or path.suffix in {".svg", ".css", ".js", ".pyc"}
            if path.is_file() and not known and path.name[0] != ".":
                raise PageError(f"{shown_path(path)}: the doc-tests do not look here")
            if path.suffix == ".py" and "```" in path.read_text("utf-8"):
                raise PageError(f"{shown_path(path)}: holds blocks that nobody runs")
    return pages


def count_commands(path: Path) -> int:
    """Return how many lines of a page are commands to type, which are not run."""
    fences = [] if path.suffix == ".py" else scan(path, path.read_text("utf-8"))
    return sum(len(body) for _, kind, body in fences if kind == "console")


def read_blocks(path: Path) -> list[Block]:
    """Return the Python blocks of a page, or the one block that a program is.

    Raises:
      PageError: if anything on the page looks like code and would not be run.
    """
    return [dataclasses.replace(b) for b in parsed(path, sources.fingerprint(path))]


@functools.lru_cache(maxsize=8)
def parsed(path: Path, _state: str) -> list[Block]:
    """Return the same of a page that is in some state."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        check_cells(path, text)
        whole = CodeExample.create(text, path=path, start_line=0)
        whole.group = uuid4()
        blocks = [Block(whole, text)]
    else:
        written = [line for line, kind, _ in scan(path, text) if kind == "python"]
        blocks = [read_block(example) for example in find_examples(path)]
        for block, line in itertools.zip_longest(blocks, written):
            if not block or block.example.start_line != line:
                raise PageError(
                    f"{shown_path(path)}:{line or block.example.start_line}: "
                    "pytest-examples finds another block"
                )
        seen = rendered_blocks(path, text)
        for block, source in itertools.zip_longest(blocks, seen):
            if not block or (source or "").strip("\n") != block.source.strip("\n"):
                place = block.place_of() if block else f"{shown_path(path)}:0"
                raise PageError(
                    f"{place}: a reader does not see this block, but: {source}\n"
                    "Is one in a comment, or not indented as its list or tab?"
                )
    for block in blocks:
        check_code(block)
    return blocks


def scan(path: Path, text: str) -> list[tuple[int, str, list[str]]]:
    """Return line, kind and body of each fence.

    Raises:
      PageError: if code is written in any other way; it names the line.
    """
    fences, fence, name = [], None, shown_path(path)
    for number, line in enumerate(text.split("\n"), 1):
        place = f"{name}:{number}"
        if fence and line == fence["indent"] + "```":
            fence = None
        elif fence and "```" not in line and "~~~" not in line:
            fences[-1][2].append(line)
            if fence["kind"] == "console" and not COMMAND.fullmatch(line):
                raise PageError(
                    f"{place}: a console block holds commands (make, pip, git, nbe) "
                    f"and not what they print. For Python, {HOW_TO_WRITE}"
                )
        elif fence:
            raise PageError(f"{place}: the fence of line {fences[-1][0]} is still open")
        elif "```" not in line and "~~~" not in line:
            bare = re.sub(r"`[^`]*`", "", line)
            if TAG.search(bare):
                raise PageError(f"{place}: raw HTML can hide code: write Markdown")
            if PROMPT.match(bare) or STATEMENT.match(bare):
                raise PageError(f"{place}: this can pass for code: {HOW_TO_WRITE}")
        else:
            fence = FENCE.fullmatch(line)
            if not fence or fence["kind"] not in {"python", "console"}:
                raise PageError(
                    f"{place}: not a fence that the doc-tests can see: {HOW_TO_WRITE}; "
                    'commands to type are a block of kind "console"'
                )
            fences.append((number, fence["kind"], []))
    if fence:
        raise PageError(f"{name}:{fences[-1][0]}: this fence is never closed")
    return fences


def rendered_blocks(path: Path, text: str) -> list[str]:
    """Return the Python blocks that a reader of the built page sees.

    Raises:
      PageError: if a reader sees code that is in no fence.
    """
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
    try:
        page = markdown.markdown(
            get_data(text)[0],
            extensions=config.markdown_extensions,
            extension_configs=options,
        )
    except SnippetMissingError as error:
        raise PageError(f"{shown_path(path)}: {error}") from None
    page = re.sub(r"<!--.*?-->", "", page, flags=re.S)
    if pre := re.search(r"<pre\b[^>]*>(.*?)</pre>", page, re.S):
        code = html.unescape(re.sub("<.*?>", "", pre[1])).strip().split("\n")
        lines = [line.strip() for line in text.split("\n")]
        starts = (n for n in range(len(lines)) if lines[n : n + len(code)] == code)
        at = next(starts, -1) + 1
        raise PageError(
            f"{shown_path(path)}:{at}: code without a fence: {HOW_TO_WRITE}"
        )
    seen = [recorded[int(n)] for n in re.findall(r'<hr data-block="(\d+)"', page)]
    return [source for language, source in seen if language == "python"]


def read_block(example: CodeExample) -> Block:
    """Return the block as a reader sees it.

    Raises:
      PageError: if a snippet is not the whole of its block, or is not found.
    """
    if "--8<--" not in example.source:
        return Block(example, example.source)
    place = f"{shown_path(example.path)}:{example.start_line}"
    snippet = SNIPPET.fullmatch(example.source.strip("\n"))
    if not snippet:
        raise PageError(
            f"{place}: a block is either code, or one snippet line: "
            '--8<-- "course/LESSON/exercise.py:SECTION"'
        )
    try:
        options = site_config().mdx_configs[SNIPPETS]
        expanded = sources.expanded(snippet[0], options)
    except SnippetMissingError as error:
        raise PageError(f"{place}: {error}") from None
    source = expanded.strip("\n") + "\n"
    return Block(example, source, snippet=snippet["source"])


def check_cells(path: Path, text: str) -> None:
    """Refuse, in a program, what only its notebook or nobody would run.

    Raises:
      PageError: naming the program and the cell.
    """
    for cell in jupytext.reads(text, fmt="py:percent").cells:
        first = cell.source.partition("\n")[0]
        magic = re.search(r"^(# *)?(!|%(?!%))", cell.source, flags=re.M)
        if cell.cell_type == "raw" or "active" in cell.metadata or magic:
            raise PageError(f"{shown_path(path)}: this cell is no Python: {first}")
        if cell.cell_type == "markdown":
            if scan(path, cell.source):
                raise PageError(f"{shown_path(path)}: code in a text cell: {first}")
            rendered_blocks(path, cell.source)


def check_code(block: Block) -> None:
    """Refuse code that says something and does nothing, or that hides a warning.

    Raises:
      PageError: naming the line.
    """
    if not block.source.replace("\n", "").isprintable():
        raise PageError(f"{block.place_of()}: holds a tab or a control character")
    try:
        tree = ast.parse(block.source)
    except SyntaxError as error:
        place = block.place_of(error.lineno or 0)
        raise PageError(f"{place}: SyntaxError: {error.msg}") from None
    if not tree.body:
        raise PageError(f"{block.place_of()}: a block without a statement")
    for line, why in objections(tree):
        raise PageError(f"{block.place_of(line)}: {why}")


def objections(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and reason of what a block shows a reader and no run can verify."""
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, "a value that nobody prints is never compared"
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if any(map(PROMPT.match, node.value.split("\n"))):
                yield node.lineno, "a prompt in a string is never compared"
        elif isinstance(node, ast.Call) and SILENCE.match(ast.unparse(node)):
            yield node.lineno, "record a warning; do not silence it"
