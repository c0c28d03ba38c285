"""How often each code of a codebook is chosen, epoch by epoch."""

from pathlib import Path

import numpy as np
from keras import ops
from PIL import Image, ImageDraw

from keras_ldm.callbacks.picture import PictureCallback
from keras_ldm.metrics import CodePerplexity, CodeUsage
from keras_ldm.models import VQModel
from keras_ldm.types import Array


class CodebookHistogram(PictureCallback):
    """Draws how often a `VQModel`'s codes are chosen for images, from the most frequent code on.

    A level line is a codebook in full use; one that falls to the ground early is collapsing. The share
    of codes in use and the perplexity stand above it. After each picture `usage` and `perplexity` hold
    these two, of all the images together (the logs' `code_usage` is that of the epoch's batches).

    Args:
        images: uint8 or floats in [-1, 1], `(N, height, width, channels)`; so many that they have
            several times as many positions of latents as the book has codes.
        folder: where `codebook_0001.png`, ... go; None for no files.
        log_dir: of TensorBoard; None for none.
        every: epochs between two pictures. The last epoch of a training always has one.
        batch_size: images encoded at a time.

    Raises:
        ValueError: for arguments out of range; when training begins, for a model without a codebook.
        ImportError: if TensorBoard is needed and not installed.
    """

    def __init__(
        self,
        images: Array,
        folder: str | Path | None = None,
        *,
        log_dir: str | Path | None = None,
        every: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__("codebook", folder, log_dir, every)
        self.images = images
        self.batch_size = batch_size
        self.usage: float | None = None
        self.perplexity: float | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Checks that there is a codebook."""
        autoencoder = getattr(self.model, "autoencoder", None)
        if not isinstance(autoencoder, VQModel):
            raise ValueError(
                "Expected a task that trains a VQModel, whose codebook can be drawn. "
                f"Received: {type(self.model).__name__} of {type(autoencoder).__name__}"
            )
        super().on_train_begin(logs)

    def draw(self) -> Image.Image:
        """Counts the codes, and draws them."""
        counts = self._counts()
        return _plot(np.sort(counts)[::-1], f"usage {self.usage:.1%}, perplexity {self.perplexity:.0f}")

    def _counts(self) -> Array:
        num_codes = self.model.autoencoder.quantizer.num_codes
        usage, perplexity = CodeUsage(num_codes), CodePerplexity(num_codes)
        indices = self.model.code_indices(self.images, batch_size=self.batch_size, verbose=0)
        for metric in (usage, perplexity):
            metric.update_state(indices)
        self.usage, self.perplexity = float(usage.result()), float(perplexity.result())
        return ops.convert_to_numpy(usage.counts)


def _plot(counts: Array, title: str) -> Image.Image:
    """Falling counts in a frame, on a logarithmic scale from 1."""
    width, height, left, margin = 640, 320, 60, 40
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    top = max(float(counts.max()), 2.0)
    right, bottom = width - 20, height - margin
    xs = np.linspace(left, right, len(counts))
    shares = np.log(np.maximum(counts, 1.0)) / np.log(top)
    ys = bottom - shares * (bottom - margin)
    used = int((counts > 0).sum())
    draw.rectangle((left, margin, right, bottom), outline="lightgray")
    places = list(zip(xs[:used], ys[:used], strict=True))
    draw.polygon([(left, bottom), *places, (places[-1][0], bottom)], fill=(40, 80, 200))
    draw.text(((left + right) / 2, 14), title, fill="black", anchor="ma")
    for value, y in ((top, margin), (1, bottom - 10)):
        draw.text((left - 6, y), f"{value:.0f}", fill="black", anchor="ra")
    draw.text((left, bottom + 8), "most frequent", fill="black", anchor="la")
    draw.text((right, bottom + 8), f"{len(counts)} codes", fill="black", anchor="ra")
    return canvas
