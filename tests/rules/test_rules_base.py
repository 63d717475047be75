"""The contract of rules: what a subclass inherits, and how coordinates are cut and joined."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.rules import CoordinatewiseLSTM, GradientDescent, UpdateRule
from tf_metalearn.rules.base import join_coordinates, split_coordinates


class SignDescent(UpdateRule):
    """The smallest rule: nothing but a call."""

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        return -tf.sign(gradient), state


def test_a_rule_is_complete_with_nothing_but_a_call(play, gradients):
    rule = SignDescent()
    assert (rule.initial_state(3), rule.needs, rule.coordinatewise, rule.chunks) == ((), frozenset(), True, 1)
    np.testing.assert_array_equal(play(rule, gradients), -np.sign(gradients))


def test_a_rule_without_a_call_says_so():
    with pytest.raises(NotImplementedError):
        UpdateRule()(tf.ones([2]), ())


def test_a_rule_can_be_handed_to_a_traced_function_unbuilt():
    """Its weights are there from the start: nothing is created inside the trace."""
    rule = CoordinatewiseLSTM(seed=0)
    assert rule.built
    traced = tf.function(lambda gradient: rule(gradient, rule.initial_state(3))[0])
    gradient = tf.constant([1.0, -2.0, 3.0])
    np.testing.assert_allclose(traced(gradient), rule(gradient, rule.initial_state(3))[0], rtol=1e-5)


def test_a_rule_is_no_layer_of_a_functional_model():
    with pytest.raises(TypeError, match=r"(?s)GradientDescent is an update rule.*unroll"):
        GradientDescent()(keras.Input([3]), ())


def test_split_cuts_every_leaf_along_its_first_axis():
    values = {"a": tf.reshape(tf.range(8), [4, 2]), "b": (tf.range(4),)}
    first, second = split_coordinates(values, [3, 1])
    np.testing.assert_array_equal(first["a"], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(second["a"], [[6, 7]])
    np.testing.assert_array_equal(first["b"][0], [0, 1, 2])
    np.testing.assert_array_equal(second["b"][0], [3])


def test_join_undoes_split():
    values = [(tf.random.stateless_normal([7, 3], [0, 0]), tf.range(7))]
    joined = join_coordinates(split_coordinates(values, [3, 0, 4]))
    tf.nest.map_structure(np.testing.assert_array_equal, joined, values)


def test_an_empty_state_is_cut_into_empty_states():
    assert split_coordinates((), [2, 2]) == [(), ()]
    assert join_coordinates([(), ()]) == ()
