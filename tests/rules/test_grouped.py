"""Different rules for different variables."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.functional import segments_of
from tf_metalearn.inner_loop import unroll
from tf_metalearn.rules import Adam, CoordinatewiseLSTM, GradientDescent, GroupedRule, Momentum

#: Groups that do not stand together: coordinates 0, 1 and 3 are convolutional, 2 is dense.
SEGMENTS = segments_of(["conv_1/kernel", "dense/bias", "conv_2/kernel"], [(2, 1), (1,), (1,)])
CONV, DENSE = [0, 1, 3], [2]


def test_each_variable_goes_to_the_rule_of_its_name(play, gradients):
    """Equal to the separate rules, each played alone on its own coordinates; one needs the step, one has no state."""
    lstm = CoordinatewiseLSTM(seed=0)
    separate = np.empty_like(gradients)
    separate[:, CONV] = play(lstm, gradients[:, CONV])
    separate[:, DENSE] = play(Adam(0.1), gradients[:, DENSE])
    grouped = GroupedRule({"conv": lstm, "dense": Adam(0.1)})
    np.testing.assert_allclose(play(grouped, gradients, SEGMENTS), separate, rtol=1e-6)


def test_the_first_pattern_that_fits_wins(play, gradients):
    grouped = GroupedRule({"conv_2": GradientDescent(1.0), "kernel$": GradientDescent(2.0), ".*": GradientDescent(3.0)})
    np.testing.assert_allclose(play(grouped, gradients, SEGMENTS), -gradients * [2, 2, 3, 1], rtol=1e-6)


def test_a_rule_without_variables_is_idle(play, gradients):
    grouped = GroupedRule({"none": CoordinatewiseLSTM(global_units=2), "other": Adam(), ".*": GradientDescent(1.0)})
    np.testing.assert_allclose(play(grouped, gradients, SEGMENTS), -gradients)


def test_it_needs_what_any_of_its_rules_needs():
    assert GroupedRule({".*": GradientDescent()}).needs == {"segments"}
    assert GroupedRule({"a": GradientDescent(), ".*": Adam()}).needs == {"segments", "step"}


def test_unrolled_it_equals_separate_trainings():
    """A loss that is a sum over variables: two trainings that share nothing."""

    def loss(parameters, carry, step):
        return tf.reduce_sum(tf.square(parameters - tf.constant([1.0, 2.0, 3.0, 4.0]))), carry

    def alone(rule, target):
        return unroll(
            rule,
            lambda parameters, carry, step: (tf.reduce_sum(tf.square(parameters - tf.constant(target))), carry),
            tf.zeros([len(target)]),
            10,
        )

    adam, momentum = Adam(0.1), Momentum(0.1)
    together = unroll(GroupedRule({"conv": adam, ".*": momentum}), loss, tf.zeros([4]), 10, segments=SEGMENTS)
    conv, dense = alone(adam, [1.0, 2.0, 4.0]), alone(momentum, [3.0])
    np.testing.assert_allclose(tf.gather(together.parameters, CONV), conv.parameters, rtol=1e-5)
    np.testing.assert_allclose(tf.gather(together.parameters, DENSE), dense.parameters, rtol=1e-5)
    np.testing.assert_allclose(together.losses, conv.losses + dense.losses, rtol=1e-5)


def test_weights_of_all_rules_are_its_own_and_get_gradients():
    grouped = GroupedRule({"conv": GradientDescent(0.1), ".*": GradientDescent(0.2)})
    assert [float(weight) for weight in grouped.trainable_variables] == [np.float32(0.1), np.float32(0.2)]
    weights = [weight.value for weight in grouped.trainable_variables]
    with tf.GradientTape() as tape:
        update, _ = grouped(tf.constant([1.0, 2.0, 3.0, 4.0]), grouped.initial_state(4, SEGMENTS), segments=SEGMENTS)
        total = tf.reduce_sum(update)
    np.testing.assert_allclose(tape.gradient(total, weights), [-(1.0 + 2.0 + 4.0), -3.0])


def test_config_round_trip():
    grouped = GroupedRule({"conv": CoordinatewiseLSTM("code", units=(4,)), ".*": Adam(0.1)}, name="grouped")
    again = GroupedRule.from_config(grouped.get_config())
    assert again.get_config() == grouped.get_config()
    assert again.patterns == ["conv", ".*"]
    assert [type(rule) for rule in again.rules] == [CoordinatewiseLSTM, Adam]


def test_all_weights_survive_saving(saved_and_reloaded, play, gradients):
    grouped = GroupedRule(
        {"conv_1": CoordinatewiseLSTM(seed=1), "conv_2": CoordinatewiseLSTM(seed=2), ".*": GradientDescent()}
    )
    grouped.rules[2].learning_rate.assign(0.7)
    reloaded = saved_and_reloaded(grouped)
    np.testing.assert_array_equal(play(reloaded, gradients, SEGMENTS), play(grouped, gradients, SEGMENTS))


def test_no_rules_are_refused(refused):
    with refused("rules", "rules={}"):
        GroupedRule({})


def test_a_variable_without_a_rule_is_refused(refused):
    with refused("rules", "'dense/bias'"):
        GroupedRule({"conv": GradientDescent()}).initial_state(4, SEGMENTS)


def test_missing_segments_are_refused(refused):
    with refused("segments", "segments=None"):
        unroll(GroupedRule({".*": GradientDescent()}), lambda p, c, s: (tf.reduce_sum(p), c), tf.zeros([4]), 1)


@pytest.mark.parametrize(
    ("rules", "received"),
    [([("a", GradientDescent())], "list"), ({"a": "adam"}, "'adam'"), ({"(": GradientDescent()}, "'('")],
    ids=["not a mapping", "not a rule", "not a pattern"],
)
def test_what_is_not_a_mapping_from_patterns_to_rules_is_refused(refused, rules, received):
    with refused("rules", received):
        GroupedRule(rules)
