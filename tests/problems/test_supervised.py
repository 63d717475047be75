"""A Keras model and data as an optimizee: fresh weights, fresh batches, and nothing but the seed decides them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.inner_loop import unroll
from tf_metalearn.problems import digits, make
from tf_metalearn.problems.supervised import SupervisedProblem
from tf_metalearn.rules import GradientDescent

ROWS = 40


def mlp():
    layers = keras.layers
    return keras.Sequential([keras.Input([4]), layers.Dense(6, activation="tanh"), layers.Dense(3)])


def summing():
    """A model whose output is the sum of its inputs."""
    return keras.Sequential([keras.Input([2]), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])


def mean_output(y, outputs):
    return tf.reduce_mean(outputs)


def mean_target(y, outputs):
    return tf.reduce_mean(tf.cast(y, tf.float32)) + 0.0 * tf.reduce_mean(outputs)


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=[ROWS, 4]).astype("float32"), np.arange(ROWS) % 3


@pytest.fixture
def problem(data):
    return SupervisedProblem(mlp, data, keras.losses.SparseCategoricalCrossentropy(from_logits=True), batch_size=8)


def loss_at(problem, task, step, parameters=None):
    parameters = task.parameters if parameters is None else parameters
    return float(problem.loss(task, parameters, task.carry, tf.constant(step))[0])


# Weights -------------------------------------------------------------------------------------------------------------


def test_weights_are_drawn_afresh_by_the_seed(problem):
    first, again, other = (problem.sample(tf.constant(seed)) for seed in ([0, 1], [0, 1], [0, 2]))
    np.testing.assert_array_equal(first.parameters, again.parameters)
    kernels = first.parameters[:24] != other.parameters[:24]
    assert np.all(kernels)


def test_segments_name_the_models_variables(problem):
    assert [segment.shape for segment in problem.segments] == [(4, 6), (6,), (6, 3), (3,)]
    assert problem.coordinates == 24 + 6 + 18 + 3


def test_an_unbuilt_model_is_built_from_the_data(data):
    def factory():
        return keras.Sequential([keras.layers.Dense(3)])

    problem = SupervisedProblem(factory, data, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert problem.coordinates == 4 * 3 + 3
    assert problem.sample(tf.constant([0, 0])).parameters.shape == [15]


# Batches -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def row_teller():
    """A problem of one example a batch whose loss is the number of the row that was drawn."""
    rows = np.arange(ROWS)
    return SupervisedProblem(summing, (np.zeros([ROWS, 2], "float32"), rows), mean_target, batch_size=1)


def test_every_step_draws_a_batch_by_seed_and_step(row_teller):
    first, again, other = (row_teller.sample(tf.constant(seed)) for seed in ([0, 1], [0, 1], [0, 2]))
    rows = [[loss_at(row_teller, task, step) for step in range(30)] for task in (first, again, other)]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]
    assert len(set(rows[0])) > 10


def test_batches_are_drawn_evenly_from_all_rows(row_teller):
    task = row_teller.sample(tf.constant([0, 0]))
    result = tf.function(unroll)(
        GradientDescent(), lambda p, c, s: row_teller.loss(task, p, c, s), task.parameters, 100 * ROWS
    )
    counts = np.bincount(result.losses.numpy().astype(int), minlength=ROWS)
    assert len(counts) == ROWS
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100)


def test_a_batch_has_its_size_and_pairs_x_with_y():
    seen = []

    def check(y, outputs):
        seen.append((y, outputs))
        return tf.reduce_mean(outputs)

    rows = np.arange(ROWS, dtype="float32")
    problem = SupervisedProblem(summing, (np.stack([rows, rows], axis=1), 2 * rows), check, batch_size=7)
    loss_at(problem, problem.sample(tf.constant([0, 0])), 0)
    y, outputs = seen[-1]
    assert y.shape == [7]
    np.testing.assert_array_equal(y, outputs[:, 0])


# The loss ------------------------------------------------------------------------------------------------------------


def test_loss_is_that_of_the_model_on_the_batch(data):
    """A batch of one row of data that are all the same: the loss is known without knowing the draw."""
    x = np.tile(data[0][:1], [ROWS, 1])
    problem = SupervisedProblem(mlp, (x, np.ones([ROWS, 3])), keras.losses.MeanSquaredError(), batch_size=3)
    task = problem.sample(tf.constant([0, 0]))
    kernel, bias, head, head_bias = np.split(task.parameters.numpy().astype("float64"), [24, 30, 48])
    outputs = np.tanh(x[:1] @ kernel.reshape(4, 6) + bias) @ head.reshape(6, 3) + head_bias
    np.testing.assert_allclose(loss_at(problem, task, 0), np.mean((outputs - 1.0) ** 2), rtol=1e-4)


@pytest.mark.parametrize("name", ["mse", "mean_squared_error", "MeanSquaredError"])
def test_a_loss_may_be_given_by_name(data, name):
    named, given = (
        SupervisedProblem(mlp, (data[0], data[0][:, :3]), loss, batch_size=4)
        for loss in (name, keras.losses.MeanSquaredError())
    )
    seed = tf.constant([0, 0])
    np.testing.assert_allclose(loss_at(named, named.sample(seed), 0), loss_at(given, given.sample(seed), 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "brightness"),
    [
        (np.full([ROWS, 2], 255, "uint8"), 2.0),
        (np.full([ROWS, 2], 51, "uint8"), 0.4),
        (np.full([ROWS, 2], 51.0, "float32"), 102.0),
    ],
    ids=["white", "a fifth", "floats stay"],
)
def test_integer_images_are_brought_to_one(pixels, brightness):
    problem = SupervisedProblem(summing, (pixels, np.zeros(ROWS)), mean_output, batch_size=4)
    np.testing.assert_allclose(loss_at(problem, problem.sample(tf.constant([0, 0])), 0), brightness, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_token_numbers_are_not_images(dtype):
    """An embedding must see the numbers themselves: divided by the type's largest, all would be token 0."""

    def factory():
        embedding = keras.layers.Embedding(10, 1, embeddings_initializer=lambda shape, dtype: tf.range(10.0)[:, None])
        return keras.Sequential([keras.Input([2], dtype="int32"), embedding])

    tokens = np.full([ROWS, 2], 7, dtype)
    problem = SupervisedProblem(factory, (tokens, np.zeros(ROWS)), mean_output, batch_size=4)
    assert loss_at(problem, problem.sample(tf.constant([0, 0])), 0) == 7.0


