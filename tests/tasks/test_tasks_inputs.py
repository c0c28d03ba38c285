"""Every kind of data gives a task the same batches, and says clearly what it cannot be."""

import keras
import numpy as np
import pytest

from keras_ldm.data.batch_sources import as_batch, to_numpy
from keras_ldm.tasks.inputs import TaskDataset
from tests.tasks.tiny import autoencoder_task, images, latent_diffusion, pairs, text_to_image

COUNT, BATCH = 10, 4  # the last batch has two


def rows(count=COUNT):
    """Examples that say their number."""
    return {"number": np.arange(count), "square": np.arange(count) ** 2}


def batches(count=COUNT):
    data = rows(count)
    return [{key: value[i : i + BATCH] for key, value in data.items()} for i in range(0, count, BATCH)]


class Numbers(keras.utils.PyDataset):
    """Counts its epochs, and starts the second one from the other end."""

    def __init__(self, data):
        super().__init__()
        self.data = data
        self.begun = self.ended = 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


def tf_data(known=True):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(rows())
    return (data if known else data.filter(lambda row: True)).batch(BATCH)


def data_loader():
    import torch

    data = [{key: value[i] for key, value in rows().items()} for i in range(COUNT)]
    return torch.utils.data.DataLoader(data, batch_size=BATCH)


class Lines:
    """Can be iterated again and again, and does not tell its length."""

    def __iter__(self):
        return iter(batches())


FINITE = {
    "arrays": rows,
    "list of batches": batches,
    "PyDataset": lambda: Numbers(batches()),
    "iterable": Lines,
    "tf.data": tf_data,
    "tf.data of unknown length": lambda: tf_data(known=False),
}
if keras.backend.backend() != "tensorflow":
    FINITE = {name: make for name, make in FINITE.items() if "tf.data" not in name}
if keras.backend.backend() == "torch":
    FINITE["DataLoader"] = data_loader


def kinds():
    return pytest.mark.parametrize("kind", list(FINITE))


def read_epoch(dataset, steps=None):
    """What Keras does: begins, asks for the batches in order, ends."""
    dataset.on_epoch_begin()
    read = [dataset[i]["number"].tolist() for i in range(steps or dataset.num_batches)]
    dataset.on_epoch_end()
    return read


def adapter(kind, **kwargs):
    data = FINITE[kind]() if isinstance(kind, str) else kind
    if isinstance(data, dict):
        kwargs["batch_size"] = BATCH
    return TaskDataset(data, as_batch, **kwargs)


IN_ORDER = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


# === The adapter alone ===


@pytest.mark.backend
@kinds()
def test_each_epoch_gives_every_batch_in_order(kind) -> None:
    dataset = adapter(kind)
    assert dataset.num_batches == 3
    assert [read_epoch(dataset) for _ in range(3)] == [IN_ORDER] * 3


@pytest.mark.backend
@pytest.mark.parametrize("peeked", [1, 2, 3])
@kinds()
def test_looking_at_batches_before_training_loses_none(kind, peeked) -> None:
    dataset = adapter(kind)
    assert len(dataset.examples(peeked)) == peeked  # the task's own look
    for index in range(peeked):  # Keras's look
        assert dataset[index]["number"].tolist() == IN_ORDER[index]
    assert [read_epoch(dataset) for _ in range(2)] == [IN_ORDER] * 2


@pytest.mark.backend
@kinds()
def test_an_epoch_that_is_given_up_is_not_mixed_into_the_next(kind) -> None:
    # Keras does this where a model is not built yet.
    dataset = adapter(kind)
    dataset.examples(3)
    dataset.on_epoch_begin()
    assert dataset[0]["number"].tolist() == IN_ORDER[0]
    dataset.on_epoch_end()
    assert [read_epoch(dataset) for _ in range(2)] == [IN_ORDER] * 2


@pytest.mark.backend
@kinds()
def test_dictionary_keys_and_rows_stay_together(kind) -> None:
    dataset = adapter(kind)
    dataset.on_epoch_begin()
    for i in range(3):
        batch = dataset[i]
        assert set(batch) == {"number", "square"}
        assert all(isinstance(value, np.ndarray) for value in batch.values())
        assert (batch["number"] ** 2 == batch["square"]).all()


