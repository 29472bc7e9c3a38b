"""Draws memory and operations of a gradient, with and without remat."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.4)
    panels, said = figure.subplots(1, 2, sharey=True), []
    columns = {"memory": page.memory, "operations": page.operations}
    for axes, (title, values) in zip(panels, columns.items(), strict=True):
        shares = [round(float(value / values[0]), 2) for value in values]
        axes.barh(list(page.costs), shares, 0.6, color="nnx")
        axes.set_xlabel(f"{title}, as it is = 1")
        named = zip(page.costs, shares, strict=True)
        said += [f"{way} {share:.1f}" for way, share in named]
    panels[0].invert_yaxis()
    half = len(said) // 2
    return (
        f"Memory and operations of a gradient. Memory: {', '.join(said[:half])}. "
        f"Operations: {', '.join(said[half:])}."
    )
