"""Opening and writing the original's checkpoints: what is strict, what is optional, what comes back."""

import shutil

import keras
import numpy as np
import pytest
import yaml
from keras import ops

from keras_ldm.conditioning import Conditioner, TextEmbedder
from keras_ldm.files import read_tensors, write_ckpt, write_safetensors
from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet, VQModel
from keras_ldm.tasks import LatentDiffusion
from keras_ldm.weights import compvis
from tests.files.handmade import beside, call, text, zipped
from tests.golden.original import FOLDER, Original, deviation

pytestmark = pytest.mark.usefixtures("eagerly")

AUTOENCODER, TASK = "kl-f4", "cin256-v2"


def config_of(name):
    return yaml.safe_load((FOLDER / name / "config.yaml").read_text("utf-8"))


def write(folder, name=AUTOENCODER, state=None):
    """A checkpoint with its configuration beside it."""
    path = folder / "model.ckpt"
    write_ckpt(path, Original(name).checkpoint() if state is None else state)
    shutil.copy(FOLDER / name / "config.yaml", folder / "config.yaml")
    return path


# === Opening ===


@pytest.mark.backend
def test_configuration_beside_the_checkpoint(tmp_path) -> None:
    model = compvis.load(write(tmp_path))
    assert isinstance(model, AutoencoderKL)
    original = Original(AUTOENCODER)
    assert deviation(model.encode(original["x"]).mean, original["mean"]) < 1e-4
    (tmp_path / "config.yaml").rename(tmp_path / "model.yaml")
    assert isinstance(compvis.load(tmp_path / "model.ckpt"), AutoencoderKL)
    (tmp_path / "model.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"'model.yaml' or 'config.yaml'"):
        compvis.load(tmp_path / "model.ckpt")
    with pytest.raises(FileNotFoundError, match="nothing.yaml"):
        compvis.load(tmp_path / "model.ckpt", tmp_path / "nothing.yaml")
    with pytest.raises(FileNotFoundError, match="absent.ckpt"):
        compvis.load(tmp_path / "absent.ckpt", config_of(AUTOENCODER))


def test_safetensors_and_configuration_as_a_dictionary(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, Original("vq-f4").checkpoint())
    model = compvis.load(path, config_of("vq-f4"))
    assert isinstance(model, VQModel)
    original = Original("vq-f4")
    assert deviation(model.encode(original["x"]), original["pre_quant"]) < 1e-4


def test_half_precision_becomes_float32(tmp_path) -> None:
    state = {k: v.astype(np.float16) for k, v in Original(AUTOENCODER).checkpoint().items()}
    model = compvis.load(write(tmp_path, state=state))
    assert {v.dtype for v in model.variables} == {"float32"}
    original = Original(AUTOENCODER)
    assert deviation(model.encode(original["x"]).mean, original["mean"]) < 1e-2


def test_averages_or_the_weights_themselves(tmp_path) -> None:
    original = Original("ffhq256")
    path = write(tmp_path, "ffhq256")
    averaged, plain = compvis.load(path), compvis.load(path, ema=False)
    assert averaged.ema is not None
    assert plain.ema is None
    # The averages are 0.9 times the weights here, and both models train from the weights.
    for a, b in zip(averaged.unet.variables, plain.unet.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    for variable, average in averaged.ema.pairs():
        np.testing.assert_allclose(
            ops.convert_to_numpy(average), 0.9 * ops.convert_to_numpy(variable), rtol=1e-6, atol=1e-8
        )
    assert int(averaged.ema.updates) == 1
    arguments = original["x"], original["t"]
    assert deviation(averaged.predict_epsilon(*arguments), original["eps"]) < 1e-4
    assert deviation(plain.predict_epsilon(*arguments), original["eps"]) > 1e-2
    with pytest.raises(ValueError, match=r"missing from it: model_ema\.diffusion_model"):
        state = original.checkpoint()
        del state["model_ema.diffusion_modeltime_embed0weight"]
        compvis.load(write(tmp_path, "ffhq256", state))


def test_scale_factor_of_the_checkpoint_comes_first(tmp_path) -> None:
    state = {**Original("ffhq256").checkpoint(), "scale_factor": np.float32(0.25)}
    task = compvis.load(write(tmp_path, "ffhq256", state))
    np.testing.assert_allclose(ops.convert_to_numpy(task.latent_space.std), 4.0)


def test_options_of_the_task(tmp_path) -> None:
    path = write(tmp_path, "adm")
    assert compvis.load(path).image_size == (16, 16)  # 8 latents of 2 pixels
    task = compvis.load(path, changed("adm", "params.parameterization", "x0"))
    x0, noise = (ops.convert_to_tensor(Original("adm")[name]) for name in ("x0", "noise"))
    labels = {"class_label": ops.convert_to_tensor([1, 2])}
    targets = task.predict_noised(x0, ops.convert_to_tensor([9, 400]), noise, labels)["target"]
    assert deviation(targets, Original("adm")["x0"]) < 1e-6


def test_what_training_alone_needs_is_left_out(tmp_path) -> None:
    state = Original(AUTOENCODER).checkpoint()
    state["loss.discriminator.main.0.weight"] = np.ones((2, 2), np.float32)
    assert isinstance(compvis.load(write(tmp_path, state=state)), AutoencoderKL)


# === Strict ===


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("encoder.conv_in.weight"), r"1 missing from it: encoder\.conv_in\.weight"),
        (lambda s: s.update(extra=np.ones(2, np.float32)), r"1 not in the model: extra"),
        (
            lambda s: s.update({"quant_conv.bias": np.ones(7, np.float32)}),
            r"1 of another shape: quant_conv\.bias \(7,\) for \(6,\)",
        ),
        (
            lambda s: [s.pop(k) for k in [*s] if k.startswith("decoder.mid")],
            r"26 missing from it: .* and 6 more",
        ),
    ],
)
def test_parameters_must_be_the_models(tmp_path, change, match) -> None:
    state = Original(AUTOENCODER).checkpoint()
    change(state)
    with pytest.raises(ValueError, match=match):
        compvis.load(write(tmp_path, state=state))


