"""Makes in the background, while `make serve` runs, what only a long run can make.

A build makes all of it first. Under `make serve` the first page is not to wait for it:
what is not there is announced, in its place on the page, and made in another process.
Then the site is built again. What fails is said on the page and in the console.
"""

import contextlib
import html
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from tools import project
from tools.project import CACHE, EXAMPLES, ROOT
from tools.website import api, cost, notebooks, pictures, terminal

log = logging.getLogger("mkdocs.plugins.later")
GENERATED, NOTEBOOKS = CACHE / "generated", CACHE / "notebooks"

# By its folder of generated files: what it lacks, how that is made, its files.
PICTURES = {
    "cost": (cost.stale, cost.draw_all, list(cost.PLOTS)),
    "api": (
        api.stale,
        lambda folder: api.kept_names(folder / api.NAMES),
        [f"{library}.md" for library in api.LIBRARIES],
    ),
    "pictures": (
        pictures.stale,
        pictures.draw_all,
        [f"{name}.svg" for name in pictures.scripts()],
    ),
    "terminal": (
        terminal.stale,
        terminal.draw_all,
        [f"{scene.name}.svg" for scene in terminal.SCENES],
    ),
}
COMING = "This has not run on this machine yet"
RELOADS = "It runs now. The page reloads by itself when it has ended."
FAILED = "This run has failed on this machine"
NOTE = """\
<div class="admonition {kind}">
<p class="admonition-title">{title}</p>
<p>{text}</p>
</div>
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

serving = False  # whether this process is `mkdocs serve`
failed: dict[str, str] = {}  # what could not be made, and the state that it was in
running: subprocess.Popen | None = None
worker: threading.Thread | None = None


def announce_pictures() -> None:
    """Say in each picture and table that is not there that it comes."""
    for folder, (_, _, files) in PICTURES.items():
        (GENERATED / folder).mkdir(parents=True, exist_ok=True)
        for name in files:
            file = GENERATED / folder / name
            # Another process may draw it at this moment.
            with contextlib.suppress(FileExistsError), file.open("x") as empty:
                empty.write(NOTE.format(kind="note", title=COMING, text=RELOADS))


def announce_programs() -> None:
    """Say in the place of each notebook that is not there, or is old, that it comes."""
    for name, state in notebooks.stale(EXAMPLES, NOTEBOOKS).items():
        if not notebooks.has(notebooks.target(name, NOTEBOOKS), "announced", state):
            notebooks.announce(EXAMPLES / name, NOTEBOOKS, "note", COMING, RELOADS)
    notebooks.prune(EXAMPLES, NOTEBOOKS)


def waiting() -> dict[str, str]:
    """Return what is to be made, and its state: folders of pictures, and programs."""
    lacks = {name: stale(GENERATED / name) for name, (stale, _, _) in PICTURES.items()}
    found = {name: repr(states) for name, states in lacks.items() if states}
    found |= notebooks.stale(EXAMPLES, NOTEBOOKS)
    return {name: state for name, state in found.items() if failed.get(name) != state}


def make(name: str) -> None:
    """Make the pictures of a folder, or execute a program."""
    if name in PICTURES:
        PICTURES[name][1](GENERATED / name)
    else:
        notebooks.make(EXAMPLES / name, NOTEBOOKS)


def start(rebuild: Callable[[], None]) -> None:
    """Make in a thread, and in other processes, what is to be made.

    Args:
      rebuild: called when something has been made, or has failed.
    """
    global worker
    if serving and not (worker and worker.is_alive()) and waiting():
        worker = threading.Thread(target=work, args=(rebuild,), daemon=True)
        worker.start()


def work(rebuild: Callable[[], None]) -> None:
    """Make all that is to be made, one after the other."""
    while names := waiting():
        name, state = next(iter(names.items()))
        said = run(name)
        if not serving:
            return
        if said:
            failed[name] = state
            log.error(f"{name}: {said}")
            report(name, said)
        rebuild()


def run(name: str) -> str:
    """Make something in another process; return what it said if it has failed."""
    global running
    command = [sys.executable, "-m", "tools.website.later", name]
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # so that it ends with all that it has started
    )
    said = COLOUR.sub("", running.communicate()[1]).strip()
    return said or f"it ended with {running.returncode}" if running.returncode else ""


def report(name: str, said: str) -> None:
    """Say on the pages that show something why it could not be made."""
    if name in PICTURES:
        text = html.escape(said).replace("\n", "<br>")
        for file in PICTURES[name][2]:
            whole = NOTE.format(kind="warning", title=FAILED, text=text)
            project.write(GENERATED / name / file, whole)
    else:
        text = "``` { .text .no-copy }\n" + said.replace("```", "") + "\n```"
        notebooks.announce(EXAMPLES / name, NOTEBOOKS, "warning", FAILED, text)


def stop() -> None:
    """End what is under way."""
    global serving
    serving = False
    if running and running.poll() is None:
        os.killpg(running.pid, signal.SIGTERM)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)  # pages that are asked for come first
    try:
        make(sys.argv[1])
    except (notebooks.NotebookError, pictures.PictureError) as error:
        sys.exit(str(error))
