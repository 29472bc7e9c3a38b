"""`make serve`: what a save renders, and that it is what a whole build would show."""

import threading
from types import SimpleNamespace

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tools.project import ROOT
from tools.website import later

URL = "http://127.0.0.1/"
CONFIG = f"""\
site_name: Small
theme: material
nav: [index.md, other.md]
plugins: [search, tags]
hooks: [{ROOT / "tools" / "website" / "preview.py"}]
markdown_extensions:
  - toc
  - pymdownx.snippets:
      base_path: [docs]
      check_paths: true
exclude_docs: "*.py"
"""
PAGE = """\
---
tags: [a name]
---

# Home

Text of [the other](other.md).
"""


class Served:
    """A small site as `mkdocs serve` has it after its first build."""

    def __init__(self, folder):
        self.folder, self.docs, self.whole_builds = folder, folder / "docs", 0
        self.docs.mkdir()
        (self.docs / "index.md").write_text(PAGE)
        (self.docs / "other.md").write_text('# Other\n\n    --8<-- "part.py"\n')
        (self.docs / "reference").mkdir()
        (self.docs / "reference" / "glossary.md").write_text("# Glossary\n")
        (self.docs / "part.py").write_text("x = 1\n")
        (folder / "mkdocs.yml").write_text(CONFIG)
        self.server = SimpleNamespace(_rebuild_cond=threading.Condition())
        self.config = self.build("site")
        self.begin()

    def begin(self):
        """Do what the server does after its first build."""
        self.config.plugins.on_serve(
            self.server, config=self.config, builder=self.whole
        )

    def build(self, site):
        """Build the whole site into a folder."""
        config = load_config(
            str(self.folder / "mkdocs.yml"), site_dir=str(self.folder / site)
        )
        config.plugins.on_startup(command="serve", dirty=False)
        config.site_url = URL
        build(config, serve_url=URL)
        return config

    def whole(self):
        """Count a whole build, and make it."""
        self.whole_builds += 1
        self.build("site")

    def save(self, name, text):
        """Save a file, and do what the server does then."""
        (self.docs / name).write_text(text)
        self.server.builder()

    def shown(self, site="site"):
        """Return the text of each page of a built site."""
        files = (self.folder / site).rglob("*.html")
        return {str(f.relative_to(self.folder / site)): f.read_text() for f in files}


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Served(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "page"),
    [
        ("index.md", PAGE + "\n## More\n\nNew.\n", "index.html"),
        ("part.py", "x = 2\n", "other/index.html"),
    ],
)
def test_a_save_shows_what_a_whole_build_would_show(served, name, text, page):
    before = served.shown()
    served.save(name, text)
    after = served.shown()
    assert {key for key in after if after[key] != before[key]} == {page}
    assert served.whole_builds == 0
    served.build("anew")
    assert after == served.shown("anew")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.md", PAGE.replace("# Home", "# Start")),  # a title, which all show
        ("index.md", PAGE.replace("a name", "another name")),
        ("new.md", "# New\n"),
        ("reference/glossary.md", "# Glossary\n\nTerms.\n"),  # others quote it
        ("../mkdocs.yml", CONFIG.replace("Small", "Large")),
    ],
)
def test_what_other_pages_show_builds_the_whole_site(served, name, text):
    served.save(name, text)
    assert served.whole_builds == 1
    served.build("anew")
    assert served.shown() == served.shown("anew")


def test_a_page_saved_with_something_else_builds_the_whole_site(served):
    (served.docs / "index.md").write_text(PAGE + "\nNew.\n")
    served.save("../mkdocs.yml", CONFIG.replace("Small", "Large"))
    assert served.whole_builds == 1
    served.save("new.md", "# New\n")
    assert served.whole_builds == 2
    served.save("index.md", PAGE + "\nNewer.\n")
    assert served.whole_builds == 2
    (served.docs / "new.md").unlink()
    served.save("index.md", PAGE + "\nNewest.\n")
    assert served.whole_builds == 3


def test_what_an_editor_keeps_beside_a_file_renders_nothing(served):
    before = served.shown()
    served.save(".index.md.swp", "x")
    assert served.whole_builds == 0
    assert served.shown() == before


def test_a_page_that_fails_is_rendered_with_the_next_save(served):
    with pytest.raises(Exception, match=r"gone\.py"):
        served.save("index.md", f'{PAGE}\n--8<-- "gone.py"\n')
    served.save("index.md", PAGE + "\nMended.\n")
    assert "Mended." in served.shown()["index.html"]
    assert served.whole_builds == 0


def test_what_is_made_after_the_first_build_builds_the_site_again(served, monkeypatch):
    names = {"program.py": "state"}
    monkeypatch.setattr(later, "serving", True)
    monkeypatch.setattr(later, "waiting", names.copy)
    monkeypatch.setattr(later, "run", lambda name: names.clear())
    served.begin()
    later.worker.join()
    assert served.server._want_rebuild
    served.server.builder()
    assert served.whole_builds == 1
    served.server.builder()
    assert served.whole_builds == 1
