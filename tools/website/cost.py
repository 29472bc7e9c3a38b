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
    "jax.jit, as_pure",
)
# What the table alone shows: a line for a way of the same cost, or between others.
UNPLOTTED = ("Linen", "nnx.jit in tree mode", "jax.jit, split once")
AT_MOST = 0.05  # of a step that is awaited
STEPS_MS = (1, 10, 100)
# Figures of other releases of these may be untrue.
RELEASED = ("flax", "jax")


def texts(measured: Path = COSTS) -> dict[str, str]:
    """Return the tables and sentences that pages include, by name of the file."""
    found = json.loads(measured.read_text("utf-8"))
    made = {
        "forward.md": ratios(found["forward"]),
        "step.md": ratios(found["step"]),
        "loop.md": loop_table(found["loop"]),
        "queue.md": queue_sentence(found["queue"]),
        "memory.md": memory_sentence(found["memory"]),
        "construct.md": kinds_table(found["construct"], "built, way"),
        "compile.md": kinds_table(found["compile"], "compiled, way"),
        "cache.md": cache_sentence(found["cache"]),
        "advice.md": advice(found["step"]),
        "about.md": about(found),
    }
    return {name: f"{text}\n" for name, text in made.items()}


PLOTS = {
    "step.svg": lambda found: dots(found["step"], "A train step that is awaited"),
    "loop.svg": lambda found: loop_curves(found["loop"]),
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
    axes = made.subplots()
    axes.tick_params(length=0)
    return made, axes


def as_svg(made, label: str) -> str:
    """Return a figure as SVG in the page's colours, with `label` for screen readers.

    Pages have to be light: what changes nothing that is seen is left out.
    """
    file = io.StringIO()
    made.savefig(file, format="svg")
    svg = notebooks.for_both_schemes(file.getvalue())
    svg = svg.replace(NNX, "var(--nnx)").replace(LINEN, "var(--linen)")
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"| id="[a-z]+_[\d.]+"', "", svg)
    svg = re.sub(r'(?<==")(\d+\.\d)\d+(?=")', r"\1", svg)  # to a tenth of a point
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def dots(found: dict, title: str) -> str:
    """Return a plot of ratios to Linen: a row for each way, a mark for three models."""
    sizes = list(found)
    sizes = list(dict.fromkeys((sizes[0], *sizes[-2:])))  # the tests have two models
    names = [name for name in next(iter(found.values())) if name not in UNPLOTTED]
    made, axes = figure(6, 0.9 + 0.42 * len(names))
    mark = {"color": NNX, "fillstyle": "none", "clip_on": False}
    for marker, size in zip(MARKERS, sizes, strict=False):
        values = [found[size][name]["ratio"] for name in names]
        axes.plot(values, names, marker, label=size, **mark)
    axes.axvline(1, color=LINEN, linestyle="--", clip_on=False)
    axes.text(1, -0.75, "Linen ", color=LINEN, ha="right", weight="bold")
    axes.set_xscale("log")
    largest = max(entry["ratio"] for size in sizes for entry in found[size].values())
    axes.set_xlim(0.7, 1.2 * largest)
    axes.set_xticks([n for n in (1, 2, 5, 10, 20, 50, 100) if n < 1.2 * largest])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.set_xlabel("CPU time, as a multiple of Linen's")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.2, clip_on=False)
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


def loop_curves(found: dict) -> str:
    """Return a plot of what `nnx.jit` adds to a step, awaited or not, by its length."""
    first = next(iter(next(iter(found.values()))["awaited"]))
    steps = [entry["awaited"][first]["us"] / 1000 for entry in found.values()]
    made, axes = figure(6, 2.6)
    largest = 1.0
    looks = {"awaited": ("-", (4, 5), "left"), "queued": ("--", (-4, -13), "right")}
    for kind, (line, offset, side) in looks.items():
        values = [entry[kind]["nnx.jit"]["ratio"] for entry in found.values()]
        largest = max(largest, *values)
        axes.plot(steps, values, f"o{line}", color=NNX, clip_on=False)
        place = {"xytext": offset, "textcoords": "offset points", "ha": side}
        axes.annotate(kind, (steps[1], values[1]), color=NNX, **place)
    axes.axhline(1, color=LINEN, linestyle=":", clip_on=False)
    place = {"xytext": (0, -13), "textcoords": "offset points"}
    axes.annotate("Linen", (steps[0], 1), color=LINEN, weight="bold", **place)
    axes.set_ylim(1 - 0.2 * (largest - 1), 1 + 1.1 * (largest - 1))
    axes.set_xscale("log")
    axes.set_xticks(steps, [f"{step:.2g}" for step in steps])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}×")
    axes.set_xlabel("a step in Linen, ms")
    axes.set_ylabel("a step by nnx.jit")
    axes.grid(alpha=0.2, clip_on=False)
    label = "Wall time of a step by nnx.jit as a multiple of Linen's, by its length: "
    return as_svg(made, label + loop_sentence(found))


def loop_sentence(found: dict) -> str:
    """Return what `nnx.jit` makes of the shortest and of the longest step."""
    entries, parts = list(found.values()), []
    for word, entry in (("shortest", entries[0]), ("longest", entries[-1])):
        awaited, queued = (entry[kind]["nnx.jit"] for kind in ("awaited", "queued"))
        parts.append(
            f"{times_as_long(awaited)} with the {word} step if it is awaited, "
            f"{times_as_long(queued)} if not"
        )
    return f"{'; '.join(parts)}."


