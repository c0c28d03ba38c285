"""The experiments' figures: curves, and rows of pictures with a label to their left."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

import keras_ldm as kl

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def curves(
    path: Path,
    panels: Mapping[tuple[str, str], Curves],
    *,
    log_x: bool = False,
    log_y: Sequence[str] = ("Fréchet distance",),
    notes: Sequence[float] | None = None,
) -> None:
    """Draws panels beside one another.

    Args:
        path: of the PNG file.
        panels: the curves of each, by the names of its axes, x and y.
        log_x: whether the x axes are logarithmic.
        log_y: names of y axes that are.
        notes: of each curve's points, in the first panel.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.6), squeeze=False)
    for place, (((x_name, y_name), lines), axis) in enumerate(zip(panels.items(), axes[0], strict=True)):
        for label, (x, y) in lines.items():
            axis.plot(x, y, "o-", ms=3.5, lw=1.4, label=label)
            for note, at_x, at_y in zip(notes or (), x, y, strict=False):
                if place == 0:
                    axis.annotate(f"{note:g}", (at_x, at_y), fontsize=7, xytext=(3, 3),
                                  textcoords="offset points")  # fmt: skip
        axis.set(xlabel=x_name, ylabel=y_name)
        for scale, is_log in ((axis.xaxis, log_x), (axis.yaxis, y_name in log_y)):
            if is_log:
                (axis.set_xscale if scale is axis.xaxis else axis.set_yscale)("log")
                scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                scale.set_major_formatter("{x:g}")
                scale.set_minor_formatter("")
        axis.grid(alpha=0.3, which="both")
    axes[0][-1].legend(fontsize=8)
    figure.tight_layout()
    with kl.files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def rows(path: Path, pictures: Mapping[str, np.ndarray], side: int = 40, left: int = 110) -> None:
    """Draws rows of pictures.

    Args:
        path: of the PNG file.
        pictures: by label, uint8 `(N, height, width, 1)`.
        side: of a picture as it is drawn, in pixels.
        left: room for the labels.
    """
    most = max(map(len, pictures.values()))
    canvas = Image.new("RGB", (left + side * most, side * len(pictures)), "white")
    pen = ImageDraw.Draw(canvas)
    for row, (label, images) in enumerate(pictures.items()):
        pen.text((4, (row + 0.5) * side), label, fill="black", anchor="lm")
        for column, image in enumerate(images):
            tile = Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.LANCZOS)
            canvas.paste(tile, (left + column * side, row * side))
    with kl.files.atomic_path(path) as temporary:
        canvas.save(temporary, "png")
