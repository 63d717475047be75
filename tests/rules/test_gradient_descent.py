"""Gradient descent, and the learning rate that the hand-made rules share."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.rules import GradientDescent


def test_update_is_minus_rate_times_gradient(play, gradients):
    np.testing.assert_allclose(play(GradientDescent(0.3), gradients), -np.float32(0.3) * gradients, rtol=1e-6)


def test_it_has_no_state():
    rule = GradientDescent(0.3)
    assert rule.initial_state(5) == ()
    assert rule(tf.ones([5]), ())[1] == ()


def test_the_rate_is_a_weight_that_moves_the_update(play, gradients):
    rule = GradientDescent(0.3)
    assert [weight.shape for weight in rule.trainable_variables] == [()]
    rule.learning_rate.assign(2.0)
    np.testing.assert_allclose(play(rule, gradients), -2.0 * gradients, rtol=1e-6)


def test_integer_rate_is_taken_as_a_number(play, gradients):
    np.testing.assert_array_equal(play(GradientDescent(1), gradients), -gradients)


def test_a_learned_rate_survives_saving(saved_and_reloaded, play, gradients):
    rule = GradientDescent(0.3)
    rule.learning_rate.assign(0.7)
    reloaded = saved_and_reloaded(rule)
    np.testing.assert_array_equal(play(reloaded, gradients), play(rule, gradients))


@pytest.mark.parametrize("rate", [0, -0.1, float("nan")])
def test_rate_must_be_positive(refused, rate):
    with refused("learning_rate", f"learning_rate={rate!r}"):
        GradientDescent(rate)
