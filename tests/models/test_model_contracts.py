"""The contract of every network: compiled, symbolic, from its configuration, saved, mixed, trained."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_ldm import models
from tests.contract import array, check_contract, numpy, randomize

IMAGES = array(2, 4, 8, 3)
TOKEN_IDS = np.random.default_rng(0).integers(0, 20, (2, 5)).astype("int32")
LATENTS = {"latents": array(2, 4, 6, 2), "timesteps": np.array([7.0, 950.0], "float32")}
CONTEXT = {"context": array(2, 3, 5, seed=1)}
VECTOR = {"vector": array(2, 7, seed=2)}
CLASS_LABEL = {"class_label": np.array([0, 2], "int32")}
CONCAT = {"concat": array(2, 4, 6, 1, seed=3)}

SMALL_AUTOENCODER = {"latent_channels": 2, "num_res_blocks": 1, "groups": 2}
SMALL_UNET = {"in_channels": 2, "out_channels": 2, "num_res_blocks": 1, "groups": 2}


@pytest.mark.backend
def test_autoencoder_keeps_the_contract(tmp_path: Path) -> None:
    check_contract(
        lambda: models.AutoencoderKL((4, 6), **SMALL_AUTOENCODER),
        [IMAGES],
        tmp_path,
        mixed_dtype="float32",
        without_gradient=["to_key/bias"],
    )


def test_vq_model_keeps_the_contract(tmp_path: Path) -> None:
    # Nothing of the output depends on the codebook but through the choice of its entries.
    check_contract(
        lambda: models.VQModel(
            (4, 6), num_codes=5, z_channels=3, attention_type="linear", **SMALL_AUTOENCODER
        ),
        [IMAGES],
        tmp_path,
        mixed_dtype="float32",
        mixed_tolerance=0.5,
        without_gradient=["codebook"],
    )


@pytest.mark.backend
def test_text_encoder_keeps_the_contract(tmp_path: Path) -> None:
    check_contract(
        lambda: models.TransformerTextEncoder(
            20, dim=6, num_layers=1, max_length=9, num_heads=2, head_dim=4, embedding_dim=3
        ),
        [TOKEN_IDS],
        tmp_path,
    )


def _check_unet(options: dict[str, Any], inputs: dict[str, Any], folder: Path) -> None:
    check_contract(
        lambda: models.UNet(**{**SMALL_UNET, **options}),
        [{**LATENTS, **inputs}],
        folder,
        mixed_dtype="float32",
        without_gradient=["to_key/bias"],
    )


@pytest.mark.backend
def test_unet_with_all_conditions_keeps_the_contract(tmp_path: Path) -> None:
    options = {"in_channels": 3, "context_dim": 5, "vector_dim": 7, "num_classes": 3, "num_heads": 2}
    conditions = {**CONTEXT, **VECTOR, **CONCAT, **CLASS_LABEL}
    _check_unet({"channels": (4,), **options}, conditions, tmp_path)


def test_unet_with_residual_resampling_keeps_the_contract(tmp_path: Path) -> None:
    options = {"attention_levels": (), "scale_shift": True, "residual_resampling": True}
    _check_unet({"channels": (4, 6), "num_heads": 2, **options}, {}, tmp_path)


@pytest.mark.parametrize(
    "options, inputs",
    [
        ({"channels": (4,), "num_heads": 2}, {}),
        ({"channels": (4, 6), "context_dim": 5, "head_dim": 2, "num_heads": None}, CONTEXT),
        ({"channels": (4, 6), "attention_levels": (1,), "num_heads": 2, "dropout": 0.2}, {}),
    ],
    ids=["none", "context", "levels"],
)
def test_unet_keeps_the_contract(
    options: dict[str, Any], inputs: dict[str, Any], tmp_path: Path
) -> None:
    _check_unet(options, inputs, tmp_path)


@pytest.mark.backend
@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "attention", "latent_size": LATENTS["latents"].shape[1:3], "scale_shift": True}],
    ids=["average", "attention"],
)
def test_classifier_keeps_the_contract(options: dict[str, Any], tmp_path: Path) -> None:
    small = {"in_channels": 2, "num_res_blocks": 1, "groups": 2, "num_heads": 2, **options}
    check_contract(
        lambda: models.UNetClassifier(5, (4, 6), **small),
        [LATENTS],
        tmp_path,
        mixed_dtype="float32",
        without_gradient=["to_key/bias"],
    )


@pytest.mark.parametrize("name", ["autoencoder", "unet", "text_encoder"])
def test_model_is_saved_by_itself(name: str, tmp_path: Path) -> None:
    model, inputs = {
        "autoencoder": (models.AutoencoderKL((4, 6), **SMALL_AUTOENCODER), IMAGES),
        "unet": (models.UNet((4,), num_heads=2, **SMALL_UNET), LATENTS),
        "text_encoder": (
            models.TransformerTextEncoder(20, 6, 1, 9, num_heads=2, head_dim=4),
            TOKEN_IDS,
        ),
    }[name]
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(inputs)), numpy(model(inputs)))


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.backend
def test_discriminator_keeps_the_contract(norm, tmp_path: Path) -> None:
    check_contract(
        lambda: models.PatchDiscriminator(3, 1, norm),
        [array(2, 8, 10, 3)],
        tmp_path,
        mixed_dtype="float32",
    )
