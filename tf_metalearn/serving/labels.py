"""Labels of any number of tasks inside a graph: whose class is whose, and what stands where there is none."""

from typing import NamedTuple

import tensorflow as tf

#: In the place of a class that a task does not have, and of the label of a query that belongs to none of its classes.
NO_LABEL: dict[tf.DType, int | str] = {tf.int64: -1, tf.string: ""}


class TaskLabels(NamedTuple):
    """The labels of tasks, numbered.

    Args:
        numbers: `[tasks, support]` int32, each label's place in its task's `classes`.
        classes: `[tasks, classes]` labels in the order in which they come, filled up with `NO_LABEL`.
        counts: `[tasks]` int32, how many classes each task has.
    """

    numbers: tf.Tensor
    classes: tf.Tensor
    counts: tf.Tensor


def number_labels(labels: tf.Tensor, width: int | None = None) -> TaskLabels:
    """Numbers the classes of each task in the order in which they come.

    Args:
        labels: `[tasks, support]` int64 or text; one or more to a task.
        width: Of `classes`, which leaves out what is beyond it; the most that any task has when None.

    >>> found = number_labels(tf.constant([["cat", "dog", "cat"], ["owl", "owl", "owl"]]))
    >>> found.numbers.numpy().tolist()
    [[0, 1, 0], [0, 0, 0]]
    >>> found.classes.numpy().tolist()
    [[b'cat', b'dog'], [b'owl', b'']]
    """
    # Few and small operations: a request that is answered in a millisecond feels each of them.
    # [tasks, support]: the first example of the same label.
    first = tf.argmax(labels[:, :, None] == labels[:, None], axis=-1, output_type=tf.int32)
    begins = tf.cast(first == tf.range(tf.shape(labels)[1]), tf.int32)
    counts = tf.reduce_sum(begins, axis=1)
    numbers = tf.gather(tf.cumsum(begins, axis=1, exclusive=True), first, batch_dims=1)
    columns = tf.range(tf.reduce_max(counts) if width is None else width)
    # [tasks, width]: the first example of each number.
    places = tf.argmax(numbers[:, None] == columns[:, None], axis=-1, output_type=tf.int32)
    nothing = tf.constant(NO_LABEL[labels.dtype], labels.dtype)
    classes = tf.where(columns < counts[:, None], tf.gather(labels, places, batch_dims=1), nothing)
    return TaskLabels(numbers, classes, counts)


def is_label(labels: tf.Tensor) -> tf.Tensor:
    """Whether these are labels, and not what stands where there is none.

    Args:
        labels: int64, of which those below 0 are none; or text, of which the empty one is none.
    """
    return labels >= 0 if labels.dtype == tf.int64 else labels != NO_LABEL[tf.string]
