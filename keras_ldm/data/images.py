"""Pictures from disk as uint8 RGB arrays of one size.

Whatever a file holds (palette, transparency, 16-bit grey, CMYK, a camera's rotation flag), what
comes out is what a viewer shows: upright, 8-bit RGB, transparent parts on a plain background.
A square is chosen in the picture's own pixels and resampled once, so a crop costs no more memory
than the picture itself however long and thin that is. Colour profiles are not applied.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Crop = Literal["center", "random", "none"]
Box = tuple[int, int, int, int]

_ORIENTATION = 0x0112  # the tag of EXIF


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
    sides = None if size is None else (size, size)
    return read_picture(path, str(path), sides, crop=crop, rng=rng, background=background)


def read_picture(
    source: str | Path | IO[bytes],
    name: str,
    sides: tuple[int, int] | None,
    *,
    crop: Crop = "center",
    rng: np.random.Generator | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
) -> NDArray[np.uint8]:
    """Reads a picture from a file, open or not, as `load_image` does.

    Args:
        source: A path, or a file open for reading.
        name: What messages call it.
        sides: Height and width of the result; None for all of the picture, as large as it is.
        crop: As `load_image` has it; of the proportions of `sides`.
        rng: Where a random crop lies.
        background: The colour behind transparent pixels.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as a picture, or is too large.
    """
    try:
        with Image.open(source) as image:
            _refuse_bomb(image)
            if sides is not None:  # a large JPEG is decoded at 1/2, 1/4 or 1/8
                image.draft(None, (2 * max(sides), 2 * max(sides)))
            found = _to_rgb(ImageOps.exif_transpose(image), background)
            if sides is not None:
                box = _box(found, sides, crop, rng)
                found = found.resize(sides[::-1], Image.Resampling.LANCZOS, box=box)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing trips over
        raise ValueError(
            f"Expected a picture that Pillow can read ({type(error).__name__}: {error}). "
            f"Received: {name!r}"
        ) from error
    return np.array(found)


def picture_sides(source: IO[bytes], name: str) -> tuple[int, int]:
    """Height and width of a picture as a viewer shows it, from what is before its pixels.

    Args:
        source: A file open for reading.
        name: What messages call it.

    Raises:
        ValueError: It cannot be read as a picture.
    """
    try:
        with Image.open(source) as image:
            # A PNG may have its EXIF behind the pixels, for which all of it would be decoded.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) >= 5  # a quarter or three
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:
        raise ValueError(
            f"Expected a picture that Pillow can read ({type(error).__name__}: {error}). "
            f"Received: {name!r}"
        ) from error


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


def _box(image: Image.Image, sides: tuple[int, int], crop: Crop, rng: np.random.Generator | None) -> Box:
    if crop == "none":
        return 0, 0, image.width, image.height
    scale = min(image.height / sides[0], image.width / sides[1])
    width, height = round(scale * sides[1]), round(scale * sides[0])
    spare = (image.width - width, image.height - height)
    if crop == "center":
        left, top = spare[0] // 2, spare[1] // 2
    else:
        rng = rng or np.random.default_rng()
        left, top = (int(rng.integers(room, endpoint=True)) for room in spare)
    return left, top, left + width, top + height


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
