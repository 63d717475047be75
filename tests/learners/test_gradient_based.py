"""MAML, ANIL and Meta-SGD against hand-made episodes, closed forms and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm

ALGORITHMS = {"MAML": tfm.MAML, "ANIL": tfm.ANIL, "MetaSGD": tfm.MetaSGD}


def linear(features=2, outputs=1, dtype="float64"):
    return keras.Sequential(
        [keras.Input([features], dtype=dtype), keras.layers.Dense(outputs, use_bias=False, dtype=dtype)]
    )


def two_layers(outputs=3, dtype="float64", **settings):
    layers = [keras.layers.Dense(4, "tanh", dtype=dtype, **settings), keras.layers.Dense(outputs, dtype=dtype)]
    return keras.Sequential([keras.Input([2], dtype=dtype), *layers])


@pytest.fixture
def regression():
    """Three tasks of five support and four query points."""
    random = np.random.default_rng(0)
    parts = [random.normal(size=[3, *shape]) for shape in ([5, 2], [5, 1], [4, 2], [4, 1])]
    return tfm.Episode(*map(tf.constant, parts[:3])), tf.constant(parts[3])


@pytest.fixture
def classification():
    random = np.random.default_rng(1)
    support_x, query_x = random.normal(size=[2, 6, 2]), random.normal(size=[2, 4, 2])
    support_y, query_y = np.array([[0, 1, 2, 2, 1, 0], [2, 1, 0, 0, 1, 2]]), np.array([[0, 1, 2, 0], [1, 1, 0, 2]])
    return tfm.Episode(*map(tf.constant, (support_x, support_y, query_x))), tf.constant(query_y)


def meta_gradient(learner, episode, query_y, loss):
    with tf.GradientTape() as tape:
        value = loss(query_y, learner(episode, training=True))
    return value, tape.gradient(value, [variable.value for variable in learner.trainable_variables])


def mse(y, outputs):
    return tf.reduce_mean((y - outputs) ** 2)


def cross_entropy(y, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


def half_squares(y, outputs):
    """Whose Hessian in a linear model is X'X."""
    return 0.5 * tf.reduce_sum((y - outputs) ** 2)


def test_a_one_parameter_episode_by_hand():
    """y = w x from w = 1: support (1, 3) has loss (w - 3)^2 and gradient -4; a step of 0.25 goes to w = 2."""
    model = linear(1, dtype="float32")
    model.set_weights([np.ones([1, 1])])
    learner = tfm.MAML(model, inner_learning_rate=0.25, inner_loss="mse")
    episode = tfm.Episode(np.float32([[[1]]]), np.float32([[[3]]]), np.float32([[[10]]]))
    np.testing.assert_allclose(learner(episode), [[[20.0]]])


