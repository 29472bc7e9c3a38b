"""Times the doc-tests against bare execution and other doc-test tools: `make bench`.

All run the same programs, each in the dialect that it reads. Then it times the parts of
the suite, one after the other, in a copy of the project that has run nothing before.
Counted are the CPU seconds of all processes, of those too that nobody waits for. Prints
Markdown.
"""

import argparse
import ast
import ctypes
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from math import log
from pathlib import Path
from statistics import linear_regression, median
from typing import NamedTuple

from tools import project
from tools.gate import order
from tools.gate.pages import read_blocks
from tools.project import CACHE, DOCS, ROOT, say
from tools.sources import site_config
from tools.website import api, hooks
from tools.website.cost import table

PEERS = ("sybil==10.1.0", "mktestdocs==0.2.5", "pytest-codeblocks==0.18.0")
# Outputs of all kinds: shapes, arrays, booleans, errors, losses.
LESSONS = ("eager-params", "dropout-modes", "batch-norm", "split-merge", "grad-module")
LESSONS += ("optimizer-step", "attention", "train-loops")
# Plain pytest-examples refuses what it has itself written there.
UNFIT = ("abstract-init", "filters", "freeze", "kv-cache", "running-average")
LIGHT, COPIES = ("eager-params", "param-access"), (1, 3, 10)

SCRATCH = CACHE / "bench"
TREE = SCRATCH / "tree"  # a copy of the project: an edit meanwhile changes nothing
PYTHON = SCRATCH / "env" / "bin" / "python"
PR_SET_CHILD_SUBREAPER = 36

# What a forkserver starts has no parent that waits for it.
ONE_SECOND = """
import multiprocessing
burn = "import time\\nwhile time.process_time() < 1: pass"
child = multiprocessing.get_context("forkserver").Process(target=exec, args=(burn,))
child.start()
child.join()
"""
RUN = """
import os, pathlib, runpy
import jax, flax.linen, flax.nnx
for page in sorted(pathlib.Path(os.environ["PAGES"]).glob("*.py")):
    runpy.run_path(str(page), run_name="__main__")
"""
TEST_FENCES = """
import os, pathlib, mktestdocs, pytest, pytest_examples
pages = sorted(pathlib.Path(os.environ["PAGES"]).glob("*.md"))

@pytest.mark.parametrize("page", pages)
def test_examples(page, eval_example):
    update = eval_example.update_examples
    run = eval_example.run_print_update if update else eval_example.run_print_check
    names = {}
    for example in pytest_examples.find_examples(page):
        names = run(example, module_globals=names)

@pytest.mark.parametrize("page", pages)
def test_mktestdocs(page):
    mktestdocs.check_md_file(page, memory=True)
"""
# No expression shows its value unless it is printed.
SYBIL = """
import sys, sybil.parsers.rest
sys.__displayhook__ = lambda value: None
parsers = [sybil.parsers.rest.DocTestParser()]
pytest_collect_file = sybil.Sybil(parsers, pattern="*.rst").pytest()
"""


class Way(NamedTuple):
    """A way to run a set of pages: where, with what, and where JAX's cache lies."""

    folder: str
    arguments: str
    cache: str = ""


GATE_ARGUMENTS = "-m pytest tests/test_pages.py -k test_page[docs/{pages}/"
BARE, GATE, XDIST = "bare execution", "our gate", "our gate, -n auto"
WAYS = {
    BARE: Way("bare", "run.py"),
    "bare execution, JAX's cache": Way("bare", "run.py", "cache"),
    GATE: Way("tree", GATE_ARGUMENTS, "tree/.cache/jax"),
    "pytest-examples": Way("fences", "-m pytest test_fences.py -k examples"),
    "sybil": Way("prompts", "-m pytest {pages}"),
    "mktestdocs": Way("fences", "-m pytest test_fences.py -k mktestdocs"),
    "pytest-codeblocks": Way("continued", "-m pytest --codeblocks {pages}"),
    XDIST: Way("tree", f"{GATE_ARGUMENTS} -n auto --dist loadscope", "tree/.cache/jax"),
}
COLD = {True: "cold", False: "second run"}


class BenchError(Exception):
    """A figure cannot be measured; the message says why."""


class Cost(NamedTuple):
    """What a command cost in seconds, its processes together."""

    cpu: float
    wall: float


