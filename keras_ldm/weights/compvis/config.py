"""The original's `config.yaml`: which model it describes, with every option read or refused."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_REQUIRED: Any = object()


class Options:
    """The options of one part of a configuration, each to be taken once.

    Args:
        values: the options by name.
        where: they stand, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"Expected options by name at {where}. Received: {type(values).__name__}")
        self._left = dict(values)
        self.where = where

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """An option's value, or the original's default.

        Raises:
            ValueError: if it is not there and has no default.
        """
        if name not in self._left and default is _REQUIRED:
            raise ValueError(f"Expected the option {name!r} at {self.where}. Received: none")
        return self._left.pop(name, default)

    def take_part(self, name: str) -> tuple[str, "Options"]:
        """The target and the options of a part that is configured by itself.

        A part that is a word instead, such as `__is_unconditional__`, is that target without options.
        """
        part = self.take(name)
        if isinstance(part, str):
            return part, Options({}, f"{self.where}.{name}")
        options = Options(part, f"{self.where}.{name}")
        target = options.take("target")
        values = options.take("params", None) or {}
        return str(target), Options(values, f"{self.where}.{name}.params")

    def ignore(self, *names: str) -> None:
        """Options that matter for the original's training or logging alone."""
        for name in names:
            self._left.pop(name, None)

    def only(self, name: str, *supported: Any) -> None:
        """An option that may have these values alone, the first being the original's default.

        Raises:
            ValueError: for another value.
        """
        value = self._left.pop(name, supported[0])
        if value not in supported:
            names = " or ".join(repr(s) for s in supported)
            raise ValueError(
                f"Expected the option {name!r} at {self.where} to be {names}. Received: {value!r}, "
                "which is not supported"
            )

    def fixed(self, **defaults: Any) -> None:
        """Options that may have the original's default alone.

        Raises:
            ValueError: if one has another value.
        """
        for name, default in defaults.items():
            self.only(name, default)

    def finish(self) -> None:
        """Checks that nothing is left.

        Raises:
            ValueError: if there is; the message lists it.
        """
        if self._left:
            raise ValueError(
                f"Expected only options that are known at {self.where}. Received: {sorted(self._left)}"
            )


def read_config(config: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[str, Options]:
    """The target and the options of the model that a configuration describes.

    Args:
        config: path of a `config.yaml`, or what it holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not describe a model.
    """
    where = "the configuration"
    if not isinstance(config, Mapping):
        path = Path(config)
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected a configuration. Received: {str(path)!r}, which is no file"
            )
        try:
            config = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(
                f"Expected a configuration in YAML. Received: {str(path)!r} ({type(error).__name__})"
            ) from error
        where = path.name
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise ValueError(f"Expected the entry 'model' in {where}. Received: none")
    return Options({"model": config["model"]}, where).take_part("model")
