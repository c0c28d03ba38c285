"""From the original's options to a latent-diffusion task, and its parameters' names."""

from dataclasses import replace

from keras_ldm.backend import freeze
from keras_ldm.conditioning import (
    ClassEmbedder,
    Conditioner,
    ImageEmbedder,
    LatentEmbedder,
    MaskEmbedder,
    SegmentationEmbedder,
    TextEmbedder,
    TokenEmbedder,
)
from keras_ldm.conditioning.embedder import Embedder
from keras_ldm.diffusion import (
    NoiseSchedule,
    cosine_schedule,
    linear_schedule,
    scaled_linear_schedule,
)
from keras_ldm.models import Autoencoder, UNet
from keras_ldm.tasks import LatentDiffusion
from keras_ldm.types import Config
from keras_ldm.weights.compvis.config import Options
from keras_ldm.weights.compvis.names import autoencoder_names, text_encoder_names, unet_names
from keras_ldm.weights.compvis.networks import make_autoencoder, make_text_encoder, make_unet
from keras_ldm.weights.table import NameTable

_TASKS = "ldm.models.diffusion.ddpm."
TARGETS = (_TASKS + "LatentDiffusion", _TASKS + "Layout2ImgDiffusion")
_ENCODERS = "ldm.modules.encoders.modules."
_PARAMETERIZATIONS = {"eps": "epsilon", "x0": "x0"}
EMA_DECAY = 0.9999  # of `LitEma`


def make_task(
    options: Options, scale_factor: float | None = None, ema_decay: float | None = EMA_DECAY
) -> LatentDiffusion:
    """A task with fresh weights.

    Args:
        options: of `LatentDiffusion` (ddpm.py).
        scale_factor: of the checkpoint, where it has one.
        ema_decay: of the average of the weights, where the original keeps one; None for none.

    Raises:
        ValueError: for an option that is not supported; the message names it.
    """
    options.ignore(
        *("ckpt_path", "ignore_keys", "load_only_unet", "monitor", "log_every_t", "channels"),
        *("scheduler_config", "clip_denoised", "first_stage_key", "v_posterior", "scale_by_std"),
    )
    options.fixed(original_elbo_weight=0.0, l_simple_weight=1.0, learn_logvar=False, logvar_init=0.0)
    options.fixed(use_positional_encodings=False, given_betas=None, cond_stage_forward=None)
    options.only("num_timesteps_cond", None, 1)
    autoencoder = make_autoencoder(*options.take_part("first_stage_config"))
    unet = make_unet(*options.take_part("unet_config"))
    conditioner = _make_conditioner(options, autoencoder, unet)
    schedule = _make_schedule(options)
    parameterization = options.word("parameterization", tuple(_PARAMETERIZATIONS))
    config_scale = options.number("scale_factor", 1.0)
    loss = options.word("loss_type", ("l2", "l1"))
    uses_ema = options.flag("use_ema", True)
    latent_side = options.integer("image_size", 256)
    options.finish()
    return LatentDiffusion(
        autoencoder,
        unet,
        conditioner,
        schedule=schedule,
        parameterization=_PARAMETERIZATIONS[parameterization],
        loss="l1" if loss == "l1" else "l2",
        latent_scale=config_scale if scale_factor is None else scale_factor,
        ema_decay=ema_decay if uses_ema else None,
        ema_conditioner=False,
        image_size=latent_side * autoencoder.downsampling_factor,
    )


def _make_schedule(options: Options) -> NoiseSchedule:
    count = options.integer("timesteps", 1000)
    kind = options.word("beta_schedule", ("linear", "sqrt_linear", "cosine"))
    start, end = options.number("linear_start", 1e-4), options.number("linear_end", 2e-2)
    offset = options.number("cosine_s", 8e-3)
    if kind == "cosine":
        return cosine_schedule(count, offset)
    # The original calls linear what is so in the square root of beta.
    make = scaled_linear_schedule if kind == "linear" else linear_schedule
    return make(count, start, end)


# === Conditions ===


