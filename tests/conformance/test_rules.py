"""What every update rule must satisfy. Rules are found by themselves in `tf_metalearn.rules.__all__`.

A rule whose arguments all have defaults needs nothing here. One that has others, or kinds that are worth a run of their
own, adds a line to `EXAMPLES`.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn.rules as rules
from tf_metalearn.functional import segments_of
from tf_metalearn.inner_loop import unroll

SEGMENTS = segments_of(["conv/kernel", "dense/kernel", "dense/bias"], [(2, 2), (3, 1), (1,)])
COORDINATES = 8

#: Other ways to make a rule than by its defaults: the first is the small case of `make test`, the rest are the matrix.
EXAMPLES = {
    "CoordinatewiseLSTM": [
        lambda cls, **arguments: cls(seed=0, **arguments),
        lambda cls, **arguments: cls(preset="code", seed=0, **arguments),
        lambda cls, **arguments: cls(units=(6, 5, 4), global_units=3, preprocess=False, seed=0, **arguments),
    ],
    "GradientDescent": [lambda cls, **arguments: cls(0.02, **arguments)],
    "MetaLSTMRule": [
        lambda cls, **arguments: cls(seed=0, **arguments),
        lambda cls, **arguments: cls(units=3, chunks=1, weight_range=0.5, seed=0, **arguments),
    ],
    "RatePerLayerAndStep": [lambda cls, **arguments: cls(len(SEGMENTS), 4, **arguments)],
    "GroupedRule": [
        lambda cls, **arguments: cls(
            {"conv": rules.CoordinatewiseLSTM(units=(5,), seed=0, **arguments), ".*": rules.Adam(0.02, **arguments)},
            **arguments,
        ),
        lambda cls, **arguments: cls({".*": rules.GradientDescent(0.02, **arguments)}, **arguments),
    ],
    "RatePerParameter": [lambda cls, **arguments: cls(COORDINATES, **arguments)],
    "Momentum": [
        lambda cls, **arguments: cls(0.02, **arguments),
        lambda cls, **arguments: cls(0.02, nesterov=True, **arguments),
    ],
}


def public_rules():
    for name in rules.__all__:
        found = getattr(rules, name)
        if inspect.isclass(found) and issubclass(found, rules.UpdateRule) and found is not rules.UpdateRule:
            yield found


def cases():
    for cls in public_rules():
        for index, make in enumerate(EXAMPLES.get(cls.__name__, [lambda cls, **arguments: cls(**arguments)])):
            marks = [pytest.mark.slow] if index else []
            yield pytest.param((cls, make), id=f"{cls.__name__}-{index}", marks=marks)


@pytest.fixture(params=cases())
def make(request):
    """Makes the rule, with a `name` or `dtype` of the test's."""
    cls, make = request.param
    return lambda **arguments: make(cls, **arguments)


@pytest.fixture
def rule(make):
    return make()


def test_public_rules_are_found():
    assert {"Adam", "CoordinatewiseLSTM", "GradientDescent"} <= {cls.__name__ for cls in public_rules()}


# Playing a rule ------------------------------------------------------------------------------------------------------


