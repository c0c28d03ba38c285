"""CLIP against transformers: random weights that it saved, its tokenizer, its image processor."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from keras import ops
from PIL import Image

from keras_ldm.metrics.clip_score import CLIPScore
from keras_ldm.models.clip_weights import pretrained_clip
from tests.contract import numpy
from tests.parity.torch_modules import randomise

pytestmark = pytest.mark.parity

LENGTH = 40
WORDS = ["a red heart", "photograph", "2021 pictures, isn't it?", "Heart heart HEART", "café naïve"]
TEXTS = [
    *WORDS,
    "",
    "   spaces\t and\nlines  ",
    "e\u0301 combining, ﬁ ligature, Straße, 日本語 中文, Привет 😀🎉",
    "don't we'll I'd they're x's",
    "100% $5.99 #1 A.B.C. @home a_b a-b ~`^|=+",
    "<|startoftext|> in the middle <|endoftext|> and after",
    "heart " * 100,
    "unsplittable" * 40,
]
KINDS = {
    "quick_gelu": {"hidden_act": "quick_gelu"},
    "gelu": {"hidden_act": "gelu", "layer_norm_eps": 0.02},
}


def byte_characters() -> list[str]:
    """How byte-level tokenizers write each byte: itself, or where that cannot be seen, from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte if byte in seen else next(hidden)) for byte in range(256)]


def write_vocabulary(folder: Path) -> int:
    """A small vocabulary in CLIP's order: bytes, bytes that end a word, merges, start and end."""
    merges = ["h e", "a r", "he ar", "hear t</w>", "r e", "re d</w>", "p h", "i n", "2 0</w>", "c a"]
    characters = byte_characters()
    tokens = [*characters, *(c + "</w>" for c in characters), *(m.replace(" ", "") for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return len(tokens)


@pytest.fixture(scope="module", params=list(KINDS))
def theirs(request, tmp_path_factory):
    """A model, its tokenizer and the folder where both were saved."""
    folder, kind = tmp_path_factory.mktemp("clip"), KINDS[request.param]
    count = write_vocabulary(folder)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 12, **kind}
    config = transformers.CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": count,
            "hidden_size": 16,
            "intermediate_size": 24,
            "max_position_embeddings": LENGTH,
            "eos_token_id": count - 1,
            "bos_token_id": count - 2,
        },
        vision_config={
            **sizes,
            "hidden_size": 8,
            "intermediate_size": 20,
            "image_size": 30,
            "patch_size": 6,
        },
        projection_dim=12,
    )
    model = randomise(transformers.CLIPModel(config), seed=3)  # some captions fit, some do not
    model.save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer(
        vocab=json.loads((folder / "vocab.json").read_text(encoding="utf-8")),
        merges=[tuple(m.split()) for m in (folder / "merges.txt").read_text().splitlines()[1:]],
    )
    return model, tokenizer, folder


@pytest.fixture(scope="module")
def clip(theirs):
    """The same, read from the folder."""
    return pretrained_clip(theirs[2])


def pictures(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 7, 9, 3)).astype("uint8")
    return np.stack([np.asarray(Image.fromarray(x).resize((width, height), 3)) for x in small])


def features_of_images(model, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of pixels from 0 to 255, normalized by the numbers of the paper's code."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    values = ((pixels / 255 - mean) / std).astype("float32").transpose(0, 3, 1, 2)
    with torch.no_grad():
        hidden = model.vision_model(torch.from_numpy(values.copy())).pooler_output
        return model.visual_projection(hidden).numpy(), hidden.numpy()


def features_of_texts(model, tokenizer, texts: list[str]) -> np.ndarray:
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        hidden = model.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
        return model.text_projection(hidden).numpy()


def close(found, expected: np.ndarray) -> None:
    assert expected.std() > 0.1
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-4)


def test_tokens(theirs, clip) -> None:
    _, tokenizer, _ = theirs
    packed = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
    np.testing.assert_array_equal(clip.tokens(TEXTS), packed)
    np.testing.assert_array_equal(clip.tokens(np.array([t.encode() for t in TEXTS])), packed)
    assert len(np.unique(packed)) > 70 and max(len(t) for t in packed) == LENGTH


def test_embeddings_of_captions(theirs, clip, monkeypatch) -> None:
    model, tokenizer, _ = theirs
    close(clip.text_network(clip.tokens(TEXTS)), features_of_texts(model, tokenizer, TEXTS))
    # As configurations before 2023 have it: the highest id ends.
    monkeypatch.setattr(model.text_model, "eos_token_id", 2)
    close(clip.text_network(clip.tokens(WORDS)), features_of_texts(model, tokenizer, WORDS))


