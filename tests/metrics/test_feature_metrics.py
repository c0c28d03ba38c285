"""Metrics of features against the functions of the same features, however the images come."""

import hashlib
import re
from contextlib import nullcontext

import keras
import numpy as np
import pytest

from keras_ldm.backend import compile_function, inside_step, values_of
from keras_ldm.metrics import (
    DensityCoverage,
    FeatureStatistics,
    FrechetInceptionDistance,
    InceptionScore,
    KernelInceptionDistance,
    PrecisionRecall,
    density_coverage,
    describe_features,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from keras_ldm.metrics.running_sum import RunningSum
from keras_ldm.models.feature_network import FeatureNetwork
from tests.metrics.feature_networks import (
    FarFeatures,
    classifier,
    features,
    images,
    new_classifier,
    sixty_fourths,
)

pytestmark = pytest.mark.backend

TOLERANCE = 1e-5 if keras.backend.backend() == "jax" else 1e-6
SIZES = (5, 11, 1, 11, 5)
REAL, DRAWN = images(sum(SIZES), 0), images(sum(SIZES), 1)


def batches(*sets):
    """The sets in batches of different sizes."""
    ends = np.cumsum(SIZES)
    return [tuple(x[end - size : end] for x in sets) for size, end in zip(SIZES, ends, strict=True)]


def fed(metric, real=REAL, drawn=DRAWN, parts=(0, None)):
    """The metric, which has seen some of the batches."""
    for pair in batches(real, drawn)[slice(*parts)]:
        metric.update_state(*pair)
    return metric


def number(metric):
    result = metric.result()
    if isinstance(result, dict):
        return {name: float(value) for name, value in result.items()}
    return float(result)


def list_of(value):
    return list(value.values()) if isinstance(value, dict) else [value]


def by_definition_fid(network, real, drawn, name="pooled"):
    return frechet_distance(
        *(FeatureStatistics.of(features(network, x, name), "f") for x in (real, drawn))
    )


def by_definition_kid(network, real, drawn):
    total = 0.0
    for pair in batches(features(network, real), features(network, drawn)):
        size = len(pair[0])
        if size > 1:
            total += size * kernel_distance(*pair, num_subsets=1, subset_size=size)[0]
    return total / sum(size for size in SIZES if size > 1)


def expected(metric):
    """What the result should be of all images."""
    network = metric.network
    sets = [features(network, x, metric.features) for x in (REAL, DRAWN)]
    if isinstance(metric, FrechetInceptionDistance):
        return by_definition_fid(network, REAL, DRAWN)
    if isinstance(metric, KernelInceptionDistance):
        return by_definition_kid(network, REAL, DRAWN)
    if isinstance(metric, InceptionScore):
        return inception_score(sets[1], num_splits=1)[0]
    names, measure = {
        PrecisionRecall: (("precision", "recall"), precision_recall),
        DensityCoverage: (("density", "coverage"), density_coverage),
    }[type(metric)]
    return dict(zip(names, measure(*sets, metric.k), strict=True))


METRICS = {
    "fid": FrechetInceptionDistance,
    "kid": KernelInceptionDistance,
    "inception_score": InceptionScore,
    "precision_recall": lambda network: PrecisionRecall(network, capacity=60),
    "density_coverage": lambda network: DensityCoverage(network, capacity=60, k=4),
}


# === Results ===


@pytest.mark.parametrize("name", METRICS)
def test_the_result_is_that_of_all_images_together(name) -> None:
    metric = fed(METRICS[name](classifier()))
    assert metric.name == name
    assert number(metric) == pytest.approx(expected(metric), rel=TOLERANCE)
    assert not {0.0, 1.0} & set(list_of(number(metric)))  # which would come out of much that is wrong


@pytest.mark.parametrize("name", METRICS)
def test_starting_again_and_state_that_is_carried(name) -> None:
    network = classifier()
    metric = METRICS[name](network)
    fed(metric, DRAWN[::-1], REAL)
    metric.reset_state()
    assert all(np.isnan(value) for value in list_of(number(metric)))
    fed(metric, parts=(0, 3))
    state = [variable.numpy() for variable in metric.variables]
    fresh = METRICS[name](network)
    for variable, value in zip(fresh.variables, state, strict=True):
        variable.assign(value)
    assert number(fresh) == number(metric)
    fed(fresh, parts=(3, 5))
    assert number(fresh) == pytest.approx(expected(metric), rel=TOLERANCE)


@pytest.mark.parametrize("name", METRICS)
def test_parts_make_the_whole(name) -> None:
    """Of which one has seen nothing yet."""
    network = classifier()
    shards = [METRICS[name](network) for _ in range(4)]
    fed(shards[0], parts=(0, 2))
    fed(shards[1], parts=(2, 3))
    fed(shards[2], parts=(3, 5))
    before = number(shards[2])
    shards[3].merge_state(shards[:2])
    shards[3].merge_state([shards[2]])
    assert number(shards[3]) == pytest.approx(expected(shards[3]), rel=TOLERANCE)
    assert number(shards[2]) == before


@pytest.mark.parametrize("name", METRICS)
def test_the_network_stays_its_own(name) -> None:
    """None of its weights are the metric's, none change, and nothing is kept for their gradient."""
    network = classifier()
    before = network.get_weights()
    assert network.trainable_variables
    metric = METRICS[name](network)
    seen = []
    features_of = metric.features_of
    metric.features_of = lambda pictures: seen.append(features_of(pictures)) or seen[-1]
    fed(metric)
    assert seen and not any(getattr(values, "requires_grad", False) for values in seen)
    own = {id(variable) for variable in network.variables}
    assert own and not own & {id(variable) for variable in metric.variables}
    assert all(np.array_equal(x, y) for x, y in zip(network.get_weights(), before, strict=True))


@pytest.mark.parametrize("name", METRICS)
def test_compiled_updates(name) -> None:
    """The state passes through a compiled function, in which the result is not computed."""
    metric = METRICS[name](classifier())
    compute = metric._measure
    metric._measure = lambda: pytest.fail("computed within a step")

    def step(*pair):
        metric.update_state(*pair)
        return metric.result(), [keras.ops.convert_to_tensor(v.value) for v in metric.variables]

    compiled = compile_function(step, metric.variables)
    state = values_of(metric.variables)
    eager = keras.backend.backend() == "torch"  # where a step has to be called one
    for pair in batches(REAL, DRAWN):
        with inside_step() if eager else nullcontext():
            result, state = compiled(state, *map(keras.ops.convert_to_tensor, pair))
        assert all(np.isnan(float(value)) for value in list_of(result))
    metric._measure = compute
    for variable, value in zip(metric.variables, state, strict=True):
        variable.assign(value)
    assert number(metric) == pytest.approx(expected(metric), rel=TOLERANCE)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_features_far_from_nothing(offset) -> None:
    """The distance does not move with them, and no digits are lost."""
    network = FarFeatures(offset)
    real, drawn = sixty_fourths(sum(SIZES)), sixty_fourths(sum(SIZES), 1)
    metric = fed(FrechetInceptionDistance(network), real, drawn)
    wanted = by_definition_fid(network, real, drawn)
    assert wanted > 0.01
    assert number(metric) == pytest.approx(wanted, rel=TOLERANCE)
    first, second = FrechetInceptionDistance(network), FrechetInceptionDistance(network)
    fed(first, real, drawn, (0, 2))
    fed(second, real, drawn, (2, 5))
    first.merge_state([second])
    assert number(first) == pytest.approx(wanted, rel=TOLERANCE)


@pytest.mark.parametrize("offset", [0.0, 3.0, 30.0])
def test_kernel_distance_of_features_far_from_nothing(offset) -> None:
    network = FarFeatures(offset)
    real, drawn = sixty_fourths(sum(SIZES)), sixty_fourths(sum(SIZES), 1)
    metric = fed(KernelInceptionDistance(network), real, drawn)
    assert number(metric) == pytest.approx(by_definition_kid(network, real, drawn), rel=TOLERANCE)


def test_kernel_distance_of_one_batch() -> None:
    """And of batches of unequal numbers."""
    network = classifier()
    metric = KernelInceptionDistance(network)
    metric.update_state(REAL, DRAWN)
    sets = features(network, REAL), features(network, DRAWN)
    wanted = kernel_distance(*sets, num_subsets=1, subset_size=len(REAL))[0]
    assert number(metric) == pytest.approx(wanted, rel=TOLERANCE)
    metric.update_state(REAL[:9], DRAWN[:1])  # left out
    assert number(metric) == pytest.approx(wanted, rel=TOLERANCE)


def test_kernel_distance_without_bias() -> None:
    """Batches of unequal numbers from one distribution: about 0 on average, unlike MMD with bias."""
    rng = np.random.default_rng(0)
    metric = KernelInceptionDistance(FarFeatures())
    for _ in range(40):
        x, y = (rng.uniform(-1, 1, (size, 2, 4, 3)).astype("float32") for size in (6, 9))
        metric.update_state(x, y)
    assert abs(number(metric)) < 0.06  # with the pairs of each with itself: 0.4


def test_uint8_and_floats_of_other_sizes_mix() -> None:
    """Real images as uint8, generated ones as floats in [-1, 1], of another size and number."""
    network = classifier()
    drawn = images(20, 4, side=16).astype("float32") / 127.5 - 1
    metric = FrechetInceptionDistance(network, "logits")
    metric.update_state(REAL, drawn)
    wanted = by_definition_fid(network, REAL, drawn, "logits")
    assert number(metric) == pytest.approx(wanted, rel=TOLERANCE)


def test_each_side_on_its_own() -> None:
    network = classifier()
    metric = FrechetInceptionDistance(network)
    metric.update_real(REAL)
    assert np.isnan(number(metric))
    metric.update_generated(DRAWN[:1])
    assert np.isnan(number(metric))
    metric.update_generated(DRAWN[1:])
    assert number(metric) == pytest.approx(by_definition_fid(network, REAL, DRAWN), rel=TOLERANCE)


def test_features_that_are_not_finite() -> None:
    broken = DRAWN.astype("float32") / 127.5 - 1
    broken[3, 2, 2] = np.nan
    for make in METRICS.values():
        metric = make(classifier())
        metric.update_state(REAL, broken)
        assert all(np.isnan(value) for value in list_of(number(metric)))


def test_a_full_buffer_takes_no_more() -> None:
    network = classifier()
    metric = PrecisionRecall(network, capacity=9)
    fed(metric)  # the second batch fits in part
    sets = [features(network, x)[:9] for x in (REAL, DRAWN)]
    assert list_of(number(metric)) == pytest.approx(list(precision_recall(*sets)))
    more = fed(PrecisionRecall(network, capacity=14), parts=(0, 1))
    more.merge_state([metric])
    sets = [np.concatenate([x[:5], x[:9]]) for x in (features(network, y) for y in (REAL, DRAWN))]
    assert list_of(number(more)) == pytest.approx(list(precision_recall(*sets)))
    at_once = PrecisionRecall(network, capacity=9)
    at_once.update_state(REAL, DRAWN)  # more than there is room for
    assert number(at_once) == number(metric)


# === Statistics and references ===


def test_statistics_are_a_reference(tmp_path) -> None:
    network = classifier()
    whole = fed(FrechetInceptionDistance(network))
    whole.statistics("real").save(tmp_path / "reference.npz")
    reference = FeatureStatistics.load(tmp_path / "reference.npz")
    assert reference.features == describe_features(network, "pooled") and reference.count == len(REAL)
    found = whole.statistics()
    exact = FeatureStatistics.of(features(network, DRAWN), "f")
    np.testing.assert_allclose(found.mean, exact.mean, rtol=TOLERANCE)
    np.testing.assert_allclose(found.covariance, exact.covariance, rtol=TOLERANCE, atol=1e-6)
    metric = FrechetInceptionDistance(network, reference=reference)
    fed(metric, DRAWN)  # the real images do not matter
    assert number(metric) == pytest.approx(number(whole), rel=1e-9)
    assert metric.statistics("real") is reference
    halves = [FrechetInceptionDistance(network, reference=reference) for _ in range(2)]
    for half, part in zip(halves, (DRAWN[:13], DRAWN[13:]), strict=True):
        half.update_generated(part)
    halves[0].merge_state(halves[1:])
    assert number(halves[0]) == pytest.approx(number(whole), rel=TOLERANCE)


def test_a_reference_of_other_features() -> None:
    network = classifier()
    reference = fed(FrechetInceptionDistance(network)).statistics("real")
    with pytest.raises(ValueError, match="reference.*logits"):
        FrechetInceptionDistance(network, "logits", reference=reference)
    with pytest.raises(ValueError, match="Expected `reference` of 'Functional"):
        FrechetInceptionDistance(classifier(1), reference=reference)
    with pytest.raises(ValueError, match="all have a `reference`"):
        FrechetInceptionDistance(network).merge_state(
            [FrechetInceptionDistance(network, reference=reference)]
        )


def test_statistics_of_too_few() -> None:
    metric = FrechetInceptionDistance(classifier())
    metric.update_real(REAL[:1])
    for which, match in (("real", "at least 2 images. Received: 1"), ("drawn", "Received: 'drawn'")):
        with pytest.raises(ValueError, match=match):
            metric.statistics(which)


# === Which features ===


def test_description_is_class_weights_mode_and_name() -> None:
    network = new_classifier()
    parts = [(repr(w.shape).encode(), w.astype("<f4").tobytes()) for w in network.get_weights()]
    digits = hashlib.sha256(b"".join(x for part in parts for x in part))
    words = describe_features(network, "pooled")
    assert words == f"Functional {digits.hexdigest()[:12]}, pooled"
    assert words == "Functional 2ef86e3468ea, pooled"  # on every backend
    assert describe_features(network, "logits").endswith(", logits")
    far = describe_features(FarFeatures(), "x")
    assert re.fullmatch("FarFeatures [0-9a-f]{12}, bilinear, x", far)
    assert describe_features(FarFeatures(), "x") == far
    network.weights[-1].assign(network.weights[-1] + 1e-6)
    assert describe_features(network, "pooled") != words


class Scaled(FeatureNetwork):
    """Without weights; its configuration says what it computes."""

    side = 8

    def __init__(self, scale: float) -> None:
        super().__init__("bilinear")
        self.scale, self.built = scale, True

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def test_descriptions_of_networks_with_the_same_numbers() -> None:
    """Weights of other shapes, and a network of this package with another configuration."""
    wide, tall = (
        keras.Sequential([keras.Input((n,)), keras.layers.Dense(m)]) for n, m in ((2, 3), (3, 2))
    )
    for network in (wide, tall):
        for weight in network.weights:
            weight.assign(np.ones(weight.shape, "float32"))
    assert wide.weights[0].shape != tall.weights[0].shape
    assert describe_features(wide, "x") != describe_features(tall, "x")
    one, same, other = (describe_features(Scaled(scale), "x") for scale in (1.0, 1.0, 2.0))
    assert one == same != other


def test_description_without_dropout_s_state() -> None:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    before = describe_features(network, "x")
    (state,) = [v for v in network.variables if all(v is not weight for weight in network.weights)]
    state.assign(state + 1)
    assert describe_features(network, "x") == before


def test_what_has_no_description() -> None:
    for wrong in (keras.Sequential([keras.layers.Dense(2)]), keras.layers.Dense(2), None):
        with pytest.raises(ValueError, match="Expected a keras.Model that is built"):
            describe_features(wrong, "pooled")


# === Configuration ===


@pytest.mark.parametrize("name", METRICS)
def test_configuration(name) -> None:
    """The network comes back without its weights, and no number is given before it has them."""
    metric = METRICS[name](classifier())
    config = keras.saving.serialize_keras_object(metric)
    other = keras.saving.deserialize_keras_object(config)
    assert type(other) is type(metric) and (other.name, other.features) == (name, metric.features)
    assert getattr(other, "k", None) == getattr(metric, "k", None)
    assert getattr(other, "capacity", None) == getattr(metric, "capacity", None)
    assert other.get_config()["description"] == metric.description != other.description
    with pytest.raises(ValueError, match="Expected the network of .*set_weights"):
        other.update_state(REAL, DRAWN)
    other.network.set_weights(metric.network.get_weights())
    assert number(fed(other)) == pytest.approx(number(fed(metric)), rel=TOLERANCE)


def test_configuration_with_a_reference() -> None:
    network = classifier()
    reference = fed(FrechetInceptionDistance(network)).statistics("real")
    metric = FrechetInceptionDistance(network, reference=reference)
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    np.testing.assert_array_equal(other.reference.mean, reference.mean)
    np.testing.assert_array_equal(other.reference.covariance, reference.covariance)
    other.network.set_weights(network.get_weights())
    assert number(fed(other)) == pytest.approx(number(fed(metric)), rel=1e-9)


# === Sums ===


def test_a_sum_keeps_its_digits() -> None:
    """Where float32 would lose the small numbers, one after another."""
    rng = np.random.default_rng(0)
    half = [1e8, 3.0, *rng.uniform(0, 1, 150)]
    values = np.array([*half, *half[::-1]], "float32")

    class Holder(keras.metrics.Metric):
        def __init__(self):
            super().__init__()
            self.total = RunningSum(self, (2,), "total")

    holder, other = Holder(), Holder()
    for value in values[:152]:
        holder.total.add(np.array([value, -value]))
    for value in values[152:]:
        other.total.add(np.array([value, -value]))
    holder.total.add_array(other.total.value())
    wanted = values.astype("float64").sum()
    assert abs(float(np.sum(values, dtype="float32")) / wanted - 1) > 1e-9
    np.testing.assert_allclose(holder.total.value(), [wanted, -wanted], rtol=1e-12)


# === Replicas ===


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_replicas() -> None:
    """Sums add up; images that are kept do not."""
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        network = new_classifier()
        metric = fed(FrechetInceptionDistance(network))
        assert number(metric) == pytest.approx(by_definition_fid(network, REAL, DRAWN), rel=TOLERANCE)
        with pytest.raises(ValueError, match="tf.distribute"):
            PrecisionRecall(network)


# === Wrong uses ===


def maps(network_input=(8, 8, 3)):
    inputs = keras.Input(network_input)
    return keras.Model(inputs, keras.layers.Conv2D(2, 3, data_format="channels_last")(inputs))


def flat():
    """Features whose number depends on the size of the images."""

    class Flat(keras.Model):
        def call(self, inputs):
            return keras.ops.reshape(inputs, (keras.ops.shape(inputs)[0], -1))

    network = Flat()
    network.built = True
    return network


def test_networks_that_do_not_fit() -> None:
    for make, match in (
        (lambda: FrechetInceptionDistance(classifier(), "spatial"), "among .*logits.*'spatial'"),
        (lambda: FrechetInceptionDistance(maps()), r"\(batch, dim\)"),
        (lambda: FrechetInceptionDistance(maps((8, 8, 1))), "Expected a network of images"),
        (lambda: FrechetInceptionDistance(keras.layers.Dense(2)), "keras.Model"),
        (lambda: PrecisionRecall(classifier(), capacity=3), "capacity=3, k=3"),
        (lambda: DensityCoverage(classifier(), k=0), "k=0"),
    ):
        with pytest.raises(ValueError, match=match):
            make()


def test_images_that_do_not_fit() -> None:
    metric = FrechetInceptionDistance(classifier())
    with pytest.raises(ValueError, match="sample_weight.*None"):
        metric.update_state(REAL, DRAWN, np.ones(len(REAL)))
    with pytest.raises(ValueError, match=r"Received: shape \(12, 12, 3\)"):
        metric.update_generated(DRAWN[0])
    for scale in (255, "int32"):  # floats from 0 to 255, and integers of no known scale
        images = REAL.astype(scale) if scale == "int32" else REAL.astype("float32")
        with pytest.raises(ValueError, match="uint8, or as floats in"):
            metric.update_real(images)
    with pytest.raises(ValueError, match="that gives 12288 features.*which give 432"):
        FrechetInceptionDistance(flat()).update_real(REAL)
    kernel = KernelInceptionDistance(classifier())
    with pytest.raises(ValueError, match="sample_weight"):
        kernel.update_state(REAL, DRAWN, np.ones(len(REAL)))
    for update in (kernel.update_real, kernel.update_generated):
        with pytest.raises(ValueError, match="together"):
            update(REAL)


def test_merging_what_does_not_fit() -> None:
    network = classifier()
    metric = FrechetInceptionDistance(network)
    for other in (
        metric,
        FrechetInceptionDistance(network, "logits"),
        FrechetInceptionDistance(classifier(1)),
        KernelInceptionDistance(network),
        keras.metrics.Mean(),
    ):
        with pytest.raises(ValueError, match="Expected other metrics FrechetInceptionDistance of"):
            metric.merge_state([FrechetInceptionDistance(network), other])