def changed(name, path, value):
    config = config_of(name)
    place = config["model"]
    *folders, last = path.split(".")
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return config


LDM = "params.cond_stage_config"


@pytest.mark.parametrize(
    ("name", "path", "value", "match"),
    [
        (AUTOENCODER, "target", "ldm.models.Other", "Expected a configuration of.*'ldm.models.Other'"),
        (AUTOENCODER, "params.embed_dim", None, "the option 'embed_dim' at"),
        (AUTOENCODER, "params.ddconfig.novelty", 3, r"known at .*ddconfig.*\['novelty'\]"),
        (AUTOENCODER, "params.ddconfig.tanh_out", True, "'tanh_out'.*to be False.*not supported"),
        (
            AUTOENCODER,
            "params.ddconfig.attn_type",
            "flash",
            "'attn_type'.*'linear', 'none', 'vanilla'.*'flash'",
        ),
        (AUTOENCODER, "params.ddconfig", 3, "options by name.*int"),
        (TASK, "params.beta_schedule", "sqrt", "'cosine', 'linear', 'sqrt_linear'.*'sqrt'"),
        (TASK, "params.parameterization", "mu", r"\['eps', 'x0'\].*'mu'"),
        (TASK, "params.conditioning_key", "hybrid", "'concat', 'crossattn' or 'adm'.*'hybrid'"),
        (TASK, "params.learn_logvar", True, "'learn_logvar'.*not supported"),
        (TASK, f"{LDM}.target", "ldm.modules.Clip", "a condition encoder among.*'ldm.modules.Clip'"),
        (TASK, "params.unet_config.target", "other.UNet", "Expected the U-Net.*'other.UNet'"),
        (TASK, "params.unet_config.params.channel_mult", [2, 2], r"to begin with 1.*\[2, 2\]"),
        (TASK, "params.unet_config.params.num_heads", None, "`num_heads` or `num_head_channels`"),
        (TASK, "params.unet_config.params.dims", 3, "'dims'.*to be 2.*not supported"),
        (TASK, "params.unet_config.params.num_heads", 0, "'num_heads' at .*integer of at least 1.* 0"),
        (TASK, "params.unet_config.params.model_channels", "64", "'model_channels'.*integer.*'64'"),
        (TASK, "params.unet_config.params.channel_mult", [], r"to begin with 1.*\[\]"),
        (TASK, "params.unet_config.params.attention_resolutions", 8, "a list of integers.*: 8"),
        (TASK, "params.image_size", [64, 64], r"'image_size'.*integer.*\[64, 64\]"),
        (TASK, "params.timesteps", 1000.0, "'timesteps'.*integer.*1000.0"),
        (TASK, "params.linear_start", "low", "'linear_start'.*a number.*'low'"),
        (TASK, "params.use_ema", "false", "'use_ema'.*true or false.*'false'"),
        (TASK, "params.parameterization", ["eps"], r"'parameterization'.*\['eps'\]"),
        ("adm", "params.unet_config.params.num_classes", None, "`num_classes` of the U-Net.*'adm'"),
        (TASK, "params.first_stage_config.target", "x.VAE", "Expected an autoencoder.*'x.VAE'"),
    ],
)
def test_configuration_must_be_supported(tmp_path, name, path, value, match) -> None:
    checkpoint = tmp_path / "model.ckpt"
    write_ckpt(checkpoint, {"a": np.ones(1, np.float32)})
    with pytest.raises(ValueError, match=match):
        compvis.load(checkpoint, changed(name, path, value))


