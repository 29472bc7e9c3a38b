"""Draws the model as a tree, each Variable marked by its type."""

from flax import nnx


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    marks = {
        "Param": ("o", "nnx"),
        "BatchStat": ("o", "none"),
        "CallCount": ("s", "ink"),
    }
    found = [
        (path, kind.__name__, variable.size)
        for kind in page.types
        for path, variable in nnx.to_flat_state(nnx.state(page.model, kind))
    ]
    order = ["linear", "norm", "calls"]
    found.sort(key=lambda one: order.index(one[0][0]))
    axes, shown = figure.subplots(), set()
    middle = (1 - len(found)) / 2
    parts = {
        part: [-n for n, one in enumerate(found) if one[0][0] == part] for part in order
    }
    axes.text(0.0, middle, "model ", ha="right", va="center")
    for part, rows in parts.items():
        height = sum(rows) / len(rows)
        axes.plot([0.05, 1.0], [middle, height], color="ink", lw=1, alpha=0.5)
        if len(rows) > 1:
            axes.text(1.05, height, part, va="center")
    for row, (path, kind, size) in enumerate(found):
        if len(path) > 1:
            rows = parts[path[0]]
            height = sum(rows) / len(rows)
            axes.plot([1.75, 2.6], [height, -row], color="ink", lw=1, alpha=0.5)
        x = 2.7 if len(path) > 1 else 1.1
        marker, face = marks[kind]
        edge = "ink" if face == "ink" else "nnx"
        label = None if kind in shown else kind
        shown.add(kind)
        style = {"mec": edge, "mfc": face, "ms": 9, "mew": 2}
        axes.plot([x], [-row], marker, **style, ls="none", label=label)
        axes.text(x + 0.15, -row, f"{path[-1]} ({size})", va="center")
    axes.set(xlim=(-0.6, 5.6), ylim=(0.7 - len(found), 0.7))
    axes.axis("off")
    axes.legend(frameon=False, loc="center right")
    listed = ", ".join(f"{'.'.join(path)} is a {kind}" for path, kind, _ in found)
    return f"The model as a tree of its Variables, marked by type: {listed}."
