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
            # With one channel the decoders of GIF and BMP refuse colours, and that of JPEG has a grey of its own.
            pixels = tf.ensure_shape(tf.io.decode_image(text, channels=3, expand_animations=False), [None, None, 3])
            pixels = tf.cast(_grey(pixels) if form.channels == 1 else pixels, tf.float32) / 255
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


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    """Colours `[height, width, 3]` as grey, in Pillow's whole numbers; what is grey already stays as it is."""
    weights = tf.constant([19595, 38470, 7471])
    return (tf.reduce_sum(tf.cast(pixels, tf.int32) * weights, axis=-1, keepdims=True) + 32768) // 65536