def test_double_precision_data_are_no_trouble(data):
    x = data[0].astype("float64")
    problem = SupervisedProblem(mlp, (x, x[:, :3]), keras.losses.MeanSquaredError(), batch_size=4)
    assert np.isfinite(loss_at(problem, problem.sample(tf.constant([0, 0])), 0))


def test_regularisation_counts():
    def factory():
        return keras.Sequential(
            [
                keras.Input([2]),
                keras.layers.Dense(1, kernel_initializer="ones", kernel_regularizer="l2"),
            ]
        )

    zeros = np.zeros([ROWS, 2], "float32")
    problem = SupervisedProblem(factory, (zeros, zeros[:, :1]), keras.losses.MeanSquaredError(), batch_size=4)
    task = problem.sample(tf.constant([0, 0]))
    # Keras's "l2" is 0.01 * sum of squares; on zeros with a zero bias nothing else is left.
    np.testing.assert_allclose(loss_at(problem, task, 0, tf.constant([3.0, 4.0, 0.0])), 0.25, rtol=1e-6)


def dropping():
    return keras.Sequential(
        [
            keras.Input([64]),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ]
    )


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_on_in_training_only(training):
    ones = np.ones([ROWS, 64], "float32")
    problem = SupervisedProblem(dropping, (ones, np.zeros(ROWS)), mean_output, batch_size=1, training=training)
    task, losses = problem.sample(tf.constant([0, 0])), []
    carry = task.carry
    for step in range(6):
        loss, carry = problem.loss(task, task.parameters, carry, tf.constant(step))
        losses.append(float(loss))
    assert (len(set(losses)) > 2) == training
    assert training or set(losses) == {64.0}


