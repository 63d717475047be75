"""A Keras model as a pure function: the same outputs as the model, and nothing written to it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.functional import InitialValues, Segment, StatelessModel, join, segments_of, split

FEATURES, CLASSES = 4, 3


def sequential():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input([FEATURES]),
            layers.Dense(6, activation="tanh"),
            layers.BatchNormalization(momentum=0.5),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )


def functional():
    layers = keras.layers
    inputs = keras.Input([FEATURES])
    hidden = layers.BatchNormalization(momentum=0.5)(layers.Dense(FEATURES, activation="relu")(inputs))
    outputs = layers.Dense(CLASSES)(layers.Dropout(0.3)(layers.Add()([inputs, hidden])))
    return keras.Model(inputs, outputs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(6, activation="tanh")
        self.norm = keras.layers.BatchNormalization(momentum=0.5)
        self.dropout = keras.layers.Dropout(0.5)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, inputs, training=False):
        return self.head(self.dropout(self.norm(self.hidden(inputs), training=training), training=training))


def subclassed():
    model = Subclassed()
    model(tf.zeros([1, FEATURES]))
    return model


@pytest.fixture(params=[sequential, functional, subclassed], ids=lambda factory: factory.__name__)
def factory(request):
    return request.param


@pytest.fixture
def inputs():
    return tf.constant(np.random.default_rng(0).normal(size=[16, FEATURES]), tf.float32)


def values_of(variables):
    return [np.array(variable) for variable in variables]


def assert_all_equal(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_all_close(left, right, rtol=1e-6, atol=1e-6):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# Segments, split, join -----------------------------------------------------------------------------------------------


def test_segments_stand_end_to_end():
    assert segments_of(["a", "b", "c"], [(2, 3), (), (4,)]) == (
        Segment("a", (2, 3), 0),
        Segment("b", (), 6),
        Segment("c", (4,), 7),
    )
    assert [segment.size for segment in segments_of(["a", "b"], [(2, 3), ()])] == [6, 1]


def test_segments_need_one_shape_a_name():
    with pytest.raises(ValueError, match="shorter"):
        segments_of(["a", "b"], [(2,)])


def test_split_puts_coordinates_where_numpy_puts_them():
    vector = np.arange(11.0)
    parts = split(tf.constant(vector), segments_of(["a", "b", "c"], [(2, 3), (), (4,)]))
    assert_all_equal([part.numpy() for part in parts], [vector[:6].reshape(2, 3), vector[6], vector[7:]])


def test_join_undoes_split():
    vector = tf.range(11.0)
    np.testing.assert_array_equal(join(split(vector, segments_of(["a", "b"], [(3, 3), (2,)]))), vector)


def test_join_casts_to_the_dtype_asked_for():
    assert join([tf.ones([2], tf.float16), tf.ones([1], tf.float32)]).dtype == tf.float16
    assert join([tf.ones([2], tf.float16), tf.ones([1], tf.float32)], tf.float64).dtype == tf.float64


# StatelessModel ------------------------------------------------------------------------------------------------------


def test_inference_equals_the_model(factory, inputs):
    model = factory()
    pure = StatelessModel(model)
    outputs, _, losses = pure(pure.parameters(), pure.non_trainable(), inputs, training=False)
    np.testing.assert_allclose(outputs, model(inputs, training=False), rtol=1e-6, atol=1e-6)
    assert losses == 0


def test_training_call_equals_the_model_and_returns_what_the_model_would_have_written(factory, inputs):
    model = factory()
    pure = StatelessModel(model)
    outputs, non_trainable, _ = pure(pure.parameters(), pure.non_trainable(), inputs, training=True)
    before = values_of(model.non_trainable_variables)
    expected = model(inputs, training=True)  # writes batch statistics and the dropout seed
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    assert_all_close(values_of(non_trainable), values_of(model.non_trainable_variables))
    changed = [np.any(old != new) for old, new in zip(before, values_of(non_trainable), strict=True)]
    assert all(changed), "moving mean, moving variance and seed all change in a training call"


def test_the_models_own_variables_stay_untouched(factory, inputs):
    model = factory()
    before = values_of(model.variables)
    pure = StatelessModel(model)
    pure(pure.parameters() + 1.0, pure.non_trainable(), inputs, training=True)
    tf.function(pure.__call__)(pure.parameters(), pure.non_trainable(), inputs)
    assert_all_equal(values_of(model.variables), before)


def test_moving_statistics_follow_the_definition_of_batch_normalisation():
    model = keras.Sequential([keras.Input([2]), keras.layers.BatchNormalization(momentum=0.75)])
    pure = StatelessModel(model)
    inputs = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    _, (mean, variance), _ = pure(pure.parameters(), pure.non_trainable(), inputs)
    np.testing.assert_allclose(mean, 0.25 * inputs.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * inputs.var(axis=0), rtol=1e-6)


def test_other_values_give_what_a_model_with_these_values_gives(factory, inputs):
    pure, other = StatelessModel(factory()), StatelessModel(factory())
    given = tf.random.stateless_normal([pure.coordinates], [1, 2])
    statistics = other(given, other.non_trainable(), inputs)[1]
    outputs, _, _ = pure(given, statistics, inputs, training=False)
    other.assign(given, statistics)
    np.testing.assert_allclose(outputs, other.model(inputs, training=False), rtol=1e-5, atol=1e-6)


def test_dropout_mask_changes_where_the_seed_is_handed_on_and_repeats_where_not():
    model = keras.Sequential([keras.Input([50]), keras.layers.Dropout(0.5), keras.layers.Dense(50, use_bias=False)])
    pure = StatelessModel(model)
    identity, inputs = tf.reshape(tf.eye(50), [-1]), tf.ones([2, 50])
    first, handed_on, _ = pure(identity, pure.non_trainable(), inputs)
    again, _, _ = pure(identity, pure.non_trainable(), inputs)
    second, _, _ = pure(identity, handed_on, inputs)
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 0.2 < np.mean((first != second).numpy()) < 0.8


def test_losses_are_those_of_the_given_values():
    regularizer = keras.regularizers.L2(0.5)
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1, kernel_regularizer=regularizer)])
    pure = StatelessModel(model)
    _, _, losses = pure(tf.constant([3.0, 4.0, 100.0]), [], tf.ones([5, 2]))
    np.testing.assert_allclose(losses, 0.5 * (9.0 + 16.0))


def test_add_loss_counts_among_the_losses():
    class Penalised(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(tf.reduce_sum(inputs))
            return inputs

    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1), Penalised()])
    pure = StatelessModel(model)
    _, _, losses = pure(tf.constant([2.0, 1.0]), pure.non_trainable(), tf.constant([[1.0], [10.0]]))
    np.testing.assert_allclose(losses, 3.0 + 21.0)


def test_gradient_is_that_of_the_model(factory, inputs):
    model = factory()
    pure = StatelessModel(model)
    parameters = pure.parameters()
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        value = tf.reduce_sum(pure(parameters, pure.non_trainable(), inputs, training=True)[0] ** 2)
    gradient = tape.gradient(value, parameters)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model(inputs, training=True) ** 2)
    variables = [variable.value for variable in model.trainable_variables]
    np.testing.assert_allclose(gradient, join(tape.gradient(value, variables)), rtol=1e-4, atol=1e-5)


def test_assign_and_parameters_round_trip(factory):
    model = factory()
    pure = StatelessModel(model)
    parameters = tf.random.stateless_normal([pure.coordinates], [3, 4])
    old = values_of(model.non_trainable_variables)
    pure.assign(parameters)
    np.testing.assert_array_equal(pure.parameters(), parameters)
    assert_all_equal(values_of(model.non_trainable_variables), old)
    new = [value + 1 for value in old]
    pure.assign(parameters, new)
    assert_all_equal([value.numpy() for value in pure.non_trainable()], new)


def test_segments_name_the_models_variables(factory):
    model = factory()
    pure = StatelessModel(model)
    assert [segment.name for segment in pure.segments] == [variable.path for variable in model.trainable_variables]
    assert pure.coordinates == sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert pure.parameters().shape == [pure.coordinates]


def test_frozen_layers_are_not_among_the_parameters(inputs):
    model = sequential()
    model.layers[0].trainable = False
    pure = StatelessModel(model)
    outputs, _, _ = pure(pure.parameters(), pure.non_trainable(), inputs, training=False)
    assert [segment.shape for segment in pure.segments] == [(6,), (6,), (6, CLASSES), (CLASSES,)]
    np.testing.assert_allclose(outputs, model(inputs, training=False), rtol=1e-6, atol=1e-6)


def test_mixed_precision_model_keeps_float32_parameters(inputs):
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input([FEATURES]), keras.layers.Dense(CLASSES, dtype=policy)])
    pure = StatelessModel(model)
    outputs, _, losses = pure(pure.parameters(), pure.non_trainable(), inputs)
    assert (pure.parameters().dtype, outputs.dtype, losses.dtype) == (tf.float32, tf.float16, tf.float32)


def test_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match=r"(?s)`model` must be built.*'lazy'.*model\.build"):
        StatelessModel(keras.Sequential([keras.layers.Dense(2)], name="lazy"))


def test_model_with_nothing_to_train_is_refused():
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)], name="frozen")
    model.trainable = False
    with pytest.raises(ValueError, match=r"(?s)`model` must have trainable.*'frozen'.*Check `trainable`"):
        StatelessModel(model)


# InitialValues -------------------------------------------------------------------------------------------------------


def drawn(factory, *seeds):
    """One list of tensors, by variable, for every seed."""
    model = factory()
    initial, segments = InitialValues(factory, model), StatelessModel(model).segments
    return [[part.numpy() for part in split(initial(tf.constant([7, seed])), segments)] for seed in seeds]


def test_initial_values_are_a_function_of_the_seed_alone(factory):
    model = factory()
    initial = InitialValues(factory, model)
    keras.utils.set_random_seed(1)
    first = initial(tf.constant([0, 5]))
    keras.utils.set_random_seed(2)
    StatelessModel(model).assign(first + 1.0)
    np.testing.assert_array_equal(initial(tf.constant([0, 5])), first)
    np.testing.assert_array_equal(InitialValues(factory, factory())(tf.constant([0, 5])), first)
    for other in ([0, 6], [1, 5]):
        assert np.any(initial(tf.constant(other)) != first)


def test_initial_values_leave_the_model_alone(factory):
    model = factory()
    before = values_of(model.variables)
    InitialValues(factory, model)(tf.constant([0, 0]))
    assert_all_equal(values_of(model.variables), before)


def test_initial_values_in_a_traced_function_equal_eager_ones(factory):
    initial = InitialValues(factory, factory())
    traced = tf.function(initial.__call__, input_signature=[tf.TensorSpec([2], tf.int32)])
    for seed in (0, 1):
        np.testing.assert_allclose(traced(tf.constant([3, seed])), initial(tf.constant([3, seed])), rtol=1e-6)


def test_initial_values_follow_each_variables_own_initializer():
    layers = keras.layers

    def factory():
        return keras.Sequential(
            [
                keras.Input([300]),
                layers.Dense(200),
                layers.Dense(100, kernel_initializer="he_normal", bias_initializer="ones"),
                layers.Dense(50, kernel_initializer="orthogonal", bias_initializer=keras.initializers.Constant(0.25)),
                layers.BatchNormalization(),
            ]
        )

    (glorot, zeros, he, ones, orthogonal, quarter, gamma, beta), _ = drawn(factory, 0, 1)
    limit = np.sqrt(6 / (300 + 200))  # Glorot and Bengio 2010: uniform in +-sqrt(6 / (fan_in + fan_out))
    assert 0.99 * limit < np.abs(glorot).max() <= limit
    np.testing.assert_allclose(glorot.std(), limit / np.sqrt(3), rtol=0.02)
    assert abs(glorot.mean()) < 4 * limit / np.sqrt(3 * glorot.size)
    np.testing.assert_allclose(he.std(), np.sqrt(2 / 200), rtol=0.03)  # He et al. 2015: variance 2 / fan_in
    np.testing.assert_allclose(orthogonal.T @ orthogonal, np.eye(50), atol=1e-5)
    for constant, value in ((zeros, 0.0), (ones, 1.0), (quarter, 0.25), (gamma, 1.0), (beta, 0.0)):
        np.testing.assert_array_equal(constant, value)


def test_initial_values_differ_from_variable_to_variable_and_seed_to_seed():
    def factory():
        return keras.Sequential(
            [keras.Input([8]), *(keras.layers.Dense(8, kernel_initializer="glorot_uniform") for _ in range(3))]
        )

    draws = drawn(factory, 0, 1)
    kernels = [values[index].ravel() for values in draws for index in (0, 2, 4)]
    correlations = np.corrcoef(kernels) - np.eye(6)
    assert np.abs(correlations).max() < 0.5  # 64 entries: standard deviation 0.125


def test_initializer_with_a_fixed_seed_is_drawn_afresh_too():
    def factory():
        initializer = keras.initializers.RandomNormal(seed=3)
        return keras.Sequential([keras.Input([4]), keras.layers.Dense(4, kernel_initializer=initializer)])

    first, second = drawn(factory, 0, 1)
    assert np.all(first[0] != second[0])


def test_recurrent_and_embedding_layers_draw_their_initial_values():
    def factory():
        return keras.Sequential([keras.Input([5]), keras.layers.Embedding(20, 6), keras.layers.LSTM(4)])

    first, second = drawn(factory, 0, 1)
    embedding, kernel, recurrent, bias = range(4)
    for index in (embedding, kernel, recurrent):
        assert np.any(first[index] != second[index])
    np.testing.assert_allclose(first[recurrent] @ first[recurrent].T, np.eye(4), atol=1e-5)
    np.testing.assert_array_equal(first[bias], np.repeat([0.0, 1.0, 0.0], [4, 4, 8]))  # Keras's open forget gate


def test_unbuilt_models_are_built_by_the_callers_function():
    def factory():
        return keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])

    model = factory()
    model.build((None, FEATURES))
    initial = InitialValues(factory, model, lambda shadow: shadow.build((None, FEATURES)))
    assert initial(tf.constant([0, 0])).shape == [FEATURES * 3 + 3 + 3 * 2 + 2]


def test_factory_of_changing_architecture_is_refused():
    sizes = iter([2, 3])

    def factory():
        return keras.Sequential([keras.Input([1]), keras.layers.Dense(next(sizes))])

    with pytest.raises(ValueError, match=r"(?s)`factory` must.*\(1, 2\).*\(1, 3\).*without random choices"):
        InitialValues(factory, factory())