def some(seed, dtype="float32", coordinates=COORDINATES):
    """A vector with entries of very different sizes and a zero."""
    values = np.random.default_rng(seed).normal(size=coordinates) * 10.0 ** np.arange(-4, coordinates - 4)
    values[coordinates // 2] = 0.0
    return tf.constant(values, dtype)


def call(rule, gradient, state, parameter, step, segments=SEGMENTS):
    offers = {"parameter": parameter, "loss": tf.constant(2.0, gradient.dtype), "step": step, "segments": segments}
    return rule(gradient, state, **{name: offers[name] for name in rule.needs})


def play(rule, steps=3, dtype="float32"):
    """The updates `[steps, coordinates]` and the last state."""
    parameter, state, updates = some(100, dtype), rule.initial_state(COORDINATES, SEGMENTS), []
    for step in range(steps):
        update, state = call(rule, some(step, dtype), state, parameter, tf.constant(step))
        parameter = parameter + update
        updates.append(update)
    return tf.stack(updates), state


def assert_equal(left, right, **tolerance):
    tf.nest.assert_same_structure(left, right)
    for one, other in zip(tf.nest.flatten(left), tf.nest.flatten(right), strict=True):
        np.testing.assert_allclose(one, other, **{"rtol": 0, "atol": 0, **tolerance})


def learned(rule):
    """Whether a rule must be trained before it does any good: it has weights besides rates."""
    return any(weight.shape.rank for weight in (variable.value for variable in rule.trainable_variables))


# What a rule promises ------------------------------------------------------------------------------------------------


def test_what_it_needs_is_on_offer(rule):
    assert rule.needs <= {"parameter", "loss", "step", "segments"}


def test_coordinates_are_the_leading_axis_of_every_leaf_of_the_state(rule):
    """For a rule of groups, each leaf's leading axis runs over its group: no leaf is a scalar or has a foreign size."""
    leaves = tf.nest.flatten(rule.initial_state(COORDINATES, SEGMENTS))
    sizes = {COORDINATES} if "segments" not in rule.needs else {COORDINATES, 4}
    assert all(leaf.shape.rank >= 1 and leaf.shape[0] in sizes for leaf in leaves)


def test_the_state_keeps_its_structure_shapes_and_types(rule):
    before = rule.initial_state(COORDINATES, SEGMENTS)
    update, after = call(rule, some(0), before, some(1), tf.constant(0))
    tf.nest.assert_same_structure(before, after)
    for old, new in zip(tf.nest.flatten(before), tf.nest.flatten(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    assert update.shape == [COORDINATES]


def test_it_is_pure(rule):
    """The same in, the same out; and its weights stay as they are."""
    weights = [np.array(weight) for weight in rule.variables]
    first, again = play(rule), play(rule)
    assert_equal(first, again)
    assert_equal([np.array(weight) for weight in rule.variables], weights)


def test_updates_are_finite_for_gradients_of_any_size(rule):
    gradient = tf.constant([0.0, -0.0, 1e-38, -1e-30, 1e-8, 1.0, -1e5, 1e10])
    update, state = call(rule, gradient, rule.initial_state(COORDINATES, SEGMENTS), some(1), tf.constant(0))
    assert all(np.all(np.isfinite(leaf)) for leaf in tf.nest.flatten((update, state)))


def test_coordinates_of_a_coordinatewise_rule_may_be_permuted_and_cut(rule):
    if not rule.coordinatewise:
        pytest.skip("couples coordinates, and says so")
    (expected, _), order = play(rule), np.random.default_rng(0).permutation(COORDINATES)
    pieces = [order[:3], order[3:]]
    states = [rule.initial_state(len(piece), None) for piece in pieces]
    parameters = [tf.gather(some(100), piece) for piece in pieces]
    for step in range(len(expected)):
        for index, piece in enumerate(pieces):
            gradient = tf.gather(some(step), piece)
            update, states[index] = call(rule, gradient, states[index], parameters[index], tf.constant(step), None)
            parameters[index] = parameters[index] + update
            np.testing.assert_allclose(update, tf.gather(expected[step], piece), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_keeps_its_dtype(make, dtype):
    rule = make(dtype=dtype)
    updates, state = play(rule, dtype=dtype)
    assert updates.dtype == dtype
    assert all(leaf.dtype == dtype for leaf in tf.nest.flatten(state))
    assert all(variable.dtype == dtype for variable in rule.variables)


def test_a_global_mixed_precision_policy_does_not_reach_it(make):
    expected = play(make())
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        rule = make()
        updates, state = play(rule)
    finally:
        keras.config.set_dtype_policy(before)
    assert rule.compute_dtype == "float32"
    assert_equal((updates, state), expected)


def test_it_compiles_under_xla(rule):
    compiled = tf.function(lambda: play(rule), jit_compile=True)()
    assert_equal(compiled, play(rule), rtol=1e-4, atol=1e-6)


def test_config_round_trip(rule):
    again = type(rule).from_config(rule.get_config())
    assert again.get_config() == rule.get_config()
    assert [weight.shape for weight in again.variables] == [weight.shape for weight in rule.variables]


def test_it_saves_and_reloads_equal(rule, tmp_path):
    for index, weight in enumerate(rule.variables):  # not the initial values, which a reload could draw again
        weight.assign(weight + 0.01 * (index + 1))
    keras.saving.save_model(rule, tmp_path / "rule.keras")
    reloaded = keras.saving.load_model(tmp_path / "rule.keras")
    assert type(reloaded) is type(rule)
    assert reloaded.get_config() == rule.get_config()
    assert_equal(play(reloaded), play(rule))


# In the loop ---------------------------------------------------------------------------------------------------------


def bowl(parameters, carry, step):
    """A convex quadratic with curvatures from 0.5 to 2."""
    rates = tf.cast(tf.linspace(0.25, 1.0, COORDINATES), parameters.dtype)
    return tf.reduce_sum(rates * tf.square(parameters - 1.0)), carry


def test_it_learns_on_a_toy(rule):
    if learned(rule):
        pytest.skip("untrained; its meta-gradient is tested instead")
    result = tf.function(unroll)(rule, bowl, tf.zeros([COORDINATES]), 100, segments=SEGMENTS)
    assert np.all(np.diff(result.losses[:3]) < 0)
    assert result.losses[-1] < 0.95 * result.losses[0]


@pytest.mark.parametrize("second_derivatives", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_its_meta_gradient_is_finite_and_reaches_every_weight(rule, second_derivatives):
    @tf.function
    def run():
        weights = [variable.value for variable in rule.trainable_variables]
        with tf.GradientTape() as tape:
            result = unroll(
                rule,
                bowl,
                tf.zeros([COORDINATES]),
                5,
                segments=SEGMENTS,
                second_derivatives=second_derivatives,
            )
            total = tf.reduce_sum(result.losses)
        return tape.gradient(total, weights)

    for gradient in run():
        assert gradient is not None
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)


def test_segments_join_without_a_seam(rule):
    @tf.function
    def stretch(steps, parameters, state, step):
        result = unroll(rule, bowl, parameters, steps, state=state, step=step, segments=SEGMENTS)
        return result.parameters, result.state, result.step

    start = (tf.zeros([COORDINATES]), rule.initial_state(COORDINATES, SEGMENTS), tf.constant(0))
    whole = stretch(6, *start)
    assert_equal(stretch(3, *stretch(3, *start)), whole, rtol=1e-5, atol=1e-7)