def test_two_tasks_drop_different_units():
    ones = np.ones([ROWS, 64], "float32")
    problem = SupervisedProblem(dropping, (ones, np.zeros(ROWS)), mean_output, batch_size=1)
    losses = {loss_at(problem, problem.sample(tf.constant([0, seed])), 0) for seed in range(8)}
    assert len(losses) > 2


def test_the_loss_leaves_the_model_alone(data):
    def factory():
        layers = keras.layers
        return keras.Sequential([keras.Input([4]), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3)])

    problem = SupervisedProblem(factory, data, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    task = problem.sample(tf.constant([0, 0]))
    again = problem.sample(tf.constant([0, 0]))
    _, carry = problem.loss(task, task.parameters, task.carry, tf.constant(0))
    tf.nest.map_structure(np.testing.assert_array_equal, problem.sample(tf.constant([0, 0])), again)
    assert all(np.any(old != new) for old, new in zip(task.carry, carry, strict=True))


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "targets"), [(5, 4), (0, 0)])
def test_data_of_unequal_lengths_or_none_are_refused(rows, targets):
    message = rf"(?s)`data` must be .*Received: {rows} rows of x and {targets} of y\.\n\S"
    with pytest.raises(ValueError, match=message):
        SupervisedProblem(mlp, (np.zeros([rows, 4], "float32"), np.zeros(targets)), "mse")


@pytest.mark.parametrize("batch_size", [0, -3, 2.5, None])
def test_a_batch_size_that_is_no_positive_integer_is_refused(data, batch_size):
    message = rf"(?s)`batch_size` must be .*Received: batch_size={batch_size!r}\.\n\S"
    with pytest.raises(ValueError, match=message):
        SupervisedProblem(mlp, data, "mse", batch_size=batch_size)


def test_a_loss_that_is_not_a_scalar_is_refused(data):
    with pytest.raises(ValueError, match=r"(?s)`loss` must return a scalar.*Received: .*shape \(128,\).*reduction"):
        SupervisedProblem(
            mlp, data, keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None), batch_size=128
        )


def test_a_factory_of_changing_architecture_is_refused(data):
    sizes = iter([3, 4, 5, 6])

    def factory():
        return keras.Sequential([keras.Input([4]), keras.layers.Dense(next(sizes))])

    with pytest.raises(ValueError, match="`factory` must return the same architecture"):
        SupervisedProblem(factory, data, "mse")


def test_a_factory_of_compiled_models_is_refused_with_the_remedy(data):
    model = mlp()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"`model` must return a model that is not compiled[\s\S]*Build the model in"):
        SupervisedProblem(lambda: keras.models.clone_model(model), data, "mse")


def test_arguments_in_the_wrong_place_are_refused(data):
    with pytest.raises(ValueError, match=r"`model` must be a function[\s\S]*Received: "):
        SupervisedProblem(data, mlp, "mse")
    with pytest.raises(ValueError, match=r"`model` must be a function[\s\S]*Received: "):
        SupervisedProblem(mlp(), data, "mse")
    with pytest.raises(ValueError, match=r"`data` must be a pair[\s\S]*Received: a "):
        SupervisedProblem(mlp, tf.data.Dataset.from_tensor_slices(data), "mse")


def test_unknown_options_and_splits_of_presets_are_refused():
    with pytest.raises(ValueError, match=r"`options` must be among activation, batch_size, hidden[\s\S]*units"):
        make("digits", units=40)
    with pytest.raises(ValueError, match=r"`split` must be one of"):
        digits("val")
