"""The autoencoders of the paper's model zoo, for 256x256 images and beyond.

Source of all: https://github.com/CompVis/latent-diffusion, `models/first_stage_models`; trained on
OpenImages. The scores are those of its README and of table 8 of the paper (Rombach et al. 2022,
https://arxiv.org/abs/2112.10752), of reconstructions of ImageNet's validation images: rFID (Fréchet
inception distance), PSNR in dB, PSIM (perceptual distance).
"""

from typing import Any

from keras_ldm.models import AutoencoderKL, VQModel

_F4, _F8, _F8_VQ = (128, 256, 512), (128, 256, 512, 512), (128, 256, 256, 512)
_F16 = (128, 128, 256, 256, 512)
_F32 = (128, 128, 256, 256, 512, 512)


def _kl(channels: tuple[int, ...], latent_channels: int, **options: Any) -> AutoencoderKL:
    return AutoencoderKL(channels, latent_channels, num_res_blocks=2, **options)


def _vq(channels: tuple[int, ...], latent_channels: int, num_codes: int, **options: Any) -> VQModel:
    return VQModel(channels, latent_channels, num_codes, num_res_blocks=2, **options)


def kl_f4() -> AutoencoderKL:
    """A KL autoencoder with f = 4.

    Source: https://ommer-lab.com/files/latent-diffusion/kl-f4.zip

    Latents: 64x64x3 for 256x256 images. Parameters: 55 million.

    Scores: rFID 0.27, PSNR 27.53, PSIM 0.55.
    """
    return _kl(_F4, 3)


def kl_f8() -> AutoencoderKL:
    """A KL autoencoder with f = 8, also the first stage of `txt2img_1p4b`.

    Source: https://ommer-lab.com/files/latent-diffusion/kl-f8.zip

    Latents: 32x32x4 for 256x256 images. Parameters: 84 million.

    Scores: rFID 0.90, PSNR 24.19, PSIM 1.02.
    """
    return _kl(_F8, 4)


def kl_f16() -> AutoencoderKL:
    """A KL autoencoder with f = 16.

    Source: https://ommer-lab.com/files/latent-diffusion/kl-f16.zip

    Latents: 16x16x16 for 256x256 images. Parameters: 70 million.

    Scores: rFID 0.87, PSNR 24.08, PSIM 1.07.
    """
    return _kl(_F16, 16, attention_levels=(4,))


def kl_f32() -> AutoencoderKL:
    """A KL autoencoder with f = 32.

    Source: https://ommer-lab.com/files/latent-diffusion/kl-f32.zip

    Latents: 8x8x64 for 256x256 images. Parameters: 104 million.

    Scores: rFID 2.04, PSNR 22.27, PSIM 1.41.
    """
    return _kl(_F32, 64, attention_levels=(4, 5))


def vq_f4() -> VQModel:
    """A VQ autoencoder with f = 4 and 8192 codes.

    Source: https://ommer-lab.com/files/latent-diffusion/vq-f4.zip

    Latents: 64x64x3 for 256x256 images. Parameters: 55 million.

    Scores: rFID 0.58, PSNR 27.43, PSIM 0.53.
    """
    return _vq(_F4, 3, 8192)


def vq_f4_noattn() -> VQModel:
    """A VQ autoencoder with f = 4 and 8192 codes, without attention.

    Source: https://ommer-lab.com/files/latent-diffusion/vq-f4-noattn.zip

    Latents: 64x64x3 for 256x256 images. Parameters: 53 million.

    Scores: rFID 1.06, PSNR 25.21, PSIM 0.72.
    """
    return _vq(_F4, 3, 8192, middle_attention=False)


def vq_f8() -> VQModel:
    """A VQ autoencoder with f = 8 and 16384 codes.

    Source: https://ommer-lab.com/files/latent-diffusion/vq-f8.zip

    Latents: 32x32x4 for 256x256 images. Parameters: 68 million.

    Scores: rFID 1.14, PSNR 23.07, PSIM 1.17.
    """
    return _vq(_F8_VQ, 4, 16384, attention_levels=(3,))


def vq_f8_n256() -> VQModel:
    """A VQ autoencoder with f = 8 and 256 codes.

    Source: https://ommer-lab.com/files/latent-diffusion/vq-f8-n256.zip

    Latents: 32x32x4 for 256x256 images. Parameters: 68 million.

    Scores: rFID 1.49, PSNR 22.35, PSIM 1.26.
    """
    return _vq(_F8_VQ, 4, 256, attention_levels=(3,))


def vq_f16() -> VQModel:
    """A VQ autoencoder with f = 16 and 16384 codes.

    Source: https://ommer-lab.com/files/latent-diffusion/vq-f16.zip

    Latents: 16x16x8 for 256x256 images. Parameters: 70 million.

    Scores: rFID 5.15, PSNR 20.83, PSIM 1.73.
    """
    return _vq(_F16, 8, 16384, attention_levels=(4,))
