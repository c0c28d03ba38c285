"""Features of sets of images, and all measures of two sets at once."""

import json

import keras
import numpy as np
import pytest

from keras_ldm.metrics import (
    FeatureStatistics,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from keras_ldm.metrics.evaluation import evaluate_images
from keras_ldm.metrics.feature_description import describe_features
from keras_ldm.metrics.feature_extraction import FeatureExtractor, extract_features
from keras_ldm.metrics.image_features import ImageFeatures, is_features_file
from keras_ldm.metrics.measures import (
    check_counts,
    check_measurable,
    needed_features,
    value_names,
)
from tests.metrics.tiny_features import CLASSES, DIM, TinyFeatures


def images(count: int, side: int = 12, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def directly(network, pictures, name="pooled") -> np.ndarray:
    return keras.ops.convert_to_numpy(network(keras.ops.convert_to_tensor(pictures))[name])


def extract(network, pictures, **options) -> ImageFeatures:
    return extract_features(network, pictures, progress=False, **options)


def random_features(count, seed=0, shift=0.0, names=("pooled", "logits"), what="f") -> ImageFeatures:
    rng = np.random.default_rng(seed)
    values = {name: (rng.normal(size=(count, 5)) + shift).astype("float32") for name in names}
    return ImageFeatures(values, {name: f"{what}, {name}" for name in names}, "bilinear")


# === Features of images ===


@pytest.mark.backend
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_features_are_those_of_the_network(batch_size) -> None:
    network, pictures = TinyFeatures(), images(10)
    found = extract(network, pictures, features=("pooled", "logits"), batch_size=batch_size)
    assert found.count == 10 and found.resize_mode == "bilinear"
    for name, dim in (("pooled", DIM), ("logits", CLASSES)):
        assert found.values[name].shape == (10, dim) and found.values[name].dtype == np.float32
        np.testing.assert_allclose(found.values[name], directly(network, pictures, name), atol=1e-5)
        assert found.descriptions[name] == describe_features(network, name)
    floats = extract(network, pictures / np.float32(127.5) - 1, batch_size=batch_size)
    np.testing.assert_allclose(floats.values["pooled"], found.values["pooled"], atol=1e-5)


@pytest.mark.backend
def test_batches_of_any_sizes_are_streamed() -> None:
    """Each image as by itself, in order; and the network is compiled for one size, whatever comes."""
    network = TinyFeatures()
    batches = [images(count, side, seed=side) for count, side in ((2, 12), (3, 30), (1, 7), (5, 8))]
    extractor = FeatureExtractor(network, batch_size=4)
    network.shapes.clear()
    found = extractor((batch for batch in batches), progress=False)
    assert set(network.shapes) == {(4, 8, 8, 3)}
    expected = np.concatenate([directly(network, batch) for batch in batches])
    np.testing.assert_allclose(found.values["pooled"], expected, atol=1e-5)


@pytest.mark.backend
def test_grey_images_are_repeated() -> None:
    network, grey = TinyFeatures(), images(3, channels=1)
    found = extract(network, grey).values["pooled"]
    np.testing.assert_allclose(found, directly(network, np.repeat(grey, 3, axis=-1)), atol=1e-5)


def test_few_images_are_not_padded() -> None:
    network = TinyFeatures()
    extractor = FeatureExtractor(network, batch_size=32)
    network.shapes.clear()
    extractor(images(3), progress=False)
    assert network.shapes[-1] == (3, 8, 8, 3)


def test_a_progress_bar_counts_images(capsys) -> None:
    extract_features(TinyFeatures(), images(5), batch_size=2)
    assert "5/5" in capsys.readouterr().err
    extract(TinyFeatures(), images(5))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("pictures", "match"),
    [
        ([], "at least one image. Received: none"),
        (images(0), "at least one image. Received: none"),
        (images(2)[0], "Expected images of shape"),
        (images(2, channels=4), "Expected images of shape"),
        (np.full((1, 8, 8, 3), np.nan, "float32"), "finite images"),
        (np.full((1, 8, 8, 3), 7.0, "float32"), r"in \[-1, 1\]"),
        ([images(2), images(2).astype("int32")], "uint8"),
    ],
)
def test_what_are_no_images(pictures, match) -> None:
    with pytest.raises(ValueError, match=match):
        extract(TinyFeatures(), pictures)


def test_features_that_are_not_finite() -> None:
    network = TinyFeatures()
    network.dense.kernel.assign(np.full(network.dense.kernel.shape, np.nan, "float32"))
    with pytest.raises(ValueError, match="Expected finite features. Received: .* of 2 of 2 images"):
        extract(network, images(2))


def test_what_cannot_be_extracted() -> None:
    network = TinyFeatures()
    with pytest.raises(ValueError, match=r"'pooled'\].*InceptionV3.*Received: \['spatial'\]"):
        extract(network, images(2), features=("spatial",))
    with pytest.raises(ValueError, match=r"Received: \[\]"):
        extract(network, images(2), features=())
    with pytest.raises(ValueError, match="network of features"):
        extract(keras.layers.Dense(3), images(2))
    with pytest.raises(ValueError, match="`batch_size` >= 1. Received: 0"):
        extract(network, images(2), batch_size=0)


# === Kept, and joined ===


def test_files_keep_everything(tmp_path) -> None:
    kept = random_features(7)
    kept.save(tmp_path / "new" / "real.npz")
    found = ImageFeatures.load(tmp_path / "new" / "real.npz")
    assert found.descriptions == kept.descriptions and found.resize_mode == "bilinear"
    assert set(found.values) == set(kept.values)
    for name, values in kept.values.items():
        np.testing.assert_array_equal(found.values[name], values)
        assert found.values[name].dtype == np.float32
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["real.npz"]
    assert is_features_file(tmp_path / "new" / "real.npz")


def test_files_that_hold_no_features(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        ImageFeatures.load(tmp_path / "nothing.npz")
    path = tmp_path / "bad.npz"
    random_features(50).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="ImageFeatures.save.*bad.npz"):
        ImageFeatures.load(path)
    random_features(9).statistics().save(path)
    with pytest.raises(ValueError, match="bad.npz"):
        ImageFeatures.load(path)
    assert not is_features_file(path) and not is_features_file(tmp_path / "nothing.npz")


def test_parts_make_the_whole() -> None:
    parts = [random_features(count, seed=count) for count in (3, 1, 4)]
    whole = ImageFeatures.joined(parts)
    assert whole.count == 8
    for name in ("pooled", "logits"):
        np.testing.assert_array_equal(whole.values[name][3:4], parts[1].values[name])
        np.testing.assert_array_equal(whole.values[name][4:], parts[2].values[name])
    with pytest.raises(ValueError, match="the same features"):
        ImageFeatures.joined([parts[0], random_features(3, what="g")])
    with pytest.raises(ValueError, match="at least one part"):
        ImageFeatures.joined([])


def test_statistics_are_those_of_the_features() -> None:
    features = random_features(20)
    found = features.statistics("logits")
    expected = FeatureStatistics.of(features.values["logits"], "f, logits")
    assert (found.count, found.features) == (20, "f, logits")
    np.testing.assert_array_equal(found.covariance, expected.covariance)
    with pytest.raises(ValueError, match="among.*'pooled'.*Received: 'spatial'"):
        features.statistics("spatial")


def test_features_that_do_not_fit_one_another() -> None:
    a, b = np.ones((3, 2)), np.ones((4, 2))
    for values, descriptions, match in (
        ({"pooled": a, "logits": b}, {"pooled": "f", "logits": "f"}, "same images.*3.*4"),
        ({"pooled": a}, {"logits": "f"}, "description of each"),
        ({}, {}, "at least one feature"),
    ):
        with pytest.raises(ValueError, match=match):
            ImageFeatures(values, descriptions)


# === All measures at once ===


def test_each_value_is_that_of_its_own_function() -> None:
    drawn, real = random_features(40, seed=1, shift=0.2), random_features(30)
    found = evaluate_images(drawn, real)
    x, y = drawn.values["pooled"], real.values["pooled"]
    kid, kid_std = kernel_distance(y, x, subset_size=15)
    shuffled = np.random.default_rng(0).permutation(drawn.values["logits"])
    score, score_std = inception_score(shuffled, num_splits=4)
    precision, recall = precision_recall(y, x)
    density, coverage = density_coverage(y, x)
    assert found.values == {
        "fid": frechet_distance(real.statistics(), drawn.statistics()),
        "kid": kid,
        "kid_std": kid_std,
        "inception_score": score,
        "inception_score_std": score_std,
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
    }
    # What is said of real images is not said of generated ones.
    assert precision != recall and kid_std > 0
    assert found.provenance == {
        "features": {"pooled": "f, pooled", "logits": "f, logits"},
        "resize_mode": "bilinear",
        "num_generated": 40,
        "num_real": 30,
        "kid": {"num_subsets": 100, "subset_size": 15, "seed": 0},
        "is": {"num_splits": 4, "seed": 0},
        "pr": {"k": 3},
        "dc": {"k": 5},
    }


def test_subsets_of_many_images_have_a_thousand(monkeypatch) -> None:
    monkeypatch.setattr("keras_ldm.metrics.evaluation._SUBSETS", 2)
    found = evaluate_images(random_features(2001), random_features(2400, seed=1), ("kid",))
    assert found.provenance["kid"] == {"num_subsets": 2, "subset_size": 1000, "seed": 0}


def test_json_and_table() -> None:
    found = evaluate_images(random_features(12, seed=1), random_features(11), ("fid", "kid", "pr"))
    assert json.loads(found.to_json()) == {"values": found.values, "provenance": found.provenance}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.table().splitlines()]
    assert all(len(row) == 2 for row in rows)
    shown = dict(rows)
    assert float(shown["FID"]) == pytest.approx(found.values["fid"], rel=1e-3)
    mean, deviation = shown["KID"].split(" ± ")
    assert float(mean) == pytest.approx(found.values["kid"], rel=1e-3)
    assert float(deviation) == pytest.approx(found.values["kid_std"], rel=0.1)
    assert shown["features: pooled"] == "f, pooled" and shown["num real"] == "11"


