"""`make speed` compares sites with the same pages, as many as are asked for."""

import re

from nnx_by_example import course
from tools.measure import speed

PAGE = re.compile(r"- (?:[\w ]+: )?(\S+\.(?:md|ipynb))\n")


def test_both_sites_have_as_many_pages_as_asked(project):
    speed.lengthen(project, 60)
    ours = (project / "mkdocs.yml").read_text()
    pages, plain = PAGE.findall(ours), speed.plain(ours)
    assert len(set(pages)) == 60
    notebooks = {page for page in pages if page.endswith(".ipynb")}
    there = {page for page in pages if (project / "docs" / page).exists()}
    assert there == set(pages) - notebooks
    assert set(pages) - set(PAGE.findall(plain)) == notebooks
    assert not re.search("hooks|jupyter|overrides|  - tags", plain)


def test_a_copied_lesson_includes_its_own_exercise(project):
    speed.lengthen(project, 60)
    folders = {one.name for one in course.lessons()}
    copies = [f for f in (project / "docs/course").iterdir() if f.name not in folders]
    pages = [f / "index.md" for f in copies if re.search(r"-\d+$", f.name)]
    assert pages
    for page in pages:
        included = re.findall(r'"course/([^/]+)/', page.read_text())
        assert set(included) == {page.parent.name}
