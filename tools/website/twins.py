"""Writes what machines read: a Markdown twin of each page, and two lists of them.

`X/index.md` is the page `X/` as text, with all that its source includes and its run
printed. `llms.txt` lists the twins in the form of llmstxt.org; `llms-full.txt` is all
of them in one file, in the order of the navigation.
"""

import html
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from nnx_by_example import course
from tools.sources import SNIPPETS, expanded

ABOUT = """\
The Python blocks of a page are one program: run them from the top, in one namespace. A
line that starts with `#>` is what the statement above it printed in a test run."""

# A drawing, and what it says to those who do not see it.
DRAWING = re.compile(r'<(svg|figure)\b[^>]*? aria-label="([^"]*)".*?</\1>', re.DOTALL)
CODE = r"(?P<code>^(?P<indent> *)```.*?^(?P=indent)```$|`[^`]*`)"
# Boxes, classes and icons, which only the site's look needs; a link inside the site.
LOOK = r"^ *</?div[^>]*>$| ?\{ \.[^}\n]*\}|:material-[\w-]+: ?"
LINK = r"\]\((?P<target>[^)\s:]+)\)"


def mark(address: str) -> str:
    """Return the first line of a twin: it tells twins from sources."""
    return f"<!-- {address} as Markdown -->"


def write_all(files: Files, config: MkDocsConfig) -> None:
    """Write twins, `llms.txt` and `llms-full.txt` into the folder of the built site."""
    pages = in_order(files)
    texts = {path_of(page.file): twin(page, files, config) for page in pages}
    texts["llms-full.txt"] = "\n".join(texts.values())
    texts["llms.txt"] = index(pages, config)
    for name, text in texts.items():
        target = Path(config.site_dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


def in_order(files: Files) -> list[Page]:
    """Return the pages in the order of the navigation: each knows the next one."""
    pages = [file.page for file in files.documentation_pages() if file.page]
    ordered = [page for page in pages if page.is_homepage]
    while following := ordered[-1].next_page:
        ordered.append(following)
    return ordered


def path_of(file: File) -> str:
    """Return where in the site a page has its twin; any other file is there itself."""
    return re.sub(r"\.html$", ".md", file.dest_uri)


def twin(page: Page, files: Files, config: MkDocsConfig) -> str:
    """Return a page as its readers see it, in Markdown; its links lead to twins."""

    def absolute(target: str) -> str:
        path, *heading = target.partition("#")
        source = posixpath.join(posixpath.dirname(page.file.src_uri), path)
        file = files.get_file_from_path(posixpath.normpath(source)) if path else None
        return config.site_url + path_of(file or page.file) + "".join(heading)

    whole = expanded(page.markdown, config.mdx_configs[SNIPPETS])
    text, title = plain(whole, absolute), f"# {page.title}"
    if text.startswith("# "):
        title, _, text = text.partition("\n")
    first = mark(config.site_url + page.file.dest_uri.removesuffix("index.html"))
    return f"{first}\n\n{title}\n\n> {about(page, config)}\n\n{text.strip()}\n"


def plain(text: str, absolute: Callable[[str], str]) -> str:
    """Return Markdown without the site's look, and drawings as their descriptions.

    Args:
      text: Markdown, with snippets expanded.
      absolute: returns the address that a link inside the site leads to.
    """

    def part(found: re.Match) -> str:
        if code := found["code"]:
            code = re.sub(r"^( *)``` \{ \.(\w+).*", r"\1```\2", code, count=1)
            return re.sub(r"\n+(\n *```)$", r"\1", code)
        return f"]({absolute(found['target'])})" if found["target"] else ""

    text = DRAWING.sub(lambda found: f"\n*{html.unescape(found[2])}*\n", text)
    text = re.sub(r"^ +$", "", text, flags=re.M)
    text = re.sub(f"{CODE}|{LOOK}|{LINK}", part, text, flags=re.M | re.S)
    gaps = re.compile(rf"{CODE}|\n{{3,}}", re.M | re.S)
    return gaps.sub(lambda found: found["code"] or "\n\n", text).strip()


def about(page: Page, config: MkDocsConfig) -> str:
    """Return the description of a page in one line; without one, it is the site's."""
    return " ".join(page.meta.get("description", config.site_description).split())


def index(pages: list[Page], config: MkDocsConfig) -> str:
    """Return the text of `llms.txt`: the lessons by phase, then the other pages."""
    phases = {
        f"course/{lesson.name}/index.md": f"Course: {lesson.phase}"
        for lesson in course.lessons(config.nav)
    }
    sections = {title: [] for title in [*phases.values(), "Other pages"]}
    for page in pages:
        section = phases.get(page.file.src_uri, "Other pages")
        link = f"[{page.title}]({config.site_url}{path_of(page.file)})"
        sections[section].append(f"- {link}: {about(page, config)}")
    full = f"[All pages in one file]({config.site_url}llms-full.txt)"
    sections["Other pages"].append(f"- {full}: in the order of the course")
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", "", ABOUT]
    for title, links in sections.items():
        lines += ["", f"## {title}", "", *links]
    return "\n".join(lines) + "\n"
