"""The latent diffusion models of the paper's model zoo.

Source of all: https://github.com/CompVis/latent-diffusion, `models/ldm`, `configs` and README.md. The
scores are those of that README or of the paper (Rombach et al. 2022,
https://arxiv.org/abs/2112.10752): FID (lower is better) and IS (inception score, higher is better).

Each takes the first stage to work on; without one, it is made with fresh weights.
"""

from typing import Any

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
from keras_ldm.diffusion import scaled_linear_schedule
from keras_ldm.models import Autoencoder, TransformerTextEncoder, UNet
from keras_ldm.presets.compvis.first_stages import (
    kl_f8,
    kl_f16,
    vq_f4,
    vq_f4_noattn,
    vq_f8,
)
from keras_ldm.tasks import LatentDiffusion


def _unet(
    autoencoder: Autoencoder, width: int, multipliers: tuple[int, ...], concat: int = 0, **options: Any
) -> UNet:
    """A U-Net over an autoencoder's latents and so many channels of maps; by default, heads of 32."""
    if "num_heads" not in options:
        options |= {"num_heads": None, "head_dim": 32}
    return UNet(
        tuple(width * multiplier for multiplier in multipliers),
        autoencoder.latent_channels + concat,
        autoencoder.latent_channels,
        num_res_blocks=2,
        **options,
    )


def _task(
    autoencoder: Autoencoder,
    unet: UNet,
    beta_end: float = 0.0195,
    image_size: int = 256,
    embedders: dict[str, Embedder] | None = None,
    **options: Any,
) -> LatentDiffusion:
    defaults = {"schedule": scaled_linear_schedule(1000, 0.0015, beta_end), "latent_scale": 1.0}
    conditioner = None if embedders is None else Conditioner(embedders)
    return LatentDiffusion(
        autoencoder, unet, conditioner, image_size=image_size, **{**defaults, **options}
    )


# === Without conditions ===


def _unconditional_f4(autoencoder: Autoencoder | None) -> LatentDiffusion:
    first_stage = autoencoder or vq_f4()
    return _task(first_stage, _unet(first_stage, 224, (1, 2, 3, 4), attention_levels=(1, 2, 3)))


def celebahq256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Faces of CelebA-HQ, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/celeba.zip

    Latents: 64x64x3, of `vq_f4`. Parameters: 329 million, 274 million of them the U-Net's.

    Scores: FID 5.11, IS 3.29, precision 0.72, recall 0.49 (200 DDIM steps, eta 0).
    """
    return _unconditional_f4(autoencoder)


def ffhq256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Faces of FFHQ, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/ffhq.zip

    Latents: 64x64x3, of `vq_f4`. Parameters: 329 million, 274 million of them the U-Net's.

    Scores: FID 4.98, IS 4.50, precision 0.73, recall 0.50 (200 DDIM steps, eta 1).
    """
    return _unconditional_f4(autoencoder)


def lsun_beds256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Bedrooms of LSUN, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/lsun_bedrooms.zip

    Latents: 64x64x3, of `vq_f4`. Parameters: 329 million, 274 million of them the U-Net's.

    Scores: FID 2.95, IS 2.22, precision 0.66, recall 0.48 (200 DDIM steps, eta 1).
    """
    return _unconditional_f4(autoencoder)


def lsun_churches256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Churches of LSUN, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/lsun_churches.zip

    Latents: 32x32x4, of an autoencoder like `kl_f8`; their scale is measured in the first `fit`.
    Parameters: 379 million, 295 million of them the U-Net's.

    Scores: FID 4.02, IS 2.72, precision 0.64, recall 0.52 (400 DDIM steps, eta 0).
    """
    first_stage = autoencoder or kl_f8()
    unet = _unet(
        first_stage,
        192,
        (1, 2, 2, 4, 4),
        attention_levels=(0, 1, 2, 3),
        num_heads=8,
        scale_shift=True,
        residual_resampling=True,
    )
    return _task(first_stage, unet, 0.0155, loss="l1", latent_scale=None)