def test_of_statistics_only_the_frechet_distance_is_known(tmp_path) -> None:
    drawn, real = random_features(40, seed=1), random_features(30)
    real.statistics().save(tmp_path / "reference.npz")
    reference = FeatureStatistics.load(tmp_path / "reference.npz")
    found = evaluate_images(drawn, reference, ("fid",))
    assert found.values == evaluate_images(drawn, real, ("fid",)).values
    assert found.provenance["num_real"] == 30
    for metric in ("kid", "pr", "dc"):
        with pytest.raises(ValueError, match=f"{metric!r}.*only 'fid' and 'sfid'.*Received: statistics"):
            evaluate_images(drawn, reference, ("fid", metric))


def test_the_inception_score_needs_no_reference() -> None:
    drawn = random_features(30)
    found = evaluate_images(drawn, metrics="is")
    shuffled = np.random.default_rng(0).permutation(drawn.values["logits"])
    assert found.values["inception_score"] == inception_score(shuffled, num_splits=3)[0]
    assert "num_real" not in found.provenance
    with pytest.raises(ValueError, match="'kid'.*Received: None"):
        evaluate_images(drawn, metrics=("is", "kid"))
    with pytest.raises(ValueError, match="'fid'.*Received: None"):
        evaluate_images(drawn, metrics=("fid",))


