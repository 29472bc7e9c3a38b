"""Draws the losses of NNX's and Linen's loop, in training and on held-out rows."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.8)
    axes, epochs, told = figure.subplots(), range(1, 1 + len(page.curve)), []
    for at, (kind, style) in enumerate((("train", "-"), ("held out", "--"))):
        nnx = [float(pair[at]) for pair in page.curve]
        linen = [float(pair[at]) for pair in page.linen_curve]
        axes.plot(epochs, nnx, style, color="nnx", label=f"NNX, {kind}")
        label = "Linen" if at else None
        axes.plot(epochs, linen, "o", color="linen", markersize=4, label=label)
        told.append(f"{kind} from {nnx[0]:.2f} to {nnx[-1]:.2f}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared error")
    axes.set_ylim(0)
    axes.legend()
    return f"Losses by epoch: {' and '.join(told)}; Linen's points lie on NNX's lines."
