"""The package's shape: typed, in small files, and no API page without its module."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import keras_ldm

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(keras_ldm.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "keras_ldm."))
LINES = 400


def test_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.backend
@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name: str) -> None:
    if not name.endswith(".__main__"):
        importlib.import_module(name)


def test_files_stay_small() -> None:
    lengths = {p: len(p.read_text("utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    long = {str(p.relative_to(PACKAGE)): n for p, n in lengths.items() if n > LINES}
    assert not long, f"at most {LINES} lines a file: {long}"


def test_nothing_is_called_utils() -> None:
    assert not [name for name in MODULES if re.search(r"\.(utils|helpers|common|misc)$", name)]


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="only in the repository")
def test_api_pages_name_modules_that_exist() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    named = set(re.findall(r"^::: (keras_ldm(?:\.\w+)*)", pages, re.MULTILINE))
    assert named
    assert named <= {*MODULES, "keras_ldm"}
