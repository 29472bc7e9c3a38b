"""Remembers what was found true: it is not run again while nothing has changed.

What a test depends on is the modules of the project that its own module imports, the
files that it declares with `reads`, the packages, and the settings of JAX. A test that
declares nothing depends on every file of the project. With `--remember`, tests whose
last verdict was "passed" in this very state are left out. CI runs everything.

What a test opens in this process is watched: one that reads a file of the project which
it has not declared fails.
"""

import fnmatch
import functools
import hashlib
import os
import platform
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import grimp
import pytest

from tools import project, records
from tools.gate import browser, summary
from tools.gate.order import part_of
from tools.project import ROOT

OUR = ("tests", "tools", "nnx_by_example")
# Whatever is tested, it is tested with these.
COMMON = ("pyproject.toml", "requirements.lock", "tests/conftest.py")
COMMON += ("tools/gate/memory.py",)
SETTINGS = ("JAX_", "XLA_", "NNX_", "FLAX_", "PJRT_", "TF_")
# All that a built page is made from.
SITE = ("docs/**", "examples/**", "overrides/**", "nnx_by_example/**", "mkdocs.yml")
SITE += ("*.md", "tools/website/**")
SITE += tuple(f"tools/{path.name}" for path in ROOT.glob("tools/*.py"))
PAGE = "tests/test_pages.py::test_page["

BEFORE = pytest.StashKey[dict]()
CHOSEN, UNCHANGED = pytest.StashKey[list](), pytest.StashKey[list]()
STOPPED = "stopped"  # a name in the records for a run that is given up
opened: set[str] = set()  # by the test that runs
RUN, BEGAN = uuid.uuid4().hex, time.time()


def reads(*patterns: str, of: Callable[..., Iterable] | None = None):
    """Return a mark: the files of the project that a test depends on.

    Args:
      patterns: as `fnmatch` takes them, relative to the project; `*` matches `/` too.
      of: returns further paths, given the parameters of the test by name.
    """
    return pytest.mark.reads(*patterns, of=of)


@functools.cache
def listed() -> dict[str, bytes]:
    """Return every file that git knows or would add, with a hash of what it holds."""
    names = project.names()
    return {n: hashlib.sha256((ROOT / n).read_bytes()).digest() for n in names}


def saved_since(files: Iterable[str]) -> bool:
    """Return whether a file was saved since this run began: what ran is not known."""
    paths = [ROOT / name for name in files]
    return any(not p.exists() or p.stat().st_mtime > BEGAN for p in paths)


@functools.cache
def environment() -> str:
    """Return what a verdict depends on beside the files of the project."""
    folders = [Path(folder) for folder in sys.path]
    packages = sorted(p.name for path in folders for p in path.glob("*.dist-info"))
    settings = sorted(
        f"{k}={v}" for k, v in os.environ.items() if k.startswith(SETTINGS)
    )
    chromium = browser.on_path()
    built = [str(Path(chromium).resolve().stat().st_mtime_ns)] if chromium else []
    parts = [sys.version, platform.machine(), *packages, *settings, *built]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def modules() -> grimp.ImportGraph:
    """Return which module of the project imports which.

    What `tests/conftest.py` makes of the site counts for none but those tests that name
    `SITE`. Others need the texts that pages include, which hold no Python, and so
    change no page: `tests/test_tools.py` sees to it.
    """
    graph = grimp.build_graph(*OUR, cache_dir=None)
    for name in graph.find_modules_directly_imported_by("tests.conftest"):
        if name.startswith("tools.website"):
            graph.remove_import(importer="tests.conftest", imported=name)
    return graph


@functools.cache
def code_of(module: str) -> frozenset[str]:
    """Return the files of a module of tests and of all of ours that it imports."""
    graph, found = modules(), set()
    for name in {module, "tests.conftest"} & graph.modules:
        for one in {name, *graph.find_upstream_modules(name)}:
            path = one.replace(".", "/")
            found |= {f"{path}.py", f"{path}/__init__.py"} & listed().keys()
    return frozenset(found)


@functools.cache
def matching(pattern: str) -> frozenset[str]:
    """Return the files of the project whose path matches a pattern."""
    if not set("*?[") & set(pattern):
        return frozenset({pattern} & listed().keys())
    return frozenset(fnmatch.filter(listed(), pattern))


def declared(item: pytest.Item) -> frozenset[str] | None:
    """Return the files that a test says it depends on, or None if it says nothing."""
    found, marks = set(), list(item.iter_markers("reads"))
    for mark in marks:
        of, call = mark.kwargs.get("of"), getattr(item, "callspec", None)
        paths = of(**call.params) if of and call else ()
        names = (str(p.relative_to(ROOT) if isinstance(p, Path) else p) for p in paths)
        for pattern in (*mark.args, *names):
            found |= matching(pattern)
    return frozenset(found) if marks else None


def code_files(item: pytest.Item) -> frozenset[str]:
    """Return the files of the project that a test runs with."""
    common = {name for pattern in COMMON for name in matching(pattern)}
    own = {os.path.relpath(item.path, ROOT)} & listed().keys()
    return code_of(item.module.__name__) | common | own


def files_of(item: pytest.Item) -> frozenset[str]:
    """Return all files of the project that a test depends on."""
    own = declared(item)
    return frozenset(listed()) if own is None else own | code_files(item)


@functools.cache
def digest(files: frozenset[str]) -> str:
    """Return a hash of some files, of their names, and of the environment."""
    whole = hashlib.sha256(environment().encode())
    for name in sorted(files):
        whole.update(name.encode() + listed()[name])
    return whole.hexdigest()


def remembers(config: pytest.Config) -> bool:
    """Return whether tests are left out that were found true in this state."""
    return config.getoption("remember") and "CI" not in os.environ


