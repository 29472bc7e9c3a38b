"""The tools: a new lesson, the browser, the generated snippets, the project's files."""

import re
import signal
import subprocess
import sys

import pytest
import yaml

from nnx_by_example import course
from tools import records, sources
from tools.gate import browser
from tools.gate.learner import add_lesson, run
from tools.gate.memory import SITE, reads
from tools.gate.pages import rendered_blocks
from tools.project import CACHE, ROOT
from tools.website import hooks, lesson

NAV = [{"Home": "index.md"}, {"Course": [{"First phase": ["course/first/index.md"]}]}]


# The other lessons are there, and nothing is asked of them.
@reads("docs/course/_template/*", "mkdocs.yml", "tools/*", "tests/*", "overrides/*")
@reads("nnx_by_example/*", "docs/course/call-vs-init/*", "docs/assets/*")
def test_a_new_lesson_passes_with_one_line_of_nav(project):
    add_lesson(project, "gated-unit")
    said, status = run(
        project,
        "pytest",
        "-q",
        "tests/test_pages.py",
        "tests/test_exercises.py",
        "tests/test_attempts.py",
        "tests/test_site.py",
        "-k",
        "(gated-unit and not enough_attempts) or title_and_a_description",
    )
    assert status == 0, said
    assert re.search(r"\d+ passed", said)
    page = (project / "docs/course/gated-unit/index.md").read_text()
    assert "gated_unit(" in page or "gated_unit)" in page
    assert "_template" not in page
    assert "lesson_name" not in page
    course_map = (project / ".cache/generated/course-map.md").read_text()
    before = course.named("call-vs-init")
    assert f"### {before.number + 1}. [Gated unit](gated-unit/index.md)" in course_map


