"""The site in a real browser: what a reader sees, presses, copies and pastes."""

import ast
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing
from urllib.parse import urljoin

import jax
import pytest
from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from bs4 import BeautifulSoup, SoupStrainer
from flax import nnx
from flax.errors import TraceContextError
from playwright.sync_api import expect

from nnx_by_example import course
from tools.gate.browser import HANG_MS
from tools.gate.memory import SITE, reads
from tools.gate.pages import Block, read_blocks
from tools.gate.process import ENVIRONMENT
from tools.gate.run_page import run_blocks
from tools.gate.site import Site, loads
from tools.project import ROOT
from tools.sources import site_config
from tools.website import api, errors

pytestmark = reads(*SITE)
LESSON = "course/call-vs-init/"
PROGRAM = "examples/diabetes_regression/"
SCHEMES = {"light": "default", "dark": "slate"}
# What depends on the scheme is looked at in both, all the rest in one.
REPORT = {"resultTypes": ["violations"]}
RULES = {
    "light": REPORT,
    "dark": {**REPORT, "runOnly": ["color-contrast", "link-in-text-block"]},
}
# axe makes thousands of colours a page, from some twenty texts, and keeps each of their
# numbers in a WeakMap. Half of its time goes if it reads a text once, and if a number
# is a property. A test sees that its results stay the same.
AXE = (
    "(WeakMap => {"
    + AXE_SCRIPT
    + """})(class {
      key = Symbol()
      has(object) { return this.key in object }
      get(object) { return object[this.key] }
      set(object, value) { object[this.key] = value; return this }
      delete(object) { return delete object[this.key] }
    })
    {
      const { Color } = axe.commons.color
      const { parseString } = Color.prototype
      const known = new Map()
      Color.prototype.parseString = function (text) {
        if (!known.has(text)) known.set(text, parseString.call(new Color(), text))
        const { r, g, b, alpha } = known.get(text)
        return Object.assign(this, { r, g, b, alpha })
      }
    }
    0"""
)
# Runs axe once the page has the scheme of the system, which it follows at once.
RUN = """async ([scheme, options, hang]) => {
  const frame = () => new Promise(requestAnimationFrame)
  const late = performance.now() + hang
  while (document.body.dataset.mdColorScheme != scheme) {
    if (performance.now() > late) throw Error(`The page is never in ${scheme}`)
    await frame()
  }
  await Promise.all(document.getAnimations().map(a => a.finished))
  return axe.run(options)
}"""
# Types one text after the other into the search, and waits for what it shows of each.
SEARCH = """async ([texts, hang]) => {
  const [field] = document.getElementsByClassName("md-search__input")
  const [result] = document.getElementsByClassName("md-search-result")
  const [meta] = result.getElementsByClassName("md-search-result__meta")
  const [list] = result.getElementsByClassName("md-search-result__list")
  const shows = typed => {
    const says = meta.textContent.trim()
    const none = !typed || says.startsWith("No matching")
    return (says == "Type to start searching") == !typed && !list.firstChild == none
  }
  const shown = typed => new Promise((resolve, reject) => {
    const look = () => shows(typed) && resolve(watch.disconnect())
    const watch = new MutationObserver(look)
    watch.observe(result, { childList: true, subtree: true, characterData: true })
    setTimeout(() => reject(Error(`Nothing is shown for '${typed}'`)), hang)
    look()
  })
  const found = {}
  for (const text of texts) {
    for (const typed of ["", text]) {
      field.value = typed
      field.dispatchEvent(new KeyboardEvent("keyup"))
      await shown(typed)
    }
    const links = list.querySelectorAll(".md-search-result__item > a:first-of-type")
    found[text] = Array.from(links, link => link.href)
  }
  return found
}"""
# Opens the tab and the folded part that a block is in.
SHOW = """block => {
  for (let part = block; part; part = part.parentElement) {
    if (part.matches("details")) part.open = true
    if (part.matches(".tabbed-block")) {
      const at = [...part.parentElement.children].indexOf(part)
      part.closest(".tabbed-set").querySelectorAll("label")[at].click()
    }
  }
}"""
# The names of the lessons that have a tick: in the list at the left, on the course map.
TICKED = """place => [...document.querySelectorAll(place)]
  .filter(link => getComputedStyle(link, "::after").content.includes("✓"))
  .map(link => link.href.split("/").at(-2))"""
