"""Prototypical networks: a class is the mean of its examples' embeddings."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.learners.metric import MetricLearner, check_network

DISTANCES = ("euclidean", "cosine")


@keras.saving.register_keras_serializable("tf_metalearn")
class PrototypicalNetwork(MetricLearner):
    """Predicts by the distance of a query's embedding to the mean embedding of each class.

    Any number of ways and shots, in training and after; training with more ways than at test helps. Zero-shot: with a
    `metadata_encoder`, the support set is class metadata, and a prototype is the embedding of that.

    Args:
        embedding: A Keras model from an example to a vector.
        distance: "euclidean" (squared) or "cosine" (its similarity, times a learned scale).
        metadata_encoder: A Keras model from a class's metadata to a vector as long as the embedding's, for zero-shot
            episodes; its vectors are brought to unit length, and queries stay as they are (section 2.7 of the paper).
            None otherwise.
        ways: Of every episode; None reads it off the labels, which XLA cannot.
        name: Of the model.
        **kwargs: As `MetricLearner` has them.

    Raises:
        ValueError: If the distance is unknown, or the embedding is no model with vectors as outputs.

    >>> import numpy as np
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
        super().__init__(embedding, ways, name=name, **kwargs)
        if distance not in DISTANCES:
            raise ValueError(
                f"`distance` must be one of {DISTANCES}. Received: distance={distance!r}.\nTry 'euclidean'."
            )
        if metadata_encoder is not None:
            check_network("metadata_encoder", metadata_encoder, axes=2)
            if metadata_encoder.output_shape != embedding.output_shape:
                raise ValueError(
                    "`metadata_encoder` must return vectors as long as the embedding's. Received: "
                    f"{metadata_encoder.output_shape[-1]} instead of {embedding.output_shape[-1]} numbers.\n"
                    "Change the units of its last layer."
                )
        self.distance, self.metadata_encoder = distance, metadata_encoder
        if distance == "cosine":
            self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(10.0), name="scale")

    @property
    def support_network(self) -> keras.Model:
        """What the support set goes into: the metadata encoder where there is one."""
        return self.metadata_encoder or self.embedding

    def represent(
        self, support: tf.Tensor, labels: tf.Tensor, ways: Any, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        if self.metadata_encoder is not None:
            support = tf.math.l2_normalize(support, -1)
        return super().represent(support, labels, ways, training)

    def compare(self, query: tf.Tensor, classes: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        return self.similarity(query, classes["prototypes"])

    def similarity(self, query: tf.Tensor, prototypes: tf.Tensor) -> tf.Tensor:
        """How near queries are to prototypes, as logits.

        Args:
            query: `[..., queries, features]`.
            prototypes: `[..., classes, features]`.

        Returns:
            `[..., queries, classes]`: minus the squared distance, or the scaled cosine.

        >>> learner = PrototypicalNetwork(keras.Sequential([keras.Input([2]), keras.layers.Identity()]))
        >>> learner.similarity(tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 0.0], [4.0, 0.0]])).numpy()
        array([[-1., -9.]], dtype=float32)
        """
        if self.distance == "cosine":
            query, prototypes = tf.math.l2_normalize(query, -1), tf.math.l2_normalize(prototypes, -1)
            return tf.cast(self.scale, query.dtype) * tf.matmul(query, prototypes, transpose_b=True)
        # Distances stay, and lose fewer digits below, when both are seen from the middle of the classes.
        middle = tf.reduce_mean(prototypes, axis=-2, keepdims=True)
        query, prototypes = query - middle, prototypes - middle
        products = tf.matmul(query, prototypes, transpose_b=True)
        squares = tf.reduce_sum(prototypes**2, -1)[..., None, :] + tf.reduce_sum(query**2, -1)[..., :, None]
        return 2 * products - squares

    def get_config(self) -> dict[str, Any]:
        encoder = self.metadata_encoder
        return {
            **super().get_config(),
            "distance": self.distance,
            "metadata_encoder": None if encoder is None else keras.saving.serialize_keras_object(encoder),
        }
