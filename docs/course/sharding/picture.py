"""Draws where the parts of a batch and of two kernels lie: the devices of each part."""


def draw(page, figure):
    """Return, in words, what the figure shows, for who cannot see it.

    Args:
      page: the names of the page, after all its blocks have run.
      figure: an empty matplotlib figure, 6 by 3.2 inches.
    """
    arrays = {
        "x": (page.rows[0], "batch", "in_features"),
        "hidden.kernel": (page.model.hidden.kernel[...], "in_features", "hidden"),
        "out.kernel": (page.model.out.kernel[...], "hidden", "out_features"),
    }
    figure.set_size_inches(6, 2.4)
    told = []
    for axes, (name, (array, down, across)) in zip(
        figure.subplots(1, len(arrays)), arrays.items(), strict=True
    ):
        parts = {}
        for shard in array.addressable_shards:
            spans = [
                part.indices(size)[:2]
                for part, size in zip(shard.index, array.shape, strict=True)
            ]
            parts.setdefault(tuple(spans), []).append(shard.device.id)
        for ((top, bottom), (left, right)), devices in parts.items():
            box = [left / array.shape[1], right / array.shape[1]]
            side = [top / array.shape[0], bottom / array.shape[0]]
            x, y = [*box, *box[::-1], box[0]], [side[0]] * 2 + [side[1]] * 2 + side[:1]
            axes.plot(x, y, color="nnx", clip_on=False)
            half = (len(devices) + 1) // 2 if len(devices) > 2 else len(devices)
            lines = [devices[:half], devices[half:]]
            text = "\n".join(" ".join(map(str, line)) for line in lines if line)
            axes.text(
                sum(box) / 2, sum(side) / 2, text, ha="center", va="center", size=8
            )
        axes.set_title(name, size=9)
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlim(0, 1)
        axes.set_ylim(1, 0)
        held = ", ".join("+".join(map(str, devices)) for devices in parts.values())
        told.append(f"{name}, {len(parts)} parts on devices {held}")
    return f"Where the parts of arrays lie: {'; '.join(told)}."
