"""The `keras-ldm` command."""

import argparse
import sys
from collections.abc import Sequence

from keras_ldm.cli import convert, evaluate, generate, train


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="keras-ldm", description="Latent diffusion for Keras, from the command line."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    train.add_parser(subparsers)
    generate.add_parser(subparsers)
    evaluate.add_parser(subparsers)
    convert.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: by default those of the process.

    Returns:
        The exit status: 0, 2 with a message on bad input, or 130 after Ctrl-C.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, OSError, ImportError) as error:
        print(f"keras-ldm: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
