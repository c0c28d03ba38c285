"""The table of names by itself: both ways, and what it refuses."""

import keras
import numpy as np
import pytest

from keras_ldm.weights.table import NameTable
from tests.contract import numpy

pytestmark = pytest.mark.backend


@pytest.fixture
def layers() -> list[keras.layers.Layer]:
    made = [keras.layers.Dense(2), keras.layers.Conv2D(2, (3, 1), use_bias=False)]
    made[0].build((None, 3))
    made[1].build((None, 4, 4, 3))
    return made


def table_of(layers) -> NameTable:
    table = NameTable("a.")
    table.dense(layers[0], "dense", sides=1)
    table.convolution(layers[1], "conv")
    return table


def test_there_and_back(layers) -> None:
    table = table_of(layers)
    rng = np.random.default_rng(0)
    shapes = {"a.dense.weight": (2, 3, 1), "a.dense.bias": (2,), "a.conv.weight": (2, 3, 3, 1)}
    assert {name: parameter.shape for name, parameter in table.parameters.items()} == shapes
    arrays = {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    table.check(shapes, "x")
    table.read_into(arrays)
    np.testing.assert_array_equal(numpy(layers[0].kernel), arrays["a.dense.weight"][:, :, 0].T)
    kernel = np.einsum("oihw->hwio", arrays["a.conv.weight"])
    np.testing.assert_array_equal(numpy(layers[1].kernel), kernel)
    for name, array in table.write_from():
        np.testing.assert_array_equal(array, arrays[name])


def test_each_name_once(layers) -> None:
    table = table_of(layers)
    with pytest.raises(ValueError, match=r"'a\.dense\.weight' twice"):
        table.dense(layers[0], "dense")
    other = NameTable()
    other.update(table)
    assert other.parameters == table.parameters
    with pytest.raises(ValueError, match=r"'a\.dense\.weight' twice"):
        other.update(table)
    other.update(table, only=())
    assert other.parameters == table.parameters


def test_every_weight_has_a_name(layers) -> None:
    table_of(layers).check_whole(*layers)
    table = NameTable()
    table.variable(layers[0].bias, "bias")
    with pytest.raises(ValueError, match="no names for: .*kernel.*kernel"):
        table.check_whole(*layers)
