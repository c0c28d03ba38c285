"""Puts arrays in PyTorch's layout into our variables, each array once and each variable once."""

from collections.abc import Mapping

import keras
import numpy as np


class StrictLoader:
    """Assigns arrays by name, and knows at the end whether one was left over or used twice.

    Args:
        arrays: by name, in PyTorch's layout: dense kernels `(out, in)`, convolutions' `(out, in, h, w)`.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._left = dict(arrays)
        self._assigned: list[int] = []

    def take(self, name: str) -> np.ndarray:
        """The array of that name, which nobody else may take."""
        if name not in self._left:
            raise KeyError(f"{name} is not there, or was used before; left: {[*self._left][:5]}")
        return self._left.pop(name)

    def assign(self, variable: keras.Variable, value: np.ndarray) -> None:
        """Assigns a value of the variable's own shape."""
        assert tuple(variable.shape) == value.shape, (variable.path, variable.shape, value.shape)
        variable.assign(np.ascontiguousarray(value))
        self._assigned.append(id(variable))

    def dense(self, layer: keras.layers.Dense, name: str) -> None:
        """A dense layer, or one that is a 1x1 convolution over there."""
        kernel = self.take(f"{name}.weight")
        assert np.prod(kernel.shape[2:]) == 1, f"{name} is no 1x1 convolution: {kernel.shape}"
        self.assign(layer.kernel, kernel.reshape(kernel.shape[:2]).T)
        if layer.use_bias:
            self.assign(layer.bias, self.take(f"{name}.bias"))

    def conv(self, layer: keras.layers.Conv2D, name: str) -> None:
        """A convolution with bias."""
        self.assign(layer.kernel, self.take(f"{name}.weight").transpose(2, 3, 1, 0))
        self.assign(layer.bias, self.take(f"{name}.bias"))

    def norm(self, layer: keras.layers.Layer, name: str) -> None:
        """A group or layer normalization."""
        self.assign(layer.gamma, self.take(f"{name}.weight"))
        self.assign(layer.beta, self.take(f"{name}.bias"))

    def embedding(self, layer: keras.layers.Embedding, name: str) -> None:
        """A table of embeddings."""
        self.assign(layer.embeddings, self.take(f"{name}.weight"))

    def finish(self, model: keras.Model) -> None:
        """Fails unless every array was used and every weight of the model assigned once."""
        assert not self._left, f"names without a variable: {[*self._left]}"
        weights = {id(w): w.path for w in model.weights}
        assert len(self._assigned) == len(set(self._assigned)), "a variable was assigned twice"
        missing = [path for key, path in weights.items() if key not in self._assigned]
        assert not missing, f"variables without a name: {missing}"
        assert set(self._assigned) == set(weights), "a variable of another model was assigned"
