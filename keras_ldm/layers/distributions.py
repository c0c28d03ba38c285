"""The distributions that autoencoders give for each image.

Reference: `DiagonalGaussianDistribution` of the original code; Kingma & Welling 2013,
https://arxiv.org/abs/1312.6114, appendix B.
"""

import keras
from keras import ops

from keras_ldm.types import Seed, Tensor


class DiagonalGaussian:
    """A normal distribution with independent components.

    Args:
        moments: mean and logarithm of the variance, side by side in the last axis. The latter is
            clipped to [-30, 20].
    """

    def __init__(self, moments: Tensor) -> None:
        mean, logvar = ops.split(moments, 2, axis=-1)
        self.mean = mean
        self.logvar = ops.clip(logvar, -30.0, 20.0)

    @property
    def variance(self) -> Tensor:
        """Of each component."""
        return ops.exp(self.logvar)

    def sample(self, seed: Seed = None) -> Tensor:
        """A draw."""
        noise = keras.random.normal(ops.shape(self.mean), seed=seed, dtype="float32")
        return self.mean + ops.exp(0.5 * self.logvar) * ops.cast(noise, self.mean.dtype)

    def mode(self) -> Tensor:
        """The most likely value, which is the mean."""
        return self.mean

    def kl(self) -> Tensor:
        """KL divergence from the standard normal distribution, summed over all but the first axis.

        Returns:
            float32 `(batch,)`, in nats.
        """
        mean, logvar = ops.cast(self.mean, "float32"), ops.cast(self.logvar, "float32")
        axes = tuple(range(1, len(mean.shape)))
        return 0.5 * ops.sum(ops.square(mean) + ops.exp(logvar) - 1.0 - logvar, axis=axes)


class PointDistribution:
    """All probability on one value: the latents of an autoencoder that draws none.

    Args:
        mean: the value.
    """

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    @property
    def variance(self) -> Tensor:
        """Zeros."""
        return ops.zeros_like(self.mean)

    def sample(self, seed: Seed = None) -> Tensor:
        """The value."""
        return self.mean

    def mode(self) -> Tensor:
        """The value."""
        return self.mean