LIST, MAP = ".md-nav--primary li > a", "article h3 > a"
# What people type who have a question, by the page that answers it.
ASKED = {
    "start/": [
        "migrate from linen",
        "port linen model",
        "linen cheat sheet",
    ],
    "course/eager-params/": ["number of parameters", "model summary"],
    "course/call-vs-init/": ["what replaces apply", "init and apply"],
    "course/param-access/": ["change kernel", "scale weights", "deprecated value"],
    "course/nested-modules/": ["names of layers", "insert layer", "compact setup"],
    "course/running-average/": ["mutable state", "moving average"],
    "course/variable-types/": ["custom variable type"],
    "course/state-alias/": ["copy model", "save best weights", "undo step"],
    "course/batch-norm/": ["batch statistics do not change", "running statistics"],
    "course/rng-streams/": ["random seed", "correlated weights"],
    "course/dropout-modes/": ["turn off dropout", "dropout in evaluation"],
    "course/reseed/": ["same dropout mask"],
    "course/noise-under-jit/": ["same mask under jit", "retrace"],
    "course/module-list/": ["list of layers", "residual", "sequential"],
    "course/shared-submodule/": ["tie weights", "share embedding"],
    "course/attention/": ["multi head attention", "fused weights"],
    "course/causal-mask/": ["causal mask", "padding mask"],
    "course/kv-cache/": ["generate tokens", "decode cache"],
    "course/split-merge/": ["functional", "params as an argument"],
    "course/filters/": ["weight decay mask", "select parameters by name"],
    "course/abstract-init/": ["build without memory", "eval_shape"],
    "course/grad-module/": ["auxiliary output", "distillation"],
    "course/optimizer-step/": [
        "learning rate schedule",
        "clip gradients",
        "gradient accumulation",
    ],
    "course/freeze/": ["freeze layers", "fine-tune head"],
    "course/train-loops/": ["train loop", "loss does not move", "metrics"],
    "course/jit-state/": [
        "counter stays zero under jit",
        "recompiles every epoch",
        "donate the same buffer twice",
        "target network",
        "lstm under jit",
    ],
    "course/vmap-ensemble/": [
        "train several models at once",
        "ensemble members are identical",
        "vmap over a model with batch norm",
        "same dropout mask for every row",
    ],
    "course/scan-layers/": [
        "scan over layers",
        "compile time of a deep model",
        "several train steps in one scan",
        "stack equal layers",
    ],
    "course/remat/": [
        "gradient checkpointing",
        "jax.checkpoint loses batch statistics",
        "custom gradient of a layer",
    ],
    "course/cond/": [
        "if statement under jit",
        "gradient through while_loop",
        "Cannot extract graph node from different trace level",
    ],
    "course/weights-both-ways/": [
        "convert linen weights",
        "convert nnx weights back to linen",
        "gru hidden bias",
    ],
    "course/linen-checkpoint/": [
        "load old linen checkpoint",
        "msgpack checkpoint of linen",
        "continue training from linen",
    ],
    "course/bridge/": [
        "nnx module in keras",
        "mix linen and nnx",
    ],
    "course/same-seed/": [
        "same seed different weights",
        "reproduce linen initialization",
    ],
    "course/sow-capture/": [
        "hidden activations",
        "capture intermediates",
        "dead relu",
        "gradient of an activation",
    ],
    "course/checkpoint/": [
        "resume training",
        "as bad as new",
        "save a model with orbax",
        "restore orbax",
        "loss jumps after restoring",
        "pickle a model",
        "load checkpoint",
    ],
    "course/sharding/": [
        "data parallel",
        "from pmap to shard_map",
        "gradient eight times too large",
        "sharded optimizer state",
        "several gpus",
    ],
    "course/mixed-precision/": [
        "train in bfloat16",
        "half precision",
        "loss scaling",
    ],
    "course/lora/": [
        "fine-tune with lora",
        "save only the adapters",
        "parameter-efficient fine-tuning",
    ],
    "course/surgery/": [
        "replace the head",
        "change the number of classes",
        "optimizer after replacing a layer",
    ],
    "course/fast-generate/": [
        "generate text fast",
        "greedy decoding in one loop",
        "stop at an end token",
    ],
    "cost/": ["nnx slow", "jit overhead", "performance"],
    "reference/compatibility/": ["supported versions"],
}
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
# What the first load of a page may take, with an empty cache, and its text alone.
MAX_REQUESTS, MAX_KB, MAX_HTML_KB = 10, 100, 18
LOADING = ["link", "script", "img", "iframe", "input", "source", "video", "audio"]
# Of these only the name is shown, and it says nothing of what is wrong.
CLASS = re.compile(r"\b[A-Z]\w+[A-Z]\w+\b")  # what a message is about
COMMON = ("TypeError", "ValueError")
# Their only word stands in many names and texts, so that others come before.
LATE = {"nnx.state", "nnx.map_state", "nnx.not"}


