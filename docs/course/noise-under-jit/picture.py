"""Draws the dropout masks of three calls: eager, compiled, and with keys passed."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.8)
    said = []
    panels = figure.subplots(2, 2).flat
    for axes, (way, masks) in zip(panels, page.kept.items(), strict=True):
        axes.pcolormesh(
            masks.astype(int),
            cmap="nnx",
            vmin=0,
            vmax=1,
            edgecolor="ink",
            linewidth=0.4,
        )
        axes.set(title=way, xticks=[], yticks=[0.5, 1.5, 2.5], yticklabels=[1, 2, 3])
        axes.set_ylabel("call")
        axes.invert_yaxis()
        different = len({tuple(mask.tolist()) for mask in masks})
        said.append(f"{way}: {'all three differ' if different == 3 else 'all are one'}")
    return f"Which features three calls of dropout keep. {'; '.join(said)}."