@pytest.mark.parametrize(
    ("config", "error"),
    [(3, ValueError), (["model"], ValueError), ("model:\n  target: x\n" * 300, FileNotFoundError)],
)
def test_configuration_must_be_one(tmp_path, config, error) -> None:
    checkpoint = tmp_path / "model.ckpt"
    write_ckpt(checkpoint, {"a": np.ones(1, np.float32)})
    with pytest.raises(error, match="Expected a configuration"):
        compvis.load(checkpoint, config)


def test_number_without_a_point(tmp_path) -> None:
    """YAML 1.1 takes 15e-4 for a string; the original's reader does not."""
    config = changed("ffhq256", "params.linear_start", "15e-4")
    task = compvis.load(write(tmp_path, "ffhq256"), config)
    same = compvis.load(tmp_path / "model.ckpt", changed("ffhq256", "params.linear_start", 0.0015))
    np.testing.assert_array_equal(task.schedule.betas, same.schedule.betas)


def test_schedule_must_be_that_of_the_configuration(tmp_path) -> None:
    task = compvis.load(write(tmp_path, "ffhq256"))
    written = tmp_path / "written.ckpt"
    compvis.save(task, written)
    compvis.load(written, config_of("ffhq256"))
    for option, value in (("linear_end", 0.0155), ("timesteps", 500)):
        with pytest.raises(ValueError, match="Expected the noise schedule of the configuration"):
            compvis.load(written, changed("ffhq256", f"params.{option}", value))


@pytest.mark.parametrize("text", ["- 1", "model: 3", "model: [", "\x00", "other: {}"])
def test_configuration_must_describe_a_model(tmp_path, text) -> None:
    checkpoint, config = tmp_path / "model.ckpt", tmp_path / "config.yaml"
    write_ckpt(checkpoint, {"a": np.ones(1, np.float32)})
    config.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        compvis.load(checkpoint)


