"""Momentum, classical and Nesterov's, against the recurrences of Sutskever et al. 2013."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.inner_loop import unroll
from tf_metalearn.rules import GradientDescent, Momentum

RATE, MOMENTUM = 0.1, 0.8


def test_classical_updates_are_the_velocity(play, gradients):
    velocity, expected = np.zeros(4), []
    for gradient in gradients:
        velocity = MOMENTUM * velocity - RATE * gradient
        expected.append(velocity)
    np.testing.assert_allclose(play(Momentum(RATE, MOMENTUM), gradients), expected, rtol=1e-5, atol=1e-9)


def test_nesterov_is_momentum_seen_from_the_look_ahead_point():
    """Sutskever's eq. 3 and 4 take the gradient at theta + mu v. Played in numpy on ||theta - target||^2 / 2 with theta
    and v apart, the look-ahead points must be the parameters of the rule."""
    target = np.array([1.0, -2.0, 3.0])
    theta, velocity, points = np.zeros(3), np.zeros(3), []
    for _ in range(6):
        ahead = theta + MOMENTUM * velocity
        points.append(ahead)
        velocity = MOMENTUM * velocity - RATE * (ahead - target)
        theta = theta + velocity
    points.append(theta + MOMENTUM * velocity)

    def loss(parameters, carry, step):
        return tf.reduce_sum(tf.square(parameters - tf.constant(target, tf.float32))) / 2, carry

    rule = Momentum(RATE, MOMENTUM, nesterov=True)
    for steps, point in enumerate(points):
        np.testing.assert_allclose(unroll(rule, loss, tf.zeros([3]), steps).parameters, point, rtol=1e-5, atol=1e-6)


def test_without_momentum_both_are_gradient_descent(play, gradients):
    expected = play(GradientDescent(RATE), gradients)
    for nesterov in (False, True):
        np.testing.assert_allclose(play(Momentum(RATE, 0.0, nesterov), gradients), expected, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_config_round_trip(nesterov):
    config = Momentum(RATE, MOMENTUM, nesterov=nesterov, name="m").get_config()
    again = Momentum.from_config(config)
    assert again.get_config() == config
    assert (again.momentum, again.nesterov, float(again.learning_rate)) == (MOMENTUM, nesterov, np.float32(RATE))


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5])
def test_momentum_must_be_in_its_range(refused, momentum):
    with refused("momentum", f"momentum={momentum!r}"):
        Momentum(RATE, momentum)


def test_rate_must_be_positive(refused):
    with refused("learning_rate", "learning_rate=-1"):
        Momentum(-1)
