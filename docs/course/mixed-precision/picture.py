"""Draws the loss of each step for three choices of dtypes, from the same weights."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.8)
    axes, told = figure.subplots(), []
    looks = {"float32": ("ink", "-", 3.0), "mixed": ("nnx", "--", 1.5)}
    for name, losses in page.curves.items():
        dtype, stored = page.policies[name]
        color, line, width = looks.get(name, ("ink", ":", 1.5))
        label = f"{dtype.__name__}, stored in {stored.__name__}"
        steps = range(1, 1 + len(losses))
        axes.plot(steps, losses, line, color=color, linewidth=width, label=label)
        told.append(f"{label}: from {losses[0]:.1f} to {losses[-1]:.1f}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(0)
    axes.legend()
    return f"The loss of each step. {'; '.join(told)}."
