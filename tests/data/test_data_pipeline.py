"""Every picture once a pass, another order each pass, the same passes for the same seed."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ldm.data import array_dataset, captioned_dataset

COUNT = 23
IMAGES = np.zeros((COUNT, 4, 6, 3), np.uint8) + np.arange(COUNT, dtype=np.uint8)[:, None, None, None]
CAPTIONS = [f"nº {number}" for number in range(COUNT)]


def passes(dataset, count=1):
    """The pictures' numbers in each pass, checked against their captions."""
    found = []
    for _ in range(count):
        order = []
        for batch in dataset.as_numpy_iterator():
            numbers = batch["image"][:, 0, 0, 0].tolist()
            assert [text.decode() for text in batch["caption"]] == [f"nº {n}" for n in numbers]
            order += numbers
        found.append(order)
    return found


def test_shapes_types_and_cardinality():
    dataset = array_dataset(IMAGES, CAPTIONS, batch_size=5)
    assert dataset.element_spec == {
        "image": tf.TensorSpec((None, 4, 6, 3), tf.uint8),
        "caption": tf.TensorSpec((None,), tf.string),
    }
    assert int(dataset.cardinality()) == 5
    assert [len(batch["image"]) for batch in dataset.as_numpy_iterator()] == [5, 5, 5, 5, 3]


def test_drop_remainder_makes_all_shapes_static():
    dataset = array_dataset(IMAGES, CAPTIONS, batch_size=5, drop_remainder=True)
    assert dataset.element_spec["image"].shape == (5, 4, 6, 3)
    assert dataset.element_spec["caption"].shape == (5,)
    assert int(dataset.cardinality()) == 4
    assert [len(batch["image"]) for batch in dataset.as_numpy_iterator()] == [5] * 4


def test_each_pass_holds_everything_in_a_new_order():
    orders = passes(array_dataset(IMAGES, CAPTIONS, batch_size=4), 4)
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert list(range(COUNT)) not in orders


def test_same_seed_same_passes_whatever_the_global_seed():
    tf.random.set_seed(1)
    first = passes(array_dataset(IMAGES, CAPTIONS, batch_size=4, seed=7), 3)
    tf.random.set_seed(2)
    np.random.seed(5)
    assert passes(array_dataset(IMAGES, CAPTIONS, batch_size=4, seed=7), 3) == first
    assert passes(array_dataset(IMAGES, CAPTIONS, batch_size=4, seed=8), 3) != first


def test_without_shuffling_order_is_kept():
    dataset = array_dataset(IMAGES, CAPTIONS, batch_size=4, shuffle=False)
    assert passes(dataset, 2) == [list(range(COUNT))] * 2


def test_repeat_goes_on_with_the_next_pass():
    twice = passes(array_dataset(IMAGES, CAPTIONS, batch_size=4).repeat(2))[0]
    assert [twice[:COUNT], twice[COUNT:]] == passes(array_dataset(IMAGES, CAPTIONS, batch_size=4), 2)


def test_augmentation_differs_by_pass_and_repeats_with_the_seed():
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    words = [list("abcdef")] * 8

    def draw(seed):
        dataset = array_dataset(
            images, ["x"] * 8, words, batch_size=2, shuffle=False, max_shift=3, seed=seed
        )
        return [
            [
                (batch["image"].tobytes(), tuple(batch["caption"]))
                for batch in dataset.as_numpy_iterator()
            ]
            for _ in range(2)
        ]

    one, two = draw(0)
    assert [one, two] == draw(0)
    assert [one, two] != draw(1)
    for first, second in zip(one, two, strict=True):
        assert first[0] != second[0]
    assert [captions for _, captions in one] != [captions for _, captions in two]
    assert len({captions for _, captions in one}) > 1


def test_captions_that_are_no_valid_unicode_do_not_stop_training():
    dataset = array_dataset(IMAGES[:1], ["bad \udcff name"])
    assert next(dataset.as_numpy_iterator())["caption"][0] == b"bad ? name"


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
def test_keras_sees_the_number_of_steps():
    import keras

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(loss="mse", jit_compile=False)
    dataset = array_dataset(IMAGES, CAPTIONS, batch_size=5).map(
        lambda batch: (
            tf.cast(batch["image"], "float32"),
            tf.zeros((tf.shape(batch["image"])[0], 1)),
        )
    )
    history = model.fit(dataset, epochs=2, verbose=0)
    assert history.params["steps"] == 5


def test_errors_while_loading_reach_the_user():
    def load(numbers, rng):
        raise ValueError("Received: 'broken.png'")

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"broken\.png"):
        next(captioned_dataset(load, 3, (4, 4, 3)).as_numpy_iterator())


def test_images_of_another_size_are_refused():
    dataset = captioned_dataset(
        lambda numbers, rng: (np.zeros((len(numbers), 5, 4, 3), np.uint8), ["a"] * len(numbers)),
        3,
        (4, 4, 3),
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        next(dataset.as_numpy_iterator())


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": -2},
        {"seed": -1},
        {"batch_size": 24, "drop_remainder": True},
    ],
)
def test_arguments_without_a_batch(options):
    with pytest.raises(ValueError, match=r"at least one batch.*Received: 23 pictures"):
        array_dataset(IMAGES, CAPTIONS, **options)


def test_arrays_that_do_not_match():
    with pytest.raises(ValueError, match="Received: 23 images, 22 captions, no lists of tags"):
        array_dataset(IMAGES, CAPTIONS[:-1])
    with pytest.raises(ValueError, match="Received: 23 images, 23 captions, 1 lists of tags"):
        array_dataset(IMAGES, CAPTIONS, [["a"]])
    with pytest.raises(ValueError, match="Received: float32 of shape"):
        array_dataset(IMAGES.astype("float32"), CAPTIONS)
    with pytest.raises(ValueError, match="Received: 0 pictures"):
        array_dataset(IMAGES[:0], [])
    with pytest.raises(ValueError, match="Received: -1"):
        array_dataset(IMAGES, CAPTIONS, max_shift=-1)
