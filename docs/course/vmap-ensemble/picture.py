"""Draws what the trained members predict, near the data and far from them."""

import jax.numpy as jnp
import numpy as np


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    grid = jnp.linspace(-3, 3, 301)[:, None]
    curves = np.array(page.predict(page.ensemble, grid))
    axes = figure.subplots()
    for curve in curves:
        label = "members" if curve is curves[0] else None
        axes.plot(grid[:, 0], curve, color="nnx", linewidth=1.2, label=label)
    axes.plot(page.x[:, 0], page.targets, "o", color="ink", markersize=4, label="data")
    axes.set(xlabel="x", ylabel="prediction")
    axes.legend(frameon=False)
    spread = curves.std(axis=0)
    inside = np.abs(np.array(grid[:, 0])) <= 1
    return (
        f"What {len(curves)} members predict for x from -3 to 3; data lie from -1 "
        f"to 1. There the members differ by {spread[inside].mean():.2f} on average, at "
        f"x = -3 by {spread[0]:.1f} and at x = 3 by {spread[-1]:.1f}."
    )
