"""The published models at full size, without memory for their weights: run by its test with PyTorch,
whose "meta" device has shapes alone. Prints what each configuration and each preset gives.
"""

import json
import math
from pathlib import Path
from typing import Any

import keras

from keras_ldm.presets import compvis as presets
from keras_ldm.tasks import ExponentialMovingAverage
from keras_ldm.weights.compvis.config import read_config
from keras_ldm.weights.compvis.diffusion import make_task, task_names
from keras_ldm.weights.compvis.names import autoencoder_names
from keras_ldm.weights.compvis.networks import is_autoencoder, make_autoencoder

INVENTORY = Path(__file__).parents[1] / "golden" / "inventory"


def make(folder: Path) -> Any:
    """What `load` makes."""
    target, options = read_config(folder / "config.yaml")
    if is_autoencoder(target):
        return make_autoencoder(target, options)
    return make_task(options)


def shapes(model: Any) -> dict[str, list[int]]:
    """Shapes in the original's layout, by its names."""
    is_task = hasattr(model, "unet")
    table = task_names(model) if is_task else autoencoder_names(model)
    return {name: list(parameter.shape) for name, parameter in table.parameters.items()}


def numbers_of_weights(model: Any) -> int:
    """All that the model holds, apart from the scale of the latents and states of random numbers."""
    parts = [model.unet, model.autoencoder, model.conditioner] if hasattr(model, "unet") else [model]
    variables = {id(v): v for part in parts if part is not None for v in part.weights}
    return sum(math.prod(v.shape) for v in variables.values())


def nameless(value: Any) -> Any:
    """A configuration without the names of layers and what concerns training alone."""
    left_out = ("name", "build_config", "trainable", "dropout", "null_known", "ema_conditioner")
    if isinstance(value, dict):
        return {k: nameless(v) for k, v in value.items() if k not in left_out}
    return [nameless(v) for v in value] if isinstance(value, (list, tuple)) else value


def main() -> None:
    """Prints a JSON object."""
    ExponentialMovingAverage.restart = lambda self: None  # averages start as copies; here is nothing
    found: dict[str, Any] = {"inventory": {}, "presets": {}}
    with keras.device("meta"):
        for folder in sorted(INVENTORY.iterdir()):
            model = make(folder)
            found["inventory"][folder.name] = {
                "shapes": shapes(model),
                "weights": numbers_of_weights(model),
                "config": nameless(model.get_config()),
            }
        for name in sorted(set(dir(presets))):
            builder = getattr(presets, name)
            if name.startswith("_") or not callable(builder):
                continue
            model = builder()
            found["presets"][name] = {
                "weights": numbers_of_weights(model),
                "config": nameless(model.get_config()),
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