def address_of(source):
    """Return the address of the page of a file that `nav` names; home is empty."""
    return re.sub(r"(^|/)index/$", r"\1", re.sub(r"\.\w+$", "/", source))


SOURCES = [source for _, source in api.listed(site_config()["nav"])]
PAGES = [*map(address_of, SOURCES), "404.html"]


@pytest.fixture(scope="session")
def window(browser):
    """Return the page in which each test opens what it needs, as on a first visit."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(HANG_MS)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    page.requested, page.failures, page.pending = [], [], set()

    def begins(request):
        page.requested.append(request.url)
        page.pending.add(request)

    def fails(request):
        page.failures.append(request.url)
        page.pending.discard(request)

    page.on("request", begins)
    page.on("requestfinished", lambda request: page.pending.discard(request))
    page.on("requestfailed", fails)
    page.on("pageerror", lambda error: page.failures.append(str(error)))
    yield page
    context.close()


@pytest.fixture
def open_page(window, site):
    """Return a function that opens a page and notes its requests and its errors."""

    def open_page(path, viewport=DESKTOP):
        window.set_viewport_size(viewport)
        window.emulate_media(color_scheme="light")
        window.goto(site.url + path)
        while window.pending:  # what they bring belongs to the page
            window.evaluate("new Promise(requestAnimationFrame)")
        return window

    yield open_page
    if window.url.startswith(site.url):
        window.evaluate("localStorage.clear(); sessionStorage.clear()")
        window.goto("about:blank")
    for noted in (window.requested, window.failures, window.pending):
        noted.clear()


def unfold(page):
    """Open every folded part of a page."""
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")


def copied(page, block, button="copy"):
    """Return what a button of a Python block puts on the clipboard.

    A reader opens the folded part or the tab first, so this does too.
    """
    page.evaluate("navigator.clipboard.writeText('')")
    block.evaluate(SHOW)
    block.hover()
    block.locator(f"button.md-code__button[data-md-type={button}]").click()
    return page.evaluate("navigator.clipboard.readText()")


def copied_blocks(page):
    """Return what each copy button of a Python block puts on the clipboard, in order.

    The other button of the last block gives them all.
    """
    all_of_them = page.locator(".language-python").all()
    blocks = [copied(page, block) for block in all_of_them]
    assert copied(page, all_of_them[-1], "above") == "\n\n\n".join(blocks)
    return blocks


def output_of(blocks, folder, *options):
    """Return what the pasted blocks print as one script in a fresh interpreter."""
    script = folder / "pasted.py"
    script.write_text("\n\n\n".join(blocks))
    run = subprocess.run(
        [sys.executable, *options, script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(("path", "least"), [("", 1), (LESSON, 10)])
def test_a_copied_page_runs_and_prints_what_it_shows(
    open_page, tmp_path, seen_before, path, least
):
    page = open_page(path)
    blocks = copied_blocks(page)
    assert len(blocks) == page.locator(".language-python").count() >= least
    shown = [
        line.removeprefix("#>").removeprefix(" ")
        for block in blocks
        for line in block.splitlines()
        if line.startswith("#>")
    ]
    if not seen_before(hashlib.sha256(repr(blocks).encode()).hexdigest()):
        assert output_of(blocks, tmp_path, "-W", "error").splitlines() == shown


def test_a_copied_program_runs_and_prints_what_the_page_shows(
    open_page, tmp_path, seen_before
):
    page = open_page(PROGRAM)
    copied = copied_blocks(page), page.locator(".output code").all_inner_texts()
    if not seen_before(hashlib.sha256(repr(copied).encode()).hexdigest()):
        assert output_of(copied[0], tmp_path) == "".join(copied[1])
    assert page.locator("figure.figure svg").is_visible()


def path_of(source):
    """Return the file of a page that `nav` names: of a notebook, its program."""
    path = ROOT / source if source.endswith(".ipynb") else ROOT / "docs" / source
    return path.with_suffix(".py") if path.suffix == ".ipynb" else path


def script_of(blocks):
    """Return the script that the doc-tests run of these blocks."""
    scripts = []
    run_blocks(blocks, lambda script: ({}, [], scripts.append(script)))
    return scripts[0]


def is_program_of(path, text):
    """Return whether a text is the program of a page, with the outputs as they stand.

    The doc-tests run that program and compare its outputs. So nothing runs again here:
    a text that is equal to it prints what the page shows.
    """
    blocks = read_blocks(path)
    if path.suffix == ".py":  # what it prints, and its texts, are no code on the page
        return ast.dump(ast.parse(text)) == ast.dump(ast.parse(blocks[0].source))
    for block in blocks:  # neither button copies the mark of an annotation
        block.source = re.sub(r"# \(\d+\)!$", "", block.source, flags=re.M)
    shown = "\n\n\n".join(block.source.strip("\n") for block in blocks)
    pasted = [Block(blocks[0].example, text)]
    return text == shown and script_of(pasted) == script_of(blocks)


@pytest.mark.parametrize("source", SOURCES)
def test_the_last_block_of_every_page_copies_its_program(
    site, source, seen_before, request
):
    path = address_of(source)
    if seen_before(seen_by_a_reader(site, path)):
        return
    if not read_blocks(path_of(source)):
        assert 'class="language-python' not in site.file(path).read_text("utf-8")
        return
    page = request.getfixturevalue("open_page")(path)
    blocks = page.locator(".language-python")
    assert page.locator("[data-md-type=above]").count() == blocks.count()
    assert is_program_of(path_of(source), copied(page, blocks.last, "above"))


@pytest.mark.parametrize(
    "damage",
    [
        "blocks[3].remove()",
        "blocks[3].after(blocks[2])",
        "blocks[3].classList.remove('language-python')",
        "document.querySelector('.output').classList.add('language-python')",
        "document.querySelector('.printed').remove()",
    ],
)
def test_a_copy_that_is_not_the_program_is_noticed(open_page, damage):
    page = open_page(LESSON)
    last = page.locator(".language-python").last
    source = path_of(f"{LESSON}index.md")
    assert is_program_of(source, copied(page, last, "above"))
    page.evaluate(f"blocks = document.querySelectorAll('.language-python'); {damage}")
    assert not is_program_of(source, copied(page, last, "above"))


def test_all_above_is_copied_by_keyboard_after_instant_navigation(open_page, site):
    page = open_page("course/")
    page.evaluate("window.kept = true")
    page.get_by_role("link", name="Call versus init").first.click()
    page.wait_for_url(site.url + LESSON)
    page.locator(".language-python [data-md-type=copy]").nth(1).focus()
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name="Copy with all above").nth(1)
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Copied to clipboard")).to_be_visible()
    blocks = read_blocks(path_of(f"{LESSON}index.md"))[:2]
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == "\n\n\n".join(block.source.strip("\n") for block in blocks)
    expect(button).to_be_focused()
    assert page.locator(".language-console button").count() == 1
    assert page.evaluate("window.kept") is True


def test_buttons_stand_above_the_code_on_a_phone(open_page):
    page = open_page(LESSON)
    unfold(page)
    beside = """[...document.querySelectorAll(".language-python nav")].filter(nav => {
      const code = nav.nextElementSibling
      const inner = parseFloat(getComputedStyle(code).paddingTop)
      const top = code.getBoundingClientRect().top + inner
      return nav.lastChild.getBoundingClientRect().bottom > top
    }).length"""
    assert page.evaluate(beside) > 10
    page.set_viewport_size(PHONE)
    assert page.evaluate(beside) == 0


def test_a_lesson_that_is_ticked_off_is_marked_and_the_next_is_offered(open_page, site):
    first, second, *others = course.lessons()
    page = open_page("course/")
    page.evaluate("window.kept = true")
    for place in (LIST, MAP):
        assert page.evaluate(TICKED, place) == []
    expect(page.locator(".go-on")).to_be_hidden()
    page.get_by_role("link", name=first.meta["title"]).first.click()
    page.wait_for_url(f"{site.url}course/{first.name}/")
    box = page.get_by_label("I have solved this lesson")
    for press in (box.check, box.uncheck, box.check):
        press()
    assert page.evaluate(TICKED, LIST) == [first.name]
    page.get_by_role("link", name="The course").first.click()
    page.wait_for_url(site.url + "course/")
    go_on = page.get_by_role("link", name=f"lesson 2: {second.meta['title']}")
    expect(go_on).to_be_visible()
    assert page.evaluate("window.kept") is True
    page.reload()
    for place in (LIST, MAP):
        assert page.evaluate(TICKED, place) == [first.name]
    page.get_by_role("link", name="Home").first.click()
    expect(page.get_by_role("link", name="Start the course")).to_be_hidden()
    go_on.click()
    page.wait_for_url(f"{site.url}course/{second.name}/")
    expect(box).not_to_be_checked()
    names = [lesson.name for lesson in (first, *others)]
    page.evaluate("names => __md_set('solved', names)", names)
    page.reload()
    assert page.evaluate(TICKED, LIST) == names
    box.check()
    page.goto(site.url)
    expect(page.locator(".go-on")).to_be_hidden()
    expect(page.get_by_role("link", name="Start the course")).to_be_visible()


def test_a_lesson_is_ticked_off_by_keyboard(open_page):
    page = open_page(LESSON)
    box = page.get_by_label("I have solved this lesson")
    page.locator("#check ~ details").first.locator("summary").focus()
    for _ in range(20):
        if box.evaluate("box => box == document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(box).to_be_checked()
    assert page.evaluate(TICKED, LIST) == ["call-vs-init"]
    page.keyboard.press("Space")
    assert page.evaluate(TICKED, LIST) == []


def test_the_map_reads_what_nbe_prints_and_prints_what_nbe_reads(open_page):
    page = open_page("course/")
    copy = page.get_by_role("button", name="Copy", exact=True)
    expect(copy).to_be_hidden()
    field, status = (
        page.get_by_label("Paste what nbe progress"),
        page.get_by_role("status"),
    )
    field.fill(" batch-norm  call-vs-init <b>gone</b> batch-norm\n")
    field.press("Enter")
    expect(status).to_have_text(
        "Lessons added: 2. Left out, as no lesson has this name: <b>gone</b>."
    )
    for place in (LIST, MAP):
        assert page.evaluate(TICKED, place) == ["call-vs-init", "batch-norm"]
    expect(page.locator(".go-on")).to_contain_text("Go on with lesson 1: ")
    copy.click()
    line = page.evaluate("navigator.clipboard.readText()")
    assert line == "nbe progress call-vs-init batch-norm"
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.evaluate(TICKED, MAP) == []
    field.fill(line)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(status).to_have_text("Lessons added: 2.")
    assert page.evaluate(TICKED, MAP) == ["call-vs-init", "batch-norm"]


@pytest.mark.parametrize("kept", ["{", "3", '{"a": 1}', '[1, null, "gone"]'])
def test_what_is_kept_and_makes_no_sense_counts_as_nothing(open_page, kept):
    page = open_page("course/")
    page.evaluate("text => localStorage[__md_scope.pathname + '.solved'] = text", kept)
    page.reload()
    assert page.evaluate(TICKED, MAP) == []
    expect(page.locator(".go-on[hidden]")).to_have_count(1)  # the last that is done


def test_a_map_with_all_solved_is_accessible_and_fits(open_page, site):
    page = open_page("course/", viewport=PHONE)
    names = [lesson.name for lesson in course.lessons()]
    page.evaluate("names => __md_set('solved', names.slice(1))", names)
    page.reload()
    expect(page.locator(".go-on")).to_be_visible()
    assert not violations(page)
    for width in (390, 768):
        assert not too_wide(page, width)


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
      requested: the addresses, all of them of the site, that of the page first.
      site: the built site; its server compresses nothing, as the published one does.
    """
    sizes = []
    for url in requested:
        file = site.file(url.removeprefix(site.url).partition("?")[0])
        sizes.append(len(gzip.compress(file.read_bytes())) / 1024)
    fits = len(sizes) <= MAX_REQUESTS and sum(sizes) <= MAX_KB
    fits &= sizes[0] <= MAX_HTML_KB
    all_of_it = zip(requested, sizes, strict=True)
    return [] if fits else [f"{url}: {size:.0f} KB" for url, size in all_of_it]