def loop_table(found: dict) -> str:
    """Return a table of loops: Linen's step, ratios to it, and the share of Python."""
    first, *others = next(iter(found.values()))["awaited"]
    rows = []
    for kind in ("awaited", "queued"):
        entries = [entry[kind] for entry in found.values()]
        rows.append([f"{first}, {kind}", *(duration(ways[first]) for ways in entries)])
        for name in others:
            cells = (times_as_long(ways[name]) for ways in entries)
            rows.append([f"{as_code(name)}, {kind}", *cells])
    for name in (first, *others):
        cells = (percent(entry["python"][name]) for entry in found.values())
        rows.append([f"{as_code(name)}, in Python", *cells])
    return table(["features", *(f"{int(size):,}" for size in found)], rows)


def queue_sentence(found: dict) -> str:
    """Return what becomes of Python's share when too many steps are queued."""
    (few, share), *_, (many, larger) = found.items()
    return (
        f"In a loop of {few} steps of the smallest transformer by `nnx.as_pure`, the "
        f"last call returned after {percent(share)} of the time; in one of {many}, "
        f"after {percent(larger)}."
    )


def memory_sentence(found: dict) -> str:
    """Return what the arguments and results of a step hold, donated or not."""
    held = {
        name: sizes["arguments"] + sizes["results"] - sizes["reused"]
        for name, sizes in found.items()
    }
    return (
        f"For the step of the transformer, arguments and results hold "
        f"{held['without'] / 1e6:.1f} MB without donation and "
        f"{held['with'] / 1e6:.1f} MB with it."
    )


def curves(found: dict) -> str:
    """Return a plot of a token's CPU time by capacity, with and without a cache."""
    capacities = [int(capacity) for capacity in found]
    made, axes = figure(6, 3.2)
    looks = {
        "without": (notebooks.INK, "o--", "all tokens\nagain"),
        "full": (NNX, "o-", "full cache"),
    }
    times = {
        name: [found[str(capacity)][name]["us"] / 1000 for capacity in capacities]
        for name in ("without", "full", "few")
    }
    for name, (color, line, words) in looks.items():
        axes.plot(capacities, times[name], line, color=color, clip_on=False)
        place = (capacities[-1] * 1.15, times[name][-1])
        axes.text(*place, words, color=color, va="center")
    around = {"markersize": 11, "fillstyle": "none", "clip_on": False}
    label = "a cache with few tokens"
    axes.plot(capacities, times["few"], "o", color=NNX, label=label, **around)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xticks(capacities, [f"{capacity:,}" for capacity in capacities])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("capacity of the cache, in tokens, or tokens passed again")
    axes.set_ylabel("CPU time of a token, ms")
    axes.grid(alpha=0.2, clip_on=False)
    axes.legend(loc="upper left", frameon=False)
    return as_svg(made, f"CPU time of one more token. {cache_sentence(found)}")


def cache_sentence(found: dict) -> str:
    """Return what a token costs by the smallest and by the largest cache."""
    (first, small), *_, (last, large) = found.items()
    grown = {"ratio": large["few"]["us"] / small["few"]["us"]}
    copied = {"ratio": large["copied"]["us"] / large["full"]["us"]}
    return (
        f"With few tokens in the cache, the next one costs {duration(small['few'])} "
        f"if there is room for {int(first):,}, and {times_as_long(grown)} as much if "
        f"there is room for {int(last):,}. Filled up, the larger cache costs "
        f"{times_as_long(large['full'])} what it costs nearly empty. To pass all "
        f"tokens again costs {times_as_long(small['without'])} as much as the cache "
        f"for {int(first):,} of them, and {times_as_long(large['without'])} as much "
        f"for {int(last):,}. A step that does not donate the larger cache copies it, "
        f"and takes {times_as_long(copied)} as long."
    )


def times_as_long(entry: dict) -> str:
    """Return a ratio as a reader says it: two digits, more only if it is larger."""
    ratio = entry["ratio"]
    return f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{100 * share:.0f} %"


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
    """Return the name of a way, with what is code in it as code."""
    return re.sub(r"\b(nnx|jax)\.\w+|\w+=\w+|\bas_pure\b", r"`\g<0>`", name)


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


def kinds_table(found: dict, title: str) -> str:
    """Return a table of kinds, each with times of one way and ratios to them."""
    rows = []
    for kind in next(iter(found.values())):
        of_kind = {size: kinds[kind] for size, kinds in found.items()}
        rows += ratio_rows(of_kind, f"{kind}, ")
    return table([title, *found], rows)


def advice(found: dict) -> str:
    """Return a table: by duration of a step and model, the way that asks least."""
    sizes = [size for size in found if size != "transformer"]
    rows = []
    for kind, awaited in {"queued": False, "awaited": True}.items():
        for ms in STEPS_MS:
            cells = [good_enough(found[size], ms, awaited=awaited) for size in sizes]
            rows.append([f"{ms} ms, {kind}", *map(as_code, cells)])
    return table(["a step takes", *sizes], rows, align="---")


def good_enough(entries: dict, step_ms: float, *, awaited: bool) -> str:
    """Return the most convenient way for a step, or "none", or "no such step".

    An awaited step may take 5 % longer than Linen's. A call that is not awaited may
    take as long as the step. There is no step that is shorter than Linen's own call.

    Args:
      entries: what was measured, by way.
      step_ms: how long the step takes on the device.
      awaited: whether the loop waits for each step.
    """
    linen = entries["Linen"]["us"]
    if linen > step_ms * 1000:
        return "no such step"
    for name in CONVENIENT:
        call = linen * entries[name]["ratio"]
        spare = AT_MOST * step_ms * 1000 + linen if awaited else step_ms * 1000
        if call <= spare:
            return name
    return "none"


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
