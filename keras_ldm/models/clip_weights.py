"""A CLIP from a folder in the layout of transformers.

Whatever keras_nlp's `from_preset` opens, it has no converter for such a folder of CLIP; its classes are
used here, and the names of the weights mapped.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ldm.files import TensorFile, read_tensors
from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.clip import CLIP, clip_tokenizer
from keras_ldm.models.clip_image_network import CLIP_MEAN, CLIP_STD, CLIPImageNetwork
from keras_ldm.models.clip_text_network import CLIPTextNetwork

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

# What a configuration means that does not say: the sizes of ViT-B/32.
_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}

Place = tuple[str, keras.Variable, tuple[int, ...]]
"""A weight's name in the file, the variable that it is for, and its shape in the file."""


def pretrained_clip(
    folder: str | os.PathLike[str], resize_mode: ResizeMode = "bicubic_antialias"
) -> CLIP:
    """A CLIP with the weights in a folder, such as one of openai/clip-vit-base-patch32.

    Args:
        folder: has `config.json`; `model.safetensors`, or else `pytorch_model.bin`; and `vocab.json`
            and `merges.txt`, or else `tokenizer.json`, as `CLIPModel` and `CLIPTokenizer` of
            transformers write them. Mean and deviation of the pixels are taken from
            `preprocessor_config.json`, if it is there; they are OpenAI's otherwise.
        resize_mode: see `CLIPImageNetwork`.

    Raises:
        FileNotFoundError: if a file is missing; the message names it.
        ValueError: if a file is damaged, is of another model, or lacks a weight.
    """
    folder = Path(folder)
    weights = _find_files(folder)
    config = _read_json(folder / "config.json")
    if config.get("model_type") != "clip":
        raise ValueError(
            f"Expected `model_type` 'clip'. Received: {config.get('model_type')!r} in "
            f"{folder / 'config.json'}"
        )
    tokenizer = _tokenizer(folder)
    clip = CLIP(
        _image_network(config, folder, resize_mode),
        _text_network(config, tokenizer),
        tokenizer,
    )
    size = clip.text_network.sizes["vocabulary_size"]
    if tokenizer.vocabulary_size() > size:
        raise ValueError(
            f"Expected at most {size} tokens, as the configuration has it. "
            f"Received: {tokenizer.vocabulary_size()} in {folder}"
        )
    with read_tensors(weights) as file:
        for place in _places(clip):
            _assign(file, *place, weights)
    return clip


# === The parts ===


def _find_files(folder: Path) -> Path:
    """The file of weights, once everything else is there too."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    weights = [name for name in _WEIGHTS if name in there]
    missing = [] if "config.json" in there else ["config.json"]
    missing += [] if weights else [" or ".join(_WEIGHTS)]
    if "tokenizer.json" not in there and not {"vocab.json", "merges.txt"} <= there:
        missing.append("vocab.json and merges.txt, or tokenizer.json")
    if missing:
        raise FileNotFoundError(
            "Expected a folder of a CLIP in the layout of transformers. "
            f"Received: {folder}, which lacks {'; '.join(missing)}"
        )
    return folder / weights[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected a file of JSON. Received: {path}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected a dictionary. Received: {path}, a {type(found).__name__}")
    return found


def _part(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a configuration. Old ones say the same thing, or more, under another name too."""
    found = {**defaults, **(config.get(name) or {}), **(config.get(f"{name}_dict") or {})}
    for key, default in defaults.items():
        if type(found[key]) is not type(default):
            raise ValueError(
                f"Expected {key!r} in {name!r} of a CLIP's configuration to be like {default!r}. "
                f"Received: {found[key]!r}"
            )
    return found


def _image_network(config: Mapping[str, Any], folder: Path, resize_mode: ResizeMode) -> CLIPImageNetwork:
    part, pixels = _part(config, "vision_config", _VISION), folder / "preprocessor_config.json"
    preprocessor = _read_json(pixels) if pixels.is_file() else {}
    return CLIPImageNetwork(
        **_sizes(part),
        patch_size=part["patch_size"],
        image_size=part["image_size"],
        projection_dim=config.get("projection_dim", 512),
        mean=preprocessor.get("image_mean", CLIP_MEAN),
        std=preprocessor.get("image_std", CLIP_STD),
        resize_mode=resize_mode,
    )


def _text_network(config: Mapping[str, Any], tokenizer: Any) -> CLIPTextNetwork:
    part = _part(config, "text_config", _TEXT)
    return CLIPTextNetwork(
        **_sizes(part),
        vocabulary_size=part["vocab_size"],
        max_length=part["max_position_embeddings"],
        projection_dim=config.get("projection_dim", 512),
        end_token_id=tokenizer.end_token_id,
    )


