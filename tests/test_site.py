"""The built site: links lead somewhere, pages are light and come from one host."""

import gzip
import json
import subprocess
import sys
from urllib.parse import unquote, urldefrag, urljoin

import pytest
import yaml
from bs4 import BeautifulSoup

from tests.pages import ROOT
from tests.run_page import VERSIONS

# What a page's own HTML may weigh, compressed: a notebook no more than a lesson.
MAX_HTML_KB = 16

# Damages that a build must not survive: (file, text), on top of one good page.
BROKEN = {
    "a link to no page": ("index.md", "[gone](gone.md)"),
    "a link to no heading": ("index.md", "[gone](index.md#gone)"),
    "an absolute link": ("index.md", "[far](/index.md)"),
    "a snippet of no file": ("index.md", '--8<-- "gone.py"'),
    "a page that nav forgets": ("orphan.md", "Text."),
}


def soups(site):
    """Yield address and parsed HTML of every page, the page for wrong addresses too."""
    for page in [*site.pages(), "404.html"]:
        file = site.folder / page
        html = (file / "index.html" if file.is_dir() else file).read_text("utf-8")
        yield site.url + page, BeautifulSoup(html, "html.parser")


def test_every_link_leads_somewhere(site):
    pages = dict(soups(site))
    ids = {url: {tag["id"] for tag in soup(id=True)} for url, soup in pages.items()}
    wrong = []
    for page, soup in pages.items():
        for tag in soup.find_all(["a", "link", "script", "img"]):
            link = tag.get("href") or tag.get("src")
            url, fragment = urldefrag(urljoin(page, link or page))
            if not url.startswith(site.url):
                continue
            file = site.folder / unquote(url.removeprefix(site.url))
            if not (file / "index.html" if file.is_dir() else file).is_file():
                wrong.append(f"{page}: {link} is not there")
            elif fragment and url in ids and unquote(fragment) not in ids[url]:
                wrong.append(f"{page}: {link}: no such heading")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_loaded_from_another_host(site):
    for page, soup in soups(site):
        loaded = [tag.get("src") for tag in soup.find_all(src=True)]
        loaded += [
            tag["href"]
            for tag in soup.find_all("link", href=True)
            if tag["rel"] not in (["canonical"], ["next"], ["prev"])
        ]
        assert all(urljoin(page, url).startswith(site.url) for url in loaded), loaded


def test_every_page_has_a_title_and_a_description_of_its_own(site):
    pages = {page: soup for page, soup in soups(site) if page != site.url + "404.html"}
    for texts in (
        [soup.title.text for soup in pages.values()],
        [
            soup.find("meta", {"name": "description"})["content"]
            for soup in pages.values()
        ],
    ):
        assert len(set(texts)) == len(pages)
    assert all(len(soup.find_all("h1")) == 1 for soup in pages.values())


def test_a_notebook_is_as_light_as_a_lesson(site):
    for page in site.pages():
        html = (site.folder / page / "index.html").read_bytes()
        assert len(gzip.compress(html)) < MAX_HTML_KB * 1024, page


def test_search_knows_the_sections_of_lessons_and_programs(site):
    index = json.loads(
        (site.folder / "search" / "search_index.json").read_text("utf-8")
    )
    text = {entry["location"]: entry["text"] for entry in index["docs"]}
    assert "rngs.params" in text["course/call-vs-init/#the-api"]
    assert "nnx_step" in text["examples/diabetes_regression/#two-training-steps"]
    assert "<svg" not in "".join(text.values())


def test_no_source_file_is_published(site):
    published = {path.suffix for path in site.folder.rglob("*") if path.is_file()}
    assert not published & {".py", ".md", ".j2", ".yml", ""}


def test_the_figures_are_those_of_this_test_run(site):
    html = (site.folder / "verified" / "index.html").read_text("utf-8")
    rows = BeautifulSoup(html, "html.parser").find("table").find_all("tr")
    figures = dict([cell.text for cell in row.find_all(["td", "th"])] for row in rows)
    done, total = figures["pages and programs verified"].split(" of ")
    assert done == total, "run tests/test_pages.py first: it verifies the pages"
    assert int(figures["code blocks executed"]) > 20
    assert figures["jax version"] == VERSIONS["jax"]


@pytest.mark.parametrize("damage", [None, *BROKEN])
def test_the_build_fails_on_a_broken_page(tmp_path, damage):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Home\n\nText.\n")
    if damage:
        name, text = BROKEN[damage]
        (docs / name).write_text(f"# Home\n\n{text}\n")
    config = {
        "site_name": "Broken",
        "docs_dir": str(docs),
        "site_dir": str(tmp_path / "site"),
        "nav": ["index.md"],
        "validation": _validation(),
        "markdown_extensions": [{"pymdownx.snippets": {"check_paths": True}}],
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (build.returncode != 0) == bool(damage), build.stderr


def _validation():
    """Return the `validation:` part of mkdocs.yml as it is written there."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    return yaml.safe_load("validation:" + text.partition("\nvalidation:")[2])[
        "validation"
    ]
