"""Pictures from disk as uint8 RGB arrays of one size.

Whatever a file holds (palette, transparency, 16-bit grey, CMYK, a camera's rotation flag), what
comes out is what a viewer shows: upright, 8-bit RGB, transparent parts on a plain background.
A square is chosen in the picture's own pixels and resampled once, so a crop costs no more memory
than the picture itself however long and thin that is. Colour profiles are not applied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Crop = Literal["center", "random", "none"]
Box = tuple[int, int, int, int]


def load_image(
    path: str | Path,
    size: int | None,
    *,
    crop: Crop = "center",
    rng: np.random.Generator | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
) -> NDArray[np.uint8]:
    """Reads a picture as a `(size, size, 3)` array, or in its own size.

    Args:
        path: A PNG, JPEG or WebP file, or anything else that Pillow reads; of several frames, the
            first.
        size: Height and width of the result; None for all of the picture, as large as it is.
        crop: `"center"` takes the largest square in the middle, `"random"` a square as large
            anywhere along the long side, `"none"` the whole picture, squeezed to a square.
        rng: Where a random crop lies; without it, anywhere, anew at each call.
        background: The colour behind transparent pixels.

    Returns:
        The picture, resampled with Lanczos' filter where it has another size.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read as a picture, or is so large (over Pillow's
            `MAX_IMAGE_PIXELS`) that it may be meant to exhaust the memory.

    Example:
        ```python
        image = load_image("cat.jpg", 64, crop="random", rng=np.random.default_rng(0))
        ```
    """
    check_square(1 if size is None else size, crop)
    try:
        with Image.open(path) as image:
            _refuse_bomb(image)
            if size is not None:
                image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at 1/2, 1/4 or 1/8
            found = _to_rgb(ImageOps.exif_transpose(image), background)
            if size is not None:
                box = _box(found, crop, rng)
                found = found.resize((size, size), Image.Resampling.LANCZOS, box=box)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing trips over
        raise ValueError(
            f"Expected a picture that Pillow can read ({type(error).__name__}: {error}). "
            f"Received: {str(path)!r}"
        ) from error
    return np.array(found)


def check_square(size: int, crop: str) -> None:
    """Refuses sizes and crops that `load_image` does not know.

    Args:
        size: What should be a positive number of pixels.
        crop: What should be `"center"`, `"random"` or `"none"`.

    Raises:
        ValueError: It is not.
    """
    if size < 1:
        raise ValueError(f"An image's size must be at least 1. Received: {size}")
    if crop not in get_args(Crop):
        raise ValueError(f"`crop` must be one of {get_args(Crop)}. Received: {crop!r}")


def _refuse_bomb(image: Image.Image) -> None:
    """Pillow only warns up to twice its limit, and warnings cannot be caught across threads."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"{image.width}×{image.height} pixels are over the limit of {limit}")


def _box(image: Image.Image, crop: Crop, rng: np.random.Generator | None) -> Box:
    if crop == "none":
        return 0, 0, image.width, image.height
    side = min(image.size)
    spare = (image.width - side, image.height - side)
    if crop == "center":
        left, top = spare[0] // 2, spare[1] // 2
    else:
        rng = rng or np.random.default_rng()
        left, top = (int(rng.integers(room, endpoint=True)) for room in spare)
    return left, top, left + side, top + side


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known white")
    if image.mode.startswith("I"):
        image = _from_16_bit(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's own `convert` would clip it at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values {values.min()} to {values.max()} are not of 16 bits")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
