"""Draws a loss along its input, with one dropout key for all points and with many."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.6)
    axes = figure.subplots()
    same, other = page.losses["one key"], page.losses["a key for each"]
    axes.plot(page.steps, same, color="nnx", label="one key")
    axes.plot(page.steps, other, "o", color="ink", ms=4, label="a key for each")
    axes.set(xlabel="added to each feature", ylabel="loss")
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return (
        f"The loss at {len(same)} inputs. With one key it rises from {same[0]:.0f} to "
        f"{same[-1]:.0f} along a line; with a key for each it jumps between "
        f"{other.min():.0f} and {other.max():.0f}."
    )
