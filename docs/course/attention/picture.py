"""Draws the attention weights of one sequence: queries by keys, in each head."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    heads = page.weights[0]
    length = heads.shape[-1]
    figure.set_size_inches(6, 3.4)
    for head, axes in enumerate(figure.subplots(1, len(heads))):
        axes.pcolormesh(heads[head], cmap="nnx", vmin=0, vmax=1.6)
        for query, row in enumerate(heads[head]):
            largest = int(row.argmax())
            axes.text(
                largest + 0.5,
                query + 0.5,
                f"{100 * row[largest]:.0f}",
                ha="center",
                va="center",
                color="ink",
            )
        axes.set_title(f"head {head}")
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_xticks([at + 0.5 for at in range(length)], range(length))
        axes.set_yticks([at + 0.5 for at in range(length)], range(length))
        axes.tick_params(length=0)
        axes.set_xlabel("key", labelpad=2)
        axes.set_ylabel("query")
    favourites = [", ".join(map(str, head.argmax(axis=-1).tolist())) for head in heads]
    return (
        f"Attention weights of the first sequence, {length} queries by {length} keys, "
        "with the largest of each row in per cent. It is at key "
        + "; ".join(f"{found} in head {n}" for n, found in enumerate(favourites))
        + ", for the queries in order."
    )
