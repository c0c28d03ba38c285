"""Networks, one architecture a file, built from layers only. They know nothing of diffusion."""

from keras_ldm.models.autoencoder import Autoencoder as Autoencoder
from keras_ldm.models.autoencoder_kl import AutoencoderKL as AutoencoderKL
from keras_ldm.models.clip import CLIP as CLIP
from keras_ldm.models.clip import clip_tokenizer as clip_tokenizer
from keras_ldm.models.clip_image_network import CLIPImageNetwork as CLIPImageNetwork
from keras_ldm.models.clip_text_network import CLIPTextNetwork as CLIPTextNetwork
from keras_ldm.models.clip_weights import pretrained_clip as pretrained_clip
from keras_ldm.models.efficientnet_lite import EfficientNetLite0 as EfficientNetLite0
from keras_ldm.models.efficientnet_weights import pretrained_efficientnet as pretrained_efficientnet
from keras_ldm.models.encoder_decoder import AutoencoderHalf as AutoencoderHalf
from keras_ldm.models.encoder_decoder import Decoder as Decoder
from keras_ldm.models.encoder_decoder import Encoder as Encoder
from keras_ldm.models.first_stage import FirstStage as FirstStage
from keras_ldm.models.identity_first_stage import IdentityFirstStage as IdentityFirstStage
from keras_ldm.models.inception_v3 import InceptionV3 as InceptionV3
from keras_ldm.models.inception_weights import pretrained_inception as pretrained_inception
from keras_ldm.models.layout_map import layout_map as layout_map
from keras_ldm.models.lpips_network import LPIPSNetwork as LPIPSNetwork
from keras_ldm.models.lpips_weights import pretrained_lpips as pretrained_lpips
from keras_ldm.models.patch_discriminator import PatchDiscriminator as PatchDiscriminator
from keras_ldm.models.tiling import Tiling as Tiling
from keras_ldm.models.transformer_text_encoder import (
    TransformerTextEncoder as TransformerTextEncoder,
)
from keras_ldm.models.unet import UNet as UNet
from keras_ldm.models.unet_classifier import UNetClassifier as UNetClassifier
from keras_ldm.models.unet_encoder import UNetEncoder as UNetEncoder
from keras_ldm.models.vq_model import VQModel as VQModel
