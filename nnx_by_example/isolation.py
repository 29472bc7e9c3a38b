"""Calls a function in a process of its own, within limits, and says how it ended.

Whatever the function does to its process, the caller lives on: standard input is empty,
output goes to a file, the answer travels on a private pipe, and the whole process group
is killed at the end. This holds off accidents. It is no sandbox against intent.

The caller looks at the process ten times a second. What counts is what the process has
done since its last sign of life, and not how long the machine took for it.
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
import threading
import time
import traceback
from collections.abc import Callable
from concurrent import futures
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
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
# A process that starts another one looks after all others, and so may bury one that
# another thread is burying; its exit code would be lost.
BURIAL = threading.Lock()

# Where a crash writes its traceback: a number that no file opened later is given.
TRACE = 200

# Seconds between two looks at a process.
STEP = 0.1
# What a process that is told to end may still compute or wait, in seconds: who does not
# ignore the signal does nothing else first.
GRACE = 1
# Seconds of CPU time after which the system ends a process that nobody looks at.
FAR = 86_400


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one call may use."""

    cpu: float = 20
    """Seconds of CPU time since the last sign of life: they catch loops."""
    idle: float = 60
    """Seconds since then in which all its threads slept: they catch sleepers."""
    times: int = 10
    """How many times what is usual on this machine `cpu` is at least."""
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


class Effort:
    """What a process has done since its last sign of life, in seconds.

    It waits as long as each look finds all its threads asleep. One that is stopped, or
    wants the disk or its turn at a busy processor, does not sleep. So neither number
    grows because the machine is slow.
    """

    def __init__(self, pid: int):
        self.pid, self.seen, self.total = pid, time.monotonic(), 0.0
        self.began = self.waited = 0.0

    @property
    def computed(self) -> float:
        """Return the CPU time since the last sign of life."""
        return self.total - self.began

    def begin(self, total: float) -> None:
        """Begin anew, at a sign of life that came after so much CPU time in all."""
        self.began, self.waited = total, 0.0

    def look(self) -> None:
        """Look at the process, unless it is gone."""
        import psutil  # here, so that the command starts without it

        now = time.monotonic()
        # Whoever looks may be late himself, and has not seen what was between.
        passed, self.seen = min(now - self.seen, 2 * STEP), now
        with contextlib.suppress(psutil.Error, OSError):
            times = psutil.Process(self.pid).cpu_times()
            used = times.user + times.system - self.total
            self.total += used
            self.waited += max(0.0, passed - used) * asleep(self.pid)


def asleep(pid: int) -> float:
    """Return 1 if all threads of a process sleep, 0 if one does not.

    Only Linux tells. Elsewhere it is 0.1: ten times as long has to pass.
    """
    if sys.platform != "linux":
        return 0.1
    states = {
        (thread / "stat").read_text().rpartition(")")[2].split()[0]
        for thread in Path(f"/proc/{pid}/task").iterdir()
    }
    return float(states == {"S"})


