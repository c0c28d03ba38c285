"""From the original's options to networks."""

from keras_ldm.models import Autoencoder, AutoencoderKL, TransformerTextEncoder, UNet, VQModel
from keras_ldm.types import Config
from keras_ldm.weights.compvis.config import Options

_AUTOENCODERS = {
    "ldm.models.autoencoder.AutoencoderKL": AutoencoderKL,
    "ldm.models.autoencoder.VQModel": VQModel,
    "ldm.models.autoencoder.VQModelInterface": VQModel,
}
_TRAINING_ONLY = ("ckpt_path", "ignore_keys", "image_key", "lossconfig", "monitor", "scheduler_config")


def is_autoencoder(target: str) -> bool:
    """Whether a target names an autoencoder."""
    return target in _AUTOENCODERS


def make_autoencoder(target: str, options: Options) -> Autoencoder:
    """An autoencoder with fresh weights.

    Raises:
        ValueError: for another target, or an option that is not supported.
    """
    if target not in _AUTOENCODERS:
        raise ValueError(f"Expected an autoencoder, {sorted(_AUTOENCODERS)}. Received: {target!r}")
    options.ignore(*_TRAINING_ONLY)
    options.only("colorize_nlabels", None)
    settings: Config = {"latent_channels": options.integer("embed_dim")}
    halves = Options(options.take("ddconfig"), f"{options.where}.ddconfig")
    is_kl = _AUTOENCODERS[target] is AutoencoderKL
    halves.only("double_z", True, *([] if is_kl else [False]))
    if not is_kl:
        settings["num_codes"] = options.integer("n_embed")
        options.only("remap", None)
        options.ignore("batch_resize_range", "lr_g_factor", "sane_index_shape", "use_ema")
    options.finish()
    return _AUTOENCODERS[target](**settings, **_autoencoder_halves(halves))


def _autoencoder_halves(options: Options) -> Config:
    width, multipliers = options.integer("ch"), options.integers("ch_mult", (1, 2, 4, 8))
    image_channels = options.integer("in_channels")
    options.only("out_ch", image_channels)
    options.fixed(resamp_with_conv=True, give_pre_end=False, tanh_out=False)
    attention = options.word("attn_type", ("vanilla", "linear", "none"))
    if options.flag("use_linear_attn", False):
        attention = "linear"
    resolution, attended = options.integer("resolution"), options.integers("attn_resolutions")
    levels = [i for i in range(len(multipliers)) if resolution // 2**i in attended]
    settings: Config = {
        "channels": tuple(width * multiplier for multiplier in multipliers),
        "stem_channels": width,
        "z_channels": options.integer("z_channels"),
        "image_channels": image_channels,
        "num_res_blocks": options.integer("num_res_blocks"),
        "attention_levels": () if attention == "none" else levels,
        "middle_attention": attention != "none",
        "attention_type": "linear" if attention == "linear" else "softmax",
        "dropout": options.number("dropout", 0.0),
    }
    options.finish()
    return settings


# === U-Net ===


def make_unet(target: str, options: Options) -> UNet:
    """A U-Net with fresh weights.

    Raises:
        ValueError: for another target, or an option that is not supported.
    """
    if target != "ldm.modules.diffusionmodules.openaimodel.UNetModel":
        raise ValueError(
            "Expected the U-Net 'ldm.modules.diffusionmodules.openaimodel.UNetModel'. "
            f"Received: {target!r}"
        )
    options.ignore("image_size", "use_checkpoint", "use_fp16", "legacy")
    options.fixed(conv_resample=True, dims=2, n_embed=None, use_new_attention_order=False)
    width = options.integer("model_channels")
    multipliers = options.integers("channel_mult", (1, 2, 4, 8))
    attended = options.integers("attention_resolutions")
    num_heads, head_dim = options.integer("num_heads", -1), options.integer("num_head_channels", -1)
    if num_heads == head_dim == -1:
        raise ValueError(
            f"Expected `num_heads` or `num_head_channels` at {options.where}. Received: none"
        )
    if multipliers[:1] != (1,):
        raise ValueError(
            f"Expected `channel_mult` to begin with 1 at {options.where}, as the original's last "
            f"convolution needs it. Received: {list(multipliers)}"
        )
    if options.flag("use_spatial_transformer", False):
        context_dim = options.integer("context_dim")
        options.ignore("num_heads_upsample")
    else:
        context_dim = None
        options.only("context_dim", None)
        options.only("num_heads_upsample", -1, num_heads)
    settings: Config = {
        "channels": tuple(width * multiplier for multiplier in multipliers),
        "in_channels": options.integer("in_channels"),
        "out_channels": options.integer("out_channels"),
        "num_res_blocks": options.integer("num_res_blocks"),
        "attention_levels": [i for i in range(len(multipliers)) if 2**i in attended],
        "context_dim": context_dim,
        "num_heads": None if head_dim != -1 else num_heads,
        "head_dim": None if head_dim == -1 else head_dim,
        "transformer_depth": options.integer("transformer_depth", 1),
        "num_classes": options.integer("num_classes", None),
        "scale_shift": options.flag("use_scale_shift_norm", False),
        "residual_resampling": options.flag("resblock_updown", False),
        "dropout": options.number("dropout", 0),
    }
    options.finish()
    return UNet(**settings)


# === Text encoder ===


def make_text_encoder(kind: str, options: Options) -> tuple[TransformerTextEncoder, bool]:
    """A text encoder with fresh weights, and whether BERT's tokenizer stands in front of it.

    Args:
        kind: "BERTEmbedder", or "TransformerEmbedder", which has no tokenizer.
        options: of either.

    Raises:
        ValueError: for an option that is not supported.
    """
    is_bert = kind == "BERTEmbedder"
    options.ignore("device")
    if is_bert:
        options.only("embedding_dropout", 0.0)
    encoder = TransformerTextEncoder(
        options.integer("vocab_size", *[30522] * is_bert),
        dim=options.integer("n_embed"),
        num_layers=options.integer("n_layer"),
        max_length=options.integer("max_seq_len", 77),
        unused_logits=True,
    )
    uses_tokenizer = is_bert and options.flag("use_tokenizer", True)
    options.finish()
    return encoder, uses_tokenizer
