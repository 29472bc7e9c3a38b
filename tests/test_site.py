"""The built site: links lead somewhere, and pages come from one host."""

import json
import re
import subprocess
import sys
from urllib.parse import urljoin

import pytest
import yaml
from bs4 import BeautifulSoup

from tools.gate.memory import SITE, reads
from tools.gate.run_page import VERSIONS
from tools.gate.site import Site, broken_links, built, invalid, loads, soups
from tools.project import ROOT
from tools.website import hooks, twins

pytestmark = reads(*SITE)
# Damages that a build must not survive: (file, text), on top of one good page.
BROKEN = {
    "a link to no page": ("index.md", "[gone](gone.md)"),
    "a link to no heading": ("index.md", "[gone](index.md#gone)"),
    "an absolute link": ("index.md", "[far](/index.md)"),
    "a snippet of no file": ("index.md", '--8<-- "gone.py"'),
    "a page that nav forgets": ("orphan.md", "Text."),
}
# HTML that is not valid, and what the validator says of it.
INVALID = {
    '<p id="a">x</p><p id="a">y</p>': "Duplicate ID",
    '<label tabindex="">x</label>': "Bad value",
    '<input type="checkbox" autocomplete="off">': "is only allowed when",
    "<div><p>x</p>": "Unclosed element",
    "<p>x</p></div>": "Stray end tag",
    '<p data-a="1" data-a="2">x</p>': "Duplicate attribute",
    "<ul><p>x</p></ul>": "not allowed as child",
    '<a href="/"><button>x</button></a>': "must not appear as a descendant",
}
DRAWN = """\
<svg><defs><clipPath id="p1"><path id="m1" d="M 0 0"/></clipPath></defs>
<g id="patch_1" clip-path="url(#p1)"><use xlink:href="#m1"/></g></svg>
"""


def loaded_from_elsewhere(site):
    """Return what the pages load from another host than the site's own."""
    return [
        link
        for page, soup in soups(site).items()
        for link in loads(soup)
        if not urljoin(page, link).startswith(site.url)
    ]


def published_sources(site):
    """Return the files of the site that are sources, neither pages nor their twins."""
    sources = {".py", ".md", ".j2", ".yml", ""}
    made = {site.folder / page / "index.md": page for page in site.pages()}
    files = [path for path in site.folder.rglob("*") if path.is_file()]
    for path, page in made.items():
        first = path.read_text("utf-8").partition("\n")[0] if path.exists() else ""
        if first == twins.mark(site.url + page):
            files.remove(path)
    return [path.name for path in files if path.suffix in sources]


def test_every_link_leads_somewhere(site):
    assert not broken_links(site)


def test_nothing_is_loaded_from_another_host(site):
    assert not loaded_from_elsewhere(site)


def test_every_page_is_valid_html(site):
    assert not invalid(*site.folder.rglob("*.html"))


def test_html_that_is_not_valid_is_seen(tmp_path):
    start = '<!DOCTYPE html>\n<html lang="en"><title>Text</title>\n'
    for number, body in enumerate(["<p>x</p>", *INVALID]):
        (tmp_path / f"{number}.html").write_text(start + body)
    errors = invalid(*tmp_path.iterdir())
    for number, says in enumerate(INVALID.values(), 1):
        assert any(f"/{number}.html" in e and says in e for e in errors), says
    assert not any("/0.html" in error for error in errors)
    assert "Error: No documents specified." in invalid()


def test_drawings_of_one_page_share_no_ids(site):
    for text in (hooks.apart(2 * DRAWN), site.file("cost/").read_text("utf-8")):
        drawings = [svg for svg in hooks.DRAWING.findall(text) if " id=" in svg]
        ids = [set(re.findall(r'\sid="([^"]*)"', svg)) for svg in drawings]
        assert len(drawings) > 1
        assert len(set.union(*ids)) == sum(map(len, ids))
        for own, svg in zip(ids, drawings, strict=True):
            assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', svg)) <= own


def test_no_source_file_is_published(site):
    assert not published_sources(site)


def test_the_checks_of_the_site_can_fail(tmp_path):
    (tmp_path / "index.html").write_text(
        '<a href="gone/">x</a><a href="#gone">x</a><h2 id="here">x</h2>'
        '<a href="#here">x</a><a href="https://example.com/">x</a>'
        '<script src="https://example.com/x.js"></script>'
        '<link rel="stylesheet" href="//example.com/x.css">'
    )
    (tmp_path / "404.html").write_text('<link rel="canonical" href="https://a.b/">')
    (tmp_path / "exercise.py").write_text("")
    (tmp_path / "index.md").write_text("# Not made by the build")
    broken = Site(tmp_path, "http://127.0.0.1/nnx-by-example/")
    assert [text.split(": ")[1] for text in broken_links(broken)] == [
        "gone/ is not there",
        "#gone",
    ]
    assert loaded_from_elsewhere(broken) == [
        "https://example.com/x.js",
        "//example.com/x.css",
    ]
    assert sorted(published_sources(broken)) == ["exercise.py", "index.md"]


def test_every_page_has_a_title_and_a_description_of_its_own(site):
    pages = {p: soup for p, soup in soups(site).items() if p != site.url + "404.html"}
    for texts in (
        [soup.title.text for soup in pages.values()],
        [
            soup.find("meta", {"name": "description"})["content"]
            for soup in pages.values()
        ],
    ):
        assert len(set(texts)) == len(pages)
    assert all(len(soup.find_all("h1")) == 1 for soup in pages.values())


def test_search_knows_the_sections_of_lessons_and_programs(site):
    index = json.loads(
        (site.folder / "search" / "search_index.json").read_text("utf-8")
    )
    text = {entry["location"]: entry["text"] for entry in index["docs"]}
    assert "rngs.params" in text["course/call-vs-init/#the-api"]
    assert "nnx_step" in text["examples/diabetes_regression/#two-training-steps"]
    assert "<svg" not in "".join(text.values())


def test_the_figures_are_those_of_this_test_run(site, pytestconfig):
    html = (site.folder / "verified" / "index.html").read_text("utf-8")
    rows = BeautifulSoup(html, "html.parser").find("table").find_all("tr")
    figures = dict([cell.text for cell in row.find_all(["td", "th"])] for row in rows)
    done, total = figures["pages and programs verified"].split(" of ")
    known, changed = hooks.last_run()
    assert (int(done), int(total)) == (len(known), len(known + changed))
    if not pytestconfig.getoption("splits"):  # which run a part of the pages
        assert not changed, "run tests/test_pages.py first: it verifies the pages"
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


def test_a_site_is_built_once_and_all_who_ask_hear_what_mkdocs_says(tmp_path):
    root, folder = tmp_path / "root", tmp_path / "site"
    (root / "docs").mkdir(parents=True)
    (root / "mkdocs.yml").write_text("site_name: Broken\nnav: [gone.md]\n")
    for _ in range(2):
        with pytest.raises(
            AssertionError, match=r"'gone\.md' is included in the 'nav'"
        ):
            built(folder, "http://127.0.0.1/", root)
        (root / "mkdocs.yml").unlink(missing_ok=True)  # it would say so


def _validation():
    """Return the `validation:` part of mkdocs.yml as it is written there."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    return yaml.safe_load(text.partition("\nvalidation:\n")[2])