def loaded(site, path):
    """Return the addresses of what a browser loads for a page, itself first, each once.

    The theme loads two files that no tag names: its search, and the list of pages.
    """
    url = site.url + path
    html = site.file(path).read_text("utf-8")
    soup = BeautifulSoup(html, "html.parser", parse_only=SoupStrainer(LOADING))
    config = json.loads(soup.find(id="__config").string)
    links = [
        *loads(soup),
        config["search"],
        f"{config['base'].rstrip('/')}/sitemap.xml",
    ]
    return [url, *dict.fromkeys(urljoin(url, link) for link in links)]


def seen_by_a_reader(site, path):
    """Return a hash of what the verdict on a page depends on: all that it loads.

    Where the site is served does not count.
    """
    found = hashlib.sha256(path.encode())
    for url in loaded(site, path):
        address = url.removeprefix(site.url)
        text = site.file(address).read_bytes().replace(site.url.encode(), b"")
        found.update(f"\0{address}\0{len(text)}\0".encode() + text)
    return found.hexdigest()


def violations(page):
    """Return what axe finds wrong with a page, in light and then in dark."""
    page.evaluate(AXE)
    reports = []
    for system, scheme in SCHEMES.items():
        page.emulate_media(color_scheme=system)
        found = AxeResults(page.evaluate(RUN, [scheme, RULES[system], HANG_MS]))
        if found.violations_count:
            reports.append(f"in {system}:\n{found.generate_report()}")
    return "\n".join(reports)


