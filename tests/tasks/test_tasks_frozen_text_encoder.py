"""A pretrained BERT in front of the U-Net, as it is."""

import keras
import keras_nlp
import numpy as np
import pytest
from keras import ops

from keras_ldm.tasks import TextToImage, load
from tests.tasks.tiny import TinyAutoencoder, TinyUNet, images, largest_difference, numpy, state

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]
WORDS = ["red heart", "a very long caption about a blue heart", "", "green"]


@pytest.fixture(scope="module")
def data():
    return {"image": images(4), "caption": WORDS}


def bert():
    keras.utils.set_random_seed(0)
    return keras_nlp.models.BertBackbone(
        vocabulary_size=30522,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=16,
        dropout=0.3,
        max_sequence_length=16,
    )


@pytest.fixture(scope="module")
def trained(data):
    encoder = bert()
    before = [numpy(v) for v in encoder.variables]
    task = TextToImage(TinyAutoencoder(), TinyUNet(context_dim=16), encoder, caption_length=8)
    task.compile(keras.optimizers.Adam(1e-1))
    task.fit(data, batch_size=2, epochs=2, verbose=0)
    return task, before


def test_stays_frozen(trained) -> None:
    task, before = trained
    encoder = task.conditioner.embedders["caption"].encoder
    assert not encoder.trainable_variables
    assert all(
        (numpy(v) == b).all()
        for v, b in zip(encoder.variables, before, strict=True)
        if "seed" not in v.path
    )
    assert len(task.trainable_variables) == len(task.unet.trainable_variables)
    assert len(task.ema.averages) == len(task.unet.trainable_variables)


def test_reads_padding_as_padding(trained) -> None:
    task, _ = trained
    embedder = task.conditioner.embedders["caption"]
    tokens = embedder.preprocess(["red heart"])
    assert tokens[0, :4].all()
    assert not tokens[0, 4:].any()
    context = numpy(embedder(ops.convert_to_tensor(tokens))["context"])
    assert context.shape == (1, 8, 16)
    inputs = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": (np.arange(8) < 4).astype("int32")[None],
    }
    inputs = {key: ops.convert_to_tensor(value) for key, value in inputs.items()}
    assert np.allclose(context, numpy(embedder.encoder(inputs)["sequence_output"]), atol=1e-5)
    inputs["padding_mask"] = ops.ones((1, 8), "int32")
    unmasked = numpy(embedder.encoder(inputs)["sequence_output"])
    assert not np.allclose(context[:, :4], unmasked[:, :4], atol=1e-4)


def test_has_no_dropout_in_training(trained) -> None:
    embedder = trained[0].conditioner.embedders["caption"]
    tokens = np.repeat(embedder.preprocess(["red heart"]), 64, axis=0)
    contexts = numpy(embedder(ops.convert_to_tensor(tokens), training=True)["context"])
    assert len(np.unique(contexts.round(4), axis=0)) == 2  # with and without the caption


def test_comes_back_from_a_file(trained, data, tmp_path) -> None:
    task, _ = trained
    task.save(tmp_path / "task.keras")
    loaded = load(tmp_path / "task.keras")
    assert largest_difference(state(task), state(loaded))[0] == 0.0
    assert not loaded.conditioner.embedders["caption"].encoder.trainable_variables
    assert len(loaded.trainable_variables) == len(task.trainable_variables)
    drawn = [t.generate(WORDS[:2], num_steps=2, seed=0, progress=False) for t in (task, loaded)]
    assert (drawn[0] == drawn[1]).all()
    assert np.isfinite(loaded.fit(data, batch_size=2, verbose=0).history["loss"]).all()
