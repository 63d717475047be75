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
    support = tf.shape(labels)[1]
    places = tf.range(support)
    # [tasks, support]: the first example of the same label.
    first = tf.argmax(tf.cast(labels[:, :, None] == labels[:, None], tf.int32), axis=-1, output_type=tf.int32)
    begins = first == places
    counts = tf.reduce_sum(tf.cast(begins, tf.int32), axis=1)
    numbers = tf.gather(tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1, first, batch_dims=1)
    # Examples that begin a class stand first.
    order = tf.argsort(tf.where(begins, places, places + support), axis=1, stable=True)
    wanted = tf.reduce_max(counts) if width is None else width
    classes = tf.gather(labels, order, batch_dims=1)[:, :wanted]
    nothing = tf.constant(NO_LABEL[labels.dtype], labels.dtype)
    missing = tf.fill([tf.shape(labels)[0], tf.maximum(wanted - tf.shape(classes)[1], 0)], nothing)
    classes = tf.concat([classes, missing], axis=1)
    columns = tf.range(tf.shape(classes)[1])
    return TaskLabels(numbers, tf.where(columns < counts[:, None], classes, nothing), counts)


def is_label(labels: tf.Tensor) -> tf.Tensor:
    """Whether these are labels, and not what stands where there is none.

    Args:
        labels: int64, of which those below 0 are none; or text, of which the empty one is none.
    """
    return labels >= 0 if labels.dtype == tf.int64 else labels != NO_LABEL[tf.string]
