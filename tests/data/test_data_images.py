"""Pictures of every kind come out as the colours that were put in."""

import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_ldm.data import flip_images, load_image, shift_images

RED, GREEN, BLUE, WHITE = (200, 30, 20), (20, 160, 60), (10, 40, 220), (255, 255, 255)


def halves(size, left, right, mode="RGB"):
    """A picture whose left half and right half have one colour each."""
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, size[0], size[1]))
    return picture


def png_16_bit(path, values, colour_type=0, extra=b""):
    """Writes a 16-bit PNG by hand: Pillow cannot write them all."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        ("png", {}, 0),
        ("webp", {"lossless": True}, 0),
        ("webp", {"quality": 95}, 6),
        ("jpg", {"quality": 95, "subsampling": 0}, 4),
        ("bmp", {}, 0),
        ("tif", {}, 0),
    ],
)
def test_colours_of_each_format(tmp_path, suffix, options, tolerance):
    path = tmp_path / f"picture.{suffix}"
    halves((40, 40), RED, BLUE).save(path, **options)
    image = load_image(path, 40)
    assert image.shape == (40, 40, 3)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image[20, 4], RED, atol=tolerance)
    np.testing.assert_allclose(image[20, 36], BLUE, atol=tolerance)


def test_same_size_keeps_every_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    np.testing.assert_array_equal(load_image(tmp_path / "noise.png", 16), pixels)


def test_without_a_size_it_is_the_whole_picture(tmp_path):
    halves((6, 4), RED, BLUE).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", None)
    assert image.shape == (4, 6, 3) and image.flags.writeable
    assert (image[:, :3] == RED).all() and (image[:, 3:] == BLUE).all()
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "b.png", None)


def test_result_can_be_written_to(tmp_path):
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 4)
    image[0, 0] = 0
    assert image[0, 0].sum() == 0


@pytest.mark.parametrize(
    ("mode", "left", "right", "expected_left", "expected_right"),
    [
        ("1", 0, 1, (0, 0, 0), WHITE),
        ("L", 50, 180, (50, 50, 50), (180, 180, 180)),
        ("LA", (50, 255), (50, 0), (50, 50, 50), WHITE),
        ("RGBA", (*RED, 255), (*RED, 0), RED, WHITE),
        ("RGBA", (*RED, 255), (0, 0, 0, 128), RED, (127, 127, 127)),
    ],
)
def test_modes_of_png(tmp_path, mode, left, right, expected_left, expected_right):
    halves((20, 20), left, right, mode).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert written.mode == mode
    image = load_image(tmp_path / "a.png", 20)
    np.testing.assert_allclose(image[10, 2], expected_left, atol=1)
    np.testing.assert_allclose(image[10, 18], expected_right, atol=1)


def test_background_shows_through(tmp_path):
    halves((20, 20), (*RED, 255), (*RED, 0), "RGBA").save(tmp_path / "a.webp", lossless=True)
    image = load_image(tmp_path / "a.webp", 20, background=GREEN)
    np.testing.assert_array_equal(image[10, 18], GREEN)


def test_transparent_pixels_do_not_bleed_when_resampled(tmp_path):
    """The colour hidden under full transparency must not tint its neighbours."""
    halves((40, 40), (255, 255, 255, 255), (0, 0, 0, 0), "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", 10), 255)


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.new("P", (20, 20), 0)
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.paste(2, (10, 0, 20, 20))
    picture.save(tmp_path / "opaque.png")
    picture.save(tmp_path / "clear.png", transparency=2)
    picture.save(tmp_path / "levels.png", transparency=bytes([255, 255, 128]))
    for name, right in (("opaque", BLUE), ("clear", WHITE), ("levels", (132, 147, 237))):
        with Image.open(tmp_path / f"{name}.png") as written:
            assert written.mode == "P"
        image = load_image(tmp_path / f"{name}.png", 20)
        np.testing.assert_array_equal(image[10, 2], RED)
        np.testing.assert_allclose(image[10, 18], right, atol=1)


def test_rgb_with_one_transparent_colour(tmp_path):
    halves((20, 20), RED, BLUE).save(tmp_path / "a.png", transparency=BLUE)
    image = load_image(tmp_path / "a.png", 20)
    np.testing.assert_array_equal(image[10, 2], RED)
    np.testing.assert_array_equal(image[10, 18], WHITE)


def test_cmyk_jpeg(tmp_path):
    halves((32, 32), (0, 255, 255, 0), (255, 0, 0, 0), "CMYK").save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as written:
        assert written.mode == "CMYK"
    image = load_image(tmp_path / "a.jpg", 32)
    np.testing.assert_allclose(image[16, 4], (255, 0, 0), atol=6)
    np.testing.assert_allclose(image[16, 28], (0, 255, 255), atol=6)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257], [30000, 65535]], np.uint16)
    png_16_bit(tmp_path / "a.png", values)
    image = load_image(tmp_path / "a.png", 2)
    np.testing.assert_array_equal(image[..., 0], [[0, 1], [117, 255]])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_16_bit_grey_with_a_transparent_value(tmp_path):
    data = struct.pack(">H", 257)
    trns = struct.pack(">I", 2) + b"tRNS" + data + struct.pack(">I", zlib.crc32(b"tRNS" + data))
    png_16_bit(tmp_path / "a.png", np.array([[0, 257], [514, 65535]], np.uint16), extra=trns)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", 2)[..., 0], [[0, 255], [2, 255]])


def test_16_bit_colour(tmp_path):
    png_16_bit(tmp_path / "a.png", np.full((4, 4, 3), (0, 30000, 65535), np.uint16), 2)
    np.testing.assert_allclose(load_image(tmp_path / "a.png", 4)[1, 1], (0, 117, 255), atol=1)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_tiff(tmp_path, mode):
    Image.new(mode, (4, 4), 30000).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif", 4), 117)


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 70000), ("I", -1)])
def test_values_without_a_known_white_are_refused(tmp_path, mode, value):
    Image.new(mode, (4, 4), value).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif"):
        load_image(tmp_path / "a.tif", 4)


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)),
     (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)  # fmt: skip
def test_rotation_flag_of_a_camera(tmp_path, orientation, corner):
    """The stored picture's red corner is top left; the flag says where a viewer shows it."""
    picture = Image.new("RGB", (64, 64), WHITE)
    picture.paste(RED, (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = load_image(tmp_path / "a.jpg", 64)
    for y in (0, -1):
        for x in (0, -1):
            expected = RED if (y, x) == corner else WHITE
            np.testing.assert_allclose(image[y, x], expected, atol=8)


def test_rotated_landscape_is_cropped_upright(tmp_path):
    """A red band on the stored left lies, rotated by 90°, on top: outside the centre crop."""
    picture = Image.new("RGB", (96, 32), WHITE)
    picture.paste(RED, (0, 0, 24, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert load_image(tmp_path / "a.jpg", 32, crop="none")[2, :, 1].max() < 60
    assert load_image(tmp_path / "a.jpg", 32)[..., 1].min() > 240


def thirds(path, size=(90, 30)):
    picture = Image.new("RGB", size, RED)
    picture.paste(GREEN, (30, 0, 60, 30))
    picture.paste(BLUE, (60, 0, 90, 30))
    picture.save(path)
    return path


def test_center_crop_takes_the_middle_square(tmp_path):
    image = load_image(thirds(tmp_path / "a.png"), 30)
    np.testing.assert_array_equal(image, np.broadcast_to(GREEN, (30, 30, 3)))


def test_no_crop_squeezes_the_whole(tmp_path):
    image = load_image(thirds(tmp_path / "a.png"), 30, crop="none")
    for column, colour in ((2, RED), (15, GREEN), (27, BLUE)):
        np.testing.assert_allclose(image[15, column], colour, atol=2)


def test_random_crops_reach_both_ends_and_repeat_with_the_seed(tmp_path):
    path = thirds(tmp_path / "a.png")
    rng = np.random.default_rng(0)
    crops = [load_image(path, 30, crop="random", rng=rng) for _ in range(60)]
    assert any((crop[15, 5] == RED).all() for crop in crops)
    assert any((crop[15, 25] == BLUE).all() for crop in crops)
    again = load_image(path, 30, crop="random", rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again, crops[0])
    assert load_image(path, 30, crop="random").shape == (30, 30, 3)


def test_reduction_is_lanczos_of_the_crop(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    whole = picture.resize((16, 32), Image.Resampling.LANCZOS)
    expected = np.asarray(whole.crop((0, 8, 16, 24))).astype(int)
    assert np.abs(load_image(tmp_path / "a.png", 16) - expected).max() <= 1


def test_large_jpeg_decoded_small_looks_the_same(tmp_path):
    """Decoding at a fraction is a shortcut, not another picture."""
    rows, columns = np.mgrid[:1024, :1024]
    stripes = np.where((rows + 2 * columns) % 32 < 16, 230, 20).astype(np.uint8)
    pixels = np.stack([stripes] * 3, -1)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    fast = load_image(tmp_path / "a.jpg", 256).astype(int)
    assert np.abs(fast - load_image(tmp_path / "a.png", 256)).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (10, 3000), (1, 20000)])
def test_extreme_shapes(tmp_path, size):
    Image.new("RGB", size, GREEN).save(tmp_path / "a.png")
    for crop in ("center", "random", "none"):
        image = load_image(tmp_path / "a.png", 64, crop=crop)
        np.testing.assert_array_equal(image, np.broadcast_to(GREEN, (64, 64, 3)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, -60])
def test_truncated_files_are_named(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"brøken.{suffix}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=rf"Received: .*brøken\.{suffix}"):
        load_image(path, 64)


def test_text_and_missing_files(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"Received: .*a\.png"):
        load_image(tmp_path / "a.png", 8)
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        load_image(tmp_path / "b.png", 8)


@pytest.mark.parametrize("limit", [150, 90, 40])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, limit):
    """100 pixels: within 150; over 90, where Pillow only warns; and over 40, where it raises."""
    Image.new("RGB", (10, 10), RED).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if limit == 150:
        assert load_image(tmp_path / "bomb.png", 4).shape == (4, 4, 3)
        return
    with pytest.raises(ValueError, match=r"Received: .*bomb\.png"):
        load_image(tmp_path / "bomb.png", 4)


@pytest.mark.parametrize(("size", "crop"), [(0, "center"), (-3, "none"), (8, "middle")])
def test_arguments_that_make_no_sense(tmp_path, size, crop):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"Received: (0|-3|'middle')$"):
        load_image(tmp_path / "a.png", size, crop=crop)


def test_threads_read_what_one_thread_reads(tmp_path):
    paths = [thirds(tmp_path / f"{i}.png") for i in range(8)]
    found: dict[Path, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda p=p: found.__setitem__(p, load_image(p, 30))) for p in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all((image == GREEN).all() for image in found.values())


def test_shifts_move_the_content_and_repeat_the_edge():
    images = np.random.default_rng(0).integers(0, 256, (200, 9, 7, 3), dtype=np.uint8)
    shifted = shift_images(images, 2, np.random.default_rng(1))
    seen = set()
    for before, after in zip(images, shifted, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="edge")
        offsets = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if (padded[2 - dy : 11 - dy, 2 - dx : 9 - dx] == after).all()
        ]
        assert len(offsets) == 1
        seen.add(offsets[0])
    assert len(seen) == 25


def test_no_shift_and_large_shifts():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(shift_images(images, 0, np.random.default_rng(0)), images)
    assert shift_images(images, 50, np.random.default_rng(0)).shape == images.shape


def test_flips_mirror_about_half():
    images = np.random.default_rng(0).integers(0, 256, (200, 4, 5, 3), dtype=np.uint8)
    flipped = flip_images(images, np.random.default_rng(0))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_shift_and_flip_refuse_other_arrays():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="Received: -1"):
        shift_images(np.zeros((1, 4, 4, 3), np.uint8), -1, rng)
    for wrong in (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match=r"Received: (uint8|float32) of shape"):
            shift_images(wrong, 1, rng)
        with pytest.raises(ValueError, match=r"Received: (uint8|float32) of shape"):
            flip_images(wrong, rng)
