"""The classifier of noisy latents: training, files, and the guidance it gives."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm import diffusion, samplers
from keras_ldm.models import UNet, UNetClassifier
from keras_ldm.tasks import LatentDiffusion, NoisyLatentClassifier, load
from tests.tasks.tiny import (
    LATENT,
    TinyUNet,
    images,
    latent_diffusion,
    numpy,
    pixel_autoencoder,
    text_to_image,
)

pytestmark = pytest.mark.backend
needs_xla = pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch has no XLA")
NUM_CLASSES = 3


def shades(count=48, seed=0):
    """Pictures of three shades, and which."""
    labels = np.arange(count) % NUM_CLASSES
    noise = np.random.default_rng(seed).integers(-20, 21, (count, 16, 16, 3))
    return {"image": (60 + 70 * labels[:, None, None, None] + noise).astype(np.uint8), "shade": labels}


def network(**kwargs):
    options = {"num_res_blocks": 1, "attention_levels": (), "num_heads": 2, "groups": 4, **kwargs}
    return UNetClassifier(NUM_CLASSES, (8, 8), LATENT, **options)


@pytest.fixture(scope="module")
def diffused():
    """Of the pixels of shades: a scale of the latents, and a denoiser that knows a little."""
    keras.utils.set_random_seed(0)
    task = LatentDiffusion(pixel_autoencoder(), TinyUNet(), image_size=16, ema_decay=None)
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit({"image": shades()["image"]}, batch_size=16, epochs=20, verbose=0)
    return task


@pytest.fixture(scope="module")
def classifier(diffused):
    keras.utils.set_random_seed(1)
    task = NoisyLatentClassifier(diffused.latent_space, network(), diffused.schedule, label_key="shade")
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit(shades(), batch_size=16, epochs=40, verbose=0)
    return task


def draw(task, **kwargs):
    arguments = {"num_steps": 4, "seed": 0, "output": "latents", "progress": False, **kwargs}
    return task.generate(**arguments)


def assert_close(a, b, tolerance=2e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max()))


# === Training ===


def test_it_learns_the_classes_and_knows_less_in_more_noise(diffused, classifier) -> None:
    data = shades(seed=5)
    untrained = NoisyLatentClassifier(diffused.latent_space, network(), label_key="shade")
    before = untrained.evaluate(data, verbose=0, return_dict=True)
    after = classifier.evaluate(data, verbose=0, return_dict=True)
    assert before["loss"] == pytest.approx(np.log(NUM_CLASSES), abs=1e-5)  # the last layer starts at 0
    assert after["accuracy"] > 0.7 > 0.4 > before["accuracy"] and after["loss"] < 0.7
    assert after == classifier.evaluate(data, verbose=0, return_dict=True)
    clean, noisy = (classifier.predict(data, timestep=t) for t in (0, 999))
    assert (clean.argmax(-1) == data["shade"]).all()
    np.testing.assert_allclose(noisy.sum(axis=-1), 1.0, atol=1e-5)
    chosen = [p[range(48), data["shade"]].mean() for p in (clean, noisy)]
    assert chosen[0] > 0.9 and chosen[1] < chosen[0] - 0.1


def test_the_loss_is_the_cross_entropy_of_what_it_says(diffused, classifier) -> None:
    data = classifier.preprocess(shades(7))
    inputs = {name: ops.convert_to_tensor(value) for name, value in data.items()}
    predicted = classifier(inputs)
    loss = float(numpy(classifier.compute_loss(y_pred=predicted)))
    logits = numpy(predicted["logits"]).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(probabilities[range(7), data["label"]]).mean()
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("timestep", [0, 500, 999])
def test_predict_is_the_network_on_noised_latents(diffused, classifier, timestep) -> None:
    data, rates = shades(5), diffused.schedule
    latents = diffused.encode_images(data["image"])
    noise = numpy(samplers.ImageNoise(samplers.image_seeds(3, 5))(latents.shape))
    noisy = rates.signal_rates[timestep] * latents + rates.noise_rates[timestep] * noise
    inputs = {"latents": noisy.astype("float32"), "timesteps": np.full(5, timestep)}
    logits = numpy(classifier.network({k: ops.convert_to_tensor(v) for k, v in inputs.items()}))
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert_close(classifier.predict(data, timestep=timestep, seed=3, batch_size=2), expected)


def test_moments_in_place_of_images(diffused, classifier) -> None:
    data = shades(12)
    moments = {"moments": diffused.encode_moments(data["image"]), "shade": data["shade"]}
    a, b = (classifier.evaluate(d, verbose=0, return_dict=True) for d in (data, moments))
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_a_saved_classifier_is_the_same(diffused, classifier, tmp_path) -> None:
    classifier.save(tmp_path / "classifier.keras")
    restored = load(tmp_path / "classifier.keras")
    data = shades(9, seed=3)
    expected = classifier.predict(data, timestep=200)
    np.testing.assert_allclose(restored.predict(data["image"], timestep=200), expected, atol=1e-6)
    drawn = [
        draw(diffused, num_images=2, classifier=c, classifier_labels=2) for c in (classifier, restored)
    ]
    assert_close(*drawn, 1e-6)
    restored.fit(data, epochs=1, verbose=0)  # the optimizer came along
    assert int(numpy(restored.optimizer.iterations)) > int(numpy(classifier.optimizer.iterations))


# === Guidance ===


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "heun", "ddpm"])
def test_generate_is_the_wrapper_put_together_by_hand(diffused, classifier, sampler) -> None:
    labels = ops.convert_to_tensor(np.array([0, 2], "int32"))

    def net(latents, timesteps):
        return diffused.unet({"latents": latents, "timesteps": timesteps})

    denoise = diffusion.classifier_guidance(
        diffusion.Denoiser(net, diffused.schedule),
        lambda x, sigma: classifier.log_probability(x, sigma, labels),
        scale=3.0,
    )
    found = samplers.get_sampler(sampler)
    sigmas = found.grid(diffused.schedule, 4)
    noise = samplers.ImageNoise(samplers.image_seeds(7, 2))
    scale = np.sqrt(1 + sigmas[0] ** 2) if found.starts_from_unit_variance else sigmas[0]
    x = found.function(denoise, noise((2, 8, 8, LATENT)) * float(scale), sigmas, seed=noise)
    expected = numpy(x) / np.sqrt(1 + sigmas[-1] ** 2)
    guide = {"classifier": classifier, "classifier_labels": [0, 2], "classifier_scale": 3.0}
    out = draw(diffused, num_images=2, sampler=sampler, seed=7, **guide)
    assert_close(out, expected)
    assert np.abs(out - draw(diffused, num_images=2, sampler=sampler, seed=7)).max() > 1e-2


def test_more_scale_gives_more_of_the_class(diffused, classifier) -> None:
    labels = np.arange(24) % NUM_CLASSES
    found = []
    for scale in (0.0, 2.0, 10.0):
        drawn = draw(
            diffused,
            classifier=classifier,
            classifier_labels=labels,
            classifier_scale=scale,
            output="images",
            num_steps=20,
        )
        found.append(classifier.predict(drawn)[range(24), labels].mean())
    assert found[0] < found[1] < found[2] and found[2] > 0.75 > 0.5 > found[0]


def test_no_scale_no_change_and_one_label_for_all(diffused, classifier) -> None:
    guide = {"classifier": classifier, "classifier_labels": [1, 1, 1]}
    assert_close(
        draw(diffused, **guide, classifier_scale=0.0), draw(diffused, num_images=3), tolerance=1e-6
    )
    together = draw(diffused, **guide)
    assert_close(draw(diffused, num_images=3, classifier=classifier, classifier_labels=1), together)
    guide["classifier_labels"] = [0, 1, 2]
    assert_close(draw(diffused, **guide, batch_size=2), draw(diffused, **guide))
    assert np.isfinite(draw(diffused, **guide, classifier_scale=30.0, num_steps=1)).all()


def test_new_labels_scales_and_weights_need_no_new_trace(diffused, classifier) -> None:
    calls = []
    other = NoisyLatentClassifier(diffused.latent_space, network(), label_key="shade")
    forward = other.network.call
    other.network.call = lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs)
    guide = {"classifier": other, "classifier_labels": [0, 1]}
    before = draw(diffused, **guide)
    assert_close(before, draw(diffused, num_images=2))  # an untrained head: no slope
    traces = len(calls)
    other.network.set_weights(classifier.network.get_weights())
    after = draw(diffused, **guide, classifier_scale=2.0)
    draw(diffused, **{**guide, "classifier_labels": [2, 2]}, sampler="heun", num_steps=7)
    assert traces and (len(calls) == traces or keras.backend.backend() == "torch")
    assert_close(after, draw(diffused, **{**guide, "classifier": classifier}, classifier_scale=2.0))


def test_it_joins_the_other_guidance_and_a_mask(diffused, classifier) -> None:
    keras.utils.set_random_seed(2)
    conditional = text_to_image(latent_scale=1.0, image_size=16)
    guide = NoisyLatentClassifier(conditional.latent_space, network(), conditional.schedule)
    guide.network.set_weights(classifier.network.get_weights())
    tokens = np.ones((2, 6), "int32")
    arguments = {"classifier": guide, "classifier_labels": [0, 1], "guidance_scale": 4.0}
    both = draw(conditional, prompts=tokens, **arguments)
    for without in ("classifier", "guidance"):
        rest = {k: v for k, v in arguments.items() if not k.startswith(without)}
        rest = {"guidance_scale": 1.0, **rest}
        assert np.abs(draw(conditional, prompts=tokens, **rest) - both).max() > 1e-3
    picture = images(1, seed=4)
    mask = np.zeros((1, 16, 16), bool)
    mask[:, :, 8:] = True
    filled = draw(
        diffused,
        image=picture,
        mask=mask,
        classifier=classifier,
        classifier_labels=2,
        output="images",
    )
    assert (filled[:, :, :8] == picture[:, :, :8]).all()
    assert (filled[:, :, 8:] != picture[:, :, 8:]).any()


@needs_xla
def test_the_whole_loop_as_one_program(diffused, classifier) -> None:
    guide = {"classifier": classifier, "classifier_labels": [0, 1], "classifier_scale": 2.0}
    stepwise = draw(diffused, **guide, sampler="dpmpp_2m")
    assert_close(draw(diffused, **guide, sampler="dpmpp_2m", compile_loop=True), stepwise, 1e-4)


# === Refusals ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classifier": True}, "together. Received: only the classifier"),
        ({"classifier_labels": [1]}, "together. Received: only the labels"),
        ({"classifier": True, "classifier_labels": [1, 3]}, "labels.*0 to 2"),
        ({"classifier": True, "classifier_labels": [0.5]}, "labels as integers"),
        ({"classifier": True, "classifier_labels": [[1]]}, "labels as integers with 1 dim"),
        ({"classifier": True, "classifier_labels": [1, 2], "num_images": 3}, "one number of images"),
        ({"classifier": True, "classifier_labels": 1, "classifier_scale": np.nan}, "finite"),
        ({"classifier": True, "classifier_labels": 1, "classifier_scale": "2"}, "one number.*'2'"),
        ({"classifier": True, "classifier_labels": 1, "classifier_scale": [1, 2]}, "as one number"),
        ({"num_images": 1, "classifier_scale": 2.0}, "a `classifier` with `classifier_scale`"),
        ({"classifier": "a", "classifier_labels": 1}, "NoisyLatentClassifier. Received: str"),
    ],
)
def test_what_makes_no_sense_is_refused(diffused, classifier, arguments, message) -> None:
    if arguments.get("classifier") is True:
        arguments = {**arguments, "classifier": classifier}
    with pytest.raises(ValueError, match=message):
        draw(diffused, **arguments)


def test_other_latents_and_schedules_are_refused(diffused, classifier) -> None:
    guide = {"classifier": classifier, "classifier_labels": 1}
    with pytest.raises(ValueError, match="classifier of this model's latents"):
        draw(latent_diffusion(latent_scale=0.3, image_size=16), **guide)
    flow = latent_diffusion(
        latent_scale=1.0,
        image_size=16,
        schedule=diffusion.FlowSchedule(),
        parameterization="flow",
    )
    with pytest.raises(ValueError, match="variance-preserving schedule for guidance"):
        draw(flow, **guide)
    with pytest.raises(ValueError, match="Received: a FlowSchedule"):
        NoisyLatentClassifier(diffused.latent_space, network(), diffusion.FlowSchedule())
    with pytest.raises(ValueError, match="network of 3 input channels.*in_channels=4"):
        NoisyLatentClassifier(diffused.latent_space, UNetClassifier(3, (8,), 4, groups=4, num_heads=2))
    with pytest.raises(ValueError, match="known scale of the latents"):
        unmeasured = latent_diffusion().latent_space
        NoisyLatentClassifier(unmeasured, network(), label_key="shade").fit(shades(), verbose=0)


def test_latents_of_a_size_that_the_network_does_not_take_are_refused(diffused, classifier) -> None:
    only = NoisyLatentClassifier(
        diffused.latent_space,
        network(pooling="attention", latent_size=(8, 8)),
        diffused.schedule,
        label_key="shade",
    )
    guide = {"classifier": only, "classifier_labels": 1}
    assert np.isfinite(draw(diffused, **guide)).all()
    large = {"image": images(4, size=32), "shade": np.zeros(4, int)}
    for call in (
        lambda: draw(diffused, **guide, image_size=32),
        lambda: only.predict(large),
        lambda: only.fit(large, verbose=0),
        lambda: only.fit({"moments": np.zeros((4, 16, 16, 6)), "shade": large["shade"]}, verbose=0),
    ):
        with pytest.raises(ValueError, match="latents of 8x8.*Received: 16x16"):
            call()
    with pytest.raises(ValueError, match="sides that divide by 2.*Received: 9x9"):
        classifier.predict(images(2, size=18))


def test_wrong_data_are_refused(classifier) -> None:
    data = shades(4)
    for wrong, message in (
        ({"image": data["image"]}, "the key 'shade'"),
        ({"shade": data["shade"]}, "the key 'image' or 'moments'"),
        ({**data, "shade": data["shade"] + 1}, "labels.*0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.fit(wrong, verbose=0)
    with pytest.raises(ValueError, match="`timestep`"):
        classifier.predict(data, timestep=1000)
    with pytest.raises(ValueError, match="the key 'image'"):
        classifier.predict({"shade": data["shade"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "at least 2 classes"),
        ({"pooling": "max"}, "`pooling` 'average' or 'attention'"),
        ({"pooling": "attention"}, "`latent_size` with pooling='attention'"),
        ({"latent_size": (8, 8)}, "with it alone"),
        ({"num_heads": 3}, "divide into heads"),
    ],
)
def test_networks_that_do_not_fit_together_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        UNetClassifier(**{"num_classes": 3, "channels": (8,), "groups": 4, "num_heads": 2, **options})


def test_a_unet_is_no_classifier_and_shares_its_encoder() -> None:
    options = {"num_res_blocks": 1, "attention_levels": (1,), "num_heads": 2, "groups": 4}
    classifier, unet = UNetClassifier(3, (8, 8), 3, **options), UNet((8, 8), 3, 3, **options)

    def encoder(model):
        parts = (model.embedding_in, model.embedding_out, model.conv_in, *model.encoder, model.middle)
        return [w for part in parts for w in part.weights]

    for a, b in zip(encoder(classifier), encoder(unet), strict=True):
        assert a.shape == b.shape
        a.assign(b)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")
    time = ops.convert_to_tensor(np.array([5.0, 800.0], "float32"))
    features = [m.encode(x, m.embed({"timesteps": time}), None)[0] for m in (classifier, unet)]
    assert_close(*map(numpy, features), 1e-6)
