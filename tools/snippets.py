"""Puts the snippets that a page includes in their place, as the site's parser does."""

import re

import markdown

NAME = "pymdownx.snippets"


def expanded(text: str, options: dict) -> str:
    """Return Markdown with each snippet in its place.

    Args:
      text: Markdown with snippet lines.
      options: of pymdownx.snippets, as `mkdocs.yml` has them.

    Raises:
      SnippetMissingError: if one is not found and the options check for it.
    """
    parser = markdown.Markdown(extensions=[NAME], extension_configs={NAME: options})
    return "\n".join(parser.preprocessors["snippet"].run(text.split("\n")))


def included(text: str) -> set[str]:
    """Return the names of files that Markdown includes, not what these include."""
    return set(re.findall(r'--8<-- "([^":]+)', text))
