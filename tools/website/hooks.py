"""What MkDocs cannot do itself: run the notebooks, draw the map, report the figures.

Everything generated goes to `.cache/`, which is not committed; pages include it as
snippets, so that a page shows one kind of text only: Markdown.
"""

import itertools
import json
import re
from html import escape
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

from nnx_by_example import course
from nnx_by_example.course import Lesson
from tools import project, records, sources
from tools.project import CACHE, DOCS, EXAMPLES, ROOT
from tools.website import (
    api,
    attempts,
    cards,
    compatibility,
    cost,
    errors,
    glossary,
    later,
    notebooks,
    pictures,
    twins,
)

GENERATED = CACHE / "generated"

# A line of output; the name of a side in a table or on a tab.
PRINTED = '<span class="c1 printed"><span class="prompt">#&gt;</span>'
SIDE = r'\1 class="side \2">\2<'

# Names, operators, brackets and blanks in code, which have the colour of all code: half
# of the elements of a page, which a browser would style one by one.
PLAIN = re.compile('<span class="[nopw]">([^<]*)</span>')

# Blanks after the end of a line, outside of what shows them or means something by them.
BLANKS = re.compile(r"<(pre|script|style|textarea)\b.*?</\1>|\n\s+", flags=re.DOTALL)

# A drawing, and the names in it. All that matplotlib draws have the same.
DRAWING = re.compile(r"<svg\b.*?</svg>", flags=re.DOTALL)
IDS = re.compile(r'(\sid="|\burl\(#|\bhref="#)')

# Not valid at a box that opens a part of the theme; `overrides/main.html` has the form.
ALONE, IN_FORM = ' autocomplete="off">', ' form="unrestored">'

# By address of a page: what its front matter says that readers ask, the messages that
# it shows, and how much it weighs in the search, if not what a section weighs.
ASKED: dict[str, tuple[list[str], str, float | None]] = {}

# In code: after a dot, bracket, underscore or =, before a key, between words of a name.
BREAK = re.compile(r"(?<=\w[.(_=])(?=[a-zA-Z])|(?<=[\w\]])(?=\[\")|(?<=[a-z])(?=[A-Z])")


def on_startup(command, dirty):
    """Note whether pages may come before the pictures and figures that they show."""
    later.serving = command == "serve"


def on_shutdown():
    """End what is made in the background."""
    later.stop()


@event_priority(-100)
def on_post_build(config):
    """Let the search know how readers put the question that a page answers."""
    file = Path(config["site_dir"]) / "search" / "search_index.json"
    found = json.loads(file.read_text("utf-8"))
    for entry in found["docs"]:
        asked, said, weight = ASKED.get(entry["location"], ([], "", None))
        if asked or said:
            words = escape(", ".join(asked) + said)
            entry["text"] = f"<p>{words}</p>{entry['text']}"
        if asked:  # a tag counts most; the style sheet hides tags among the results
            entry["tags"] = [*entry.get("tags", []), *asked]
        if weight:
            entry["boost"] = weight
    file.write_text(json.dumps(found, separators=(",", ":")), "utf-8")


@event_priority(100)
def on_config(config):
    """Execute what changed in `examples/` before mkdocs-jupyter looks for notebooks."""
    if later.serving:
        later.announce_programs()
        return config
    try:
        notebooks.execute_all(EXAMPLES, CACHE / "notebooks")
    except notebooks.NotebookError as error:
        raise PluginError(str(error)) from None
    return config


def on_pre_build(config):
    """Write the generated snippets before any page includes them."""
    generate_texts(config)
    if not later.serving:
        generate_pictures(config)


def on_files(files, config):
    """Add the notebook of each lesson beside its page."""
    for lesson in course.lessons(config["nav"], DOCS):
        address = f"course/{lesson.name}/"
        url, repository = f"{config['site_url']}{address}", config["repo_url"]
        text = attempts.notebook(lesson, url, repository)
        files.append(
            File.generated(config, f"{address}{lesson.name}.ipynb", content=text)
        )
    return files