def _make_conditioner(options: Options, autoencoder: Autoencoder, unet: UNet) -> Conditioner | None:
    key = options.take("cond_stage_key", "image")
    concat_mode = options.flag("concat_mode", True)
    is_trained = options.flag("cond_stage_trainable", False)
    way = options.take("conditioning_key", None) or ("concat" if concat_mode else "crossattn")
    target, parameters = options.take_part("cond_stage_config")
    if target == "__is_unconditional__":
        return None
    if way not in ("concat", "crossattn", "adm"):
        raise ValueError(
            f"Expected `conditioning_key` 'concat', 'crossattn' or 'adm' at {options.where}. "
            f"Received: {way!r}"
        )
    if target == "__is_first_stage__":
        return Conditioner(_first_stage_embedders(key, autoencoder, unet))
    embedders: dict[str, Embedder] = {}
    # The original drops no condition in training, but many of its models have learned to do without.
    guided: Config = {"dropout": 0.0, "null_known": True}
    if target == _ENCODERS + "ClassEmbedder":
        parameters.ignore("key")
        num_classes = parameters.integer("n_classes", None)  # then those of ImageNet alone
        embedders["class_label"] = ClassEmbedder(
            num_classes or 1000,
            parameters.integer("embed_dim"),
            dropout=0.0,
            null_known=num_classes is not None,
            name="class_label",
        )
    elif target in (_ENCODERS + "BERTEmbedder", _ENCODERS + "TransformerEmbedder"):
        encoder, has_tokenizer = make_text_encoder(target.removeprefix(_ENCODERS), parameters)
        name = "caption" if has_tokenizer else "tokens"
        tokenizer = "bert_uncased" if has_tokenizer else None
        embedders[name] = TextEmbedder(encoder, tokenizer, name=name, **guided)
    elif target == _ENCODERS + "SpatialRescaler":
        embedders["segmentation"] = _segmentation_embedder(parameters)
    elif target == "torch.nn.Identity" and way == "concat":
        channels = unet.in_channels - autoencoder.latent_channels
        embedders["low_resolution"] = ImageEmbedder(channels, name="low_resolution")
    elif target == "torch.nn.Identity" and way == "adm":
        if unet.num_classes is None:
            raise ValueError(
                f"Expected `num_classes` of the U-Net at {options.where} with `conditioning_key` 'adm'. "
                "Received: none"
            )
        embedders["class_label"] = ClassEmbedder(unet.num_classes, None, dropout=0.0, name="class_label")
    elif target == "torch.nn.Identity":
        embedders["clip_embedding"] = TokenEmbedder(
            unet.context_dim or 0, name="clip_embedding", **guided
        )
    else:
        known = ["BERTEmbedder", "ClassEmbedder", "SpatialRescaler", "TransformerEmbedder"]
        raise ValueError(
            f"Expected a condition encoder among {[_ENCODERS + name for name in known]}, "
            "'torch.nn.Identity', '__is_first_stage__' and '__is_unconditional__' at "
            f"{options.where}.cond_stage_config. Received: {target!r}"
        )
    parameters.finish()
    conditioner = Conditioner(embedders)
    if not is_trained:
        freeze(conditioner)
    return conditioner


def _first_stage_embedders(key: str, autoencoder: Autoencoder, unet: UNet) -> dict[str, Embedder]:
    embedders: dict[str, Embedder] = {key: LatentEmbedder(autoencoder, name=key)}
    rest = unet.in_channels - 2 * autoencoder.latent_channels
    if rest == 1:  # inpainting: the mask lies beside the masked image
        embedders["mask"] = MaskEmbedder(autoencoder.downsampling_factor, name="mask")
    elif rest:
        raise ValueError(
            f"Expected a U-Net with channels for the latents, those of {key!r}, and perhaps a mask, "
            f"{2 * autoencoder.latent_channels} or one more. Received: in_channels={unet.in_channels}"
        )
    return embedders


def _segmentation_embedder(options: Options) -> SegmentationEmbedder:
    options.only("method", "bilinear")  # which is the mean of four pixels at half the size
    options.only("multiplier", 0.5)
    return SegmentationEmbedder(
        options.integer("in_channels", 3),
        options.integer("out_channels", None),
        options.integer("n_stages", 1),
        use_bias=options.flag("bias", False),
        name="segmentation",
    )


# === Names ===


def task_names(task: LatentDiffusion) -> NameTable:
    """Of `LatentDiffusion` (ddpm.py)."""
    table = NameTable()
    table.update(unet_names(task.unet, "model.diffusion_model."))
    table.update(autoencoder_names(task.autoencoder, "first_stage_model."))
    embedders = {} if task.conditioner is None else task.conditioner.embedders
    for embedder in embedders.values():
        if isinstance(embedder, ClassEmbedder) and embedder.table is not None:
            table.embedding(embedder.table, "cond_stage_model.embedding")
        elif isinstance(embedder, TextEmbedder):
            table.update(text_encoder_names(embedder.encoder, "cond_stage_model.transformer."))
        elif isinstance(embedder, SegmentationEmbedder) and embedder.mix is not None:
            table.convolution(embedder.mix, "cond_stage_model.channel_mapper")
    return table


def average_names(task: LatentDiffusion) -> NameTable:
    """Of the averages of the U-Net's weights (`LitEma`, ema.py): the weights' names without dots."""
    table = NameTable()
    if task.ema is None:
        return table
    averages = task.ema.by_source()
    for name, parameter in unet_names(task.unet, "model.diffusion_model.").parameters.items():
        held = replace(parameter, variables=tuple(averages[id(v)] for v in parameter.variables))
        table.add("model_ema." + name.removeprefix("model.").replace(".", ""), held)
    return table
