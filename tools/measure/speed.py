"""Times the build and `make serve` against plain Material for MkDocs: `make speed`.

Both have the same pages, in a copy of the project that copies of lessons make longer.
Plain is the theme with its search and our Markdown extensions, without hooks and other
plugins, and without the notebook, which it cannot show. Prints a table in Markdown.
"""

import argparse
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import Error, Page, sync_playwright

from tools import project
from tools.gate import browser
from tools.measure import bench
from tools.website.cost import table

SIZES = (40, 60)
OURS, PLAIN = "mkdocs.yml", "plain.yml"
KEPT = ("site_name", "site_url", "nav", "exclude_docs", "markdown_extensions")
LESSON, BEGIN = "batch-norm", "\n## Why it matters\n\n"
HEAD = ["site", "pages", "build, CPU s", "pages / CPU s", "× plain", "save to browser"]


def lengthen(tree: Path, pages: int) -> None:
    """Copy lessons under other names until the nav of a project has so many pages."""
    text = (tree / OURS).read_text("utf-8")
    lessons = re.findall(r"^ +- course/([\w-]+)/index\.md\n", text, flags=re.M)
    listed = re.findall(r"- .*\.(?:md|ipynb)\n", text)
    for number in range(pages - len(listed)):
        name = lessons[number % len(lessons)]
        other = f"{name}-{number}"
        folder = tree / "docs" / "course" / other
        shutil.copytree(folder.with_name(name), folder)
        page = (folder / "index.md").read_text("utf-8")
        page = page.replace(f"course/{name}/", f"course/{other}/")
        (folder / "index.md").write_text(page.replace(f"{name}.md", f"{other}.md"))
        line = f"- course/{name}/index.md\n"
        text = text.replace(line, f"{line}          {line.replace(name, other)}")
    (tree / OURS).write_text(text, "utf-8")


def plain(config: str) -> str:
    """Return the configuration of the plain site, from that of ours."""
    parts = re.split(r"\n(?=\w)", config)
    kept = "\n".join(part for part in parts if part.startswith(KEPT))
    kept = re.sub(r".*(\.ipynb|Whole programs:)\n", "", kept)
    return f"{kept}\ntheme: material\nplugins: [search]\n"


def variables(tree: Path) -> dict[str, str]:
    """Return what to set where a copy of the project is built."""
    return {"PYTHONPATH": str(tree), "NO_MKDOCS_2_WARNING": "1"}


def command(what: str, config: str, *more: str) -> list[str]:
    """Return a command of MkDocs."""
    return [sys.executable, "-m", "mkdocs", what, "-q", "--config-file", config, *more]


def build(tree: Path, config: str) -> tuple[int, float]:
    """Build a site; return its pages and the CPU seconds that it took."""
    cost = bench.cost_of(command("build", config), tree, **variables(tree))
    return len([*(tree / "site").rglob("index.html")]), cost.cpu


def saves(tree: Path, config: str, page: Page, repeat: int) -> list[float]:
    """Serve as `make serve` does; return the seconds from each save to the browser."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | variables(tree) | {"SITE_URL": f"http://{address}/"}
    serve = command("serve", config, "--livereload", "--dev-addr", address)
    source = tree / "docs" / "course" / LESSON / "index.md"
    text, took = source.read_text("utf-8"), []
    with subprocess.Popen(serve, cwd=tree, env=env) as server:
        try:
            while server.poll() is None:
                with contextlib.suppress(Error):  # it is still building
                    page.goto(f"http://{address}/course/{LESSON}/")
                    break
                time.sleep(0.2)
            for number in range(repeat):
                time.sleep(2 + number / 7)  # at any time between two looks at the files
                words = f"Save number {number}."
                start = time.perf_counter()
                source.write_text(text.replace(BEGIN, f"{BEGIN}{words} "), "utf-8")
                page.get_by_text(words).wait_for()
                took.append(time.perf_counter() - start)
        finally:
            server.terminate()
            source.write_text(text, "utf-8")
    return took


def measure(size: int, repeat: int) -> list[list[str]]:
    """Return a row of the table for each of the two sites with so many pages."""
    found = {"executable_path": browser.find(), "args": browser.flags()}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        project.copy(tree)
        lengthen(tree, size)
        (tree / PLAIN).write_text(plain((tree / OURS).read_text("utf-8")), "utf-8")
        build(tree, OURS)  # executes the program and writes what pages include
        # In turn, so that the machine is as busy for one as for the other.
        built = [[build(tree, c) for c in (OURS, PLAIN)] for _ in range(repeat)]
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(**found).new_page()
            waits = [saves(tree, c, page, repeat) for c in (OURS, PLAIN)]
    rows, names = [], ("this site", "plain Material")
    costs = [
        median(cpu / pages for pages, cpu in runs) for runs in zip(*built, strict=True)
    ]
    for name, (pages, _), cost, wait in zip(names, built[0], costs, waits, strict=True):
        shown = f"{pages * cost:.2f}", f"{1 / cost:.1f}", f"{cost / costs[-1]:.2f}"
        rows.append([name, str(pages), *shown, f"{median(wait):.2f} s"])
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="PAGES")
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    rows = [row for size in asked.sizes for row in measure(size, asked.repeat)]
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
