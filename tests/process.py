"""Calls a function in a process of its own, which has jax and flax imported already."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

CACHE = Path(__file__).parent.parent / ".cache"

# Each process of pytest has a cache: JAX does not lock the files that it keeps.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

# What a page cannot see: a display, and compilations that were done before.
ENVIRONMENT = {
    "MPLBACKEND": "template",
    "JAX_COMPILATION_CACHE_DIR": str(CACHE / "jax" / WORKER),
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
    receiver, sender = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=_send, args=(sender, function, args))
    with patch.dict(os.environ, ENVIRONMENT):  # the server starts with the first child
        child.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise RuntimeError(f"no end after {seconds:.0f} s")
        return receiver.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"the process ended by itself: {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
        receiver.close()


def _send(sender, function, args):
    sender.send(function(*args))
