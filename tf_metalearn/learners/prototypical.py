"""Prototypical networks: a class is the mean of its examples' embeddings."""

from collections.abc import Hashable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.checks import checked
from tf_metalearn.learners.task_classifier import TaskClassifier, class_numbers

DISTANCES = ("euclidean", "cosine")


@keras.saving.register_keras_serializable("tf_metalearn")
class PrototypicalNetwork(FewShotLearner):
    """Predicts by the distance of a query's embedding to the mean embedding of each class.

    Any number of ways and shots, in training and after; training with more ways than at test helps. Zero-shot: with a
    `metadata_encoder`, the support set is class metadata, and a prototype is the embedding of that.

    Args:
        embedding: A Keras model from an example to a vector.
        distance: "euclidean" (squared) or "cosine" (its similarity, times a learned scale).
        metadata_encoder: A Keras model from a class's metadata to a vector as long as the embedding's, for zero-shot
            episodes; prototypes and embeddings are then compared at unit length, as in the paper. None otherwise.
        ways: Of every episode; None reads it off the labels, which XLA cannot.
        name: Of the model.

    Raises:
        ValueError: If the distance is unknown, or the embedding is no model with vectors as outputs.

    >>> import tf_metalearn as tfm
    >>> learner = PrototypicalNetwork(tfm.backbones.conv4(filters=8))
    >>> x = np.random.default_rng(0).random([2, 5, 28, 28, 1], "float32")
    >>> learner(tfm.Episode(x, np.tile(range(5), [2, 1]), x)).shape
    TensorShape([2, 5, 5])

    Reference: Snell et al. 2017. https://arxiv.org/abs/1703.05175
    """

    def __init__(
        self,
        embedding: keras.Model,
        distance: str = "euclidean",
        metadata_encoder: keras.Model | None = None,
        ways: int | None = None,
        name: str = "prototypical_network",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        if distance not in DISTANCES:
            raise ValueError(
                f"`distance` must be one of {DISTANCES}. Received: distance={distance!r}.\nTry 'euclidean'."
            )
        for argument, model in (("embedding", embedding), ("metadata_encoder", metadata_encoder)):
            if argument == "metadata_encoder" and model is None:
                continue
            if not isinstance(model, keras.Model) or not model.built or len(model.output_shape) != 2:
                raise ValueError(
                    f"`{argument}` must be a built Keras model that returns vectors. Received: {model!r}.\n"
                    "Begin it with keras.Input, and end it with Flatten or global pooling."
                )
        if metadata_encoder is not None and metadata_encoder.output_shape != embedding.output_shape:
            raise ValueError(
                "`metadata_encoder` must return vectors as long as the embedding's. Received: "
                f"{metadata_encoder.output_shape[-1]} instead of {embedding.output_shape[-1]} numbers.\n"
                "Change the units of its last layer."
            )
        self.embedding, self.metadata_encoder = embedding, metadata_encoder
        self.distance, self.ways = distance, ways
        if self._unit_length:
            self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(10.0), name="scale")
        self.built = True

    @property
    def _unit_length(self) -> bool:
        return self.distance == "cosine" or self.metadata_encoder is not None

    def call(self, episode: Episode, training: bool | None = None) -> tf.Tensor:
        metadata = None if self.metadata_encoder is None else self.metadata_encoder.input_shape[1:]
        support_x, labels, query_x = checked(episode, self.embedding.input_shape[1:], self.ways, metadata)
        if self.metadata_encoder is None:
            # Together, so that batch normalisation sees both.
            count = tf.shape(support_x)[1]
            vectors = _of_each(self.embedding, tf.concat([support_x, query_x], axis=1), training)
            support, query = vectors[:, :count], vectors[:, count:]
        else:
            support = _of_each(self.metadata_encoder, support_x, training)
            query = _of_each(self.embedding, query_x, training)
        prototypes = class_means(support, labels, self.ways or tf.reduce_max(labels) + 1)
        return self.similarity(query, prototypes)

    def similarity(self, query: tf.Tensor, prototypes: tf.Tensor) -> tf.Tensor:
        """How near queries are to prototypes, as logits.

        Args:
            query: `[..., queries, features]`.
            prototypes: `[..., classes, features]`.

        Returns:
            `[..., queries, classes]`: minus the squared distance, or the scaled cosine.
        """
        if self._unit_length:
            query, prototypes = tf.math.l2_normalize(query, -1), tf.math.l2_normalize(prototypes, -1)
            return tf.cast(self.scale, query.dtype) * tf.matmul(query, prototypes, transpose_b=True)
        products = tf.matmul(query, prototypes, transpose_b=True)
        squares = tf.reduce_sum(prototypes**2, -1)[..., None, :] + tf.reduce_sum(query**2, -1)[..., :, None]
        return 2 * products - squares

    def adapt(self, support_x: Any, support_y: Any) -> "PrototypeClassifier":
        """Returns a classifier of the classes of one support set.

        Args:
            support_x: `[support, ...]` examples, or with a metadata encoder `[classes, features]`.
            support_y: `[support]` labels of any hashable kind; classes may have unequal numbers of examples.

        Raises:
            ValueError: If there are no examples, or not a label for each.
        """
        classifier = PrototypeClassifier(_copy(self))
        classes, numbers = class_numbers(support_y)
        x = np.asarray(support_x)
        if not len(classes) or len(x) != len(numbers):
            raise ValueError(
                "`support_x` must have at least one example, and `support_y` a label for each. "
                f"Received: {len(x)} examples and {len(numbers)} labels.\nA class needs one example or more."
            )
        for place, label in enumerate(classes):
            classifier.add_class(label, x[numbers == place])
        return classifier

    def get_config(self) -> dict[str, Any]:
        encoder = self.metadata_encoder
        return {
            **super().get_config(),
            "embedding": keras.saving.serialize_keras_object(self.embedding),
            "metadata_encoder": None if encoder is None else keras.saving.serialize_keras_object(encoder),
            "distance": self.distance,
            "ways": self.ways,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "PrototypicalNetwork":
        config = dict(config)
        for part in ("embedding", "metadata_encoder"):
            if config[part] is not None:
                config[part] = keras.saving.deserialize_keras_object(config[part], custom_objects)
        return cls(**config)


@keras.saving.register_keras_serializable("tf_metalearn")
class PrototypeClassifier(TaskClassifier):
    """A classifier of one task's classes: `predict` returns probabilities `[examples, classes]`.

    Args:
        learner: Whose embedding and distance it uses.
        classes: Names; they come with their prototypes, by `add_class` or from a saved file.
        name: Of the model.
    """

    def __init__(
        self,
        learner: PrototypicalNetwork,
        classes: tuple[Hashable, ...] = (),
        name: str = "prototype_classifier",
        **kwargs: Any,
    ):
        super().__init__(classes, name=name, **kwargs)
        self.learner = learner
        features = learner.embedding.output_shape[-1]
        # Grows with the classes.
        self._prototypes = tf.Variable(tf.zeros([len(classes), features]), shape=[None, features], trainable=False)

    def call(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """Returns `[examples, classes]` probabilities."""
        return tf.nn.softmax(self.learner.similarity(self.learner.embedding(x, training=False), self._prototypes))

    def add_class(self, label: Hashable, x: Any) -> None:
        """Adds a class, or gives a known one new examples; the other classes stay as they are.

        Args:
            label: Any hashable.
            x: `[examples, ...]`, or its metadata `[1, features]` with a metadata encoder.

        Raises:
            ValueError: If there is no example, or a value is not finite.
        """
        x = np.asarray(x)
        if not len(x) or not np.isfinite(x).all():
            what = "not finite numbers" if len(x) else "no examples"
            raise ValueError(f"`x` must hold finite examples of class {label!r}. Received: {what}.\nCheck the arrays.")
        model = self.learner.metadata_encoder or self.learner.embedding
        prototype = tf.reduce_mean(model(tf.cast(x, tf.float32), training=False), axis=0, keepdims=True)
        rows = self._prototypes.numpy()
        if label in self._classes:
            rows[self._classes.index(label)] = prototype[0]
        else:
            rows, self._classes = np.concatenate([rows, prototype]), (*self._classes, label)
        self._prototypes.assign(rows)

    def save_own_variables(self, store: Any) -> None:
        store["prototypes"] = self._prototypes.numpy()

    def load_own_variables(self, store: Any) -> None:
        self._prototypes.assign(store["prototypes"][...])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learner": keras.saving.serialize_keras_object(self.learner)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "PrototypeClassifier":
        learner = keras.saving.deserialize_keras_object(config["learner"], custom_objects)
        return cls(**{**config, "learner": learner, "classes": cls.classes_of(config)})


def class_means(vectors: tf.Tensor, labels: tf.Tensor, ways: Any) -> tf.Tensor:
    """The mean vector of each class of each task.

    Args:
        vectors: `[tasks, support, features]`.
        labels: `[tasks, support]` int32.
        ways: Classes.

    Returns:
        `[tasks, ways, features]`; zeros for a class without examples.

    >>> class_means(tf.constant([[[1.0], [3.0], [5.0]]]), tf.constant([[0, 0, 1]]), 2).numpy().reshape(-1)
    array([2., 5.], dtype=float32)
    """
    members = tf.one_hot(labels, ways, dtype=vectors.dtype)
    counts = tf.maximum(tf.reduce_sum(members, axis=1), 1)
    return tf.matmul(members, vectors, transpose_a=True) / counts[..., None]


def _of_each(model: keras.Model, x: tf.Tensor, training: bool | None) -> tf.Tensor:
    """Calls a model on `[tasks, examples, ...]` as on one batch."""
    leading = tf.shape(x)[:2]
    flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
    flat.set_shape([None, *x.shape[2:]])
    outputs = model(flat, training=training)
    return tf.reshape(outputs, [*tf.unstack(leading), outputs.shape[-1]])


def _copy(learner: PrototypicalNetwork) -> PrototypicalNetwork:
    """A copy that later training of the original does not reach."""
    copy = PrototypicalNetwork.from_config(learner.get_config())
    copy.set_weights(learner.get_weights())
    return copy
