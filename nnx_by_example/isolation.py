"""Calls a function in a process of its own, within limits, and says how it ended.

Whatever the function does to its process, the caller lives on: standard input is empty,
output goes to a file, the answer travels on a private pipe, and the whole process group
is killed at the end. This holds off accidents. It is no sandbox against intent.
"""

import contextlib
import dataclasses
import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import platformdirs

CACHE = Path(
    os.environ.get("NBE_CACHE") or platformdirs.user_cache_dir("nnx-by-example")
)

# A check is the same on every machine, and compiles what it compiled before only once.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(CACHE / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# The server imports jax and flax and creates no array; each child is a fork of it.
# Where forking is not known to be safe, each child imports them itself.
PROCESSES = multiprocessing.get_context(
    "forkserver" if sys.platform == "linux" else "spawn"
)
PRELOADED = ["jax", "flax.linen", "flax.nnx", "nnx_by_example.judge"]

# Where a crash writes its traceback: a number that no file opened later is given.
TRACE = 200


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one call may use."""

    cpu: int = 20
    """Seconds of CPU time: they catch loops."""
    wall: int = 60
    """Seconds on the clock: they catch sleepers, and leave room on a busy machine."""
    memory: int = 8 << 30
    """Bytes of address space."""
    file: int = 16 << 20
    """Bytes of any file that is written, the output too."""


USUAL = Limits()


class EndedError(Exception):
    """The process ended without an answer; the message says why."""

    def __init__(self, why: str, advice: str, trace: str):
        super().__init__(why)
        self.advice = advice
        frames = re.findall(r'File "(.+)", line (\d+)', trace)
        self.frames = [(path, int(line)) for path, line in frames]  # innermost first


class BrokenCheckError(Exception):
    """The function itself raised: a defect of the check, and not of an attempt."""


class Call:
    """One call of `function(report, *args)` that is under way in its own process.

    One thread waits for the result and cleans up. Any thread may kill the process.
    """

    def __init__(self, function: Callable, *args: Any, limits: Limits = USUAL):
        """Start the process.

        Args:
          function: what to call; `report(message)` sends a message to `result`.
          args: further arguments; they and the result have to be picklable.
          limits: what the call may use.
        """
        self.limits, self.output = limits, b""
        self.folder = tempfile.TemporaryDirectory(prefix="nbe-")
        start_server()
        self.receiver, sender = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(
            target=_run, args=(sender, self.folder.name, limits, function, args)
        )
        self.began = time.monotonic()
        self.process.start()
        sender.close()

    def result(self, on_report: Callable = lambda message: None) -> Any:
        """Return what the function returned.

        Args:
          on_report: called with each message that the function reports.

        Raises:
          EndedError: if the process ended without an answer.
          BrokenCheckError: if the function raised.
        """
        end, code = self.began + self.limits.wall + 5, None
        try:
            while self.receiver.poll(max(0, end - time.monotonic())):
                kind, message = self.receiver.recv()
                if kind == "returned":
                    return message
                if kind == "raised":
                    raise BrokenCheckError(message)
                on_report(message)
        except (EOFError, OSError):
            self.process.join(5)  # the pipe is closed; the process may live on
            code = self.process.exitcode
        finally:
            self.close()
        raise EndedError(*self._why(code), self.trace)

    def kill(self) -> None:
        """End the process and all that it started; whoever waits for it cleans up."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def close(self) -> None:
        """End the process, read what it wrote, and leave nothing of it behind."""
        self.kill()
        self.process.join()
        self.receiver.close()
        self.output, self.errors, trace = map(self._read, ("output", "errors", "trace"))
        self.trace = trace.decode(errors="replace")
        self.folder.cleanup()

    def _read(self, name: str) -> bytes:
        with contextlib.suppress(OSError):
            return Path(self.folder.name, name).read_bytes()
        return b""

    def _why(self, code: int | None) -> tuple[str, str]:
        """Return how the process ended, and what to do about it.

        Args:
          code: its exit code, or None if it had to be killed.
        """
        seconds = time.monotonic() - self.began
        name = signal.Signals(-code).name if code and code < 0 else ""
        # Code that ignores the first limit of CPU time meets a second that is silent.
        if name == "SIGXCPU" or (name == "SIGKILL" and seconds > self.limits.cpu):
            why = f"no end after {self.limits.cpu} s of computing"
            advice = "Look for a loop that never ends."
        elif self.trace.startswith("Timeout") or seconds > self.limits.wall:
            why = f"no end after {self.limits.wall} s"
            advice = "Your code waits, and a check gives it nothing to wait for."
        elif b"bad_alloc" in self.errors or b"RESOURCE_EXHAUSTED" in self.errors:
            why = "out of memory"
            advice = "Create smaller arrays."
        elif name:
            why = f"the process was ended by {name}"
            advice = "Look for what crashes, or ends processes, or fills the memory."
        else:
            why = "the process ended, or its pipe was closed, without an answer"
            advice = "Return the answer, and leave the process as it is."
        return why, advice