# === Class labels ===


def cin256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """ImageNet by `class_label`, 256x256, without a class that stands for none.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/cin.zip

    Latents: 32x32x4, of `vq_f8`. Parameters: 463 million, 395 million of them the U-Net's.

    Scores: FID 15.82, IS 78.82; guided by a classifier 7.77 and 201.56 (200 DDIM steps, eta 1).
        Draw with `guidance_scale=1`.
    """
    first_stage = autoencoder or vq_f8()
    unet = _unet(first_stage, 256, (1, 2, 4), attention_levels=(0, 1, 2), context_dim=512)
    labels = ClassEmbedder(1000, 512, dropout=0.0, name="class_label")
    return _task(first_stage, unet, embedders={"class_label": labels})


def cin256_v2(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """ImageNet by `class_label`, 256x256; label 1000 stands for none.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/nitro/cin/model.ckpt

    Latents: 64x64x3, of `vq_f4`. Parameters: 457 million, 401 million of them the U-Net's.

    Scores: FID 10.56, IS 103.49; with a guidance scale of 1.5, 3.60 and 247.67 (250 DDIM steps).
    """
    first_stage = autoencoder or vq_f4()
    unet = _unet(
        first_stage, 192, (1, 2, 3, 5), attention_levels=(1, 2, 3), context_dim=512, num_heads=1
    )
    labels = ClassEmbedder(1001, 512, name="class_label")
    return _task(first_stage, unet, embedders={"class_label": labels}, ema_decay=None)


# === Text and layouts ===


def _text(name: str, tokenizer: str | None, dropout: float, **options: Any) -> dict[str, Embedder]:
    encoder = TransformerTextEncoder(unused_logits=True, **options)
    return {name: TextEmbedder(encoder, tokenizer, dropout=dropout, name=name)}


def txt2img_1p4b(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """LAION-400M by `caption`, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/nitro/txt2img-f8-large/model.ckpt

    Latents: 32x32x4, of `kl_f8`. Parameters: 1538 million, 872 million of them the U-Net's.

    Scores: on MS-COCO, FID 23.31, IS 20.03; with a guidance scale of 1.5, 12.63 and 30.29 (250 DDIM
        steps).
    """
    first_stage = autoencoder or kl_f8()
    unet = _unet(
        first_stage, 320, (1, 2, 4, 4), attention_levels=(0, 1, 2), context_dim=1280, num_heads=8
    )
    return _task(
        first_stage,
        unet,
        embedders=_text("caption", "bert_uncased", 0.1, dim=1280, num_layers=32, max_length=77),
        schedule=scaled_linear_schedule(1000, 0.00085, 0.012),
        latent_scale=0.18215,
        ema_decay=None,
    )


def text2img256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Conceptual Captions by `caption`, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/text2img.zip

    Latents: 64x64x3, of `vq_f4`. Parameters: 645 million, 404 million of them the U-Net's.

    Scores: FID 16.79, IS 13.89 (100 DDIM steps, eta 0).
    """
    first_stage = autoencoder or vq_f4()
    unet = _unet(first_stage, 192, (1, 2, 3, 5), attention_levels=(1, 2, 3), context_dim=640)
    captions = _text("caption", "bert_uncased", 0.1, dim=640, num_layers=32, max_length=77)
    return _task(first_stage, unet, embedders=captions)


def layout2img_openimages256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """OpenImages by bounding boxes, as 92 `tokens` of 8192, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/layout2img_model.zip

    Latents: 64x64x3, of `vq_f4`. Parameters: 360 million, 246 million of them the U-Net's.

    Scores: FID 32.02, IS 15.92 (200 DDIM steps, eta 0).
    """
    first_stage = autoencoder or vq_f4()
    unet = _unet(
        first_stage,
        128,
        (1, 2, 3, 4),
        attention_levels=(1, 2, 3),
        context_dim=512,
        transformer_depth=3,
    )
    layouts = _text("tokens", None, 0.0, vocabulary_size=8192, dim=512, num_layers=16, max_length=92)
    return _task(first_stage, unet, 0.0205, embedders=layouts, loss="l1")


def rdm768(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Retrieval-augmented: by `clip_embedding`s of neighbours or of a caption, 768x768.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/rdm/model.ckpt (preliminary; Blattmann et al. 2022,
        https://arxiv.org/abs/2204.11824)

    Latents: 48x48x16, of `kl_f16`. Parameters: 1405 million, 1336 million of them the U-Net's.

    Scores: none published.
    """
    first_stage = autoencoder or kl_f16()
    unet = _unet(first_stage, 448, (1, 2, 3, 4), attention_levels=(0, 1, 2), context_dim=768)
    return _task(
        first_stage,
        unet,
        0.015,
        image_size=768,
        embedders={"clip_embedding": TokenEmbedder(768, name="clip_embedding")},
        latent_scale=0.22765929,
    )


# === Maps beside the latents ===


def bsr_sr(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Super-resolution, from `low_resolution` images of the latents' size to 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/sr_bsr.zip

    Latents: 64x64x3, of `vq_f4`. Parameters: 169 million, 114 million of them the U-Net's.

    Scores: none published for this one, which was trained on BSRGAN's degradations.
    """
    first_stage = autoencoder or vq_f4()
    unet = _unet(first_stage, 160, (1, 2, 2, 4), concat=3, attention_levels=(3,))
    images = ImageEmbedder(3, name="low_resolution")
    return _task(first_stage, unet, 0.0155, embedders={"low_resolution": images})


def inpainting_big(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Inpainting of Places, from `masked_image` and `mask`, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/inpainting_big.zip

    Latents: 64x64x3, of `vq_f4_noattn`. Parameters: 440 million, 387 million of them the U-Net's.

    Scores: FID 1.50; 9.39 where 40 to 50 % are masked (512x512, table 7 of the paper).
    """
    first_stage = autoencoder or vq_f4_noattn()
    latents = first_stage.latent_channels
    unet = _unet(
        first_stage,
        256,
        (1, 2, 3, 4),
        concat=latents + 1,
        attention_levels=(1, 2, 3),
        num_heads=8,
        residual_resampling=True,
    )
    embedders: dict[str, Embedder] = {
        "masked_image": LatentEmbedder(first_stage, name="masked_image"),
        "mask": MaskEmbedder(first_stage.downsampling_factor, name="mask"),
    }
    return _task(first_stage, unet, 0.0205, embedders=embedders, loss="l1")


def _semantic_synthesis(autoencoder: Autoencoder | None, image_size: int) -> LatentDiffusion:
    first_stage = autoencoder or vq_f4()
    unet = _unet(first_stage, 128, (1, 4, 8), concat=3, attention_levels=(), num_heads=8)
    maps = SegmentationEmbedder(182, 3, 2, name="segmentation")
    return _task(first_stage, unet, 0.0205, image_size, {"segmentation": maps}, loss="l1")


def semantic_synthesis256(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Landscapes from `segmentation` maps of 182 classes, 256x256.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/semantic_synthesis256.zip

    Latents: 64x64x3, of `vq_f4`. Parameters: 271 million, 215 million of them the U-Net's.

    Scores: none published.
    """
    return _semantic_synthesis(autoencoder, 256)


def semantic_synthesis512(autoencoder: Autoencoder | None = None) -> LatentDiffusion:
    """Landscapes from `segmentation` maps of 182 classes, finetuned on 512x512.

    Args:
        autoencoder: the first stage to work on; by default a fresh one.

    Source: https://ommer-lab.com/files/latent-diffusion/semantic_synthesis.zip

    Latents: 128x128x3, of `vq_f4`. Parameters: 271 million, 215 million of them the U-Net's.

    Scores: none published.
    """
    return _semantic_synthesis(autoencoder, 512)