@pytest.mark.backend
def test_epochs_of_some_steps_go_on_where_the_last_ended() -> None:
    dataset = adapter(Lines(), steps=2, restart=False)
    assert dataset.num_batches == 2
    dataset.examples(2)
    first, second, third = (read_epoch(dataset, 2) for _ in range(3))
    assert first + second + third == [*IN_ORDER, *IN_ORDER]


@pytest.mark.backend
def test_generator_with_steps_is_read_once_in_order() -> None:
    dataset = adapter((batch for batch in batches(40)), steps=5, restart=False)
    dataset.examples(3)
    read = [row for _ in range(2) for batch in read_epoch(dataset, 5) for row in batch]
    assert read == list(range(40))


@pytest.mark.backend
def test_generator_that_ends_too_early_says_so() -> None:
    dataset = adapter((batch for batch in batches()), steps=2, restart=False)
    read_epoch(dataset, 2)
    with pytest.raises(ValueError, match="a generator that ended"):
        read_epoch(dataset, 2)


@pytest.mark.backend
@pytest.mark.parametrize("data", [Lines, lambda: (b for b in batches()), lambda: Numbers(batches())])
def test_evaluation_of_some_steps_starts_from_the_first_batch_each_time(data) -> None:
    dataset = adapter(data(), steps=2)
    assert [read_epoch(dataset) for _ in range(3)] == [IN_ORDER[:2]] * 3


@pytest.mark.backend
def test_py_dataset_hears_of_each_epoch_once() -> None:
    data = Numbers(batches())
    dataset = adapter(data)
    dataset.on_epoch_end()  # Keras resets its iterator before it begins
    for _ in range(3):
        read_epoch(dataset)
    assert (data.begun, data.ended) == (3, 3)


class Endless(Numbers):
    """Gives its batches round and round."""

    num_batches = None

    def __getitem__(self, index):
        return {"number": np.array([index])}


@pytest.mark.backend
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_epochs_of_some_steps_of_a_py_dataset_go_on_where_the_last_ended(steps) -> None:
    trained = [0]
    dataset = adapter(Numbers(batches()), steps=steps, restart=False, batches_done=lambda: trained[0])
    read = []
    for _ in range(6):
        read += read_epoch(dataset)
        trained[0] += steps
    assert read == (IN_ORDER * 2 * steps)[: 6 * steps]
    dataset = adapter(Endless([]), steps=steps, restart=False, batches_done=lambda: trained[0])
    assert read_epoch(dataset) == [[6 * steps + i] for i in range(steps)]
    assert read_epoch(adapter(Endless([]), steps=steps)) == [[i] for i in range(steps)]


@pytest.mark.backend
def test_an_endless_py_dataset_needs_steps() -> None:
    with pytest.raises(ValueError, match="steps_per_epoch.*an endless Endless"):
        adapter(Endless([]))


# === Order of arrays ===


def shuffled(done=lambda: 0, seed=0, **kwargs):
    return adapter("arrays", seed=seed, batches_done=done, restart=False, **kwargs)


@pytest.mark.backend
def test_shuffle_gives_each_epoch_an_order_of_its_own() -> None:
    trained = [0]
    dataset = shuffled(lambda: trained[0])
    epochs = []
    for _ in range(4):
        epochs.append([row for batch in read_epoch(dataset) for row in batch])
        trained[0] += 3
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(COUNT)) not in epochs


@pytest.mark.backend
def test_order_depends_on_seed_and_batches_trained_alone() -> None:
    later = read_epoch(shuffled(lambda: 6))
    dataset = shuffled(lambda: 6)
    dataset.examples(2)
    for _ in range(2):  # however often an epoch is begun
        dataset.on_epoch_begin()
        dataset.on_epoch_end()
    assert read_epoch(dataset) == later
    assert read_epoch(shuffled(lambda: 6, seed=1)) != later


@pytest.mark.backend
@pytest.mark.parametrize("steps", [2, 5])
def test_shuffled_steps_cover_each_pass_once(steps) -> None:
    trained = [0]
    dataset = shuffled(lambda: trained[0], steps=steps)
    read = []
    for _ in range(6):
        assert dataset.num_batches == steps
        read += read_epoch(dataset)
        trained[0] += steps
    passes = [[row for batch in read[i : i + 3] for row in batch] for i in range(0, 6 * steps, 3)]
    assert all(sorted(rows) == list(range(COUNT)) for rows in passes)
    assert len({tuple(rows) for rows in passes}) == len(passes)
    resumed = shuffled(lambda: 4 * steps, steps=steps)
    assert read_epoch(resumed) == read[4 * steps : 5 * steps]


