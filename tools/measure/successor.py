"""Builds the site with Zensical, and lists what would be lost: `make zensical`.

Both build the same copy of the project. MkDocs builds first, so Zensical, which runs
none of its hooks, finds the snippets that they write. What the pages hold is counted
in the built HTML, page by page: less of a thing than MkDocs shows is a loss.
"""

import json
import re
import shutil
import sys
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

from tools import project
from tools.gate.site import Site, broken_links, soups
from tools.measure import bench
from tools.project import CACHE
from tools.website.cost import table

URL = "http://127.0.0.1/"
FOLDER = CACHE / "successor"
PYTHON = FOLDER / "env" / "bin" / "python"
SHOWN = 4  # of a list
# Of the theme, with hashes in the names of its files.
THEME = ("assets/javascripts/", "assets/stylesheets/", "assets/images/")
HEADINGS = ":is(h1, h2, h3, h4)[id]"
# What to count on each page, by CSS selector.
KINDS = {
    "headings with an anchor": HEADINGS,
    "code blocks": "article div.highlight",
    "printed outputs, marked": "article .printed",
    "tab sets": "article .tabbed-set",
    "boxes, open or folded": "article :is(.admonition, details)",
    "tables": "article table",
    "places where code in a table may break": "article td wbr",
    "drawings": "article svg[role=img]",
    "buttons": "article .md-button",
    "links in the text": "article :is(p, li, td, h3) a[href]",
    "tags": "article .md-tag",
    "outputs in a block of their own": "article .output",
    "links to edit the page": "article a[rel=edit]",
    "links to the glossary": "article a.term",
    "cards for networks": "head meta[property='og:image']",
    "links to the twin": "head link[type='text/markdown']",
    "names for screen readers": "[role=dialog][aria-label], .md-tags[aria-label]",
    "our template": ".md-source:not([data-md-component])",
    "links to the next page": ".md-footer__link--next",
}


def contents(site: Site) -> dict[str, Counter]:
    """Return how much of each kind a built site holds, by page and by file."""
    found = {}
    for url, soup in soups(site).items():
        held = {kind: len(soup.select(selector)) for kind, selector in KINDS.items()}
        held |= {f"#{tag['id']}": 1 for tag in soup.select(HEADINGS)}
        found[f"/{url.removeprefix(site.url)}"] = Counter(held | {"pages": 1})
    for path in site.folder.rglob("*.*"):
        name = path.relative_to(site.folder).as_posix()
        if path.match("search*.json"):  # each has a name and a form of its own
            index = json.loads(path.read_text("utf-8"))
            entries = len(index.get("docs") or index["items"])
            found["search"] = Counter({"sections in search": entries})
        elif path.suffix != ".html" and not name.startswith(THEME):
            found[name] = Counter({f"files, {path.suffix}": 1})
    return found


def lost(before: dict[str, Counter], after: dict[str, Counter]) -> dict[str, list]:
    """Return the pages and files that have less than before, by kind of thing."""
    names = defaultdict(list)
    for name, held in before.items():
        left = held - after.get(name, Counter())
        for kind, number in left.items() if name in after else [("missing", 0)]:
            names[kind].append(f"{name} ({number} of {held[kind]})" if number else name)
    return names


def totals(before: dict[str, Counter], after: dict[str, Counter]) -> list[list[str]]:
    """Return a row for each kind: how much of it the one site has, and the other."""
    sums = [sum(held.values(), Counter()) for held in (before, after)]
    kinds = dict.fromkeys([*KINDS, *(k for k in sums[0] | sums[1] if k[0] != "#")])
    return [[kind, *(str(one[kind]) for one in sums)] for kind in kinds]


def dead(site: Site) -> Counter:
    """Return how often a link of the built site leads nowhere, by its target."""
    wrong = [line.split(": ", 1)[1] for line in broken_links(site)]
    return Counter(re.sub(r"^[./]+", "", line) for line in wrong)


def built(tree: Path) -> tuple[Site, Site]:
    """Build a copy of the project with MkDocs and with Zensical; return the sites."""
    bench.environment(PYTHON, "--upgrade", "zensical")
    shutil.rmtree(tree, ignore_errors=True)
    project.copy(tree)
    shutil.copytree(CACHE / "notebooks", tree / ".cache" / "notebooks")
    common = {"PYTHONPATH": str(tree), "SITE_URL": URL, "NO_MKDOCS_2_WARNING": "1"}
    bench.cost_of([sys.executable, "-m", "mkdocs", "build", "-q"], tree, **common)
    (tree / "site").rename(tree / "mkdocs")
    bench.cost_of([PYTHON, "-m", "zensical", "build"], tree, **common)
    return Site(tree / "mkdocs", URL), Site(tree / "site", URL)


def main() -> None:
    """Build, compare and print."""
    sites = built(FOLDER / "tree")
    before, after = (contents(site) for site in sites)
    wrong = [dead(site) for site in sites]
    nowhere = ["links that lead nowhere", *(str(one.total()) for one in wrong)]
    [place] = PYTHON.parents[1].glob("lib/*/site-packages/zensical-*.dist-info")
    names = (
        f"MkDocs {version('mkdocs')}",
        place.stem.replace("z", "Z").replace("-", " "),
    )
    print(table(["what", *names], [*totals(before, after), nowhere]))
    for kind, places in lost(before, after).items():
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        print(f"\nLost: {kind}: {', '.join(places[:SHOWN])}{more}")
    for target, number in (wrong[1] - wrong[0]).most_common(SHOWN):
        print(f"\n{number} links lead nowhere: {target}")


if __name__ == "__main__":
    main()
