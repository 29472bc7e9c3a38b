"""Lists the error messages that pages print, each with the section that explains it.

A page catches an error and prints it, and its test run writes what that printed. So a
message is listed as soon as a page shows it.
"""

import ast
import logging
import re
import textwrap
from collections.abc import Iterator

from markdown.extensions.toc import slugify
from mkdocs.utils.meta import get_data

from tools.project import ROOT
from tools.website.api import listed

log = logging.getLogger("mkdocs.plugins.errors")  # its warnings fail a strict build
PART = re.compile(
    r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$|^##+ ([^\n]+)$", flags=re.M | re.S
)
# The name of an error, when the page prints it, stands before the message or alone.
NAMED = re.compile(r"(?:.* )?([A-Z]\w+(?:Error|NotFound))(?:(?:: | - )(.+))?")
# What a loop prints about attempts that do not fail, and data that a message lists.
OTHER = re.compile(r".*\b(True|False)|\(.*|[a-z_ ]+: [\d.(][\d., )]*|.*no error")


def printed(code: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the message of each error that a block catches and prints.

    A message is empty where the block prints the name alone.

    Raises:
      ValueError: if a statement catches an error whose name or message is not printed.
    """
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        nodes = [n for n in ast.walk(statement) if isinstance(n, ast.ExceptHandler)]
        types = [getattr(node.type, "attr", ast.unparse(node.type)) for node in nodes]
        caught = " or ".join(types)
        output = []
        for line in lines[statement.end_lineno :]:
            if not line.startswith("#>"):
                break
            output.append(line[2:].strip())
        if "" in output:  # a message of several paragraphs
            output = [" ".join(output[: output.index("")])]
        elif isinstance(statement, ast.Try) and "print(error)" in handled(nodes):
            output = [" ".join(output)]
        said = []
        for line in output if caught else []:
            if match := NAMED.fullmatch(line):
                said.append((match[1], match[2] or ""))
            elif not OTHER.fullmatch(line):
                said.append((caught, line))
        if any(not name.isidentifier() or name == "Exception" for name, _ in said):
            raise ValueError(f"which error is it? {said}")
        if caught and not said:
            raise ValueError(f"an error is caught and not printed: {caught}")
        yield from said


def handled(nodes: list[ast.ExceptHandler]) -> list[str]:
    """Return the statements with which errors are handled."""
    return [ast.unparse(statement) for node in nodes for statement in node.body]


def shown(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, message and the heading above it for each error on a page.

    Raises:
      ValueError: if a block catches an error that it does not print.
    """
    heading = ""
    for _, kind, code, title in PART.findall(text):
        heading = title or heading
        if kind == "python" and "except" in code:
            for name, message in printed(textwrap.dedent(code)):
                yield name, message, heading


def messages(text: str) -> set[str]:
    """Return the messages that a page shows, none while one is not printed yet.

    The list of all messages warns of such a page.
    """
    try:
        return {message for _, message, _ in shown(text)} - {""}
    except ValueError:
        return set()


def index(pages: list[tuple[str, str, str]]) -> str:
    """Return all messages as Markdown, below the name of their error.

    A page that catches an error and does not print it is a warning, for the output of
    a new page is not there before `make update`.

    Args:
      pages: of each page its address, its title and its text.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for address, title, text in pages:
        try:
            for name, message, heading in shown(text):
                target = f"../{address}#{slugify(heading, '-')}"
                links = found.setdefault(name, {}).setdefault(message, [])
                if (link := f"[{title}: {heading}]({target})") not in links:
                    links.append(link)
        except ValueError as error:
            log.warning(f"{address}: {error}: print it, then run `make update`")
    parts = []
    for name in sorted(found):
        parts.append(f"## {name}")
        # What is shown by its name alone comes last.
        for message in sorted(found[name], key=lambda text: (not text, text.lower())):
            block = f"``` {{ .text .output .message .no-copy }}\n{message}\n```"
            parts.append(block if message else "Shown by its name alone:")
            parts.append("\n".join(f"- {link}" for link in found[name][message]))
    return "\n\n".join(parts) + "\n"


def texts(nav: list) -> dict[str, str]:
    """Return what the page includes, by name of the file."""
    pages = []
    for label, address in listed(nav):
        if address.endswith(".md"):
            text, meta = get_data((ROOT / "docs" / address).read_text("utf-8"))
            pages.append((address, label or meta["title"], text))
    return {"errors/messages.md": index(pages)}
