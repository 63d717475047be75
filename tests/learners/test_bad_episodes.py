"""Episodes that no learner can use, and inner loops that diverge."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm


@pytest.fixture(params=["MAML", "PrototypicalNetwork"])
def learner(request, network):
    learner = getattr(tfm, request.param)(network())
    learner.compile(keras.optimizers.SGD(0.1))
    return learner


def changed(points, **parts):
    episode, _ = points()
    return episode._replace(
        **{name: tf.constant(change(getattr(episode, name).numpy())) for name, change in parts.items()}
    )


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("support_y", lambda y: y - 1, r"`support_y` must be 0 to .*Received labels: \[\[-1"),
        ("support_y", lambda y: np.where(y == 1, 0, y), r"`support_y` must be 0 to .*an example of each class"),
        ("support_x", lambda x: np.where(x == x[0, 0, 0], np.nan, x), r"`support_x` must be finite numbers.*NaN"),
        ("query_x", lambda x: x / 0.0, r"`query_x` must be finite numbers"),
        ("query_x", lambda x: x[..., :1], r"`query_x` must be \[tasks, examples, 2\].*Received: \[2, 4, 1\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_it_is_refused_in_words_at_once_and_in_compiled_functions(learner, points, part, change, message):
    episode = changed(points, **{part: change})
    with pytest.raises(ValueError, match=r"(?s)" + message):
        learner(episode)
    before = learner.get_weights()
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=rf"(?s)`{part}` must be"):
        learner.train_on_batch(episode, points()[1])
    for expected, weight in zip(before, learner.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def example(name, network, **settings):
    """A learner of tasks of three classes, in a line."""
    if name == "FineTuning":
        settings = {"classes": 3, "ways": 3, "inner_steps": 1, **settings}
    return getattr(tfm, name)(network(), **settings)


@pytest.mark.parametrize("wrong", [7, -1])
@pytest.mark.parametrize("eagerly", [False, True], ids=["compiled", "eagerly"])
@pytest.mark.parametrize("name", ["MAML", "Reptile", "PrototypicalNetwork", "MatchingNetwork", "FineTuning"])
def test_query_labels_that_are_no_classes_are_refused_in_words(name, eagerly, wrong, network, points):
    learner, (episode, query_y) = example(name, network), points()
    learner.compile(keras.optimizers.SGD(0.1), run_eagerly=eagerly)
    before = learner.get_weights()
    query_y = tf.where(query_y == 2, wrong, query_y)
    expected = {"match": rf"(?s)`query_y` must be 0 to (2|ways - 1), as there are (3|ways) outputs.*{wrong}"}
    refusal = ValueError if eagerly else tf.errors.InvalidArgumentError
    with pytest.raises(refusal, **expected):
        learner.test_on_batch(episode, query_y)
    if name != "FineTuning":
        with pytest.raises(refusal, **expected):
            learner.train_on_batch(episode, query_y)
    else:
        with pytest.raises(refusal, match=r"(?s)`y` must be 0 to 2.*or make a learner of more classes"):
            learner.train_on_batch(episode.query_x[0], query_y[0])
    for weight, expected in zip(learner.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_query_values_that_are_not_finite_are_refused_and_not_taken_for_divergence(method, network, points):
    learner, (episode, _) = tfm.MAML(network(outputs=1), inner_loss="mse"), points()
    learner.compile(keras.optimizers.SGD(0.1), loss="mse")
    episode = episode._replace(support_y=tf.zeros([2, 6, 1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`query_y` must be finite numbers"):
        getattr(learner, method)(episode, tf.constant(np.nan, shape=[2, 4, 1]))


def test_labels_must_be_as_many_as_the_base_learner_has_outputs(network, points):
    with pytest.raises(ValueError, match=r"`support_y` must be 0 to 3, as the base learner has 4 outputs[\s\S]*ways=4"):
        tfm.MAML(network(outputs=4))(points()[0])
    with pytest.raises(ValueError, match=r"`support_y` must be 0 to 1, as the base learner has 2 outputs[\s\S]*ways=2"):
        tfm.MAML(network(outputs=2))(points()[0])


def test_ways_of_a_learner_without_a_base_learner_are_called_so(network, points):
    """And the remedies work."""
    episode = points()[0]
    message = (
        r"`support_y` must be 0 to 3, as the learner has ways=4[\s\S]*ways=4, or take `learner.with_settings\({}\)`"
    )
    metric, baseline = tfm.PrototypicalNetwork(network(), ways=4), tfm.FineTuning(network(), classes=9, ways=4)
    with pytest.raises(ValueError, match=message.format("ways=None")):
        metric(episode)
    assert metric.with_settings(ways=None)(episode).shape == (2, 4, 3)
    with pytest.raises(ValueError, match=message.format(r"ways=\.\.\.")):
        baseline(episode)
    assert baseline.with_settings(ways=3)(episode).shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda network: tfm.FineTuning(network, classes=0), r"`classes` must be .*\nAs many as the training data"),
        (lambda network: tfm.FineTuning(network, 9, ways=0), r"`ways` must be .*\nTasks of 5"),
        (lambda network: tfm.MatchingNetwork(network, processing_steps=0), r"`processing_steps` .*\n5 are"),
        (lambda network: tfm.MAML(network, inner_steps=-1), r"`inner_steps` must be .*\nMAML takes 1 step"),
        (lambda network: tfm.MAML(network, evaluation_steps=1.5), r"`evaluation_steps` must be .*\nAs many as inner"),
        (lambda network: tfm.MAML(network, multi_step_updates=-1), r"`multi_step_updates` must be .*\n0 leaves"),
        (lambda network: tfm.MAML(network, first_order_updates=-1), r"`first_order_updates` must be .*\n0 takes"),
        (lambda network: tfm.Reptile(network, inner_batch_size=0), r"`inner_batch_size` must be .*\nNone takes"),
    ],
)
def test_numbers_out_of_range_are_refused_with_the_remedy_that_fits(make, message, network):
    with pytest.raises(ValueError, match=message):
        make(network())


def test_numbers_of_numpy_are_taken_and_saved(network, points, tmp_path):
    learner = tfm.MAML(network(), inner_steps=np.int64(2), evaluation_steps=np.int32(3))
    learner.save(tmp_path / "learner.keras")
    again = keras.saving.load_model(tmp_path / "learner.keras")
    assert (again.inner_steps, again.evaluation_steps) == (2, 3)
    np.testing.assert_array_equal(again(points()[0]), learner(points()[0]))


def steep(points):
    """Labels of a regression so large that gradient descent with a rate of 1e20 overflows."""
    (episode, _), y = points(), np.full([2, 6, 1], 1e10, "float32")
    return episode._replace(support_y=tf.constant(y)), tf.constant(y[:, :4])


def test_tasks_that_diverge_are_left_out_and_reported(network, points):
    """The first of two tasks overflows; the update is that of the second alone."""
    data = steep(points)
    calm = np.where(np.arange(2)[:, None, None] == 0, 1e10, 1.0).astype("float32")
    episode = data[0]._replace(support_y=tf.constant(np.broadcast_to(calm, [2, 6, 1])))
    query_y = tf.zeros([2, 4, 1])
    weights = []
    for part in (slice(0, 2), slice(1, 2)):
        learner = tfm.MAML(network(outputs=1), 3, 1e6, inner_loss=huge)
        learner.compile(keras.optimizers.Adam(0.01), loss="mse")
        batch = tf.data.Dataset.from_tensors((tfm.Episode(*(x[part] for x in episode)), query_y[part])).repeat(2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            logs = learner.fit(batch, verbose=0).history
        weights.append(learner.get_weights())
        said = [str(one.message) for one in caught if "diverged" in str(one.message)]
        assert logs["diverged"] == [2.0 if part.start == 0 else 0.0]
        assert len(said) == (part.start == 0)
        if said:
            assert "2 tasks diverged: from inner step 1 on" in said[0]
            assert "Lower the inner learning rate" in said[0]
    for one, other in zip(*weights, strict=True):
        assert np.all(np.isfinite(one))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def huge(y, outputs):
    """Overflows after one step where labels are large, and has no gradient where they are small."""
    return tf.reduce_mean(tf.where(y > 1e5, tf.square(outputs * y * 1e5), 0.0 * outputs))


@pytest.mark.parametrize("name", ["MAML", "MetaLSTM"])
def test_a_loss_scale_that_is_too_high_comes_down_and_is_no_divergence(name, points):
    """In float16 gradients times 2^30 are infinite: Keras leaves out such steps, and halves the scale at each."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(units, dtype="mixed_float16") for units in (4, 3)]
    model = keras.Sequential([keras.Input([2]), *layers])
    learner = getattr(tfm, name)(model, 2, dtype="mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**30)
    learner.compile(optimizer)
    start = learner.get_weights()
    logs = learner.train_on_batch(*points(), return_dict=True)
    assert (logs["diverged"], float(optimizer.dynamic_scale), int(optimizer.iterations)) == (0, 2.0**29, 0)
    for before, weight in zip(start, learner.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, before)
    after = [learner.train_on_batch(*points(), return_dict=True) for _ in range(30)][-1]
    assert 1 < float(optimizer.dynamic_scale) < 2.0**29
    assert int(optimizer.iterations) > 5
    assert (after["diverged"], after["loss"] < logs["loss"]) == (0, True)


def test_a_task_that_diverges_is_left_out_where_the_loss_is_scaled_too(network, points):
    episode, query_y = steep(points)
    learner = tfm.MAML(network(outputs=1), 3, 1e6, inner_loss=huge)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0)
    learner.compile(optimizer, loss="mse")
    assert learner.train_on_batch(episode, query_y, return_dict=True)["diverged"] == 2
    assert (float(optimizer.dynamic_scale), np.isfinite(learner.get_weights()[0]).all()) == (8.0, True)


