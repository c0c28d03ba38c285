"""Tiles against the whole image."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.layers import GroupNorm, SharedStatistics
from keras_ldm.layers.shared_statistics import of_the_whole
from keras_ldm.models import AutoencoderKL, Tiling, VQModel
from tests.contract import array, numpy, randomize
from tests.tasks.tiny import TinyAutoencoder, latent_diffusion

pytestmark = pytest.mark.backend

SIDES = [(1, 1), (3, 8), (8, 20), (23, 9), (40, 31)]


def without_statistics(function):
    """A function of tiles alone, in the form that `Tiling` takes."""
    return lambda tiles, *_: (function(tiles), ops.zeros((0, 1, 1, 2)))


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("overlap", [0, 4, 8])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_sees_single_latents_does_not_notice_tiles(sides, overlap, batch_size) -> None:
    tiling = Tiling(16, overlap, batch_size=batch_size)
    latents = array(2, *sides, 3)
    decoded = tiling.decode(
        without_statistics(lambda z: ops.repeat(ops.repeat(2 * z, 2, 1), 2, 2)), latents, 2
    )
    assert np.allclose(decoded, (2 * latents).repeat(2, 1).repeat(2, 2), atol=1e-5)
    back = tiling.encode(without_statistics(lambda x: x[:, ::2, ::2] / 2), decoded, 2)
    assert back.dtype == np.float32 and np.allclose(back, latents, atol=1e-5)


def test_tiles_are_no_larger_than_asked_and_share_what_they_should() -> None:
    seen, places = [], np.stack(np.mgrid[:23, :40], axis=-1)[None].astype("float32")

    def note(tiles):
        seen.append(numpy(tiles)[0])
        return tiles

    Tiling(10, 4, shared_statistics=False).decode(without_statistics(note), places, 1)
    assert {tile.shape[:2] for tile in seen} == {(10, 10)}
    rows, columns = (sorted({int(tile[0, 0, axis]) for tile in seen}) for axis in (0, 1))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (0, 13, 0, 30)
    assert len(seen) == len(rows) * len(columns) == 4 * 6
    assert max(np.diff(rows).max(), np.diff(columns).max()) <= 6


def test_neighbours_fade_into_each_other() -> None:
    """Tiles of different brightness: without a jump larger than a step of the ramp."""
    count = iter(range(3))
    blended = Tiling(16, 8, shared_statistics=False).decode(
        without_statistics(lambda z: z + next(count)), np.zeros((1, 16, 32, 1), "float32"), 1
    )[0, :, :, 0]
    assert (blended == blended[:1]).all()
    assert blended[0, 0] == 0 and blended[0, -1] == 2 and (np.diff(blended[0]) >= 0).all()
    assert np.diff(blended[0]).max() < 0.15


def test_statistics_of_the_whole() -> None:
    x, weights = array(12, 5), np.array([3.0, 4.0, 5.0])
    parts = np.split(x, [3, 7])
    tiles = np.array([[p.mean(0), p.var(0)] for p in parts]).transpose(0, 2, 1)[None]
    whole = of_the_whole(tiles, weights)[0]
    assert np.allclose(whole, np.stack([x.mean(0), x.var(0)], -1), atol=1e-6)


def test_group_norm_with_shared_statistics() -> None:
    """With its own statistics it is itself; with those of others it uses these."""
    x, layer = array(2, 4, 6, 8), GroupNorm(4, activation="silu")
    layer.build(x.shape)
    randomize(layer)
    with SharedStatistics(ops.ones((2, 2, 3))) as shared:
        own = numpy(layer(x))
    assert np.allclose(own, numpy(layer(x)), atol=1e-5)
    groups = x.reshape(2, -1, 4, 2)
    mean, variance = groups.mean((1, 3)), groups.var((1, 3))
    assert np.allclose(numpy(shared.seen()), np.stack([mean, variance], -1)[None], atol=1e-5)
    given = np.stack([mean, variance], -1)[None, 0]
    with SharedStatistics(ops.ones((2, 2, 3)), ops.convert_to_tensor(given)):
        second = numpy(layer(x))[1]
    rate = 1 / np.sqrt(variance[0] + layer.epsilon)
    y = ((groups[1] - mean[0][:, None]) * rate[:, None]).reshape(4, 6, 8)
    y = y * numpy(layer.gamma) + numpy(layer.beta)
    assert np.allclose(second, y / (1 + np.exp(-y)), atol=1e-5)


def test_weights_of_places() -> None:
    """A place that does not count is not in the statistics."""
    x, layer = array(1, 4, 4, 8), GroupNorm(2)
    layer.build(x.shape)
    weights = np.array([[[1.0, 0.0], [1.0, 0.0]]], "float32")
    with SharedStatistics(ops.convert_to_tensor(weights)) as shared:
        layer(x)
    seen = x[0, :, :2].reshape(-1, 2, 4)
    assert np.allclose(numpy(shared.seen())[0, 0, :, 0], seen.mean((0, 2)), atol=1e-5)
    assert np.allclose(numpy(shared.seen())[0, 0, :, 1], seen.var((0, 2)), atol=1e-5)


def grown(kind=AutoencoderKL, *codes) -> AutoencoderKL | VQModel:
    keras.utils.set_random_seed(3)
    return kind((8, 16), 3, *codes, num_res_blocks=1, groups=4, middle_attention=False)


def uneven() -> np.ndarray:
    """Pictures whose parts differ in brightness and contrast, so that tiles' statistics differ."""
    y, x = np.mgrid[:96, :128] / 128
    waves = np.stack([np.sin(30 * x * y + c) * x * 0.6 + y - 0.5 for c in range(3)], -1)
    return np.stack([waves, waves[::-1, ::-1]]).clip(-1, 1).astype("float32")


