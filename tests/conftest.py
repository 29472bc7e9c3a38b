"""What several test modules need: generated snippets, the built site, a browser."""

import functools
import http.server
import os
import shutil
import signal
import tempfile
import threading

import pytest
from filelock import FileLock
from playwright.sync_api import expect, sync_playwright

from tools.gate import browser as chromium
from tools.gate.browser import HANG_MS
from tools.gate.process import lend
from tools.gate.site import built
from tools.project import ROOT, copy
from tools.sources import site_config
from tools.website import hooks

pytest_plugins = ["tools.gate.order", "tools.gate.memory", "pytester"]

# A run in the background ignores Ctrl-C, and all that it starts would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a learner's command keeps between its runs: here, and not in the user's home.
os.environ["NBE_CACHE"] = str(ROOT / ".cache" / "nbe")

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


@pytest.fixture(scope="session")
def site(pytestconfig, generated):
    """Return the built site, which is served; it shows what all pages have shown."""
    lend()  # its pictures of the terminal come from runs of the command
    pytestconfig.pluginmanager.get_plugin("tools.gate.memory").wait_for_pages(
        pytestconfig
    )
    return built(*place_of(pytestconfig))


@pytest.fixture(scope="session")
def browser():
    """Start the Chromium that is found; a missing one is an error."""
    path = chromium.find()
    assert path, "no Chromium: run `make test`, which installs one"
    expect.set_options(timeout=HANG_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=path, args=chromium.flags(), timeout=HANG_MS
        )
        yield running
        running.close()
