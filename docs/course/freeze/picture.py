"""Draws how far each array of the model moves, trained in whole and by its head."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    figure.set_size_inches(6, 2.4)
    axes, told = figure.subplots(), []
    names = [".".join(path) for path in page.moved["wrt=head"]]
    for wrt, color, shift in (
        ("wrt=nnx.Param", "ink", 0.2),
        ("wrt=head", "nnx", -0.2),
    ):
        distances = [page.moved[wrt][tuple(name.split("."))] for name in names]
        places = [len(names) - row + shift for row in range(len(names))]
        axes.barh(places, distances, 0.34, color=color, label=wrt)
        pairs = zip(names, distances, strict=True)
        told.append(f"{wrt}: " + ", ".join(f"{n} {value:.2f}" for n, value in pairs))
    axes.set_yticks(range(len(names), 0, -1), names)
    axes.set_xlim(0, 0.8)
    axes.set_xlabel("largest move in ten steps")
    axes.legend(loc="center right")
    return f"How far each array moves in ten steps. With {'; with '.join(told)}."