@reads("docs/index.md", "mkdocs.yml", "tools/*", "tests/*")
def test_a_save_runs_the_page_and_says_what_is_wrong(project):
    watch = subprocess.Popen(
        [sys.executable, "-m", "tools.gate.watch"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with watch:
        try:
            assert "Watching" in watch.stdout.readline()
            page = project / "docs" / "index.md"
            text = page.read_text()
            page.write_text(text.replace("#> 3.69", "#> 3.70"))
            assert "docs/index.md:" in watch.stdout.readline()
            assert "shown: #> 3.70" in watch.stdout.readline()
            assert "got:   #> 3.69" in watch.stdout.readline()
            assert "docs/index.md: not true" in watch.stdout.readline()
            page.write_text(text)
            assert "docs/index.md: true, 1 blocks" in watch.stdout.readline()
        finally:
            watch.send_signal(signal.SIGINT)
    assert watch.returncode == 0


@pytest.mark.parametrize("name", ["", "Param-Access", "lesson2", "a b", "../x", "-a"])
def test_a_bad_name_for_a_lesson_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="cannot name a lesson"):
        lesson.create(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_existing_lesson_is_never_overwritten():
    page = lesson.COURSE / "call-vs-init" / "index.md"
    before = page.read_bytes()
    with pytest.raises(ValueError, match="exists"):
        lesson.create("call-vs-init")
    assert page.read_bytes() == before


def failing(tried):
    """Return a stand-in for `subprocess.run` that notes commands; each fails."""

    def run(command, **_):
        tried.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no network\n")

    return run


def test_a_missing_browser_is_an_error_that_says_what_to_do(monkeypatch):
    tried = []
    monkeypatch.setattr(browser, "find", lambda: None)
    monkeypatch.setattr(browser, "is_root", lambda: False)
    monkeypatch.setattr(browser.subprocess, "run", failing(tried))
    with pytest.raises(RuntimeError, match="apt-get install chromium"):
        browser.install()
    assert [command[-2:] for command in tried] == [["install", "chromium"]]


def test_root_falls_back_to_the_package_of_debian(monkeypatch):
    tried = []
    found = iter([None, None, "/usr/bin/chromium"])
    monkeypatch.setattr(browser, "find", lambda: next(found))
    monkeypatch.setattr(browser, "is_root", lambda: True)
    monkeypatch.setattr(browser.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(browser.subprocess, "run", failing(tried))
    assert browser.install() == "/usr/bin/chromium"
    assert "chromium" in tried[-1]


def test_the_map_shows_each_lesson_with_the_output_that_it_proves(tmp_path):
    page = tmp_path / "course" / "first" / "index.md"
    page.parent.mkdir(parents=True)
    page.write_text(
        "---\ntitle: First\nproves: A claim.\n---\n\n## Worked example\n\n"
        "```python\nprint(1)\n#> 1\nprint(2)\nprint(3)\n#> 2\n#> 3\n```\n\n"
        "## Common pitfalls\n\n```python\nprint(4)\n#> 4\n```\n"
    )
    text = hooks.course_map(course.lessons(NAV, tmp_path))
    assert "### 1. [First](first/index.md)" in text
    assert "A claim." in text
    assert "\n3\n" in text
    assert not {"1", "2"} & set(text.splitlines())
    assert "4" not in text


def test_a_lesson_without_a_title_is_named(tmp_path):
    (tmp_path / "index.md").write_text("---\nproves: A claim.\n---\n")
    with pytest.raises(ValueError, match=r"index\.md: no title"):
        _ = course.Lesson("first", 1, "", tmp_path).meta


def test_code_in_a_table_breaks_between_its_names():
    html = '<code>a.b(c)</code><td><code>nnx.aB(model, a["b"])</code> e.g.x</td>'
    broken = hooks.readable(html)
    cell = '<td><code>nnx.<wbr>a<wbr>B(<wbr>model, a<wbr>["b"])</code> e.g.x</td>'
    assert broken == "<code>a.b(c)</code>" + cell


def test_a_page_that_changed_since_its_run_is_reported(monkeypatch, tmp_path):
    for module in (hooks, sources):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(sources, "DOCS", tmp_path / "docs")
    page = tmp_path / "page.md"
    page.write_text("Text.")
    counts = {"blocks": 2, "outputs": 3, "commands": 0, "versions": {"jax": "1"}}
    found = {"name": "page.md", "fingerprint": sources.fingerprint(page), **counts}
    monkeypatch.setattr(records, "FILE", tmp_path / "verdicts.jsonl")
    records.add("test_page", {"passed": True, "facts": {"page": found}})
    assert "| 1 of 1 |" in hooks.figures(*hooks.last_run())
    assert "warning" not in hooks.figures(*hooks.last_run())
    page.write_text("Other text.")
    assert "| 0 of 1 |" in hooks.figures(*hooks.last_run())
    assert "`page.md`" in hooks.figures(*hooks.last_run())


def test_a_page_changes_with_the_file_that_it_includes(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "DOCS", tmp_path)
    page, included = tmp_path / "page.md", tmp_path / "exercise.py"
    page.write_text('```python\n--8<-- "exercise.py:stub"\n```\n')
    included.write_text("x = 1\n")
    before = sources.fingerprint(page)
    included.write_text("x = 2\n")
    assert sources.fingerprint(page) != before


# So a change of the site changes the verdict on no page.
@reads(*SITE)
def test_what_the_site_writes_for_pages_holds_no_python():
    folder = CACHE / "generated"
    for file in [*folder.rglob("*.md"), *folder.rglob("*.svg")]:
        name = file.relative_to(folder).as_posix()
        page = f'--8<-- "{name}"\n\n```python\nprint(1)\n```\n'
        assert rendered_blocks(file, page) == ["print(1)"], name


def test_workflows_pin_their_actions_and_ask_for_little():
    files = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(files) == 3
    for file in files:
        text = file.read_text("utf-8")
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {}
        assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
        used = re.findall(r"uses: (\S+)", text)
        assert used
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)


def test_the_lock_file_carries_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text("utf-8")
    packages = re.split(r"\n(?=\w)", text.partition("\n")[2])
    assert all("--hash=sha256:" in package for package in packages if "==" in package)
    assert "://" not in text


def test_ci_runs_the_test_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1]
    assert command == "make test"
    assert command in (ROOT / "README.md").read_text("utf-8")
