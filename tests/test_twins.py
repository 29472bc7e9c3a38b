"""What machines read: a Markdown twin of every page, and the lists of them."""

import re

import nbformat
import pytest

from nnx_by_example import course
from tools.project import DOCS, ROOT
from tools.sources import SNIPPETS, expanded, site_config
from tools.website import twins

PAGE = """\
<div class="hero" markdown>

[Start](../first/index.md){ .md-button } or [read](https://example.com/a), `[x](y)`.
</div>

<div class="plot">
<svg viewBox="0 0 1 1" aria-label="A &amp; B."><text>A</text></svg>
</div>

- :material-school-outline: **New**

``` { .text .output .no-copy }
[0](1)


[2](3) { .kept }

```
"""
PLAIN = """\
[Start](<../first/index.md>) or [read](https://example.com/a), `[x](y)`.

*A & B.*

- **New**

```text
[0](1)


[2](3) { .kept }
```"""


def texts(site):
    """Return the text of each twin by the address of its page."""
    return {
        page: (site.folder / page / "index.md").read_text("utf-8")
        for page in site.pages()
    }


def sources():
    """Return the source of each page that is no notebook, by its address."""
    return {
        file.relative_to(DOCS).as_posix().removesuffix(".md") + "/": file
        for file in DOCS.rglob("*.md")
    }


def outputs(text):
    """Return the printed lines that a text shows, in their order."""
    return re.findall(r"^ *(#>.*?) *$", text, flags=re.M)


def test_the_look_of_the_site_goes_and_code_stays():
    assert twins.plain(PAGE, lambda target: f"<{target}>") == PLAIN


@pytest.mark.parametrize(
    ("snippet", "shown"),
    [
        ("course/call-vs-init/exercise.py:stub", "def "),
        ("course/call-vs-init/params-in-nnx.svg", "*In NNX, "),
        ("course-map.md", "## Phase 1"),
    ],
)
def test_snippets_are_in_their_place(snippet, shown):
    options = site_config().mdx_configs[SNIPPETS]
    text = expanded(f'Text.\n\n--8<-- "{snippet}"\n', options)
    assert shown in twins.plain(text, str)
    assert "--8<--" not in text


def test_every_page_has_a_twin_that_is_plain(site):
    for page, text in texts(site).items():
        first, _, title, _, quote = text.split("\n")[:5]
        assert first == twins.mark(site.url + page), page
        assert title.startswith("# "), page
        assert quote.startswith("> "), page
        for left in ("--8<--", "<svg", "<div", "<style", "{ .", ":material-"):
            assert left not in text, f"{page}: {left}"
        head = (site.folder / page / "index.html").read_text("utf-8")
        assert 'type="text/markdown" href="index.md"' in head, page


def test_a_twin_shows_the_outputs_of_its_page(site):
    found = texts(site)
    compared = 0
    for address, file in sources().items():
        page = re.sub(r"(^|/)index/$", r"\1", address)
        if page in found:  # the template is not published
            expected = outputs(file.read_text("utf-8"))
            assert outputs(found[page]) == expected, page
            compared += len(expected)
    assert compared > 300
    for file in (ROOT / ".cache" / "notebooks").glob("*.ipynb"):
        printed = [
            output.text.strip()
            for cell in nbformat.read(file, as_version=4).cells
            for output in cell.get("outputs", [])
            if output.output_type == "stream"
        ]
        assert printed
        for text in printed:
            assert f"```text\n{text}\n```" in found[f"examples/{file.stem}/"]


def test_links_of_twins_and_lists_lead_to_files(site):
    lists = {name: (site.folder / name) for name in ("llms.txt", "llms-full.txt")}
    found = {name: file.read_text("utf-8") for name, file in lists.items()}
    for page, text in {**texts(site), **found}.items():
        prose = re.sub(twins.CODE, "", text, flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            assert re.match("https?:", link), f"{page}: {link} is not absolute"
            if link.startswith(site.url):
                path = link.removeprefix(site.url).partition("#")[0]
                assert (site.folder / path).is_file(), f"{page}: {link} is not there"


def test_the_lists_name_every_page_once(site):
    listed = (site.folder / "llms.txt").read_text("utf-8")
    full = (site.folder / "llms-full.txt").read_text("utf-8")
    assert listed.startswith("# NNX by Example\n\n> ")
    for page, text in texts(site).items():
        assert listed.count(f"({site.url}{page}index.md): ") == 1, page
        assert full.count(text) == 1, page
    names = re.findall(r"/course/([\w-]+)/index\.md", listed)
    lessons = course.lessons(site_config()["nav"], DOCS)
    assert names == [lesson.name for lesson in lessons]
