"""Regression tasks: sine waves of random amplitude and phase."""

import math
from typing import Any

import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.episodes.randomness import Purpose, uniform
from tf_metalearn.episodes.sampler import Count, count_range

#: Each split's random numbers.
TASKS = {"train": Purpose.TASK, "validation": Purpose.VALIDATION_TASK, "test": Purpose.TEST_TASK}


class SinusoidSampler:
    """Draws the sine wave of an index, and points on it: amplitude in [0.1, 5], phase in [0, pi], inputs in [-5, 5].

    Args:
        shots: Support points.
        queries: Query points.
        seed: Decides all tasks.
        split: "train", "validation" or "test", which have no task in common.

    >>> episode, query_y = SinusoidSampler(shots=10, queries=5)([0, 1])
    >>> episode.support_x.shape, episode.support_y.shape, query_y.shape
    (TensorShape([2, 10, 1]), TensorShape([2, 10, 1]), TensorShape([2, 5, 1]))

    Reference: Finn et al. 2017, section 5.1. https://arxiv.org/abs/1703.03400
    """

    static = True

    def __init__(self, shots: Count = 10, queries: int = 10, seed: int = 0, split: str = "train"):
        low, self.shots = count_range("shots", shots, 1)
        if low != self.shots:
            raise ValueError(
                f"`shots` must be an integer for sinusoids. Received: shots={shots!r}.\nTry shots={self.shots}."
            )
        self.queries, self.seed = count_range("queries", queries, 1)[0], int(seed)
        if split not in TASKS:
            raise ValueError(
                f"`split` must be one of {', '.join(TASKS)}. Received: split={split!r} for sinusoids.\nTry 'train'."
            )
        self.purpose = TASKS[split]

    def __call__(self, indices: Any, batch: Any = 0) -> tuple[Episode, tf.Tensor]:
        """Draws tasks; see `EpisodeSampler`."""
        random = uniform(
            self.seed, self.purpose, tf.convert_to_tensor(indices, tf.int64), 2 + self.shots + self.queries
        )
        # In double precision, and rounded at the end: TensorFlow's sines differ in the last bit between batch sizes.
        amplitude, phase, x = tf.split(tf.cast(random, tf.float64), [1, 1, self.shots + self.queries], axis=1)
        x = 10.0 * x - 5.0
        y = (0.1 + 4.9 * amplitude) * tf.sin(x - math.pi * phase)
        x, y = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
        support_x, query_x = tf.split(x[..., None], [self.shots, self.queries], axis=1)
        support_y, query_y = tf.split(y[..., None], [self.shots, self.queries], axis=1)
        return Episode(support_x, support_y, query_x), query_y
