"""Which features they are, in words."""

import keras

from keras_ldm.models.fingerprint import fingerprint


def describe_features(network: keras.Model, name: str) -> str:
    """Words that tell features from those of another network, or of the same with other weights.

    Args:
        network: what makes the features of images.
        name: what they are called in its output.

    Returns:
        The network's class, a fingerprint of its weights that is the same on every backend, its
        `resize_mode` if it has one, and the name, such as
        `"InceptionV3 3f2a9c01d4e5, bilinear_legacy, pooled"`.

    Raises:
        ValueError: for what is no network, or has no weights yet.
    """
    check_network(network)
    words = [f"{type(network).__name__} {fingerprint(network)}"]
    mode = getattr(network, "resize_mode", None)
    if isinstance(mode, str):
        words.append(mode)
    return ", ".join([*words, name])


def check_network(network: keras.Model) -> None:
    """Raises a ValueError for what is no network, or has no weights yet."""
    if not isinstance(network, keras.Model) or not network.built:
        raise ValueError(
            "Expected a keras.Model that is built, by a call with images for instance. "
            f"Received: {network!r}"
        )


def fingerprint_in(description: str) -> str:
    """The fingerprint that `describe_features` has put into its words."""
    return description.split(",")[0].split()[-1]
