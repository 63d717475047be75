"""Random changes of images, a pure function of a seed."""

import math
from typing import Any

import tensorflow as tf

from tf_metalearn.episodes.randomness import Purpose, uniform

FILLS = ("constant", "reflect", "nearest")
#: Whose images change in the same way.
SCOPES = ("image", "episode")


class Augmentation:
    """Moves, turns, scales and shears images at random, all in one affine map with bilinear interpolation.

    Rotated images as classes of their own are another thing: see `rotations` of `load_episodes`.

    Args:
        shift: Pixels, at most, along each axis; whole pixels, so that an image that is only shifted stays sharp.
        turn: Degrees, at most, either way.
        scale: By how much, at most, an image grows or shrinks along each axis: 0.2 is from 1 / 1.2 to 1.2.
        shear: Degrees, at most, either way.
        flip: Whether half of the images are mirrored left to right.
        fill: What comes in from outside: "constant" (0), "reflect" or "nearest".
        same_for: "image" changes each image by itself, "episode" the support and the query set alike.

    Raises:
        ValueError: If an amount is negative, or a name is unknown.

    >>> Augmentation(shift=1)(tf.ones([2, 3, 4, 4, 1]), seed=0, indices=[7, 8]).shape
    TensorShape([2, 3, 4, 4, 1])
    """

    def __init__(
        self,
        shift: int = 0,
        turn: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        flip: bool = False,
        fill: str = "constant",
        same_for: str = "image",
    ):
        for argument, amount in (("shift", shift), ("turn", turn), ("scale", scale), ("shear", shear)):
            if not isinstance(amount, int | float) or not 0 <= amount < math.inf:
                raise ValueError(
                    f"`{argument}` must be a number >= 0. Received: {argument}={amount!r}.\n"
                    "0 leaves images as they are."
                )
        if shift != int(shift):
            raise ValueError(f"`shift` must be whole pixels. Received: shift={shift!r}.\nTry shift={math.ceil(shift)}.")
        for argument, value, known in (("fill", fill, FILLS), ("same_for", same_for, SCOPES)):
            if value not in known:
                raise ValueError(
                    f"`{argument}` must be one of {known}. Received: {argument}={value!r}.\nTry {known[0]!r}."
                )
        self.shift, self.turn, self.scale, self.shear = int(shift), turn, scale, shear
        self.flip, self.fill, self.same_for = flip, fill, same_for

    def __call__(self, images: tf.Tensor, seed: int, indices: Any) -> tf.Tensor:
        """Changes images.

        Args:
            images: `[tasks, images, height, width, channels]` float.
            seed: Of all episodes.
            indices: `[tasks]` int64, of the episodes.
        """
        shape = tf.shape(images)
        tasks, count, height, width, channels = tf.unstack(shape)
        changes = count if self.same_for == "image" else 1
        random = 2.0 * uniform(seed, Purpose.AUGMENTATION, indices, 7 * changes) - 1.0
        transforms = self._transforms(tf.reshape(random, [tasks, changes, 7]), height, width)
        changed = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.reshape(images, [tasks * count, height, width, channels]),
            transforms=tf.reshape(tf.broadcast_to(transforms, [tasks, count, 8]), [-1, 8]),
            output_shape=shape[2:4],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode=self.fill.upper(),
        )
        return tf.ensure_shape(tf.reshape(changed, shape), images.shape)

    def _transforms(self, random: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """The map that takes each pixel of a new image to where it comes from, around the middle.

        Args:
            random: `[..., 7]` in [-1, 1).
            height: Of the images.
            width: Of the images.

        Returns:
            `[..., 8]`, as TensorFlow's projective transform wants it.
        """
        # In double precision, and rounded at the end: TensorFlow's sines differ in the last bit between batch sizes.
        random = tf.unstack(tf.cast(random, tf.float64), axis=-1)
        turn, shear = random[0] * math.radians(self.turn), random[1] * math.radians(self.shear)
        grow_x, grow_y = (tf.exp(number * math.log1p(self.scale)) for number in random[2:4])
        if self.flip:
            grow_x *= tf.sign(random[4] + 2.0**-30)
        shift_x, shift_y = (tf.floor((number + 1) / 2 * (2 * self.shift + 1)) - self.shift for number in random[5:])
        a, b = tf.cos(turn) / grow_x, tf.sin(shear - turn) / grow_y
        c, d = tf.sin(turn) / grow_x, tf.cos(shear - turn) / grow_y
        middle_x, middle_y = ((tf.cast(side, tf.float64) - 1) / 2 for side in (width, height))
        x, y = middle_x + shift_x, middle_y + shift_y
        zero = tf.zeros_like(a)
        transforms = [a, b, middle_x - a * x - b * y, c, d, middle_y - c * x - d * y, zero, zero]
        return tf.cast(tf.stack(transforms, axis=-1), tf.float32)
