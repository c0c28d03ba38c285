"""Training with `fit`: what it learns, what it measures, what `compile()` chooses."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.models import UNet, VQModel
from keras_ldm.tasks import AutoencoderTask, LatentDiffusion
from tests.tasks.tiny import (
    TinyUNet,
    autoencoder_task,
    captions,
    images,
    latent_diffusion,
    numpy,
    pairs,
    pixel_autoencoder,
    real_autoencoder_task,
    real_text_to_image,
    real_unet,
    text_to_image,
)

BATCH = 4
BACKEND = keras.backend.backend()


# === Learning ===


def falling(learning_rate: float, steps: int) -> keras.optimizers.schedules.CosineDecay:
    return keras.optimizers.schedules.CosineDecay(learning_rate, steps)


def test_autoencoder_overfits_one_batch() -> None:
    task = real_autoencoder_task()
    task.compile(keras.optimizers.Adam(falling(1e-2, 400), beta_1=0.5, beta_2=0.9))
    x = np.repeat(np.repeat(images(2, size=4), 4, axis=1), 4, axis=2)  # blocks of colour
    loss = task.fit([x] * 40, epochs=10, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < 0.1 * loss[0]
    assert np.abs(task.predict(x, verbose=0) - (x / 127.5 - 1)).mean() < 0.03


def test_diffusion_overfits_one_batch() -> None:
    keras.utils.set_random_seed(0)
    task = LatentDiffusion(
        pixel_autoencoder(), real_unet(), parameterization="v", timesteps="stratified", ema_decay=0.98
    )
    task.compile(keras.optimizers.Adam(falling(1e-2, 800)))
    x = np.repeat(images(1, size=1), 8, axis=0).repeat(16, axis=1).repeat(16, axis=2)
    x[:, :8] = 255 - x[:, :8]
    loss = task.fit([x] * 40, epochs=20, verbose=0).history["loss"]
    assert loss[0] > 0.3  # saying nothing gives 1
    assert loss[-1] < 0.03
    assert task.evaluate(x, verbose=0) < 0.03
    drawn = task.generate(num_images=2, num_steps=20, seed=0, progress=False)
    assert np.abs(drawn.astype(int) - x[:2]).mean() < 8


@pytest.mark.backend
def test_unconditional_model_trains_and_generates() -> None:
    task = latent_diffusion()
    task.compile(keras.optimizers.Adam(1e-2))
    before = task.fit(images(), batch_size=BATCH, epochs=1, verbose=0).history["loss"][0]
    after = task.fit(images(), batch_size=BATCH, epochs=6, verbose=0).history["loss"][-1]
    assert after < before
    drawn = task.generate(num_images=3, num_steps=3, seed=0, progress=False)
    assert drawn.shape == (3, 16, 16, 3)
    assert drawn.dtype == np.uint8
    assert task.generate(num_steps=1, progress=False).shape[0] == 1


@pytest.mark.backend
def test_captions_matter_and_are_trained() -> None:
    task = text_to_image(latent_scale=1.0)
    table = task.conditioner.embedders["caption"].encoder.token_embedding.embeddings
    before = numpy(table)
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit(pairs(), batch_size=BATCH, epochs=2, verbose=0)
    used = np.unique(pairs()["caption"])
    assert (np.abs(numpy(table) - before)[used] > 0).any(axis=1).all()


@pytest.mark.backend
def test_captions_are_dropped_as_often_as_asked() -> None:
    embedder = text_to_image(caption_dropout=0.25).conditioner.embedders["caption"]
    tokens = ops.convert_to_tensor(np.full((2000, 6), 3, "int32"))
    kept = numpy(embedder(tokens, training=True)["context"])
    whole = numpy(embedder(tokens[:1])["context"])
    empty = numpy(embedder(ops.convert_to_tensor(embedder.null(1)))["context"])
    dropped = np.isclose(kept, empty, atol=1e-5).all(axis=(1, 2))
    assert (dropped | np.isclose(kept, whole, atol=1e-5).all(axis=(1, 2))).all()
    assert dropped.mean() == pytest.approx(0.25, abs=0.04)
    assert np.isclose(numpy(embedder(tokens)["context"]), whole, atol=1e-5).all()


@pytest.mark.backend
def test_first_stage_stays_as_it_is() -> None:
    task = latent_diffusion()
    before = [numpy(v) for v in task.autoencoder.variables]
    assert not task.autoencoder.trainable_variables
    task.compile(keras.optimizers.Adam(1e-1))
    task.fit(images(), batch_size=BATCH, verbose=0)
    assert all((numpy(v) == b).all() for v, b in zip(task.autoencoder.variables, before, strict=True))


@pytest.mark.backend
def test_every_variable_has_a_path_of_its_own() -> None:
    # Keras on PyTorch registers parameters by path: of two with the same path it would clear the
    # gradient of only one, and the other's would pile up.
    for task in (real_text_to_image(), real_autoencoder_task()):
        paths = [v.path for v in task.variables if v.name != "seed_generator_state"]
        assert len(set(paths)) == len(paths)
        assert all(layer.built for layer in task._flatten_layers())


# === Measuring ===


@pytest.mark.backend
def test_validation_gives_the_same_number_for_the_same_weights() -> None:
    validation = pairs(6, seed=9)
    task = text_to_image(dropout=0.1)
    task.compile(keras.optimizers.SGD(0.0))
    history = task.fit(
        pairs(), batch_size=BATCH, epochs=3, validation_data=validation, verbose=0
    ).history
    assert len(set(history["val_loss"])) == 1
    assert len(set(history["loss"])) == 3
    assert task.evaluate(validation, batch_size=BATCH, verbose=0) == history["val_loss"][0]
    assert task.evaluate(validation, batch_size=BATCH, verbose=0, return_dict=True) == {
        "loss": history["val_loss"][0]
    }


@pytest.mark.backend
def test_validation_on_part_of_a_stream_is_the_same_part_each_time() -> None:
    x = images(20, seed=9)
    cut = [x[i : i + BATCH] for i in range(0, 20, BATCH)]
    task = latent_diffusion()
    task.compile(keras.optimizers.SGD(0.0))
    losses = [
        task.fit(images(BATCH), epochs=3, validation_data=data, validation_steps=2, verbose=0).history[
            "val_loss"
        ]
        for data in (cut, (batch for batch in cut))
    ]
    expected = task.evaluate(cut[:2], verbose=0)
    assert np.allclose(losses, expected, rtol=1e-6)
    assert task.evaluate(cut, verbose=0) != expected


def test_validation_on_endless_tf_data() -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices({"image": images(20)}).batch(BATCH).repeat()
    task = latent_diffusion()
    task.compile(keras.optimizers.SGD(0.0))
    losses = task.fit(
        images(BATCH), epochs=3, validation_data=data, validation_steps=2, verbose=0
    ).history["val_loss"]
    assert len(set(losses)) == 1


@pytest.mark.backend
def test_autoencoder_losses_are_what_they_say() -> None:
    task, x = autoencoder_task(kl_weight=0.01), images(6)
    measured = task.evaluate(x, batch_size=3, verbose=0, return_dict=True)
    target = x / 127.5 - 1.0
    model = task.autoencoder
    mean, logvar = np.split(numpy(model.moments(ops.convert_to_tensor(target.astype("float32")))), 2, -1)
    difference = np.abs(numpy(model.decode(ops.convert_to_tensor(mean))) - target)
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(axis=(1, 2, 3)).mean()
    assert measured["reconstruction_loss"] == pytest.approx(difference.mean(), rel=1e-4)
    assert measured["kl_loss"] == pytest.approx(kl, rel=1e-4)
    expected = difference.sum(axis=(1, 2, 3)).mean() + 0.01 * kl
    assert measured["loss"] == pytest.approx(expected, rel=1e-4)


def vq_task(**kwargs) -> AutoencoderTask:
    keras.utils.set_random_seed(0)
    model = VQModel((8, 8), 3, num_codes=16, num_res_blocks=1, groups=4, middle_attention=False)
    model.quantizer.codebook.assign(np.random.default_rng(0).standard_normal((16, 3)).astype("float32"))
    return AutoencoderTask(model, **kwargs)


@pytest.mark.backend
def test_vq_losses_are_what_they_say(tmp_path) -> None:
    task, x = vq_task(codebook_weight=0.5, reconstruction_loss="l2"), images(6)
    measured = task.evaluate(x, batch_size=3, verbose=0, return_dict=True)
    model, target = task.autoencoder, (x / 127.5 - 1.0).astype("float32")
    codes, _, loss = model.quantize(model.encode(target))
    error = (numpy(model.decode(codes, quantize=False)) - target) ** 2
    assert measured["reconstruction_loss"] == pytest.approx(error.mean(), rel=1e-4)
    assert measured["codebook_loss"] == pytest.approx(float(loss), rel=1e-4)
    assert measured["loss"] == pytest.approx(error.mean() + 0.5 * float(loss), rel=1e-4)
    assert task.predict(x, verbose=0) == pytest.approx(numpy(model(target)).clip(-1, 1), abs=1e-5)
    task.save(tmp_path / "task.keras")
    again = keras.saving.load_model(tmp_path / "task.keras")
    assert again.codebook_weight == 0.5
    assert again.predict(x, verbose=0) == pytest.approx(task.predict(x, verbose=0), abs=1e-6)


@pytest.mark.backend
def test_vq_autoencoder_learns_with_its_codes() -> None:
    task = vq_task()
    codes = numpy(task.autoencoder.quantizer.codebook).copy()
    task.compile(keras.optimizers.Adam(5e-3))
    history = task.fit([images(BATCH)] * 20, epochs=3, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert np.abs(numpy(task.autoencoder.quantizer.codebook) - codes).max() > 1e-2


@pytest.mark.backend
@pytest.mark.parametrize("weighting", ["simple", "min_snr"])
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_diffusion_loss_is_what_it_says(loss, weighting) -> None:
    task = latent_diffusion(loss=loss, weighting=weighting)
    rng = np.random.default_rng(0)
    latents, noise = rng.standard_normal((2, 2, 4, 4, 3)).astype("float32")
    steps = np.array([10, 900])
    given = (ops.convert_to_tensor(value) for value in (latents, steps.astype("int32"), noise))
    measured = numpy(task.compute_loss(y_pred=task.predict_noised(*given, {})))

    a = task.schedule.alphas_cumprod[steps][:, None, None, None]
    noisy = np.sqrt(a) * latents + np.sqrt(1 - a) * noise
    inputs = {"latents": noisy.astype("float32"), "timesteps": steps.astype("int32")}
    output = numpy(task.unet({key: ops.convert_to_tensor(value) for key, value in inputs.items()}))
    error = np.abs(noise - output) if loss == "l1" else (noise - output) ** 2
    snr = (a / (1 - a)).ravel()
    weight = np.minimum(snr, 5) / snr if weighting == "min_snr" else np.ones(2)
    assert measured == pytest.approx((weight * error.mean(axis=(1, 2, 3))).mean(), rel=1e-4)


@pytest.mark.backend
def test_predict_gives_reconstructions() -> None:
    task, x = autoencoder_task(), images(5)
    predicted = task.predict(x, batch_size=2, verbose=0)
    assert predicted.dtype == np.float32
    assert np.abs(predicted).max() <= 1.0
    floats = (x / 127.5 - 1.0).astype("float32")
    direct = numpy(task.autoencoder(ops.convert_to_tensor(floats))).clip(-1, 1)
    assert np.allclose(predicted, direct, atol=1e-5)
    assert np.allclose(task.predict(floats, verbose=0), direct, atol=1e-5)


# === Compiling ===


@pytest.mark.backend
def test_fit_compiles_with_defaults() -> None:
    task = latent_diffusion()
    task.fit(images(), batch_size=BATCH, verbose=0)
    optimizer = task.optimizer
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert float(optimizer.learning_rate) == pytest.approx(1e-4)
    assert (optimizer.weight_decay, optimizer.epsilon) == (1e-2, 1e-8)
    assert (optimizer.global_clipnorm, optimizer.clipnorm) == (1.0, None)
    optimizer = autoencoder_task().default_optimizer()
    assert (optimizer.beta_1, optimizer.beta_2) == (0.5, 0.9)


@pytest.mark.backend
def test_jit_compile_follows_the_backend() -> None:
    task = latent_diffusion()
    task.compile()
    assert task.jit_compile is (BACKEND == "jax")
    task.compile(jit_compile=False)
    assert task.jit_compile is False


@pytest.mark.backend
@pytest.mark.parametrize("make", [autoencoder_task, latent_diffusion])
def test_loss_of_ones_own_is_refused(make) -> None:
    with pytest.raises(ValueError, match="Expected no `loss`.*has its own.*Received: 'mse'"):
        make().compile(loss="mse")


@pytest.mark.backend
def test_compiles_again_from_its_config() -> None:
    task = latent_diffusion()
    task.compile(keras.optimizers.SGD(0.5, momentum=0.9), steps_per_execution=2)
    other = latent_diffusion()
    other.compile_from_config(task.get_compile_config())
    assert isinstance(other.optimizer, keras.optimizers.SGD)
    assert float(other.optimizer.learning_rate) == 0.5
    assert other.steps_per_execution == 2
    assert len(other.optimizer.variables) == 2 + len(other.trainable_variables)


# On PyTorch nothing is traced.
@pytest.mark.backend
def test_traces_once_for_each_shape() -> None:
    task = latent_diffusion()
    arguments = {"batch_size": BATCH, "validation_data": images(6), "verbose": 0}
    task.fit(images(), epochs=1, **arguments)
    first = task.unet.traces
    task.fit(images(), epochs=3, **arguments)
    task.evaluate(images(6), batch_size=BATCH, verbose=0)
    batches = {"torch": 3 * (3 + 2) + 2}
    assert task.unet.traces - first == batches.get(BACKEND, 0)
    if BACKEND == "tensorflow":  # any batch size in one trace
        assert first <= 4


@pytest.mark.backend
def test_tiny_networks_refuse_what_the_real_ones_do() -> None:
    assert issubclass(TinyUNet, UNet)
    with pytest.raises(ValueError, match="Expected a `context`"):
        TinyUNet(context_dim=4)({"latents": np.zeros((1, 4, 4, 3), "float32"), "timesteps": np.zeros(1)})


@pytest.mark.backend
@pytest.mark.parametrize("make", [autoencoder_task, text_to_image])
def test_nothing_keeps_a_task_or_its_data_that_are_done_with(make) -> None:
    task, data = make(), pairs() if make is text_to_image else images()
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit(data, batch_size=BATCH, validation_data=data, verbose=0)
    if make is text_to_image:
        task.generate(captions(1), num_steps=1, progress=False)
        kept = weakref.ref(data["image"])
    else:
        task.predict(data, verbose=0)
        kept = weakref.ref(data)
    kept_task = weakref.ref(task)
    del task, data
    gc.collect()
    assert kept_task() is None and kept() is None
