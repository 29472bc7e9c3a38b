"""A lesson attempted elsewhere: its notebook, Colab link, wheel, terminal pictures."""

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from filelock import FileLock

from nnx_by_example import course
from nnx_by_example.course import Lesson
from tools.gate.memory import SITE, reads
from tools.gate.pages import read_blocks
from tools.project import ROOT
from tools.website import attempts, later, terminal

LESSONS = course.lessons()
REPOSITORY = "https://github.com/somebody/fork"
OWN = {"stub", "check", "solution"}  # what a notebook shows in its own way
PAGE = """\
See [there](there.md).

=== "NNX"

    ```python
    print("1\\n\\n  2")
    #> 1
    #>
    #>   2
    ```

=== "Linen"

    Text.

    ```python
    def f():
        pass


    f()
    ```

!!! note

    One.

    Two.

??? tip "Of `f`"

    - three

??? abstract "Code"

    ```python
    f()
    ```

```console
=== "make"

    test
```
"""
CELLS = [
    "See [there](https://example.com/there.md).\n\n#### NNX",
    'print("1\\n\\n  2")',
    "#### Linen\n\nText.",
    "def f():\n    pass\n\n\nf()",
    "> **Note**\n>\n> One.\n>\n> Two.\n\n"
    "<details>\n<summary>Of <code>f</code></summary>\n\n- three\n\n</details>\n\n"
    "**Code**",
    "f()",
    '```console\n=== "make"\n\n    test\n```',
]


own = reads("mkdocs.yml", of=lambda lesson: lesson.folder.glob("*.*"))


@pytest.fixture(params=LESSONS, ids=lambda lesson: lesson.name)
def lesson(request):
    """Return each lesson of the course."""
    return request.param


