"""What the tests of learners share."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm


@pytest.fixture
def points():
    """`points(dtype)`: two tasks of three classes in the plane, six support and four query points each."""
    random = np.random.default_rng(1)
    support_x, query_x = random.normal(size=[2, 6, 2]), random.normal(size=[2, 4, 2])
    support_y, query_y = np.array([[0, 1, 2, 2, 1, 0], [2, 1, 0, 0, 1, 2]]), np.array([[0, 1, 2, 0], [1, 1, 0, 2]])

    def points(dtype="float32"):
        episode = tfm.Episode(tf.constant(support_x, dtype), tf.constant(support_y), tf.constant(query_x, dtype))
        return episode, tf.constant(query_y)

    return points


@pytest.fixture
def network():
    """`network(*layers, dtype)`: a seeded classifier of points in the plane, three outputs, the layers in between."""

    def network(*layers, dtype="float32", outputs=3):
        keras.utils.set_random_seed(0)
        layers = layers or (keras.layers.Dense(4, "tanh", dtype=dtype),)
        return keras.Sequential([keras.Input([2], dtype=dtype), *layers, keras.layers.Dense(outputs, dtype=dtype)])

    return network
