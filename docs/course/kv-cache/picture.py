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
    figure.set_size_inches(6, 2.6)
    axes = figure.subplots()
    rows, widths = np.arange(steps), seen.sum(axis=1)
    axes.barh(rows, widths, height=0.8, color="nnx")
    behind = (written & ~seen).sum(axis=1)
    rest = {"left": widths[half:], "height": 0.8, "color": "nnx", "alpha": 0.25}
    axes.barh(rows[half:], behind[half:], **rest)
    axes.axhline(half - 0.5, color="ink", linewidth=1)
    axes.set_ylim(steps - 0.5, -0.5)
    axes.set_xlim(0, capacity)
    axes.set_yticks([half / 2 - 0.5, half * 1.5 - 0.5], ["first text", "second text"])
    axes.tick_params(length=0)
    axes.set_xlabel(
        "slots of the cache; full colour: seen by the step, pale: left over"
    )
    return (
        f"{capacity} slots in {steps} decoding steps, {half} for each of two texts. "
        "In each text, a step sees one slot more than the step before. At the start of "
        f"the second, {behind[half]} slots behind the index hold keys of the first."
    )
