"""Calls a function in a process of its own, which has jax and flax imported already."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

CACHE = Path(__file__).parent.parent / ".cache"

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

# The server has imported jax and flax and created no array: each page starts warm, in a
# process of its own.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["jax", "flax.linen", "flax.nnx", "tests.script"])


def in_process(function: Callable, *args: Any, seconds: float = 300) -> Any:
    """Return `function(*args)`, called in a process of its own.

    Raises:
      RuntimeError: if the process ends without an answer, or takes too long.
    """
    share(SHARED, OWN)
    receiver, sender = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=_send, args=(sender, function, args))
    with patch.dict(os.environ, ENVIRONMENT):  # the server starts with the first child
        child.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise RuntimeError(f"no end after {seconds:.0f} s")
        answer = receiver.recv()
        share(OWN, SHARED)
        return answer
    except EOFError:
        child.join()
        raise RuntimeError(f"the process ended by itself: {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
        receiver.close()


def share(source: Path, target: Path) -> None:
    """Link what was compiled in one folder into another, if they are two."""
    if source == target:
        return
    target.mkdir(parents=True, exist_ok=True)
    there = {file.name for file in target.glob("*-cache")}
    for file in source.glob("*-cache"):
        if file.name not in there:
            with contextlib.suppress(FileExistsError):  # another process is faster
                (target / file.name).hardlink_to(file)


def _send(sender, function, args):
    sender.send(function(*args))
