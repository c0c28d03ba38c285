"""The arguments of `keras-ldm evaluate`, checked before anything is loaded."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from keras_ldm.cli.evaluation.pairs import PAIR_MEASURES
from keras_ldm.metrics.measures import MEASURES

RECONSTRUCTED = {"fid": "rfid", "sfid": "rsfid"}
"""What measures of reconstructions are called."""

DEFAULTS = ("fid", "kid", "pr")
DRAWING = ("num_steps", "guidance_scale", "sampler", "seed")


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuses what makes no sense by itself.

    Raises:
        ValueError: for numbers out of range, options that exclude one another, or unknown measures.
        FileNotFoundError: if there is no such reference.
        NotADirectoryError: if the output is a file.
    """
    for name in ("num_samples", "batch_size", "image_size", "num_steps"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"Expected {_option(name)} of at least 1. Received: {value}")
    if arguments.seed is not None and arguments.seed < 0:
        raise ValueError(f"Expected --seed of at least 0. Received: {arguments.seed}")
    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"Expected a folder as --output. Received: {str(output)!r}, a file")
    if arguments.reference is not None:
        if arguments.save_reference is not None:
            raise ValueError(
                "Expected --reference, or --save-reference with real pictures. Received: both"
            )
        if not Path(arguments.reference).is_file():
            raise FileNotFoundError(
                f"Expected a file as --reference. Received: {arguments.reference!r}, which is none"
            )
    saved = arguments.save_reference
    if saved is not None and Path(saved).suffix != ".npz":
        raise ValueError(f"Expected an .npz file as --save-reference. Received: {saved!r}")
    asked_for(arguments.metrics)


def asked_for(text: str | None) -> tuple[str, ...]:
    """Names of measures from a list with commas, each once; none where there is no list.

    Raises:
        ValueError: for one that is not known, or an empty list.
    """
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    known = [*MEASURES, *RECONSTRUCTED.values(), *PAIR_MEASURES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"Expected --metrics among {','.join(known)}. Received: {','.join(unknown)!r}")
    return names


def choose_measures(
    asked: Sequence[str], reconstructs: bool, has_statistics: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Measures of sets, and of pairs of images.

    Args:
        asked: names, or none for the default.
        reconstructs: whether there are pairs.
        has_statistics: whether real pictures are known by their statistics alone.

    Raises:
        ValueError: for measures of reconstructions where there are none.
    """
    if not asked:
        asked = ("fid",) if has_statistics else DEFAULTS
        asked = (*asked, *PAIR_MEASURES) if reconstructs else asked
    plain = {name: measure for measure, name in RECONSTRUCTED.items()}
    pairs = tuple(name for name in asked if name in PAIR_MEASURES)
    of_reconstructions = [name for name in asked if name in plain or name in PAIR_MEASURES]
    if of_reconstructions and not reconstructs:
        raise ValueError(
            f"Expected an AutoencoderTask for {','.join(of_reconstructions)}, which are of "
            "reconstructions. Received: another model, or a folder"
        )
    sets = dict.fromkeys(plain.get(name, name) for name in asked if name not in PAIR_MEASURES)
    return tuple(sets), pairs


def refuse_drawing_options(arguments: argparse.Namespace, what: str) -> None:
    """Refuses options of drawing where nothing is drawn.

    Raises:
        ValueError: if there are any.
    """
    given = [_option(name) for name in DRAWING if getattr(arguments, name) is not None]
    if given:
        raise ValueError(f"Expected {', '.join(given)} with a model that draws. Received: {what}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
