"""Siamese networks: a learned distance says whether two examples are of one class."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.learners.metric import MetricLearner, members


@keras.saving.register_keras_serializable("tf_metalearn")
class PairLoss(keras.losses.Loss):
    """Cross-entropy of "same class or not" over pairs, half the weight on pairs of one class as when half are drawn so.

    >>> round(float(PairLoss()(tf.constant([[0]]), tf.constant([[[0.0, 0.0, 0.0]]]))), 4)
    0.6931
    """

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns `[tasks, queries]` losses.

        Args:
            y_true: `[tasks, queries]` labels.
            y_pred: `[tasks, queries, ways]` logits of each query's pair with each class.
        """
        logits = tf.convert_to_tensor(y_pred)
        same = tf.one_hot(tf.cast(y_true, tf.int32), tf.shape(logits)[-1], dtype=logits.dtype)
        pairs = tf.nn.sigmoid_cross_entropy_with_logits(same, logits)
        others = tf.maximum(tf.reduce_sum(1 - same, axis=-1), 1)
        return (tf.reduce_sum(same * pairs, axis=-1) + tf.reduce_sum((1 - same) * pairs, axis=-1) / others) / 2


@keras.saving.register_keras_serializable("tf_metalearn")
class SiameseNetwork(MetricLearner):
    """Says of each pair whether it is of one class, by a weighted L1 distance; the most similar example decides.

    Pairs are those of an episode: each query with the most similar support example of each class. The loss is the
    cross-entropy of the pairs, `PairLoss`, unless `compile` is given another.

    Args:
        embedding: A built Keras model from an example to a vector; the paper's ends with a sigmoid.
        ways: Of every episode; None reads it off the labels, which XLA cannot.
        name: Of the model.
        **kwargs: As `MetricLearner` has them.

    >>> import numpy as np
    >>> import tf_metalearn as tfm
    >>> learner = SiameseNetwork(tfm.backbones.conv4(filters=8))
    >>> x = np.random.default_rng(0).random([2, 5, 28, 28, 1], "float32")
    >>> learner(tfm.Episode(x, np.tile(range(5), [2, 1]), x)).shape
    TensorShape([2, 5, 5])

    Reference: Koch et al. 2015, section 3. https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf
    """

    def __init__(self, embedding: keras.Model, ways: int | None = None, name: str = "siamese_network", **kwargs: Any):
        super().__init__(embedding, ways, name=name, **kwargs)
        features = embedding.output_shape[-1]
        # Nearer is likelier, from the start.
        self.weighting = self.add_weight(
            shape=(features,), initializer=keras.initializers.Constant(-1.0 / features**0.5), name="weighting"
        )
        self.offset = self.add_weight(shape=(), initializer="zeros", name="offset")

    def default_loss(self) -> keras.losses.Loss:
        return PairLoss()

    def represent(
        self, support: tf.Tensor, labels: tf.Tensor, ways: Any, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        return {"support": support, "members": members(labels, ways)}

    def compare(self, query: tf.Tensor, classes: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        # [tasks, queries, support]
        distances = tf.abs(query[:, :, None] - classes["support"][:, None])
        logits = tf.tensordot(distances, tf.cast(self.weighting, query.dtype), 1) + tf.cast(self.offset, query.dtype)
        return tf.reduce_max(tf.where(classes["members"][:, None], logits[:, :, None], logits.dtype.min), axis=-1)
