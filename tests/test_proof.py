"""The proof: every page that there is gets every damage, and each is seen and named.

The run ends with a table: kind of damage, tried, caught.
"""

import re

import pytest

from tools.gate import damages, run_page
from tools.gate.memory import reads
from tools.gate.pages import PageError, all_pages, read_blocks, shown_path
from tools.sources import made_from

pytestmark = reads("mkdocs.yml", "docs/course/_template/exercise.py", of=made_from)
PAGES = all_pages()
MARKDOWN = [path for path in PAGES if path.suffix == ".md"]
PROGRAMS = [p for p in PAGES if "```python" in p.read_text() or p.suffix == ".py"]
TRIES = 1  # digits of the code to change on each page


@pytest.fixture
def proof(note):
    """Return a function that counts damages of a kind, and fails if one is missed."""
    counts = {}

    def proof(kind, caught):
        counts[kind] = len(caught), sum(map(bool, caught.values()))
        note(damages=counts)
        missed = [one for one, seen in caught.items() if not seen]
        assert not missed, f"{kind}: not seen: {missed}"

    return proof


def said(path):
    """Return the blocks of a page, and what is said of it, by line."""
    blocks, result = run_page.run_page(path, run_page.remembered)
    found = run_page.differences(path, blocks, result)
    return blocks, {line_of(text): text for text in found}


def line_of(message):
    """Return the line of the page that a message names."""
    return int(re.search(r"\.(?:md|py):(\d+)", message)[1])


def add_block(path, block, at=None):
    """Add a block to a page or a program; return the lines on which it stands.

    Args:
      path: the page.
      block: the source of the block.
      at: before which character of the page; by default at its end.
    """
    text = path.read_text("utf-8")
    at = len(text) if at is None else at
    block = f"\n\n```python\n{block}```\n\n" if path.suffix == ".md" else f"\n{block}"
    path.write_text(text[:at] + block + text[at:], "utf-8")
    first = text.count("\n", 0, at) + 1
    return range(first, first + block.count("\n") + 1)


def beginning(path):
    """Return the text of a page through its first block, and where the page begins."""
    text = path.read_text("utf-8")
    first = re.search(r"^( *)```python\n.*?^\1```\n", text, re.S | re.M)
    front = re.match(r"(---\n.*?\n---\n)?", text, re.S).end()
    return text[: first.end()] if first else text, front


@pytest.mark.parametrize("path", MARKDOWN, ids=shown_path)
def test_code_that_nobody_runs_is_refused(path, tmp_path, proof):
    text, caught = path.read_text("utf-8"), {}
    middle = text.rfind("\n## ") if "\n## " in text else len(text)
    line = text.count("\n", 0, middle)
    for name, damage in damages.UNSEEN.items():
        copy = tmp_path / f"{name}.md"
        copy.write_text(f"{text[:middle]}\n{damage}\n{text[middle:]}", "utf-8")
        try:
            read_blocks(copy)
            caught[name] = False
        except PageError as error:
            caught[name] = line_of(str(error)) >= line
    proof("code that nobody runs", caught)


@pytest.mark.parametrize("path", PROGRAMS, ids=shown_path)
def test_what_a_page_says_and_does_not_print_is_seen(path, tmp_path, proof):
    copy = tmp_path / path.name
    for kind, mutation in damages.MUTATIONS.items():
        caught = {}
        changed = damages.mutate(path, copy, mutation)
        blocks, found = said(copy)
        for block in (blocks[at] for at in changed):
            first = block.example.start_line
            lines = range(first, first + block.source.count("\n") + 2)
            texts = [found[line] for line in lines if line in found]
            caught[first] = any("shown: " in t and "got: " in t for t in texts)
        proof(kind, caught)
    if path in MARKDOWN:
        changed = damages.change_text(path, copy)
        found = said(copy)[1]
        proof("another number in the text", {line: found.get(line) for line in changed})


@pytest.mark.parametrize("path", PROGRAMS, ids=shown_path)
def test_what_a_new_block_says_and_does_not_print_is_seen(path, tmp_path, proof):
    copy = tmp_path / path.name
    changed = damages.change_comments(path, copy)
    cell = "# %%\n" if path.suffix == ".py" else ""
    claims = damages.CLAIMED.values()
    claimed = [(add_block(copy, cell + block), why) for block, why in claims]
    untrue = {name: block for name, (block, _) in damages.UNTRUE.items()}
    lines = {n: add_block(copy, b) for n, b in {**damages.IDLE, **untrue}.items()}
    found = said(copy)[1]
    caught = {line: found.get(line) for line in changed}
    for own, why in claimed:
        caught[own.start] = any(why in found.get(line, "") for line in own)
    proof("a comment that claims what is not so", caught)
    proof(
        "a block that shows what is not so",
        {name: set(found) & set(lines[name]) for name in lines},
    )


@pytest.mark.parametrize("path", PROGRAMS, ids=shown_path)
def test_a_block_that_ends_badly_is_seen(path, tmp_path, proof):
    copy, caught = tmp_path / path.name, {}
    text, front = beginning(path)  # after such a block nothing of the page runs
    ending = {**damages.UNSHOWN, **damages.UNSOUND}
    late = damages.LATE[PROGRAMS.index(path) % len(damages.LATE)]  # alone: take one
    for name in ending.keys() - damages.LATE | {late}:
        copy.write_text(text, "utf-8")
        lines = add_block(copy, ending[name][0], front)
        found = set(said(copy)[1])
        caught[name] = found if name == late else found & set(lines)
    proof("a block that ends badly", caught)


@pytest.mark.parametrize("path", PROGRAMS, ids=shown_path)
def test_most_digits_of_the_code_matter(path, tmp_path, note):
    copy, seen = tmp_path / path.name, 0
    for seed in range(TRIES):
        damages.change_code(path, copy, seed)
        seen += bool(said(copy)[1])
    note(damages={"a digit of the code": (TRIES, seen)})
