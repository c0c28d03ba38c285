"""`keras-ldm convert`: from one kind of file to another."""

import argparse
import os
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  keras-ldm convert models/ldm/cin256-v2/model.ckpt -o cin256.keras
  keras-ldm convert model.ckpt --config txt2img-1p4B-eval.yaml -o text_to_image.keras
  keras-ldm convert runs/mine/checkpoints/checkpoint-00100000.safetensors -o mine.keras
  keras-ldm convert mine.keras -o mine.ckpt
"""
_ORIGINAL = (".ckpt", ".safetensors")


def add_parser(subparsers: Any) -> None:
    """Adds the command to those of `keras-ldm`."""
    parser = subparsers.add_parser(
        "convert",
        help="read and write checkpoints of the original code",
        description="Reads a model and writes it as another kind of file: from the original code's "
        "checkpoints (.ckpt, .safetensors, with their config.yaml) to .keras, from .keras and the "
        "checkpoints of a training (.safetensors) to .keras, and to .ckpt or .safetensors that the "
        "original code opens. Of an autoencoder's training these hold the averaged weights.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="FILE", help="what to read")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="what to write")
    parser.add_argument(
        "--config", metavar="YAML", help="of the original's checkpoint (default: the one beside it)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Reads and writes.

    Raises:
        FileNotFoundError: if the source, its configuration or the output's folder does not exist.
        FileExistsError: if there is a file of the output's name.
        ValueError: if a file is of another kind, or the model cannot be written as that.
    """
    output = Path(arguments.output)
    if output.suffix not in (".keras", *_ORIGINAL):
        raise ValueError(
            f"Expected an output ending in .keras, .ckpt or .safetensors. Received: {str(output)!r}"
        )
    if not output.parent.is_dir():
        raise FileNotFoundError(f"Expected a folder that exists. Received: {str(output.parent)!r}")
    if output.exists() and not arguments.overwrite:
        raise FileExistsError(f"Expected no file of that name. Received: {str(output)!r}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_ldm.files import atomic_path
    from keras_ldm.tasks import AutoencoderTask
    from keras_ldm.weights import compvis

    model = _read(Path(arguments.source), arguments.config)
    if output.suffix == ".keras":
        with atomic_path(output) as temporary:
            model.save(temporary)
    else:
        model = model.averaged_autoencoder() if isinstance(model, AutoencoderTask) else model
        compvis.save(model, output)
    print(output)


def _read(source: Path, config: str | None) -> Any:
    from keras_ldm.tasks import load
    from keras_ldm.tasks.checkpoint import is_checkpoint
    from keras_ldm.weights import compvis

    if not source.is_file():
        raise FileNotFoundError(f"Expected a file to read. Received: {str(source)!r}")
    if source.suffix == ".keras" or is_checkpoint(source):
        if config is not None:
            raise ValueError(f"Expected no --config for {str(source)!r}. Received: {config!r}")
        return load(source)
    return compvis.load(source, config)
