"""What the site is written in: the pages that are run, and what each of them includes.

The gate and the site agree here on which pages there are, and when one has changed.
"""

import functools
import hashlib
import re
from pathlib import Path

import markdown
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig

from tools.project import DOCS, EXAMPLES, ROOT

SNIPPETS = "pymdownx.snippets"
# What was measured, and not written.
COSTS = EXAMPLES / "cost" / "measured.json"
RELEASES = DOCS / "reference" / "compatibility.json"


@functools.cache
def site_config() -> MkDocsConfig:
    """Return the site's configuration, so that pages are parsed as the site does.

    What a page says does not depend on plugins, and they take half a second to import.
    """
    return load_config(str(ROOT / "mkdocs.yml"), plugins=[], hooks=[])


def pages() -> list[Path]:
    """Return every file whose Python is run: pages, programs, README, CONTRIBUTING."""
    found = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/*.py")]
    return sorted(found)


def made_from(path: Path) -> list[Path]:
    """Return the files that a page is made from: itself, and what it includes."""
    names = sorted(included(path.read_text("utf-8")))
    files = [folder / name for name in names for folder in (DOCS, EXAMPLES)]
    return [path, *(file for file in files if file.is_file())]


def fingerprint(path: Path) -> str:
    """Return a hash of a page, and of the code that it includes."""
    parts = [file.read_bytes() for file in made_from(path)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def included(text: str) -> set[str]:
    """Return the names of files that Markdown includes, not what these include."""
    return set(re.findall(r'--8<-- "([^":]+)', text))


def expanded(text: str, options: dict) -> str:
    """Return Markdown with each snippet in its place, as the site's parser does it.

    Args:
      text: Markdown with snippet lines.
      options: of pymdownx.snippets, as `mkdocs.yml` has them.

    Raises:
      SnippetMissingError: if one is not found and the options check for it.
    """
    parser = markdown.Markdown(
        extensions=[SNIPPETS], extension_configs={SNIPPETS: options}
    )
    return "\n".join(parser.preprocessors["snippet"].run(text.split("\n")))