@reads("mkdocs.yml", "docs/course/eager-params/*")
def test_a_notebook_installs_what_it_needs():
    text = attempts.notebook(LESSONS[0], "https://example.com/", f"file://{ROOT}")
    cell = nbformat.reads(text, as_version=4).cells[1]
    command = shlex.split(cell.source.removeprefix("%"))
    dry = ["--dry-run", "--no-build-isolation"]  # what is installed stays as it is
    done = subprocess.run(
        [sys.executable, "-m", *command, *dry], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@own
def test_a_notebook_is_valid_pinned_and_always_the_same(lesson):
    address = "https://example.com/lesson/"
    text = attempts.notebook(lesson, address, REPOSITORY)
    assert text == attempts.notebook(lesson, address, REPOSITORY)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    sources = [cell.source for cell in notebook.cells]
    assert sources[1] == (
        f'%pip install --quiet "nnx-by-example @ git+{REPOSITORY}"'
        f' "flax=={version("flax")}" "jax=={version("jax")}"'
    )
    assert "https://example.com/lesson/" in sources[0]
    assert not [s for s in sources if "](../" in s or "--8<--" in s or "#>" in s]
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    assert tags == ["install", "answer", "verdict"]


@own
def test_a_notebook_holds_the_whole_lesson(lesson):
    text = attempts.notebook(lesson, "https://example.com/lesson/", REPOSITORY)
    cells = nbformat.reads(text, as_version=4).cells
    whole = "\n".join(cell.source for cell in cells)
    places = [
        whole.index(f"\n{line}\n") for line in re.findall("\n(##.*)\n", lesson.page)
    ]
    assert places == sorted(places)
    assert len(places) > 10
    code = [cell for cell in cells if cell.cell_type == "code"]
    blocks = [
        block.source
        for block in read_blocks(lesson.folder / "index.md")
        if (block.snippet or "").rpartition(":")[2] not in OWN
        and "print(check(" not in block.source
    ]
    assert len(code) == len(blocks) + 3  # what to install, the answer and the verdict
    for cell, block in zip(code[1:-2], blocks, strict=True):
        shown = "".join(output.text for output in cell.outputs)
        lines = [line for line in block.splitlines() if not line.startswith("#>")]
        assert cell.source == "\n".join(lines).strip()
        assert shown.splitlines() == [
            line[3:] for line in block.splitlines() if line.startswith("#>")
        ]
    assert lesson.section("solution") not in whole
    assert all(f"<summary>{title}</summary>" in whole for title, _ in lesson.hints)


def test_tabs_boxes_and_blocks_of_a_page_are_those_of_a_notebook():
    cells = attempts.cells_of(PAGE, lambda target: f"https://example.com/{target}")
    assert ["".join(cell["source"]) for cell in cells] == CELLS
    shown = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    texts = [[line for one in outputs for line in one["text"]] for outputs in shown]
    assert texts == [["1\n", "\n", "  2\n"], [], []]


@reads(*SITE)
def test_the_page_leads_to_its_notebook(site, lesson):
    page = site.folder / "course" / lesson.name
    html = BeautifulSoup((page / "index.html").read_text("utf-8"), "html.parser")
    download = html.find("a", string="Download the notebook")
    assert download["href"] == download["download"] == f"{lesson.name}.ipynb"
    text = (page / download["href"]).read_text("utf-8")
    for link in set(re.findall(rf"\]\({site.url}([^)#]*)", text)):
        assert (site.folder / link / "index.html").exists(), link
    notebook = json.loads(text)
    assert site.url + f"course/{lesson.name}/" in "".join(
        notebook["cells"][0]["source"]
    )
    assert html.find("a", string="Open in Colab")["href"].endswith(
        f"{lesson.name}.ipynb"
    )


@own
def test_there_is_no_link_to_colab_where_it_cannot_open(lesson):
    assert attempts.colab(lesson, "https://gitlab.com/somebody/fork") is None
    assert "Colab" not in attempts.links(lesson, "https://gitlab.com/somebody/fork")
    assert "Download" in attempts.links(lesson, "https://gitlab.com/somebody/fork")


@reads(*SITE, ".github/workflows/pages.yml")
def test_the_link_to_colab_names_what_the_workflow_pushes(site, tmp_path):
    workflow = (ROOT / ".github" / "workflows" / "pages.yml").read_text("utf-8")
    script = yaml.safe_load(workflow)["jobs"]["notebooks"]["steps"][0]["run"]
    server = tmp_path / "server" / "somebody" / "fork.git"
    subprocess.run(["git", "init", "--quiet", "--bare", server], check=True)
    with tarfile.open(tmp_path / "artifact.tar", "w") as archive:
        archive.add(site.folder, ".")
    (tmp_path / "gh").write_text("#!/bin/sh\n")  # the artifact is there already
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "gitconfig").write_text(
        f'[url "file://{tmp_path}/server/"]\n'
        "insteadOf = https://x-access-token:token@github.com/\n"
    )
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"),
        "GH_TOKEN": "token",
        "GH_REPO": "somebody/fork",
        "GITHUB_RUN_ID": "1",
        "GITHUB_SHA": "abc",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for lesson in LESSONS:
        address = attempts.colab(lesson, REPOSITORY)
        start, _, place = address.partition("/blob/")
        branch, _, path = place.partition("/")
        assert start == "https://colab.research.google.com/github/somebody/fork"
        pushed = subprocess.run(
            ["git", "show", f"{branch}:{path}"],
            cwd=server,
            capture_output=True,
            check=True,
        )
        published = site.folder / "course" / lesson.name / path
        assert pushed.stdout == published.read_bytes()