class Call:
    """One call of `function(report, *args)` that is under way in its own process.

    One thread waits for the result and cleans up. Any thread may kill the process.
    """

    def __init__(
        self,
        function: Callable,
        *args: Any,
        limits: Limits = USUAL,
        usual: Callable[[], "Call"] | None = None,
    ):
        """Start the process.

        Args:
          function: what to call; `report(message)` sends a message to `result`, and is
            a sign of life.
          args: further arguments; they and the result have to be picklable.
          limits: what the call may use. Before the first sign of life nothing of a
            learner's runs: nothing is too much computing, and waiting is as usual.
          usual: begins a call that returns how many seconds of CPU time are usual here
            between two signs of life. It is made when they are over the limit; until it
            returns, this call goes on.
        """
        self.limits, self.usual, self.output = limits, usual, b""
        self.over: tuple[str, str] | None = None
        self.measuring: Call | None = None
        self.measured: futures.Future | None = None
        self.folder = tempfile.TemporaryDirectory(prefix="nbe-")
        start_server()
        self.receiver, sender = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(
            target=_run, args=(sender, self.folder.name, limits, function, args)
        )
        with BURIAL:
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
        effort, alive = Effort(self.process.pid), False
        sources = [self.receiver, self.process.sentinel]
        try:
            while True:
                ready = wait(sources, STEP)
                if self.receiver in ready:
                    try:
                        kind, message, cpu = self.receiver.recv()
                    except (EOFError, OSError):  # closed; the process may live on
                        sources.remove(self.receiver)
                        continue
                    if kind == "returned":
                        return message
                    if kind == "raised":
                        raise BrokenCheckError(message)
                    effort.begin(cpu)
                    alive = True
                    on_report(message)
                elif self.process.sentinel in ready:
                    break
                else:
                    effort.look()
                    self._limit(effort, alive)
        finally:
            self.close()
        raise EndedError(*self._why(self.process.exitcode), self.trace)

    def _limit(self, effort: Effort, alive: bool) -> None:
        """Tell the process to end if it is over a limit, and end it if it does not.

        Args:
          effort: what the process has done since its last sign of life.
          alive: whether it has given one.
        """
        if self.over:
            if max(effort.computed, effort.waited) > GRACE:
                self.kill()
            return
        idle = self.limits.idle if alive else USUAL.idle
        if effort.waited > idle:
            why = f"no end after {idle:g} s of waiting"
            advice = "Your code waits, and a check gives it nothing to wait for."
        elif alive and effort.computed > self.limits.cpu:
            usual = self._usual()
            allowed = max(self.limits.cpu, self.limits.times * usual)
            if effort.computed <= allowed:
                return
            why = f"no end after {round(allowed, 1):g} s of computing"
            if usual:
                why += f", where the lesson's own solution takes {usual:.1f} s"
            advice = "Look for a loop that never ends."
        else:
            return
        self.over = why, advice
        effort.begin(effort.total)
        if hasattr(signal, "SIGXCPU"):  # it says in which line it is
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGXCPU)
        else:
            self.kill()

    def _usual(self) -> float:
        """Return how many seconds are usual; infinity until they are measured."""
        if not (self.usual and self.limits.times):
            return 0.0
        if self.measuring is None:
            self.measuring, pool = self.usual(), futures.ThreadPoolExecutor(1)
            self.measured = pool.submit(self.measuring.result)
            pool.shutdown(wait=False)
        if not self.measured.done():
            return float("inf")
        return 0.0 if self.measured.exception() else self.measured.result()

    def kill(self) -> None:
        """End the process and all that it started; whoever waits for it cleans up."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def close(self) -> None:
        """End the process, read what it wrote, and leave nothing of it behind."""
        self.kill()
        wait([self.process.sentinel])
        with BURIAL:
            self.process.join()
        if self.measured:
            self.measuring.kill()
            futures.wait([self.measured])
        self.receiver.close()
        self.output, self.errors, trace = map(self._read, ("output", "errors", "trace"))
        self.trace = trace.decode(errors="replace")
        self.folder.cleanup()

    def _read(self, name: str) -> bytes:
        with contextlib.suppress(OSError):
            return Path(self.folder.name, name).read_bytes()
        return b""

    def _why(self, code: int) -> tuple[str, str]:
        """Return how the process ended, and what to do about it.

        Args:
          code: its exit code.
        """
        name = signal.Signals(-code).name if code and code < 0 else ""
        if self.over:
            return self.over
        if b"bad_alloc" in self.errors or b"RESOURCE_EXHAUSTED" in self.errors:
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
    clock = time.process_time

    def send(kind, message):
        # A learner's code may have forked, or closed the pipe and opened another file.
        if os.getpid() == pid and os.path.samestat(os.fstat(sender.fileno()), pipe):
            sender.send((kind, message, clock()))

    try:
        _confine(folder, limits)
        threading.Thread(target=_end_with_caller, args=(leave,), daemon=True).start()
        answer = function(lambda message: send("reported", message), *args)
        with contextlib.suppress(BaseException):  # a learner may have closed it
            sys.stdout.flush()
        send("returned", answer)
    except BaseException:
        with contextlib.suppress(BaseException):
            send("raised", traceback.format_exc())
    finally:
        leave(0)


def _end_with_caller(leave: Callable) -> None:
    """End this process, and all that it started, when nobody looks at it any more."""
    multiprocessing.parent_process().join()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    leave(1)


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
    leave = os._exit

    def leave_with_trace(status):
        faulthandler.dump_traceback(TRACE)
        leave(status)

    os._exit = leave_with_trace
    with contextlib.suppress(ImportError):
        import resource

        faulthandler.register(signal.SIGXCPU, TRACE, chain=True)
        for name, value in {
            "RLIMIT_CPU": FAR,
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.file,
            "RLIMIT_CORE": 0,
        }.items():
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            soft = value if hard < 0 else min(value, hard)
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (soft, hard))
