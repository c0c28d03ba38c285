"""Our networks with the numbers of the originals' `config.yaml` and the originals' weights."""

from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet
from keras_ldm.weights.compvis.names import autoencoder_names, text_encoder_names, unet_names
from tests.golden.original import Original

# `ch` x `ch_mult`, `z_channels`; `num_res_blocks` is 1 everywhere, `attn_resolutions` empty.
_AUTOENCODERS = {
    "kl-f4": ((32, 64, 128), 3),
    "kl-f8": ((32, 64, 128, 128), 4),
    "txt2img-1p4B": ((32, 64, 128, 128), 4),
}
# `model_channels` x `channel_mult`; `attention_resolutions` as levels.
_UNETS = {
    "txt2img-1p4B": {
        "channels": (32, 64, 128, 128),
        "in_channels": 4,
        "out_channels": 4,
        "attention_levels": (0, 1, 2),
        "context_dim": 64,
        "num_heads": 8,
    },
    "cin256-v2": {
        "channels": (64, 128, 192, 320),
        "in_channels": 3,
        "out_channels": 3,
        "attention_levels": (1, 2, 3),
        "context_dim": 48,
        "num_heads": 1,
    },
    "ffhq256": {
        "channels": (32, 64, 96, 128),
        "in_channels": 3,
        "out_channels": 3,
        "attention_levels": (1, 2, 3),
        "context_dim": None,
        "num_heads": None,
        "head_dim": 32,
    },
}
BETAS = {  # `linear_start`, `linear_end`
    "txt2img-1p4B": (0.00085, 0.012),
    "cin256-v2": (0.0015, 0.0195),
    "ffhq256": (0.0015, 0.0195),
}


def _load(table, weights):
    table.check({name: array.shape for name, array in weights.items()}, "the original's weights")
    table.read_into(weights)


def autoencoder(original: Original, prefix: str = "") -> AutoencoderKL:
    channels, latent_channels = _AUTOENCODERS[original.name]
    model = AutoencoderKL(channels, latent_channels, num_res_blocks=1)
    _load(autoencoder_names(model), original.weights(prefix))
    return model


def unet(original: Original) -> UNet:
    model = UNet(num_res_blocks=1, **_UNETS[original.name])
    _load(unet_names(model), original.weights("model.diffusion_model."))
    return model


def text_encoder(original: Original) -> TransformerTextEncoder:
    model = TransformerTextEncoder(99, dim=64, num_layers=3, max_length=77, unused_logits=True)
    _load(text_encoder_names(model), original.weights("cond_stage_model.transformer."))
    return model
