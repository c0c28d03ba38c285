"""Measures of a codebook against their definitions."""

import keras
import numpy as np
import pytest

from keras_ldm.metrics import CodePerplexity, CodeUsage

pytestmark = pytest.mark.backend


def test_usage_and_perplexity() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.choice(10, (2, 3, 4), p=[0.5, 0.2, 0.2, 0.1, 0, 0, 0, 0, 0, 0]) for _ in range(2)]
    counts = np.bincount(np.concatenate(batches).reshape(-1), minlength=10)
    share = counts[counts > 0] / counts.sum()
    usage, perplexity = CodeUsage(10), CodePerplexity(10)
    for batch in batches:
        usage.update_state(batch)
        perplexity.update_state(batch)
    assert float(usage.result()) == pytest.approx((counts > 0).mean())
    assert float(perplexity.result()) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)
    perplexity.reset_state()
    assert float(perplexity.result()) == 1
    perplexity.update_state(np.arange(10))
    assert float(perplexity.result()) == pytest.approx(10, rel=1e-5)
    again = keras.metrics.deserialize(keras.metrics.serialize(perplexity))
    assert again.num_codes == 10 and again.name == "code_perplexity"