def start_server() -> None:
    """Start the process that calls are forked from; it imports jax and flax at once.

    It is started deaf to Ctrl-C, which a terminal sends to it too; one that is pressed
    meanwhile is not lost. No module of the learner's folder can stand for one of
    Python's own in it.

    Raises:
      OSError: if it cannot start, as where the path of temporary files is too long.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if PROCESSES.get_start_method() != "forkserver":
        return
    PROCESSES.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # which would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    except OSError as error:
        if "too long" not in str(error):
            raise
        raise OSError(
            f"the temporary folder has too long a path for a socket: set TMPDIR to a "
            f"shorter one than {tempfile.gettempdir()}"
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run(sender, folder, limits, function, args) -> None:
    """Call the function in this new process; send what it reports and returns."""
    leave, pipe, pid = os._exit, os.fstat(sender.fileno()), os.getpid()

    def send(kind, message):
        # A learner's code may have forked, or closed the pipe and opened another file.
        if os.getpid() == pid and os.path.samestat(os.fstat(sender.fileno()), pipe):
            sender.send((kind, message))

    try:
        _confine(folder, limits)
        answer = function(lambda message: send("reported", message), *args)
        with contextlib.suppress(BaseException):  # a learner may have closed it
            sys.stdout.flush()
        send("returned", answer)
    except BaseException:
        with contextlib.suppress(BaseException):
            send("raised", traceback.format_exc())
    finally:
        leave(0)


def _confine(folder: str, limits: Limits) -> None:
    """Set the limits of this process, and where its input and output go."""
    if hasattr(os, "setsid"):
        os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, name in {1: "output", 2: "errors", TRACE: "trace"}.items():
        os.dup2(os.open(Path(folder, name), flags, 0o600), descriptor)
    options = {"encoding": "utf-8", "errors": "backslashreplace", "closefd": False}
    sys.stdin = os.fdopen(0, **options)
    sys.stdout = os.fdopen(1, "w", buffering=1, **options)
    sys.stderr = os.fdopen(2, "w", buffering=1, **options)
    faulthandler.enable(TRACE)
    faulthandler.dump_traceback_later(limits.wall, exit=True, file=TRACE)
    leave = os._exit

    def leave_with_trace(status):
        faulthandler.dump_traceback(TRACE)
        leave(status)

    os._exit = leave_with_trace
    with contextlib.suppress(ImportError):
        import resource

        faulthandler.register(signal.SIGXCPU, TRACE, chain=True)
        for name, value in {
            "RLIMIT_CPU": limits.cpu,
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.file,
            "RLIMIT_CORE": 0,
        }.items():
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            soft = value if hard < 0 else min(value, hard)
            if name == "RLIMIT_CPU" and (hard < 0 or soft + 2 < hard):
                hard = soft + 2  # for code that ignores the first signal
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (soft, hard))
