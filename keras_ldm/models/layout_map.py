"""Which device has which part of the weights, where a model is too large for one.

Of two layers behind one another the first has its outputs divided, the second its inputs: what is
between them never has to be whole on one device.

Reference: Shoeybi et al. 2019, Megatron-LM, https://arxiv.org/abs/1909.08053, section 3.
"""

import keras

_BY_OUTPUTS = (
    # attention and transformers
    r".*/to_(query|key|value)",
    r".*/project_(in|out)",
    r".*/feed_forward/projection",
    r".*/feed_forward_in\d+",
    # residual blocks and what changes the resolution
    r".*/conv1",
    r".*/skip",
    r".*/embedding_projection",
    r".*/(down|up)/conv",
    r".*/(down|up)\d+/conv",
    r".*/embedding_in",
)
_BY_INPUTS = (
    r".*/to_out",
    r".*/feed_forward_out\d*",
    r".*/conv2",
    r".*/embedding_out",
)


def layout_map(
    device_mesh: keras.distribution.DeviceMesh, model_axis: str = "model"
) -> keras.distribution.LayoutMap:
    """The layout of U-Nets, autoencoders and text encoders, for `keras.distribution.ModelParallel`.

    It divides the kernels of attention, feed-forward layers and residual blocks, in which nearly all
    parameters are, and the tables of tokens. What is left is on each device. Optimizers and averages of
    weights divide as the weights do. JAX only, as all of `keras.distribution`.

    Args:
        device_mesh: of the devices.
        model_axis: name of its axis along which weights are divided. The widths of all layers must
            divide by its length.

    Raises:
        ValueError: if the mesh has no such axis.

    Example:

    ```python
    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
    layout = keras_ldm.models.layout_map(mesh)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    )
    task = ...   # made and trained as ever
    ```
    """
    if model_axis not in device_mesh.axis_names:
        raise ValueError(
            f"Expected `model_axis` to be one of the mesh's axes, {list(device_mesh.axis_names)}. "
            f"Received: {model_axis!r}"
        )
    layout = keras.distribution.LayoutMap(device_mesh)
    kernels = {
        "dense": ((None, model_axis), (model_axis, None)),
        "conv": ((None, None, None, model_axis), (None, None, model_axis, None)),
    }
    for places, paths in enumerate((_BY_OUTPUTS, _BY_INPUTS)):
        for path in paths:
            kind = "conv" if "conv" in path or "skip" in path else "dense"
            layout[f"{path}/kernel"] = kernels[kind][places]
            if places == 0:
                layout[f"{path}/bias"] = (model_axis,)
    layout[r".*/token_embedding/embeddings"] = (None, model_axis)
    return layout