def _sizes(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_dim": part["hidden_size"],
        "num_layers": part["num_hidden_layers"],
        "num_heads": part["num_attention_heads"],
        "intermediate_dim": part["intermediate_size"],
        "activation": part["hidden_act"],
        "epsilon": part["layer_norm_eps"],
    }


def _tokenizer(folder: Path) -> Any:
    vocabulary: Any
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocabulary = _read_json(folder / "vocab.json")
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    else:
        model = _read_json(folder / "tokenizer.json").get("model") or {}
        vocabulary, pairs = model.get("vocab"), model.get("merges")
        if not isinstance(vocabulary, dict) or not isinstance(pairs, list):
            raise ValueError(
                "Expected a `model` with `vocab` and `merges`. "
                f"Received: {folder / 'tokenizer.json'}, without"
            )
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    return clip_tokenizer(vocabulary, merges)


# === The weights ===


def _assign(
    file: TensorFile, name: str, variable: keras.Variable, shape: tuple[int, ...], path: Path
) -> None:
    if name not in file:
        raise ValueError(f"Expected a weight {name!r} of CLIP. Received: {path}, which lacks it")
    value = np.asarray(file[name], np.float32)
    if value.shape != shape:
        raise ValueError(
            f"Expected {name!r} of shape {shape}. Received: {path}, with shape {value.shape}"
        )
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    elif value.ndim == 2 and not name.endswith("_embedding.weight"):
        value = value.T
    variable.assign(value.reshape(variable.shape))


def _places(clip: CLIP) -> Iterator[Place]:
    images, texts = clip.image_network, clip.text_network
    encoder, name = images.encoder, "vision_model"
    patch = encoder.embedding.patch_embedding.kernel
    height, width, channels, hidden = patch.shape
    yield (
        f"{name}.embeddings.patch_embedding.weight",
        patch,
        (hidden, channels, height, width),
    )
    yield _vector(f"{name}.embeddings.class_embedding", encoder.embedding.class_embedding)
    yield _table(
        f"{name}.embeddings.position_embedding", encoder.embedding.position_embedding.embeddings
    )
    yield from _norm(f"{name}.pre_layrnorm", encoder.pre_layer_norm)  # as it is spelled there
    yield from _layers(f"{name}.encoder", encoder)
    yield from _norm(f"{name}.post_layernorm", encoder.layer_norm)
    yield _kernel("visual_projection", images.projection.kernel)

    encoder, name = texts.encoder, "text_model"
    yield _table(f"{name}.embeddings.token_embedding", encoder.embedding.token_embedding.embeddings)
    yield _table(
        f"{name}.embeddings.position_embedding",
        encoder.embedding.position_embedding.position_embeddings,
    )
    yield from _layers(f"{name}.encoder", encoder)
    yield from _norm(f"{name}.final_layer_norm", encoder.layer_norm)
    yield _kernel("text_projection", texts.projection.kernel)


def _layers(name: str, encoder: keras.Model) -> Iterator[Place]:
    for index, layer in enumerate(encoder.encoder_layers):
        prefix, attention = f"{name}.layers.{index}", layer.attention
        for part, dense in (
            ("q_proj", attention.query_dense),
            ("k_proj", attention.key_dense),
            ("v_proj", attention.value_dense),
            ("out_proj", attention.output_dense),
        ):
            # There a head has no axis of its own.
            width = layer.hidden_dim
            yield f"{prefix}.self_attn.{part}.weight", dense.kernel, (width, width)
            yield f"{prefix}.self_attn.{part}.bias", dense.bias, (width,)
        yield from _norm(f"{prefix}.layer_norm1", layer.layer_norm_1)
        yield from _norm(f"{prefix}.layer_norm2", layer.layer_norm_2)
        for part, dense in (("fc1", layer.dense_1), ("fc2", layer.dense_2)):
            yield _kernel(f"{prefix}.mlp.{part}", dense.kernel)
            yield _vector(f"{prefix}.mlp.{part}.bias", dense.bias)


def _norm(name: str, norm: keras.layers.Layer) -> Iterator[Place]:
    yield _vector(f"{name}.weight", norm.gamma)
    yield _vector(f"{name}.bias", norm.beta)


def _kernel(name: str, variable: keras.Variable) -> Place:
    return f"{name}.weight", variable, tuple(variable.shape)[::-1]


def _table(name: str, variable: keras.Variable) -> Place:
    return f"{name}.weight", variable, tuple(variable.shape)


def _vector(name: str, variable: keras.Variable) -> Place:
    return name, variable, tuple(variable.shape)
