"""Training in half precision: finite, and near what float32 gives."""

import keras
import numpy as np
import pytest

from tests.tasks.tiny import images, numpy, pairs, real_autoencoder_task, real_text_to_image

BACKEND = keras.backend.backend()
POLICIES = ["mixed_bfloat16"] if BACKEND == "jax" else ["mixed_bfloat16", "mixed_float16"]


def train(make, data, policy, **kwargs):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        task = make(**kwargs)
        losses = task.fit(data, batch_size=4, epochs=3, shuffle=False, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy(before)
    return task, losses


def check(task, losses, policy, reference) -> None:
    assert task.dtype_policy.name == policy
    assert np.isfinite(losses).all()
    # In float16 the first steps are left out, until the loss scale has come down.
    assert np.allclose(losses, reference, rtol=0.05 if policy == "mixed_bfloat16" else 0.15)
    assert {str(v.dtype) for v in task.trainable_variables} == {"float32"}
    assert all(np.isfinite(numpy(v)).all() for v in task.variables)
    scaled = isinstance(task.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")


@pytest.fixture(scope="module")
def float32():
    return {
        "diffusion": train(real_text_to_image, pairs(8), "float32")[1],
        "autoencoder": train(real_autoencoder_task, images(8), "float32")[1],
    }


@pytest.mark.backend
@pytest.mark.parametrize("policy", POLICIES)
def test_text_to_image(policy, float32) -> None:
    task, losses = train(real_text_to_image, pairs(8), policy)
    check(task, losses, policy, float32["diffusion"])
    assert task.unet.compute_dtype == policy[6:]
    assert {str(v.dtype) for v in task.ema.averages} == {"float32"}
    drawn = task.generate(pairs(2)["caption"], num_steps=2, seed=0, output="latents", progress=False)
    assert np.isfinite(drawn).all()
    assert np.isfinite(task.evaluate(pairs(8), batch_size=4, verbose=0))


@pytest.mark.backend
@pytest.mark.parametrize("policy", POLICIES)
def test_autoencoder(policy, float32) -> None:
    task, losses = train(real_autoencoder_task, images(8), policy)
    check(task, losses, policy, float32["autoencoder"])
    assert task.autoencoder.compute_dtype == policy[6:]
    assert task.predict(images(2), verbose=0).dtype == np.float32
    # Longer, because the loss scale has to come down first: the loss is a sum over pixels.
    longer = task.fit(images(8), batch_size=4, epochs=12, verbose=0).history["loss"]
    assert longer[-1] < 0.98 * losses[0]
