"""Finds the Chromium that the browser tests drive; installs one if there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tools.project import HANG

HANG_MS = 1000 * HANG  # as Playwright counts
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Quiet flags: no first-run page, and no request of the browser's own.
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def is_root() -> bool:
    """Return whether this process runs as root, where Chromium has no sandbox."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def flags() -> list[str]:
    """Return the command-line flags to start Chromium with."""
    return [*FLAGS, "--no-sandbox"] if is_root() else FLAGS


def on_path() -> str | None:
    """Return the path of a Chromium on PATH, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def find() -> str | None:
    """Return the path of a Chromium: one on PATH, else Playwright's own, else None."""
    if path := on_path():
        return path
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install() -> str:
    """Install a Chromium and return its path.

    Playwright's own build is tried first, then Debian's package where this is root.

    Raises:
      RuntimeError: if neither can be had. The message says what to do.
    """
    attempts = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if is_root() and shutil.which("apt-get"):
        attempts += [
            ["apt-get", "-q", "update"],
            ["apt-get", "-q", "install", "-y", "chromium", "fonts-dejavu-core"],
        ]
    for command in attempts:
        print("No Chromium found. Trying:", *command[-4:], flush=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if path := find():
            return path
        if done.returncode:
            print("  failed:", (done.stderr or done.stdout).strip().splitlines()[0])
    raise RuntimeError(
        "The browser tests need Chromium and none could be installed. Install one "
        "(Debian: apt-get install chromium; macOS: brew install chromium), put it "
        "on PATH and run the command again."
    )


if __name__ == "__main__":
    try:
        print("Browser:", find() or install())
    except RuntimeError as error:
        sys.exit(str(error))
