"""What all few-shot learners share: Keras's own training loop over episodes."""

from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode


class FewShotLearner(keras.Model):
    """A model of episodes: `learner(episode)` adapts to each task's support set and predicts its query set.

    A data set of `(Episode, query_y)` is Keras's `(x, y)`, so that `fit`, `evaluate`, `predict`, losses, metrics and
    callbacks are Keras's own. A subclass says in `call` how predictions come about, and in `adapt` how a classifier of
    one task does.

    Args:
        name: Of the model.
    """

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Any = None,
        jit_compile: bool = False,
        **kwargs: Any,
    ) -> None:
        """Keras's `compile`, with the defaults of classification.

        Args:
            optimizer: Of the meta-parameters.
            loss: Of the query predictions; cross-entropy on logits when None.
            metrics: "accuracy" when None and the loss is the default one. With it goes `accuracy_ci95`, half the width
                of the 95 % interval over tasks.
            jit_compile: Keras would choose XLA by itself where there is a GPU.
            **kwargs: As Keras has them.
        """
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            metrics = ["accuracy"] if metrics is None else metrics
        metrics = list(metrics or [])
        if "accuracy" in metrics and not any(isinstance(metric, TaskInterval) for metric in metrics):
            metrics.append(TaskInterval(name="accuracy_ci95"))
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a learner that was loaded; Keras asks this of models with a `compile` of their own.

        Args:
            config: What `get_compile_config` returned.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, episode: Episode, training: bool | None = None) -> tf.Tensor:
        """Predicts the query sets.

        Args:
            episode: A batch of tasks.
            training: Whether layers such as dropout are in training mode.

        Returns:
            `[tasks, queries, ways]` logits, or `[tasks, queries, outputs]` in a regression.
        """
        raise NotImplementedError

    def adapt(self, support_x: Any, support_y: Any) -> keras.Model:
        """Returns a classifier for one task; the learner stays as it is.

        Args:
            support_x: `[support, ...]`.
            support_y: `[support]` labels of any hashable kind; classes may have unequal numbers of examples.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("tf_metalearn")
class TaskInterval(keras.metrics.Metric):
    """Half the width of the 95 % interval of the mean accuracy over tasks, 1.96 standard errors.

    >>> interval = TaskInterval()
    >>> interval.update_state([[0, 1], [0, 1]], [[[2.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> round(float(interval.result()), 3)
    0.98
    """

    def __init__(self, name: str = "accuracy_ci95", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.count, self.total, self.squares = (
            self.add_variable((), keras.initializers.Zeros(), name=part) for part in ("count", "total", "squares")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of tasks.

        Args:
            y_true: `[tasks, queries]` labels.
            y_pred: `[tasks, queries, ways]` scores.
            sample_weight: Not used.
        """
        right = tf.cast(y_true, tf.int64) == tf.argmax(y_pred, axis=-1)
        accuracies = tf.reduce_mean(tf.cast(right, self.dtype), axis=-1)
        self.count.assign_add(tf.cast(tf.size(accuracies), self.dtype))
        self.total.assign_add(tf.reduce_sum(accuracies))
        self.squares.assign_add(tf.reduce_sum(accuracies**2))

    def result(self) -> tf.Tensor:
        """Returns the half-width; infinite of fewer than two tasks."""
        count, total = tf.convert_to_tensor(self.count), tf.convert_to_tensor(self.total)
        others = tf.maximum(count - 1, 1)
        variance = tf.maximum(self.squares - total**2 / tf.maximum(count, 1), 0) / others
        return tf.where(count > 1, 1.96 * tf.sqrt(variance / tf.maximum(count, 1)), np.inf)


def class_numbers(labels: Any) -> tuple[list[Hashable], np.ndarray]:
    """Numbers the classes of a support set in the order in which they come.

    Args:
        labels: `[support]` of any hashable kind.

    Returns:
        The classes, and `[support]` int32.

    >>> class_numbers(["cat", "dog", "cat"])
    (['cat', 'dog'], array([0, 1, 0], dtype=int32))
    """
    listed: Sequence[Hashable] = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    classes = list(dict.fromkeys(listed))
    places = {label: place for place, label in enumerate(classes)}
    return classes, np.array([places[label] for label in listed], np.int32)
