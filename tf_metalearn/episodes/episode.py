"""What a learner sees of a task."""

from typing import NamedTuple

import tensorflow as tf


class Episode(NamedTuple):
    """A batch of tasks: labelled examples to adapt to, and examples to predict.

    Episodes are Keras's `(x, y)`: a data set yields `(Episode(...), query_y)`, where x is what the learner may see and
    y what it must predict.

    Args:
        support_x: `[tasks, support, ...]`. Zero-shot: the classes' metadata, `[tasks, ways, features]`.
        support_y: `[tasks, support]` int32 labels from 0 to ways - 1, or `[tasks, support, outputs]` in a regression.
        query_x: `[tasks, queries, ...]`.

    >>> Episode(tf.zeros([1, 5, 28, 28, 1]), tf.zeros([1, 5], tf.int32), tf.zeros([1, 75, 28, 28, 1])).support_y.shape
    TensorShape([1, 5])
    """

    support_x: tf.Tensor
    support_y: tf.Tensor
    query_x: tf.Tensor
