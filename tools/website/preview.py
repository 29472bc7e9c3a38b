"""Renders only the pages that a save concerns, while `make serve` runs.

MkDocs builds the whole site for each save. Here a save to a page, or to a file that
pages include, renders these pages into the site that was built last. Any other save
builds the whole site: to a file that no page includes, to the front matter of a page,
to the glossary, a new file. Until then, what is made from several pages is that of the
last whole build: search, the course map, the index of names, figures, cards, pictures,
twins and notebooks.
"""

import logging
import re
from pathlib import Path

from mkdocs.commands import build
from mkdocs.structure.files import InclusionLevel
from mkdocs.structure.pages import Page

from tools import sources
from tools.website import glossary, later

log = logging.getLogger("mkdocs.plugins.preview")
OF_EDITORS = re.compile(r"[.#].*|.*~")  # what they keep beside a file
last = {}  # the config, files, nav and env of the last whole build


def on_nav(nav, config, files):
    """Keep the pages and their order."""
    last.update(nav=nav, config=config, files=files)


def on_env(env, config, files):
    """Keep the templates."""
    last.update(env=env)


def on_serve(server, config, builder):
    """Let the server render the pages that a save concerns, where that is enough."""
    watched = [config.docs_dir, config.config_file_path, *config.watch]
    seen = times(watched)

    def render():
        nonlocal seen
        now = times(watched)
        saved = {file for file in now if now[file] != seen.get(file)}
        pages = concerned(saved) if now.keys() == seen.keys() else []
        if pages and all(rendered(page) for page in pages):
            names = ", ".join(page.file.src_uri for page in pages)
            log.info(f"Rendered {names} alone. Save mkdocs.yml to build the whole site")
        elif now != seen:
            builder()
        seen = now  # not if it has failed: the next save tries the same again
        later.start(rebuild)

    def rebuild():
        nonlocal seen
        seen = {}
        with server._rebuild_cond:
            server._want_rebuild = True
            server._rebuild_cond.notify_all()

    server.builder = render
    later.start(rebuild)
    return server


def times(watched: list[str]) -> dict[Path, int]:
    """Return when each file was saved, in nanoseconds."""
    paths = {p for name in watched for p in [Path(name), *Path(name).rglob("*")]}
    files = [p for p in paths if p.is_file() and not OF_EDITORS.fullmatch(p.name)]
    return {file: file.stat().st_mtime_ns for file in files}


def concerned(saved: set[Path]) -> list[Page]:
    """Return the pages that are or include what was saved; none if it concerns more."""
    bases = last["config"].mdx_configs[sources.SNIPPETS]["base_path"]
    folders = [Path(base).absolute() for base in bases]
    pages, left = [], set(saved)
    for file in last["files"].documentation_pages(inclusion=InclusionLevel.is_in_serve):
        names = sources.included(file.page.markdown)
        shown = {folder / name for name in names for folder in folders}
        shown.add(Path(file.abs_src_path))
        alone = file.src_uri.endswith(".md") and file.src_uri != glossary.PAGE
        if saved & shown and alone:
            pages.append(file.page)
            left -= shown
    return [] if left else pages


def rendered(page: Page) -> bool:
    """Render a page anew; return False if others may show what has changed of it."""
    config, files, nav, env = (last[name] for name in ("config", "files", "nav", "env"))
    before = page.meta, page.title
    build._populate_page(page, config, files)
    if (page.meta, page.title) != before:
        return False
    pages = files.documentation_pages(inclusion=InclusionLevel.is_in_serve)
    build._build_page(page, config, pages, nav, env)
    page.validate_anchor_links(files=files, log_level=config.validation.links.anchors)
    return True
