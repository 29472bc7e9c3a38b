"""The pictures of pages: drawn from what their code computes, and from nothing else."""

import re

import pytest

from tools.gate.memory import reads
from tools.website import pictures

pytestmark = reads("docs/**", "mkdocs.yml", "tools/website/matplotlibrc")
PAGE = """\
# A page

```python
heights = [1, 2, 4]
print("no page prints this here")
#> no page prints this here
```

=== "A tab"

    ```python
    heights[0] += 2
    ```
"""
DRAW = """\
def draw(page, figure):
    axes = figure.subplots()
    axes.plot(page.heights, color="nnx")
    axes.pcolormesh([[0.5]], cmap="nnx", vmin=0, vmax=1)
    axes.axhline(2, color="linen")
    return f"Heights <of> the page, from {page.heights[0]} to {page.heights[-1]}"
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Write a page and its picture; return the file that draws it."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "index.md").write_text(PAGE)
    script = tmp_path / "small" / "picture.py"
    script.write_text(DRAW)
    monkeypatch.setattr(pictures, "DOCS", tmp_path)
    return script


def test_every_picture_is_on_its_page():
    assert len(pictures.scripts()) > 0
    for name, script in pictures.scripts().items():
        page = pictures.page_of(script).read_text("utf-8")
        assert f'--8<-- "pictures/{name}.svg"' in page, script


def test_a_picture_shows_what_the_code_of_its_page_computes(script, capsys):
    first = pictures.picture(script)
    assert 'aria-label="Heights &lt;of&gt; the page, from 3 to 4"' in first
    assert "var(--nnx)" in first
    assert "var(--linen)" in first
    assert not re.search("#111|#222|#123", first)
    assert capsys.readouterr().out == ""
    page = pictures.page_of(script)
    page.write_text(PAGE.replace("[1, 2, 4]", "[1, 2, 5]"))
    assert "from 3 to 5" in pictures.picture(script)


def test_it_is_drawn_again_when_code_changes(script, tmp_path, monkeypatch):
    folder = tmp_path / "drawn"
    monkeypatch.setattr(pictures, "in_process", pictures.picture)
    pictures.draw_all(folder)
    assert pictures.stale(folder) == {}
    page = pictures.page_of(script)
    for file, before, after in (
        (page, "heights[0] += 2", "heights[0] += 1"),
        (script, "axhline(2", "axhline(3"),
    ):
        file.write_text(file.read_text().replace(before, after))
        assert [*pictures.stale(folder)] == ["small.svg"]
        pictures.draw_all(folder)
        assert pictures.stale(folder) == {}
    page.write_text(f"Other words.\n\n{page.read_text()}")
    assert pictures.stale(folder) == {}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("page.heights, color", "page.depths, color", "'depths'"),
        ("return f", "f", "return in words"),
        ("figure.subplots()", "quit()", "ended without an answer"),
    ],
)
def test_what_cannot_be_drawn_says_why(script, before, after, said):
    script.write_text(DRAW.replace(before, after))
    with pytest.raises(pictures.PictureError, match=said) as caught:
        pictures.in_process(script)
    assert "small/picture.py" in str(caught.value)


def test_the_picture_of_a_page_without_a_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "DOCS", tmp_path)
    script = tmp_path / "start.picture.py"
    script.write_text(DRAW)
    assert pictures.scripts() == {"start": script}
    assert pictures.page_of(script) == tmp_path / "start.md"
