"""What was found true is not run again, and whatever has changed is."""

import json
import re
import subprocess
import sys
import time

import pytest

from tools import project, records
from tools.gate import memory, summary
from tools.gate.memory import reads
from tools.project import ROOT

pytestmark = reads("tests/*", "tools/*", "mkdocs.yml")
INNER = """
from pathlib import Path
from tools.gate.memory import reads

@reads("data.txt")
def test_data():
    assert Path("data.txt").read_text() != "broken"

@reads("unused.txt")
def test_forgetful():
    Path("data.txt").read_text()

def test_of_all():
    pass

@reads("data.txt")
def test_made(seen_before):
    print("\\nseen" if seen_before(Path("made.txt").read_text()) else "\\nnew")
"""
# Collects the suite; says which tests would run again if one thing had changed.
COLLECT = """
import json, os, sys, pytest

class Collector:
    def pytest_collection_finish(self, session):
        from tools.gate import memory, order  # pytest has them by now

        def states():
            memory.digest.cache_clear()
            return {i.nodeid: memory.digest(memory.files_of(i)) for i in items}

        def changed():
            return [name for name, state in states().items() if state != before[name]]

        items = session.items
        before, found = states(), {}
        for name in sys.argv[1:]:
            kept = memory.listed()[name]
            memory.listed()[name] = b"changed"
            found[name] = changed()
            memory.listed()[name] = kept
        os.environ["JAX_ENABLE_X64"] = "1"
        memory.environment.cache_clear()
        found["JAX_ENABLE_X64"] = changed()
        found["all"] = list(before)
        found["on the site"] = [i.nodeid for i in items if "site" in i.fixturenames]
        order.arrange(items, 4)
        found["in quarters"] = [item.nodeid for item in items]
        print("\\n" + json.dumps(found))

sys.exit(pytest.main(["-q", "--collect-only", "--no-summary"], plugins=[Collector()]))
"""
# Three pages, each with two tests.
PAGES = """
import os
import pytest

each = pytest.mark.parametrize("path", ["one", "two", "three"])
worker = os.environ.get("PYTEST_XDIST_WORKER")

@each
def test_page(path):
    print(path, "by", worker)

@each
def test_style(path):
    print(path, "by", worker)
"""
LESSON = "docs/course/batch-norm"
PAGE, OTHER = f"{LESSON}/index.md", "docs/course/reseed/index.md"
# What several pages are made from, and a test that looks at it.
SHARED = {
    "docs/assets/site.css": "test_every_page_is_whole",
    "overrides/main.html": "test_every_page_is_whole",
    "tools/website/notebook.md.j2": "test_every_page_is_whole",
    "tools/website/hooks.py": "test_every_page_is_whole",
    "examples/cost/ways.py": "test_page[docs/cost/index.md]",
    "docs/course/_template/index.md": "test_a_new_lesson",
}


@pytest.fixture
def inner(pytester, monkeypatch):
    """Return a function that runs a small suite, and what has become of each test."""
    pytester.makepyfile(test_inner=INNER)
    for name in ("data.txt", "unused.txt", "made.txt"):
        (pytester.path / name).write_text("1")
    (pytester.path / ".gitignore").write_text("made.txt\n.cache\n__pycache__\n")
    subprocess.run(["git", "init", "--quiet"], cwd=pytester.path, check=True)
    for module in (memory, project):
        monkeypatch.setattr(module, "ROOT", pytester.path)
    monkeypatch.setattr(records, "FILE", pytester.path / ".cache" / "verdicts")
    monkeypatch.setattr(summary, "FILE", pytester.path / ".cache" / "summary")
    monkeypatch.delenv("CI", raising=False)
    cached = (memory.listed, memory.environment, memory.matching, memory.digest)

    def run(*options):
        for function in cached:
            function.cache_clear()
        monkeypatch.setattr(memory, "BEGAN", time.time())
        options = ["-p", "tools.gate.memory", "-p", "no:cacheprovider", "-rA", *options]
        done = pytester.runpytest_inprocess(*options)
        names = ("passed", "failed", "deselected")
        return done, {name: done.parseoutcomes().get(name, 0) for name in names}

    yield run
    for function in cached:
        function.cache_clear()


def test_what_passed_is_left_out_and_what_failed_is_not(inner, pytester):
    done, found = inner("--remember")
    assert found == {"passed": 3, "failed": 1, "deselected": 0}
    done.stdout.fnmatch_lines("*it reads data.txt, not named by `reads`*")
    _, found = inner("--remember")
    assert found == {"passed": 0, "failed": 1, "deselected": 3}
    text = INNER.replace('reads("unused.txt")', 'reads("data.txt")')
    pytester.makepyfile(test_inner=text)
    assert inner("--remember")[1]["passed"] == 4
    done, found = inner("--remember")
    assert (done.ret, found["deselected"]) == (0, 4)
    done.stdout.fnmatch_lines("all * 4 *")


def test_what_has_changed_runs_again_and_so_does_everything_in_ci(
    inner, pytester, monkeypatch
):
    inner("--remember")
    (pytester.path / "unused.txt").write_text("2")
    done, found = inner("--remember")
    assert found == {"passed": 1, "failed": 1, "deselected": 2}
    done.stdout.fnmatch_lines("*PASSED test_inner.py::test_of_all*")
    (pytester.path / "data.txt").write_text("broken")
    assert inner("--remember")[1]["failed"] == 2
    (pytester.path / "data.txt").write_text("1")
    assert inner("--remember")[1]["passed"] == 3
    monkeypatch.setenv("CI", "1")
    assert inner("--remember")[1]["deselected"] == 0
    assert inner()[1]["passed"] == 3


