"""What all few-shot learners share: Keras's own training loop over episodes."""

from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.functional import mean_loss
from tf_metalearn.learners.checks import checked_targets
from tf_metalearn.serving.served_model import ServedModel
from tf_metalearn.serving.service import Service


class FewShotLearner(ServedModel):
    """A model of episodes: `learner(episode)` adapts to each task's support set and predicts its query set.

    A data set of `(Episode, query_y)` is Keras's `(x, y)`, so that `fit`, `evaluate`, `predict`, losses, metrics and
    callbacks are Keras's own. A subclass says in `call` how predictions come about, and in `adapt` how a classifier of
    one task does.

    Args:
        name: Of the model.
        ink: Whether examples are pictures of ink, 1 where they are dark, as Omniglot's; see `ServedModel`.

    With one example of each class, in the order of the classes:

    >>> class NearestExample(FewShotLearner):
    ...     def call(self, episode, training=None):
    ...         gaps = episode.query_x[:, :, None] - episode.support_x[:, None]
    ...         return -tf.reduce_sum(gaps**2, axis=-1)
    >>> learner = NearestExample()
    >>> learner.compile()
    >>> x, y = tf.constant([[[0.0], [1.0]]]), tf.constant([[0, 1]])
    >>> episodes = tf.data.Dataset.from_tensors((Episode(x, y, x + 0.2), y))
    >>> learner.evaluate(episodes, verbose=0, return_dict=True)["accuracy"]
    1.0
    """

    #: Whether `fit` and `predict` take episodes, as they do of all learners but a baseline.
    learns_from_episodes = True

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
            loss: Of the query predictions; the learner's own when None, for most cross-entropy on logits.
            metrics: "accuracy" when None and the loss is the default one. With it goes `accuracy_ci95`, half the width
                of the 95 % interval over tasks; without it `loss_ci95`, the same of the loss.
            jit_compile: Keras would choose XLA by itself where there is a GPU.
            **kwargs: As Keras has them.
        """
        if loss is None:
            loss = self.default_loss()
            metrics = ["accuracy"] if metrics is None else metrics
        metrics = list(metrics or [])
        if not any(isinstance(metric, TaskInterval) for metric in metrics):
            of_accuracy = "accuracy" in metrics
            metrics.append(TaskInterval("accuracy_ci95") if of_accuracy else TaskInterval("loss_ci95", loss))
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile, **kwargs)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Keras's `fit`.

        Args:
            x: A data set of `(Episode, query_y)`, or what else Keras takes.
            *args: As Keras has them.
            **kwargs: As Keras has them.

        Returns:
            Keras's history.

        Raises:
            ValueError: If these are examples without a support set.
        """
        if self.learns_from_episodes:
            _check_episodes(x)
        if isinstance(x, tf.data.Dataset):
            # Keras cannot shuffle it, and would say so.
            kwargs.setdefault("shuffle", False)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Keras's `evaluate`, on episodes.

        Args:
            x: A data set of `(Episode, query_y)`, or what else Keras takes.
            *args: As Keras has them.
            **kwargs: As Keras has them.

        Raises:
            ValueError: If these are examples without a support set.
        """
        # `fit` evaluates on what it was given for validation, which may be of its own kind.
        in_fit = "_use_cached_eval_dataset" in kwargs
        if self.learns_from_episodes or not in_fit:
            _check_episodes(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras's `predict`.

        Args:
            x: A data set of `(Episode, query_y)`, or what else Keras takes.
            *args: As Keras has them.
            **kwargs: As Keras has them.

        Raises:
            ValueError: If these are examples without a support set.
        """
        if self.learns_from_episodes:
            _check_episodes(x)
        return super().predict(x, *args, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Keras's, once what is to be predicted is what a loss can use.

        Args:
            x: As Keras has it.
            y: `[tasks, queries]` labels, or `[tasks, queries, outputs]` values.
            y_pred: `[tasks, queries, outputs]`.
            sample_weight: As Keras has it.
            training: As Keras has it.

        Raises:
            ValueError: If labels are not 0 to ways - 1, or values not finite. In a compiled function it is a
                `tf.errors.InvalidArgumentError`.
        """
        if y is not None:
            y = checked_targets(y, y_pred)
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    def default_loss(self) -> keras.losses.Loss:
        """Returns the loss of `compile` without one: cross-entropy on logits.

        >>> FewShotLearner().default_loss().name
        'sparse_categorical_crossentropy'
        """
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a learner that was loaded; Keras asks this of models with a `compile` of their own.

        Args:
            config: What `get_compile_config` returned.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def with_settings(self, **settings: Any) -> Self:
        """Returns a copy with some of its configuration changed, compiled with the defaults of `compile`.

        Args:
            **settings: Arguments of the constructor, such as `transductive=True` or `evaluation_steps=10`; those that
                decide the shapes of weights must stay.

        >>> import tf_metalearn as tfm
        >>> learner = tfm.MAML(tfm.backbones.conv4(filters=8, outputs=5))
        >>> learner.with_settings(evaluation_steps=3).evaluation_steps
        3
        """
        changed = type(self).from_config({**self.get_config(), **settings})
        changed.set_weights(self.get_weights())
        changed.compile()
        return changed

    def call(self, episode: Episode, training: bool | None = None) -> tf.Tensor:
        """Predicts the query sets.

        Args:
            episode: A batch of tasks.
            training: Whether layers such as dropout are in training mode.

        Returns:
            `[tasks, queries, ways]` logits, or `[tasks, queries, outputs]` in a regression.
        """
        raise NotImplementedError

    def learned_values(self, support_x: Any, support_y: Any) -> dict[str, Any]:
        """What is learned besides the weights of networks, for histograms; nothing unless an algorithm says so.

        Args:
            support_x: `[support, ...]` of a task, for values that depend on it.
            support_y: `[support]` labels, or `[support, outputs]` values of a regression.

        Returns:
            Arrays by name.

        >>> import tf_metalearn as tfm
        >>> learner = tfm.MetaSGD(keras.Sequential([keras.Input([2]), keras.layers.Dense(2)]))
        >>> {name: values.shape for name, values in learner.learned_values([[0.0, 1.0]], [0]).items()}
        {'rates': (6,)}
        """
        return {}

    def served(self) -> Service:
        """Returns the learner as plain functions of tensors, which is what `export` writes.

        >>> import tf_metalearn as tfm
        >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([2]), keras.layers.Identity()]))
        >>> service = learner.served()
        >>> state = service.adapt(tf.constant([[[0.0, 0.0], [9.0, 0.0]]]), tf.constant([[0, 1]]), 2)
        >>> service.predict(state, tf.constant([[[1.0, 0.0]]])).shape
        TensorShape([1, 1, 2])
        """
        raise NotImplementedError(f"{type(self).__name__} says nothing in `served`, and cannot be exported.")

    def adapt(self, support_x: Any, support_y: Any) -> keras.Model:
        """Returns a classifier for one task; the learner stays as it is.

        Args:
            support_x: `[support, ...]`.
            support_y: `[support]` labels of any hashable kind; classes may have unequal numbers of examples.

        >>> import tf_metalearn as tfm
        >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([2]), keras.layers.Identity()]))
        >>> classifier = learner.adapt([[0.0, 0.0], [9.0, 0.0], [9.0, 2.0]], ["left", "right", "right"])
        >>> classifier.classes
        ['left', 'right']
        >>> classifier.predict(np.array([[1.0, 0.0]]), verbose=0).round(2)
        array([[1., 0.]], dtype=float32)
        """
        raise NotImplementedError

    def adapt_and_predict(self, support_x: Any, support_y: Any, query_x: Any) -> np.ndarray:
        """Adapts to one task, and predicts: `adapt` and `predict` in one, without Keras's loop over batches.

        Args:
            support_x: `[support, ...]`.
            support_y: `[support]` labels, or `[support, outputs]` values of a regression.
            query_x: `[queries, ...]`.

        Returns:
            `[queries, classes]` probabilities of the classes in the order in which they come in `support_y`, or
            `[queries, outputs]`.

        >>> import tf_metalearn as tfm
        >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([1]), keras.layers.Identity()]))
        >>> learner.adapt_and_predict([[0.0], [9.0]], ["left", "right"], [[1.0], [7.0]]).round(2)
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        """
        return np.asarray(self.adapt(support_x, support_y)(tf.convert_to_tensor(query_x), training=False))


@keras.saving.register_keras_serializable("tf_metalearn")
class TaskInterval(keras.metrics.Metric):
    """Half the width of the 95 % interval of a mean over tasks, 1.96 standard errors.

    Args:
        name: Of the metric.
        loss: A Keras loss whose mean is meant; of the accuracy when None.
        dtype: Of the sums.

    >>> interval = TaskInterval()
    >>> interval.update_state([[0, 1], [0, 1]], [[[2.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> round(float(interval.result()), 3)
    0.98
    """

    def __init__(self, name: str = "accuracy_ci95", loss: Any = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.loss = loss
        self._loss = None if loss is None else mean_loss(loss)
        self.count, self.total, self.squares = (
            self.add_variable((), keras.initializers.Zeros(), name=part) for part in ("count", "total", "squares")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of tasks.

        Args:
            y_true: `[tasks, queries]` labels, or `[tasks, queries, outputs]` in a regression.
            y_pred: `[tasks, queries, outputs]`.
            sample_weight: Not used.
        """
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        if self._loss is None:
            right = tf.cast(y_true, tf.int64) == tf.argmax(y_pred, axis=-1)
            values = tf.reduce_mean(tf.cast(right, self.dtype), axis=-1)
        else:
            of_task = self._loss
            values = tf.map_fn(
                # Some of Keras's losses are functions that return one value an example.
                lambda task: tf.cast(tf.reduce_mean(of_task(*task)), self.dtype),
                (y_true, y_pred),
                fn_output_signature=self.dtype,
            )
        values = tf.cast(values, self.dtype)
        self.count.assign_add(tf.cast(tf.size(values), self.dtype))
        self.total.assign_add(tf.reduce_sum(values))
        self.squares.assign_add(tf.reduce_sum(values**2))

    def result(self) -> tf.Tensor:
        """Returns the half-width; infinite of fewer than two tasks."""
        count, total = tf.convert_to_tensor(self.count), tf.convert_to_tensor(self.total)
        others = tf.maximum(count - 1, 1)
        variance = tf.maximum(self.squares - total**2 / tf.maximum(count, 1), 0) / others
        return tf.where(count > 1, 1.96 * tf.sqrt(variance / tf.maximum(count, 1)), np.inf)

    def get_config(self) -> dict[str, Any]:
        loss = self.loss if self.loss is None else keras.losses.serialize(keras.losses.get(self.loss))
        return {**super().get_config(), "loss": loss}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TaskInterval":
        loss = config.get("loss")
        return cls(**{**config, "loss": loss if loss is None else keras.losses.deserialize(loss)})


def _check_episodes(x: Any) -> None:
    """Refuses examples, which have no support set, before Keras makes a batch of them."""
    parts = isinstance(x, list | tuple) and len(x) != len(Episode._fields)
    if hasattr(x, "shape") or parts:
        received = f"an array of shape {tuple(x.shape)}" if hasattr(x, "shape") else f"a {type(x).__name__} of {len(x)}"
        raise ValueError(
            f"`x` must be episodes. Received: {received}.\n"
            "A learner trains on episodes: tf_metalearn.load_episodes((x, y), ...). For one task, see its `adapt`."
        )
