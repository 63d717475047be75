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

    def described(self) -> str:
        """Says what becomes of encoded images, as the end of a sentence.

        >>> PictureFormat(28, 28, 1, invert=True).described()
        'resized to 28 x 28, grey, from 0 to 1, dark pixels as 1: ink on paper'
        """
        colours = "grey" if self.channels == 1 else "red, green and blue"
        ink = "dark pixels as 1: ink on paper" if self.invert else "light pixels as 1"
        return f"resized to {self.height} x {self.width}, {colours}, from 0 to 1, {ink}"


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

    def decode(place: tf.Tensor, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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
        return place, (1 - pixels if form.invert else pixels)

    flat = tf.reshape(encoded, [-1])
    count = tf.size(flat)
    # An operation that fails would fail the request; a data set can leave such elements out. One for all images: to set
    # one up takes as long as to decode hundreds of small ones. The last element is there if no image is.
    readable = tf.data.Dataset.from_tensor_slices((tf.range(count), flat)).map(decode).ignore_errors()
    last = tf.data.Dataset.from_tensors((count, tf.zeros(size)))
    places, pictures = (
        readable.concatenate(last).batch(tf.cast(count + 1, tf.int64)).with_options(_plain()).get_single_element()
    )
    found = tf.scatter_nd(places[:, None], tf.ones_like(places), [count + 1])[:count] > 0
    pictures = tf.scatter_nd(places[:, None], pictures, [count + 1, *size])[:count]
    return tf.reshape(pictures, [*tf.unstack(tf.shape(encoded)), *size]), tf.reshape(found, tf.shape(encoded))


def _plain() -> tf.data.Options:
    """Options of a data set that is read once, in which nothing is worth optimising."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return options


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    """Colours `[height, width, 3]` as grey, in Pillow's whole numbers; what is grey already stays as it is."""
    weights = tf.constant([19595, 38470, 7471])
    return (tf.reduce_sum(tf.cast(pixels, tf.int32) * weights, axis=-1, keepdims=True) + 32768) // 65536
