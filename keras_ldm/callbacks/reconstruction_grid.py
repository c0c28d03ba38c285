"""Images above their reconstructions, epoch by epoch."""

from pathlib import Path

import numpy as np
from PIL import Image

from keras_ldm.callbacks.picture import PictureCallback
from keras_ldm.images import check_images, to_floats, to_uint8
from keras_ldm.types import Array


class ReconstructionGrid(PictureCallback):
    """Draws images above what an `AutoencoderTask` makes of them.

    The reconstructions are those of `predict`: with the averaged weights, where there are any.

    Args:
        images: a few, uint8 or floats in [-1, 1], `(N, height, width, channels)`, 1 or 3 channels.
        folder: where `reconstructions_0001.png`, ... go; None for no files.
        log_dir: of TensorBoard; None for none.
        every: epochs between two pictures. The last epoch of a training always has one.
        columns: images in a row.

    Raises:
        ValueError: for images that cannot be drawn, or arguments out of range.
        ImportError: if TensorBoard is needed and not installed.

    Example:

    ```python
    first_stage.fit(images, epochs=50, callbacks=[
        keras_ldm.callbacks.ReconstructionGrid(images[:8], "runs/mine", log_dir="runs/logs", every=5),
        keras.callbacks.TensorBoard("runs/logs"),
    ])
    ```
    """

    def __init__(
        self,
        images: Array,
        folder: str | Path | None = None,
        *,
        log_dir: str | Path | None = None,
        every: int = 1,
        columns: int = 8,
    ) -> None:
        super().__init__("reconstructions", folder, log_dir, every)
        shape = np.shape(images)
        if len(shape) != 4 or shape[-1] not in (1, 3) or not shape[0]:
            raise ValueError(
                "Expected at least one image, (N, height, width, 1 or 3), to draw. "
                f"Received: shape {shape}"
            )
        if not isinstance(columns, int) or columns < 1:
            raise ValueError(f"Expected `columns` >= 1. Received: {columns!r}")
        self.images = check_images(images, shape[-1], 1)
        self.columns = columns

    def draw(self) -> Image.Image:
        """Rows of images, each with a row of reconstructions under it."""
        originals = to_uint8(np.asarray(to_floats(self.images)))
        reconstructions = to_uint8(self.model.predict(self.images, verbose=0))
        count, height, width, channels = originals.shape
        columns = min(self.columns, count)
        rows = -(-count // columns)
        canvas = np.full((rows, 2, height, columns, width, channels), 255, np.uint8)
        for index in range(count):
            row, column = divmod(index, columns)
            canvas[row, 0, :, column] = originals[index]
            canvas[row, 1, :, column] = reconstructions[index]
        sheet = canvas.reshape(rows * 2 * height, columns * width, channels)
        return Image.fromarray(np.repeat(sheet, 3 // channels, axis=-1))