def test_embeddings_of_images(theirs, clip) -> None:
    """In the network's size, from their processor; in others, resized by Pillow without rounding."""
    model, network, side = theirs[0], clip.image_network, 30
    images = pictures(2, side, side)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    values = processor([*images], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        pooled = model.get_image_features(values).pooler_output.numpy()
    found = network(ops.convert_to_tensor(images))
    close(found["pooled"], pooled)
    for name, value in zip(("pooled", "hidden"), features_of_images(model, images), strict=True):
        close(found[name], value)
    floats = ops.convert_to_tensor((images / 127.5 - 1).astype("float32"))
    close(network(floats)["pooled"], pooled)

    for height, width in ((64, 64), (17, 17), (41, 80), (90, 50)):
        images = pictures(2, height, width)
        cut = min(height, width)
        top, left = (height - cut) // 2, (width - cut) // 2
        squares = images[:, top : top + cut, left : left + cut].astype("float32")
        pixels = np.zeros((2, side, side, 3))
        for i, c in np.ndindex(2, 3):
            pixels[i, ..., c] = Image.fromarray(squares[i, ..., c]).resize((side, side), 3)
        expected, _ = features_of_images(model, pixels.clip(0, 255))
        close(network(ops.convert_to_tensor(images))["pooled"], expected)


def test_their_rounding_is_about_a_grey_level(clip) -> None:
    """They round to uint8 after each side; of an odd number of pixels too many, they cut elsewhere."""
    network, side = clip.image_network, 30
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_normalize=False,
        do_rescale=False,
    )
    for sides in ((64, 64), (90, 50)):
        images = pictures(2, *sides)
        expected = np.stack(processor([*images])["pixel_values"]).transpose(0, 2, 3, 1)
        apart = np.abs(numpy(network.pixels(ops.convert_to_tensor(images))) - expected)
        assert apart.max() < 2 and apart.mean() < 0.35


def test_score(theirs) -> None:
    model, tokenizer, folder = theirs
    metric, images, texts = CLIPScore.from_folder(folder), pictures(8, 48, 48), TEXTS[:8]
    pixels = numpy(metric.clip.image_network.pixels(ops.convert_to_tensor(images)))
    a, _ = features_of_images(model, pixels)
    b = features_of_texts(model, tokenizer, texts)
    cosines = torch.nn.functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    each = np.maximum(100 * cosines, 0)
    assert (each == 0).any() and (each > 5).any()
    metric.update_state(images[:4], texts[:4])
    metric.update_state(images[4:], np.array(texts[4:], object))
    assert float(metric.result()) == pytest.approx(each.mean(), rel=1e-4)
    metric.reset_state()
    weights = np.array([0, 1, 2, 5], "float32")
    metric.update_state(images[:4], texts[:4], sample_weight=weights)
    assert float(metric.result()) == pytest.approx((weights * each[:4]).sum() / 8, rel=1e-4)


# === Files ===


def test_other_files_of_the_same(theirs, clip, tmp_path) -> None:
    """Half precision by `torch.save`, the tokenizer in one file, other pixels, an old configuration."""
    model, tokenizer, folder = theirs
    state = {name: value.half() for name, value in model.state_dict().items()}
    state["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]  # in old files
    torch.save(state, tmp_path / "pytorch_model.bin")
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    config = json.loads((folder / "config.json").read_text())
    config["text_config_dict"] = config["text_config"]
    config["vision_config_dict"] = {"patch_size": config["vision_config"].pop("patch_size")}
    config["text_config"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    pixels = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1.0]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    other, images = pretrained_clip(tmp_path), pictures(2, 30, 30)
    np.testing.assert_array_equal(other.tokens(TEXTS), clip.tokens(TEXTS))
    values = ((images / 255 - 0.5) / [0.25, 0.5, 1.0]).astype("float32").transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.get_image_features(torch.from_numpy(values.copy())).pooler_output.numpy()
    found = numpy(other.image_network(ops.convert_to_tensor(images))["pooled"])
    np.testing.assert_allclose(found, expected, atol=0.02)  # half precision
    expected = features_of_texts(model, tokenizer, TEXTS)
    np.testing.assert_allclose(numpy(other.text_network(other.tokens(TEXTS))), expected, atol=0.02)


def test_files_that_do_not_fit(theirs, tmp_path) -> None:
    model, _, folder = theirs
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    state = model.state_dict()
    (tmp_path / "model.safetensors").unlink()
    torch.save({**state, "visual_projection.weight": torch.zeros(8, 12)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"'visual_projection.weight' of shape \(12, 8\).*\(8, 12\)"):
        pretrained_clip(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for part, key, value, message in (
        ("vision_config", "image_size", [30, 30], r"'image_size' in 'vision_config'.*\[30, 30\]"),
        ("vision_config", "hidden_act", "relu", "'gelu'. Received: 'relu'"),
        ("text_config", "vocab_size", 500, "at most 500 tokens.*Received: 524"),
    ):
        changed = {**config, part: {**config[part], key: value}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            pretrained_clip(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    del state["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="layers.1.self_attn.k_proj.bias.*which lacks it"):
        pretrained_clip(tmp_path)
