"""Draws the tree of a model: its leaves, coloured by the filter that each went to."""

from flax import nnx

MARKS = ["o", "s", "^", "D", "X"]
COLOURS = ["nnx", "nnx", "nnx", "ink", "ink"]
FILLED = [True, True, False, False, True]


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 3.6)
    axes = figure.subplots()
    went = {}
    for name, part in zip(page.chosen, page.parts, strict=True):
        went.update({path: name for path, _ in nnx.to_flat_state(part)})
    rows = {path: row for row, path in enumerate(sorted(went, key=str))}
    places = {}
    for path, row in rows.items():
        for depth in range(len(path) + 1):
            places.setdefault(path[:depth], []).append(row)
    middle = {node: sum(at) / len(at) for node, at in places.items()}
    for node in middle:
        if node:
            ends = [middle[node[:-1]], middle[node]]
            axes.plot([len(node) - 1, len(node)], ends, color="ink", linewidth=0.4)
        if node not in rows:
            name = str(node[-1]) if node else "model"
            below = node and middle[node] > middle[node[:-1]]
            side = "top" if below else "bottom"
            axes.text(len(node), middle[node], name, ha="right", va=side, size=8)
    for kind, mark, colour, full in zip(
        page.chosen, MARKS, COLOURS, FILLED, strict=True
    ):
        own = [path for path in rows if went[path] == kind]
        face = colour if full else "none"
        x, y = [len(path) for path in own], [rows[path] for path in own]
        style = {"marker": mark, "s": 22, "facecolor": face, "edgecolor": colour}
        axes.scatter(x, y, label=f"{kind}: {len(own)}", **style, zorder=3)
    for path, row in rows.items():
        axes.text(len(path) + 0.08, row, path[-1], va="center", size=8)
    axes.invert_yaxis()
    axes.set_xlim(-0.3, 6.2)
    axes.axis("off")
    axes.legend(loc="center right", frameon=False)
    counts = ", ".join(f"{n} {list(went.values()).count(n)}" for n in page.chosen)
    return f"The tree of the tower with its {len(rows)} leaves, by filter: {counts}."
