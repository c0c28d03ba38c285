"""One optimizer for some variables, another for the rest."""

import re
from collections.abc import Sequence

import keras


def two_optimizers(
    optimizer: keras.optimizers.Optimizer | str,
    other: keras.optimizers.Optimizer | str,
    variables: Sequence[keras.Variable],
) -> keras.optimizers.Optimizer:
    """An optimizer that gives some variables to another one.

    Args:
        optimizer: of all other variables.
        other: of these.
        variables: which.
    """
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.get(optimizer))
    pattern = "|".join(re.escape(variable.path) for variable in variables)
    optimizers[pattern] = keras.optimizers.get(other)
    return keras.optimizers.MultiOptimizer(optimizers)
