"""What metric learners share: embed support and query set, and compare."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.checks import as_support, check_ways, checked
from tf_metalearn.learners.networks import is_network, network_remedy
from tf_metalearn.learners.support_classifier import SupportClassifier
from tf_metalearn.learners.task_classifier import class_numbers
from tf_metalearn.serving.service import Service


class MetricLearner(FewShotLearner):
    """Predicts a query's class by comparing its embedding with those of the support set. There is no inner loop.

    An algorithm says in `represent` what stands for a class, and in `compare` how queries are compared with that. Any
    number of ways and shots will do, in training and after; batch normalisation uses running averages after training,
    so nothing is transductive.

    Args:
        embedding: A built Keras model from an example to its features.
        ways: Of every episode; None reads it off the labels, which XLA cannot.
        threshold: Classifiers say "none of these" of queries whose largest logit is less; None never does. See
            `calibrate`, which finds one.
        name: Of the model.
        **kwargs: As `FewShotLearner` has them: whether pictures are of `ink`.

    Raises:
        ValueError: If the embedding is not built, or its features have another number of axes than the algorithm's.
    """

    #: Axes of a batch of features: 2 for vectors, 4 for feature maps.
    feature_axes = 2
    #: What class metadata goes into, in zero-shot learning.
    metadata_encoder: keras.Model | None = None

    def __init__(
        self,
        embedding: keras.Model,
        ways: int | None = None,
        threshold: float | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        check_network("embedding", embedding, self.feature_axes)
        self.embedding, self.ways, self.threshold = embedding, ways, threshold
        self.built = True

    def call(self, episode: Episode, training: bool | None = None) -> tf.Tensor:
        support_x, labels, query_x = checked(
            episode,
            self.embedding.input_shape[1:],
            self.ways,
            self.support_network.input_shape[1:],
            "take `learner.with_settings(ways=None)`, which takes any number",
        )
        ways = tf.reduce_max(labels) + 1 if self.ways is None else self.ways
        return self._predict(support_x, labels, ways, query_x, training)

    def _predict(
        self, support_x: tf.Tensor, labels: tf.Tensor, ways: Any, query_x: tf.Tensor, training: bool | None = False
    ) -> tf.Tensor:
        support, query = self._embed(support_x, query_x, training)
        return self.compare(query, self.represent(support, labels, ways, training), training)

    @property
    def support_network(self) -> keras.Model:
        """What the support set goes into."""
        return self.embedding

    def _embed(self, support_x: tf.Tensor, query_x: tf.Tensor, training: bool | None) -> tuple[tf.Tensor, tf.Tensor]:
        if self.support_network is not self.embedding:
            return of_each(self.support_network, support_x, training), of_each(self.embedding, query_x, training)
        # Together, so that batch normalisation sees both.
        count = tf.shape(support_x)[1]
        features = of_each(self.embedding, tf.concat([support_x, query_x], axis=1), training)
        return features[:, :count], features[:, count:]

    def represent(
        self, support: tf.Tensor, labels: tf.Tensor, ways: Any, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """What stands for the classes of each task: the mean of their examples, unless an algorithm has its own idea.

        Args:
            support: `[tasks, support, ...]` features.
            labels: `[tasks, support]` int32.
            ways: Classes; one without examples in a task is to be left out of its predictions.
            training: Whether layers are in training mode.

        Returns:
            Tensors `[tasks, ...]` by name, all that `compare` needs of a support set.
        """
        return {"prototypes": class_means(support, labels, ways)}

    def compare(self, query: tf.Tensor, classes: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Compares queries with classes.

        Args:
            query: `[tasks, queries, ...]` features.
            classes: What `represent` returned.
            training: Whether layers of the comparison are in training mode.

        Returns:
            `[tasks, queries, ways]` logits.
        """
        raise NotImplementedError

    def served(self) -> Service:
        def adapt(support_x, labels, ways):
            return self.represent(of_each(self.support_network, support_x, False), labels, ways, training=False)

        def predict(classes, query_x):
            return self.compare(of_each(self.embedding, query_x, False), classes, training=False)

        return Service(
            adapt,
            predict,
            tuple(self.support_network.input_shape[1:]),
            tuple(self.embedding.input_shape[1:]),
            [variable.value for variable in self.weights],
            threshold=self.threshold,
            at_once=self._predict,
            in_python=self.adapt_and_predict,
        )

    def adapt(self, support_x: Any, support_y: Any) -> SupportClassifier:
        """Returns a classifier of the classes of one support set; the learner stays as it is.

        Args:
            support_x: `[support, ...]` examples, or with a metadata encoder `[classes, features]`.
            support_y: `[support]` labels of any hashable kind; classes may have unequal numbers of examples. One class
                is enough for a learner with a threshold.

        Raises:
            ValueError: If there are no examples, they have another shape or are not finite, there is not a label for
                each, or only one class.
        """
        classifier = SupportClassifier(_copy(self), ink=self.ink)
        classes, numbers = class_numbers(support_y)
        x = as_support(support_x, len(numbers), self.support_network)
        if self.threshold is None:
            check_ways(classes, ", or fit a threshold by `calibrate`, with which one class will do")
        classifier.add_classes(classes, numbers, x)
        return classifier

    def get_config(self) -> dict[str, Any]:
        embedding = keras.saving.serialize_keras_object(self.embedding)
        return {**super().get_config(), "embedding": embedding, "ways": self.ways, "threshold": self.threshold}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "MetricLearner":
        models = {
            part: keras.saving.deserialize_keras_object(value, custom_objects)
            for part, value in config.items()
            if isinstance(value, dict) and "class_name" in value and part != "dtype"
        }
        return cls(**{**config, **models})


