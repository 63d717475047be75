"""Encoded images inside a graph, where one that is damaged must not fail its neighbours."""

from typing import NamedTuple

import tensorflow as tf


class PictureFormat(NamedTuple):
    """What a learner expects of images.

    Args:
        height: In pixels.
        width: In pixels.
        channels: 1 or 3.
        invert: Whether dark pixels become 1, for ink on paper.
    """

    height: int
    width: int
    channels: int
    invert: bool = False


def decode_pictures(encoded: tf.Tensor, form: PictureFormat) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes PNG, JPEG, GIF (the first frame) and BMP images, and resizes them.

    Args:
        encoded: Text of any shape, an image each.
        form: What they become.

    Returns:
        `[..., height, width, channels]` float32 from 0 to 1, zeros where an image cannot be read; and `[...]` whether
        each could be.
    """
    size = [form.height, form.width, form.channels]

    def one(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def decode(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = tf.io.decode_image(text, channels=form.channels, expand_animations=False)
            pixels = tf.cast(tf.ensure_shape(pixels, [None, None, form.channels]), tf.float32) / 255
            same = tf.reduce_all(tf.shape(pixels)[:2] == size[:2])
            # Images of the right size stay as they are, to the last bit.
            pixels = tf.cond(
                same,
                lambda: pixels,
                lambda: tf.clip_by_value(tf.image.resize(pixels, size[:2], "lanczos3", antialias=True), 0, 1),
            )
            pixels = tf.ensure_shape(pixels, size)
            return (1 - pixels if form.invert else pixels), tf.constant(True)

        # An operation that fails would fail the request; a data set can leave such elements out.
        readable = tf.data.Dataset.from_tensors(text).map(decode).ignore_errors()
        return readable.reduce((tf.zeros(size), tf.constant(False)), lambda nothing, found: found)

    flat = tf.reshape(encoded, [-1])
    signature = (tf.TensorSpec(size, tf.float32), tf.TensorSpec([], tf.bool))
    pictures, found = tf.map_fn(one, flat, fn_output_signature=signature)
    return tf.reshape(pictures, [*tf.unstack(tf.shape(encoded)), *size]), tf.reshape(found, tf.shape(encoded))
