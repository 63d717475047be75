"""The fused operation against Keras's own layer."""

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.moments import exact_moments
from tf_metalearn.normalization import FusedBatchNormalization

IMAGES = np.random.default_rng(0).normal(1.0, 2.0, [3, 5, 4, 6]).astype("float32")


def after_two_steps(layer, images):
    """Outputs, gradients of images and weights, and all weights after two calls in training."""
    layer.build(images.shape)
    layer.gamma.assign(np.linspace(-1, 2, 6))
    layer.beta.assign(np.linspace(0, 1, 6))
    images = tf.constant(images)
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(outputs**3)
    gradients = tape.gradient(loss, [images, *(weight.value for weight in layer.trainable_weights)])
    return [outputs, *gradients, *layer.get_weights(), layer(images, training=False)]


def test_values_gradients_and_averages_are_those_of_keras():
    found, expected = (
        after_two_steps(kind(epsilon=1e-3, momentum=0.9), IMAGES)
        for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)


def test_xla_computes_the_same():
    ours, theirs = (kind(momentum=0.9) for kind in (FusedBatchNormalization, keras.layers.BatchNormalization))
    ours.build(IMAGES.shape)
    outputs = tf.function(lambda x: ours(x, training=True), jit_compile=True)(IMAGES)
    np.testing.assert_allclose(outputs, theirs(IMAGES, training=True), rtol=1e-4, atol=1e-5)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_what_the_operation_cannot_do_is_kerass_own_work():
    """Vectors, double precision, a frozen layer, and exact second derivatives."""
    for x, settings in ((IMAGES[:, 0, 0], {}), (IMAGES.astype("float64"), {"dtype": "float64"}), (IMAGES, {})):
        ours, theirs = FusedBatchNormalization(**settings), keras.layers.BatchNormalization(**settings)
        ours.trainable = theirs.trainable = bool(settings) or x.ndim == 2
        np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))
    x, layer = tf.constant(IMAGES), FusedBatchNormalization()
    layer.build(x.shape)
    run = tf.function(lambda x: layer(x, training=True))
    operations = {operation.type for operation in run.get_concrete_function(x).graph.get_operations()}
    assert "FusedBatchNormV3" in operations
    with exact_moments():
        exact = tf.function(lambda x: layer(x, training=True)).get_concrete_function(x)
    assert "FusedBatchNormV3" not in {operation.type for operation in exact.graph.get_operations()}
