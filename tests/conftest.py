"""Every test starts from the same global state of Keras."""

from collections.abc import Iterator

import keras
import pytest


@pytest.fixture(autouse=True)
def _keras_state() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
