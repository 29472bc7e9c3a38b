"""Draws two features of a batch before and after batch norm, as histograms."""

import numpy as np


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    panels = figure.subplots(1, 2, sharey=True)
    before, after = np.array(page.batch), np.array(page.normed)
    for axes, values, title in zip(
        panels, (before, after), ("input", "output in train mode"), strict=True
    ):
        bins = np.linspace(np.floor(values.min()), np.ceil(values.max()), 31)
        for feature, color in enumerate(("nnx", "ink")):
            drawn = {"bins": bins, "histtype": "step", "color": color}
            axes.hist(
                values[:, feature], **drawn, linewidth=2, label=f"feature {feature}"
            )
        axes.set(xlabel=title)
    panels[0].set(ylabel="rows")
    panels[0].legend(frameon=False, loc="upper right")
    (one, two), (wide, narrow) = before.mean(axis=0), before.std(axis=0)
    return (
        f"Histograms of two features of {len(before)} rows. In the input their means "
        f"are {one:.0f} and {two:.0f}, and their standard deviations {wide:.1f} and "
        f"{narrow:.1f}. In the output both lie around zero with a standard deviation "
        "of one, on top of each other."
    )
