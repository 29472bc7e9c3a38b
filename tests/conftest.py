"""What several test modules need: generated snippets, the built site, a browser."""

import functools
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from filelock import FileLock
from playwright.sync_api import sync_playwright

from tests.pages import ROOT, site_config
from tools import browser as chromium
from tools import hooks
from tools.project import copy

pytest_plugins = ["tests.memory"]

# A run in the background ignores Ctrl-C, and all that it starts would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a learner's command keeps between its runs: here, and not in the user's home.
os.environ["NBE_CACHE"] = str(ROOT / ".cache" / "nbe")


@pytest.fixture(scope="session", autouse=True)
def generated():
    """Write the generated snippets, so that the pages that include them can be read."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with FileLock(ROOT / ".cache" / "generated.lock"):  # by one process of two
        hooks.generate(site_config())


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


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Build the site as it is published, below a path, and serve it."""
    root = tmp_path_factory.mktemp("pages")
    folder = root / "nnx-by-example"
    handler = functools.partial(QuietHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/{folder.name}/"
        build = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder],
            cwd=ROOT,
            env={**os.environ, "SITE_URL": url, "NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
        )
        assert build.returncode == 0, build.stdout + build.stderr
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(folder, url)
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Start the Chromium that tools/browser.py finds; a missing one is an error."""
    path = chromium.find()
    assert path, "no Chromium: run `make test`, which installs one"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=path, args=chromium.flags()
        )
        yield running
        running.close()
