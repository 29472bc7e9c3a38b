"""`make zensical` names what a built site has lost, and nothing else."""

import json

from tools.gate.site import Site
from tools.measure import successor

PAGE = """<article><h2 id="why">Why</h2><h2 id="api">API</h2>
<div class="highlight">x</div><div class="highlight">y</div><table></table></article>"""


def site(folder, html, entries):
    """Write a small site: two pages, a file and what its search knows."""
    for page in ("index.html", "404.html", "lesson/index.html"):
        path = folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html)
    (folder / "lesson" / "lesson.ipynb").write_text("{}")
    index = {"items": [{"location": str(number)} for number in range(entries)]}
    (folder / "search.json").write_text(json.dumps(index))
    return Site(folder, successor.URL)


def test_nothing_is_lost_where_nothing_changed(tmp_path):
    one = successor.contents(site(tmp_path / "one", PAGE, 2))
    two = successor.contents(site(tmp_path / "two", f"{PAGE}<p>More.</p>", 3))
    assert successor.lost(one, two) == {}


def test_what_is_lost_is_named_with_its_page(tmp_path):
    before = site(tmp_path / "before", PAGE, 2)
    after = site(tmp_path / "after", PAGE, 1)
    poorer = PAGE.replace('<div class="highlight">y</div>', "").replace("api", "gone")
    (after.folder / "index.html").write_text(poorer + '<a href="nowhere/">x</a>')
    (after.folder / "lesson" / "lesson.ipynb").unlink()
    (after.folder / "lesson" / "index.html").unlink()
    found = [successor.contents(one) for one in (before, after)]
    assert successor.lost(*found) == {
        "code blocks": ["/ (1 of 2)"],
        "#api": ["/ (1 of 1)"],
        "missing": ["/lesson/", "lesson/lesson.ipynb"],
        "sections in search": ["search (1 of 2)"],
    }
    rows = {kind: cells for kind, *cells in successor.totals(*found)}
    assert rows["pages"] == ["3", "2"]
    assert rows["code blocks"] == ["6", "3"]
    assert successor.dead(after) == {"nowhere/ is not there": 1}
    assert not successor.dead(before)
