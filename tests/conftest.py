"""What several test modules need: generated snippets, the built site, a browser."""

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from filelock import FileLock
from playwright.sync_api import expect, sync_playwright

from tests.pages import ROOT, site_config
from tests.process import lend
from tools import browser as chromium
from tools import hooks
from tools.project import HANG, copy

pytest_plugins = ["tests.order", "tests.memory", "pytester"]

# A run in the background ignores Ctrl-C, and all that it starts would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a learner's command keeps between its runs: here, and not in the user's home.
os.environ["NBE_CACHE"] = str(ROOT / ".cache" / "nbe")

HANG_MS = 1000 * HANG  # as Playwright counts

# Where the process that started pytest keeps the place of the site.
SITE = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session", autouse=True)
def generated():
    """Write the generated snippets, so that the pages that include them can be read."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with FileLock(ROOT / ".cache" / "generated.lock"):  # by one process of two
        hooks.generate_texts(site_config())


@pytest.fixture
def project(tmp_path):
    """Copy the files of the project that git knows or would add."""
    copy(tmp_path)
    for done in ("notebooks", "nbe", "generated"):  # of the same files: not made again
        if (ROOT / ".cache" / done).exists():
            shutil.copytree(
                ROOT / ".cache" / done,
                tmp_path / ".cache" / done,
                ignore=shutil.ignore_patterns("*.[0-9]*"),  # a draft of another process
            )
    return tmp_path


class Site(NamedTuple):
    """The built site: where it lies, and where it is served."""

    folder: Path
    url: str

    def file(self, path: str) -> Path:
        """Return the file that is served at an address relative to `url`."""
        file = self.folder / unquote(path)
        return file / "index.html" if file.is_dir() else file

    def pages(self) -> list[str]:
        """Return the address of every page, relative to `url`; home is empty."""
        files = self.folder.rglob("index.html")
        return sorted(
            file.relative_to(self.folder).as_posix().removesuffix("index.html")
            for file in files
        )


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *args):
        """Keep the test output free of requests."""


def place_of(config) -> list[str]:
    """Return folder and address of the site: one of each for all processes of a run.

    The first process of pytest serves the folder, from its first call on to its end.
    """
    if hasattr(config, "workerinput"):
        return config.workerinput["site"]
    if SITE not in config.stash:
        root = tempfile.TemporaryDirectory()
        handler = functools.partial(QuietHandler, directory=root.name)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for last in (root.cleanup, server.server_close, server.shutdown):
            config.add_cleanup(last)  # the last one first
        url = f"http://127.0.0.1:{server.server_port}/nnx-by-example/"
        config.stash[SITE] = [f"{root.name}/nnx-by-example", url]
    return config.stash[SITE]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell each worker where the site is."""
    node.workerinput["site"] = place_of(node.config)


def built(folder, url, root=ROOT) -> Site:
    """Return the site as it is published, below a path, built by the first who asks.

    Raises:
      AssertionError: if it does not build, with what MkDocs says, for all who ask.
    """
    said = Path(f"{folder}.json")  # written once the build has ended
    with FileLock(f"{folder}.lock"):
        if not said.exists():
            build = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder],
                cwd=root,
                env={**os.environ, "SITE_URL": url, "NO_MKDOCS_2_WARNING": "1"},
                capture_output=True,
                text=True,
            )
            said.write_text(
                json.dumps([build.returncode, build.stdout + build.stderr]), "utf-8"
            )
    code, text = json.loads(said.read_text("utf-8"))
    assert code == 0, text
    return Site(Path(folder), url)


@pytest.fixture(scope="session")
def site(pytestconfig, generated):
    """Return the built site, which is served; it shows what all pages have shown."""
    lend()  # its pictures of the terminal come from runs of the command
    pytestconfig.pluginmanager.get_plugin("tests.memory").wait_for_pages(pytestconfig)
    return built(*place_of(pytestconfig))


@pytest.fixture(scope="session")
def browser():
    """Start the Chromium that tools/browser.py finds; a missing one is an error."""
    path = chromium.find()
    assert path, "no Chromium: run `make test`, which installs one"
    expect.set_options(timeout=HANG_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=path, args=chromium.flags(), timeout=HANG_MS
        )
        yield running
        running.close()
