"""The site in a real browser: what a reader sees, presses, copies and pastes."""

import gzip
import os
import re
import subprocess
import sys
from contextlib import nullcontext

import jax
import pytest
from axe_playwright_python.sync_playwright import Axe
from flax import nnx
from flax.errors import TraceContextError
from playwright.sync_api import expect

from tests.pages import ROOT, site_config
from tools import api, errors

LESSON = "course/call-vs-init/"
PROGRAM = "examples/diabetes_regression/"
SCHEMES = {"light": "default", "dark": "slate"}
# What depends on the scheme is looked at in both, all the rest in one.
REPORT = {"resultTypes": ["violations"]}
RULES = {
    "light": REPORT,
    "dark": {**REPORT, "runOnly": ["color-contrast", "link-in-text-block"]},
}
PHONE = {"width": 390, "height": 844}
# What the first load of a page may take, with an empty cache.
MAX_REQUESTS, MAX_KB = 10, 100
# Of these only the name is shown, and it says nothing of what is wrong.
COMMON = ("TypeError", "ValueError")
# The theme makes of `real-` the pattern `*`, which every word of the site matches.
LATE = {"grad requires real- or complex-valued inputs"}


@pytest.fixture
def open_page(browser, site):
    """Return a function that opens a page and notes its requests and its errors."""
    contexts = []

    def open_page(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.requested, page.failures = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda error: page.failures.append(str(error)))
        page.on("requestfailed", lambda request: page.failures.append(request.url))
        page.goto(site.url + path, wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()


def unfold(page):
    """Open every folded part of a page."""
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")


def copied_blocks(page):
    """Return what each copy button of a Python block puts on the clipboard, in order.

    A reader opens the folded parts and the tabs first, so this does too.
    """
    unfold(page)
    copied = []
    for block in page.locator(".language-python").all():
        if not block.is_visible():
            block.evaluate(
                """block => {
                  const tab = block.closest(".tabbed-block")
                  const at = [...tab.parentElement.children].indexOf(tab)
                  tab.closest(".tabbed-set").querySelectorAll("label")[at].click()
                }"""
            )
        block.hover()
        block.locator("button.md-code__button[data-md-type=copy]").click()
        copied.append(page.evaluate("navigator.clipboard.readText()"))
    return copied


def output_of(blocks, folder, *options, **environment):
    """Return what the pasted blocks print as one script in a fresh interpreter."""
    script = folder / "pasted.py"
    script.write_text("\n\n".join(blocks))
    run = subprocess.run(
        [sys.executable, *options, script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(("path", "least"), [("", 1), (LESSON, 10)])
def test_a_copied_page_runs_and_prints_what_it_shows(open_page, tmp_path, path, least):
    page = open_page(path)
    blocks = copied_blocks(page)
    assert len(blocks) == page.locator(".language-python").count() >= least
    shown = [
        line.removeprefix("#>").removeprefix(" ")
        for block in blocks
        for line in block.splitlines()
        if line.startswith("#>")
    ]
    assert output_of(blocks, tmp_path, "-W", "error").splitlines() == shown


def test_a_copied_program_runs_and_prints_what_the_page_shows(open_page, tmp_path):
    page = open_page(PROGRAM)
    printed = output_of(copied_blocks(page), tmp_path, MPLBACKEND="template")
    assert printed == "".join(page.locator(".output code").all_inner_texts())
    assert page.locator("figure.figure svg").is_visible()


def too_wide(page, width):
    """Return what reaches beyond the right edge of a window of this width."""
    page.set_viewport_size({"width": width, "height": 844})
    return page.evaluate(
        """width => [...document.querySelectorAll("article *, html")]
          .filter(e => !e.closest("pre, svg, .md-typeset__scrollwrap"))
          .filter(e => Math.max(e.getBoundingClientRect().right,
                                e.tagName == "HTML" ? e.scrollWidth : 0) > width + 1)
          .map(e => e.outerHTML.slice(0, 80))""",
        width,
    )


def too_much(requested, site):
    """Return what a first load asks for, if it is more than the budget allows.

    Args:
      requested: the addresses, all of them of the site.
      site: the built site; its server compresses nothing, as the published one does.
    """
    sizes = []
    for url in requested:
        file = site.file(url.removeprefix(site.url).partition("?")[0])
        sizes.append(len(gzip.compress(file.read_bytes())) / 1024)
    fits = len(sizes) <= MAX_REQUESTS and sum(sizes) <= MAX_KB
    all_of_it = zip(requested, sizes, strict=True)
    return [] if fits else [f"{url}: {size:.0f} KB" for url, size in all_of_it]


@pytest.mark.parametrize("part", range(4))  # a test for each quarter of the pages
def test_every_page_is_whole_accessible_and_fits(open_page, site, part):
    for path in [*site.pages(), "404.html"][part::4]:
        page = open_page(path, viewport=PHONE)
        unfold(page)
        for system, scheme in SCHEMES.items():  # the page follows the system at once
            page.emulate_media(color_scheme=system)
            page.wait_for_selector(f"body[data-md-color-scheme={scheme}]")
            page.evaluate("Promise.all(document.getAnimations().map(a => a.finished))")
            found = Axe().run(page, options=RULES[system])
            report = f"{path} in {system}\n{found.generate_report()}"
            assert not found.violations_count, report
        for width in (390, 768):
            assert not too_wide(page, width), f"{path}: {too_wide(page, width)}"
        elsewhere = [url for url in page.requested if not url.startswith(site.url)]
        assert not elsewhere, f"{path} asks another host: {elsewhere}"
        assert not page.failures, f"{path}: {page.failures}"
        assert not too_much(page.requested, site), f"{path} is heavy"
        page.context.close()


def test_the_checks_of_every_page_can_fail(open_page, site):
    page = open_page("", viewport=PHONE)
    assert not too_wide(page, 390)
    page.evaluate(
        """document.querySelector("h1").style.cssText = "color: #eee; width: 900px"
        new Image().src = "http://localhost:9/elsewhere.png" """
    )
    page.wait_for_event("requestfailed")
    assert too_wide(page, 390)
    assert Axe().run(page).violations_count
    assert not all(url.startswith(site.url) for url in page.requested)
    assert page.failures


def test_the_budget_can_be_exceeded(site):
    index = f"{site.url}search/search_index.json"
    assert not too_much([site.url], site)
    assert len(too_much([site.url] * (MAX_REQUESTS + 1), site)) == MAX_REQUESTS + 1
    assert "search_index" in too_much([index, index], site)[0]


@pytest.mark.parametrize("way", ["", "?q=kernel"])
def test_the_search_index_is_loaded_when_somebody_searches(open_page, way):
    page = open_page(way, viewport={"width": 1280, "height": 900})
    loaded = any("search_index" in url for url in page.requested)
    assert loaded == bool(way)
    with (
        page.expect_response(re.compile("search_index"))
        if not loaded
        else nullcontext()
    ):
        page.locator("input.md-search__input").focus()
    page.locator("input.md-search__input").fill("kernel")
    expect(page.locator(".md-search-result__link").first).to_be_visible(timeout=20_000)


def wanted():
    """Return names and messages, each with the pages of which one has to come first."""
    tagged, messages = {"call_vs_init_forward": {LESSON}}, []
    for _, address in api.listed(site_config()["nav"]):
        page = re.sub(r"index\.md$|\.\w+$", "/", address).replace("//", "/")
        for tag in api.read_page(address)[0].get("tags", []):
            if re.match(r"nnx?\.", tag):  # the search knows no capitals
                tagged.setdefault(tag.lower(), set()).add(page)
        if address.endswith(".md"):
            text = (ROOT / "docs" / address).read_text("utf-8")
            messages += [(said or name, page) for name, said, _ in errors.shown(text)]
    messages = [one for one in messages if one[0] not in COMMON]
    texts = {said: said for said, _ in messages}
    with pytest.raises(TraceContextError) as raised:
        jax.jit(nnx.Rngs(0).noise)()
    texts[f"flax.errors.TraceContextError: {raised.value}"] = str(raised.value)
    for text, own in texts.items():  # some pages print no more than the beginning
        alike = [p for m, p in messages if m.startswith(own) or own.startswith(m)]
        tagged[text] = set(alike)
    return tagged


def found(page, text):
    """Return the pages that the search shows for a text, the best first."""
    field = page.locator("input.md-search__input")
    says = "document.querySelector('.md-search-result__meta').textContent.trim()"
    results = page.locator(".md-search-result__item > a:first-of-type")
    for typed, sign in (("", "=="), (text, "!=")):
        field.fill(typed)
        field.dispatch_event("keyup")
        page.wait_for_function(f"{says} {sign} 'Type to start searching'")
    if "No matching" not in page.evaluate(says):
        results.first.wait_for()
    urls = results.evaluate_all("links => links.map(a => a.href)")
    return [re.sub(r".*/nnx-by-example/|[?#].*", "", url) for url in urls]


def test_search_finds_first_the_lesson_of_a_name_and_of_a_message(open_page):
    page = open_page("", viewport={"width": 1280, "height": 900})
    page.locator("input.md-search__input").focus()  # the index is loaded now
    first = {text: (found(page, text)[:1], pages) for text, pages in wanted().items()}
    late = {t: found for t, (found, pages) in first.items() if not pages & {*found}}
    assert late.keys() == LATE, late
    assert len(first) > 70
    assert found(page, "neverprinted") == []


def test_tabs_switch_by_keyboard(open_page):
    page = open_page(LESSON)
    tabs = page.locator(".tabbed-set").first
    tabs.locator("input").first.focus()
    assert tabs.get_by_text("linen_model.init").is_hidden()
    page.keyboard.press("ArrowRight")
    assert tabs.get_by_text("linen_model.init").is_visible()


def test_a_page_is_readable_without_javascript(open_page):
    page = open_page(LESSON, java_script_enabled=False)
    assert page.get_by_role("heading", name="Why it matters").is_visible()
    page.get_by_text("Linen", exact=True).locator("visible=true").first.click()
    assert page.get_by_text("linen_model.init").first.is_visible()
    page.get_by_text("Show the solution").click()
    assert page.locator("details[open] .language-python").first.is_visible()


def test_instant_navigation_keeps_the_page(open_page, site):
    page = open_page("", viewport={"width": 1280, "height": 900})
    page.evaluate("window.kept = true")
    page.get_by_role("link", name="Start the course").click()
    page.wait_for_url(site.url + "course/")
    assert page.evaluate("window.kept") is True