def test_configuration_runs_nothing(tmp_path) -> None:
    checkpoint, config = tmp_path / "model.ckpt", tmp_path / "config.yaml"
    write_ckpt(checkpoint, {"a": np.ones(1, np.float32)})
    config.write_text(f"model: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    with pytest.raises(ValueError, match="a configuration in YAML"):
        compvis.load(checkpoint)
    assert not (tmp_path / "made").exists()


def test_hostile_checkpoint(tmp_path) -> None:
    """What else a pickle may try is in tests/files."""
    shutil.copy(FOLDER / AUTOENCODER / "config.yaml", tmp_path / "config.yaml")
    made = tmp_path / "made"
    command = call("os.system", text(f"touch {made}"))
    for value in (command, beside(command)):
        checkpoint = zipped(tmp_path / "model.ckpt", value)
        with pytest.raises(ValueError, match=r"names 'os\.system'.*do not trust"):
            compvis.load(checkpoint)
    assert not made.exists()


def test_damaged_checkpoint(tmp_path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.ckpt"):
        compvis.load(path)


def test_second_names_of_the_first_stage(tmp_path) -> None:
    """Where it embeds the condition too, a checkpoint may hold it twice."""
    state = Original("inpainting_big").checkpoint()
    first = {k: v for k, v in state.items() if k.startswith("first_stage_model.")}
    twins = {k.replace("first_stage_model.", "cond_stage_model.", 1): v for k, v in first.items()}
    assert isinstance(
        compvis.load(write(tmp_path, "inpainting_big", {**state, **twins})), LatentDiffusion
    )
    name = next(iter(twins))
    with pytest.raises(ValueError, match="1 of another shape: cond_stage_model"):
        wrong = {**twins, name: np.ones(3, np.float32)}
        compvis.load(write(tmp_path, "inpainting_big", {**state, **wrong}))
    with pytest.raises(ValueError, match="1 not in the model: cond_stage_model.other"):
        more = {"cond_stage_model.other": np.ones(3, np.float32)}
        compvis.load(write(tmp_path, "inpainting_big", {**state, **more}))


# === Writing ===


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("name", ["kl-f8", "vq-f4", "inpainting_big", "txt2img-1p4B"])
def test_written_as_it_was_read(tmp_path, name, suffix) -> None:
    path = write(tmp_path, name)
    model = compvis.load(path)
    written = tmp_path / f"written{suffix}"
    compvis.save(model, written)
    with read_tensors(path) as before, read_tensors(written) as after:
        assert set(before) <= set(after)
        for key in before:
            assert before.shape(key) == after.shape(key)
            np.testing.assert_array_equal(before[key], after[key].astype(before[key].dtype), key)
        optional = {key for key in after if "." not in key or key.startswith("cond_stage_model.")}
        assert set(after) - set(before) <= optional
    again = compvis.load(written, config_of(name))
    assert type(again) is type(model)
    for a, b in zip(model.variables, again.variables, strict=True):
        if "seed" not in a.path:
            np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def test_buffers_of_the_schedule(tmp_path) -> None:
    """As the original computes them, which the originals' folders name."""
    task = compvis.load(write(tmp_path, "lsun_churches256"))
    compvis.save(task, tmp_path / "written.ckpt")
    with read_tensors(tmp_path / "written.ckpt") as tensors:
        original = Original("lsun_churches256")
        assert set(original.buffers) <= set(tensors)
        assert all(tensors.shape(name) == tuple(shape) for name, shape in original.buffers.items())
        products = original["alphas_cumprod"].astype(np.float64)
        np.testing.assert_allclose(tensors["alphas_cumprod"], products, rtol=1e-6)
        np.testing.assert_allclose(tensors["sqrt_recipm1_alphas_cumprod"] ** 2, 1 / products - 1, 1e-5)
        x0, x1 = (tensors[f"posterior_mean_coef{i}"].astype(np.float64) for i in (1, 2))
        before = np.append(1.0, products[:-1])
        # The posterior's mean of a signal without noise is that signal, one step less noisy.
        np.testing.assert_allclose(x0 + x1 * np.sqrt(products), np.sqrt(before), rtol=1e-5)
        # Its precision is that of the step's likelihood and of the prior together.
        betas, variance = (tensors[name].astype(np.float64) for name in ("betas", "posterior_variance"))
        precision = (1 - betas[1:]) / betas[1:] + 1 / (1 - before[1:])
        np.testing.assert_allclose(variance, np.append(0, 1 / precision), rtol=1e-4)
        np.testing.assert_allclose(
            tensors["posterior_log_variance_clipped"], np.log(np.maximum(variance, 1e-20)), rtol=1e-5
        )
        for name, values in {
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": np.sqrt(products),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - products),
            "log_one_minus_alphas_cumprod": np.log(1 - products),
            "sqrt_recip_alphas_cumprod": 1 / np.sqrt(products),
        }.items():
            np.testing.assert_allclose(tensors[name], values, rtol=1e-5, err_msg=name)


def test_only_what_the_original_has_is_written(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"\['.ckpt', '.safetensors'\].*model.h5"):
        compvis.save(AutoencoderKL((4,), 2, groups=2, num_res_blocks=1), tmp_path / "model.h5")
    with pytest.raises(ValueError, match="Expected an AutoencoderKL.*Sequential"):
        compvis.save(keras.Sequential(), tmp_path / "model.ckpt")
    encoder = TransformerTextEncoder(8, 4, 1, 3, num_heads=1, head_dim=4, embedding_dim=2)
    other = Conditioner({"tokens": TextEmbedder(encoder, None)})
    autoencoder = AutoencoderKL((4,), 2, groups=2, num_res_blocks=1)
    unet = UNet((4,), 2, 2, context_dim=4, num_heads=1, groups=2, num_res_blocks=1)
    task = LatentDiffusion(autoencoder, unet, other, latent_scale=1.0)
    with pytest.raises(ValueError, match="no names for: .*embedding_projection"):
        compvis.save(task, tmp_path / "model.ckpt")
    assert not list(tmp_path.glob("*"))


# === Use ===


def test_guidance_is_asked_for_and_training_drops_nothing(tmp_path) -> None:
    path = write(tmp_path, "cin256-v1")
    original, task = Original("cin256-v1"), compvis.load(path)
    labels = {"class_label": original["cond_in_class"]}
    arguments = {"num_steps": 2, "initial_latents": original["x"], "output": "latents"}
    drawn = task.generate(labels, progress=False, **arguments)
    plain = task.generate(labels, guidance_scale=1.0, progress=False, **arguments)
    np.testing.assert_array_equal(drawn, plain)
    guided = task.generate(labels, guidance_scale=2.0, progress=False, **arguments)
    last = {"class_label": np.array([10])}  # stands for none among the eleven
    same = task.generate(
        labels, negative_conditions=last, guidance_scale=2.0, progress=False, **arguments
    )
    np.testing.assert_allclose(guided, same, atol=1e-5)
    assert task.conditioner.embedders["class_label"].dropout_rate == 0.0


def test_classes_of_imagenet_alone_have_none_that_stands_for_none(tmp_path) -> None:
    config = changed("cin256-v1", f"{LDM}.params.n_classes", None)
    state = Original("cin256-v1").checkpoint()
    name = "cond_stage_model.embedding.weight"
    state[name] = np.zeros((1000, state[name].shape[1]), np.float32)
    task = compvis.load(write(tmp_path, "cin256-v1", state), config)
    with pytest.raises(ValueError, match="or negative conditions"):
        task.generate({"class_label": [1]}, guidance_scale=2.0, progress=False)


def test_conditioner_is_frozen_where_the_original_freezes_it(tmp_path) -> None:
    path = write(tmp_path, TASK)
    assert compvis.load(path).conditioner.trainable_variables
    task = compvis.load(path, changed(TASK, "params.cond_stage_trainable", False))
    assert not task.conditioner.trainable_variables
    task.save(tmp_path / "task.keras")
    assert not keras.saving.load_model(tmp_path / "task.keras").conditioner.trainable_variables


def test_average_after_training_is_handed_back(tmp_path) -> None:
    """The original averages the U-Net alone, so the conditioner draws with its weights themselves."""
    state = Original("cin256-v1").checkpoint()
    state |= {"model_ema.num_updates": np.int32(5000), "model_ema.decay": np.float32(0.99)}
    task = compvis.load(write(tmp_path, "cin256-v1", state))
    assert task.ema.max_decay == pytest.approx(0.99)
    task.compile(keras.optimizers.SGD(0.1))
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    task.fit({"image": images, "class_label": np.arange(4)}, batch_size=2, verbose=0)
    compvis.save(task, tmp_path / "tuned.ckpt")
    tuned = compvis.load(tmp_path / "tuned.ckpt", config_of("cin256-v1"))
    arguments = {"num_steps": 2, "seed": 0, "progress": False, "image_size": 64}
    drawn, again = (
        model.generate({"class_label": [3]}, output="latents", **arguments) for model in (task, tuned)
    )
    np.testing.assert_allclose(again, drawn, atol=1e-5)


def test_maps_say_how_large_the_image_is(tmp_path) -> None:
    task = compvis.load(write(tmp_path, "semantic_synthesis256"))
    maps = {"segmentation": Original("semantic_synthesis256")["cond_in_segmentation"]}
    height, width = maps["segmentation"].shape[1:3]
    images = task.generate(maps, num_steps=1, progress=False)
    assert images.shape[1:3] == (height, width)
    with pytest.raises(ValueError, match=r"one size of images.*image_size.*conditions"):
        task.generate(maps, num_steps=1, image_size=2 * height, progress=False)
    task.compile(keras.optimizers.SGD(0.0))
    images = np.zeros((len(images), 2 * height, 2 * width, 3), np.uint8)
    with pytest.raises(ValueError, match="Expected maps over latents of"):
        task.fit({"image": images, **maps}, verbose=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"timesteps": [5]}, r"integers of shape \(2,\)"),
        ({"timesteps": [1.0, 2.0]}, "float"),
        ({"timesteps": [-1, 5]}, "from 0 to 999. Received: -1 to 5"),
        ({"timesteps": [1, 1000]}, "Received: 1 to 1000"),
        ({"timesteps": 5}, r"shape \(\)"),
        ({"latents": np.zeros((2, 8, 8, 5), "float32")}, r"\(N, height, width, 3\)"),
        ({"latents": np.zeros((2, 8, 8, 3), "int32")}, "int32"),
        ({"conditions": {"class_label": [1]}}, "conditions for 2 latents. Received: .*1"),
        ({"conditions": None}, "class_label"),
    ],
)
def test_predict_epsilon_checks_its_arguments(adapted, change, match) -> None:
    arguments = {
        "latents": np.zeros((2, 8, 8, 3), "float32"),
        "timesteps": [1, 2],
        "conditions": {"class_label": [1, 2]},
    }
    with pytest.raises(ValueError, match=match):
        adapted.predict_epsilon(**{**arguments, **change})


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    return compvis.load(write(tmp_path_factory.mktemp("adapted"), TASK))