def test_every_page_of_the_site_is_opened(site):
    assert sorted(PAGES) == sorted([*site.pages(), "404.html"])


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_whole_accessible_and_fits(site, path, seen_before, request):
    if seen_before(seen_by_a_reader(site, path)):
        return
    page = request.getfixturevalue("open_page")(path, viewport=PHONE)
    unfold(page)
    assert not violations(page)
    for width in (390, 768):
        assert not too_wide(page, width)
    elsewhere = [url for url in page.requested if not url.startswith(site.url)]
    assert not elsewhere, f"it asks another host: {elsewhere}"
    assert not page.failures
    assert not too_much(loaded(site, path), site)
    unknown = Counter(page.requested) - Counter(loaded(site, path))
    assert not unknown, "`loaded` does not know of them"


def test_the_checks_of_every_page_can_fail(open_page, site):
    page = open_page("", viewport=PHONE)
    assert not too_wide(page, 390)
    with page.expect_event("requestfailed"):
        page.evaluate(
            """document.querySelector("h1").style.cssText = "color: #eee; width: 900px"
            document.querySelector("article p").style.color = "#333"
            new Image().src = "http://localhost:9/elsewhere.png" """
        )
    assert too_wide(page, 390)
    light, dark = violations(page).split("in dark:")
    assert "<h1" in light
    assert "<p" in dark
    assert not all(url.startswith(site.url) for url in page.requested)
    assert Counter(page.requested) - Counter(loaded(site, ""))
    assert page.failures


