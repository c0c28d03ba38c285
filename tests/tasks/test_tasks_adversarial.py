"""What `AutoencoderTask` makes of a discriminator: its start, its optimizer, files, errors."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm import models
from keras_ldm.losses import get_adversarial_loss
from keras_ldm.tasks import AutoencoderTask, Task
from tests.tasks.tiny import numpy

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("uint8")


def make(vq: bool = False, norm=None, **kwargs) -> AutoencoderTask:
    keras.utils.set_random_seed(0)
    small = {"num_res_blocks": 0, "middle_attention": False, "groups": 2}
    model = models.VQModel((4, 4), 2, 6, **small) if vq else models.AutoencoderKL((4, 4), 2, **small)
    channels = 4 if "discriminator_condition" in kwargs else 3
    discriminator = models.PatchDiscriminator(3, 2, norm, in_channels=channels)
    return AutoencoderTask(model, discriminator=discriminator, **kwargs)


def weights(layer: keras.layers.Layer) -> list[np.ndarray]:
    return [numpy(v).copy() for v in layer.trainable_variables]


def moved(before: list[np.ndarray], layer: keras.layers.Layer) -> bool:
    return any((old != new).any() for old, new in zip(before, weights(layer), strict=True))


@pytest.mark.parametrize("norm", ["batch", None])
def test_the_discriminator_begins_at_its_start_and_not_before(norm) -> None:
    task = make(norm=norm, discriminator_start=2)
    before = weights(task.discriminator)
    task.fit(IMAGES, batch_size=2, epochs=1, verbose=0)  # updates 0 and 1
    assert not moved(before, task.discriminator)
    task.fit(IMAGES[:2], batch_size=2, epochs=1, verbose=0)
    assert moved(before, task.discriminator)


def test_before_its_start_nothing_of_it_shows_in_the_autoencoder() -> None:
    with_it, without = make(discriminator_start=10**9), make(discriminator_factor=0.0)
    alone = AutoencoderTask(make().autoencoder)
    for task in (with_it, without, alone):
        task.fit(IMAGES, batch_size=2, epochs=2, shuffle=False, verbose=0)
    for task in (with_it, without):
        for one, other in zip(weights(task.autoencoder), weights(alone.autoencoder), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_start_counts_updates_where_gradients_are_accumulated() -> None:
    task = make(discriminator_start=1)
    task.compile(keras.optimizers.SGD(1e-3, gradient_accumulation_steps=2))
    history = task.fit(IMAGES[:2], batch_size=1, epochs=2, shuffle=False, verbose=0).history
    first, second = history["generator_weight"]
    assert first == 0 and second > 0


def test_two_optimizers_survive_a_file(tmp_path) -> None:
    task = make(ema_decay=0.9)
    task.compile(keras.optimizers.SGD(1e-3), discriminator_optimizer=keras.optimizers.SGD(0.0))
    discriminator, autoencoder = weights(task.discriminator), weights(task.autoencoder)
    task.fit(IMAGES, batch_size=2, verbose=0)
    assert not moved(discriminator, task.discriminator) and moved(autoencoder, task.autoencoder)

    task.compile(discriminator_optimizer=keras.optimizers.Adam(1e-2))
    task.fit(IMAGES, batch_size=2, verbose=0)
    task.save(tmp_path / "task.keras")
    again = Task.from_preset(tmp_path / "task.keras")
    histories = [t.fit(IMAGES, batch_size=2, verbose=0).history for t in (task, again)]
    assert histories[0] == histories[1]
    np.testing.assert_array_equal(task.predict(IMAGES, verbose=0), again.predict(IMAGES, verbose=0))


def test_a_codebook_that_follows_averages_is_trained_and_saved(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    model = models.VQModel(
        (4, 4), 2, 16, num_res_blocks=0, groups=2, codebook_ema_decay=0.8, restart_below=0.5
    )
    task = AutoencoderTask(model)
    task.compile(keras.optimizers.Adam(1e-3))
    before = numpy(model.quantizer.codebook).copy()
    history = task.fit(IMAGES, batch_size=2, epochs=3, verbose=0).history
    assert np.abs(numpy(model.quantizer.codebook) - before).max() > 1e-2
    assert history["code_usage"][-1] > 0.3 and 1 <= history["code_perplexity"][-1] <= 16
    indices = numpy(model.quantize(model.encode(IMAGES)).indices)
    usage = task.evaluate(IMAGES, verbose=0, return_dict=True)["code_usage"]
    assert usage == pytest.approx(len(np.unique(indices)) / 16)
    task.save(tmp_path / "task.keras")
    again = Task.from_preset(tmp_path / "task.keras")
    histories = [t.fit(IMAGES, batch_size=2, verbose=0).history for t in (task, again)]
    assert histories[0] == histories[1]


def test_averaged_weights_are_what_predict_and_evaluate_use() -> None:
    task = make(ema_decay=0.9)
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit(IMAGES, batch_size=2, epochs=3, verbose=0)
    average = task.averaged_autoencoder()
    expected = np.clip(numpy(average(IMAGES)), -1, 1)
    np.testing.assert_allclose(task.predict(IMAGES, verbose=0), expected, atol=1e-5)
    assert np.abs(np.clip(numpy(task.autoencoder(IMAGES)), -1, 1) - expected).max() > 1e-4
    error = np.abs(IMAGES / 127.5 - 1 - numpy(average(IMAGES))).mean()
    measured = task.evaluate(IMAGES, batch_size=4, verbose=0, return_dict=True)
    assert abs(measured["reconstruction_loss"] - error) < 1e-5
    assert abs(measured["loss"] - 768 * error - 1e-6 * measured["kl_loss"]) < 1e-2


def test_batch_normalization_keeps_running_statistics() -> None:
    task = make(norm="batch")
    state = [v for v in task.discriminator.non_trainable_variables if "moving" in v.path]
    before = [numpy(v).copy() for v in state]
    task.fit(IMAGES, batch_size=2, verbose=0)
    assert len(state) == 4
    assert all(np.abs(numpy(v) - old).max() > 0 for v, old in zip(state, before, strict=True))


def test_a_fixed_weight_is_that_weight() -> None:
    task = make(adaptive_weight=False, discriminator_weight=0.25, discriminator_factor=0.5)
    history = task.fit(IMAGES, batch_size=2, verbose=0).history
    assert history["generator_weight"] == [0.125]


def test_a_condition_is_seen() -> None:
    task = make(discriminator_condition="map", vq=True)
    maps = np.random.default_rng(1).uniform(size=(4, 16, 16, 1))
    data = {"image": IMAGES, "map": maps}
    logits = [
        task.evaluate({**data, "map": m}, verbose=0, return_dict=True)["real_logits"]
        for m in (maps, 1 - maps)
    ]
    assert logits[0] != logits[1]
    task.fit(data, batch_size=2, verbose=0)
    with pytest.raises(ValueError, match="Expected the key 'map'"):
        task.fit(IMAGES, verbose=0)
    with pytest.raises(ValueError, match=r"'map' of shape \(4, 16, 16, 1\). Received: .*4, 8, 8, 1"):
        task.fit({**data, "map": maps[:, ::2, ::2]}, verbose=0)


def test_adversarial_losses_by_their_definitions() -> None:
    real, fake = np.random.default_rng(0).normal(0, 2, (2, 3, 4, 5, 1)).astype("float32")

    def log_sigmoid(x):
        return -np.logaddexp(0, -x)

    expected = {
        "hinge": (-fake, np.maximum(0, 1 - real) / 2, np.maximum(0, 1 + fake) / 2),
        "vanilla": (-fake, -log_sigmoid(real) / 2, -log_sigmoid(-fake) / 2),
        "non_saturating": (-log_sigmoid(fake), -log_sigmoid(real) / 2, -log_sigmoid(-fake) / 2),
    }
    for name, values in expected.items():
        loss = get_adversarial_loss(name)
        sides = ((loss.generator, fake), (loss.real, real), (loss.fake, fake))
        for (function, logits), value in zip(sides, values, strict=True):
            got = numpy(function(ops.convert_to_tensor(logits)))
            np.testing.assert_allclose(got, value.mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("vq", [False, True])
def test_one_image_and_equal_images(vq: bool) -> None:
    task = make(vq=vq, norm="batch")
    task.compile(keras.optimizers.Adam(1e-3))
    for images in (IMAGES[:1], np.full((4, 16, 16, 3), 200, "uint8")):
        history = task.fit(images, batch_size=4, epochs=2, verbose=0).history
        assert np.isfinite([value for values in history.values() for value in values]).all()


def test_what_is_wrong_is_said() -> None:
    for options, message in (
        ({"adversarial_loss": "wgan"}, "'hinge' or 'vanilla' or 'non_saturating'. Received: 'wgan'"),
        ({"discriminator_weight": -1.0}, "`discriminator_weight` of at least 0. Received: -1.0"),
        ({"discriminator_start": -1}, "`discriminator_start` of at least 0"),
        ({"discriminator_start": "5"}, "`discriminator_start` of at least 0. Received: '5'"),
        ({"discriminator_factor": np.nan}, "`discriminator_factor` of at least 0. Received: nan"),
        ({"kl_weight": -1.0}, "`kl_weight` of at least 0. Received: -1.0"),
        ({"perceptual_weight": np.inf}, "finite `perceptual_weight`"),
        ({"codebook_weight": None}, "`codebook_weight` of at least 0. Received: None"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)
    model = make().autoencoder
    with pytest.raises(ValueError, match="`autoencoder` as a model of that kind. Received: 'kl'"):
        AutoencoderTask("kl")
    with pytest.raises(ValueError, match="`discriminator` as a model"):
        AutoencoderTask(model, discriminator="patch")
    with pytest.raises(ValueError, match="at least 12 pixels a side.*8x8"):
        task = make()
        try:
            task.fit(IMAGES, batch_size=2, validation_data=IMAGES[:, :8, :8], verbose=0)
        finally:
            assert int(ops.convert_to_numpy(task.batches)) == 0
    with pytest.raises(ValueError, match="the 3 channels of the images. Received: in_channels=4"):
        AutoencoderTask(model, discriminator=models.PatchDiscriminator(in_channels=4))
    with pytest.raises(ValueError, match="of the condition. Received: in_channels=3"):
        AutoencoderTask(model, discriminator=models.PatchDiscriminator(), discriminator_condition="map")
    with pytest.raises(ValueError, match="no discriminator"):
        AutoencoderTask(model).compile(discriminator_optimizer=keras.optimizers.Adam())
    with pytest.raises(ValueError, match="`perceptual_loss`.*Received: 'lpips'"):
        AutoencoderTask(model, perceptual_loss="lpips")
    large = AutoencoderTask(model, discriminator=models.PatchDiscriminator(4, 3))
    with pytest.raises(ValueError, match="at least 24 pixels a side.*`discriminator`.*16x16"):
        large.fit(IMAGES, verbose=0)
    with pytest.raises(ValueError, match="3 channels, which LPIPS takes"):
        AutoencoderTask(
            models.AutoencoderKL((4,), 2, image_channels=1, num_res_blocks=0, groups=2),
            perceptual_loss=models.LPIPSNetwork("alexnet"),
        )
    for value in (np.nan, np.inf):
        bad = IMAGES / 127.5 - 1
        bad[0, 0, 0, 0] = value
        with pytest.raises(ValueError, match="finite"):
            make().fit(bad, verbose=0)
    for arguments, message in (
        ({"norm": "group"}, "'batch' or None"),
        ({"num_layers": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            models.PatchDiscriminator(**arguments)
    with pytest.raises(ValueError, match="at least 24 pixels"):
        models.PatchDiscriminator(4)(np.zeros((1, 23, 64, 3), "float32"))
