"""Networks, one architecture a file, built from layers only. They know nothing of diffusion."""

from keras_ldm.models.autoencoder_kl import AutoencoderKL as AutoencoderKL
from keras_ldm.models.transformer_text_encoder import (
    TransformerTextEncoder as TransformerTextEncoder,
)
from keras_ldm.models.unet import UNet as UNet
