"""Both sides of a CLIP: images and captions in one space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from keras_ldm.models.clip_image_network import CLIPImageNetwork
from keras_ldm.models.clip_text_network import CLIPTextNetwork
from keras_ldm.types import Array


@dataclass(frozen=True, eq=False)
class CLIP:
    """The two networks of a CLIP and the tokenizer of its captions; `pretrained_clip` reads one.

    Attributes:
        image_network: from images to their features, "pooled" among them.
        text_network: from token ids to features that compare with those.
        tokenizer: `keras_nlp.models.CLIPTokenizer`.
    """

    image_network: CLIPImageNetwork
    text_network: CLIPTextNetwork
    tokenizer: Any

    def tokens(self, captions: Sequence[str | bytes] | Array) -> Array:
        """Token ids of captions, between start and end token, cut or padded to one length.

        Args:
            captions: strings or their UTF-8, `(batch,)`.

        Returns:
            int32 `(batch, text_network.max_length)`.

        Raises:
            ValueError: for anything else.
        """
        values = np.asarray(captions)
        texts = [x.decode("utf-8") if isinstance(x, bytes) else x for x in values.ravel().tolist()]
        if values.ndim != 1 or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                "Expected captions to be a one-dimensional array of strings. "
                f"Received: shape {values.shape}, dtype {values.dtype}"
            )
        return np.asarray(ops.convert_to_numpy(self._packer(self.tokenizer(texts))), np.int32)

    @cached_property
    def _packer(self) -> Any:
        import keras_nlp

        return keras_nlp.layers.StartEndPacker(
            self.text_network.max_length,
            self.tokenizer.start_token_id,
            self.tokenizer.end_token_id,
            self.tokenizer.end_token_id,
        )


def clip_tokenizer(vocabulary: Mapping[str, int], merges: Sequence[str]) -> Any:
    """CLIP's tokenizer, which is keras_nlp's.

    Args:
        vocabulary: ids of the tokens, `<|startoftext|>` and `<|endoftext|>` among them.
        merges: pairs of tokens that become one, the most frequent first, with a space between.

    Returns:
        `keras_nlp.models.CLIPTokenizer`.

    Raises:
        ValueError: if one of those two, or a token of a pair, is not in the vocabulary.
    """
    for merge in merges:
        pair = merge.split(" ")
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise ValueError(
                "Expected pairs of tokens which, as what they become, are in the vocabulary. "
                f"Received: {merge!r}"
            )
    import keras_nlp

    tokenizer = keras_nlp.models.CLIPTokenizer(pad_with_end_token=True)
    # Where there is no TensorFlow, it asks for these before it has set them.
    tokenizer.vocabulary, tokenizer.merges = dict(vocabulary), list(merges)
    tokenizer.set_vocabulary_and_merges(dict(vocabulary), list(merges))
    return tokenizer
