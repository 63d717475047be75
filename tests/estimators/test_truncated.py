"""Truncated backpropagation against derivatives by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.estimators.truncated import TruncatedBackpropagation, advance, bind, once_differentiated, start
from tf_metalearn.inner_loop import unroll
from tf_metalearn.problems.base import Problem, Task, vector_segments
from tf_metalearn.problems.quadratic import Quadratic
from tf_metalearn.problems.supervised import SupervisedProblem
from tf_metalearn.rules import Adam, CoordinatewiseLSTM, GradientDescent, GroupedRule, Momentum

SEED = tf.constant([5, 6])
RATE = 0.01
LENGTH = 4


def by_hand(task, theta, length, second_derivatives):
    """Gradient descent on one quadratic: the losses after each update, their derivative for the rate, and theta.

    theta' = theta - r g; d theta'/dr = d theta/dr - g - [second order] r H d theta/dr, and it starts at zero.
    """
    matrix, target = (part.numpy()[0].astype("float64") for part in task.data)
    hessian = 2 * matrix.T @ matrix
    losses, slope, moved = [], 0.0, np.zeros_like(theta)
    for _ in range(length):
        gradient = 2 * matrix.T @ (matrix @ theta - target)
        moved = moved - gradient - (RATE * hessian @ moved if second_derivatives else 0.0)
        theta = theta - RATE * gradient
        residual = matrix @ theta - target
        losses.append(residual @ residual)
        slope += 2 * (matrix.T @ residual) @ moved
    return losses, slope, theta


@pytest.mark.parametrize("recompute", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("second_derivatives", [False, True])
def test_losses_after_every_update_and_their_derivative_through_two_stretches(second_derivatives, recompute):
    """The second stretch begins where the first ended, and its gradient stops at the border."""
    problem, rule = Quadratic(functions=1, dimensions=3), GradientDescent(RATE)
    estimator = tf.function(TruncatedBackpropagation(LENGTH, second_derivatives, recompute))
    training = start(rule, problem, SEED)
    theta = training.parameters.numpy().astype("float64")
    for stretch in (1, 2):
        losses, (gradient,), training = estimator(rule, problem, training)
        expected_losses, expected_gradient, theta = by_hand(training.task, theta, LENGTH, second_derivatives)
        np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4)
        np.testing.assert_allclose(training.parameters, theta, rtol=1e-4, atol=1e-6)
        assert int(training.step) == stretch * LENGTH


class Slope(Problem):
    """A loss that is linear in the parameters, with other coefficients at every step."""

    segments = vector_segments("theta", 3)

    def __init__(self):
        super().__init__("slope")

    def sample(self, seed):
        return Task(
            tf.random.stateless_normal([3], seed, dtype=tf.float64), (), tf.constant([1.0, -2.0, 0.5], "float64")
        )

    def loss(self, task, parameters, carry, step):
        coefficients = task.data * tf.cos(tf.cast(step, tf.float64) + tf.range(3, dtype=tf.float64))
        return tf.reduce_sum(coefficients * parameters), carry


@pytest.mark.parametrize("second_derivatives", [False, True])
def test_on_a_linear_loss_the_meta_gradient_equals_finite_differences(second_derivatives):
    """Its inner gradient depends on no parameter, so that first and second order are one."""
    rule, problem = CoordinatewiseLSTM(units=(3, 2), seed=1, dtype="float64"), Slope()
    training = start(rule, problem, SEED)
    estimator = tf.function(TruncatedBackpropagation(LENGTH, second_derivatives))
    _, gradients, _ = estimator(rule, problem, training)
    generator = np.random.default_rng(0)
    point = [weight.numpy() for weight in rule.trainable_variables]
    for _ in range(3):
        direction = [generator.normal(size=weight.shape) for weight in point]

        def meta_loss(distance, direction=direction):
            for variable, weight, along in zip(rule.trainable_variables, point, direction, strict=True):
                variable.assign(weight + distance * along)
            return float(tf.reduce_sum(estimator(rule, problem, training)[0]))

        difference = (meta_loss(1e-5) - meta_loss(-1e-5)) / 2e-5
        slope = sum(np.sum(gradient * along) for gradient, along in zip(gradients, direction, strict=True))
        np.testing.assert_allclose(slope, difference, rtol=1e-6)


@pytest.fixture(scope="module")
def network():
    """A problem with batch normalisation, dropout and weight decay."""

    def factory():
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input([4]),
                layers.Dense(5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
                layers.BatchNormalization(),
                layers.Dropout(0.3, seed=1),
                layers.Dense(3),
            ]
        )

    x = np.random.default_rng(0).normal(size=[60, 4]).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return SupervisedProblem(factory, (x, np.arange(60) % 3), loss, batch_size=16)


@pytest.mark.parametrize(
    "rule", [CoordinatewiseLSTM(seed=0), Adam(0.05), Momentum(0.05)], ids=lambda rule: type(rule).__name__
)
def test_once_differentiated_changes_neither_losses_nor_gradients(network, rule):
    training = start(rule, network, SEED)

    @tf.function
    def run(wrap):
        weights = [weight.value for weight in rule.trainable_variables]
        with tf.GradientTape() as tape:
            loss = wrap(bind(network, training.task))
            result = unroll(
                rule,
                loss,
                training.parameters,
                LENGTH,
                state=training.state,
                carry=training.carry,
                segments=network.segments,
            )
            total = tf.reduce_sum(result.losses)
        return result.losses, result.carry, tape.gradient(total, weights)

    twice, once = run(lambda loss: loss), run(once_differentiated)
    for one, other in zip(tf.nest.flatten(once), tf.nest.flatten(twice), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_once_differentiated_multiplies_by_what_comes_from_above():
    loss = once_differentiated(lambda p, c, s: (tf.reduce_sum(p**3), c + 1))
    parameters = tf.constant([2.0, -1.0])
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        value, carry = loss(parameters, tf.constant(1), tf.constant(0))
        scaled = 5.0 * value
    np.testing.assert_allclose(tape.gradient(scaled, parameters), [60.0, 15.0])
    assert (float(value), int(carry)) == (7.0, 2)


def test_a_problem_may_read_a_variable():
    """A problem's data may live in a `tf.Variable`, in a traced function too."""

    class Centred(Slope):
        def __init__(self):
            super().__init__()
            self.centre = tf.Variable([1.0, 2.0, 3.0], dtype=tf.float64)

        def loss(self, task, parameters, carry, step):
            return tf.reduce_sum(tf.square(parameters - self.centre)), carry

    rule, problem = GradientDescent(0.1, dtype="float64"), Centred()
    estimator = tf.function(TruncatedBackpropagation(2))
    losses, (gradient,), _ = estimator(rule, problem, start(rule, problem, SEED))
    assert losses[1] < losses[0]
    assert np.isfinite(gradient)


