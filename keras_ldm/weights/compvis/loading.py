"""Opening the original's checkpoints, and writing them."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from keras_ldm.conditioning import LatentEmbedder
from keras_ldm.diffusion import NoiseSchedule
from keras_ldm.files import TensorFile, read_tensors, write_ckpt, write_safetensors
from keras_ldm.models import Autoencoder
from keras_ldm.tasks import LatentDiffusion
from keras_ldm.types import Array
from keras_ldm.weights.compvis.config import read_config
from keras_ldm.weights.compvis.diffusion import EMA_DECAY, TARGETS, average_names, make_task, task_names
from keras_ldm.weights.compvis.names import autoencoder_names
from keras_ldm.weights.compvis.networks import is_autoencoder, make_autoencoder
from keras_ldm.weights.initialization import no_random_values
from keras_ldm.weights.table import NameTable

_AVERAGES = "model_ema."
_AVERAGE_STATE = ("model_ema.decay", "model_ema.num_updates")
# In a checkpoint of the original, and in no network here: what training alone needs (discriminator,
# perceptual loss), and what follows from the configuration.
_TRAINING_LOSS = ("loss.", "first_stage_model.loss.", "cond_stage_model.loss.")
_BUFFERS = {
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
    *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
    *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("lvlb_weights", "logvar", "scale_factor", "cond_ids"),
}


def load(
    checkpoint: str | os.PathLike[str],
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    ema: bool = True,
) -> Any:
    """Opens a checkpoint of the original latent-diffusion code.

    It is read without PyTorch and without running anything that it names, one tensor at a time.

    Args:
        checkpoint: a `.ckpt` (or what else `torch.save` wrote) or `.safetensors` file.
        config: the `config.yaml` that belongs to it, or what it holds; by default the one beside it.
        ema: whether the model draws with the averaged weights of the U-Net, where the checkpoint has
            them. Training goes on from the weights themselves in any case.

    Returns:
        An `AutoencoderKL`, a `VQModel` or a `LatentDiffusion`, as the configuration says.

    Raises:
        FileNotFoundError: if there is no checkpoint or no configuration.
        ValueError: if the checkpoint is damaged or something else; if the configuration names a model
            or an option that is not supported; or if a parameter is missing, left over or of another
            shape, or the noise schedule another.

    Example:

    ```python
    task = keras_ldm.weights.compvis.load("models/ldm/cin256-v2/model.ckpt")
    images = task.generate({"class_label": [207, 360]}, guidance_scale=3.0)
    ```
    """
    with read_tensors(checkpoint) as tensors:
        source = os.fspath(checkpoint)
        target, options = read_config(_config_beside(Path(checkpoint)) if config is None else config)
        if is_autoencoder(target):
            with no_random_values():
                model = make_autoencoder(target, options)
            table, averages, twins = autoencoder_names(model), NameTable(), NameTable()
            others = {name for name in tensors if name.startswith((*_TRAINING_LOSS, _AVERAGES))}
        elif target in TARGETS:
            has_averages = any(name.startswith(_AVERAGES) for name in tensors)
            scale = _number(tensors, "scale_factor")
            decay = _number(tensors, "model_ema.decay", EMA_DECAY) if ema else None
            with no_random_values():
                model = make_task(options, scale, decay)
            _check_schedule(_noise_schedule(model), tensors, source)
            table = task_names(model)
            averages = average_names(model) if has_averages else NameTable()
            others = {name for name in tensors if _is_optional(name, averages)}
            twins = _first_stage_twins(model)
        else:
            raise ValueError(
                f"Expected a configuration of an autoencoder or of {TARGETS[0]!r}. Received: {target!r}"
            )
        shapes = {name: tensors.shape(name) for name in tensors if name not in others}
        whole = NameTable()
        whole.update(table)
        whole.update(averages)
        whole.update(twins, only=shapes)
        whole.check(shapes, source)
        table.read_into(tensors)
        if isinstance(model, LatentDiffusion):
            _read_averages(model, averages, tensors)
    return model


def _config_beside(checkpoint: Path) -> Path:
    candidates = (checkpoint.with_suffix(".yaml"), checkpoint.with_name("config.yaml"))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"Expected the configuration of {str(checkpoint)!r} beside it, as "
        f"{' or '.join(repr(c.name) for c in candidates)}, or given as `config`. Received: none"
    )


def _number(tensors: TensorFile, name: str, default: float | None = None) -> float | None:
    """The single number of a buffer, where there is one."""
    return np.asarray(tensors[name], np.float64).item() if name in tensors else default


def _check_schedule(schedule: NoiseSchedule, tensors: TensorFile, source: str) -> None:
    """A checkpoint of another schedule is one of another configuration."""
    if "alphas_cumprod" not in tensors:
        return
    theirs, ours = np.asarray(tensors["alphas_cumprod"], np.float64), schedule.alphas_cumprod
    is_schedule = theirs.ndim == 1 and np.all(np.diff(theirs) < 0) and np.all(theirs > 0)
    if is_schedule and (theirs.shape != ours.shape or not np.allclose(theirs, ours, rtol=1e-3)):
        raise ValueError(
            f"Expected the noise schedule of the configuration, `alphas_cumprod` of {len(ours)} steps "
            f"down to {ours[-1]:.4g}. Received: {source}, with {len(theirs)} down to {theirs[-1]:.4g}"
        )


def _is_optional(name: str, averages: NameTable) -> bool:
    if name.startswith(_AVERAGES) and name not in _AVERAGE_STATE:
        return not averages.parameters
    return name in _BUFFERS or name in _AVERAGE_STATE or name.startswith(_TRAINING_LOSS)


def _first_stage_twins(task: LatentDiffusion) -> NameTable:
    """The first stage's second names, where it also embeds the condition."""
    embedders = {} if task.conditioner is None else task.conditioner.embedders
    if any(isinstance(embedder, LatentEmbedder) for embedder in embedders.values()):
        return autoencoder_names(task.autoencoder, "cond_stage_model.")
    return NameTable()


