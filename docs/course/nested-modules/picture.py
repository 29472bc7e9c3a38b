"""Draws the model as a tree: a path of its state leads from left to right."""

from flax import nnx


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.2)
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    state = nnx.to_flat_state(nnx.state(page.model, nnx.Param))
    shapes = {path: param.shape for path, param in state}
    parts = list(dict.fromkeys(part for part, _ in shapes))
    heights = {path: 0.9 - 0.8 * n / (len(shapes) - 1) for n, path in enumerate(shapes)}

    for part in parts:
        own = [y for path, y in heights.items() if path[0] == part]
        middle = sum(own) / len(own)
        for path in shapes:
            if path[0] == part:
                label = f"{path[1]} {shapes[path]}"
                axes.plot([0.5, 0.66], [middle, heights[path]], color="ink", lw=1)
                axes.text(0.68, heights[path], label, va="center", color="nnx")
        axes.plot([0.16, 0.32], [0.5, middle], color="ink", lw=1)
        axes.text(0.34, middle, part, va="center")
    axes.text(0.02, 0.5, "model", va="center")
    paths = ", ".join(f"{'/'.join(path)} {shape}" for path, shape in shapes.items())
    return f"The model as a tree of names, from the root to the parameters: {paths}."
