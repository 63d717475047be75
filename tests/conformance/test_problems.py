"""What every problem must satisfy. Problems are found by themselves: every public subclass of `Problem` in a module of
`tf_metalearn.problems`, and every preset in `PRESETS` there.

A class whose arguments all have defaults needs nothing here; any other has a line in `EXAMPLES`. A preset whose data
are not on the machine is skipped.
"""

import importlib
import inspect
import os
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn.problems as problems
from tf_metalearn.inner_loop import unroll
from tf_metalearn.problems.base import Problem
from tf_metalearn.problems.quadratic import Quadratic
from tf_metalearn.problems.supervised import SupervisedProblem
from tf_metalearn.rules import GradientDescent


def conv_net():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input([6, 6, 1]),
            layers.Conv2D(3, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(3),
        ]
    )


def mlp():
    return keras.Sequential([keras.Input([4]), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(3)])


def data(shape):
    """A task that can be learned: the class is the greatest of the first three pixels."""
    x = np.random.default_rng(0).integers(0, 256, size=[60, *shape]).astype("uint8")
    return x, x.reshape(60, -1)[:, :3].argmax(axis=1)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

#: Other ways to make a problem than by its defaults: the first is the small case of `make test`, the rest the matrix.
EXAMPLES = {
    "Quadratic": [
        lambda cls: cls(functions=3, dimensions=4),
        lambda cls: cls("code", functions=3, dimensions=4),
    ],
    "RescaledProblem": [
        lambda cls: cls(Quadratic(functions=3, dimensions=4)),
        lambda cls: cls(SupervisedProblem(mlp, data([4]), LOSS, batch_size=16), spread=10.0),
    ],
    "SupervisedProblem": [
        lambda cls: cls(mlp, data([4]), LOSS, batch_size=16),
        lambda cls: cls(conv_net, data([6, 6, 1]), LOSS, batch_size=16),
    ],
}


#: Presets whose data tensorflow_datasets would download, were they not prepared.
FROM_TFDS = ("mnist", "cifar")


def public_classes():
    modules = [
        importlib.import_module(f"{problems.__name__}.{info.name}") for info in pkgutil.iter_modules(problems.__path__)
    ]
    for module in modules:
        for name, found in vars(module).items():
            own = inspect.isclass(found) and found.__module__ == module.__name__ and not name.startswith("_")
            if own and issubclass(found, Problem) and found is not Problem:
                yield found


def cases():
    for cls in public_classes():
        for index, make in enumerate(EXAMPLES.get(cls.__name__, [lambda cls: cls()])):
            marks = [pytest.mark.slow] if index else []
            yield pytest.param(lambda cls=cls, make=make: make(cls), id=f"{cls.__name__}-{index}", marks=marks)
    for name in problems.PRESETS:
        marks = [pytest.mark.slow]
        if name.startswith(FROM_TFDS):
            marks.append(pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs TFDS_DATA_DIR"))
        yield pytest.param(lambda name=name: problems.make(name), id=name, marks=marks)


@pytest.fixture(params=cases(), scope="module")
def problem(request):
    return request.param()


SEED, OTHER = [1, 2], [1, 3]


@pytest.fixture
def task(problem):
    return problem.sample(tf.constant(SEED))


def bound(problem, task):
    return lambda parameters, carry, step: problem.loss(task, parameters, carry, step)


def assert_same(left, right):
    tf.nest.assert_same_structure(left, right)
    tf.nest.map_structure(np.testing.assert_array_equal, left, right)


def test_public_problems_are_found():
    assert {"Quadratic", "SupervisedProblem"} <= {cls.__name__ for cls in public_classes()}


def test_it_has_a_name(problem):
    assert isinstance(problem.name, str)
    assert problem.name


def test_segments_cover_its_coordinates_without_gaps(problem, task):
    ends = [0, *np.cumsum([segment.size for segment in problem.segments])]
    assert [segment.offset for segment in problem.segments] == ends[:-1]
    assert ends[-1] == problem.coordinates
    assert task.parameters.shape == [problem.coordinates]


def test_a_sample_is_a_function_of_the_seed_alone(problem, task):
    keras.utils.set_random_seed(99)
    assert_same(problem.sample(tf.constant(SEED)), task)
    assert np.any(problem.sample(tf.constant(OTHER)).parameters != task.parameters)


def test_a_sample_drawn_in_a_traced_function_equals_an_eager_one(problem, task):
    traced = tf.function(problem.sample, input_signature=[tf.TensorSpec([2], tf.int32)])
    drawn = traced(tf.constant(SEED))
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), drawn, task)


def test_the_loss_is_a_finite_scalar_and_pure(problem, task):
    (first, carry), (again, same) = (problem.loss(task, task.parameters, task.carry, tf.constant(3)) for _ in range(2))
    assert first.shape.rank == 0
    assert first.dtype == task.parameters.dtype
    assert np.isfinite(first)
    assert_same((first, carry), (again, same))


def test_the_carry_keeps_its_structure_shapes_and_types(problem, task):
    _, carry = problem.loss(task, task.parameters, task.carry, tf.constant(0))
    tf.nest.assert_same_structure(carry, task.carry)
    for old, new in zip(tf.nest.flatten(task.carry), tf.nest.flatten(carry), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)


def test_the_gradient_is_finite_and_agrees_with_a_difference(problem, task):
    """Along the gradient itself, where the slope is |gradient|; in float32, so to a few percent."""

    def value(parameters):
        return problem.loss(task, parameters, task.carry, tf.constant(0))[0]

    with tf.GradientTape() as tape:
        tape.watch(task.parameters)
        loss = value(task.parameters)
    gradient = tape.gradient(loss, task.parameters)
    assert np.all(np.isfinite(gradient))
    size = tf.norm(gradient)
    assert size > 0
    distance = 1e-2 * tf.minimum(1.0, tf.abs(loss) / size)
    along = gradient / size
    difference = value(task.parameters + distance * along) - value(task.parameters - distance * along)
    np.testing.assert_allclose(difference / (2 * distance), size, rtol=0.05)


def test_gradient_descent_lowers_the_loss(problem, task):
    """With one batch again and again (the step stays), at a rate that suits the first gradient."""
    loss = bound(problem, task)
    with tf.GradientTape() as tape:
        tape.watch(task.parameters)
        first = loss(task.parameters, task.carry, tf.constant(0))[0]
    gradient = tape.gradient(first, task.parameters)
    rate = 0.02 * float(first / tf.reduce_sum(tf.square(gradient)))  # each step would take off 2 % of the first loss
    result = tf.function(unroll)(
        GradientDescent(rate),
        lambda p, c, s: loss(p, task.carry, tf.constant(0)),
        task.parameters,
        20,
        carry=task.carry,
    )
    assert result.losses[-1] < result.losses[0]
    np.testing.assert_allclose(result.losses[0], first, rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_unrolls_differentiably_in_a_traced_function(problem, jit_compile):
    rule = GradientDescent(1e-4)

    @tf.function(jit_compile=jit_compile)
    def run(seed):
        task = problem.sample(seed)
        rate = rule.learning_rate.value
        with tf.GradientTape() as tape:
            result = unroll(rule, bound(problem, task), task.parameters, 3, carry=task.carry, segments=problem.segments)
            total = tf.reduce_sum(result.losses)
        return result.losses, tape.gradient(total, rate)

    losses, gradient = run(tf.constant(SEED))
    assert losses.shape == [3]
    assert np.all(np.isfinite(losses))
    assert np.isfinite(gradient)
    assert gradient != 0
