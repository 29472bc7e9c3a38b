"""Draws the slots of one cache while two texts are written: what each step may see."""

import numpy as np


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    written = np.array(page.slots)  # written[step, slot]
    steps, capacity = written.shape
    half = steps // 2
    last = np.arange(steps)[:, None] % half  # the slot that a step writes
    seen = written & (np.arange(capacity) <= last)
    axes = figure.subplots()
    axes.pcolormesh(
        seen * 0.75 + written * 0.25,
        cmap="nnx",
        vmin=0,
        vmax=1,
        edgecolors="ink",
        linewidth=0.3,
    )
    axes.axhline(half, color="ink", linewidth=1.5)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(capacity) + 0.5, range(capacity))
    axes.set_yticks([half / 2, half + half / 2], ["first text", "second text"])
    axes.tick_params(length=0)
    axes.set_xlabel("slot of the cache; full colour: the step sees it, pale: left over")
    left = int((written & ~seen)[half].sum())
    return (
        f"{capacity} slots in {steps} decoding steps, {half} for each of two texts. "
        "In each text, a step sees one slot more than the step before. At the start of "
        f"the second, {left} slots behind the index still hold keys of the first."
    )
