"""What serving asks of learners and classifiers: plain functions of tensors."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf


class Service(NamedTuple):
    """A learner as plain functions, which change nothing and raise nothing, for any number of tasks.

    Args:
        adapt: Of `(support_x, labels, ways)`: `[tasks, support, ...]`, `[tasks, support]` int32 class numbers from 0 on
            (`[tasks, support, outputs]` values in a regression), and the most classes that any task has. Returns all
            that is known of each task afterwards, tensors `[tasks, ...]` by name.
        predict: Of what `adapt` returned and `query_x` `[tasks, queries, ...]`. Returns `[tasks, queries, classes]`
            logits, with columns to spare perhaps, or `[tasks, queries, outputs]` values in a regression.
        support_shape: Of one support example.
        query_shape: Of one query.
        variables: Whatever the functions read.
        most_classes: How many a task may have; None for any number.
        outputs: Of a regression; None where classes are told apart.
        threshold: Queries whose largest logit is less belong to none of the classes; None if all belong to one.
        at_once: Of `(support_x, labels, ways, query_x)`, what `predict` returns of what `adapt` returns, where one pass
            through a network does for both; None where there is nothing to gain.
        in_python: Of one task's support examples, labels and queries, what users of the learner get in Python, with
            which an export is compared.
    """

    adapt: Callable[[tf.Tensor, tf.Tensor, Any], dict[str, tf.Tensor]]
    predict: Callable[[Mapping[str, tf.Tensor], tf.Tensor], tf.Tensor]
    support_shape: tuple[int | None, ...]
    query_shape: tuple[int | None, ...]
    variables: Sequence[Any]
    most_classes: int | None = None
    outputs: int | None = None
    threshold: float | None = None
    at_once: Callable[[tf.Tensor, tf.Tensor, Any, tf.Tensor], tf.Tensor] | None = None
    in_python: Callable[[Any, Any, Any], Any] | None = None


class ClassifierService(NamedTuple):
    """A classifier of one task as plain functions.

    Args:
        logits: Of `[batch, ...]` examples, `[batch, classes]`.
        shape: Of one example.
        classes: Labels.
        variables: Whatever the functions read.
        embed: Of examples, their features `[batch, ...]`; None if there are none.
        threshold: Examples whose largest logit is less belong to none of the classes; None if all belong to one.
        in_python: Of examples, what users of the classifier get in Python, with which an export is compared.
    """

    logits: Callable[[tf.Tensor], tf.Tensor]
    shape: tuple[int | None, ...]
    classes: Sequence[Hashable]
    variables: Sequence[Any]
    embed: Callable[[tf.Tensor], tf.Tensor] | None = None
    threshold: float | None = None
    in_python: Callable[[Any], Any] | None = None
