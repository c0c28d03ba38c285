"""How well images show what their captions say.

    CLIP score = mean of max(100 · cos(E_image, E_caption), 0)

with the embeddings E of a CLIP. The paper has 2.5 in the place of 100; torchmetrics has 100, and takes
the maximum of the mean and 0, which is the same where no image is worse than unrelated to its caption.

Reference: Hessel et al. 2021, https://arxiv.org/abs/2104.08718, equation 1.
"""

import os
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_ldm.images import check_images
from keras_ldm.models.clip import CLIP
from keras_ldm.models.clip_weights import pretrained_clip
from keras_ldm.types import Array, Tensor

_SCALE = 100.0


class CLIPScore(keras.metrics.Mean):
    """Mean CLIP score of images and captions, from 0 to 100.

    Numbers of different CLIPs do not compare. The metric takes strings, so it works outside `fit`, and
    its networks are no part of a configuration.

    Args:
        clip: the networks and the tokenizer, from `keras_ldm.models.pretrained_clip`.
        name: of the metric.
        **kwargs: see `keras.metrics.Mean`.

    Reference: Hessel et al. 2021, https://arxiv.org/abs/2104.08718.

    Example:

    ```python
    metric = keras_ldm.metrics.CLIPScore.from_folder("clip-vit-base-patch32")
    metric.update_state(images, ["a red heart", "a pizza"])    # (2, height, width, 3)
    metric.result()
    ```
    """

    def __init__(self, clip: CLIP, *, name: str = "clip_score", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.clip = clip

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **kwargs: Any) -> Self:
        """A metric with the CLIP in a folder.

        Args:
            folder: see `keras_ldm.models.pretrained_clip`.
            **kwargs: see `CLIPScore`.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is damaged, is of another model, or lacks a weight.
        """
        return cls(pretrained_clip(folder), **kwargs)

    def update_state(
        self,
        images: Tensor,
        captions: Sequence[str | bytes] | Array,
        sample_weight: Tensor = None,
    ) -> None:
        """Takes in a batch.

        Args:
            images: `(batch, height, width, 3)`, uint8 or floats in [-1, 1].
            captions: a string for each, cut to the tokens that the CLIP takes.
            sample_weight: `(batch,)`, or None.

        Raises:
            ValueError: for what are no such images, or not a caption for each.
        """
        images = ops.convert_to_tensor(check_images(ops.convert_to_numpy(images), 3, 1, "images"))
        tokens = self.clip.tokens(captions)
        if images.shape[0] != len(tokens):
            raise ValueError(
                "Expected a caption for each image. "
                f"Received: images of shape {tuple(images.shape)}, {len(tokens)} captions"
            )
        a = self.clip.image_network(images)["pooled"]
        b = self.clip.text_network(ops.convert_to_tensor(tokens))
        lengths = ops.norm(a, axis=-1) * ops.norm(b, axis=-1)
        cosines = ops.sum(a * b, axis=-1) / lengths
        super().update_state(ops.maximum(_SCALE * cosines, 0.0), sample_weight)
