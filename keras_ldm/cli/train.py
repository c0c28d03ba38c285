"""`keras-ldm train`: a training from a Python file or from flags, which an interruption does not end."""

import argparse
import os
from typing import Any

EXAMPLES = """examples:
  keras-ldm train config.py --output runs/mine
  keras-ldm train config.py --output runs/mine --epochs 200      (the same again: goes on)
  keras-ldm train config.py --dry-run
  keras-ldm train --preset small_autoencoder --data pictures --image-size 64 --output runs/first_stage
  keras-ldm train --preset small_text_to_image --first-stage runs/first_stage/model.keras \\
      --data pictures --image-size 64 --epochs 50 --output runs/text_to_image

config.py is a Python file with

  def make_task():              # a keras_ldm task, compiled or not
  def make_data():              # what its `fit` takes: arrays, tf.data, PyDataset, DataLoader, ...
  def make_validation_data():   # the same, if you like
  def make_callbacks():         # a list, if you like
  fit = {"epochs": 100, "batch_size": 32}     # arguments of `fit`; flags of the same names come first

The state is kept in OUTPUT/checkpoints: the same command goes on from there, whenever the process
ended. OUTPUT/model.keras is the trained task.
"""


def add_parser(subparsers: Any) -> None:
    """Adds the command to those of `keras-ldm`."""
    parser = subparsers.add_parser(
        "train",
        help="train a model, or go on with a training",
        description="Trains the task of a Python file, or of a preset on a folder of pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", metavar="CONFIG", help="a Python file, see below")
    what.add_argument(
        "--preset",
        metavar="NAME",
        help="a preset's task, to train on --data: small_autoencoder, small_text_to_image or emoji",
    )
    parser.add_argument("--output", metavar="OUTPUT", help="folder to write to")
    parser.add_argument(
        "--data", metavar="DATA", help="of a preset: a folder of pictures, or 'emoji', those that ship"
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="SIDE",
        help="to which --data are cut and resized (default: 64)",
    )
    parser.add_argument(
        "--first-stage", metavar="FILE", help="of a preset that draws: a trained autoencoder's task"
    )
    parser.add_argument(
        "--epochs", type=int, help="number of the last epoch (default: the file's, or 1)"
    )
    parser.add_argument("--batch-size", type=int, help="for arrays (default: 32)")
    parser.add_argument("--steps-per-epoch", type=int, help="default: all of the data")
    parser.add_argument(
        "--dtype-policy", metavar="NAME", help="such as mixed_bfloat16; set before the file is read"
    )
    parser.add_argument(
        "--backend",
        choices=("tensorflow", "jax", "torch"),
        help="default: KERAS_BACKEND, or the one in Keras's settings",
    )
    parser.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=10.0,
        metavar="MINUTES",
        help="between two checkpoints, besides those at the end of each epoch (default: 10)",
    )
    parser.add_argument("--keep", type=int, default=2, help="newest checkpoints to keep (default: 2)")
    parser.add_argument(
        "--keep-best", type=int, default=0, metavar="N", help="best checkpoints to keep (default: 0)"
    )
    parser.add_argument(
        "--monitor",
        default="val_loss",
        help="which measure says what is best (default: val_loss; a preset has only loss)",
    )
    parser.add_argument("--mode", choices=("min", "max"), default="min", help="default: min")
    parser.add_argument(
        "--log-dir", metavar="FOLDER", help="of TensorBoard: losses and metrics of each epoch"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build, count parameters and memory, run two steps, and write nothing",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Trains, or tries whether it could.

    Raises:
        FileNotFoundError: if the file, the pictures or the first stage do not exist.
        ValueError: if an argument or the file makes no sense.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.backend is not None:
        os.environ["KERAS_BACKEND"] = arguments.backend
    if arguments.output is None and not arguments.dry_run:
        raise ValueError("Expected --output, the folder to write to, or --dry-run. Received: neither")
    import keras

    if arguments.backend not in (None, keras.backend.backend()):
        raise ValueError(
            f"Expected --backend before Keras is imported. Received: {arguments.backend!r}, with "
            f"{keras.backend.backend()!r} at work"
        )
    from keras_ldm.cli.training.job import TrainingJob

    job = TrainingJob(arguments)
    if arguments.dry_run:
        job.try_out()
    else:
        job.run()
