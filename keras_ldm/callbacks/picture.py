"""A picture after every so many epochs, as a PNG file and in TensorBoard."""

import io
import time
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import keras
from PIL import Image

from keras_ldm.files import atomic_path
from keras_ldm.images import NonFiniteImagesError


class PictureCallback(keras.callbacks.Callback):
    """Draws a picture after every so many epochs; a subclass says what is on it.

    Where the model gives NaN there is none, and a warning: it is not for a picture to end a training.

    Args:
        tag: the name in TensorBoard, and the start of the files' names.
        folder: where the files `{tag}_{epoch:04d}.png` go; made if it is missing. None for no files.
        log_dir: of TensorBoard, that of `keras.callbacks.TensorBoard` or another; None for none.
            Needs the package `tensorboard`, not TensorFlow.
        every: epochs between two pictures. The last epoch of a training always has one.

    Raises:
        ValueError: if there is neither folder nor log_dir, or `every` is less than 1.
        NotADirectoryError: if one of them is a file.
        ImportError: if TensorBoard is needed and not installed; the message names the command.
    """

    def __init__(
        self,
        tag: str,
        folder: str | Path | None,
        log_dir: str | Path | None,
        every: int,
    ) -> None:
        super().__init__()
        if folder is None and log_dir is None:
            raise ValueError("Expected a `folder` for pictures, a `log_dir`, or both. Received: neither")
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"Expected `every` as a number of epochs >= 1. Received: {every!r}")
        for path in (folder, log_dir):
            if path is not None and Path(path).exists() and not Path(path).is_dir():
                raise NotADirectoryError(f"Expected a folder. Received: {str(path)!r}, a file")
        self.tag = tag
        self.folder = None if folder is None else Path(folder)
        self.log_dir = None if log_dir is None else Path(log_dir)
        self.every = every
        self._drawn: int | None = None
        self._writer: Any = None
        if log_dir is not None:
            _tensorboard()

    @abstractmethod
    def draw(self) -> Image.Image:
        """The picture of `self.model` as it is."""

    def numbers(self) -> dict[str, float]:
        """Numbers that belong to the picture just drawn, for TensorBoard beside it; by default none."""
        return {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws, if it is time to."""
        self._epoch = epoch + 1
        is_last = (self.params or {}).get("epochs") == self._epoch or self.model.stop_training
        if self._epoch % self.every == 0 or is_last:
            self._write()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to count."""
        self._epoch, self._drawn = 0, None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Draws the last epoch, where only a callback behind this one made it the last."""
        if self._epoch and self._drawn != self._epoch:
            self._write()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self) -> None:
        self._drawn = self._epoch
        try:
            picture = self.draw()
        except NonFiniteImagesError as error:
            warnings.warn(f"No picture of {self.tag} after epoch {self._epoch}. {error}", stacklevel=2)
            return
        if self.folder is not None:
            with atomic_path(self.folder / f"{self.tag}_{self._epoch:04d}.png") as path:
                picture.save(path)
        if self.log_dir is not None:
            self._log(picture)

    def _log(self, picture: Image.Image) -> None:
        writing, events, summaries = _tensorboard()
        if self._writer is None:
            self._writer = writing.EventFileWriter(str(self.log_dir / "pictures"))  # type: ignore[operator]
        encoded = io.BytesIO()
        picture.save(encoded, "png")
        image = summaries.Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=3,
            encoded_image_string=encoded.getvalue(),
        )
        values = [summaries.Summary.Value(tag=self.tag, image=image)]
        for name, number in self.numbers().items():
            values.append(summaries.Summary.Value(tag=f"{self.tag}/{name}", simple_value=number))
        event = events.Event(wall_time=time.time(), step=self._epoch)
        event.summary.CopyFrom(summaries.Summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()


def _tensorboard() -> tuple[Any, Any, Any]:
    """The modules of TensorBoard that write events.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer import event_file_writer
    except ImportError as error:
        raise ImportError(
            "Expected the package tensorboard, which `log_dir` needs: pip install tensorboard"
        ) from error
    return event_file_writer, event_pb2, summary_pb2
