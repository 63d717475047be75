"""Relation networks: a network learns how alike two feature maps are."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.learners.metric import MetricLearner
from tf_metalearn.learners.networks import is_network, network_remedy, policy_of
from tf_metalearn.normalization import FusedBatchNormalization


@keras.saving.register_keras_serializable("tf_metalearn")
class RelationLoss(keras.losses.Loss):
    """The squared error of relation scores, 1 for a query's own class and 0 for the others.

    >>> float(RelationLoss()(tf.constant([[0]]), tf.constant([[[0.0, 0.0]]])))
    0.25
    """

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns `[tasks, queries]` losses.

        Args:
            y_true: `[tasks, queries]` labels.
            y_pred: `[tasks, queries, ways]` logits of the scores.
        """
        scores = tf.sigmoid(tf.convert_to_tensor(y_pred))
        own = tf.one_hot(tf.cast(y_true, tf.int32), tf.shape(scores)[-1], dtype=scores.dtype)
        return tf.reduce_mean((scores - own) ** 2, axis=-1)


@keras.saving.register_keras_serializable("tf_metalearn")
class RelationNetwork(MetricLearner):
    """Scores each pair of a query and a class by a learned relation module on their concatenated feature maps.

    A class is the mean of its examples' feature maps (the paper has their sum, which is the same but for a factor that
    depends on the shots). The loss is the squared error of the scores, `RelationLoss`, unless `compile` is given
    another. Predictions are logits, whose sigmoids are the scores in [0, 1].

    Args:
        embedding: A built Keras model from an example to feature maps, such as
            `backbones.conv4(downsampled_blocks=2, flatten=False)`.
        relation: A built Keras model from feature maps with twice as many channels to one logit; that of the paper, two
            convolutional blocks and a hidden layer of 8, when None.
        ways: Of every episode; None reads it off the labels, which XLA cannot.
        name: Of the model.
        **kwargs: As `MetricLearner` has them.

    Raises:
        ValueError: If the embedding returns no feature maps, or the relation module does not fit it.

    >>> import numpy as np
    >>> import tf_metalearn as tfm
    >>> learner = RelationNetwork(tfm.backbones.conv4(filters=8, downsampled_blocks=2, flatten=False))
    >>> x = np.random.default_rng(0).random([2, 5, 28, 28, 1], "float32")
    >>> learner(tfm.Episode(x, np.tile(range(5), [2, 1]), x)).shape
    TensorShape([2, 5, 5])

    Reference: Sung et al. 2018, section 3. https://arxiv.org/abs/1711.06025
    """

    feature_axes = 4

    def __init__(
        self,
        embedding: keras.Model,
        relation: keras.Model | None = None,
        ways: int | None = None,
        name: str = "relation_network",
        **kwargs: Any,
    ):
        super().__init__(embedding, ways, name=name, **kwargs)
        height, width, channels = embedding.output_shape[1:]
        pairs = (None, height, width, 2 * channels)
        relation = relation or _relation_module(pairs[1:], channels, policy_of(embedding))
        if not is_network(relation) or relation.input_shape != pairs or relation.output_shape[1:] != (1,):
            raise ValueError(
                f"`relation` must be a built Keras model from {pairs} to one number. Received: {relation!r}.\n"
                + network_remedy(relation, "Leave it out for the paper's.")
            )
        self.relation = relation

    def default_loss(self) -> keras.losses.Loss:
        return RelationLoss()

    def compare(self, query: tf.Tensor, classes: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        prototypes = classes["prototypes"]
        layers = self.relation.layers if isinstance(self.relation, keras.Sequential) else [self.relation]
        first: Any = layers[0]
        if _is_plain_convolution(first):
            # Of two maps beside each other it is the sum of one of each, and there are far fewer maps than pairs.
            halves = tf.split(tf.cast(first.kernel, first.compute_dtype), 2, axis=2)
            prototypes, query = (
                _convolve(maps, kernel, first) for maps, kernel in zip((prototypes, query), halves, strict=True)
            )
            pairs = prototypes[:, None] + query[:, :, None]
            pairs = pairs if first.bias is None else pairs + tf.cast(first.bias, pairs.dtype)
            layers = layers[1:]
        else:
            shape = [*tf.unstack(tf.shape(query)[:2]), tf.shape(prototypes)[1], *query.shape[2:]]
            pairs = tf.concat(
                [tf.broadcast_to(prototypes[:, None], shape), tf.broadcast_to(query[:, :, None], shape)], axis=-1
            )
        tasks, queries, ways = tf.unstack(tf.shape(pairs)[:3])
        outputs = tf.reshape(pairs, [-1, *pairs.shape[3:]])
        for layer in layers:
            outputs = layer(outputs, training=training)
        return tf.reshape(outputs, [tasks, queries, ways])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "relation": keras.saving.serialize_keras_object(self.relation)}


def _is_plain_convolution(layer: Any) -> bool:
    return type(layer) is keras.layers.Conv2D and layer.groups == 1 and layer.activation is keras.activations.linear


def _convolve(maps: tf.Tensor, kernel: tf.Tensor, layer: keras.layers.Conv2D) -> tf.Tensor:
    """Applies a layer with another kernel to `[tasks, examples, height, width, channels]`."""
    outputs = tf.nn.convolution(
        tf.cast(tf.reshape(maps, [-1, *maps.shape[2:]]), layer.compute_dtype),
        kernel,
        layer.strides,
        layer.padding.upper(),
        dilations=layer.dilation_rate,
    )
    return tf.reshape(outputs, [*tf.unstack(tf.shape(maps)[:2]), *outputs.shape[1:]])


def _relation_module(shape: tuple[int, int, int], filters: int, dtype: keras.DTypePolicy) -> keras.Sequential:
    layers: list[keras.layers.Layer] = []
    size = min(shape[:2])
    for _ in range(2):
        layers.append(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=dtype))
        layers += [FusedBatchNormalization(dtype=dtype), keras.layers.ReLU(dtype=dtype)]
        if size > 1:
            layers.append(keras.layers.MaxPooling2D(2, dtype=dtype))
            size //= 2
    layers += [keras.layers.Flatten(dtype=dtype), keras.layers.Dense(8, "relu", dtype=dtype)]
    layers.append(keras.layers.Dense(1, dtype=dtype))
    return keras.Sequential([keras.Input(shape, dtype=dtype.compute_dtype), *layers], name="relation")
