"""Measures on which releases, Pythons and machines each page is true: `make matrix`.

Each combination has an environment of its own: `requirements.lock` with other releases
of jax and flax. The pages run in it as they do in CI, in a copy of the project. The
result, `docs/reference/compatibility.json`, is written when all have run. Until then,
each finished run is kept in `.cache/matrix`, so that nothing is lost by Ctrl-C.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement

from tools import project
from tools.project import CACHE, ROOT, say
from tools.sources import RELEASES
from tools.website.compatibility import title, verdict

WORK = CACHE / "matrix"
TREE = WORK / "tree"
UV = (sys.executable, "-m", "uv", "--quiet")
PACKAGES = ("flax", "jax")

PYTHONS = ("3.12", "3.13")  # those of .github/workflows/ci.yml
# Other machines that this one can stand for: what XLA and its pools of threads read.
MACHINES = {
    "SSE4.2": {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
    "AVX2": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "AVX-512": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX512"},
    "1 thread": {"PJRT_NPROC": "1"},
    "16 threads": {"PJRT_NPROC": "16"},
    "run twice": {},  # the second time from the cache
}
# What the result calls the pages that fail in each mode of NNX, and what runs them all.
MODES = {"failed": "test_page", "failed in tree mode": "test_page_in_tree_mode"}
# What /proc/cpuinfo calls the instructions.
INSTRUCTIONS = {"SSE4.2": "sse4_2", "AVX2": "avx2", "AVX-512": "avx512f"}
# The walk to older releases ends at one on which more pages than this fail.
FEW = 2


class UnavailableError(Exception):
    """A combination cannot run here; the message says why."""


def run(*command: str, right=(0,), cwd: Path = ROOT, **options) -> str:
    """Return what a command writes to its standard output.

    Raises:
      UnavailableError: if its exit code is none of the `right` ones, with what uv calls
        the cause, or its last words.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options)
    if done.returncode not in right:
        cause = re.search(r"Because (.*?), we can conclude", done.stderr, flags=re.S)
        said = done.stderr.strip() or done.stdout.strip() or f"{command[0]} fails"
        raise UnavailableError(cause[1] if cause else said.splitlines()[-1])
    return done.stdout


def find_python(wanted: str) -> str:
    """Return the path of the interpreter of a version, such as `3.12`, where it runs.

    Raises:
      UnavailableError: if it does not.
    """
    name = f"python{wanted}"
    env = {**os.environ, "PYENV_VERSION": wanted}  # pyenv refuses another than this
    if not shutil.which(name):
        raise UnavailableError(f"Python {wanted} is not installed")
    return run(name, "-c", "import sys; print(sys.executable)", env=env).strip()


def environment(python: str, wanted: list[str], *, oldest=False) -> tuple[str, dict]:
    """Return the interpreter of an environment, and the versions in it.

    Args:
      python: version of Python, such as `3.12`.
      wanted: requirements on flax and jax.
      oldest: whether to take the oldest releases that fit, and not the newest.

    Raises:
      UnavailableError: if there is no such Python or release.
    """
    base = find_python(python)
    packages = re.split(r"\n(?=\w)", (TREE / "requirements.lock").read_text("utf-8"))
    others = [text for text in packages if not re.match("(flax|jax|jaxlib)==", text)]
    order = "lowest-direct" if oldest else "highest"
    options = ["--no-header", "--no-annotate", f"--resolution={order}", "--python"]
    asked = "\n".join([*others, *wanted])
    pins = run(*UV, "pip", "compile", *options, base, "-", input=asked)
    versions = {"python": run(base, "--version").split()[1]}
    versions |= dict(re.findall(rf"^({'|'.join(PACKAGES)})==(\S+)", pins, flags=re.M))
    folder = WORK / "environments" / "-".join(versions.values())
    kept, interpreter = folder / "requirements.txt", str(folder / "bin" / "python")
    if not kept.exists() or kept.read_text("utf-8") != pins:
        run(*UV, "venv", "--clear", "--python", base, str(folder))
        install = [*UV, "pip", "install", "--python", interpreter]
        run(*install, "--requirements", "-", input=pins)
        kept.write_text(pins, "utf-8")  # last: the environment is complete
    return interpreter, versions


