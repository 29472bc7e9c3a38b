"""Draws the pictures of pages, from numbers that the code of these pages computes.

Beside a page, `picture.py` has a function `draw(page, figure)`. It gets the names of
the page after all its blocks have run, and an empty figure of matplotlib. It returns,
in words, what the figure shows. It is called again when the code of its page changes.
"""

import contextlib
import hashlib
import html
import io
import multiprocessing
import os
import runpy
import tempfile
import textwrap
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from tools import project
from tools.project import CACHE, DOCS
from tools.sources import SNIPPETS, expanded, site_config
from tools.website import attempts, cost, notebooks

FOLDER = CACHE / "generated" / "pictures"
# What the pages compile is kept where the doc-tests keep it.
ENVIRONMENT = {
    "JAX_COMPILATION_CACHE_DIR": str(CACHE / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
PACKAGES = ("flax", "jax", "matplotlib")
# A page can leave things behind, so each runs in a process of its own: they start warm.
PROCESSES = multiprocessing.get_context("forkserver")
WARM = ["jax", "flax.linen", "flax.nnx", "optax", "matplotlib.figure", __name__]


class PictureError(Exception):
    """A picture cannot be drawn; the message names its file and says why."""


def scripts() -> dict[str, Path]:
    """Return the file that draws each picture, by the name of the picture.

    `course/kv-cache/picture.py` draws `kv-cache`, and `start.picture.py` draws `start`.
    """
    found = sorted([*DOCS.rglob("picture.py"), *DOCS.rglob("*.picture.py")])
    return {name_of(path): path for path in found}


def name_of(script: Path) -> str:
    """Return the name of a picture."""
    alone, _, rest = script.name.partition(".")
    return alone if rest == "picture.py" else script.parent.name


def page_of(script: Path) -> Path:
    """Return the page that a picture belongs to."""
    if script.name == "picture.py":
        return script.with_name("index.md")
    return script.with_name(script.name.replace(".picture.py", ".md"))


def program(page: Path) -> str:
    """Return the Python of a page as one script."""
    options = site_config().mdx_configs[SNIPPETS]
    found = attempts.BLOCK.findall(page.read_text("utf-8"))
    blocks = (expanded(textwrap.dedent(block), options) for _, block in found)
    return "\n\n".join(blocks)


def states() -> dict[str, str]:
    """Return a hash of what each picture is drawn from, by its file's name."""
    own = [Path(__file__), Path(cost.__file__), notebooks.FIGURE_STYLE]
    common = [path.read_text("utf-8") for path in own] + [*map(version, PACKAGES)]
    found = {}
    for name, script in scripts().items():
        parts = [*common, program(page_of(script)), script.read_text("utf-8")]
        whole = hashlib.sha256("\0".join(parts).encode())
        found[f"{name}.svg"] = whole.hexdigest()[:16]
    return found


def stale(folder: Path = FOLDER) -> dict[str, str]:
    """Return the pictures that a folder lacks, and the state each would be of."""
    return {n: s for n, s in states().items() if s not in cost.drawn(folder / n)}


def draw_all(folder: Path = FOLDER) -> None:
    """Draw into a folder the pictures that are not drawn already.

    Raises:
      PictureError: if one cannot be drawn.
    """
    files = scripts()
    for name, state in stale(folder).items():
        svg = in_process(files[name.removesuffix(".svg")])
        svg = svg.replace("<svg", f'<svg data-state="{state}"', 1)
        project.write(folder / name, f"{svg}\n")


def in_process(script: Path) -> str:
    """Return what `picture` does, from a process of its own.

    Raises:
      PictureError: if it cannot be drawn.
    """
    os.environ.update(
        {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}
    )
    PROCESSES.set_forkserver_preload(WARM)
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=answer, args=(theirs, script))
    process.start()
    theirs.close()
    try:
        svg, error = ours.recv()
    except EOFError:
        svg, error = "", "its process ended without an answer"
    process.join()
    if error:
        raise PictureError(f"{script.relative_to(DOCS.parent)}: {error}")
    return svg


def answer(pipe, script: Path) -> None:
    """Send what `picture` returns, or why it raises."""
    try:
        pipe.send((picture(script), ""))
    except Exception as error:
        pipe.send(("", f"{type(error).__name__}: {error}"))


def picture(script: Path) -> str:
    """Return a picture as SVG in the page's colours, with what it shows in words.

    Raises:
      PictureError: if these words are missing.
    """
    page, figure = page_of(script), painted()
    code, names = program(page), {"__name__": "__main__"}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        exec(compile(code, str(page), "exec"), names)
        draw = runpy.run_path(str(script))["draw"]
        words = draw(SimpleNamespace(**names), figure)
    if not isinstance(words, str) or len(words.split()) < 5:
        raise PictureError("return in words what the figure shows")
    return cost.as_svg(figure, html.escape(" ".join(words.split())))


def painted():
    """Return an empty figure in the style of the site; its colours get their names."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap, get_named_colors_mapping
    from matplotlib.figure import Figure

    colours = {"nnx": cost.NNX, "linen": cost.LINEN, "ink": notebooks.INK}
    get_named_colors_mapping().update(colours)
    shades = [(cost.NNX, 0.0), (cost.NNX, 1.0)]
    if "nnx" not in mpl.colormaps:
        mpl.colormaps.register(LinearSegmentedColormap.from_list("nnx", shades))
    mpl.rc_file(notebooks.FIGURE_STYLE)
    return Figure(figsize=(6, 3.2))
