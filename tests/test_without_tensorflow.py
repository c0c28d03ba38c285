"""On JAX and PyTorch nothing needs TensorFlow: neither training, nor strings, nor drawing."""

import keras
import pytest

from tests.scripts import run_script

SCRIPT = """
    import sys

    # What Python itself does for a package that cannot be found.
    sys.modules["tensorflow"] = sys.modules["tensorflow_text"] = None

    import numpy as np

    import keras_ldm

    emoji = keras_ldm.data.load_emoji()
    images, captions = emoji.images[:2, ::16, ::16], np.array(["a red heart", "a blue heart"])
    first_stage = keras_ldm.tasks.AutoencoderTask(
        keras_ldm.models.AutoencoderKL(
            (4,), 2, num_res_blocks=1, groups=2, middle_attention=False
        )
    )
    before = first_stage.get_weights()
    first_stage.fit(images, batch_size=2, verbose=0)
    assert any((a != b).any() for a, b in zip(before, first_stage.get_weights()))

    task = keras_ldm.tasks.TextToImage(
        first_stage.autoencoder,
        keras_ldm.models.UNet(
            (4,), in_channels=2, out_channels=2, num_res_blocks=1, groups=2, context_dim=4, num_heads=1
        ),
        keras_ldm.models.TransformerTextEncoder(30522, 4, 1, 6, num_heads=1, head_dim=4),
    )
    tokens = task.conditioner.preprocess({"caption": captions})["caption"]
    assert tokens.shape == (2, 6) and tokens[0, 0] == 101
    losses = [
        task.fit({"image": images, "caption": c}, batch_size=2, verbose=0).history["loss"][0]
        for c in (captions, tokens)
    ]
    assert np.all(np.isfinite(losses))
    out = task.generate("red heart", num_steps=1, guidance_scale=2.0, progress=False)
    assert out.shape == (1, 4, 4, 3) and out.dtype == np.uint8
    imported = [name for name in sys.modules if name.startswith("tensorflow.")]
    assert not imported, imported
    print("done")
"""


if keras.backend.backend() != "tensorflow":

    @pytest.mark.backend
    def test_training_and_drawing_without_tensorflow() -> None:
        printed = run_script(SCRIPT, JAX_DISABLE_MOST_OPTIMIZATIONS="true", OMP_NUM_THREADS="1")
        assert printed.endswith("done\n")