def copy_project() -> str:
    """Copy the project; return a hash of what can run."""
    shutil.rmtree(TREE, ignore_errors=True)
    content = hashlib.sha256()
    for name in project.copy(TREE):
        if ROOT / name != RELEASES:
            content.update(name.encode() + (TREE / name).read_bytes())
    return content.hexdigest()


def run_pages(interpreter: str, flags: dict, keyword: str) -> list[dict]:
    """Return, for each mode and each page, None if it is true, or the reason why not.

    Args:
      interpreter: of the environment in which the pages run.
      flags: environment variables.
      keyword: selects pages, as `pytest -k` does; empty for all.

    Raises:
      UnavailableError: if pytest does not come to all of them.
    """
    report = WORK / "junit.xml"
    options = ["-q", "-k", keyword, "-p", "no:cacheprovider", f"--junitxml={report}"]
    options += ["-o", "junit_family=xunit1"]  # test_page records a property
    tests = [f"tests/test_pages.py::{test}" for test in MODES.values()]
    command = [interpreter, "-m", "pytest", *options, *tests]
    env = {**os.environ, "CI": "1", "XLA_FLAGS": "", **flags}
    run(*command, right=(0, 1), cwd=TREE, env=env)  # all are true, or some are not
    return [read_junit(report.read_text("utf-8"), test) for test in MODES.values()]


def read_junit(report: str, test: str = "test_page") -> dict[str, str | None]:
    """Return, for each page of a report, None if it is true, or the reason why not.

    Args:
      report: what pytest has written.
      test: which of those that run every page.
    """
    verdicts = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        problems = [part for part in case if part.tag in ("failure", "error")]
        if page := re.fullmatch(rf"{test}\[(.*)\]", case.get("name", "")):
            verdicts[page[1]] = reason(problems[0]) if problems else None
    return verdicts


def reason(problem: ElementTree.Element) -> str:
    """Return in one line why a page fails: its first difference, or its error."""
    said = problem.get("message", "")
    if said.startswith("Failed: "):  # the text has all of it, and a message may not
        said = problem.text
    first, *more = [line.strip() for line in said.strip().splitlines()]
    if "Traceback" in first:
        lines = re.findall(r'^ *File [^",]+:(\d+),', said, flags=re.M)  # of the page
        return tidy(f"line {lines[-1]}: {more[-1]}" if lines else more[-1])
    if other := re.match(r"\S+:(\d+): what is shown is not what is printed", first):
        return tidy(f"line {other[1]}: {', '.join(more[:2])}")
    return tidy(first)


def tidy(text: str) -> str:
    """Return a short line that can be shown as code, without folders of a machine."""
    text = re.sub(r"(?<![\w.])/(?:[^\s/:]+/)+", "", " ".join(text.split()))
    return text.replace("`", "'")[:160]


