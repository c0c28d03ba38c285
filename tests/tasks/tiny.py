"""Models of a few hundred weights that stand for the real ones, and data to train them on.

`TinyAutoencoder` and `TinyUNet` have the interface of `AutoencoderKL` and `UNet` and compile in a
fraction of the time; what a test says of a task holds whatever its networks are. Where the networks
matter, `real_text_to_image` has the package's own, small.
"""

import keras
import numpy as np
from keras import ops

from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet
from keras_ldm.tasks import AutoencoderTask, LatentDiffusion, TextToImage

SIZE = 16  # sides of the images
LENGTH = 6  # tokens of a caption
VOCABULARY = 50
LATENT = 3  # channels of the latents


def numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


# === Networks ===


@keras.saving.register_keras_serializable("tests")
class TinyAutoencoder(AutoencoderKL):
    """One convolution each way, f = 2."""

    def __init__(self, channels=(4, 4), latent_channels=LATENT, **kwargs):
        super().__init__(channels, latent_channels, **kwargs)

    def _make_layers(self):
        kwargs = {"data_format": "channels_last", "dtype": self.dtype_policy}
        self.to_moments = keras.layers.Conv2D(
            2 * self.latent_channels,
            2,
            strides=2,
            bias_initializer=keras.initializers.Constant(-0.5),
            **kwargs,
        )
        self.to_images = keras.layers.Conv2DTranspose(self.image_channels, 2, strides=2, **kwargs)

    def build(self, input_shape):
        if not self.built:
            self.to_moments.build((None, None, None, self.image_channels))
            self.to_images.build((None, None, None, self.latent_channels))
            self.built = True

    def moments(self, images, training=False):
        return ops.cast(self.to_moments(ops.cast(images, self.compute_dtype)), "float32")

    def decode(self, latents, training=False):
        return ops.cast(self.to_images(ops.cast(latents, self.compute_dtype)), "float32")


@keras.saving.register_keras_serializable("tests")
class TinyUNet(UNet):
    """Sees latents, timestep and the mean of the context, through one hidden layer with dropout."""

    def __init__(self, channels=(8,), in_channels=LATENT, out_channels=LATENT, **kwargs):
        self.traces = 0
        super().__init__(channels, in_channels, out_channels, **{"seed": 5, **kwargs})

    def _make_layers(self):
        conv = {"padding": "same", "data_format": "channels_last", "dtype": self.dtype_policy}
        width = self.channels[0]
        self.conv_in = keras.layers.Conv2D(width, 3, **conv)
        self.condition = keras.layers.Dense(width, dtype=self.dtype_policy)
        self.dropout = keras.layers.Dropout(self.dropout_rate or 0.0, seed=self.seed)
        self.conv_out = keras.layers.Conv2D(self.out_channels, 3, **conv)

    def build(self, input_shape):
        if not self.built:
            self.conv_in.build((None, None, None, self.in_channels))
            self.condition.build((None, 1 + (self.context_dim or 0)))
            self.conv_out.build((None, None, None, self.channels[0]))
            self.built = True

    def call(self, inputs, training=False):
        self.traces += 1
        self._check(inputs)
        time = ops.cast(inputs["timesteps"], "float32")[:, None] / 1000.0
        if self.context_dim is not None:
            context = ops.mean(ops.cast(inputs["context"], "float32"), axis=1)
            time = ops.concatenate([time, context], axis=-1)
        x = self.conv_in(ops.cast(inputs["latents"], self.compute_dtype))
        x = x + self.condition(time)[:, None, None, :]
        x = self.dropout(ops.silu(x), training=training)
        return ops.cast(self.conv_out(x), "float32")


def pixel_autoencoder():
    """Latents are the means of 2x2 pixels, without noise; decoding repeats them."""
    model = TinyAutoencoder()
    average = np.concatenate([np.eye(3) / 4, np.zeros((3, 3))], axis=1)
    model.to_moments.kernel.assign(np.broadcast_to(average, (2, 2, 3, 6)).astype("float32"))
    model.to_moments.bias.assign(np.array([0.0] * 3 + [-30.0] * 3, "float32"))
    model.to_images.kernel.assign(np.broadcast_to(np.eye(3), (2, 2, 3, 3)).astype("float32"))
    return model


def text_encoder(dim=8, dropout=0.0, vocabulary=VOCABULARY):
    return TransformerTextEncoder(
        vocabulary,
        dim=dim,
        num_layers=1,
        max_length=LENGTH,
        num_heads=2,
        head_dim=4,
        dropout=dropout,
        seed=7,
    )


# === Tasks ===


def autoencoder_task(seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    return AutoencoderTask(TinyAutoencoder(), **kwargs)


def latent_diffusion(seed=0, dropout=0.0, **kwargs):
    """Unconditional."""
    keras.utils.set_random_seed(seed)
    return LatentDiffusion(TinyAutoencoder(), TinyUNet(dropout=dropout), **kwargs)


def text_to_image(seed=0, dropout=0.0, **kwargs):
    """Of token ids, or of words where `tokenizer` is given."""
    keras.utils.set_random_seed(seed)
    return TextToImage(
        TinyAutoencoder(),
        TinyUNet(context_dim=8, dropout=dropout),
        text_encoder(dropout=dropout, vocabulary=30522 if kwargs.get("tokenizer") else VOCABULARY),
        **{"tokenizer": None, **kwargs},
    )


def real_autoencoder():
    return AutoencoderKL((8, 8), 3, num_res_blocks=1, groups=4, middle_attention=False)


def real_autoencoder_task(seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    return AutoencoderTask(real_autoencoder(), **kwargs)


def real_unet(**kwargs):
    return UNet(
        (8,), LATENT, LATENT, num_res_blocks=1, attention_levels=(), num_heads=2, groups=4, **kwargs
    )


def real_text_to_image(seed=0, dropout=0.0, **kwargs):
    """The package's own U-Net, over the latents of a tiny first stage."""
    keras.utils.set_random_seed(seed)
    return TextToImage(
        TinyAutoencoder(),
        real_unet(context_dim=8, dropout=dropout, seed=5),
        text_encoder(dropout=dropout),
        **{"tokenizer": None, **kwargs},
    )


# === Data ===


def images(count=10, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def captions(count=10, seed=1):
    """Token ids."""
    return np.random.default_rng(seed).integers(1, VOCABULARY, (count, LENGTH))


def pairs(count=10, seed=0):
    return {"image": images(count, seed=seed), "caption": captions(count, seed + 1)}


def state(task):
    """Every variable of a task and its optimizer, as NumPy arrays by a name of its own."""
    optimizer = [] if task.optimizer is None else task.optimizer.variables
    return {f"{i} {v.path}": numpy(v) for i, v in enumerate([*task.variables, *optimizer])}


def largest_difference(a, b):
    """Between two states, and where."""
    assert len(a) == len(b)
    differences = {
        f"{key} / {other}": float(np.max(np.abs(x.astype(float) - y.astype(float)), initial=0.0))
        for (key, x), (other, y) in zip(a.items(), b.items(), strict=True)
    }
    name = max(differences, key=differences.get)
    return differences[name], name
