"""A table of names: each parameter of a checkpoint beside the variables that hold it here.

One table serves both ways: `read_into` takes a checkpoint apart into variables, `write_from` puts
variables together into a checkpoint's arrays. Arrays of checkpoints are in PyTorch's layout: dense
kernels `(out, in)`, convolution kernels `(out, in, height, width)`.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_ldm.types import Array

_SHOWN = 20  # names in a message


@dataclass(frozen=True)
class Parameter:
    """A parameter of a checkpoint and where it goes.

    Attributes:
        shape: in the checkpoint.
        variables: ours, one or several that it is made of.
        read: from its array to those of the variables.
        write: from the variables' arrays to its own.
    """

    shape: tuple[int, ...]
    variables: tuple[keras.Variable, ...]
    read: Callable[[Array], Sequence[Array]]
    write: Callable[[Sequence[Array]], Array]


class NameTable:
    """Parameters by name, added layer by layer; the layers must be built.

    Args:
        prefix: put before every name that is added.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.parameters: dict[str, Parameter] = {}

    def add(self, name: str, parameter: Parameter) -> None:
        """Adds one parameter.

        Raises:
            ValueError: if the name is there already.
        """
        self._add(self.prefix + name, parameter)

    def _add(self, name: str, parameter: Parameter) -> None:
        if name in self.parameters:
            raise ValueError(f"Expected each name once. Received: {name!r} twice")
        self.parameters[name] = parameter

    def update(self, other: "NameTable", only: Container[str] | None = None) -> None:
        """Adds another table's parameters under their full names, all or only some of them."""
        for name, parameter in other.parameters.items():
            if only is None or name in only:
                self._add(name, parameter)

    # === Layers ===

    def variable(self, variable: keras.Variable, name: str) -> None:
        """A variable of the same shape in both."""
        self.add(name, Parameter(tuple(variable.shape), (variable,), lambda a: (a,), lambda v: v[0]))

    def dense(self, layer: keras.layers.Dense, name: str, sides: int = 0) -> None:
        """A dense layer; over there, with `sides` > 0, a convolution of size 1 in so many dimensions."""
        inputs, outputs = layer.kernel.shape
        shape = (outputs, inputs, *[1] * sides)
        self.add(
            f"{name}.weight",
            Parameter(
                shape,
                (layer.kernel,),
                lambda a: (a.reshape(outputs, inputs).T,),
                lambda v: v[0].T.reshape(shape),
            ),
        )
        if layer.use_bias:
            self.variable(layer.bias, f"{name}.bias")

    def convolution(self, layer: keras.layers.Conv2D, name: str) -> None:
        """A convolution."""
        height, width, inputs, outputs = layer.kernel.shape
        self.add(
            f"{name}.weight",
            Parameter(
                (outputs, inputs, height, width),
                (layer.kernel,),
                lambda a: (a.transpose(2, 3, 1, 0),),
                lambda v: v[0].transpose(3, 2, 0, 1),
            ),
        )
        if layer.use_bias:
            self.variable(layer.bias, f"{name}.bias")

    def norm(self, layer: keras.layers.Layer, name: str) -> None:
        """A group or layer normalization."""
        self.variable(layer.gamma, f"{name}.weight")
        self.variable(layer.beta, f"{name}.bias")

    def embedding(self, layer: keras.layers.Embedding, name: str) -> None:
        """A table of embeddings."""
        self.variable(layer.embeddings, f"{name}.weight")

    # === Both ways ===

    def check(self, shapes: Mapping[str, Sequence[int]], source: str) -> None:
        """Compares names and shapes with a checkpoint's.

        Args:
            shapes: of the checkpoint's parameters, by name.
            source: of the checkpoint, for messages.

        Raises:
            ValueError: if any is missing, left over or of another shape; the message lists them.
        """
        missing = [name for name in self.parameters if name not in shapes]
        unexpected = [name for name in shapes if name not in self.parameters]
        wrong = [
            f"{name} {tuple(shapes[name])} for {parameter.shape}"
            for name, parameter in self.parameters.items()
            if name in shapes and tuple(shapes[name]) != parameter.shape
        ]
        problems = {
            "missing from it": missing,
            "not in the model": unexpected,
            "of another shape": wrong,
        }
        found = [f"{len(names)} {what}: {_list(names)}" for what, names in problems.items() if names]
        if found:
            raise ValueError(
                f"Expected the model's {len(self.parameters)} parameters. Received: {source}, with "
                + "; ".join(found)
            )

    def check_whole(self, *parts: keras.layers.Layer) -> None:
        """Makes sure that every weight has a name, before some are written without the others.

        Args:
            *parts: of the model, whose weights should all be in the table.

        Raises:
            ValueError: if one is not; the message lists them.
        """
        named = {id(v) for parameter in self.parameters.values() for v in parameter.variables}
        unnamed = [weight.path for part in parts for weight in part.weights if id(weight) not in named]
        if unnamed:
            raise ValueError(
                "Expected a model of the original's parts. Received: one with weights that it has no "
                f"names for: {_list(unnamed)}"
            )

    def read_into(self, arrays: Mapping[str, Array]) -> None:
        """Assigns every variable, one parameter after the other.

        Args:
            arrays: by name; may be lazy. `check` has compared their shapes.
        """
        for name, parameter in self.parameters.items():
            values = parameter.read(np.asarray(arrays[name]))
            # Copies first, so that the array itself is free when the variables make theirs.
            values = [np.ascontiguousarray(value, dtype=np.float32) for value in values]
            for variable, value in zip(parameter.variables, values, strict=True):
                variable.assign(value)

    def write_from(self) -> Iterator[tuple[str, Array]]:
        """Each name with its array, float32, one after the other."""
        for name, parameter in self.parameters.items():
            values = [ops.convert_to_numpy(v).astype(np.float32) for v in parameter.variables]
            yield name, np.ascontiguousarray(parameter.write(values))


def _list(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
