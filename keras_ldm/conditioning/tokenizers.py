"""BERT's uncased tokenizer, with the vocabulary that ships in the package.

The tokenizer itself is keras_nlp's; here are its vocabulary and the packing into rows of one length:
`[CLS] tokens [SEP] [PAD] ...`.

Reference: Devlin et al. 2018, https://arxiv.org/abs/1810.04805; `BERTTokenizer` (modules.py) of the
original latent-diffusion code.
"""

import unicodedata
from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import Any

import numpy as np

from keras_ldm.types import Array

_CHINESE = (  # the blocks that BERT's tokenizer splits into single characters
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def normalize_uncased(text: str) -> str:
    """Text as BERT's uncased tokenizer makes it before splitting it.

    Control characters are dropped, every white space is a space, Chinese characters stand apart,
    accents are stripped, and all is lower case. keras_nlp's own lower-casing comes after its
    splitting and also folds compatible characters, which gives other tokens for rare ones.

    Reference: `BasicTokenizer` of https://github.com/google-research/bert.
    """
    spaced = []
    for character in text:
        code, category = ord(character), unicodedata.category(character)
        if character in "\t\n\r" or character.isspace():
            spaced.append(" ")
        elif code == 0xFFFD or category.startswith("C"):
            continue
        elif any(first <= code <= last for first, last in _CHINESE):
            spaced.append(f" {character} ")
        else:
            spaced.append(character)
    decomposed = unicodedata.normalize("NFD", "".join(spaced))
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn").lower()


class BertUncasedTokenizer:
    """keras_nlp's `BertTokenizer` with the vocabulary of `bert-base-uncased`, 30,522 tokens.

    Text is normalized as the original does it, before it is split; keras_nlp's own lower-casing,
    which comes after, is off.
    """

    def __init__(self) -> None:
        import keras_nlp

        with as_file(files("keras_ldm.conditioning") / "assets" / "bert" / "vocab.txt") as path:
            tokens = path.read_text(encoding="utf-8").splitlines()
        self.tokenizer = keras_nlp.tokenizers.BertTokenizer(
            vocabulary=tokens, lowercase=False, strip_accents=False
        )
        self.start_token_id: int = self.tokenizer.start_token_id
        self.end_token_id: int = self.tokenizer.end_token_id
        self.pad_token_id: int = self.tokenizer.pad_token_id

    def __call__(self, texts: Sequence[str]) -> Any:
        """Token ids of each text, without start and end tokens."""
        return self.tokenizer([normalize_uncased(text) for text in texts])

    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return int(self.tokenizer.vocabulary_size())

    def get_vocabulary(self) -> list[str]:
        """The tokens, by their ids."""
        return list(self.tokenizer.get_vocabulary())


def bert_uncased_tokenizer() -> BertUncasedTokenizer:
    """The tokenizer of the paper's text-to-image model."""
    return BertUncasedTokenizer()


def pack_tokens(tokenizer: Any, texts: Sequence[str], length: int) -> Array:
    """Token ids of texts, between start and end token, cut or padded to one length.

    Args:
        tokenizer: a keras_nlp tokenizer with start, end and padding tokens.
        texts: any strings.
        length: of the rows, at least 2.

    Returns:
        int32 `(len(texts), length)`.
    """
    rows = np.full((len(texts), length), tokenizer.pad_token_id, dtype=np.int32)
    for row, tokens in zip(rows, tokenizer(list(texts)), strict=True):
        kept = np.asarray(tokens, dtype=np.int32)[: length - 2]
        packed = [tokenizer.start_token_id, *kept, tokenizer.end_token_id]
        row[: len(packed)] = packed
    return rows