def on_page_markdown(markdown, page, config, files):
    """Begin a lesson with what it proves; drop the style sheet of a notebook.

    In the search all other pages come after the lessons, and last those that list.
    """
    said = errors.messages(markdown)
    asked, weight = page.meta.get("asked", []), page.meta.get("weight")
    ASKED[page.url] = asked, "".join(f", {text}" for text in sorted(said)), weight
    if "proves" in page.meta:
        return f"{page.meta['proves']}\n{{ .proves }}\n\n{proof_of(markdown)}{markdown}"
    page.meta["search"] = {"boost": 0.5 if "tags" in page.meta else 0.01}
    if page.file.src_uri.endswith(".ipynb"):
        return markdown.rpartition("<style>")[0].rstrip()
    return markdown


def on_page_content(html, page, config, files):
    """Make a page readable, and link the first use of each term.

    The code of a check has the words of every lesson. In the search it would come
    before the sections that explain them.
    """
    html = html.replace('<h2 id="check"', '<h2 data-search-exclude id="check"')
    return glossary.link(readable(apart(html)), page, files)


def on_env(env, config, files):
    """Write what machines read, once all pages are parsed."""
    twins.write_all(files, config)
    env.globals["heads"] = cards.write_all(files, config)


def on_post_page(output, page, config):
    """Mend the HTML of the theme; leave out blanks.

    They would be a sixth of a page: what the tags of the theme's templates leave.
    """
    return BLANKS.sub(lambda found: found[0] if found[1] else "\n", mended(output))


def on_post_template(output, template_name, config):
    """Do the same for the page that wrong addresses lead to."""
    return mended(output) if template_name.endswith(".html") else output


def readable(html: str) -> str:
    """Mark what is printed and which side is which; leave out what has no look.

    The marked lines look like output and copy as comments. A name that is too long for
    its column on a phone would break anywhere.
    """
    html = PLAIN.sub(r"\1", html).replace('<span class="c1">#&gt;', PRINTED)
    html = re.sub("(<label[^>]*|<th)>(NNX|Linen)<", SIDE, html)
    html = re.sub(r'(NNX">NNX<.*\n<div class="tabbed-content)"', r'\1 sides"', html)

    def cell(found):
        return re.sub("<code>.*?</code>", lambda c: BREAK.sub("<wbr>", c[0]), found[0])

    return re.sub("<td.*?</td>", cell, html)


def apart(html: str) -> str:
    """Return the HTML of a page of which no two drawings have an id in common."""
    numbers = itertools.count(1)

    def numbered(found):
        return IDS.sub(rf"\g<1>d{next(numbers)}-", found[0])

    return DRAWING.sub(numbered, html)


def mended(output: str) -> str:
    """Return the HTML of a page as valid, with names for its search and its tags."""
    output = output.replace(' tabindex=""', "").replace(ALONE, IN_FORM)
    output = output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
    return output.replace('class="md-tags"', 'class="md-tags" aria-label="Names used"')


def on_pre_page(page, config, files):
    """Let "edit this page" of a notebook lead to the program it is made from."""
    if page.file.src_uri.endswith(".ipynb") and config["repo_url"]:
        source = page.file.src_uri.replace(".ipynb", ".py")
        page.edit_url = f"{config['repo_url'].rstrip('/')}/edit/main/{source}"
    return page


def generate(config) -> None:
    """Write all that pages include."""
    generate_texts(config)
    generate_pictures(config)


def generate_texts(config) -> None:
    """Write map, figures, links, tables: all for which nothing has to run.

    What is left has a file too, which says that it comes.
    """
    lessons, repository = course.lessons(config["nav"], DOCS), config["repo_url"]
    template = Lesson("_template", 0, "", DOCS / "course" / "_template")
    known, changed = last_run()
    texts = {
        "course-map.md": course_map(lessons),
        "figures.md": figures(known, changed),
        "last-run.md": last_run_in_short(known, len(lessons)),
        "proof.md": proof(),
        "install.md": attempts.install(repository),
        **errors.texts(config["nav"]),
        **compatibility.texts(),
        **{f"cost/{name}": text for name, text in cost.texts().items()},
    }
    for lesson in [*lessons, template]:
        texts[f"attempt/{lesson.name}.md"] = attempts.links(lesson, repository)
    if not api.stale(GENERATED / "api"):
        texts |= api.texts(config["nav"], GENERATED / "api" / api.NAMES)
    for name, text in texts.items():
        project.write(GENERATED / name, text)
    later.announce_pictures()