def cost_of(command: list, folder: Path = ROOT, **variables: str) -> Cost:
    """Return the cost of a command and of what it leaves behind.

    Raises:
      BenchError: if the command fails; it shows the end of what was printed.
    """
    foreign = ("JAX_", "XLA_", "PYTEST_", "PYTHON")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | variables
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as file:
        done = subprocess.run(command, cwd=folder, env=env, stdout=file, stderr=file)
        wall = time.perf_counter() - start
        try:
            while True:
                os.wait()
        except ChildProcessError:  # nobody is left
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            file.seek(0)
            end = "".join(file.readlines()[-20:])
            raise BenchError(f"{' '.join(map(str, command))}: {done.returncode}\n{end}")
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Cost(user + system, wall)


def run(name: str, pages: str, *more: str, cold: bool = True) -> Cost:
    """Return the cost of one run; a cold one finds no compilation of JAX."""
    way, variables = WAYS[name], {"CI": "1", "PAGES": pages}
    cache = SCRATCH / way.cache
    if way.cache and cold:
        shutil.rmtree(cache, ignore_errors=True)
    elif way.cache and pages == "corpus" and not cache.exists():
        raise BenchError(f"{name}: {cache} is not where it keeps what JAX compiled")
    if way.cache:
        variables["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        variables["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    arguments = way.arguments.format(pages=pages).split()
    return cost_of([PYTHON, *arguments, *more], SCRATCH / way.folder, **variables)


def count_orphans() -> None:
    """Adopt from now on what children leave behind, and see that it is counted.

    Raises:
      BenchError: if it is not.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    counted = cost_of([sys.executable, "-c", ONE_SECOND]).cpu
    say(f"a forkserver's child burns 1 CPU s: {counted:.2f} are counted in all")
    if counted < 1:
        raise BenchError("processes that nobody waits for are counted on Linux alone")


def fences(sources: list[str], between: str = "") -> str:
    """Return the blocks of a page as Markdown."""
    return f"\n{between}\n".join(
        f"```python\n{text.strip()}\n```\n" for text in sources
    )


def continued(sources: list[str]) -> str:
    """Return them as one block for pytest-codeblocks, with its outputs at the end."""
    lines = [line for line in "\n".join(sources).split("\n") if line.startswith("#>")]
    shown = "".join(f"{line[3:]}\n" for line in lines)
    expected = f"\n<!--pytest-codeblocks:expected-output-->\n```\n{shown}```\n"
    return fences(sources, "<!--pytest-codeblocks:cont-->") + expected


def prompts(sources: list[str]) -> str:
    """Return them as a doctest."""
    lines = []
    for source in sources:
        code = {}
        for node in ast.parse(source).body:
            first = min(n.lineno for n in [node, *getattr(node, "decorator_list", [])])
            code |= dict.fromkeys(range(first, node.end_lineno + 1), "... ")
            code[first] = ">>> "
        for number, line in enumerate(source.splitlines(), 1):
            if number in code:
                lines.append(code[number] + line)
            elif line.startswith("#>"):
                lines.append(line[3:] or "<BLANKLINE>")
    return "\n".join([*lines, ""])


# How the programs are written, and what runs them.
DIALECTS = {
    "bare": (".py", "\n".join, "run.py", RUN),
    "fences": (".md", fences, "test_fences.py", TEST_FENCES),
    "continued": (".md", continued, "conftest.py", ""),
    "prompts": (".rst", prompts, "conftest.py", SYBIL),
}


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def write_pages(name: str, pages: dict[str, str]) -> None:
    """Write a set of pages, Markdown by title, in every dialect."""
    for title, text in pages.items():
        page = TREE / "docs" / name / title / "index.md"
        write(page, text)
        sources = [block.source for block in read_blocks(page)]
        for dialect, (suffix, render, *_) in DIALECTS.items():
            write(SCRATCH / dialect / name / f"{title}{suffix}", render(sources))


def environment(python: Path, *packages: str) -> None:
    """Install packages, and whatever else uv is asked for, where `python` lies."""
    uv = [sys.executable, "-m", "uv", "-q"]
    if not python.exists():
        cost_of([*uv, "venv", "--python", sys.executable, python.parents[1]])
    cost_of([*uv, "pip", "install", "--python", python, *packages])


def prepare(lessons: list[str], texts: dict[str, str]) -> None:
    """Make the environment, the copy of the project, and all sets of pages."""
    environment(PYTHON, "--compile-bytecode", "-r", "requirements.lock", *PEERS)
    for folder in ("cache", "tree", *DIALECTS):
        shutil.rmtree(SCRATCH / folder, ignore_errors=True)
    hooks.generate(site_config())
    project.copy(TREE)
    shutil.copytree(CACHE / "generated", TREE / ".cache" / "generated")
    for dialect, (_, _, name, text) in DIALECTS.items():
        write(SCRATCH / dialect / name, text)
        write(SCRATCH / dialect / "pytest.ini", "[pytest]\n")  # not the project's own
    write_pages("corpus", {name: texts[name] for name in lessons})
    for copies in COPIES:
        some = {f"{name}-{n}": texts[name] for name in LIGHT for n in range(copies)}
        write_pages(f"copies-{copies}", some)
    for name, shown in {"empty": 1, "wrong": 2}.items():
        write_pages(name, {"page": f"```python\nprint(1)\n#> {shown}\n```\n"})
    # This one wants outputs inside the `except` that prints them, and formats them.
    for page in (SCRATCH / "fences" / "corpus").iterdir():
        write(page, re.sub(r"^#>.*\n", "", page.read_text("utf-8"), flags=re.M))
    run("pytest-examples", "corpus", "--update-examples")


def compares(name: str) -> bool:
    """Return whether a way refuses a page whose output is wrong."""
    run(name, "empty")
    try:
        run(name, "wrong")
    except BenchError:
        return True
    return False


def measure(runs: list[tuple[str, str]], repeat: int) -> dict[tuple, Cost]:
    """Return the median costs by way, pages and whether the run was cold.

    Args:
      runs: names of ways and of the sets of pages to give them, in order.
      repeat: how often all run; every other time in reverse order.
    """
    found = defaultdict(list)
    for number in range(repeat):
        for at, (name, pages) in enumerate(runs[:: -1 if number % 2 else 1], 1):
            for cold, word in COLD.items():
                cost = run(name, pages, cold=cold)
                found[name, pages, cold].append(cost)
                times = f"{cost.cpu:.1f} CPU s, {cost.wall:.1f} s"
                say(f"{number + 1}: {at}/{len(runs)} {name}, {pages}, {word}: {times}")
    return {
        key: Cost(median(one.cpu for one in costs), median(one.wall for one in costs))
        for key, costs in found.items()
    }


def report(costs: dict[tuple, Cost], compared: dict[str, str]) -> str:
    """Return what `measure` found as Markdown: costs, growth, two processes, goals.

    Args:
      costs: the median costs.
      compared: whether a way compares outputs, in words, by its name.
    """

    def cpu(name, pages="corpus", cold=True, empty=BARE):
        return costs[name, pages, cold].cpu - costs[empty, "empty", cold].cpu

    limit, rows = cpu(BARE), []
    for name, words in compared.items():
        both = [cpu(name, cold=cold) for cold in COLD]
        cells = [cell for s in both for cell in (f"{s:.1f}", f"{s / limit:.2f}")]
        rows.append([name, words, *cells])
    head = ["CPU s after one import of jax and flax", "outputs compared", "cold"]
    parts = [table([*head, "× the limit", "second run", "× the limit"], rows)]
    imports = f"{costs[BARE, 'empty', True].cpu:.1f} CPU s"
    parts.append(f"The import, {imports}, is in no row. The limit is the first row.")

    sizes = [copies * len(LIGHT) for copies in COPIES]
    rows, slopes = [], []
    for name, cold in ((BARE, True), (GATE, True), (GATE, False)):
        grown = [cpu(name, f"copies-{n}", cold, name) for n in COPIES]
        logs = ([log(n) for n in numbers] for numbers in (sizes, grown))
        slopes.append(linear_regression(*logs).slope)
        cells = [f"{seconds:.1f}" for seconds in grown]
        rows.append([f"{name}, {COLD[cold]}", *cells, f"{slopes[-1]:.2f}"])
    head = ["CPU s above an empty page", *(f"{size} pages" for size in sizes)]
    parts.append(table([*head, "exponent"], rows))

    rows = []
    for name in (GATE, XDIST):
        seconds = [s for cold in COLD for s in costs[name, "corpus", cold]]
        rows.append([name, *(f"{s:.1f}" for s in seconds)])
    head = ["imports included", "cold, CPU s", "wall s", "second run, CPU s", "wall s"]
    parts.append(table(head, rows))

    one, two = (costs[name, "corpus", True] for name in (GATE, XDIST))
    peers = {name for name, words in compared.items() if words == "yes"} - {GATE}
    best = min(peers, key=cpu)
    goals = [
        ("cold, × the limit", cpu(GATE) / limit, 1.1),
        ("second run, × the limit", cpu(GATE, cold=False) / limit, 0.5),
        (f"cold, × {best}, the cheapest that compares", cpu(GATE) / cpu(best), 1.0),
        ("growth exponent, cold", slopes[1], 1.0),
        ("wall time with -n auto, × one process", two.wall / one.wall, 2 / 3),
        ("CPU time with -n auto, × one process", two.cpu / one.cpu, 1.5),
    ]
    rows = [
        [what, f"{got:.2f}", f"≤ {most:.2f}", "yes" if got <= most else "no"]
        for what, got, most in goals
    ]
    return "\n\n".join([*parts, table([GATE, "measured", "goal", "met"], rows)])


def suite() -> str:
    """Return what each part of the suite costs as Markdown: in order, by one worker."""
    tree = SCRATCH / "suite"
    shutil.rmtree(tree, ignore_errors=True)
    project.copy(tree)
    me = "-c", "user.name=bench", "-c", "user.email=bench@example.com"
    for command in (
        ["init"],
        ["add", "."],
        ["commit", "-m", "A copy"],
    ):  # tests ask git
        cost_of(["git", *me, *command], tree)
    parts = {order.part_of(path.name) for path in tree.glob("tests/test_*.py")}
    first = [part for part in order.ORDER if part in parts]
    pages = len(list(api.listed(site_config()["nav"])))
    rows, total = [], Cost(0, 0)
    for part in [*first, *sorted(parts - {*first})]:
        command = [sys.executable, "-m", "pytest", "-q", f"tests/test_{part}.py"]
        cost = cost_of(command, tree, CI="1")
        say(f"{part}: {cost.cpu:.1f} CPU s, {cost.wall:.1f} s")
        total = Cost(total.cpu + cost.cpu, total.wall + cost.wall)
        rows.append([part, *cells(cost, pages)])
    rows.append(["all", *cells(total, pages)])
    return table(["part, cold", "CPU s", "wall s", "CPU s / page"], rows)


def cells(cost: Cost, pages: int) -> list[str]:
    """Return a cost, and its share for each page, as texts."""
    return [f"{cost.cpu:.1f}", f"{cost.wall:.1f}", f"{cost.cpu / pages:.2f}"]


def main() -> None:
    """Measure all ways and print what was found."""
    found = DOCS.glob("course/[a-z]*/index.md")
    texts = {path.parent.name: path.read_text("utf-8") for path in found}
    lessons = [*LESSONS, *sorted({*texts} - {*LESSONS, *UNFIT})]
    parser = argparse.ArgumentParser(
        prog="python -m tools.measure.bench", description=__doc__
    )
    some = {"type": int, "metavar": "N"}
    most = range(1, len(lessons) + 1)
    parser.set_defaults(pages=len(LESSONS), repeat=1)
    parser.add_argument("--pages", **some, choices=most, help="lessons")
    parser.add_argument(
        "--repeat", **some, choices=range(1, 100), help="for the median"
    )
    parser.add_argument("--suite", action="store_true", help="measure the suite alone")
    options = parser.parse_args()
    lessons = lessons[: options.pages]
    runs = [*((name, "corpus") for name in WAYS), (BARE, "empty"), (GATE, "empty")]
    runs += [(name, f"copies-{copies}") for copies in COPIES for name in (BARE, GATE)]
    try:
        count_orphans()
        if options.suite:
            print(suite())
            return
        say(f"preparing {SCRATCH.relative_to(ROOT)}")
        prepare(lessons, texts)
        ways = [name for name in WAYS if name != XDIST]
        compared = {name: "yes" if compares(name) else "no" for name in ways}
        costs = measure(runs, options.repeat)
        parts = suite()
    except BenchError as error:
        sys.exit(f"bench: {error}")
    packages = ("jax", "flax", "pytest", "pytest-examples")
    versions = [f"{name} {version(name)}" for name in packages]
    versions += [peer.replace("==", " ") for peer in PEERS]
    print(
        f"{len(lessons)} lessons: {', '.join(lessons)}. Runs: {options.repeat}. "
        f"Python {platform.python_version()}, {', '.join(versions)}. "
        f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}.\n"
    )
    print(report(costs, compared), parts, sep="\n\n")


if __name__ == "__main__":
    main()