def said_by(function, *args, **kwargs):
    """The warnings of divergence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*args, verbose=0, **kwargs)
    return [str(one.message) for one in caught if "diverged" in str(one.message)]


def test_evaluation_and_validation_warn_when_tasks_diverge(network, points):
    """Of their own tasks alone: where training goes well, it is not named."""
    data, calm = steep(points), (points()[0]._replace(support_y=tf.zeros([2, 6, 1])), tf.zeros([2, 4, 1]))
    learner = tfm.MAML(network(outputs=1), 3, 1e6, inner_loss=huge)
    learner.compile(keras.optimizers.SGD(0.0), loss="mse")
    evaluated = said_by(learner.evaluate, tf.data.Dataset.from_tensors(data))
    assert len(evaluated) == 1
    assert evaluated[0].startswith("Evaluation: The inner loop of 2 tasks diverged: from inner step 1 on")
    assert "Lower the inner learning rate" in evaluated[0]
    assert said_by(learner.evaluate, *calm) == []
    assert said_by(learner.fit, *calm, validation_data=data) == evaluated
    trained = [evaluated[0].replace("Evaluation", "Epoch 1")]
    assert said_by(learner.fit, *data, validation_data=calm) == trained
    assert said_by(learner.fit, *data, validation_data=data) == [*evaluated, *trained]


def test_adapting_warns_when_it_diverges(network):
    learner = tfm.MAML(network(outputs=1), 3, 1e6, inner_loss=huge)
    with pytest.warns(UserWarning, match=r"1 task diverged: from inner step 1 on"):
        learner.adapt(np.ones([3, 2]), np.full([3, 1], 1e10))


def test_adapting_refuses_what_is_no_support_set(network):
    learner = tfm.MAML(network())
    with pytest.raises(ValueError, match=r"`support_x` must be finite numbers"):
        learner.adapt(np.full([3, 2], np.nan), list("abc"))
    with pytest.raises(ValueError, match=r"`support_x` must be \[examples, 2\], .* shape \(3, 5\)\.\nGive as many"):
        learner.adapt(np.zeros([3, 5]), list("abc"))


ARRAYS = {
    "array": lambda x: x,
    "tensor": tf.constant,
    "pair": lambda x: (x, np.zeros(len(x))),
    "rows": lambda x: x.tolist(),
}


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("kind", ARRAYS)
def test_examples_in_the_place_of_episodes_are_refused_in_words(learner, method, kind):
    with pytest.raises(ValueError, match=r"`x` must be episodes\. Received: (?s:.*)load_episodes\(\(x, y\)") as error:
        getattr(learner, method)(ARRAYS[kind](np.zeros([30, 2])))
    assert len(str(error.value)) < 300


def test_episodes_of_all_kinds_are_taken(learner, points):
    """As a data set, from a generator, and as an `Episode`."""
    batch = points()
    data = tf.data.Dataset.from_tensors(batch)
    expected = learner.evaluate(data, verbose=0)
    assert learner.evaluate((one for one in [batch]), verbose=0) == pytest.approx(expected)
    assert learner.evaluate(*batch, verbose=0) == pytest.approx(expected)
    assert learner.predict(batch[0], verbose=0).shape == (2, 4, 3)
    assert len(learner.fit(*batch, validation_data=batch, verbose=0).history["val_loss"]) == 1


@pytest.fixture(params=["MAML", "FineTuning", "PrototypicalNetwork"])
def of_images(request):
    """A learner of grey images of 6 by 6."""
    network = keras.Sequential([keras.Input([6, 6, 1]), keras.layers.Flatten(), keras.layers.Dense(3)])
    more = {"classes": 5, "inner_steps": 1} if request.param == "FineTuning" else {}
    return getattr(tfm, request.param)(network, **more)


SHAPES = [
    ([9, 6, 6], r"The axis of channels is missing: take `{}\[\.\.\., None\]`"),
    ([6, 6, 1], r"For one example take `{}\[None\]`"),
    ([9, 6, 6, 3], r"Make the images grey: `{}\.mean\(axis=-1, keepdims=True\)`"),
    ([9, 5, 5, 1], r"Resize the images"),
]


@pytest.mark.parametrize(("shape", "remedy"), SHAPES)
def test_images_of_another_shape_are_refused_with_the_remedy_that_fits(of_images, shape, remedy):
    x, received = np.zeros(shape), re.escape(f"{tuple(shape)}.\n")
    message = r"`{}` must be \[examples, 6, 6, 1\].* shape " + received + remedy
    with pytest.raises(ValueError, match=message.format(*["support_x"] * 2)):
        of_images.adapt(x, list("abc") * 3 if len(x) == 9 else ["a"])
    classifier = of_images.adapt(np.zeros([9, 6, 6, 1]), list("abc") * 3)
    uses = [classifier, classifier.predict, lambda x: classifier.evaluate(x, ["a"] * len(x))]
    for use in [*uses, classifier.classify] if hasattr(classifier, "classify") else uses:
        with pytest.raises(ValueError, match=message.format(*["x"] * 2)) as error:
            use(x)
        assert use is classifier or "Exception encountered" not in str(error.value)


def test_the_remedy_for_too_few_labels_is_about_labels(of_images):
    with pytest.raises(ValueError, match=r"Received: 9 examples and 3 labels\.\nGive each example its own label"):
        of_images.adapt(np.zeros([9, 6, 6, 1]), list("abc"))


class Own(keras.Model):
    """A model of a class of its own, built by a first call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)
        self(np.zeros([1, 2]))

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "name", ["MAML", "ANIL", "MetaSGD", "Reptile", "MetaLSTM", "PrototypicalNetwork", "FineTuning"]
)
def test_models_of_a_class_of_their_own_are_refused_with_a_remedy_that_works(name, points):
    def make(network):
        return getattr(tfm, name)(network, **({"classes": 3, "ways": 3} if name == "FineTuning" else {}))

    with pytest.raises(
        ValueError, match=r"functional or Sequential\. .*\nWrap .*keras.Sequential\(\[keras.Input\(shape"
    ):
        make(Own())
    assert make(keras.Sequential([keras.Input([2]), Own()]))(points()[0]).shape == (2, 4, 3)


def test_a_relation_of_a_class_of_its_own_is_refused_too():
    maps = keras.Sequential([keras.Input([4, 4, 1]), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"`relation` must be .*\nWrap a model"):
        tfm.RelationNetwork(maps, Own())
