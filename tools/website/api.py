"""Lists where each public name of flax.nnx and flax.linen is used on the site.

The names are those of the installed Flax, their uses are read from the code that the
pages execute.
"""

import ast
import hashlib
import importlib
import json
import re
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.utils.meta import get_data

from tools import project, sources
from tools.project import ROOT

LIBRARIES = {"nnx": "nnx", "linen": "nn"}  # each with its name on the pages
NAMES = "names.json"
# Long links would leave a name so little room on a phone that it breaks anywhere.
HEAD = '| name { style="width: 8rem" } | used in |\n|---|---|'
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", flags=re.M | re.S)


def public_names(library: str) -> list[str]:
    """Return what a library offers to call, as pages name it, such as `nnx.Param`.

    Left out are submodules, constants, and what only annotates: type variables and
    aliases such as `nnx.Data`.
    """
    found = vars(importlib.import_module(f"flax.{library}")).items()
    found = [n for n, v in found if callable(v) and not typing.get_origin(v)]
    names = [f"{LIBRARIES[library]}.{name}" for name in found if name[0] != "_"]
    return sorted(names, key=str.lower)


def stale(folder: Path) -> dict[str, str]:
    """Return the file of the public names and its state, unless the folder has it."""
    module = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    state = " ".join([version("flax"), version("jax"), module])
    return {} if read_names(folder / NAMES).get("state") == state else {NAMES: state}


def read_names(kept: Path) -> dict:
    """Return what a file holds: the public names by library, and their state."""
    return json.loads(kept.read_text("utf-8")) if kept.exists() else {}


def kept_names(kept: Path) -> dict[str, list[str]]:
    """Return the public names by library, from the file `kept` while nothing changes.

    Another process imports Flax: to this one it would cost a second at each start.
    """
    found = read_names(kept)
    for state in stale(kept.parent).values():
        command = [sys.executable, "-m", "tools.website.api"]
        said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        found = {"state": state, "names": json.loads(said.stdout)}
        project.write(kept, json.dumps(found))
    return found["names"]


def names_in(blocks: list[str]) -> set[str]:
    """Return the names that the blocks of one page use, such as `nnx.Param`.

    Raises:
      SyntaxError: if a block is no Python.
    """
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    meant = {}  # what each imported name stands for
    for node in nodes:
        for one in getattr(node, "names", []):
            if isinstance(node, ast.ImportFrom):
                meant[one.asname or one.name] = f"{node.module}.{one.name}"
            elif isinstance(node, ast.Import):
                first = one.name.partition(".")[0]
                meant[one.asname or first] = one.name if one.asname else first
    used = [ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute | ast.Name)]
    full = {re.sub(r"^\w+", lambda name: meant.get(name[0], ""), text) for text in used}
    found = [re.fullmatch(r"flax\.(nnx|linen)\.(\w+)", text) for text in full]
    return {f"{LIBRARIES[match[1]]}.{match[2]}" for match in found if match}


def read_page(address: str, root: Path = ROOT) -> tuple[dict, set[str]]:
    """Return the front matter of a page of `nav` and the names that its code uses.

    Raises:
      PluginError: if a block is no Python.
    """
    if address.endswith(".ipynb"):
        code = (root / address).with_suffix(".py").read_text("utf-8")
        blocks, text = [code], re.sub("^# ?(%%.*\n)?", "", code, flags=re.M)
    else:
        text = (root / "docs" / address).read_text("utf-8")
        # Of what a page includes, the generated part holds nothing that runs.
        folders = [str(root / folder) for folder in ("docs", "examples")]
        options = {"base_path": folders, "dedent_subsections": True}
        shown = sources.expanded(text, options)
        blocks = [textwrap.dedent(code) for _, code in BLOCK.findall(shown)]
    try:
        return get_data(text)[1], names_in(blocks)
    except SyntaxError as error:
        raise PluginError(f"{address}: {error.msg}: {error.text}") from None


def listed(nav: list) -> Iterator[tuple[str | None, str]]:
    """Yield the label, if it has one, and the address of each page of `nav`."""
    for entry in nav:
        [(label, inner)] = entry.items() if isinstance(entry, dict) else [(None, entry)]
        yield from listed(inner) if isinstance(inner, list) else [(label, inner)]


def index(library: str, names: list[str], pages: list[tuple[str, dict, set]]) -> str:
    """Return counts, table and unused names of a library as Markdown.

    Args:
      library: `nnx` or `linen`.
      names: its public names, such as `nnx.Param`.
      pages: of each page its link, its front matter and the names that it uses.
    """
    rows, unused = [], []
    for name in names:
        found = [(link, meta) for link, meta, used in pages if name in used]
        teaching = [
            f"**{link}**" for link, meta in found if name in meta.get("tags", [])
        ]
        others = [link for link, meta in found if name not in meta.get("tags", [])]
        if found:
            rows.append(f"| `{name}` | {', '.join(teaching + others)} |")
        else:
            unused.append(f"`{name}`")
    counts = f"{len(rows)} of {len(names)} public names of `flax.{library}`"
    table = "\n".join([HEAD, *rows])
    folded = f'??? note "Not used yet: {len(unused)} names"\n\n    {", ".join(unused)}'
    return f"{counts} are used on these pages.\n\n{table}\n\n{folded}\n"


def texts(nav: list, kept: Path) -> dict[str, str]:
    """Return what the page includes, by name of the file; `kept` is for the names."""
    pages = []
    for label, address in listed(nav):
        meta, used = read_page(address)
        pages.append((f"[{label or meta['title']}](../{address})", meta, used))
    found = kept_names(kept).items()
    return {f"api/{name}.md": index(name, names, pages) for name, names in found}


if __name__ == "__main__":
    print(json.dumps({library: public_names(library) for library in LIBRARIES}))
