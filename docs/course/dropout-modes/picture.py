"""Draws the masks of three calls of dropout, for each way to call it."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 1.7)
    said = []
    panels = figure.subplots(1, len(page.kept))
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
        axes.set_xlabel("features")
        axes.invert_yaxis()
        different = len({tuple(mask.tolist()) for mask in masks})
        share = masks.sum() / masks.size
        kind = "three masks" if different == 3 else "one mask, three times"
        said.append(f"with {way} {kind}, which keep {share:.0%}")
    panels[0].set_ylabel("call")
    return f"Which of {masks.shape[1]} features three calls keep: {'; '.join(said)}."
