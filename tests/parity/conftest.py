"""These tests import what the package does without, so they are collected only where asked for."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    expression = config.option.markexpr
    asked_for = not expression or "parity" in expression.replace("not parity", "")
    return None if asked_for else True
