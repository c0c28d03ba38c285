"""The original's `config.yaml`: which model it describes, with every option read or refused."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
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

    def integer(self, name: str, default: Any = _REQUIRED) -> Any:
        """An integer of at least 1, or the original's default.

        Raises:
            ValueError: as `take`, or if it is something else.
        """
        return self._typed(name, default, "an integer of at least 1", _is_count)

    def number(self, name: str, default: Any = _REQUIRED) -> Any:
        """A number, or the original's default; errors as of `integer`."""
        value = self._typed(name, default, "a number", _is_number)
        return default if value is default else float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false; errors as of `integer`."""
        return bool(self._typed(name, default, "true or false", lambda v: isinstance(v, bool)))

    def integers(self, name: str, default: Any = _REQUIRED) -> tuple[int, ...]:
        """A list of integers of at least 1; errors as of `integer`."""
        what = "a list of integers of at least 1"
        return tuple(self._typed(name, default, what, _are_counts))

    def word(self, name: str, choices: Sequence[str]) -> str:
        """One of some words, of which the first is the original's default; errors as of `integer`."""
        what = f"one of {sorted(choices)}"
        return str(self._typed(name, choices[0], what, lambda v: isinstance(v, str) and v in choices))

    def _typed(self, name: str, default: Any, what: str, valid: Callable[[Any], bool]) -> Any:
        value = self.take(name, default)
        if value is default or valid(value):
            return value
        raise ValueError(
            f"Expected the option {name!r} at {self.where} to be {what}. Received: {value!r}"
        )

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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no name of a file: too long, for example
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_counts(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(_is_count(value) for value in values)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):  # as YAML 1.1 has 1e-4, which has no point
        try:
            return math.isfinite(float(value))
        except ValueError:
            return False
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


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
        if not isinstance(config, (str, os.PathLike)):
            raise ValueError(
                "Expected a configuration as a path or as what it holds, a dictionary. "
                f"Received: {type(config).__name__}"
            )
        path = Path(config)
        if not _is_file(path):
            raise FileNotFoundError(
                f"Expected a configuration. Received: {str(path)[:200]!r}, which is no file"
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