class Runs:
    """Runs in one copy of the project; each is made once."""

    def __init__(self, keyword: str):
        self.keyword = keyword
        self.tree = copy_project()
        self.tried: set[str] = set()

    def measure(self, names: dict, interpreter: str, flags=None, times=1) -> dict:
        """Return a row of the result: its names, how many pages, and which fail.

        Args:
          names: what the row is about.
          interpreter: of the environment in which the pages run.
          flags: environment variables.
          times: how often the pages run, at first without a cache; each has to be true.
        """
        spec = json.dumps([self.tree, self.keyword, names, flags, times])
        kept = WORK / "runs" / f"{hashlib.sha256(spec.encode()).hexdigest()}.json"
        if not kept.exists():
            say(f"{title(names)} ...")
            shutil.rmtree(TREE / ".cache" / "jax", ignore_errors=True)
            failed = {mode: {} for mode in MODES}
            try:
                for _ in range(times):
                    both = run_pages(interpreter, flags or {}, self.keyword)
                    for mode, found in zip(MODES, both, strict=True):
                        failed[mode] |= {
                            page: why for page, why in found.items() if why
                        }
            except UnavailableError as error:
                return unavailable(names, error)
            kept.parent.mkdir(exist_ok=True)
            row = {"pages": len(found), **failed, "tried": sorted(found)}
            kept.write_text(json.dumps(row))
        row = {**names, **json.loads(kept.read_text("utf-8"))}
        self.tried.update(row.pop("tried"))
        say(f"{title(names)}: {verdict(row)}")
        return row

    def release(self, python: str, wanted: list[str], oldest=False) -> dict:
        """Return the row of the releases that `environment` finds."""
        names = {"python": python, "flax": "newest", "jax": "newest"}
        parsed = map(Requirement, wanted)
        names |= {one.name: str(one.specifier) for one in parsed if one.specifier}
        try:
            interpreter, names = environment(python, wanted, oldest=oldest)
            run(interpreter, "-c", "import flax.linen, flax.nnx")
        except UnavailableError as error:
            return unavailable(names, error)
        return self.measure(names, interpreter)

    def releases(self) -> list[dict]:
        """Return a row for each Python, with the oldest and the newest releases."""
        rows = []
        for python in PYTHONS:
            for oldest in (True, False):
                row = self.release(python, supported(), oldest=oldest)
                rows += [] if row in rows else [row]
        return rows

    def machines(self) -> list[dict]:
        """Return a row for each of `MACHINES`."""
        rows = []
        for name, flags in MACHINES.items():
            names, times = {"machine": name}, 2 if name == "run twice" else 1
            if INSTRUCTIONS.get(name) in [None, *cpu_flags()]:
                rows.append(self.measure(names, sys.executable, flags, times))
            else:
                rows.append(unavailable(names, f"this machine does not say {name}"))
        return rows

    def floor(self) -> list[dict]:
        """Return rows of older releases than are supported: of flax, then of jax."""
        oldest = self.release(PYTHONS[-1], supported(), oldest=True)
        if "unavailable" in oldest:
            return [oldest]
        rows = self.walk("flax", oldest["flax"], f"jax=={oldest['jax']}")
        true = [row["flax"] for row in rows if row.get("failed") == {}]
        fixed = f"flax=={[oldest['flax'], *true][-1]}"
        return [*rows, *self.walk("jax", oldest["jax"], fixed)]

    def walk(self, package: str, below: str, other: str) -> list[dict]:
        """Return rows of ever older releases, until more than `FEW` pages fail."""
        rows = []
        while True:
            rows.append(self.release(PYTHONS[-1], [f"{package}<{below}", other]))
            if "unavailable" in rows[-1] or len(rows[-1]["failed"]) > FEW:
                return rows
            below = rows[-1][package]


def supported() -> list[str]:
    """Return what `pyproject.toml` requires of flax and jax."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]
    return [one for one in project["dependencies"] if Requirement(one).name in PACKAGES]


def cpu_flags() -> list[str]:
    """Return what this CPU is able to do; nothing where no file says so."""
    info = Path("/proc/cpuinfo")
    return info.read_text("utf-8").split() if info.exists() else []


def machine() -> str:
    """Return the kind of this machine, in words."""
    able = [name for name, flag in INSTRUCTIONS.items() if flag in cpu_flags()]
    kind = " with ".join([platform.machine().replace("_", "-"), *able[-1:]])
    return f"{kind}, {os.cpu_count()} cores, {platform.system()}"


def unavailable(names: dict, why: object) -> dict:
    """Return the row of a combination that cannot run here."""
    say(f"{title(names)}: not available: {why}")
    return {**names, "unavailable": tidy(str(why))}


def main() -> None:
    """Run all that is asked for, then write the result."""
    parser = argparse.ArgumentParser("make matrix", description=__doc__.split("\n")[0])
    parser.add_argument("--floor", action="store_true", help="try older releases too")
    parser.add_argument("-k", default="", help="pages to try; nothing is written then")
    asked = parser.parse_args()
    os.nice(10)  # it takes long, and others work here
    runs = Runs(asked.k)
    found = json.loads(RELEASES.read_text("utf-8")) if RELEASES.exists() else {}
    found["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    found["machine"] = machine()
    found["versions"] = {name: version(name) for name in PACKAGES}
    found["releases"] = runs.releases()
    found["machines"] = runs.machines()
    if asked.floor:
        found["floor"] = {"date": found["date"], "rows": runs.floor()}
    found["tried"] = sorted(runs.tried)
    if asked.k:
        return
    if all("unavailable" in row for row in found["releases"]):
        sys.exit("No release could be tried, for the reasons above: nothing written.")
    RELEASES.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    say(f"Wrote {RELEASES.name}. To see its tables on the site: make serve")


if __name__ == "__main__":
    main()
