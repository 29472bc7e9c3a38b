"""Draws what `make cost` measured: plots and tables that pages include.

Everything is made from `examples/cost/measured.json`, and made again when that file or
its drawing changes. No figure of a page is typed.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from tools import project
from tools.sources import COSTS
from tools.website import notebooks

# Colours that the page decides; matplotlib is given others in their place.
NNX, LINEN = "#111111", "#222222"
MARKERS = "os^D"
# From the one that asks least of you.
CONVENIENT = (
    "nnx.jit",
    "nnx.jit, graph=False",
    "nnx.cached_partial",
    "nnx.jit_partial",
    "jax.jit, split once",
    "jax.jit, as_pure",
)
AT_MOST = 0.05  # of a step
STEPS_MS = (1, 10, 100)
# Figures of other releases of these may be untrue.
RELEASED = ("flax", "jax")


def texts(measured: Path = COSTS) -> dict[str, str]:
    """Return the tables and sentences that pages include, by name of the file."""
    found = json.loads(measured.read_text("utf-8"))
    made = {
        "forward.md": ratios(found["forward"]),
        "step.md": ratios(found["step"]),
        "construct.md": ratios(found["construct"]),
        "compile.md": compile_ratios(found["compile"]),
        "cache.md": cache_sentence(found["cache"]),
        "advice.md": advice(found["step"]),
        "about.md": about(found),
    }
    return {name: f"{text}\n" for name, text in made.items()}


PLOTS = {
    "forward.svg": lambda found: dots(found["forward"], "Calling the model forward"),
    "step.svg": lambda found: dots(found["step"], "A train step"),
    "cache.svg": lambda found: curves(found["cache"]),
}


def stale(folder: Path, measured: Path = COSTS) -> dict[str, str]:
    """Return the plots that a folder lacks, and the state each would be of."""
    sources = [measured, Path(__file__), notebooks.FIGURE_STYLE]
    parts = [path.read_bytes() for path in sources]
    parts += [version(name).encode() for name in ("flax", "jax", "matplotlib")]
    state = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    return {name: state for name in PLOTS if state not in drawn(folder / name)}


def drawn(picture: Path) -> str:
    """Return the text of a picture, which names the state it was drawn from."""
    return picture.read_text("utf-8") if picture.exists() else ""


def draw_all(folder: Path, measured: Path = COSTS) -> None:
    """Draw into a folder the plots that are not drawn already."""
    found = json.loads(measured.read_text("utf-8"))
    for name, state in stale(folder, measured).items():
        svg = PLOTS[name](found).replace("<svg", f'<svg data-state="{state}"', 1)
        project.write(folder / name, f"{svg}\n")


def figure(width: float, height: float):
    """Return a figure and its axes, in the style of the site."""
    import matplotlib as mpl  # half a second: only when something is drawn
    from matplotlib.figure import Figure

    mpl.rc_file(notebooks.FIGURE_STYLE)
    made = Figure(figsize=(width, height))
    return made, made.subplots()


def as_svg(made, label: str) -> str:
    """Return a figure as SVG in the page's colours, with `label` for screen readers."""
    file = io.StringIO()
    made.savefig(file, format="svg")
    svg = notebooks.for_both_schemes(file.getvalue())
    svg = svg.replace(NNX, "var(--nnx)").replace(LINEN, "var(--linen)")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def dots(found: dict, title: str) -> str:
    """Return a plot of ratios to Linen: a row for each way, a mark for each model."""
    sizes, names = list(found), list(next(iter(found.values())))[1:]
    made, axes = figure(6, 0.9 + 0.42 * len(names))
    for marker, size in zip(MARKERS, sizes, strict=False):
        values = [found[size][name]["ratio"] for name in names]
        axes.plot(values, names, marker, color=NNX, label=size, fillstyle="none")
    axes.axvline(1, color=LINEN, linestyle="--")
    axes.text(1, -0.75, "Linen ", color=LINEN, ha="right", weight="bold")
    axes.set_xscale("log")
    largest = max(entry["ratio"] for size in sizes for entry in found[size].values())
    axes.set_xlim(0.7, 1.2 * largest)
    axes.set_xticks([n for n in (1, 2, 5, 10, 20, 50, 100) if n < 1.2 * largest])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.set_xlabel("CPU time, as a multiple of Linen's")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.2)
    made.legend(loc="outside upper center", ncols=4, handletextpad=0.1, columnspacing=1)
    first = sizes[0]
    worst = max(names, key=lambda name: found[first][name]["ratio"])
    best = min(names, key=lambda name: found[first][name]["ratio"])
    label = (
        f"{title}: CPU time of each way as a multiple of Linen's. With {first}, from "
        f"{times_as_long(found[first][best])} for {best} to "
        f"{times_as_long(found[first][worst])} for {worst}. The table has all figures."
    )
    return as_svg(made, label)


