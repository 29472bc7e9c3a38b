"""Draws the norm of the features by depth: a plain stack against a residual one."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    axes = figure.subplots()
    last = len(page.plain) - 1
    for norms, color, name in (
        (page.residual, "nnx", "with the skip"),
        (page.plain, "ink", "without"),
    ):
        axes.plot(range(last + 1), norms, color=color)
        axes.text(last + 0.5, norms[-1], name, color=color, va="center")
    axes.set_yscale("log")
    axes.set_xlim(0, last + 6)
    axes.set_xticks(range(0, last + 1, 6))
    axes.set_xlabel("layers passed")
    axes.set_ylabel("norm of the features")
    return (
        f"Norm of the features after each of {last} layers, on a logarithmic axis: "
        f"without the skip it falls from 1 to {page.plain[-1]:.0e}, with the skip it "
        f"rises to {page.residual[-1]:.0f}."
    )
