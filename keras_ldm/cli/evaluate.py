"""`keras-ldm evaluate`: how close what a model draws comes to real pictures."""

import argparse
import os
from typing import Any

EXAMPLES = """examples:
  keras-ldm evaluate runs/quickstart/text_to_image.keras --data emoji --output runs/measured
  keras-ldm evaluate --preset emoji --data emoji --num-samples 500 --num-steps 20 --output runs/emoji
  keras-ldm evaluate first_stage.keras --data pictures --image-size 256 --output runs/first_stage
  keras-ldm evaluate drawn --data pictures --metrics fid,kid,pr,dc --output runs/folders
  keras-ldm evaluate model.keras --num-samples 50000 --reference VIRTUAL_imagenet256_labeled.npz \\
      --network inception --weights weights-inception-2015-12-05-6726825d.pth \\
      --metrics fid,sfid,is --output runs/imagenet

The features of pictures are kept in OUTPUT/parts: after an interruption the same command goes on.
"""


def add_parser(subparsers: Any) -> None:
    """Adds the command to those of `keras-ldm`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure what a model draws, or the pictures of a folder",
        description="Measures what a model draws or reconstructs, or the pictures of a folder, against "
        "real pictures. Writes OUTPUT/evaluation.json and prints a table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a saved .keras file, a checkpoint, or a folder of pictures",
    )
    what.add_argument("--preset", metavar="NAME", help="the name of a preset")
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="real pictures: a folder, or 'emoji', those that ship. A text-to-image model draws their "
        "captions in turn, an autoencoder reconstructs them. They are cut and resized to its size",
    )
    parser.add_argument("--output", required=True, metavar="OUTPUT", help="folder to write to")
    parser.add_argument(
        "--metrics",
        metavar="LIST",
        help="of fid, sfid, kid, is, pr (precision, recall), dc (density, coverage) and, for an "
        "autoencoder, psnr, ssim, lpips (default: fid,kid,pr and those; with statistics as reference, "
        "fid and those)",
    )
    parser.add_argument(
        "--num-samples",
        type=int,
        metavar="N",
        help="pictures to measure (default: all of a folder, as many as in DATA)",
    )
    parser.add_argument(
        "--network",
        choices=("efficientnet", "inception"),
        default="efficientnet",
        help="whose features; published numbers are of inception (default: efficientnet)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="the network's, as its PyTorch file has them (default: an installed package's, or for "
        "inception the file in PyTorch's cache)",
    )
    parser.add_argument(
        "--resize-mode", metavar="MODE", help="how pictures come to its size (default: the network's)"
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="in place of real pictures: features that --save-reference wrote, or statistics, of "
        "which only fid and sfid can be measured",
    )
    parser.add_argument(
        "--save-reference", metavar="FILE", help=".npz file to write the real pictures' features to"
    )
    parser.add_argument(
        "--seed", type=int, help="of the first picture, the next one's is one more (default: 0)"
    )
    parser.add_argument("--num-steps", type=int, help="sampler steps (default: 50)")
    parser.add_argument("--guidance-scale", type=float, help="default: the model's")
    parser.add_argument("--sampler", help="default: the model's")
    parser.add_argument("--batch-size", type=int, default=16, help="pictures at a time (default: 16)")
    parser.add_argument("--image-size", type=int, metavar="SIDE", help="default: as trained")
    parser.add_argument("--restart", action="store_true", help="throw away the parts that are in OUTPUT")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measures, writes and prints.

    Raises:
        FileNotFoundError: if a model, folder or file does not exist.
        ValueError: if an argument makes no sense, or there are parts of another evaluation.
        ImportError: if a package with weights is needed and not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_ldm.cli.evaluation.job import EvaluationJob

    print(EvaluationJob(arguments).run().table())