def test_axe_finds_the_same_in_less_time(browser):
    styles = [
        "color: #eee",
        "color: rgb(90 90 90 / 50%)",
        "color: white; background: hsl(0.5turn 50% 40%)",
        "color: oklch(70% 0.1 200); opacity: 0.9",
        "color: color(display-p3 0.9 0.6 0.6)",
        "color: red; background: rgba(0, 0, 0, 0.4)",
        "background: linear-gradient(red, blue)",
        "background: #888; mix-blend-mode: multiply",
        "text-shadow: 0 0 1px #888",
    ]
    texts = [f'<div><p style="{style}">Text <a>of</a></p></div>' for style in styles]

    def found(script):
        page.set_content(f"<main style='background: #eef'>{''.join(texts)}</main>")
        page.evaluate(script)
        result = page.evaluate("axe.run()")
        kinds = ("violations", "incomplete", "passes", "inapplicable")
        return {kind: result[kind] for kind in kinds}

    with closing(browser.new_page()) as page:
        results = found(AXE)
        assert results == found(f"{AXE_SCRIPT}; 0")
    nodes = {one["id"]: one["nodes"] for one in results["violations"]}
    assert 5 < len(nodes["color-contrast"]) < 2 * len(styles)


def test_a_verdict_depends_on_what_its_page_loads(site, tmp_path):
    parts = shutil.ignore_patterns("cards", "examples", "*.ipynb")
    folder = shutil.copytree(site.folder, tmp_path / "site", ignore=parts)
    copy = Site(folder, site.url)
    before = seen_by_a_reader(copy, LESSON)
    for other in ("index.html", "search/search_index.json", f"{LESSON}index.md"):
        file = folder / other
        file.write_text(file.read_text("utf-8") + " ", "utf-8")
    assert seen_by_a_reader(copy, LESSON) == before
    assert seen_by_a_reader(copy, "") != seen_by_a_reader(site, "")
    for url in loaded(copy, LESSON):
        file = copy.file(url.removeprefix(site.url))
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert seen_by_a_reader(copy, LESSON) != before, url
        file.write_bytes(content)
    elsewhere = Site(tmp_path / "moved", "http://127.0.0.1:1/nnx-by-example/")
    for file in folder.rglob("*.*"):
        if file.suffix in {".html", ".css", ".js", ".xml", ".svg"}:
            target = elsewhere.folder / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text("utf-8").replace(site.url, elsewhere.url)
            target.write_text(text, "utf-8")
    assert seen_by_a_reader(elsewhere, LESSON) == before


