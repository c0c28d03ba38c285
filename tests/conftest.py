"""Every test starts from the same global state of Keras."""

from collections.abc import Iterator

import keras
import pytest

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_disable_most_optimizations", True)  # what is run once is mostly compiled
elif keras.backend.backend() == "torch":
    import torch

    torch.set_num_threads(1)  # tiny arrays, on machines that do other things too


@pytest.fixture(autouse=True)
def _keras_state() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
