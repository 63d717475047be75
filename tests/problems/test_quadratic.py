"""Random quadratics against numpy."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.problems.quadratic import Quadratic
from tf_metalearn.problems.rescaled import RescaledProblem

SEED = tf.constant([3, 4])


def drawn(problem, seed=SEED):
    """The start `[functions, dimensions]`, and W and y of one instance."""
    task = problem.sample(seed)
    matrix, target = (part.numpy() for part in task.data)
    return task, task.parameters.numpy().reshape(target.shape), matrix, target


@pytest.mark.parametrize(("variant", "weight"), [("paper", 1.0), ("code", 1 / 5)])
def test_loss_and_gradient_are_those_of_the_formula(variant, weight):
    problem = Quadratic(variant, functions=5, dimensions=3)
    task, theta, matrix, target = drawn(problem)
    residual = np.einsum("fij,fj->fi", matrix, theta) - target
    with tf.GradientTape() as tape:
        tape.watch(task.parameters)
        loss, carry = problem.loss(task, task.parameters, task.carry, tf.constant(0))
    np.testing.assert_allclose(loss, weight * np.sum(residual**2), rtol=1e-5)
    expected = 2 * np.einsum("fij,fi->fj", matrix, residual) * weight
    np.testing.assert_allclose(tf.reshape(tape.gradient(loss, task.parameters), [5, 3]), expected, rtol=1e-4, atol=1e-5)
    assert carry == task.carry


def test_the_minimum_is_zero_where_w_theta_is_y():
    problem = Quadratic(functions=4, dimensions=3)
    task, _, matrix, target = drawn(problem)
    solution = np.linalg.solve(matrix.astype("float64"), target[..., None].astype("float64"))
    loss, _ = problem.loss(task, tf.constant(solution.ravel(), tf.float32), (), tf.constant(0))
    assert 0 <= loss < 1e-4


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_functions_share_nothing(variant):
    """The gradient of one function does not move with the parameters of the others."""
    problem = Quadratic(variant, functions=6, dimensions=2)
    task = problem.sample(SEED)

    def gradient(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            loss, _ = problem.loss(task, parameters, (), tf.constant(0))
        return tape.gradient(loss, parameters).numpy().reshape(6, 2)

    change = np.zeros([6, 2], np.float32)
    change[2] = 1.0
    moved = gradient(task.parameters + tf.reshape(change, [-1])) != gradient(task.parameters)
    assert np.all(moved[2])
    assert not np.any(moved[[0, 1, 3, 4, 5]])


def test_a_functions_gradient_is_its_own_whatever_their_number():
    """The paper's variant sums over functions, so that the learned optimizer sees the same gradients at any number."""
    for functions in (1, 7):
        problem = Quadratic(functions=functions, dimensions=2)
        task, theta, matrix, target = drawn(problem)
        with tf.GradientTape() as tape:
            tape.watch(task.parameters)
            loss, _ = problem.loss(task, task.parameters, (), tf.constant(0))
        first = 2 * matrix[0].T @ (matrix[0] @ theta[0] - target[0])
        np.testing.assert_allclose(tape.gradient(loss, task.parameters)[:2], first, rtol=1e-4, atol=1e-5)


def test_the_papers_variant_draws_from_the_standard_normal():
    _, theta, matrix, target = drawn(Quadratic("paper", functions=200, dimensions=10))
    for values in (theta, matrix, target):
        assert abs(values.mean()) < 5 / np.sqrt(values.size)
        np.testing.assert_allclose(values.std(), 1.0, atol=4 / np.sqrt(2 * values.size))
        np.testing.assert_allclose(np.mean(np.abs(values) < 1), 0.6827, atol=0.05)


def test_the_codes_variant_draws_uniform_functions_and_starts_near_zero():
    _, theta, matrix, target = drawn(Quadratic("code", functions=200, dimensions=10))
    for values in (matrix, target):
        assert values.min() >= 0
        assert values.max() < 1
        np.testing.assert_allclose([values.mean(), values.std()], [0.5, 1 / np.sqrt(12)], atol=0.02)
    np.testing.assert_allclose([theta.mean(), theta.std()], [0.0, 0.01], atol=0.001)


def test_matrix_target_and_start_are_drawn_independently():
    _, theta, matrix, target = drawn(Quadratic("paper", functions=500, dimensions=1))
    correlations = np.corrcoef([theta.ravel(), matrix.ravel(), target.ravel()]) - np.eye(3)
    assert np.abs(correlations).max() < 0.2


def test_the_units_of_a_rescaled_quadratic_are_drawn_independently_of_its_start():
    """Of the start's magnitudes too: two draws from one seed may be uncorrelated and yet depend on each other."""
    inner, scale = RescaledProblem(Quadratic(functions=200, dimensions=10)).sample(SEED).data
    exponents, start = np.log(scale.numpy()), inner.parameters.numpy()
    for magnitudes in (start, np.abs(start), np.repeat(np.hypot(start[0::2], start[1::2]), 2)):
        for shift in (0, 1):
            assert abs(np.corrcoef(magnitudes, np.roll(exponents, shift))[0, 1]) < 0.15


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_seed_makes_the_instance(variant):
    problem = Quadratic(variant, functions=2, dimensions=2)
    first, again, other = (problem.sample(tf.constant(seed)) for seed in ([0, 1], [0, 1], [1, 1]))
    tf.nest.map_structure(np.testing.assert_array_equal, first, again)
    for one, different in zip(tf.nest.flatten(first), tf.nest.flatten(other), strict=True):
        assert np.all(one != different)


def test_segments_cover_all_coordinates():
    problem = Quadratic(functions=3, dimensions=4)
    assert problem.coordinates == 12 == sum(segment.size for segment in problem.segments)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("variant", "papr"), ("functions", 0), ("functions", 2.5), ("dimensions", -1)],
)
def test_arguments_must_be_in_their_ranges(argument, value):
    with pytest.raises(ValueError, match=rf"(?s)`{argument}` must be .*Received: {argument}={value!r}\.\n\S"):
        Quadratic(**{argument: value})