def test_the_budget_can_be_exceeded(site):
    index = f"{site.url}search/search_index.json"
    assert not too_much([site.url], site)
    assert len(too_much([site.url] * (MAX_REQUESTS + 1), site)) == MAX_REQUESTS + 1
    assert "search_index" in too_much([index], site)[0]
    assert len(too_much([site.url, index, index], site)) == 3


def go_to_search(page):
    """Go to the search, and again until its script is there and asks for its index."""
    field = page.locator("input.md-search__input")
    while not any("search_index" in url for url in page.requested):
        field.blur()
        field.focus()


@pytest.mark.parametrize("way", ["", "?q=kernel"])
def test_the_search_index_is_loaded_when_somebody_searches(open_page, way):
    page = open_page(way)
    loaded = any("search_index" in url for url in page.requested)
    assert loaded == bool(way)
    go_to_search(page)
    field = page.locator("input.md-search__input")
    field.fill("kerne")
    field.press("l")  # the theme hears keys, and not that a text is there
    expect(page.locator(".md-search-result__link").first).to_be_visible()


def wanted():
    """Return names and messages, each with the pages of which one has to come first."""
    tagged, messages = {"call_vs_init_forward": {LESSON}}, []
    for address in SOURCES:
        page = address_of(address)
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
    shows = {page: printed_by(page) for _, page in messages}
    for text, own in texts.items():  # some pages print no more than the beginning
        own = common(own)
        alike = [p for m, p in messages if common(m).startswith(own)]
        alike += [p for m, p in messages if common(m) and own.startswith(common(m))]
        tagged[text] = {*alike, *(page for page, all_ in shows.items() if own in all_)}
    return tagged


