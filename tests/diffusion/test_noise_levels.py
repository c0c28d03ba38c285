"""How training draws timesteps: in range, uniform, spread."""

import keras
import numpy as np
import pytest
from scipy import stats

from keras_ldm.diffusion import get_timestep_function, stratified_timesteps, uniform_timesteps
from tests.contract import numpy


def draw(function: object, batch_size: int, steps: int, batches: int) -> np.ndarray:
    seed = keras.random.SeedGenerator(5)
    return np.array([numpy(function(batch_size, steps, seed)) for _ in range(batches)])


@pytest.mark.backend
@pytest.mark.parametrize("name", ["uniform", "stratified"])
def test_each_timestep_is_as_likely(name: str) -> None:
    function = get_timestep_function(name)
    draws = draw(function, 40, 25, 100)
    assert draws.min() == 0 and draws.max() == 24
    counts = np.stack([np.bincount(row.astype(int), minlength=25) for row in draws])
    assert stats.chisquare(counts.sum(axis=0)).pvalue > 1e-3
    # The first example alone: no place in the batch has timesteps of its own.
    first = np.bincount(draws[:, 0].astype(int) // 5, minlength=5)
    assert stats.chisquare(first).pvalue > 1e-3
    assert keras.backend.standardize_dtype(function(3, 10, 0).dtype) == "int32"


@pytest.mark.parametrize("batch_size", [1, 8, 50])
def test_stratified_timesteps_have_one_in_each_stratum(batch_size: int) -> None:
    for row in draw(stratified_timesteps, batch_size, 1000, 20):
        strata = np.sort(row / 1000 * batch_size)
        gaps = np.diff(strata)
        assert np.all(np.abs(gaps - 1) <= batch_size / 1000 + 1e-6)
        assert np.array_equal(np.bincount((row * batch_size // 1000).astype(int)), [1] * batch_size) or (
            abs(strata[0] - round(strata[0])) < batch_size / 1000 + 1e-6
        )


def test_stratified_batches_vary_less_than_uniform_ones() -> None:
    uniform, stratified = (
        draw(f, 16, 1000, 60).mean(axis=1).std() for f in (uniform_timesteps, stratified_timesteps)
    )
    assert uniform == pytest.approx(1000 / 12**0.5 / 4, rel=0.35)
    assert stratified < uniform / 3


@pytest.mark.parametrize("function", [uniform_timesteps, stratified_timesteps])
def test_the_seed_decides(function: object) -> None:
    first, second = (numpy(function(8, 1000, seed)) for seed in (3, 3))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, numpy(function(8, 1000, 4)))


def test_unknown_names_are_listed() -> None:
    with pytest.raises(ValueError, match=r"\['stratified', 'uniform'\]. Received: 'cosine'"):
        get_timestep_function("cosine")
