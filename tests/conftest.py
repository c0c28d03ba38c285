"""Every test starts from the same global state of Keras."""

import os
from collections.abc import Iterator

import keras
import pytest

from tests.eager import functions_eager

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_disable_most_optimizations", True)  # what is run once is mostly compiled
elif keras.backend.backend() == "torch":
    import torch

    torch.set_num_threads(1)  # tiny arrays, on machines that do other things too


def pytest_configure(config: pytest.Config) -> None:
    """Compiles on JAX what many tests have in common once, for this run and the next ones."""
    if keras.backend.backend() == "jax" and config.cache is not None:
        settings = {
            "jax_compilation_cache_dir": str(config.cache.mkdir("jax")),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        for name, value in settings.items():
            os.environ[name.upper()] = str(value)  # for programs that tests start
            jax.config.update(name, value)


@pytest.fixture(scope="module")
def eagerly() -> Iterator[None]:
    """A module whose claims are not of TensorFlow's graphs: tracing takes longer than computing."""
    with functions_eager(True):
        yield


@pytest.fixture
def traced() -> Iterator[None]:
    """A test of such a module that needs them."""
    with functions_eager(False):
        yield


@pytest.fixture(autouse=True)
def _keras_state() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