def generate_pictures(config) -> None:
    """Draw terminals and plots, and list the public names: what takes a run."""
    try:
        for name in later.PICTURES:
            later.make(name)
    except pictures.PictureError as error:
        raise PluginError(str(error)) from None
    for name, text in api.texts(config["nav"], GENERATED / "api" / api.NAMES).items():
        project.write(GENERATED / name, text)


def proof() -> str:
    """Return the table of damages that the last test run tried on all pages."""
    totals = records.damages()
    if not totals:
        return "`make test` tries the damages and writes their table here.\n"
    rows = []
    for kind, (tried, caught) in totals.items():
        share = f" ({caught / tried:.0%})" if caught < tried else ""
        rows.append([kind.replace(">", "&gt;"), f"{tried:,}", f"{caught:,}{share}"])
    return cost.table(["damage", "tried", "caught"], rows, align="---") + "\n"


def course_map(lessons: list[Lesson]) -> str:
    """Return the map: each lesson's number, title, and the output that proves it."""
    lines = []
    phases = itertools.groupby(lessons, key=lambda lesson: lesson.phase)
    for phase, (title, members) in enumerate(phases, 1):
        lines += [f"## Phase {phase}: {title}", ""]
        for lesson in members:
            title = lesson.meta["title"]
            lines += [
                f"### {lesson.number}. [{title}]({lesson.name}/index.md)",
                "",
                f"{lesson.meta['proves']}",
                "",
                proof_of(lesson.page),
            ]
    return "\n".join(lines)


def proof_of(text: str) -> str:
    """Return the output that proves a lesson as Markdown, given the lesson's text."""
    line = attempts.invariant(text)
    return f"``` {{ .text .output .proved .no-copy }}\n{line}\n```\n\n" if line else ""


def last_run() -> tuple[list[dict], list[str]]:
    """Return what is known of pages that are as they ran, and names of the others."""
    known = {found["name"]: found for found in records.facts("page")}
    current, changed = [], []
    for page in sources.pages():
        name = page.relative_to(ROOT).as_posix()
        found = known.get(name, {})
        if found.get("fingerprint") == sources.fingerprint(page):
            current.append(found)
        else:
            changed.append(name)
    return current, changed


def last_run_in_short(known: list[dict], lessons: int) -> str:
    """Return the figures that home shows, as a list in Markdown."""
    lines = [f"**{lessons}** lessons, each with a problem to attempt"]
    if known:
        versions = known[0]["versions"]
        lines = [
            f"**{sum(found['blocks'] for found in known):,}** code blocks executed",
            f"**{sum(found['outputs'] for found in known):,}** output lines compared",
            *lines,
            f"flax {versions['flax']}, jax {versions['jax']}",
        ]
    return "The last test run:\n\n" + "".join(f"- {line}\n" for line in lines)


def figures(known: list[dict], changed: list[str]) -> str:
    """Return the figures of the last test run, of pages that have not changed since."""
    versions = known[0]["versions"] if known else {}
    rows = {
        "pages and programs verified": f"{len(known)} of {len(known + changed)}",
        "code blocks executed": sum(found["blocks"] for found in known),
        "output lines compared": sum(found["outputs"] for found in known),
        "commands shown, not run here": sum(found["commands"] for found in known),
        **{f"{name} version": number for name, number in versions.items()},
    }
    cells = [[what, str(figure)] for what, figure in rows.items()]
    lines = [cost.table(["what", "figure"], cells, align="---")]
    if changed:
        lines += [
            "",
            '!!! warning "Built before its test run was complete"',
            "",
            "    Not verified since they last changed: "
            + ", ".join(f"`{name}`" for name in changed)
            + ". The published site is built after `make test`.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    generate_texts(sources.site_config())