@pytest.mark.parametrize(
    ("settings", "weight", "rate"),
    [({}, 1.5, None), ({"first_order": True}, 2.0, None), ({"learned_rates": True}, 1.5, 4.25)],
    ids=["second order", "first order", "learned rate"],
)
def test_a_meta_update_of_the_one_parameter_episode_by_hand(settings, weight, rate):
    """At w' = 2 the query (10, 25) has gradient 2 (20 - 25) 10 = -100. As w' = w - rate * 2 (w - 3), dw'/dw is
    1 - 2 * 0.25 = 0.5, in first order 1, and dw'/drate is 4. A step of 0.01: w = 1 + 0.5 or 1 + 1, rate = 0.25 + 4."""
    model = linear(1, dtype="float32")
    model.set_weights([np.ones([1, 1])])
    learner = tfm.MAML(model, inner_learning_rate=0.25, inner_loss="mse", **settings)
    learner.compile(keras.optimizers.SGD(0.01), loss="mse")
    episode = tfm.Episode(np.float32([[[1]]]), np.float32([[[3]]]), np.float32([[[10]]]))
    logs = learner.train_on_batch(episode, np.float32([[[25]]]), return_dict=True)
    assert logs["loss"] == pytest.approx(25)
    np.testing.assert_allclose(model.get_weights(), [[[weight]]], rtol=1e-6)
    np.testing.assert_allclose(learner.rule.rates if rate else 0, rate or 0, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_meta_gradients_are_those_of_finite_differences(name, steps, classification):
    """The closed path in float64: initial parameters and learned rates alike."""
    episode, query_y = classification
    # Keras's own losses compute in float32.
    learner = ALGORITHMS[name](two_layers(), inner_steps=steps, inner_loss=cross_entropy, dtype="float64")
    assert_finite_differences(learner, episode, query_y)
    assert len(learner.trainable_variables) == (5 if name == "MetaSGD" else 4)


def assert_finite_differences(learner, episode, query_y, places=6):
    """Of so many coordinates of each variable."""
    value = tf.function(lambda: cross_entropy(query_y, learner(episode, training=True)))
    _, gradients = meta_gradient(learner, episode, query_y, cross_entropy)
    for variable, gradient in zip(learner.trainable_variables, gradients, strict=True):
        start, step = variable.numpy(), 1e-6
        for place in list(np.ndindex(start.shape))[:places]:
            values = []
            for sign in (1, -1):
                moved = start.copy()
                moved[place] += sign * step
                variable.assign(moved)
                values.append(float(value()))
            variable.assign(start)
            assert gradient.numpy()[place] == pytest.approx((values[0] - values[1]) / (2 * step), rel=2e-5, abs=1e-8)
    assert any(np.any(np.abs(gradient) > 1e-3) for gradient in gradients)


#: Whose statistics normalise the queries: the support set's at the adapted parameters, their own, and in training of
#: averages their own too.
NORMALISATIONS = pytest.mark.parametrize(
    "mode", [{}, {"transductive": True}, {"statistics_per_step": True}], ids=["support", "transductive", "per step"]
)


@NORMALISATIONS
def test_meta_gradients_through_batch_normalisation_are_those_of_finite_differences(mode, classification):
    keras.utils.set_random_seed(0)
    dense, normalise, head = (
        layer(*arguments, dtype="float64")
        for layer, *arguments in ((keras.layers.Dense, 4), (keras.layers.BatchNormalization,), (keras.layers.Dense, 3))
    )
    tanh = keras.layers.Activation("tanh", dtype="float64")
    model = keras.Sequential([keras.Input([2], dtype="float64"), dense, normalise, tanh, head])
    learner = tfm.MAML(model, 2, 0.4, inner_loss=cross_entropy, dtype="float64", **mode)
    assert_finite_differences(learner, *classification)


@NORMALISATIONS
def test_meta_gradients_through_convolutions_are_those_of_finite_differences(mode):
    keras.utils.set_random_seed(0)
    random, before = np.random.default_rng(0), keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = tfm.backbones.conv4((8, 8, 1), filters=2, outputs=3, downsample="max", downsampled_blocks=2)
    finally:
        keras.config.set_dtype_policy(before)
    episode = tfm.Episode(
        random.normal(size=[1, 6, 8, 8, 1]), np.array([[0, 1, 2] * 2]), random.normal(size=[1, 3, 8, 8, 1])
    )
    learner = tfm.MAML(model, 2, 0.1, inner_loss=cross_entropy, dtype="float64", **mode)
    assert_finite_differences(learner, tfm.Episode(*map(tf.constant, episode)), tf.constant([[0, 1, 2]]), places=2)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_second_order_is_the_hessian_power_times_first_order(steps, regression):
    """For squared loss and a linear model each inner step multiplies by I - alpha X'X (Finn et al. 2017, eq. 1)."""
    episode, query_y = regression
    episode, query_y = tfm.Episode(*(part[:1] for part in episode)), query_y[:1]
    # A rate that float32 holds, too: Keras's initializers have no more digits.
    model, alpha = linear(), 1 / 16
    gradients = []
    for first_order in (False, True):
        learner = tfm.MAML(model, steps, alpha, first_order=first_order, inner_loss=half_squares, dtype="float64")
        gradients.append(meta_gradient(learner, episode, query_y, half_squares)[1][0].numpy())
    x = episode.support_x[0].numpy()
    jacobian = np.linalg.matrix_power(np.eye(2) - alpha * x.T @ x, steps)
    np.testing.assert_allclose(gradients[0], jacobian @ gradients[1], rtol=1e-10)


def test_first_order_equals_second_order_where_the_support_loss_is_linear(regression):
    episode, query_y = regression

    def linear_loss(y, outputs):
        return tf.reduce_sum(y * outputs)

    model, gradients = linear(), []
    for first_order in (False, True):
        learner = tfm.MAML(model, 3, 0.1, first_order=first_order, inner_loss=linear_loss, dtype="float64")
        gradients.append(meta_gradient(learner, episode, query_y, mse)[1][0])
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-10)


