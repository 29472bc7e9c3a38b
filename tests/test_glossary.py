"""The glossary: every entry is whole and in use, and pages link to it by themselves."""

import json
import re

import pytest
from mkdocs.exceptions import PluginError

from tools.gate.site import soups
from tools.project import DOCS
from tools.sources import site_config
from tools.website import api, glossary

SOURCE = """\
---
title: Glossary
unlinked: [state]
also:
  loss: [losses]
---

Words.

## KV cache

What is **kept**, by `call`, of [a token](../course/token/index.md).

See [Cache](../course/cache/index.md).

## loss

A number.

In Linen: the same "number".
See [Loss](../course/loss/index.md).

## loss scale

A factor.

See [Scale](../course/scale/index.md).

## state

All of it.

See [State](../course/state/index.md).
"""
# The link, in brackets, is the first use in running prose, and stands nowhere else.
LINKED = {
    "the first use alone": "<p>A [loss], a loss.</p>",
    "a plural, an end of line": "<li>[KV\ncaches]</li>",
    "the start of a sentence": "<td>[Loss]</td>",
    "another spelling": "<p>[Losses], loss</p>",
    "the longer of two": "<p>A [loss scale]</p>",
    "emphasis": "<p>A <em>[loss]</em></p>",
    "not in code": "<pre>loss</pre><p><code>loss</code> [loss]</p>",
    "not in a heading": '<h2 id="loss">A loss</h2>[loss]',
    "not in a link": '<p><a href="#">a loss</a></p>',
    "not in the title of a fold": "<summary>loss</summary>",
    "not in the title of a box": '<p class="admonition-title">Loss</p><p>[loss]</p>',
    "not in a drawing": '<svg aria-label="loss"><text>loss</text></svg>',
    "not in a tag": '<p title="loss">A</p>',
    "not a part of a word": "<p>glossy, lossy, loss-free, no-loss</p>",
    "not in another case": "<p>LOSS, kv cache</p>",
    "not a word too common": "<p>a state</p>",
}
# Damages of the source, each with what the message says.
BROKEN = {
    "no lesson": ("See [Loss](../course/loss/index.md).", "See nothing.", "'loss'"),
    "no meaning": ("A number.\n\n", "", "'loss'"),
    "two entries": ("## loss scale", "## loss", "stands twice"),
    "a spelling with an entry": ("[losses]", "[loss scale]", "stands twice"),
    "a spelling of nothing": ("  loss:", "  lass:", "'lass'"),
    "no such word": ("[state]", "[stare]", "'stare'"),
}


def the_glossary():
    """Return the glossary of the site."""
    return glossary.read((DOCS / glossary.PAGE).read_text("utf-8"))


def linked(text, page="index.md"):
    """Return the text with what links to the glossary in brackets."""
    text = glossary.linked(text, glossary.read(SOURCE), page, "../glossary/")
    return re.sub(r'<a class="term".*?>(.*?)</a>', r"[\1]", text, flags=re.S)


def articles(site):
    """Return the content of each page that links terms, by its address."""
    pages = [page for page in site.pages() if not page.startswith("reference/")]
    return {page: soups(site)[site.url + page].article for page in pages}


def unused(terms, pages):
    """Return the names of the terms that no page uses.

    Args:
      terms: the glossary.
      pages: the HTML of the pages. A term has to stand in prose, in a link or not; one
        that pages never link may stand in code.
    """
    whole = re.sub(r"</?a\b.*?>", "", "\n".join(pages), flags=re.S)
    matches = terms.pattern.finditer(whole)
    used = {
        terms.found[m.lastindex - 2].name for m in matches if (m.lastindex or 1) > 1
    }
    words = set(re.findall(r"\w+", re.sub("<.*?>", "", whole, flags=re.S)))
    in_code = {t.name for t in terms.terms if words.issuperset(t.name.split(", "))}
    used |= {t.name for t in terms.terms if not t.spellings} & in_code
    return [term.name for term in terms.terms if term.name not in used]


@pytest.mark.parametrize("case", LINKED)
def test_the_first_use_in_prose_is_linked(case):
    assert linked(re.sub(r"[][]", "", LINKED[case])) == LINKED[case]


def test_a_link_shows_the_meaning_and_leads_to_the_entry():
    terms = glossary.read(SOURCE)
    text = glossary.linked("KV cache", terms, "index.md", "../glossary/")
    assert text == (
        '<a class="term" href="../glossary/#kv-cache" '
        'title="What is kept, by call, of a token.">KV cache</a>'
    )


def test_a_page_links_few_terms_and_not_what_it_teaches(monkeypatch):
    text = "<p>loss, KV cache, loss scale</p>"
    monkeypatch.setattr(glossary, "MOST", 2)
    assert linked(text) == "<p>[loss], [KV cache], loss scale</p>"
    taught = linked(text, "course/loss/index.md")
    assert taught == "<p>loss, [KV cache], [loss scale]</p>"


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_glossary_does_not_build(damage):
    old, new, said = BROKEN[damage]
    assert SOURCE.count(old) == 1
    with pytest.raises(PluginError, match=said):
        glossary.read(SOURCE.replace(old, new))


def test_entries_are_in_order_and_lead_to_pages():
    terms = the_glossary().terms
    names = [term.name.lower() for term in terms]
    assert names == sorted(names)
    pages = {address for _, address in api.listed(site_config()["nav"])}
    assert {term.lesson for term in terms} <= pages


def test_every_term_is_used(site):
    pages = [str(article) for article in articles(site).values()]
    assert unused(the_glossary(), pages) == []


def test_a_term_that_no_page_uses_is_noticed():
    pages = ["<p>A loss, a state.</p>", "<h2>KV cache</h2><code>loss scale</code>"]
    assert unused(glossary.read(SOURCE), pages) == ["KV cache", "loss scale"]
    pages = ['<a href="#">KV cache</a>', "losses", "<p>loss <a>scale</a></p>"]
    assert unused(glossary.read(SOURCE), pages) == ["state"]


def test_pages_link_each_term_once_and_in_prose(site):
    terms = {term.anchor: term for term in the_glossary().terms}
    count = 0
    for page, article in articles(site).items():
        links = article.select("a.term")
        anchors = [link["href"].partition("#")[2] for link in links]
        assert len(set(anchors)) == len(anchors) <= glossary.MOST, page
        for link, anchor in zip(links, anchors, strict=True):
            term = terms[anchor]
            assert link["title"] == term.meaning
            assert term.lesson.removesuffix("index.md") != page
            assert link.find_parent(["p", "li", "td"]), page
            assert not link.find_parent(["a", "code", "pre", "summary"])
        count += len(links)
    assert count > 100


def test_what_machines_read_has_no_links_to_the_glossary(site):
    for file in site.folder.rglob("index.md"):
        assert "glossary/index.md#" not in file.read_text("utf-8"), file
    index = (site.folder / "search" / "search_index.json").read_text("utf-8")
    documents = json.loads(index)["docs"]
    assert not [one["location"] for one in documents if "<a" in one["text"]]
    entries = [one["location"] for one in documents if "glossary/#" in one["location"]]
    assert len(entries) == len(the_glossary().terms)
