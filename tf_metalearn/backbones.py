"""The networks of the few-shot papers."""

import keras

from tf_metalearn.normalization import FusedBatchNormalization


def conv4(
    shape: tuple[int, int, int] = (28, 28, 1),
    filters: int = 64,
    outputs: int | None = None,
    downsample: str = "stride",
    normalization: str = "batch",
    downsampled_blocks: int = 4,
    flatten: bool = True,
    name: str = "conv4",
) -> keras.Sequential:
    """Builds the four-block convolutional network of the few-shot papers.

    Each block is a 3 x 3 convolution, a normalisation and a ReLU, and halves the image. As an embedding it ends with
    the flattened feature maps; as a classifier with logits.

    Args:
        shape: Of an image: (height, width, channels).
        filters: Of each convolution; the papers have 64, and 32 on mini-ImageNet with gradient-based learners.
        outputs: Logits; None for an embedding.
        downsample: "stride" (in the convolution; MAML on Omniglot), "average" or "max" (2 x 2 pooling). Second
            derivatives of Keras's max-pooling are inexact under XLA; the maximum here is one of slices, which is exact.
        normalization: "batch", "layer", "group" (of eight channels), or "none".
        downsampled_blocks: How many of the blocks, from the first on, halve the image.
        flatten: Whether feature maps become one vector; False for learners that compare feature maps.
        name: Of the model.

    Returns:
        A `keras.Sequential`.

    Raises:
        ValueError: If a name is unknown.

    >>> conv4(filters=32).output_shape, conv4((84, 84, 3), 32, outputs=5, downsample="max").output_shape
    ((None, 128), (None, 5))

    References: Vinyals et al. 2016, section 4.1.1, https://arxiv.org/abs/1606.04080; Finn et al. 2017, appendix,
    https://arxiv.org/abs/1703.03400.
    """
    if downsample not in ("stride", "average", "max"):
        raise ValueError(
            "`downsample` must be one of 'stride', 'average', 'max'. Received: "
            f"downsample={downsample!r}.\n'stride' is the fastest."
        )
    layers: list[keras.layers.Layer] = []
    if not 0 <= downsampled_blocks <= 4:
        raise ValueError(
            f"`downsampled_blocks` must be from 0 to 4. Received: downsampled_blocks={downsampled_blocks!r}.\nTry 4."
        )
    if outputs is not None and not flatten:
        raise ValueError("`flatten` must be True for a classifier. Received: False with outputs.\nLeave out one.")
    for block in range(4):
        halves = block < downsampled_blocks
        # Halves are rounded up by strides and down by pooling, as in the papers.
        strides = 2 if downsample == "stride" and halves else 1
        layers.append(keras.layers.Conv2D(filters, 3, strides, "same", use_bias=normalization == "none"))
        layers += _normalization(normalization, filters)
        if downsample == "max" and halves:
            # A maximum may as well be taken before the ReLU, which then has a quarter of the work.
            layers.append(ExactMaxPooling2D())
        layers.append(keras.layers.ReLU())
        if downsample == "average" and halves:
            layers.append(keras.layers.AveragePooling2D(2))
    if flatten:
        layers.append(keras.layers.Flatten())
    if outputs is not None:
        layers.append(keras.layers.Dense(outputs))
    return keras.Sequential([keras.Input(shape), *layers], name=name)


def mlp(
    shape: tuple[int, ...], hidden: tuple[int, ...] = (40, 40), outputs: int | None = None, name: str = "mlp"
) -> keras.Sequential:
    """Builds a network of dense ReLU layers, for tables of features and for regressions.

    Args:
        shape: Of an example; more than one axis is flattened.
        hidden: Units of each layer.
        outputs: Logits, or values of a regression; None for an embedding, which ends with the last hidden layer.
        name: Of the model.

    >>> mlp((12,), hidden=(64, 32)).output_shape, mlp((12,), outputs=5).output_shape
    ((None, 32), (None, 5))
    """
    layers: list[keras.layers.Layer] = [keras.layers.Flatten()] if len(shape) > 1 else []
    # An embedding may be negative.
    layers += [keras.layers.Dense(units, "relu") for units in (hidden if outputs else hidden[:-1])]
    layers.append(keras.layers.Dense(outputs or hidden[-1]))
    return keras.Sequential([keras.Input(shape), *layers], name=name)


def sinusoid_mlp(hidden: tuple[int, ...] = (40, 40)) -> keras.Sequential:
    """Builds the network for regression on sine waves: ReLU layers between one input and one output.

    Args:
        hidden: Units of each layer.

    >>> sinusoid_mlp().count_params()
    1761

    Reference: Finn et al. 2017, section 5.1. https://arxiv.org/abs/1703.03400
    """
    return mlp((1,), hidden, outputs=1, name="sinusoid_mlp")


@keras.saving.register_keras_serializable("tf_metalearn")
class ExactMaxPooling2D(keras.layers.Layer):
    """2 x 2 max-pooling with exact second derivatives, under XLA too; an odd last row or column is left out.

    >>> ExactMaxPooling2D()(keras.ops.reshape(keras.ops.arange(9.0), [1, 3, 3, 1])).numpy().reshape(-1)
    array([4.], dtype=float32)
    """

    def call(self, images):
        _, height, width, channels = self.compute_output_shape(images.shape)
        if images.shape[1] % 2 or images.shape[2] % 2:
            images = images[:, : 2 * height, : 2 * width]
        # Whole rows first, then neighbours in a row: these lie together in memory, slices with a step of 2 do not.
        top, bottom = keras.ops.unstack(keras.ops.reshape(images, [-1, height, 2, 2 * width * channels]), axis=2)
        rows = keras.ops.reshape(keras.ops.maximum(top, bottom), [-1, height, width, 2, channels])
        left, right = keras.ops.unstack(rows, axis=3)
        return keras.ops.maximum(left, right)

    def compute_output_shape(self, shape):
        return (shape[0], shape[1] // 2, shape[2] // 2, shape[3])


def _normalization(kind: str, filters: int) -> list[keras.layers.Layer]:
    if kind == "none":
        return []
    if kind == "batch":
        return [FusedBatchNormalization()]
    if kind == "layer":
        return [keras.layers.LayerNormalization(axis=[1, 2, 3])]
    if kind == "group":
        return [keras.layers.GroupNormalization(groups=max(1, filters // 8))]
    raise ValueError(
        "`normalization` must be one of 'batch', 'layer', 'group', 'none'. Received: "
        f"normalization={kind!r}.\n'batch' is the papers'."
    )
