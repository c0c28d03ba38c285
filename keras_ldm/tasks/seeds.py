"""Random numbers of tasks that several devices or processes compute together."""

import keras

from keras_ldm.backend import seed_of_replica
from keras_ldm.types import Tensor


class TaskSeedGenerator(keras.random.SeedGenerator):
    """A seed generator whose draws differ between those that compute parts of one batch.

    Its state is the same for all of them.

    Args:
        seed: an int.
        name: of its state.
    """

    def __init__(self, seed: int, name: str = "seed_generator") -> None:
        super().__init__(seed, name=name)

    def next(self, ordered: bool = True) -> Tensor:
        """The seed of the next draw."""
        return seed_of_replica(super().next(ordered))