def curves(found: dict) -> str:
    """Return a plot of CPU time per token, with and without a cache, by length."""
    lengths = [int(length) for length in found]
    made, axes = figure(6, 3.2)
    looks = {
        "without": (notebooks.INK, "--", "without\na cache"),
        "with": (NNX, "-", "with\nthe cache"),
    }
    for name, (color, line, words) in looks.items():
        values = [found[str(length)][name]["us"] / 1000 for length in lengths]
        axes.plot(lengths, values, line, marker="o", color=color)
        axes.text(lengths[-1] * 1.1, values[-1], words, color=color, va="center")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens so far")
    axes.set_ylabel("CPU time of a token, ms")
    axes.grid(alpha=0.2)
    return as_svg(made, f"CPU time of one more token. {cache_sentence(found)}")


def cache_sentence(found: dict) -> str:
    """Return what the cache saves at the shortest and at the longest sequence."""
    (first, few), *_, (last, many) = found.items()
    return (
        f"After {int(first):,} tokens, one more costs {times_as_long(few['without'])} "
        f"as much without the cache as with it; after {int(last):,}, "
        f"{times_as_long(many['without'])} as much."
    )


def times_as_long(entry: dict) -> str:
    """Return a ratio as a reader says it: two digits, more only if it is larger."""
    ratio = entry["ratio"]
    return f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"


def duration(entry: dict) -> str:
    """Return a time with three digits and its unit."""
    microseconds = entry["us"]
    if microseconds < 1e3:
        return f"{microseconds:.3g} µs"
    if microseconds < 1e6:
        return f"{microseconds / 1e3:.3g} ms"
    return f"{microseconds / 1e6:.3g} s"


def table(head: list[str], rows: Iterable[list[str]], align: str = "---:") -> str:
    """Return a Markdown table, all but its first column aligned, to the right."""
    lines = [head, ["---", *[align] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_code(name: str) -> str:
    """Return the name of a way, as code from where it is code."""
    return re.sub(r"\b(nnx|jax)\..*", r"`\g<0>`", name)


def ratios(found: dict) -> str:
    """Return a table: the times of the first way, and the others' ratios to them."""
    return table(["way", *found], ratio_rows(found))


def ratio_rows(found: dict, prefix: str = "") -> Iterator[list[str]]:
    """Yield a row for each way: times of the first, ratios of the others."""
    first, *others = next(iter(found.values()))
    yield [prefix + as_code(first), *(duration(ways[first]) for ways in found.values())]
    for name in others:
        cells = (times_as_long(ways[name]) for ways in found.values())
        yield [prefix + as_code(name), *cells]


def compile_ratios(found: dict) -> str:
    """Return a table of first calls: what is compiled, by which way."""
    rows = []
    for kind in next(iter(found.values())):
        of_kind = {size: kinds[kind] for size, kinds in found.items()}
        rows += ratio_rows(of_kind, f"{kind}, ")
    return table(["compiled, way", *found], rows)


def advice(found: dict) -> str:
    """Return a table: by duration of a step and model, the way that asks least.

    A way is good enough if what it adds to Linen's step is at most 5 % of the step.
    """
    sizes = [size for size in found if size != "transformer"]
    rows = []
    for ms in STEPS_MS:
        cells = [good_enough(found[size], ms) for size in sizes]
        rows.append([f"{ms} ms", *(f"`{name}`" for name in cells)])
    return table(["a step takes", *sizes], rows)


def good_enough(entries: dict, step_ms: float) -> str:
    """Return the most convenient way that adds at most 5 % to a step."""
    for name in CONVENIENT:
        added = entries[name]["us"] - entries["Linen"]["us"]
        if added <= AT_MOST * step_ms * 1000:
            return name
    return CONVENIENT[-1]


def about(found: dict) -> str:
    """Return when, where and with which versions the figures were measured."""
    measured = in_words({name: found["versions"][name] for name in RELEASED})
    text = (
        f"Measured on {found['date']} with {measured}, Python {found['python']}, on "
        f"{found['machine']}, in {found['rounds']} rounds.\n"
    )
    return text + other_releases(found["versions"])


def other_releases(versions: dict[str, str]) -> str:
    """Return a warning if figures were measured on other releases than are here."""
    now = {name: version(name) for name in RELEASED}
    if now == {name: versions[name] for name in RELEASED}:
        return ""
    return (
        '\n!!! warning "Measured on other releases"\n\n'
        f"    The pages are verified on {in_words(now)}.\n"
    )


def in_words(versions: dict[str, str]) -> str:
    """Return names and versions as a text."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())
