"""Draws the loss of each step by one rule: plain, clipped, and clipped and decaying."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    axes, told = figure.subplots(), []
    looks = (("ink", ":"), ("ink", "--"), ("nnx", "-"))
    for (name, losses), (color, line) in zip(page.curves.items(), looks, strict=True):
        axes.plot(range(1, 1 + len(losses)), losses, line, color=color, label=name)
        told.append(f"rate {name}, from {losses[0]:.2f} to {losses[-1]:.2g}")
    axes.set_yscale("log")
    axes.set_ylim(0.015, 10)
    axes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.minorticks_off()
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(title="rate of SGD")
    return f"The loss of each step: {'; '.join(told)}."
