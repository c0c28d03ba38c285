"""Does the model draw the picture that was asked for?

Each generated image is compared with every reference image by the Euclidean distance of their
pixels; it counts at k if the picture whose caption was the prompt is among the k nearest.
"""

import numpy as np

from keras_ldm.types import Array


def retrieval_at_k(generated: Array, references: Array, targets: Array, k: int = 1) -> float:
    """Share of generated images that find the picture they were asked for.

    Args:
        generated: uint8 or floats, `(N, height, width, channels)`.
        references: all the pictures, `(M, height, width, channels)`, on the same scale.
        targets: index in `references` of the picture asked for, `(N,)`.
        k: how many of the nearest to look at.

    Returns:
        From 0 to 1; chance gives k / M.

    Raises:
        ValueError: if shapes do not fit, or k is not from 1 to M.
    """
    if generated.shape[1:] != references.shape[1:] or len(targets) != len(generated):
        raise ValueError(
            "Expected images of one shape and a target for each. Received: generated "
            f"{generated.shape}, references {references.shape}, targets {np.shape(targets)}"
        )
    if not 1 <= k <= len(references):
        raise ValueError(f"Expected k from 1 to {len(references)}. Received: {k}")
    a = generated.reshape(len(generated), -1).astype(np.float64)
    b = references.reshape(len(references), -1).astype(np.float64)
    distances = np.square(b).sum(axis=1)[None] - 2.0 * a @ b.T
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(nearest == np.asarray(targets)[:, None], axis=1)))
