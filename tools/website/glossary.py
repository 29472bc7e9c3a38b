"""Links the first use of each term on a page to its entry in the glossary.

The terms stand in one place, the page `reference/glossary.md`, with what they mean and
the lesson that teaches them. So authors write no link and no tooltip.
"""

import functools
import html
import posixpath
import re
from dataclasses import dataclass

from markdown.extensions.toc import slugify
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.utils.meta import get_data

PAGE = "reference/glossary.md"
MOST = 8  # terms linked on one page: with all of them it would be hard to read

ENTRY = re.compile(r"^## (.+)\n\n((?:.+\n)+)\n(?:.+\n)*.*\]\((.+?)\)\.$", flags=re.M)
# What holds no running prose; any other tag is passed over, and its text is not.
ASIDE = (
    r"<(a|button|code|figure|h[1-6]|label|pre|script|style|summary|svg|th)\b.*?</\1>"
    r'|<!--.*?-->|<p class="admonition-title">.*?</p>|<[^>]+>'
)


@dataclass(frozen=True)
class Term:
    """One entry of the glossary."""

    name: str
    """Its heading."""
    spellings: list[str]
    """How pages write it; empty if they do not link it."""
    meaning: str
    """What it means, as plain text."""
    lesson: str
    """The page that teaches it, as a path in `docs/`."""
    anchor: str
    """The id of its heading."""


@dataclass(frozen=True)
class Glossary:
    """All terms, and a pattern that finds them in HTML."""

    terms: list[Term]
    found: list[Term]
    """The term that each group of the pattern, from the second on, stands for."""
    pattern: re.Pattern


@functools.lru_cache(maxsize=1)
def read(source: str) -> Glossary:
    """Return what the source of the glossary says.

    Its front matter adds to the headings: `also` has other spellings of a term, and
    `unlinked` has those that every paragraph uses or that pages only write as code.

    Raises:
      PluginError: if an entry is incomplete, stands twice, or is not there.
    """
    text, meta = get_data(source)
    also, unlinked = meta.get("also", {}), meta.get("unlinked", [])
    terms = [
        Term(
            name,
            [] if name in unlinked else [name, *also.get(name, [])],
            re.sub(r"\[(.+?)\]\(.+?\)|[`*]", r"\1", " ".join(meaning.split())),
            posixpath.normpath(f"{posixpath.dirname(PAGE)}/{lesson}"),
            slugify(name, "-"),
        )
        for name, meaning, lesson in ENTRY.findall(text)
    ]
    names = [term.name for term in terms]
    if wrong := set(re.findall("^## (.+)$", text, flags=re.M)) - set(names):
        raise PluginError(f"{PAGE}: no meaning, or no lesson at the end: {wrong}")
    if wrong := {*also, *unlinked} - set(names):
        raise PluginError(f"{PAGE}: in the front matter, but without an entry: {wrong}")
    spelled = [(name, term) for term in terms for name in term.spellings]
    if len(dict(spelled)) < len(spelled) or len(set(names)) < len(names):
        raise PluginError(f"{PAGE}: a term, or a spelling of one, stands twice")
    spelled.sort(key=lambda pair: -len(pair[0]))  # "optimizer state" before "optimizer"
    words = "|".join(f"({pattern_of(name)})" for name, _ in spelled)
    pattern = rf"{ASIDE}|(?<![\w-])(?:{words})(?:e?s)?(?![\w-])"
    return Glossary(terms, [t for _, t in spelled], re.compile(pattern, re.S))


def pattern_of(name: str) -> str:
    """Return a pattern for a name: also at the start of a sentence, and over lines."""
    first = f"[{name[0].upper()}{name[0]}]" if name[0].islower() else name[0]
    return first + r"\s+".join(map(re.escape, name[1:].split(" ")))


def linked(text: str, glossary: Glossary, page: str, address: str) -> str:
    """Return the HTML of a page with the first use of each term as a link.

    Terms that the page itself teaches stay as they are.

    Args:
      text: the content of the page.
      glossary: the terms.
      page: the path of the page in `docs/`.
      address: of the glossary, as the page links it.
    """
    seen = [term.anchor for term in glossary.terms if term.lesson == page]
    most = len(seen) + MOST

    def part(match: re.Match) -> str:
        at = (match.lastindex or 1) - 2
        if at < 0 or len(seen) == most or glossary.found[at].anchor in seen:
            return match[0]
        term = glossary.found[at]
        seen.append(term.anchor)
        link = html.escape(f"{address}#{term.anchor}")
        meaning = html.escape(term.meaning)
        return f'<a class="term" href="{link}" title="{meaning}">{match[0]}</a>'

    return glossary.pattern.sub(part, text)


def link(text: str, page: Page, files: Files) -> str:
    """Return the HTML of a page with links to the glossary.

    Reference pages stay as they are: they list names, and nobody reads them through.
    """
    source = files.get_file_from_path(PAGE)
    folder = posixpath.dirname(PAGE)
    if source is None or page.file.src_uri.startswith(f"{folder}/"):
        return text
    address = source.url_relative_to(page.file)
    return linked(text, read(source.content_string), page.file.src_uri, address)
