"""Where every page is true: what a run says, and the tables drawn from it."""

import json

import pytest

from tools.gate.memory import reads
from tools.measure import matrix
from tools.website import compatibility

# As pytest writes it; the names of folders are invented.
pytestmark = reads("docs/reference/compatibility.json")
REPORT = """<testsuites><testsuite>
<testcase name="test_page[README.md]"/>
<testcase name="test_page[docs/course/kv-cache/index.md]">
<failure message="Failed: docs/course/kv-cache/index.md:232: what ...">\
docs/course/kv-cache/index.md:232: what is shown is not what is printed
  shown: #&gt; True
  got:   #&gt; False
docs/course/kv-cache/index.md:240: what is shown is not what is printed
  shown: #&gt; 1
  got:   #&gt; 2</failure></testcase>
<testcase name="test_page[docs/index.md]"><failure message="Failed: docs ...">\
docs/index.md: Traceback (most recent call last):
  File "/some/where/run.py", line 12, in run
  File docs/index.md:7, in &lt;module&gt;
  File "/some/where/core.py", line 34, in call
AttributeError: no `nnx.Linear`
</failure></testcase>
<testcase name="test_page[docs/cost/index.md]"><failure message="Failed: docs ...">\
docs/cost/index.md: this writes to stderr, which no page shows: \
/some/where/site-packages/flax/core.py:7: DeprecationWarning: old (line 3)</failure>
</testcase>
<testcase name="test_page[docs/verified.md]"><error message="failed on setup with \
&quot;RuntimeError: no end&quot;">def generated(): ...</error></testcase>
<testcase name="test_page_in_tree_mode[README.md]"><failure message="Failed: ...">\
README.md: Traceback (most recent call last):
ValueError: graph</failure></testcase>
<testcase name="test_style_of_blocks[README.md]"/>
</testsuite></testsuites>"""

PAGE = "docs/course/kv-cache/index.md"
DIGIT = {PAGE: "line 232: shown: #> True, got: #> False"}


@pytest.fixture
def measured(tmp_path):
    """Write the result of an invented measurement; return what reads it."""
    old = {"python": "3.13.0", "flax": "0.12.10", "jax": "0.11.1"}
    found = {
        "date": "2026-01-02",
        "machine": "x86-64",
        "tried": ["README.md", PAGE],
        "versions": {name: matrix.version(name) for name in matrix.PACKAGES},
        "releases": [
            {**old, "pages": 34, "failed": {}},
            {**old, "python": "3.14", "unavailable": "Python 3.14 is not installed"},
        ],
        "machines": [{"machine": "AVX2", "pages": 34, "failed": {}}],
        "floor": {
            "date": "2026-01-01",
            "rows": [
                {**old, "pages": 34, "failed": DIGIT},
                {**old, "flax": "0.12.9", "pages": 34, "failed": DIGIT},
            ],
        },
    }

    def texts(**changed):
        path = tmp_path / "compatibility.json"
        path.write_text(json.dumps(found | changed))
        return compatibility.texts(path)

    return texts


def test_a_report_says_which_page_fails_and_why():
    assert matrix.read_junit(REPORT) == {
        "README.md": None,
        PAGE: DIGIT[PAGE],
        "docs/index.md": "line 7: AttributeError: no 'nnx.Linear'",
        "docs/cost/index.md": "docs/cost/index.md: this writes to stderr, which no "
        "page shows: core.py:7: DeprecationWarning: old (line 3)",
        "docs/verified.md": 'failed on setup with "RuntimeError: no end"',
    }


def test_a_report_tells_the_modes_apart():
    found = matrix.read_junit(REPORT, "test_page_in_tree_mode")
    assert found == {"README.md": "ValueError: graph"}


def test_a_table_says_what_is_true_in_tree_mode(measured):
    row = {"machine": "AVX2", "pages": 34, "failed": DIGIT}
    failed = {**DIGIT, "README.md": "ValueError: graph"}
    text = measured(machines=[{**row, "failed in tree mode": failed}, row])
    lines = text["compatibility/machines.md"].splitlines()
    assert "| AVX2 | 33 of 34 | 32 of 34 |" in lines
    assert "| AVX2 | 33 of 34 | not tried |" in lines
    assert "- **README**, AVX2, in tree mode: `ValueError: graph`" in lines
    assert sum("kv-cache" in line for line in lines) == 1


def test_a_table_says_which_page_fails_where_and_why(measured):
    text = measured()["compatibility/floor.md"]
    assert "| 3.13.0 | 0.12.10 | 0.11.1 | 33 of 34 | not tried |" in text
    both = [f"Python 3.13.0, flax {flax}, jax 0.11.1" for flax in ("0.12.10", "0.12.9")]
    assert f"\n- **course/kv-cache**, {'; '.join(both)}: `{DIGIT[PAGE]}`\n" in text
    assert "2026-01-01" in text


def test_what_is_true_or_cannot_run_is_said_in_words(measured):
    drawn = measured()
    assert "| AVX2 | ✓ all 34 | not tried |" in drawn["compatibility/machines.md"]
    text = drawn["compatibility/releases.md"]
    assert "| 3.14 | 0.12.10 | 0.11.1 | not available |" in text
    assert "`Python 3.14 is not installed`" in text


def test_every_page_has_a_row_in_which_each_release_is_said(measured):
    old = {"python": "3.13.0", "flax": "0.12.10", "jax": "0.11.1"}
    rows = [
        {**old, "pages": 2, "failed": DIGIT},
        {**old, "flax": "0.12.9", "unavailable": "why"},
    ]
    text = measured(releases=rows)["compatibility/pages.md"]
    assert "| page | 0.12.10 | 0.12.9 |" in text.replace("<wbr>", "")
    assert "| README | ✓ | ? |" in text
    assert "| kv-cache | no | ? |" in text


def test_tables_of_other_releases_are_named(measured):
    name = "compatibility/about.md"
    assert "!!!" not in measured()[name]
    assert "!!! warning" in measured(versions={"flax": "0.12.8", "jax": "0.10"})[name]


def test_a_python_that_is_not_there_is_a_row_and_no_crash(monkeypatch, capsys):
    monkeypatch.setattr(matrix, "copy_project", lambda: "hash")
    monkeypatch.setattr(matrix.shutil, "which", lambda name: None)
    row = matrix.Runs("").release("3.99", ["flax>=0.12", "jax"])
    assert row == {
        "python": "3.99",
        "flax": ">=0.12",
        "jax": "newest",
        "unavailable": "Python 3.99 is not installed",
    }
    assert "3.99" in capsys.readouterr().err
