import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.rules import RatePerParameter


def test_each_coordinate_moves_by_its_own_rate():
    rule = RatePerParameter(3)
    rule.rates.assign([0.5, -1.0, 0.0])
    update, state = rule(tf.constant([2.0, 3.0, 4.0]), ())
    np.testing.assert_array_equal(update, [-1.0, 3.0, 0.0])
    assert state == ()


def test_rates_start_in_their_range_and_follow_the_seed():
    rates = RatePerParameter(2000, (0.01, 0.02), seed=1).rates.numpy()
    assert 0.01 <= rates.min() < 0.0101
    assert 0.0199 < rates.max() <= 0.02
    np.testing.assert_array_equal(rates, RatePerParameter(2000, (0.01, 0.02), seed=1).rates.numpy())
    assert (rates != RatePerParameter(2000, (0.01, 0.02), seed=2).rates.numpy()).any()


def test_the_gradient_of_a_rate_is_minus_the_coordinates_gradient():
    rule = RatePerParameter(2)
    with tf.GradientTape() as tape:
        update, _ = rule(tf.constant([2.0, -3.0]), ())
        total = tf.reduce_sum(update)
    np.testing.assert_array_equal(tape.gradient(total, rule.rates.value), [-2.0, 3.0])


def test_it_survives_saving(saved_and_reloaded):
    rule = RatePerParameter(4, (0.1, 0.3), seed=7)
    np.testing.assert_array_equal(saved_and_reloaded(rule).rates, rule.rates)


def test_bad_input_is_refused(refused):
    with refused("coordinates", "coordinates=0"):
        RatePerParameter(0)
    with refused("rates", "rates=(0.3, 0.1)"):
        RatePerParameter(2, (0.3, 0.1))
    with pytest.raises(ValueError, match=r"`gradient` must have 2 coordinates[\s\S]*Received: 3\.\nMake a"):
        RatePerParameter(2)(tf.ones([3]), ())
