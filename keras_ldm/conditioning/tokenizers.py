"""BERT's uncased tokenizer, with the vocabulary that ships in the package.

The tokenizer itself is keras_nlp's; here are its vocabulary and the packing into rows of one length:
`[CLS] tokens [SEP] [PAD] ...`.

Reference: Devlin et al. 2018, https://arxiv.org/abs/1810.04805; `BERTTokenizer` (modules.py) of the
original latent-diffusion code.
"""

from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import Any

import numpy as np

from keras_ldm.types import Array


def bert_uncased_tokenizer() -> Any:
    """keras_nlp's `BertTokenizer` with the vocabulary of `bert-base-uncased` (30,522 tokens)."""
    import keras_nlp

    with as_file(files("keras_ldm.conditioning") / "assets" / "bert" / "vocab.txt") as path:
        tokens = path.read_text(encoding="utf-8").splitlines()
    return keras_nlp.tokenizers.BertTokenizer(
        vocabulary=tokens, lowercase=True, strip_accents=True, name="bert_uncased_tokenizer"
    )


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
