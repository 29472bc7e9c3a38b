"""Calls functions in another process, which has jax and flax imported already."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tools.project import CACHE, HANG

# JAX does not lock the files of its cache, so each process of pytest has a folder. What
# one has compiled is linked into the folders of the others once it is written.
SHARED = CACHE / "jax"
OWN = SHARED / os.environ.get("PYTEST_XDIST_WORKER", "")

# What a page cannot see: a display, and compilations that were done before.
ENVIRONMENT = {
    "MPLBACKEND": "template",
    "JAX_COMPILATION_CACHE_DIR": str(OWN),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# The server has imported jax and flax and created no array: what it starts is warm.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["jax", "flax.linen", "flax.nnx", "tools.gate.script"])


def in_process(function: Callable, *args: Any, seconds: float = HANG) -> Any:
    """Return `function(*args)`, called in a process of its own.

    Raises:
      RuntimeError: if the process ends without an answer, or takes too long.
    """
    with Server(function) as server:
        return server.call(*args, seconds=seconds)


class Server:
    """A process that calls a function, again and again."""

    def __init__(self, function: Callable, *, daemon: bool = False):
        """Start it.

        Args:
          function: what it calls.
          daemon: whether it ends with this process, and may start no process itself.
        """
        self.pipe, other = PROCESSES.Pipe()
        options = {"args": (other, function), "daemon": daemon}
        self.process = PROCESSES.Process(target=_serve, **options)
        with patch.dict(os.environ, ENVIRONMENT):  # the first starts the forkserver
            self.process.start()
        other.close()

    def call(self, *args: Any, seconds: float = HANG) -> Any:
        """Return what the function returns there.

        Raises:
          RuntimeError: if the process ends without an answer, or takes too long.
        """
        share(SHARED, OWN)
        try:
            self.pipe.send(args)
            if not self.pipe.poll(seconds):
                raise RuntimeError(f"no end after {seconds:.0f} s")
            answer = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            raise RuntimeError(f"the process ended by itself: {code}") from None
        share(OWN, SHARED)
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def __enter__(self):
        """Return the server, which ends with the block."""
        return self

    def __exit__(self, *error):
        """End it."""
        self.close()


# When a folder had changed that was linked into another one.
shared_at: dict[tuple[Path, Path], int] = {}


def share(source: Path, target: Path) -> None:
    """Link what was compiled in one folder into another, if they are two."""
    source.mkdir(parents=True, exist_ok=True)
    changed = source.stat().st_mtime_ns
    if source == target or shared_at.get((source, target)) == changed:
        return
    target.mkdir(parents=True, exist_ok=True)
    both = ({entry.name for entry in os.scandir(one)} for one in (source, target))
    for name in set.difference(*both):
        if name.endswith("-cache"):
            with contextlib.suppress(FileExistsError):  # another process is faster
                (target / name).hardlink_to(source / name)
    shared_at[source, target] = changed


def lend() -> None:
    """Lend what was compiled to the learner's command, which keeps its own."""
    share(SHARED, Path(os.environ["NBE_CACHE"]) / "jax")


def _serve(pipe, function):
    while True:
        pipe.send(function(*pipe.recv()))
