"""Matching networks: queries attend to the support set, and take over its labels."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.learners.checks import check_numbers
from tf_metalearn.learners.metric import MetricLearner, members
from tf_metalearn.learners.networks import policy_of


@keras.saving.register_keras_serializable("tf_metalearn")
class MatchingNetwork(MetricLearner):
    """Predicts by a softmax over cosine similarities to all support examples, which votes for their labels.

    With full context embeddings, support examples are embedded in view of each other by a bidirectional LSTM, and a
    query in view of the support set by an LSTM with attention. The order of the support set then matters a little.

    Args:
        embedding: A built Keras model from an example to a vector.
        full_context: Whether embeddings see the whole support set.
        processing_steps: Of a query's LSTM.
        ways: Of every episode; None reads it off the labels, which XLA cannot.
        name: Of the model.
        **kwargs: As `MetricLearner` has them.

    >>> import numpy as np
    >>> import tf_metalearn as tfm
    >>> learner = MatchingNetwork(tfm.backbones.conv4(filters=8))
    >>> x = np.random.default_rng(0).random([2, 5, 28, 28, 1], "float32")
    >>> learner(tfm.Episode(x, np.tile(range(5), [2, 1]), x)).shape
    TensorShape([2, 5, 5])

    Reference: Vinyals et al. 2016, section 2.1 and appendix A. https://arxiv.org/abs/1606.04080. The cosines are
    multiplied by a learned scale, which begins at 10: between -1 and 1 they would leave the softmax nearly flat.
    """

    def __init__(
        self,
        embedding: keras.Model,
        full_context: bool = False,
        processing_steps: int = 5,
        ways: int | None = None,
        name: str = "matching_network",
        **kwargs: Any,
    ):
        super().__init__(embedding, ways, name=name, **kwargs)
        check_numbers(optional=False, processing_steps=(processing_steps, 1))
        self.full_context, self.processing_steps = full_context, processing_steps
        self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(10.0), name="scale")
        if full_context:
            units, dtype = embedding.output_shape[-1], policy_of(embedding)
            # Without dropout the seed draws nothing; one drawn at random would not be the same after loading.
            reader = keras.layers.LSTM(units, return_sequences=True, seed=0, dtype=dtype)
            self.reader = keras.layers.Bidirectional(reader, merge_mode="sum", dtype=dtype, name="reader")
            self.reader.build([None, None, units])
            self.attender = keras.layers.LSTMCell(units, seed=0, dtype=dtype, name="attender")
            self.attender.build([None, 2 * units])

    def represent(
        self, support: tf.Tensor, labels: tf.Tensor, ways: Any, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        if self.full_context:
            support = support + self.reader(support, training=training)
        return {"support": support, "members": members(labels, ways)}

    def compare(self, query: tf.Tensor, classes: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        support = classes["support"]
        if self.full_context:
            query = self._in_context(query, support)
        cosines = tf.matmul(tf.math.l2_normalize(query, -1), tf.math.l2_normalize(support, -1), transpose_b=True)
        attention = tf.cast(self.scale, query.dtype) * cosines
        # The softmax over examples adds up over those of a class. What it divides by is left to the softmax over
        # classes, so that a logit says how alike a query is to that class alone, which a threshold needs.
        return tf.reduce_logsumexp(tf.where(classes["members"][:, None], attention[:, :, None], -1e9), axis=-1)

    def _in_context(self, query: tf.Tensor, support: tf.Tensor) -> tf.Tensor:
        """A query's embedding after some looks at the support set (appendix A.1, equations 2 to 5)."""
        tasks, queries = tf.unstack(tf.shape(query)[:2])
        units = query.shape[-1]
        flat = tf.reshape(query, [-1, units])
        cell = read = tf.zeros_like(flat)
        hidden = flat
        for _ in range(self.processing_steps):
            output, [_, cell] = self.attender(tf.concat([flat, read], axis=-1), [hidden, cell])
            hidden = output + flat
            looks = tf.matmul(tf.reshape(hidden, [tasks, queries, units]), support, transpose_b=True)
            read = tf.reshape(tf.matmul(tf.nn.softmax(looks), support), [-1, units])
        return tf.reshape(hidden, [tasks, queries, units])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "full_context": self.full_context,
            "processing_steps": self.processing_steps,
        }
