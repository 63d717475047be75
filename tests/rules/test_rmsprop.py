"""RMSprop against its recurrence, and its derivative where a gradient is zero."""

import numpy as np
import pytest

from tf_metalearn.rules import RMSprop

RATE, RHO, EPSILON = 0.1, 0.7, 1e-3


def test_updates_are_those_of_the_recurrence(play, gradients):
    mean_square, expected = np.zeros(4), []
    for gradient in gradients.astype("float64"):
        mean_square = RHO * mean_square + (1 - RHO) * gradient**2
        expected.append(-RATE * gradient / np.sqrt(mean_square + EPSILON**2))
    np.testing.assert_allclose(play(RMSprop(RATE, RHO, EPSILON), gradients), expected, rtol=1e-4, atol=1e-9)


def test_epsilon_weighs_what_it_weighs_outside_the_root(play):
    """At the two ends: a gradient far above epsilon, and one far below it."""
    large, small = play(RMSprop(RATE, 0.0, 1e-3), np.array([[100.0, 1e-6]], "float32"))[0]
    np.testing.assert_allclose([large, small], [-RATE * 100 / (100 + 1e-3), -RATE * 1e-6 / 1e-3], rtol=1e-4)


@pytest.mark.parametrize("second_derivatives", [False, True])
def test_meta_gradients_are_finite_where_a_gradient_is_zero(meta_gradient_where_a_gradient_is_zero, second_derivatives):
    rate, start = meta_gradient_where_a_gradient_is_zero(RMSprop(RATE), second_derivatives)
    assert np.isfinite(rate)
    assert rate != 0
    assert np.all(np.isfinite(start))
    assert start[1] == 4.0  # the second coordinate stays 2, d theta^2 = 2 theta


def test_config_round_trip():
    config = RMSprop(RATE, RHO, EPSILON, name="r").get_config()
    again = RMSprop.from_config(config)
    assert again.get_config() == config
    assert (again.rho, again.epsilon) == (RHO, EPSILON)


@pytest.mark.parametrize(
    ("argument", "value"), [("rho", 1.0), ("rho", -0.1), ("epsilon", 0.0), ("epsilon", -1e-8), ("learning_rate", 0)]
)
def test_arguments_must_be_in_their_ranges(refused, argument, value):
    with refused(argument, f"{argument}={value!r}"):
        RMSprop(**{argument: value})