def test_opened_model_trains_and_is_saved(tmp_path) -> None:
    task = compvis.load(write(tmp_path, TASK))
    assert isinstance(task, LatentDiffusion)
    task.compile(keras.optimizers.SGD(1e-3))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    data = {"image": images, "class_label": np.array([1, 2])}
    before = [ops.convert_to_numpy(v).copy() for v in task.unet.trainable_variables]
    assert np.isfinite(task.fit(data, batch_size=2, verbose=0).history["loss"]).all()
    after = [ops.convert_to_numpy(v) for v in task.unet.trainable_variables]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    arguments = {"num_steps": 2, "seed": 0, "progress": False, "image_size": 32}
    drawn = task.generate({"class_label": [3]}, **arguments)
    np.testing.assert_array_equal(loaded.generate({"class_label": [3]}, **arguments), drawn)
    compvis.save(task, tmp_path / "tuned.ckpt")
    tuned = compvis.load(tmp_path / "tuned.ckpt", config_of(TASK))
    np.testing.assert_array_equal(tuned.generate({"class_label": [3]}, **arguments), drawn)


def test_shared_first_stage_stays_shared(tmp_path) -> None:
    task = compvis.load(write(tmp_path, "inpainting_big"))
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    assert loaded.conditioner.embedders["masked_image"].autoencoder is loaded.autoencoder
    original = Original("inpainting_big")
    conditions = {"masked_image": original["cond_in_masked_image"], "mask": original["cond_in_mask"]}
    for model in (task, loaded):
        epsilon = model.predict_epsilon(original["x"], original["t"], conditions)
        assert deviation(epsilon, original["eps"]) < 1e-4