# === Through Keras ===


def image_sources():
    x = images()
    cut = [{"image": x[i : i + BATCH]} for i in range(0, COUNT, BATCH)]
    sources = {
        "dictionary": ({"image": x}, {"batch_size": BATCH}),
        "bare array": (x, {"batch_size": BATCH}),
        "list": (cut, {}),
        "list of bare arrays": ([batch["image"] for batch in cut], {}),
        "PyDataset": (Numbers(cut), {}),
        "generator": ((cut[i % 3] for i in range(1000)), {"steps_per_epoch": 3}),
    }
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        slices = tf.data.Dataset.from_tensor_slices({"image": x})
        sources["tf.data"] = (slices.batch(BATCH), {})
        sources["tf.data, unknown"] = (slices.filter(lambda row: True).batch(BATCH), {})
        sources["tf.data, endless"] = (slices.batch(BATCH).repeat(), {"steps_per_epoch": 3})
        sources["tf.data, tuples of one"] = (slices.batch(BATCH).map(lambda row: (row,)), {})
    if keras.backend.backend() == "torch":
        import torch

        loader = torch.utils.data.DataLoader([{"image": image} for image in x], batch_size=BATCH)
        sources["DataLoader"] = (loader, {})
    return sources


@pytest.fixture(scope="module")
def trained_by_arrays():
    task = autoencoder_task()
    history = task.fit(images(), batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return history.history["loss"]


@pytest.mark.backend
@pytest.mark.parametrize("kind", list(image_sources()))
def test_training_from_any_source_is_the_same_training(kind, trained_by_arrays) -> None:
    data, arguments = image_sources()[kind]
    task = autoencoder_task()
    history = task.fit(data, epochs=2, shuffle=False, verbose=0, **arguments)
    assert np.allclose(history.history["loss"], trained_by_arrays, rtol=1e-5)
    assert int(task.batches) == 6


@pytest.mark.parity
def test_data_loader_trains_on_every_backend(trained_by_arrays) -> None:
    import torch

    loader = torch.utils.data.DataLoader([{"image": image} for image in images()], batch_size=BATCH)
    history = autoencoder_task().fit(loader, epochs=2, verbose=0)
    assert np.allclose(history.history["loss"], trained_by_arrays, rtol=1e-5)


@pytest.mark.parity
def test_data_loader_gives_the_batches_that_arrays_give() -> None:
    dataset = adapter(data_loader())
    dataset.examples(2)
    assert [read_epoch(dataset) for _ in range(2)] == [IN_ORDER] * 2


@pytest.mark.backend
def test_shuffled_fit_continues_the_order_of_the_uninterrupted_one() -> None:
    def orders(*epochs):
        task, seen = text_to_image(), []
        preprocess = task.preprocess

        def recorded(batch):
            seen.append(batch["caption"][:, 0].tolist())
            return preprocess(batch)

        task.preprocess = recorded
        for count in epochs:
            task.fit(pairs(), batch_size=BATCH, epochs=count, verbose=0)
        return seen[-6:]

    uninterrupted = orders(3)
    assert orders(1, 2) == uninterrupted
    first, second = (np.concatenate(uninterrupted[i : i + 3]) for i in (0, 3))
    assert first.tolist() != second.tolist()
    assert sorted(first) == sorted(second) == sorted(pairs()["caption"][:, 0])


# === Text ===


def test_strings_in_every_form() -> None:
    import tensorflow as tf

    task = text_to_image(tokenizer="bert_uncased")
    x = images(3)
    words = ["red heart", "blue heart", "grün — ✓"]
    forms = {
        "list": words,
        "array": np.array(words),
        "objects": np.array(words, dtype=object),
        "bytes": np.array([word.encode() for word in words], dtype=object),
        "tensor": tf.constant(words),
    }
    expected = task.preprocess({"image": x, "caption": words})["caption"]
    assert expected.shape == (3, 6)
    assert expected[0, 0] != expected[0, 1]
    for name, value in forms.items():
        dataset = TaskDataset({"image": x, "caption": value}, task.preprocess, batch_size=3)
        assert (dataset[0]["caption"] == expected).all(), name


# === What is refused ===


def fails(match, data, **arguments):
    with pytest.raises(ValueError, match=match):
        autoencoder_task().fit(data, verbose=0, **arguments)


class Nothing:
    def __iter__(self):
        return iter(())


EMPTY = {
    "arrays": {"image": images()[:0]},
    "bare array": images()[:0],
    "list": [],
    "iterable": Nothing(),
    "PyDataset": Numbers([]),
}


@pytest.mark.backend
@pytest.mark.parametrize("kind", list(EMPTY))
def test_empty_dataset(kind) -> None:
    fails("at least one example.*empty", EMPTY[kind])


@pytest.mark.parametrize("kind", ["known", "unknown", "steps"])
def test_empty_tf_dataset(kind) -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices({"image": images()}).batch(4)
    if kind == "known":
        fails("at least one example.*empty", data.take(0))
    elif kind == "unknown":
        fails("at least one example.*empty", data.filter(lambda row: False))
    else:
        fails("source without batches", data.take(0), steps_per_epoch=2)


@pytest.mark.backend
def test_generator_without_steps() -> None:
    fails("`steps_per_epoch`.*Received: a generator", (x for x in [images()]))
    fails("source without batches", iter([]), steps_per_epoch=2)


def test_endless_tf_dataset_without_steps() -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices({"image": images()}).batch(4).repeat()
    fails("`steps_per_epoch`.*endless", data)


@pytest.mark.backend
def test_arrays_of_different_lengths() -> None:
    with pytest.raises(ValueError, match=r"one length.*'image': 10.*'caption': 9"):
        text_to_image().fit({"image": images(10), "caption": pairs(9)["caption"]})


@pytest.mark.backend
@pytest.mark.parametrize(
    ("data", "match"),
    [
        (None, "Received: NoneType"),
        (3, "Received: int"),
        ("images/", "Received: str"),
        ([(images(2), ["a", "b"])], "dictionary.*Received: tuple of 2 entries"),
        ([["a", "b"]], "dictionary.*Received: list of 2 entries"),
        ({}, "no arrays"),
    ],
)
def test_data_of_an_unknown_kind(data, match) -> None:
    fails(match, data)


@pytest.mark.backend
def test_batch_size_with_data_in_batches() -> None:
    fails("no `batch_size`.*batch_size=4 with a list", [images()], batch_size=4)


@pytest.mark.backend
@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_below_one(size) -> None:
    fails(f"`batch_size` >= 1. Received: {size}", images(), batch_size=size)


@pytest.mark.backend
def test_steps_below_one() -> None:
    fails("number of batches >= 1. Received: 0", images(), steps_per_epoch=0)


@pytest.mark.backend
def test_missing_captions_are_not_taken_for_words() -> None:
    values = to_numpy(["red", None, float("nan")])
    assert values.dtype == object
    with pytest.raises(ValueError, match="strings.*dtype object"):
        text_to_image().preprocess({"image": images(3), "caption": values})


@pytest.mark.backend
@pytest.mark.parametrize("batch", [{"caption": [1]}, {"images": images()}])
def test_missing_key(batch) -> None:
    with pytest.raises(ValueError, match=r"Expected the key 'image'.*Received: \["):
        autoencoder_task().fit([batch], verbose=0)
    with pytest.raises(ValueError, match=r"Expected the key 'image' or 'moments'.*Received: \["):
        latent_diffusion().fit([batch], verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of the reading on TensorFlow")
def test_no_loop_waits_for_a_thread_that_tunes_its_reading(monkeypatch) -> None:
    import tensorflow as tf

    read = []
    iterate = tf.data.Dataset.__iter__
    monkeypatch.setattr(tf.data.Dataset, "__iter__", lambda self: read.append(self) or iterate(self))
    task = autoencoder_task()
    for loop, arguments in (
        (task.fit, {"epochs": 2, "validation_data": images(8), "verbose": 0}),
        (task.evaluate, {"verbose": 0}),
        (task.predict, {"verbose": 0}),
    ):
        read.clear()
        loop(images(8), batch_size=4, **arguments)
        assert len(read) >= (4 if loop == task.fit else 1)
        assert not any(dataset.options().autotune.enabled in (None, True) for dataset in read)