@pytest.mark.parametrize("kind", [(AutoencoderKL,), (VQModel, 32)])
def test_tiles_come_close_to_the_whole_image(kind) -> None:
    model, images = grown(*kind), uneven()
    moments = numpy(model.moments(images))
    latents = array(2, 48, 64, 3) * 0.3 + numpy(ops.image.resize(images, (48, 64)))
    whole = numpy(model.decode(latents))

    def errors(encoded, decoded) -> np.ndarray:
        pairs = ((encoded, moments), (decoded, whole))
        return np.array([np.abs(x - y).mean() / y.std() for x, y in pairs])

    found = {}
    for shared in (False, True):
        tiling = Tiling(64, 32, shared_statistics=shared)
        encoded = model.moments_in_tiles(images, tiling)
        decoded = model.decode_in_tiles(latents, tiling)
        assert encoded.shape == moments.shape and decoded.shape == whole.shape
        found[shared] = errors(encoded, decoded)
    assert (found[False] > 0.2).all() and (found[True] < 0.6 * found[False]).all()


@pytest.mark.parametrize("side", [11, 16, 23, 64])
def test_a_mosaic_is_of_pieces_from_all_over(side: int) -> None:
    seen, places = [], np.stack(np.mgrid[:side, :40], axis=-1)[None].astype("float32")

    def note(tiles, *_):
        seen.append(numpy(tiles)[0])
        return tiles, ops.zeros((0, 1, 1, 2))

    Tiling(10, 4).decode(note, places, 1)
    mosaic = seen[0]
    assert mosaic.shape[:2] == (10, 10)
    for axis, length in ((0, side), (1, 40)):
        along = np.unique(mosaic[..., axis])
        assert len(along) == 10 and np.diff(along).max() <= -(-length // 8)
        assert np.ptp(along) >= 0.8 * length


def test_statistics_of_a_chain_of_layers() -> None:
    """The second layer's depend on the first's, and are strongly wrong where those are a little."""
    x = np.concatenate([array(1, 40, 40, 4), array(1, 40, 40, 4, seed=1) * 3 + 1], axis=2)
    first, second = GroupNorm(2), GroupNorm(2, activation="silu")
    for layer in (first, second):
        layer.build(x.shape)
        randomize(layer)

    def network(tiles, weights, *statistics):
        with SharedStatistics(weights, *statistics) as shared:
            y = ops.tanh(3 * first(tiles))
            return second(y * y), shared.seen()

    whole = numpy(network(ops.convert_to_tensor(x), ops.ones((1, 40, 80)))[0])
    tiles = Tiling(16, 4).decode(lambda *arrays: network(*map(ops.convert_to_tensor, arrays)), x, 1)
    error = np.abs(tiles - whole).mean() / whole.std()
    assert error < 0.01, error


def test_one_tile_is_the_whole_image() -> None:
    model, images = grown(), uneven()[:, :64, :64]
    assert np.allclose(model.moments_in_tiles(images), numpy(model.moments(images)), atol=1e-4)
    latents = array(2, 32, 32, 3)
    assert np.allclose(model.decode_in_tiles(latents), numpy(model.decode(latents)), atol=1e-4)
    integers = (images * 127 + 128).astype("uint8")
    assert np.allclose(model.moments_in_tiles(integers), numpy(model.moments(integers)), atol=1e-4)


def test_new_weights_are_used() -> None:
    model, latents = grown(), array(1, 32, 32, 3)
    before = model.decode_in_tiles(latents, Tiling(32, 8))
    model.decoder.conv_out.bias.assign(np.array([1.0, 2.0, 3.0], "float32"))
    assert np.allclose(model.decode_in_tiles(latents, Tiling(32, 8)) - before, [1, 2, 3], atol=1e-4)


def test_tasks_encode_decode_and_draw_in_tiles() -> None:
    """`TinyAutoencoder` sees pixels in squares, so that tiles change nothing."""
    task = latent_diffusion(latent_scale=0.5)
    assert isinstance(task.autoencoder, TinyAutoencoder)
    images, tiling = uneven()[:, :40, :48], Tiling(16, 4)
    assert np.allclose(task.encode_moments(images, tiling), task.encode_moments(images), atol=1e-4)
    latents = task.encode_images(images, tiling)
    assert np.allclose(latents, task.encode_images(images), atol=1e-4)
    assert np.allclose(task.decode_latents(latents, tiling), task.decode_latents(latents), atol=1e-4)
