"""Draws the losses of a training run, of its alias and of its snapshot."""

import numpy as np


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    live, alias, kept = np.array(page.history).T
    steps = np.arange(len(live))
    axes = figure.subplots()
    axes.plot(steps, live, color="nnx", label="model")
    axes.plot(steps, alias, "o", color="nnx", label="best = nnx.state(model)")
    axes.plot(
        steps, kept, "--", color="ink", label="best = nnx.clone(model, arrays=True)"
    )
    axes.set(xlabel="train steps", ylabel="loss", ylim=(-0.7, None))
    axes.legend(frameon=False)
    best = live.argmin()
    return (
        f"Loss over {len(live) - 1} train steps. It falls from {live[0]:.1f} to "
        f"{live[best]:.1f} at step {best}, and rises again to {live[best:].max():.1f}. "
        "The state that was kept at the lowest loss lies on the curve of the model at "
        f"every step; the clone that was kept there stays at {kept[-1]:.1f}."
    )