def common(message):
    """Return the part of a message that is the same for all that it is about."""
    head = re.split(r"\['| '", message)[0]
    return CLASS.sub("", head)


def printed_by(page):
    """Return all that the blocks of a page print, in one line."""
    text = path_of({address_of(one): one for one in SOURCES}[page]).read_text("utf-8")
    return CLASS.sub("", " ".join(re.findall(r"^ *#> ?(.*)$", text, flags=re.M)))


def found(page, texts):
    """Return the pages that the search shows for each text, the best first."""
    found = page.evaluate(SEARCH, [list(texts), HANG_MS])
    return {
        text: [re.sub(r".*/nnx-by-example/|[?#].*", "", url) for url in urls]
        for text, urls in found.items()
    }


def test_search_finds_first_the_lesson_of_a_name_and_of_a_message(open_page):
    page = open_page("")
    go_to_search(page)
    expected = wanted()
    results = found(page, [*expected, "neverprinted"])
    assert results.pop("neverprinted") == []
    late = {t: results[t][:3] for t in expected if not expected[t] & {*results[t][:3]}}
    assert late.keys() == LATE, "\n".join(
        f"{t} {p} {expected[t]}" for t, p in late.items()
    )
    assert len(results) > 70


def test_search_finds_the_page_that_answers_a_question(open_page):
    page = open_page("")
    go_to_search(page)
    asked = {question: path for path, some in ASKED.items() for question in some}
    assert set(ASKED) <= set(PAGES)
    assert len(asked) >= 40
    results = found(page, asked)
    late = {q: results[q][:3] for q in asked if results[q][:1] != [asked[q]]}
    assert not late, "\n".join(f"{q}: {p}, not {asked[q]}" for q, p in late.items())


def test_tabs_switch_by_keyboard(open_page):
    page = open_page(LESSON)
    tabs = page.locator(".tabbed-set").first
    tabs.locator("input").first.focus()
    assert tabs.get_by_text("linen_model.init").is_hidden()
    page.keyboard.press("ArrowRight")
    assert tabs.get_by_text("linen_model.init").is_visible()


def test_a_page_is_readable_without_javascript(browser, site):
    with closing(browser.new_context(java_script_enabled=False)) as context:
        context.set_default_timeout(HANG_MS)
        page = context.new_page()
        page.goto(site.url + LESSON)
        assert page.get_by_role("heading", name="Why it matters").is_visible()
        page.get_by_text("Linen", exact=True).locator("visible=true").first.click()
        assert page.get_by_text("linen_model.init").first.is_visible()
        page.get_by_text("Show the solution").click()
        assert page.locator("details[open] .language-python").first.is_visible()
        for path in (LESSON, "course/", ""):
            page.goto(site.url + path)
            assert page.locator(".tick, .go-on, .solved-line").count() == 0


def test_instant_navigation_keeps_the_page(open_page, site):
    page = open_page("")
    page.evaluate("window.kept = true")
    page.get_by_role("link", name="Start the course").click()
    page.wait_for_url(site.url + "course/")
    assert page.evaluate("window.kept") is True


def test_the_drawer_is_closed_when_a_reader_comes_back(open_page, site):
    page = open_page(LESSON, viewport=PHONE)
    page.locator(".md-header label[for=__drawer]").click()
    assert page.locator("#__drawer").is_checked()
    page.goto(site.url)
    page.go_back()
    assert not page.locator("#__drawer").is_checked()