def test_the_order_of_images_does_not_matter_to_the_inception_score() -> None:
    """Sure of ten classes that come one behind the other: parts in that order have one class each."""
    logits = 1000.0 * np.eye(10, dtype="float32").repeat(30, axis=0)
    drawn = ImageFeatures({"logits": logits}, {"logits": "f"})
    assert inception_score(logits)[0] == pytest.approx(1.0)
    assert evaluate_images(drawn, metrics="is").values["inception_score"] > 8


def test_the_kernel_distance_of_few_images_has_a_spread() -> None:
    """Subsets that are the whole set would all be the same."""
    found = evaluate_images(random_features(20), random_features(20, seed=1), ("kid",))
    assert found.values["kid_std"] > 1e-3


def test_statistics_of_another_width_are_refused_before_anything_is_drawn() -> None:
    extractor = FeatureExtractor(TinyFeatures())
    other = FeatureStatistics(np.zeros(99), np.eye(99), 500, extractor.descriptions["pooled"])
    width = extractor.widths["pooled"]
    with pytest.raises(ValueError, match=f"statistics of {width} features.*Received: of 99"):
        check_measurable(("fid",), extractor.descriptions, 500, other, extractor.widths)


def test_spatial_features() -> None:
    names = ("pooled", "spatial")
    drawn, real = random_features(20, 1, names=names), random_features(20, names=names)
    expected = frechet_distance(real.statistics("spatial"), drawn.statistics("spatial"))
    assert evaluate_images(drawn, real, ("fid", "sfid")).values["sfid"] == expected
    both = [real.statistics("spatial"), real.statistics("pooled")]
    found = evaluate_images(drawn, both, ("fid", "sfid"))
    assert found.values == evaluate_images(drawn, real, ("fid", "sfid")).values
    assert found.values["fid"] != found.values["sfid"]
    with pytest.raises(ValueError, match="'f, spatial'.*'sfid'.*Received: .'f, pooled'"):
        evaluate_images(drawn, real.statistics("pooled"), ("sfid",))
    with pytest.raises(ValueError, match="'spatial'.*InceptionV3 has.*Received: .*'pooled'"):
        evaluate_images(random_features(20), real, ("sfid",))