# Of all lessons it looks at the names, and takes the last one.
@reads("nnx_by_example/*", "mkdocs.yml", "README.md", "docs/course/train-loops/*")
def test_a_wheel_carries_the_lessons_into_an_empty_environment(tmp_path):
    def run(*command, cwd=ROOT):
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    uv = [sys.executable, "-m", "uv"]
    options = ["--quiet", "--wheel", "--no-build-isolation", "--out-dir", tmp_path]
    run(*uv, "build", "--python", sys.executable, *options, ROOT)
    environment, learner = tmp_path / "environment", tmp_path / "learner"
    run(*uv, "venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    wheel = next(tmp_path.glob("*.whl"))
    pins = ["--constraints", ROOT / "requirements.lock"]
    run(*uv, "pip", "install", "--quiet", "--python", python, *pins, wheel)
    learner.mkdir()
    nbe = environment / "bin" / "nbe"
    listed = run(nbe, "list", cwd=learner)
    packed = {name.partition("/")[2] for name in zipfile.ZipFile(wheel).namelist()}
    for lesson in LESSONS:
        assert lesson.name in listed
        for file in ("index.md", "exercise.py"):
            assert f"docs/course/{lesson.name}/{file}" in packed
    run(nbe, "start", LESSONS[-1].name, cwd=learner)
    solution = run(nbe, "solution", LESSONS[-1].name, cwd=learner)
    (learner / "attempts" / f"{LESSONS[-1].name}.py").write_text(solution)
    run(nbe, "check", LESSONS[-1].name, cwd=learner)
    where = run(
        python, "-c", "import nnx_by_example as n; print(n.__file__)", cwd=learner
    )
    assert where.startswith(str(environment))


@reads("nnx_by_example/*", "mkdocs.yml", "docs/course/*", "docs/attempt.md")
def test_pictures_of_the_terminal_are_those_of_real_runs():
    folder = ROOT / ".cache" / "generated" / "terminal"
    with FileLock(ROOT / ".cache" / "terminal.lock"):  # another process may draw them
        terminal.draw_all(folder)
    page = (ROOT / "docs" / "attempt.md").read_text("utf-8")
    for scene in terminal.SCENES:
        svg = BeautifulSoup(
            (folder / f"{scene.name}.svg").read_text("utf-8"), "html.parser"
        )
        text = svg.get_text("\n").replace("\xa0", " ")
        assert scene.command in text
        assert f'--8<-- "terminal/{scene.name}.svg"' in page
        assert svg.find("svg")["aria-label"] == scene.label
        assert not {"href", "src"} & {
            name for tag in svg.find_all() for name in tag.attrs
        }
        assert "url(" not in str(svg)
        assert "var(--term-fg)" in str(svg)
        if scene.name == "wrong":
            assert "You left out the factor 1 / sqrt(in_features)." in text


def test_a_scene_that_would_show_a_right_answer_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="has no ' / no_such_scale'"):
        terminal.save((" / no_such_scale", ""), LESSONS[0], tmp_path)


def test_a_scene_that_waits_in_vain_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "HANG", 2)
    idle = terminal.Scene("idle", f"nbe watch {terminal.LESSON}", "", then=("", ""))
    with pytest.raises(RuntimeError, match="ended without"):
        terminal.run(idle, LESSONS[0], tmp_path)


def test_pictures_are_drawn_again_when_the_command_changes(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(
        terminal, "run", lambda scene, *_: runs.append(scene) or "shown"
    )
    for state in ("one", "one", "two"):
        monkeypatch.setattr(terminal, "fingerprint", lambda scene, state=state: state)
        terminal.draw_all(tmp_path)
    assert sorted(runs, key=str) == sorted(2 * terminal.SCENES, key=str)


def test_a_lesson_more_changes_the_pictures_that_show_the_course(monkeypatch):
    before = {scene.name: terminal.fingerprint(scene) for scene in terminal.SCENES}
    more = [*LESSONS, Lesson("more", 99, LESSONS[-1].phase, LESSONS[0].folder)]
    monkeypatch.setattr(terminal, "lessons", lambda: more)
    after = {scene.name: terminal.fingerprint(scene) for scene in terminal.SCENES}
    assert {name for name in before if after[name] != before[name]} == {"list", "watch"}


def test_what_says_that_a_picture_comes_is_drawn_over(tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "run", lambda *_: "shown")
    (tmp_path / "hint.svg").write_text(later.NOTE)
    terminal.draw_all(tmp_path)
    assert "shown" in (tmp_path / "hint.svg").read_text()
    assert terminal.stale(tmp_path) == {}


def test_no_published_page_announces_what_is_still_to_come(site):
    texts = [site.file(page).read_text("utf-8") for page in site.pages()]
    assert texts
    assert not any(later.COMING in text or later.FAILED in text for text in texts)
