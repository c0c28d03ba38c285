"""The first stage's losses and gradients against the original's formulas, on every backend."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm import losses, models, tasks
from keras_ldm.files import write_ckpt
from keras_ldm.layers import DiagonalGaussian
from tests.contract import numpy
from tests.golden import first_stage_losses as golden
from tests.losses.test_lpips import backbone_arrays, linear_arrays

pytestmark = pytest.mark.backend

VALUES = np.load(Path(golden.__file__).with_suffix(".npz"))


@pytest.fixture(scope="module")
def perceptual_loss(tmp_path_factory) -> losses.LPIPS:
    path = tmp_path_factory.mktemp("lpips") / "lpips.ckpt"
    write_ckpt(path, {**backbone_arrays("alexnet"), **linear_arrays("alexnet")})
    return losses.LPIPS("alexnet", path)


def stored(case: str, kind: str, part: str) -> list[np.ndarray]:
    prefix = f"{case}/{kind}/{part}"
    return [VALUES[f"{prefix}{i}"] for i in range(sum(k.startswith(prefix) for k in VALUES.files))]


def gradients_of(
    task: tasks.AutoencoderTask, inputs: dict, order: list
) -> tuple[float, list[np.ndarray]]:
    """The loss of a training step and its gradients, in each backend's way."""
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = task.compute_loss(inputs, y_pred=task(inputs, training=True))
            return loss, tape.gradient(loss, [v.value for v in order])

        loss, gradients = step()
        return float(loss), [numpy(g) for g in gradients]
    if name == "jax":
        import jax

        fixed = [v for v in task.variables + task.metrics_variables if not any(v is o for o in order)]

        def function(values):
            pairs = [*zip(order, values, strict=True), *((v, v.value) for v in fixed)]
            with keras.StatelessScope(state_mapping=pairs) as scope:
                loss = task.compute_loss(inputs, y_pred=task(inputs, training=True))
            return loss, [scope.get_current_value(v) for v in fixed]

        run = jax.jit(jax.value_and_grad(function, has_aux=True))
        (loss, after), gradients = run([v.value for v in order])
        for variable, value in zip(fixed, after, strict=True):
            variable.assign(value)
        return float(loss), [np.asarray(g) for g in gradients]
    task.zero_grad()
    loss = task.compute_loss(inputs, y_pred=task(inputs, training=True))
    loss.backward()
    return float(loss.detach()), [v.value.grad.numpy() for v in order]


def make(case: str, perceptual_loss: losses.LPIPS, **kwargs) -> tasks.AutoencoderTask:
    options = golden.CASES[case]
    small = {"num_res_blocks": 1, "groups": golden.GROUPS}
    if options["vq"]:
        model = models.VQModel(golden.CHANNELS, golden.LATENT, golden.CODES, beta=golden.BETA, **small)
        model.quantizer.codebook.assign(golden.inputs()["codebook"])
    else:
        model = models.AutoencoderKL(golden.CHANNELS, golden.LATENT, **small)
    discriminator = models.PatchDiscriminator(4, 2, options["norm"], 3 + options["condition"])
    return tasks.AutoencoderTask(
        model,
        **{
            "reconstruction_loss": options["error"],
            "log_variance": 0.0 if options["vq"] else golden.LOG_VARIANCE,
            "learn_log_variance": not options["vq"],
            "perceptual_loss": perceptual_loss,
            "perceptual_weight": golden.PERCEPTUAL,
            "discriminator": discriminator,
            "adversarial_loss": options["adversarial"],
            "discriminator_weight": golden.WEIGHT,
            "discriminator_factor": golden.FACTOR,
            "discriminator_condition": "maps" if options["condition"] else None,
            "kl_weight": golden.KL,
            "codebook_weight": golden.CODEBOOK,
            **kwargs,
        },
    )


def assign(case: str, task: tasks.AutoencoderTask) -> list:
    """Loads the stored weights; the variables, in the order of `expected_gradients`."""
    model = task.autoencoder
    weights = stored(case, "weight", "autoencoder")
    shared = list(model.trainable_variables)
    if golden.CASES[case]["vq"]:
        shared = [v for v in shared if v is not model.quantizer.codebook]
    for variable, value in zip(shared, weights, strict=True):
        variable.assign(fit(value, variable.shape))  # of moments, VQ has the means alone
    own = task.discriminator.trainable_variables
    for variable, value in zip(own, stored(case, "weight", "discriminator"), strict=True):
        variable.assign(value)
    return [*shared, *own]


def _with(noise: np.ndarray):
    return lambda self, seed=None: self.mean + ops.sqrt(self.variance) * ops.convert_to_tensor(noise)


def fit(value: np.ndarray, shape) -> np.ndarray:
    return value[tuple(slice(side) for side in shape)]


@pytest.mark.parametrize("case", golden.CASES)
def test_terms_and_gradients(case: str, perceptual_loss, monkeypatch) -> None:
    options, given = golden.CASES[case], golden.inputs()
    task = make(case, perceptual_loss)
    variables = assign(case, task)
    monkeypatch.setattr(DiagonalGaussian, "sample", _with(given["noise"]))
    extra = task.autoencoder.quantizer.codebook if options["vq"] else task.log_variance
    inputs = {"image": ops.convert_to_tensor(given["image"])}
    if options["condition"]:
        inputs["condition"] = ops.convert_to_tensor(given["condition"])
    loss, gradients = gradients_of(task, inputs, [*variables, extra])

    expected = {k.split("/")[2]: VALUES[k] for k in VALUES.files if k.startswith(f"{case}/term/")}
    assert abs(loss / expected.pop("loss") - 1) < 1e-4
    got = {name: float(tracker.result()) for name, tracker in task.trackers.items()}
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(got[name] - value) < 1e-4 * max(1, abs(value)), name

    last = "codebook" if options["vq"] else "log_variance"
    reference = [*stored(case, "gradient", "autoencoder"), *stored(case, "gradient", "discriminator")]
    reference.append(VALUES[f"{case}/gradient/{last}"])
    largest = max(np.abs(value).max() for value in reference)
    for variable, value, gradient in zip([*variables, extra], reference, gradients, strict=True):
        value = fit(value, gradient.shape)
        tolerance = 1e-3 * np.abs(value).max()
        if variable.path.endswith("to_key/bias"):  # which softmax cancels: no gradient but rounding
            tolerance = 1e-7 * largest
        assert np.abs(gradient - value).max() < tolerance, variable.path