def test_a_run_that_rewrites_outputs_records_nothing(inner):
    inner("--remember")
    before = records.FILE.read_bytes()
    inner("--update-examples")
    assert records.FILE.read_bytes() == before


def test_what_is_saved_while_it_runs_runs_again(inner, pytester):
    text = INNER.replace("pass", "Path('unused.txt').touch()").replace("_of_all", "_1")
    pytester.makepyfile(test_inner=text)
    inner("--remember")
    done, _ = inner("--remember")
    done.stdout.fnmatch_lines("*PASSED test_inner.py::test_1*")
    assert "test_data" not in done.stdout.str()


def test_what_is_made_in_the_run_is_compared_there(inner, pytester):
    def said():
        lines = inner("--remember", "-s")[0].outlines
        return [line for line in lines if line in ("new", "seen")]

    assert said() == ["new"]
    (pytester.path / "data.txt").write_text("2")
    assert said() == ["seen"]
    (pytester.path / "data.txt").write_text("3")
    (pytester.path / "made.txt").write_text("2")
    assert said() == ["new"]


@pytest.fixture(scope="module")
def again():
    """Return which tests would run again, by what would have changed."""
    changes = [PAGE, f"{LESSON}/exercise.py", "requirements.lock", *SHARED]
    changes += ["tools/gate/script.py", "tools/gate/damages.py"]
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *changes],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(next(s for s in done.stdout.splitlines() if s.startswith("{")))


@pytest.mark.parametrize("changed", [PAGE, f"{LESSON}/exercise.py"])
def test_a_lesson_that_is_edited_runs_what_depends_on_it(again, changed):
    found = again[changed]
    assert f"tests/test_pages.py::test_page[{PAGE}]" in found
    assert "tests/test_exercises.py::test_the_solution_passes[batch-norm]" in found
    assert sum("test_proof" in name and PAGE in name for name in found) == 5
    assert any("test_a_notebook_judges" in n and "[batch-norm]" in n for n in found)
    assert any("test_every_page_is_whole" in name for name in found)
    others = [name for name in found if "[reseed]" in name or OTHER in name]
    assert not [name for name in others if "test_the_page_leads" not in name]  # built
    for part in ("nbe", "watch", "cost", "matrix", "tools.py::test_a_new_lesson"):
        assert not [name for name in found if f"test_{part}" in name]
    assert len(found) < len(again["all"]) / 4


@pytest.mark.parametrize("changed", ["requirements.lock", "JAX_ENABLE_X64"])
def test_packages_and_settings_are_part_of_every_verdict(again, changed):
    assert again[changed] == again["all"]


def test_the_gate_is_part_of_the_verdict_on_each_page(again):
    found = set(again["tools/gate/script.py"])
    on_pages = {n for n in again["all"] if "test_pages" in n or "test_proof" in n}
    assert on_pages
    assert on_pages <= found


def test_whoever_looks_at_the_site_runs_again_when_it_changes(again):
    assert again["on the site"]
    assert set(again["on the site"]) <= set(again["tools/website/hooks.py"])


def test_the_gate_is_no_part_of_the_site(again):
    found = {name.partition("::")[0] for name in again["tools/gate/damages.py"]}
    assert {"tests/test_proof.py", "tests/test_guards.py"} <= found
    assert not {"tests/test_site.py", "tests/test_browser.py"} & found


@pytest.mark.parametrize(("changed", "runs"), SHARED.items())
def test_what_pages_share_runs_what_shows_it(again, changed, runs):
    assert [name for name in again[changed] if runs in name]
    assert f"tests/test_pages.py::test_page[{PAGE}]" not in again[changed]


def test_each_quarter_of_the_suite_has_its_share_of_what_takes_long(again):
    order = again["in quarters"]
    assert sorted(order) == sorted(again["all"])
    size = len(order) // 4 + 1
    for kind in ("test_page[", "test_proof", "test_exercises", "test_every_page_is"):
        whole = sum(kind in name for name in order)
        for first in range(0, len(order), size):
            some = sum(kind in name for name in order[first : first + size])
            assert 0.1 < some / whole < 0.4, (kind, some, whole)


def test_runs_on_several_machines_are_added_up(tmp_path, capsys):
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for at, file in enumerate(files):
        parts = {"pages": {"passed": 2, "failed": at, "seconds": 1.5}, f"{at}": {}}
        summary.write(parts, {"a digit": [3, 3 - at]}, file)
    assert summary.main([str(files[0])]) == 0
    assert "| pages | 2 | 0 | 0 | 2 |" in capsys.readouterr().out
    assert summary.main(list(map(str, files))) == 1
    said = capsys.readouterr().out
    assert "| pages | 4 | 1 | 0 | 3 |" in said
    assert "| a digit | 6 | 5 | 83% |" in said


def test_the_tests_of_a_unit_share_a_worker(pytester, monkeypatch):
    pytester.makepyfile(test_pages=PAGES)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    options = ["-n", "2", "--dist", "loadscope", "-p", "tools.gate.order", "-rP"]
    done = pytester.runpytest_subprocess(*options)
    assert done.parseoutcomes()["passed"] == 6
    workers = {}
    for line in done.outlines:
        if found := re.fullmatch(r"(\w+) by (gw\d)", line):
            workers.setdefault(found[1], set()).add(found[2])
    assert len(workers) == 3
    assert all(len(names) == 1 for names in workers.values()), workers
    assert set.union(*workers.values()) == {"gw0", "gw1"}


def test_a_part_of_the_suite_knows_what_the_whole_has_found(
    inner, pytester, monkeypatch
):
    pytester.makepyfile(test_other="import os\nos.environ['JAX_LEFT'] = '1'\n")
    inner("--remember")
    monkeypatch.delenv("JAX_LEFT")
    assert inner("--remember", "test_inner.py")[1]["deselected"] == 3