def test_a_problem_whose_loss_ignores_the_parameters_gives_no_gradient():
    class Flat(Slope):
        def loss(self, task, parameters, carry, step):
            return tf.reduce_sum(task.data), carry

    rule, problem = GradientDescent(0.1, dtype="float64"), Flat()
    losses, (gradient,), _ = TruncatedBackpropagation(2)(rule, problem, start(rule, problem, SEED))
    np.testing.assert_array_equal(losses, [-0.5, -0.5])
    assert gradient == 0


def test_an_idle_rule_gets_a_zero_gradient():
    problem = Quadratic(functions=1, dimensions=2)
    rule = GroupedRule({"nowhere": GradientDescent(0.1), ".*": GradientDescent(RATE)})
    _, (idle, busy), _ = TruncatedBackpropagation(2)(rule, problem, start(rule, problem, SEED))
    assert idle == 0
    assert busy != 0


def test_a_training_starts_at_the_task_with_a_fresh_state():
    problem, rule = Quadratic(functions=2, dimensions=2), Adam()
    training = start(rule, problem, SEED)
    np.testing.assert_array_equal(training.parameters, problem.sample(SEED).parameters)
    tf.nest.map_structure(np.testing.assert_array_equal, training.state, rule.initial_state(4))
    assert int(training.step) == 0


def test_stretches_join_to_one_training(network):
    """Twice four steps are eight: parameters, state, statistics and dropout seeds move on, and so does the step."""
    rule = Adam(0.05)
    training = whole = start(rule, network, SEED)
    estimator = tf.function(TruncatedBackpropagation(4))
    losses = []
    for _ in range(2):
        part, _, training = estimator(rule, network, training)
        losses.append(part)
    eight = tf.function(advance)(rule, network, whole, 8)
    final, _ = network.loss(whole.task, eight.parameters, eight.carry, eight.step)
    np.testing.assert_allclose(tf.concat(losses, 0), [*eight.losses[1:], final], rtol=1e-4)
    np.testing.assert_allclose(training.parameters, eight.parameters, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [0, -1, 2.5])
def test_a_stretch_that_is_no_positive_integer_is_refused(length):
    with pytest.raises(ValueError, match=rf"(?s)`unroll_length` must be .*Received: unroll_length={length!r}\.\n\S"):
        TruncatedBackpropagation(length)
