"""Draws the running mean after each call, for each momentum."""

import numpy as np


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    of_batches = np.array(page.batches.mean(axis=(1, 2)))
    calls = np.arange(1, len(of_batches) + 1)
    axes = figure.subplots()
    axes.plot(calls, of_batches, ".", color="ink", alpha=0.5, label="mean of the batch")
    for line, (momentum, means) in zip(
        (":", "-", "--"), page.curves.items(), strict=True
    ):
        label = f"momentum {momentum}"
        axes.plot(calls, np.array(means), line, color="nnx", label=label)
    axes.set(xlabel="calls", ylabel="running mean")
    axes.legend(frameon=False, loc="lower right")
    said = [f"{m} reaches {float(means[9]):.1f}" for m, means in page.curves.items()]
    return (
        f"Running mean over {len(calls)} calls on batches whose means scatter around "
        f"{of_batches.mean():.1f}, from zero on. After ten calls a momentum of "
        f"{', '.join(said)}. The smaller the momentum, the rougher the curve."
    )