def _read_averages(task: LatentDiffusion, averages: NameTable, tensors: TensorFile) -> None:
    """The U-Net's averages, whose warm-up goes on where the original's stood; others are copies."""
    if task.ema is None:
        return
    task.ema.restart()
    if averages.parameters:
        averages.read_into(tensors)
        updates = int(_number(tensors, "model_ema.num_updates") or 0)
        task.ema.updates.assign(updates)
        task.batches.assign(max(updates, 1))  # with none, the averages would start anew


# === Writing ===


def save(model: Autoencoder | LatentDiffusion, path: str | os.PathLike[str]) -> None:
    """Writes a model as a checkpoint that the original code opens.

    Its parameters are written under the names that `load` reads, with the schedule's buffers and, where
    the task keeps one, the average of the U-Net's weights. The configuration is not written: it is
    that of the checkpoint which the model came from, with `use_ema: false` if the task keeps no average.

    Args:
        model: an `AutoencoderKL`, a `VQModel` or a `LatentDiffusion`.
        path: ending in `.ckpt` or `.safetensors`. It is written beside and renamed.

    Raises:
        ValueError: for another ending or another kind of model, or one with a part that the original
            has no name for.
    """
    writers = {".ckpt": write_ckpt, ".safetensors": write_safetensors}
    suffix = Path(path).suffix
    if suffix not in writers:
        raise ValueError(f"Expected a path ending in {sorted(writers)}. Received: {os.fspath(path)!r}")
    if isinstance(model, LatentDiffusion):
        _noise_schedule(model)
        table = task_names(model)
        conditioner = [] if model.conditioner is None else [model.conditioner]
        table.check_whole(model.unet, model.autoencoder, *conditioner)
        tensors = _task_tensors(model, table)
    elif isinstance(model, Autoencoder):
        table = autoencoder_names(model)
        table.check_whole(model)
        tensors = table.write_from()
    else:
        raise ValueError(
            "Expected an AutoencoderKL, a VQModel or a LatentDiffusion. "
            f"Received: {type(model).__name__}"
        )
    writers[suffix](path, tensors)


def _noise_schedule(task: LatentDiffusion) -> NoiseSchedule:
    if not isinstance(task.schedule, NoiseSchedule):
        raise ValueError(
            "Expected a variance-preserving schedule, the only kind that the original code has. "
            f"Received: {type(task.schedule).__name__}"
        )
    return task.schedule


def _task_tensors(task: LatentDiffusion, table: NameTable) -> Iterator[tuple[str, Array]]:
    yield from _schedule_buffers(_noise_schedule(task)).items()
    yield "scale_factor", np.asarray(_scale_factor(task), np.float32)
    yield from table.write_from()
    yield from _first_stage_twins(task).write_from()
    if task.ema is not None:
        task.finish_average()
        yield "model_ema.decay", np.asarray(task.ema.max_decay, np.float32)
        yield "model_ema.num_updates", ops.convert_to_numpy(task.ema.updates).astype(np.int32)
        yield from average_names(task).write_from()


def _scale_factor(task: LatentDiffusion) -> float:
    task.latent_space.require_measured()
    mean, std = map(ops.convert_to_numpy, (task.latent_space.mean, task.latent_space.std))
    if mean.any() or np.ptp(std):
        raise ValueError(
            "Expected one scale for all channels of the latents, as the original has it. Received: a "
            "task with a scale and an offset for each (per_channel=True)"
        )
    return float(1.0 / std[0])


def _schedule_buffers(schedule: NoiseSchedule) -> dict[str, Array]:
    """What `register_schedule` (ddpm.py) stores, in float64 until the end."""
    betas, products = schedule.betas, schedule.alphas_cumprod
    previous = np.append(1.0, products[:-1])
    variance = betas * (1.0 - previous) / (1.0 - products)
    buffers = {
        "betas": betas,
        "alphas_cumprod": products,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": np.sqrt(products),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - products),
        "log_one_minus_alphas_cumprod": np.log(1.0 - products),
        "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / products),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1.0 / products - 1.0),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(previous) / (1.0 - products),
        "posterior_mean_coef2": (1.0 - previous) * np.sqrt(1.0 - betas) / (1.0 - products),
    }
    return {name: values.astype(np.float32) for name, values in buffers.items()}
