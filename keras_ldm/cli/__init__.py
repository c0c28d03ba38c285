"""The command line: `keras-ldm train`, `generate`, `evaluate` and `convert`."""

from keras_ldm.cli.main import build_parser as build_parser
from keras_ldm.cli.main import main as main
