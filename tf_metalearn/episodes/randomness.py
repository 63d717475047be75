"""Random numbers that are a pure function of a seed, a purpose and an episode's index, for a whole batch at once.

TensorFlow's stateless generators take one seed a call; here each episode has its own, so that it is the same whatever
batch it is drawn in. Whole numbers only: the same bits on every machine.
"""

import enum
from typing import Any

import tensorflow as tf

#: 2^64 divided by the golden ratio: steps by it visit all 64-bit numbers.
_STEP = 0x9E3779B97F4A7C15


class Purpose(enum.IntEnum):
    """What random numbers are for: each purpose has a stream of its own."""

    SHAPE = 0
    GROUP = 1
    CLASSES = 2
    EXAMPLES = 3
    SUPPORT_ORDER = 4
    QUERY_ORDER = 5
    AUGMENTATION = 6
    TASK = 7
    VALIDATION_TASK = 8
    TEST_TASK = 9
    SINGLE_EXAMPLE = 10


def bits(seed: int, purpose: Purpose, indices: Any, count: Any) -> tf.Tensor:
    """Returns random bits.

    Args:
        seed: From 0 to 2^59 - 1.
        purpose: Which stream.
        indices: `[tasks]` int64, of episodes or batches.
        count: How many numbers for each.

    Returns:
        `[tasks, count]` int32, all bits random.

    >>> one, two = bits(0, Purpose.CLASSES, [5, 6], 3), bits(0, Purpose.CLASSES, [6, 5], 3)
    >>> bool(tf.reduce_all(one == two[::-1]))
    True

    Reference: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", 10.1145/2660193.2660195.
    """
    step = tf.constant(_STEP, tf.uint64)
    start = _mix(tf.constant((seed * 16 + purpose + 1) * _STEP % 2**64, tf.uint64))
    keys = _mix(start + tf.cast(indices, tf.uint64) * step)
    positions = tf.cast(tf.range(1, tf.cast(count, tf.int64) + 1), tf.uint64)
    mixed = _mix(keys[:, None] + positions * step)
    return tf.bitcast(tf.cast(tf.bitwise.right_shift(mixed, tf.constant(32, tf.uint64)), tf.uint32), tf.int32)


def uniform(seed: int, purpose: Purpose, indices: Any, count: Any) -> tf.Tensor:
    """Returns `[tasks, count]` float32 in [0, 1); see `bits`.

    >>> bool(tf.reduce_all(uniform(0, Purpose.TASK, [1], 100) < 1))
    True
    """
    # The upper 24 bits, which float32 holds exactly.
    upper = tf.bitwise.right_shift(
        tf.bitcast(bits(seed, purpose, indices, count), tf.uint32), tf.constant(8, tf.uint32)
    )
    return tf.cast(tf.cast(upper, tf.int32), tf.float32) / 2.0**24


def distinct(random: tf.Tensor, limits: Any, count: Any) -> tf.Tensor:
    """Chooses distinct numbers in random order.

    Args:
        random: `[..., candidates]` int32, all bits random.
        limits: `[...]`: numbers from 0 to less than this are candidates.
        count: How many to choose. More of them begin with the same ones.

    Returns:
        `[..., count]` int32.

    >>> distinct(tf.constant([[5, 9, 7, 8]]), [3], 2).numpy()
    array([[1, 2]], dtype=int32)
    """
    candidate = tf.range(tf.shape(random)[-1]) < tf.cast(tf.expand_dims(limits, -1), tf.int32)
    # Ties go to the lower number, so that even the least of all integers comes before what is no candidate.
    return tf.math.top_k(tf.where(candidate, random, tf.int32.min), count).indices


def _mix(x: tf.Tensor) -> tf.Tensor:
    """SplitMix64's finaliser: every bit of the argument changes half of the bits of the result."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = _fold(x, shift) * tf.constant(factor, tf.uint64)
    return _fold(x, 31)


def _fold(x: tf.Tensor, shift: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64)))
