"""Second derivatives through Keras's normalisation layers against differences of first ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.functional import StatelessModel

NORMALIZATIONS = {
    "batch": lambda: keras.layers.BatchNormalization(dtype="float64"),
    "group": lambda: keras.layers.GroupNormalization(2, dtype="float64"),
    "layer": lambda: keras.layers.LayerNormalization(dtype="float64"),
}


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_second_derivatives_are_the_differences_of_first_ones(kind, seed):
    layers = [keras.layers.Dense(4, dtype="float64"), NORMALIZATIONS[kind](), keras.layers.Dense(2, dtype="float64")]
    model = StatelessModel(keras.Sequential([keras.Input([3], dtype="float64"), *layers]))
    random = np.random.default_rng(0)
    x, direction = tf.constant(random.normal(size=[5, 3])), tf.constant(random.normal(size=model.coordinates))

    def gradient(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            loss = tf.reduce_sum(model(parameters, model.non_trainable(), x)[0] ** 3)
        return tape.gradient(loss, parameters)

    parameters, step = model.parameters(), 1e-5
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        along = tf.tensordot(gradient(parameters), direction, 1)
    ahead, behind = gradient(parameters + step * direction), gradient(parameters - step * direction)
    np.testing.assert_allclose(tape.gradient(along, parameters), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)