def test_without_inner_steps_it_is_joint_training(regression):
    episode, query_y = regression
    model = two_layers(1)
    learner = tfm.MAML(model, inner_steps=0, inner_loss="mse", dtype="float64")
    value, gradients = meta_gradient(learner, episode, query_y, mse)
    with tf.GradientTape() as tape:
        joint = mse(query_y, tf.reshape(model(tf.reshape(episode.query_x, [-1, 2])), [3, 4, 1]))
    assert float(value) == pytest.approx(float(joint))
    for expected, gradient in zip(tape.gradient(joint, model.trainable_variables), gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


def test_training_applies_the_gradient_of_the_mean_over_tasks(classification):
    episode, query_y = classification
    learner = tfm.MAML(two_layers(dtype="float32"), 2, 0.3)
    episode = tfm.Episode(tf.cast(episode[0], tf.float32), episode[1], tf.cast(episode[2], tf.float32))
    _, gradients = meta_gradient(learner, episode, query_y, cross_entropy)
    expected = [v.numpy() - 0.7 * g.numpy() for v, g in zip(learner.trainable_variables, gradients, strict=True)]
    learner.compile(keras.optimizers.SGD(0.7))
    logs = learner.train_on_batch(episode, query_y, return_dict=True)
    for variable, value in zip(learner.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)
    assert set(logs) == {"loss", "accuracy", "accuracy_ci95", "diverged"}


def test_anil_moves_nothing_but_the_head(classification):
    episode, _ = classification
    learner = tfm.ANIL(two_layers(dtype="float32"), 3, 0.5)
    x, y = tf.cast(episode.support_x[0], tf.float32), tf.cast(episode.support_y[0], tf.int32)
    classifier = learner.adapt(x.numpy(), y.numpy())
    before = tfm.functional.StatelessModel(learner.base_learner).parameters()
    moved = (tfm.functional.StatelessModel(classifier.model).parameters() != before).numpy()
    # The first layer has 2 * 4 + 4 parameters.
    assert not moved[:12].any()
    assert moved[12:].all()


@pytest.mark.parametrize("learned_rates", [False, True])
def test_variables_of_the_same_path_are_told_apart(learned_rates):
    """Keras calls the kernel of a functional trunk's "dense" and that of the head "dense" both `dense/kernel`."""
    keras.utils.set_random_seed(0)
    inner, outer = keras.Input([2]), keras.Input([2])
    trunk = keras.Model(inner, keras.layers.Dense(4, "tanh", name="dense")(inner))
    model = keras.Model(outer, keras.layers.Dense(3, name="dense")(trunk(outer)))
    paths = [variable.path for variable in model.trainable_variables]
    assert paths == ["dense/kernel", "dense/bias"] * 2
    adapted = tfm.ANIL(model, 2, 0.5, learned_rates=learned_rates).adapt(np.eye(2).repeat(2, 0), [0, 0, 1, 1]).model
    moved = [not np.array_equal(a, b) for a, b in zip(model.get_weights(), adapted.get_weights(), strict=True)]
    assert moved == [False, False, True, True]


def test_meta_sgd_with_equal_rates_is_maml(classification):
    episode, _ = classification
    episode = tfm.Episode(tf.cast(episode[0], tf.float32), episode[1], tf.cast(episode[2], tf.float32))
    model = two_layers(dtype="float32")
    maml, meta_sgd = tfm.MAML(model, 2, 0.3), tfm.MetaSGD(model, 2, (0.3, 0.3))
    np.testing.assert_allclose(maml(episode), meta_sgd(episode), rtol=1e-5, atol=1e-6)


@pytest.fixture
def normalised():
    """A base learner with batch normalisation, after some other data went through it."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6), keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]
    model = keras.Sequential([keras.Input([2]), *layers, keras.layers.Dense(3)])
    model(np.random.default_rng(5).normal(3, 2, [50, 2]).astype("float32"), training=True)
    return model


def test_query_predictions_do_not_depend_on_each_other_unless_transductive(normalised, classification):
    episode, _ = classification
    episode = tfm.Episode(tf.cast(episode[0], tf.float32), episode[1], tf.cast(episode[2], tf.float32))
    for transductive in (False, True):
        learner = tfm.MAML(normalised, 1, 0.1, transductive=transductive)
        together = learner(episode)
        alone = learner(episode._replace(query_x=episode.query_x[:, :2]))
        assert np.allclose(together[:, :2], alone, atol=1e-5) is not transductive


@pytest.mark.parametrize("transductive", [False, True])
def test_queries_are_normalised_by_the_statistics_of_support_or_query_set(normalised, classification, transductive):
    """With no inner step, by numpy: (x - mean) / sqrt(variance + 0.001) in the place of running averages."""
    episode, _ = classification
    episode = tfm.Episode(tf.cast(episode[0], tf.float32), episode[1], tf.cast(episode[2], tf.float32))
    learner = tfm.MAML(normalised, 0, transductive=transductive)
    kernel, bias, scale, shift, _, _, head, head_bias = (np.array(weight.numpy()) for weight in normalised.weights)
    for task in range(2):
        query, support = (np.asarray(part[task]) @ kernel + bias for part in (episode.query_x, episode.support_x))
        source = query if transductive else support
        hidden = (query - source.mean(0)) / np.sqrt(source.var(0) + 1e-3) * scale + shift
        expected = np.maximum(hidden, 0) @ head + head_bias
        np.testing.assert_allclose(learner(episode)[task], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_a_normalisation_that_is_called_twice_keeps_the_average_of_both_calls(momentum, classification):
    """x and 3 x + 1 go through one layer. Its average, after the first and the second, is one of momentum : 1."""
    episode, _ = classification
    x = episode.support_x[0].numpy().astype("float32")
    inputs, normalise = keras.Input([2]), keras.layers.BatchNormalization(momentum=momentum)
    both = normalise(inputs) + normalise(keras.layers.Rescaling(3, 1)(inputs))
    learner = tfm.MAML(keras.Model(inputs, keras.layers.Dense(3)(both)), 0)
    model = learner.adapt(x, [0, 1, 2, 2, 1, 0]).model
    shared = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    parts = ((x.mean(0), shared.moving_mean, 3 * x.mean(0) + 1), (x.var(0), shared.moving_variance, 9 * x.var(0)))
    for first, found, second in parts:
        np.testing.assert_allclose(found, (momentum * first + second) / (momentum + 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("transductive", [False, True])
def test_dropout_leaves_predictions_alone(normalised, classification, transductive):
    episode, _ = classification
    episode = tfm.Episode(tf.cast(episode[0], tf.float32), episode[1], tf.cast(episode[2], tf.float32))
    *layers, head = normalised.layers
    model = keras.Sequential([keras.Input([2]), *layers, keras.layers.Dropout(0.5), head])
    learners = [tfm.MAML(base_learner, 0, transductive=transductive) for base_learner in (normalised, model)]
    np.testing.assert_allclose(learners[0](episode), learners[1](episode), rtol=1e-4, atol=1e-5)


def with_dropout(network, cls=tfm.MAML, **settings):
    """A learner whose optimizer stands still: what differs from update to update are masks."""
    keras.utils.set_random_seed(0)
    model = network(keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.5, seed=3))
    learner = cls(model, 2, 0.5, **settings)
    learner.compile(keras.optimizers.SGD(0.0))
    return learner


@pytest.mark.parametrize("settings", [{}, {"multi_step_updates": 5}, {"cls": tfm.Reptile, "inner_batch_size": None}])
def test_masks_of_dropout_differ_from_task_to_task_and_update_to_update_reproducibly(settings, network, points):
    """Two tasks that are the same one: together they have another loss than the first alone has."""
    episode, query_y = points()
    twice = tfm.Episode(*(tf.gather(part, [0, 0]) for part in episode)), tf.gather(query_y, [0, 0])
    once = tfm.Episode(*(part[:1] for part in episode)), query_y[:1]

    def losses(data):
        data = tf.data.Dataset.from_tensors(data)
        return with_dropout(network, **settings).fit(data, epochs=3, verbose=0).history["loss"]

    together, alone = losses(twice), losses(once)
    assert len(set(together)) == len(set(alone)) == 3
    assert not np.any(np.isclose(together, alone, rtol=1e-4))
    assert losses(twice) == together


def test_dropout_in_the_inner_loop_is_the_same_at_every_call_but_in_training(network, points):
    (episode, query_y), learner = points(), with_dropout(network)
    data = tf.data.Dataset.from_tensors((episode, query_y))

    def answers():
        classifier = learner.adapt(episode.support_x[0], [0, 1, 2, 2, 1, 0])
        return [
            learner(episode),
            learner.predict(data, verbose=0),
            learner.evaluate(data, verbose=0),
            *(classifier.predict(episode.query_x[0], verbose=0) for _ in range(2)),
        ]

    first = answers()
    np.testing.assert_array_equal(first[-1], first[-2])
    learner.fit(data, epochs=2, verbose=0)
    for before, after in zip(first, answers(), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5)


@pytest.mark.parametrize("transductive", [False, True])
def test_frozen_batch_normalisation_keeps_its_averages(normalised, classification, transductive):
    normalised.layers[1].trainable = False
    episode, _ = classification
    episode = tfm.Episode(tf.cast(episode[0], tf.float32), episode[1], tf.cast(episode[2], tf.float32))
    learner = tfm.MAML(normalised, 0, transductive=transductive)
    for task in range(2):
        np.testing.assert_allclose(learner(episode)[task], normalised(episode.query_x[task]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_evaluation_and_adapting_change_no_variable(name, normalised, classification):
    episode, query_y = classification
    learner = ALGORITHMS[name](normalised)
    learner.compile()
    before = learner.get_weights()
    learner.evaluate(tf.data.Dataset.from_tensors((episode, query_y)), verbose=0)
    learner.adapt(episode.support_x[0], episode.support_y[0].numpy())
    for expected, weight in zip(before, learner.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_xla_agrees_with_the_graph(name, classification):
    episode, _ = classification
    episode = tfm.Episode(tf.cast(episode[0], tf.float32), episode[1], tf.cast(episode[2], tf.float32))
    learner = ALGORITHMS[name](two_layers(dtype="float32"), inner_steps=2)
    compiled = tf.function(lambda: learner(episode, training=True), jit_compile=True)()
    np.testing.assert_allclose(compiled, learner(episode, training=True), rtol=1e-4, atol=1e-5)


def sinusoids(**arguments):
    return tfm.load_episodes("sinusoids", **{"shots": 10, "queries": 10, "batch_size": 8, **arguments})


@pytest.mark.parametrize("name", ["MAML", "MetaSGD"])
def test_it_learns_to_fit_sine_waves(name, seed, tmp_path):
    """A learned initialisation beats one that was not, after the same single step (Finn et al. 2017, section 5.1)."""
    learner = ALGORITHMS[name](tfm.backbones.sinusoid_mlp(), inner_loss="mse")
    learner.compile(keras.optimizers.Adam(3e-3), loss="mse")
    test = sinusoids(seed=1, episodes=80)
    before = learner.evaluate(test, verbose=0, return_dict=True)
    learner.fit(sinusoids(), steps_per_epoch=150, epochs=2, verbose=0)
    after = learner.evaluate(test, verbose=0, return_dict=True)
    assert set(after) == {"loss", "loss_before", "loss_ci95", "diverged"}
    assert after["loss"] < 0.75 * before["loss"]
    assert after["loss"] < after["loss_before"]
    assert 0 < after["loss_ci95"] < after["loss"]
    learner.save(tmp_path / "learner.keras")
    again = keras.saving.load_model(tmp_path / "learner.keras")
    assert again.evaluate(test, verbose=0, return_dict=True) == pytest.approx(after, rel=1e-5)


def test_adapting_gives_a_keras_model_of_any_labels(seed, tmp_path):
    learner = tfm.MAML(two_layers(dtype="float32"), 30, 0.5, first_order=True)
    x = np.random.default_rng(0).normal(size=[9, 2]).astype("float32")
    labels = np.array(["cat", "dog", "dog"] * 3)
    x[labels == "dog"] += 4
    classifier = learner.adapt(x, labels)
    assert classifier.classes == ["cat", "dog"]
    said = [classifier.classes[place] for place in classifier.predict(x, verbose=0).argmax(axis=1)]
    assert said == labels.tolist()
    classifier.save(tmp_path / "classifier.keras")
    again = keras.saving.load_model(tmp_path / "classifier.keras")
    assert again.classes == ["cat", "dog"]
    np.testing.assert_allclose(again.predict(x, verbose=0), classifier.predict(x, verbose=0), rtol=1e-6)


def test_adapted_classifiers_predict_what_the_learner_predicts(normalised, classification):
    episode, _ = classification
    learner = tfm.MAML(normalised, 2, 0.1)
    x, y, query = (np.asarray(part[0]) for part in episode)
    order = list(dict.fromkeys(y.tolist()))
    renamed = np.array([order.index(label) for label in y])
    x, query = x.astype("float32"), query.astype("float32")
    expected = tf.nn.softmax(learner(tfm.Episode(x[None], renamed[None], query[None])))
    np.testing.assert_allclose(learner.adapt(x, y).predict(query, verbose=0), expected[0], rtol=1e-4, atol=1e-5)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"`base_learner` must be a built Keras model[\s\S]*Received"):
        tfm.MAML(lambda x: x)
    with pytest.raises(ValueError, match=r"`inner_steps` must be an integer >= 0\. Received: inner_steps=-1"):
        tfm.MAML(two_layers(), inner_steps=-1)
    with pytest.raises(ValueError, match=r"at most 3 classes[\s\S]*4 classes"):
        tfm.MAML(two_layers(dtype="float32")).adapt(np.zeros([4, 2]), list("abcd"))
    with pytest.raises(ValueError, match=r"a label for each\. Received: 4 examples and 2 labels\.\nGive each example"):
        tfm.MAML(two_layers(dtype="float32")).adapt(np.zeros([4, 2]), list("ab"))
    classifier = tfm.MAML(two_layers(dtype="float32")).adapt(np.zeros([2, 2]), list("ab"))
    with pytest.raises(ValueError, match=r"`add_class` needs a classifier of a metric learner[\s\S]*Adapt anew"):
        classifier.add_class("c", np.zeros([1, 2]))


@pytest.mark.parametrize(
    "inner_loss",
    [
        None,
        "sparse_categorical_crossentropy",
        cross_entropy,
        lambda y, logits: tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)),
        lambda y, logits: keras.losses.CategoricalCrossentropy(from_logits=True)(tf.one_hot(y, 3), logits),
    ],
    ids=["default", "name", "function", "wrapped", "one-hot"],
)
def test_a_loss_that_takes_labels_classifies(inner_loss):
    learner = tfm.MAML(two_layers(dtype="float32"), inner_loss=inner_loss)
    classifier = learner.adapt(np.zeros([3, 2]), ["a", "b", "b"])
    assert classifier.classes == ["a", "b"]
    with pytest.raises(ValueError, match=r"`support_y` must be 0 to 2, as the base learner has 3 outputs"):
        learner(tfm.Episode(np.zeros([1, 4, 2]), np.arange(4)[None], np.zeros([1, 1, 2])))


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize(
    "inner_loss", ["mse", keras.losses.Huber(), keras.losses.MeanAbsoluteError(), mse, half_squares, "log_cosh"]
)
def test_a_loss_that_takes_no_labels_is_of_a_regression(inner_loss, outputs):
    learner = tfm.MAML(two_layers(outputs, dtype="float32"), inner_loss=inner_loss)
    adapted = learner.adapt(np.zeros([outputs, 2]), np.zeros([outputs, outputs]))
    assert adapted.predict(np.zeros([4, 2]), verbose=0).shape == (4, outputs)
    with pytest.raises(ValueError, match=r"`support_y` must be numbers \[support, .*\] in a regression"):
        learner.adapt(np.zeros([2, 2]), ["a", "b"])


def test_values_without_the_axis_of_outputs_are_refused_with_the_remedy():
    learner = tfm.MAML(two_layers(1, dtype="float32"), inner_loss="mse")
    with pytest.raises(ValueError, match=r"Received: shape \(4,\)\.\n.*take `support_y\[:, None\]`"):
        learner.adapt(np.zeros([4, 2]), np.zeros(4))
    episode = tfm.Episode(np.zeros([2, 4, 2]), np.zeros([2, 4]), np.zeros([2, 1, 2]))
    with pytest.raises(ValueError, match=r"Received: \[2, 4\]\.\n.*take `support_y\[\.\.\., None\]`"):
        learner(episode)


def test_values_of_a_regression_on_integers_stay_what_they_are():
    """Zero weights and a step of 0.5 on the mean square of 0.7 - bias put the bias at 0.7."""
    layers = [keras.layers.Embedding(5, 2), keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer="zeros")]
    learner = tfm.MAML(keras.Sequential([keras.Input([1], dtype="int32"), *layers]), 1, 0.5, inner_loss="mse")
    learner.base_learner.layers[0].set_weights([np.zeros([5, 2])])
    adapted = learner.adapt(np.array([[1], [2]]), np.full([2, 1], 0.7))
    np.testing.assert_allclose(adapted.predict(np.array([[3]]), verbose=0), [[0.7]], rtol=1e-6)


@pytest.mark.parametrize("inner_loss", ["mse", keras.losses.MeanSquaredError(), mse], ids=["name", "loss", "function"])
def test_what_a_regression_adapts_to_evaluates_saves_and_loads(inner_loss, regression, tmp_path):
    episode, query_y = regression
    adapted = tfm.MAML(two_layers(1, dtype="float32"), inner_loss=inner_loss).adapt(episode[0][0], episode[1][0])
    x, y = episode.query_x[0].numpy(), query_y[0].numpy()
    predicted = adapted.predict(x, verbose=0)
    assert adapted.evaluate(x, y, verbose=0) == pytest.approx(np.mean((predicted - y) ** 2), rel=1e-5)
    adapted.save(tmp_path / "adapted.keras")
    again = keras.saving.load_model(tmp_path / "adapted.keras", custom_objects={"mse": mse})
    np.testing.assert_array_equal(again.predict(x, verbose=0), predicted)
    assert again.evaluate(x, y, verbose=0) == pytest.approx(np.mean((predicted - y) ** 2), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16"])
def test_a_learner_computes_as_its_base_learner_does(points, dtype):
    layers = [keras.layers.Dense(4, "tanh", dtype=dtype), keras.layers.Dense(3, dtype=dtype)]
    learner = tfm.MAML(keras.Sequential([keras.Input([2]), *layers]))
    assert learner.dtype_policy.name == dtype
    learner.compile()
    learner.train_on_batch(*points())
    predicted = learner(points()[0])
    assert predicted.dtype == learner.compute_dtype
    assert np.isfinite(predicted).all()
