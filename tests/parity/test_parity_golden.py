"""The tests of `tests/golden` once more, on checkpoints that PyTorch wrote, in both of its formats."""

import zlib

import pytest
import torch

from tests.golden.test_golden_compvis import open_original
from tests.golden.test_golden_compvis import test_autoencoder as test_autoencoder
from tests.golden.test_golden_compvis import test_condition as test_condition
from tests.golden.test_golden_compvis import test_epsilon as test_epsilon
from tests.golden.test_golden_compvis import test_samples as test_samples
from tests.golden.test_golden_compvis import test_schedule as test_schedule
from tests.golden.test_golden_compvis import test_training_loss as test_training_loss

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("eagerly")]


@pytest.fixture(scope="module")
def opened(request, tmp_path_factory):
    """An original and the model opened from its checkpoint; each is opened once."""

    def write(path, tensors):
        state = {name: torch.tensor(value) for name, value in tensors.items()}
        is_zip = bool(zlib.crc32(request.param.encode()) % 2)
        checkpoint = {"epoch": 3, "global_step": 7, "state_dict": state, "callbacks": {}}
        torch.save(checkpoint, path, _use_new_zipfile_serialization=is_zip)

    return open_original(request.param, tmp_path_factory, write)
