"""Every model of the original's configurations: opened from a checkpoint, it computes the same.

The originals' folders hold `config.yaml`, names and shapes, inputs and outputs; the checkpoint is
written here from the weights that follow from the names.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.files import write_ckpt
from keras_ldm.models import Autoencoder, AutoencoderKL
from keras_ldm.samplers.grids import uniform_timesteps_grid
from keras_ldm.weights import compvis
from keras_ldm.weights.compvis.diffusion import task_names
from keras_ldm.weights.compvis.names import autoencoder_names
from tests.eager import functions_eager
from tests.golden.original import FOLDER, Original, deviation

AUTOENCODERS = [
    *("kl-f16", "kl-f32", "kl-f4", "kl-f8", "vq-f16", "vq-f4", "vq-f4-noattn", "vq-f8"),
    "kl-stem",  # no published model's: a first level that is wider than the stem, linear attention
]
TASKS = [
    "adm",  # no published model's: class labels added to the timestep's embedding
    *("bsr_sr", "cin256-v1", "cin256-v2", "ffhq256", "inpainting_big", "layout2img"),
    *("lsun_churches256", "semantic_synthesis256", "txt2img-1p4B", "txt2img-1p4B-plms"),
]
ON_ALL_BACKENDS = {"kl-f8", "kl-stem", "vq-f4", "adm", "cin256-v2", "txt2img-1p4B", "ffhq256"}
TRACED = {"kl-f8", "vq-f4", "adm", "txt2img-1p4B"}
if keras.backend.backend() == "jax":  # one of each kind of network: it takes minutes to compile one
    ON_ALL_BACKENDS -= {"kl-f8", "cin256-v2", "ffhq256"}
CONDITIONS = {  # here: over there
    "class_label": "class",
    "tokens": "tokens",
    "segmentation": "segmentation",
    "low_resolution": "low_res",
    "masked_image": "masked_image",
    "mask": "mask",
}


def each(names):
    marked = [pytest.param(n, marks=[pytest.mark.backend] * (n in ON_ALL_BACKENDS)) for n in names]
    return pytest.mark.parametrize("opened", marked, indirect=True)


each_autoencoder, each_task, each_model = each(AUTOENCODERS), each(TASKS), each(AUTOENCODERS + TASKS)


def open_original(name, tmp_path_factory, write):
    """Has the checkpoint written, and opens it."""
    original = Original(name)
    path = tmp_path_factory.mktemp(name) / "model.ckpt"
    write(path, original.checkpoint())
    model = compvis.load(path, FOLDER / name / "config.yaml")
    path.unlink()
    return original, model


@pytest.fixture(scope="module")
def opened(request, tmp_path_factory):
    """An original and the model opened from its checkpoint; each is opened once."""
    return open_original(request.param, tmp_path_factory, write_ckpt)


@pytest.fixture(autouse=True)
def _eagerly(opened):
    """On TensorFlow one model of each kind of condition computes in graphs, the others eagerly."""
    with functions_eager(opened[0].name not in TRACED):
        yield


@each_model
def test_every_weight_has_a_name(opened) -> None:
    model = opened[1]
    if isinstance(model, Autoencoder):
        table, parts = autoencoder_names(model), [model]
    else:
        table, parts = task_names(model), [model.unet, model.autoencoder, model.conditioner]
    named = {id(v) for parameter in table.parameters.values() for v in parameter.variables}
    assert [w.path for part in parts if part for w in part.weights if id(w) not in named] == []


@each_autoencoder
def test_autoencoder(opened) -> None:
    original, model = opened
    assert isinstance(model, Autoencoder)
    encoded = model.encode(original["x"])
    if isinstance(model, AutoencoderKL):
        assert deviation(encoded.mean, original["mean"]) < 1e-4
        assert deviation(encoded.logvar, original["logvar"]) < 1e-4
        assert deviation(encoded.kl(), original["kl"]) < 1e-4
        decoded = model.decode(encoded.mode())
    else:
        assert deviation(encoded, original["pre_quant"]) < 1e-4
        quantized, indices, loss = model.quantize(encoded)
        assert deviation(quantized, original["quantized"]) < 1e-4
        np.testing.assert_array_equal(np.ravel(ops.convert_to_numpy(indices)), original["indices"])
        assert float(loss) == pytest.approx(float(original["codebook_loss"]), rel=1e-4, abs=1e-6)
        decoded = model.decode(encoded, quantize=True)
        assert deviation(model.decode(quantized, quantize=False), original["reconstruction"]) < 1e-4
    assert deviation(decoded, original["reconstruction"]) < 1e-4


def conditions(original, prefix="cond_in_"):
    return {
        ours: original[prefix + theirs]
        for ours, theirs in CONDITIONS.items()
        if prefix + theirs in original.arrays
    }


@each_task
def test_condition(opened) -> None:
    original, task = opened
    raw = conditions(original)
    assert bool(raw) == (task.conditioner is not None)
    if raw:
        arrays = task.conditioner.preprocess(raw)
        (embedded,) = task.conditioner(arrays).values()
        assert deviation(embedded, original["cond_out"]) < 1e-4


@each_task
def test_epsilon(opened) -> None:
    original, task = opened
    epsilon = task.predict_epsilon(original["x"], original["t"], conditions(original))
    assert deviation(epsilon, original["eps"]) < 1e-4


@each_task
def test_schedule(opened) -> None:
    original, task = opened
    assert deviation(task.schedule.alphas_cumprod, original["alphas_cumprod"]) < 1e-6
    timesteps = uniform_timesteps_grid(task.schedule, int(original["steps"]))
    np.testing.assert_array_equal(timesteps, original["timesteps"])


@each_task
def test_training_loss(opened) -> None:
    original, task = opened
    raw = conditions(original)
    arrays = {} if not raw else task.conditioner.preprocess(raw)
    tensors = {key: ops.convert_to_tensor(value) for key, value in arrays.items()}
    x0, t, noise = (ops.convert_to_tensor(original[key]) for key in ("x0", "t", "noise"))
    predicted = task.predict_noised(x0, t, noise, tensors)
    assert deviation(task.compute_loss(y_pred=predicted), original["training_loss"]) < 1e-4


@each_task
def test_samples(opened) -> None:
    original, task = opened
    raw, negative = conditions(original), conditions(original, "cond_in_null_")
    scale = float(original["guidance_scale"])
    latents = task.generate(
        raw or None,
        negative_conditions=negative if scale != 1.0 else None,
        num_steps=int(original["steps"]),
        guidance_scale=scale,
        sampler="plms" if original.name.endswith("plms") else "ddim",
        initial_latents=original["x"],
        output="latents",
        progress=False,
    )
    assert deviation(latents, original["sampled"]) < 1e-3
    images = task.decode_latents(np.ascontiguousarray(original["sampled"]))
    step = images.shape[1] // original["decoded"].shape[1]
    assert deviation(images[:, ::step, ::step], original["decoded"]) < 1e-3