def test_features_of_other_networks_do_not_compare() -> None:
    pictures = images(12)
    drawn, real = extract(TinyFeatures(0), pictures), extract(TinyFeatures(1), pictures)
    assert drawn.values["pooled"].shape == real.values["pooled"].shape
    for reference in (real, extract(TinyFeatures(0, "bilinear_legacy"), pictures)):
        for metric in ("fid", "kid", "pr", "dc"):
            with pytest.raises(ValueError, match="the same features"):
                evaluate_images(drawn, reference, (metric,))
        with pytest.raises(ValueError, match="the same features"):
            evaluate_images(drawn, reference.statistics(), ("fid",))
    with pytest.raises(ValueError, match="only"):
        evaluate_images(random_features(12), random_features(12, names=("logits",)), ("kid",))


@pytest.mark.parametrize(
    ("metric", "needed", "of_real"),
    [("fid", 2, True), ("kid", 2, True), ("is", 10, False), ("pr", 4, True), ("dc", 6, True)],
)
@pytest.mark.filterwarnings("ignore:The Fréchet distance")
def test_too_few_images(metric, needed, of_real) -> None:
    enough, few = random_features(needed), random_features(needed - 1)
    evaluate_images(enough, enough, (metric,))
    with pytest.raises(ValueError, match=f"at least {needed} generated images for {metric!r}"):
        evaluate_images(few, enough, (metric,))
    if of_real:
        with pytest.raises(ValueError, match=f"at least {needed} real images for {metric!r}"):
            evaluate_images(enough, few, (metric,))
    check_counts((metric,), None, None)


def test_fewer_images_than_features_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="5 features is estimated from 5 images"):
        evaluate_images(random_features(5), random_features(30, seed=1), ("fid",))


def test_names() -> None:
    assert needed_features(("fid", "kid", "is")) == ("pooled", "logits")
    assert value_names(("pr", "kid")) == ("precision", "recall", "kid", "kid_std")
    for metrics in (("fid", "fud"), "fud"):
        with pytest.raises(ValueError, match=r"'dc'\]. Received: \['fud'\]"):
            evaluate_images(random_features(9), random_features(9), metrics)
    with pytest.raises(ValueError, match="Received: none"):
        evaluate_images(random_features(9), random_features(9), ())


@pytest.mark.backend
def test_images_of_one_distribution_are_close_and_others_far() -> None:
    network = TinyFeatures()
    real, same = (extract(network, images(60, seed=seed)) for seed in (0, 1))
    dark = extract(network, images(60, seed=2) // 4)
    near, far = (evaluate_images(drawn, real, ("fid", "kid", "pr")).values for drawn in (same, dark))
    assert far["fid"] > 5 * near["fid"] and far["kid"] > 5 * abs(near["kid"])
    assert near["precision"] > 0.6 > 0.2 > far["recall"]
