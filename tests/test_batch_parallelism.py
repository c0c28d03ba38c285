"""Batches in parts, one a core, on TensorFlow's CPU: the same numbers, and only where asked for."""

import keras
import numpy as np
import pytest

from keras_ldm.backend import batch_parallelism, enable_batch_parallelism, in_batch_parts
from keras_ldm.backend.compilation import is_tensorflow_on_cpu
from keras_ldm.models import VQModel
from keras_ldm.tasks import AutoencoderTask
from tests.eager import functions_eager
from tests.scripts import run_script
from tests.tasks.tiny import (
    TinyAutoencoder,
    TinyUNet,
    autoencoder_task,
    images,
    largest_difference,
    numpy,
    pairs,
    real_text_to_image,
    state,
    text_to_image,
)


@pytest.mark.backend
def test_it_is_off_until_asked_for() -> None:
    printed = run_script(
        """
        import keras_ldm
        from keras_ldm.backend.batch_parallelism import batch_parts
        print(batch_parts())
        keras_ldm.enable_batch_parallelism(3)
        print(batch_parts())
        """
    ).split()
    assert printed == ["1", "3" if is_tensorflow_on_cpu() else "1"]


@pytest.mark.backend
def test_less_than_one_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one part. Received: parts=0"):
        enable_batch_parallelism(0)


if is_tensorflow_on_cpu():

    def test_the_cores_are_shared_out_until_tensorflow_starts_and_replicas_leave_batches_whole() -> None:
        run_script(
            """
            import os
            os.sched_getaffinity = lambda pid: range(16)
            import keras, keras_ldm, pytest
            import tensorflow as tf
            from keras_ldm.backend.batch_parallelism import batch_parts
            threads = tf.config.threading.get_intra_op_parallelism_threads
            for parts, count, each in ((None, 8, 2), (16, 16, 1), (5, 5, 3), (32, 32, 1), (1, 1, 16)):
                keras_ldm.enable_batch_parallelism(parts)
                assert (batch_parts(), threads()) == (count, each), parts
            keras_ldm.enable_batch_parallelism(2)
            with tf.distribute.OneDeviceStrategy("CPU:0").scope():
                assert batch_parts() == 1
            assert batch_parts() == 2
            keras.ops.ones(3)
            with pytest.raises(RuntimeError, match="before TensorFlow has computed anything"):
                keras_ldm.enable_batch_parallelism()
            """
        )

    @pytest.mark.parametrize("static", [False, True])
    @pytest.mark.parametrize("parts", [1, 2, 3, 5])
    def test_values_and_gradients_are_those_of_the_whole(parts, static, monkeypatch) -> None:
        import tensorflow as tf

        monkeypatch.setattr(batch_parallelism, "batch_parts", lambda: parts)
        weight = tf.Variable(np.random.default_rng(0).standard_normal((3, 2), "float32"))
        traced = []

        def function(x, nested):
            traced.append(x)
            return tf.tanh(x @ weight) * nested["scale"][:, None]

        def value_and_gradients(network, x, scale):
            with tf.GradientTape() as tape:
                tape.watch((x, scale))
                value = network(x, {"scale": scale})
                loss = tf.reduce_sum(value**3)
            return value, *tape.gradient(loss, (x, scale, weight))

        whole = in_batch_parts(function)
        compiled = tf.function(lambda x, scale: value_and_gradients(whole, x, scale), autograph=False)
        if not static:
            signature = [tf.TensorSpec((None, 3)), tf.TensorSpec((None,))]
            compiled = compiled.get_concrete_function(*signature)
        for rows in range(1, 8):
            rng = np.random.default_rng(rows)
            x = tf.constant(rng.standard_normal((rows, 3), "float32"))
            scale = tf.constant(rng.standard_normal(rows, "float32"))
            expected = value_and_gradients(function, x, scale)
            traced.clear()
            for a, b in zip(compiled(x, scale), expected, strict=True):
                np.testing.assert_allclose(numpy(a), numpy(b), atol=1e-6)
            if static:
                assert len(traced) == min(parts, rows)
                assert max(part.shape[0] for part in traced) == -(-rows // parts)

    def train(task, data):
        """What is left of a training with a last batch of one, and what the task then says."""
        task.compile(keras.optimizers.Adam(1e-2, epsilon=1e-3))
        losses = task.fit(data, batch_size=4, epochs=2, verbose=0).history["loss"]
        results = {"evaluate": np.array(task.evaluate(data, batch_size=4, verbose=0))}
        if isinstance(task, AutoencoderTask):
            results["predict"] = task.predict(data, batch_size=4, verbose=0)
        else:
            options = {"num_steps": 3, "seed": 0, "progress": False, "batch_size": 2}
            drawn = task.generate(data["caption"][:3], output="latents", **options)
            results |= {"generate": drawn, "decode": task.decode_latents(drawn)}
            results["encode"] = task.encode_moments(data["image"])
        return {**state(task), "losses": np.array(losses), **results}

    @pytest.mark.parametrize("kind", ["kl", "vq", "text", "tiny"])
    def test_training_is_that_of_whole_batches(kind, monkeypatch) -> None:
        def make():
            keras.utils.set_random_seed(0)
            if kind == "kl":
                return autoencoder_task(), images(5)
            if kind == "vq":
                model = VQModel((8,), 3, 16, num_res_blocks=0, groups=4, middle_attention=False)
                return AutoencoderTask(model), images(5)
            options = {"caption_dropout": 0.0, "ema_decay": 0.9}
            task = real_text_to_image if kind == "text" else text_to_image
            return task(**options), pairs(5)

        with functions_eager(True):
            expected = train(*make())
        monkeypatch.setattr(batch_parallelism, "batch_parts", lambda: 2)
        found = train(*make())
        difference, where = largest_difference(found, expected)
        assert difference < 1e-4, where

    def test_every_network_is_divided(monkeypatch) -> None:
        counts = {}

        def count(owner, name):
            method = getattr(owner, name)

            def counted(self, *args, **kwargs):
                counts[parts][name] = counts[parts].get(name, 0) + 1
                return method(self, *args, **kwargs)

            monkeypatch.setattr(owner, name, counted)

        count(TinyUNet, "call")
        count(TinyAutoencoder, "moments")
        count(TinyAutoencoder, "decode")
        for parts in (1, 3):
            counts[parts] = {}
            monkeypatch.setattr(batch_parallelism, "batch_parts", lambda parts=parts: parts)
            first_stage = autoencoder_task()
            for loop in (first_stage.fit, first_stage.evaluate, first_stage.predict):
                loop(images(6), batch_size=3, verbose=0)
            task = text_to_image()
            for loop in (task.fit, task.evaluate):
                loop(pairs(6), batch_size=3, verbose=0)
            task.generate(pairs(3)["caption"], num_steps=2, progress=False)
        assert counts[1] == {"call": 3, "moments": 6, "decode": 4}
        assert counts[3] == {name: 3 * number for name, number in counts[1].items()}