def check_network(argument: str, model: Any, axes: int) -> None:
    """Refuses what cannot embed.

    Args:
        argument: Its name.
        model: What should be a built Keras model.
        axes: Of its outputs.
    """
    if not is_network(model) or len(model.output_shape) != axes:
        kind = "vectors" if axes == 2 else "feature maps [height, width, channels]"
        remedy = "end it with Flatten or global pooling" if axes == 2 else "leave out Flatten"
        raise ValueError(
            f"`{argument}` must be a built Keras model that returns {kind}, functional or Sequential. Received: "
            f"{model!r}.\n" + network_remedy(model, f"Begin it with keras.Input, and {remedy}.")
        )


def check_metric(learner: Any) -> None:
    """Refuses learners that do not compare embeddings.

    Args:
        learner: What should be a metric learner.
    """
    if not isinstance(learner, MetricLearner):
        what = type(learner).__name__
        raise ValueError(
            f"`learner` must be a metric learner, which compares embeddings. Received: {what}.\n"
            "Use a PrototypicalNetwork, MatchingNetwork, SiameseNetwork or RelationNetwork."
        )


def members(labels: tf.Tensor, ways: Any) -> tf.Tensor:
    """Which support examples belong to which class.

    Args:
        labels: `[tasks, support]` int32.
        ways: Classes.

    Returns:
        `[tasks, ways, support]` bool.

    >>> members(tf.constant([[0, 1, 1]]), 2).numpy().astype(int)[0]
    array([[1, 0, 0],
           [0, 1, 1]])
    """
    return labels[:, None] == tf.range(ways)[:, None]


def class_means(features: tf.Tensor, labels: tf.Tensor, ways: Any) -> tf.Tensor:
    """The mean of each class of each task.

    Args:
        features: `[tasks, support, ...]`.
        labels: `[tasks, support]` int32.
        ways: Classes.

    Returns:
        `[tasks, ways, ...]`; zeros for a class without examples.

    >>> class_means(tf.constant([[[1.0], [3.0], [5.0]]]), tf.constant([[0, 0, 1]]), 2).numpy().reshape(-1)
    array([2., 5.], dtype=float32)
    """
    members = tf.one_hot(labels, ways, dtype=features.dtype)
    counts = tf.maximum(tf.reduce_sum(members, axis=1), 1)
    return tf.einsum("tsw,ts...->tw...", members / counts[:, None], features)


def of_each(model: keras.Model, x: tf.Tensor, training: bool | None) -> tf.Tensor:
    """Calls a model on `[tasks, examples, ...]` as on one batch.

    Args:
        model: From an example to its features.
        x: The examples.
        training: As layers have it.
    """
    leading = tf.shape(x)[:2]
    flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
    flat.set_shape([None, *x.shape[2:]])
    outputs = model(flat, training=training)
    return tf.reshape(outputs, [*tf.unstack(leading), *outputs.shape[1:]])


def _copy(learner: MetricLearner) -> MetricLearner:
    """A copy that later training of the original does not reach."""
    copy = type(learner).from_config(learner.get_config())
    copy.set_weights(learner.get_weights())
    return copy
