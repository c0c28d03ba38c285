"""The networks of a task as it draws with them: compiled, and with the averaged weights."""

from functools import cached_property
from typing import Any

import keras
from keras import ops

from keras_ldm.backend import compile_function, in_batch_parts, values_of
from keras_ldm.conditioning import Conditioner
from keras_ldm.models import UNet
from keras_ldm.tasks.ema import ExponentialMovingAverage, averaged
from keras_ldm.types import Array, Conditions, Tensor


class InferenceNetworks:
    """A U-Net and its conditioner with the averaged weights, where there are any.

    Args:
        unet: the U-Net.
        conditioner: or None.
        ema: the average of their trained weights, or None.
    """

    def __init__(
        self, unet: UNet, conditioner: Conditioner | None, ema: ExponentialMovingAverage | None
    ) -> None:
        self.unet = unet
        self.conditioner = conditioner
        self.ema = ema

    def variables(self) -> list[keras.Variable]:
        """Every variable of the networks."""
        variables = list(self.unet.variables)
        return variables if self.conditioner is None else variables + self.conditioner.variables

    def values(self) -> list[Tensor]:
        """What the networks draw with: one value for each of `variables()`."""
        return values_of(averaged(self.variables(), self.ema))

    def scope(self) -> keras.StatelessScope:
        """A scope in which the networks have these values."""
        pairs = zip(self.variables(), self.values(), strict=True)
        return keras.StatelessScope(state_mapping=list(pairs))

    def __call__(self, latents: Array, timesteps: Array, conditions: dict[str, Array]) -> Tensor:
        """The U-Net's output for preprocessed conditions."""
        values, tensor = self.values(), ops.convert_to_tensor
        embedded = self.embed(values, {name: tensor(value) for name, value in conditions.items()})
        inputs = {"latents": tensor(latents), "timesteps": tensor(timesteps), **embedded}
        return self.predict(values, inputs)

    @cached_property
    def embed(self) -> Any:
        """`(values, preprocessed conditions) -> what the U-Net takes`, compiled."""

        def embed(inputs: Conditions) -> dict[str, Tensor]:
            return {} if self.conditioner is None else self.conditioner(inputs)

        return compile_function(embed, self.variables())

    @cached_property
    def predict(self) -> Any:
        """`(values, the U-Net's inputs) -> its output`, compiled."""
        return compile_function(in_batch_parts(self.unet), self.variables())