def pytest_addoption(parser):
    """Add `--remember`."""
    parser.addoption(
        "--remember",
        action="store_true",
        help="leave out what passed and has not changed since; not where CI is set",
    )


def pytest_configure(config):
    """Begin a run; look from now on at what is opened."""
    config.addinivalue_line("markers", "reads(*patterns, of): what a test depends on")
    environment()  # before any module of tests is imported, which may set variables
    sys.addaudithook(notice)
    if not hasattr(config, "workerinput"):
        if hasattr(config.option, "testrunuid"):  # of xdist, for all its workers
            config.option.testrunuid = config.option.testrunuid or RUN
        records.tidy()
        config.pluginmanager.register(Book(config), "book")


def notice(event: str, arguments: tuple) -> None:
    """Note a file that is opened."""
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        opened.add(str(Path.cwd() / os.fsdecode(arguments[0])))


def run_of(config: pytest.Config) -> str:
    """Return a name for this run, which all its workers share."""
    return getattr(config, "workerinput", {}).get("testrunuid", RUN)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave out what was found true in this very state."""
    if not (ROOT / ".git").exists():  # a copy of the project, made by a test
        return
    known, kept, unchanged = records.read(), [], []
    for item in items:
        name, state = item.nodeid, digest(files_of(item))
        item.user_properties += [("test", name), ("state", state)]
        item.stash[BEFORE] = before = known.get(name, {})
        passed = before.get("passed") and before["state"] == state
        (unchanged if passed and remembers(config) else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=unchanged)
    config.stash[UNCHANGED] = [item.nodeid for item in unchanged]


def pytest_collection_finish(session):
    """Note the pages that run, for which the site waits."""
    chosen = [item.nodeid for item in session.items]
    session.config.stash[CHOSEN] = [name for name in chosen if name.startswith(PAGE)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a test that reads a file of the project which it does not depend on."""
    own, others, root = set(), set(), ROOT
    if (root / ".git").exists() and item.path.is_relative_to(root):
        code = {f"{name.replace('.', '/')}.py" for name in modules().modules}
        own = files_of(item)
        others = listed().keys() - own - code
    opened.clear()
    result = yield
    if root == ROOT and saved_since(own):
        item.user_properties.append(("state", ""))
    if undeclared := others & {os.path.relpath(path, root) for path in opened}:
        pytest.fail(
            f"it reads {', '.join(sorted(undeclared))}, not named by `reads`: "
            "a change there would not run it again",
            pytrace=False,
        )
    return result


@pytest.fixture
def note(record_property):
    """Return a function that notes facts for the site and for the next run."""
    return lambda **facts: record_property("facts", facts)


@pytest.fixture
def seen_before(request, note):
    """Return a function: whether this test has passed with the very same thing.

    Where what is tested is made in the run, such as a built page, only then is it known
    whether it has changed. The thing is given by a hash.
    """

    def seen(thing: str) -> bool:
        code = digest(code_files(request.node))
        note(seen=[code, thing])
        before = request.node.stash.get(BEFORE, {})
        same = before.get("facts", {}).get("seen") == [code, thing]
        return bool(same and before["passed"] and remembers(request.config))

    return seen


def wait_for_pages(config: pytest.Config) -> None:
    """Wait until there is a verdict on each page that runs: the site shows them."""
    missing = set(config.stash[CHOSEN])
    while missing:
        run = run_of(config)
        done = {name for name, one in records.read().items() if one["run"] == run}
        missing -= done
        if STOPPED in done:
            return
        time.sleep(0.2 if missing else 0)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Tell the process that sums up what was left out; that is no failure."""
    unchanged = session.config.stash.get(UNCHANGED, [])
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["unchanged"] = unchanged
    elif book := session.config.pluginmanager.get_plugin("book"):
        book.unchanged = book.unchanged or unchanged
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and book.unchanged:
            session.exitstatus = pytest.ExitCode.OK


class Book:
    """Writes verdicts down, and sums them up, in the process that hears of all."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.run = getattr(config.option, "testrunuid", None) or RUN
        self.rewrites = config.getoption("update_examples", False)
        self.failed: set[str] = set()
        self.parts: dict[str, Counter] = {}
        self.unchanged: list[str] = []

    def pytest_runtest_logreport(self, report):
        """Note what has become of a phase of a test, and at its end of the test."""
        noted: dict = {"facts": {}}
        for name, value in report.user_properties:
            if name == "facts":
                noted["facts"] |= value
            else:
                noted[name] = value
        test = noted.pop("test", report.nodeid)
        part = self.parts.setdefault(part_of(test), Counter())
        part["seconds"] += getattr(report, "duration", 0)
        crashed = report.when not in ("setup", "call", "teardown")
        if report.failed:
            self.failed.add(test)
        if report.when == "teardown" or crashed:
            part["failed" if test in self.failed else "passed"] += 1
            verdict = {"run": self.run, "passed": test not in self.failed}
            if self.rewrites:  # what ran is not what stands there now
                return
            records.add(test, {"state": "", **noted, **verdict})
            if test in self.failed and self.config.getoption("maxfail"):
                records.add(STOPPED, verdict | {"facts": {}})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        """Note what a worker has left out: every worker leaves out the same."""
        output = getattr(node, "workeroutput", None) or {}
        self.unchanged = output.get("unchanged", self.unchanged)

    def pytest_terminal_summary(self, terminalreporter):
        """Sum up: each part, and the damages that were tried."""
        for test in self.unchanged:
            self.parts.setdefault(part_of(test), Counter())["unchanged"] += 1
        summary.write(self.parts, records.damages(), summary.FILE)
        for line in summary.lines(summary.FILE):
            terminalreporter.write_line(line)
