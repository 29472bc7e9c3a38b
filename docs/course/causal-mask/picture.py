"""Draws attention weights without a mask, with the causal one, and with padding too."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.6)
    shown = {
        "no mask": page.plain,
        "is_causal=True": page.causal,
        "and padding": page.padded,
    }
    length = len(page.plain)
    middles = [at + 0.5 for at in range(length)]
    for panel, (name, weights) in zip(
        figure.subplots(1, len(shown)), shown.items(), strict=True
    ):
        panel.pcolormesh(weights, cmap="nnx", vmin=0, vmax=1)
        for query, key in zip(*(weights == 0).nonzero(), strict=True):
            panel.plot(key + 0.5, query + 0.5, "x", color="ink", markersize=3)
        panel.set_title(name, fontsize=12)
        panel.set_aspect("equal")
        panel.invert_yaxis()
        panel.set_xticks(middles, range(length))
        panel.set_yticks(middles, range(length))
        panel.tick_params(length=0)
        panel.set_xlabel("key", labelpad=2)
    figure.axes[0].set_ylabel("query")
    zeros = [int((weights == 0).sum()) for weights in shown.values()]
    return (
        f"Attention weights of {length} queries by {length} keys. Crosses mark weights "
        f"of zero: {zeros[0]} without a mask, {zeros[1]} with the causal one, those "
        f"above the diagonal, and {zeros[2]} with padding, the last column included."
    )
