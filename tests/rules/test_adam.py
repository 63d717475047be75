"""Adam against algorithm 1 of Kingma and Ba 2015, and its derivative where a gradient is zero."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.rules import Adam

RATE, BETA_1, BETA_2, EPSILON = 0.1, 0.6, 0.9, 1e-4


def by_the_paper(gradients):
    """Algorithm 1, but for the epsilon, which stands squared inside the root."""
    first, second, updates = 0.0, 0.0, []
    for step, gradient in enumerate(gradients.astype("float64"), start=1):
        first = BETA_1 * first + (1 - BETA_1) * gradient
        second = BETA_2 * second + (1 - BETA_2) * gradient**2
        mean, mean_square = first / (1 - BETA_1**step), second / (1 - BETA_2**step)
        updates.append(-RATE * mean / np.sqrt(mean_square + EPSILON**2))
    return np.stack(updates)


def test_updates_are_those_of_the_paper(play, gradients):
    updates = play(Adam(RATE, BETA_1, BETA_2, EPSILON), gradients)
    np.testing.assert_allclose(updates, by_the_paper(gradients), rtol=1e-4, atol=1e-8)


def test_first_update_has_the_size_of_the_rate_whatever_the_gradient(play):
    updates = play(Adam(0.01), np.array([[1e-3, -1.0, 1e4]], "float32"))
    np.testing.assert_allclose(updates, [[-0.01, 0.01, -0.01]], rtol=1e-3)


def test_without_decay_it_is_the_sign(play, gradients):
    """beta_1 = beta_2 = 0, what Reptile's inner loop asks of beta_1, keeps nothing: g / |g|."""
    updates = play(Adam(RATE, 0.0, 0.0), gradients)
    np.testing.assert_allclose(updates, -RATE * np.sign(gradients), rtol=1e-4, atol=1e-8)


def test_step_counts_from_zero_and_corrects_the_bias():
    """The same gradient and state, late in training: no correction is left."""
    rule = Adam(RATE, BETA_1, BETA_2, EPSILON)
    update, _ = rule(tf.constant([2.0]), rule.initial_state(1), step=tf.constant(500))
    expected = -RATE * (1 - BETA_1) * 2.0 / np.sqrt((1 - BETA_2) * 4.0 + EPSILON**2)
    np.testing.assert_allclose(update, [expected], rtol=1e-5)


@pytest.mark.parametrize("second_derivatives", [False, True])
def test_meta_gradients_are_finite_where_a_gradient_is_zero(meta_gradient_where_a_gradient_is_zero, second_derivatives):
    rate, start = meta_gradient_where_a_gradient_is_zero(Adam(RATE), second_derivatives)
    assert np.isfinite(rate)
    assert rate != 0
    assert np.all(np.isfinite(start))
    assert start[1] == 4.0  # the second coordinate stays 2, d theta^2 = 2 theta


def test_config_round_trip():
    config = Adam(RATE, BETA_1, BETA_2, EPSILON, name="a").get_config()
    again = Adam.from_config(config)
    assert again.get_config() == config
    assert (again.beta_1, again.beta_2, again.epsilon) == (BETA_1, BETA_2, EPSILON)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("beta_1", 1.0), ("beta_1", -0.1), ("beta_2", 1.0), ("epsilon", 0.0), ("learning_rate", -0.001)],
)
def test_arguments_must_be_in_their_ranges(refused, argument, value):
    with refused(argument, f"{argument}={value!r}"):
        Adam(**{argument: value})
