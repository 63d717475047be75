"""What every few-shot learner promises. Learners are found by themselves in `tf_metalearn.__all__`.

A learner is made of a small network: a classifier where its first argument is a `base_learner`, an embedding where it
is an `embedding`. One whose other arguments have defaults needs nothing here. One that has others, or kinds that are
worth a run of their own, adds a line to `EXAMPLES`.
"""

import concurrent.futures
import contextlib
import functools
import inspect
import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm

WAYS, TASKS = 3, 2

#: Arguments beside the network: the first are the small case of `make test`, the rest are the matrix. A learner that
#: has a `ways` is told them: XLA must know.
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "ANIL": [{}, {"inner_steps": 3, "transductive": True}],
    "FineTuning": [{"classes": 64, "inner_steps": 5, "method": method} for method in ("probe", "full")],
    "MAML": [
        {},
        {"transductive": True},
        {"first_order": True},
        {"inner_steps": 3, "evaluation_steps": 5, "inner_batch_size": 4},
        {"inner_steps": 2, "statistics_per_step": True},
        {"inner_steps": 2, "learned_rates": True, "multi_step_updates": 50, "first_order_updates": 20},
    ],
    "MatchingNetwork": [{}, {"full_context": True}],
    "MetaLSTM": [{"inner_steps": 3}, {"inner_steps": 4, "inner_batch_size": 5}],
    "MetaSGD": [{}, {"first_order": True}],
    "PrototypicalNetwork": [{}, {"distance": "cosine"}, {"ways": None}],
    "Reptile": [{"inner_learning_rate": 0.03, "evaluation_steps": 3}],
}


class Case(NamedTuple):
    """A learner's class, the constructor's arguments, and whether examples are images (for conv4) or points."""

    cls: type[tfm.FewShotLearner]
    arguments: dict[str, Any]
    images: bool


def public_learners():
    for name in tfm.__all__:
        found = getattr(tfm, name)
        if inspect.isclass(found) and issubclass(found, tfm.FewShotLearner) and found is not tfm.FewShotLearner:
            yield found


def cases():
    for cls in public_learners():
        told = {"ways": WAYS} if "ways" in inspect.signature(cls).parameters else {}
        examples = [{**told, **arguments} for arguments in EXAMPLES.get(cls.__name__, [{}])]
        for index, arguments in enumerate(examples):
            marks = [pytest.mark.slow] if index else []
            yield pytest.param(Case(cls, arguments, images=False), id=f"{cls.__name__}-{index}", marks=marks)
        yield pytest.param(Case(cls, examples[0], images=True), id=f"{cls.__name__}-conv4", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=cases())
def case(request):
    return request.param


#: For tests that take long.
SMALL = [param for param in cases() if not param.marks]


def test_public_learners_are_found():
    assert {"ANIL", "MAML", "MetaSGD", "PrototypicalNetwork"} <= {cls.__name__ for cls in public_learners()}


# Making learners -----------------------------------------------------------------------------------------------------


def role_of(case):
    """The name of the argument that is the network."""
    return next(iter(inspect.signature(case.cls).parameters))


def network(case, dtype):
    classifies, maps = role_of(case) == "base_learner", getattr(case.cls, "feature_axes", 2) == 4
    if case.images:
        settings = {"flatten": False, "downsampled_blocks": 2} if maps else {}
        return tfm.backbones.conv4((8, 8, 1), filters=8, outputs=WAYS if classifies else None, **settings)
    last = keras.layers.Reshape([2, 2, 4], dtype=dtype) if maps else None
    return keras.Sequential(
        [
            keras.Input([4], dtype=dtype),
            keras.layers.Dense(16, dtype=dtype),
            keras.layers.BatchNormalization(dtype=dtype),
            keras.layers.ReLU(dtype=dtype),
            last or keras.layers.Dense(WAYS if classifies else 4, dtype=dtype),
        ]
    )


def make(case, dtype=None):
    """A new learner; of the same initial weights each time."""
    keras.utils.set_random_seed(0)
    arguments = case.arguments if dtype is None else {**case.arguments, "dtype": dtype}
    return case.cls(network(case, dtype), **arguments)


@functools.cache
def toy(images):
    """Classes are well separated clusters in two features, which the learner must tell from two of noise. Pixels are
    random mixtures of the four."""
    random = np.random.default_rng(0)
    centres = np.repeat(random.uniform(-1, 1, [100, 2]), 20, axis=0)
    x = np.concatenate([random.normal(centres, 0.05), random.normal(0, 1.5, centres.shape)], axis=1)
    x = (x @ random.normal(0, 0.5, [4, 64])).reshape(-1, 8, 8, 1) if images else x
    return x.astype("float32"), np.repeat(range(100), 20)


@functools.cache
def episodes(images, **arguments):
    defaults = {"ways": WAYS, "shots": 3, "queries": 3, "batch_size": TASKS}
    return tfm.load_episodes(toy(images), **{**defaults, **arguments})


@functools.cache
def labelled_examples(images, **arguments):
    return tfm.load_examples(toy(images), **arguments)


@functools.cache
def first_of(data):
    """The first batch of a data set, which takes longer to draw than a small step."""
    return next(data.as_numpy_iterator())


def training_data(case, tasks=TASKS):
    """What `fit` takes: episodes; or labelled examples, of a learner that is told how many `classes` there are."""
    if "classes" in inspect.signature(case.cls).parameters:
        return labelled_examples(case.images, batch_size=16 * tasks)
    return episodes(case.images, batch_size=tasks)


class Trained(NamedTuple):
    """A learner after some training on the toy, which tests leave as it is.

    Args:
        learner: The learner.
        predict: `learner(episode)` as numbers, compiled once for any number of tasks.
        before: Accuracies on tasks of unseen classes, before training.
        after: The same after it.
    """

    learner: Any
    predict: Callable[[tfm.Episode], np.ndarray]
    before: np.ndarray
    after: np.ndarray


@pytest.fixture(scope="module")
def trained(case):
    learner, unseen = make(case), episodes(case.images, split="test", episodes=60, batch_size=60)
    unseen, labels = first_of(unseen)
    any_tasks = tfm.Episode(*(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in unseen))
    compiled = tf.function(learner, input_signature=[any_tasks])

    def predict(episode):
        return compiled(tfm.Episode(*map(tf.convert_to_tensor, episode))).numpy()

    def accuracies():
        return (predict(unseen).argmax(axis=-1) == labels).mean(axis=1)

    before = accuracies()
    learner.compile(keras.optimizers.Adam(0.03))
    learner.optimizer.build(learner.trainable_variables)  # Else Keras would trace the training step twice.
    learner.fit(training_data(case, tasks=4), steps_per_epoch=60, verbose=0)
    return Trained(learner, predict, before, accuracies())


@pytest.fixture(scope="module")
def learner(trained):
    return trained.learner


@pytest.fixture(scope="module")
def predict(trained):
    return trained.predict


@pytest.fixture(scope="module")
def episode(case):
    return first_of(episodes(case.images))[0]


@pytest.fixture(scope="module")
def alone(episode):
    """Its first task."""
    return tfm.Episode(*(part[:1] for part in episode))


@pytest.fixture(scope="module")
def expected(predict, episode):
    return predict(episode)


@pytest.fixture
def eagerly():
    """Compiles nothing: it is not worth it for a call or two."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def assert_same_values(left, right, **tolerance):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, **{"rtol": 0, "atol": 0, **tolerance})


def values(variables):
    return [variable.numpy() for variable in variables]


def differs(left, right):
    return any(not np.array_equal(one, other) for one, other in zip(left, right, strict=True))


def as_dtype(episode, dtype):
    return episode._replace(support_x=tf.cast(episode.support_x, dtype), query_x=tf.cast(episode.query_x, dtype))


# Predictions ---------------------------------------------------------------------------------------------------------


def test_predictions_have_a_row_a_query_and_a_column_a_way(learner, episode, expected):
    assert expected.shape == (TASKS, episode.query_x.shape[1], WAYS)
    assert expected.dtype == learner.compute_dtype
    assert np.all(np.isfinite(expected))
    # Not the same for all queries.
    assert np.all(expected.std(axis=1) > 0)


def test_eager_and_xla_predictions_are_those_of_the_graph(learner, episode, alone, expected):
    np.testing.assert_allclose(learner(alone), expected[:1], rtol=1e-2, atol=5e-3)
    if getattr(learner, "ways", WAYS) is None:
        pytest.skip("reads the ways off the labels, which XLA cannot")
    compiled = tf.function(learner, jit_compile=True)(episode)
    np.testing.assert_allclose(compiled, expected, rtol=1e-2, atol=5e-3)


def test_a_query_is_predicted_whatever_the_other_queries_are_unless_transductive(learner, episode, predict, expected):
    others = np.concatenate([episode.query_x[:, :1], 3 - 2 * episode.query_x[:, 1:]], axis=1)
    same = np.allclose(predict(episode._replace(query_x=others))[:, 0], expected[:, 0], rtol=1e-4, atol=1e-4)
    assert same is not getattr(learner, "transductive", False)


def test_the_same_query_twice_gets_the_same_prediction(episode, predict):
    twice = np.concatenate([episode.query_x[:, :1], episode.query_x[:, :-1]], axis=1)
    predicted = predict(episode._replace(query_x=twice))
    np.testing.assert_allclose(predicted[:, 1], predicted[:, 0], rtol=1e-5, atol=1e-6)


def test_a_task_is_predicted_whatever_the_other_tasks_are(episode, predict, expected):
    others = tfm.Episode(*(np.concatenate([part[:1], part[1:, ::-1]]) for part in episode))
    others = others._replace(support_x=np.concatenate([others.support_x[:1], 3 - 2 * others.support_x[1:]]))
    predicted = predict(others)
    assert not np.allclose(predicted[1], expected[1], atol=1e-2)
    np.testing.assert_allclose(predicted[0], expected[0], rtol=1e-4, atol=1e-5)


def test_the_order_of_support_examples_does_not_matter(learner, episode, predict, expected):
    if getattr(learner, "inner_batch_size", None) or getattr(learner, "full_context", False):
        pytest.skip("takes the support set in batches, one after the other, or reads it in order by an LSTM")
    order = np.random.default_rng(0).permutation(episode.support_y.shape[1])
    shuffled = episode._replace(support_x=episode.support_x[:, order], support_y=episode.support_y[:, order])
    np.testing.assert_allclose(predict(shuffled), expected, rtol=1e-3, atol=1e-3)


def test_relabelling_the_support_set_permutes_the_predictions(learner, episode, predict, expected):
    """Of a base learner, the columns of its head are permuted as well: before adaptation each stands for a label."""
    permutation = np.array([2, 0, 1])
    with with_head_of(learner, permutation) if hasattr(learner, "base_learner") else contextlib.nullcontext():
        relabelled = predict(episode._replace(support_y=permutation[episode.support_y].astype("int32")))
    np.testing.assert_allclose(relabelled[..., permutation], expected, rtol=1e-3, atol=1e-3)
    assert not np.allclose(relabelled, expected, atol=1e-2)


@contextlib.contextmanager
def with_head_of(learner, permutation):
    """Moves column c of the base learner's last layer to `permutation[c]`, and with it whatever the learner keeps for
    each of these parameters."""
    model, inverse = learner.base_learner, np.argsort(permutation)
    head = {id(variable) for variable in model.layers[-1].trainable_variables}
    order, start = [], 0
    for variable in model.trainable_variables:
        places = np.arange(start, start + int(np.prod(variable.shape))).reshape(variable.shape)
        order.append((places[..., inverse] if id(variable) in head else places).reshape(-1))
        start += places.size
    order = np.concatenate(order)
    before = learner.get_weights()
    for variable in learner.weights:
        if id(variable) in head:
            variable.assign(variable.numpy()[..., inverse])
        elif variable.shape[:1] == (start,):
            variable.assign(variable.numpy()[order])
    yield
    learner.set_weights(before)


@pytest.mark.usefixtures("eagerly")
def test_evaluation_prediction_and_adapting_change_no_variable(case, alone):
    learner = make(case)
    learner.compile()
    before = values(learner.variables)
    labels = first_of(episodes(case.images))[1][:1]
    learner.evaluate(tf.data.Dataset.from_tensors((alone, labels)), verbose=0)
    learner.predict(tf.data.Dataset.from_tensors((alone,)), verbose=0)
    learner.adapt(alone.support_x[0], alone.support_y[0])
    assert_same_values(values(learner.variables), before)


# Saving --------------------------------------------------------------------------------------------------------------


def plain(config):
    """As a file holds it, where tuples are lists."""
    return json.loads(json.dumps(config))


def test_config_round_trip(case, learner):
    config = plain(learner.get_config())
    again = case.cls.from_config(config)
    assert plain(again.get_config()) == config
    assert [variable.shape for variable in again.variables] == [variable.shape for variable in learner.variables]


def test_every_argument_is_in_the_config(case, learner):
    config = learner.get_config()
    arguments = {
        name
        for name, parameter in inspect.signature(case.cls).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    assert arguments | case.arguments.keys() <= config.keys()
    assert {name: config[name] for name in case.arguments} == case.arguments


def test_it_saves_and_reloads_equal(learner, alone, tmp_path):
    learner.save(tmp_path / "learner.keras")
    reloaded = keras.saving.load_model(tmp_path / "learner.keras")
    assert type(reloaded) is type(learner)
    assert plain(reloaded.get_config()) == plain(learner.get_config())
    assert_same_values(values(reloaded.variables), values(learner.variables))
    np.testing.assert_array_equal(reloaded(alone), learner(alone))


class Interruption(Exception):
    pass


class SaveAndInterrupt(keras.callbacks.Callback):
    """Saves the learner when the second epoch begins, and stops the training."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.save(self.path)
            raise Interruption


def fit(case, learner, epochs, *callbacks):
    """Epochs of one step on the same batch."""
    data = tf.data.Dataset.from_tensors(first_of(training_data(case, tasks=1)))
    return learner.fit(data, epochs=epochs, callbacks=list(callbacks), verbose=0)


def beginner(case):
    learner = make(case)
    learner.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return learner


def state_of(learner):
    return values(learner.variables + learner.optimizer.variables)


@pytest.fixture(scope="module")
def after_two_epochs(case):
    learner = beginner(case)
    fit(case, learner, 2)
    return state_of(learner)


@pytest.fixture(scope="module")
def interrupted(case, tmp_path_factory):
    """A folder with what a training of two epochs left behind after the first."""
    folder = tmp_path_factory.mktemp("interrupted")
    callbacks = keras.callbacks.BackupAndRestore(folder / "backup"), SaveAndInterrupt(folder / "learner.keras")
    with pytest.raises(Interruption):
        fit(case, beginner(case), 2, *callbacks)
    return folder


def test_training_that_was_interrupted_resumes_bit_for_bit(case, interrupted, after_two_epochs):
    learner = beginner(case)
    history = fit(case, learner, 2, keras.callbacks.BackupAndRestore(interrupted / "backup"))
    assert history.epoch == [1]
    assert_same_values(state_of(learner), after_two_epochs)


def test_saved_in_the_middle_of_training_it_goes_on_as_the_original_does(case, interrupted, after_two_epochs):
    learner = keras.saving.load_model(interrupted / "learner.keras")
    middle = state_of(learner)
    fit(case, learner, 1)
    assert_same_values(state_of(learner), after_two_epochs)
    assert differs(middle, after_two_epochs)


# Training ------------------------------------------------------------------------------------------------------------


def test_it_learns_on_a_toy(trained):
    """On classes that it has not seen, by more than both 95 % intervals; chance is a third."""
    (before, uncertain), (after, still_uncertain) = (
        (accuracies.mean(), 1.96 * accuracies.std() / np.sqrt(len(accuracies)))
        for accuracies in (trained.before, trained.after)
    )
    assert after - still_uncertain > before + uncertain
    assert after > 0.5


def after_a_step(case, scope=contextlib.nullcontext, fixed_statistics=False, **settings):
    """The weights and the figures after a step of gradient descent."""
    with scope():
        learner = make(case)
        for layer in learner._flatten_layers() if fixed_statistics else []:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        learner.compile(keras.optimizers.SGD(0.5), **settings)
    start = learner.get_weights()
    history = learner.fit(tf.data.Dataset.from_tensors(first_of(training_data(case))), verbose=0).history
    assert differs(start, learner.get_weights())
    return learner.get_weights(), history


def assert_two_replicas_train_as_one_device(case, mirrored, **settings):
    """An embedding is normalised by fixed statistics here: in training, those of a replica are of its own examples."""
    settings["fixed_statistics"] = role_of(case) == "embedding"
    expected, expected_logs = after_a_step(case, **settings)
    weights, logs = after_a_step(case, mirrored.scope, **settings)
    assert_same_values(weights, expected, rtol=1e-4, atol=1e-5)
    assert logs.keys() == expected_logs.keys()
    assert_same_values(logs.values(), expected_logs.values(), rtol=1e-4, atol=1e-5)


def test_a_step_on_two_replicas_equals_one_on_one_device(case, mirrored):
    assert_two_replicas_train_as_one_device(case, mirrored, run_eagerly=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", SMALL, indirect=True)
def test_a_compiled_step_on_two_replicas_equals_one_on_one_device(case, mirrored):
    assert_two_replicas_train_as_one_device(case, mirrored)


@pytest.mark.slow
@pytest.mark.parametrize("case", SMALL, indirect=True)
def test_eager_and_xla_steps_are_those_of_the_graph(case):
    (expected, _), (eager, _), (compiled, _) = (
        after_a_step(case, **mode) for mode in ({}, {"run_eagerly": True}, {"jit_compile": True})
    )
    assert_same_values(eager, expected, rtol=1e-3, atol=1e-4)
    assert_same_values(compiled, expected, rtol=1e-3, atol=1e-4)


# Number formats ------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_double_precision(case, alone, eagerly):
    if case.images:
        pytest.skip("conv4 has the dtype of Keras's global policy")
    return make(case, "float64"), as_dtype(alone, "float64")


def test_predictions_in_double_precision_lose_none_on_the_way(in_double_precision):
    """Answers to shifts of 1e-9 and 2e-9 are as one to two; in single precision there would be none."""
    learner, episode = in_double_precision
    start = learner(episode)
    assert start.dtype == "float64"
    near = [
        learner(episode._replace(**{part: getattr(episode, part) + 1e-9})) - start for part in ("support_x", "query_x")
    ]
    far = learner(episode._replace(support_x=episode.support_x + 2e-9, query_x=episode.query_x + 2e-9)) - start
    assert all(np.any(answer) for answer in near)
    np.testing.assert_allclose(far, 2 * sum(near), rtol=1e-3, atol=1e-13)


def test_it_trains_in_double_precision(case, in_double_precision):
    learner, _ = in_double_precision
    learner.compile(keras.optimizers.SGD(0.5))
    before = learner.get_weights()
    learner.train_on_batch(*first_of(training_data(case, tasks=1)))
    assert differs(before, learner.get_weights())
    assert all(np.all(np.isfinite(weight)) for weight in learner.get_weights())
    assert all(variable.dtype == "float64" for variable in learner.trainable_variables)


def test_it_adapts_in_double_precision(in_double_precision):
    learner, episode = in_double_precision
    classifier = learner.adapt(episode.support_x[0], np.array(episode.support_y[0]))
    start, near = classifier(episode.query_x[0]), classifier(episode.query_x[0] + 1e-9)
    assert start.dtype == "float64"
    assert np.any(near - start)


@pytest.mark.slow
def test_a_step_in_mixed_precision_goes_where_one_in_single_does(case):
    def step(policy, optimizer):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            learner = make(case)
            learner.compile(optimizer)
        finally:
            keras.config.set_dtype_policy(before)
        start = learner.get_weights()
        learner.train_on_batch(*first_of(training_data(case)))
        assert all(variable.dtype == "float32" for variable in learner.trainable_variables)
        return np.concatenate([np.ravel(a - b) for a, b in zip(learner.get_weights(), start, strict=True)])

    expected = step("float32", keras.optimizers.SGD(0.1))
    # A small scale: the one that Keras begins with overflows at first, and would leave out this step.
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=16.0)
    moved = step("mixed_float16", scaled)
    # Where a gradient is all rounding, an adaptive rule makes much of it: a bias before batch normalisation.
    assert 0 < np.linalg.norm(moved - expected) < 0.5 * np.linalg.norm(expected)


# Adapting to one task ------------------------------------------------------------------------------------------------

#: Of any hashable kind; three, five and one examples.
LABELS = [7, "cat", ("a", 3), "cat", "cat", 7, "cat", "cat", 7]


@pytest.fixture(scope="module")
def tasks(case):
    """Two support sets, one with labels of any kind, the other with numbers that do not begin with 0."""
    x, y = toy(case.images)
    places = {7: 0, "cat": 20, ("a", 3): 40}
    rows = [places[label] + LABELS[:place].count(label) for place, label in enumerate(LABELS)]
    return (x[rows], LABELS), (x[100:190:10], y[100:190:10] // 2)


@pytest.fixture(scope="module")
def classifiers(learner, tasks):
    """Made side by side in two threads, as soon as the learner is there: nothing was compiled for them before."""
    together = threading.Barrier(len(tasks))

    def adapt(task):
        together.wait()
        return learner.adapt(*task)

    with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(adapt, tasks))


@pytest.fixture
def examples(tasks):
    return tasks[0][0]


@pytest.fixture
def classifier(classifiers):
    return classifiers[0]


def test_two_threads_that_adapt_at_once_get_what_they_get_one_after_the_other(learner, tasks, classifiers):
    for task, classifier in zip(tasks, classifiers, strict=True):
        again = learner.adapt(*task)
        assert classifier.classes == again.classes
        np.testing.assert_allclose(classifier(task[0]), again(task[0]), rtol=1e-5, atol=1e-6)


def test_adapting_gives_a_keras_model_of_probabilities_for_any_labels(classifier, examples):
    assert isinstance(classifier, keras.Model)
    assert classifier.classes == [7, "cat", ("a", 3)]
    probabilities = classifier.predict(examples, verbose=0)
    assert probabilities.shape == (len(LABELS), 3)
    assert np.all(probabilities >= 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_a_classifier_evaluates_on_labels_of_the_kind_that_it_was_adapted_to(classifier, examples):
    """The accuracy by hand, of labels that are partly wrong and in another order than the classes."""
    labels = [("a", 3), *LABELS[1:5], "cat", 7, 7, 7]
    probabilities = classifier.predict(examples, verbose=0)
    places = [classifier.classes.index(label) for label in labels]
    found = classifier.evaluate(examples, labels, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(np.mean(probabilities.argmax(axis=1) == places))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:0], []), r"`support_[xy]` must have[\s\S]*Received: 0 examples"),
        (lambda x, y: (x, ["cat"] * len(y)), r"`support_y` must have two classes or more\. Received: only 'cat'"),
        (lambda x, y: (x, [[0, 1]] * len(y)), r"`support_y` must hold one hashable.*Received: \[0, 1\]\.\n.*argmax"),
        (lambda x, y: (x, y[:-1]), r"a label for[\s\S]*Received: 9 examples and 8 labels\.\nGive each example its own"),
        (lambda x, y: ([*x[:-1], x[-1][:-1]], y), r"`support_x` must have examples of one shape\. Received: .*, \("),
        (lambda x, y: (x[:, :-1], y), r"`(support_)?x` must be \[.*examples, "),
        (lambda x, y: (np.where(x == x[:1], np.nan, x), y), r"must (hold|be) finite"),
    ],
    ids=["nothing", "one class", "one-hot", "too few labels", "mixed shapes", "another shape", "NaN"],
)
def test_adapting_refuses_what_is_no_support_set(learner, examples, change, message):
    with pytest.raises(ValueError, match=message):
        learner.adapt(*change(examples, LABELS))


def test_a_class_without_a_hashable_label_is_refused(classifier, examples):
    with pytest.raises(ValueError, match=r"`label` must hold .*Received: \['x'\]|`add_class` needs"):
        classifier.add_class(["x"], examples[:1])


def test_a_classifier_saves_and_loads_with_its_classes(classifier, examples, tmp_path):
    classifier.save(tmp_path / "classifier.keras")
    again = keras.saving.load_model(tmp_path / "classifier.keras")
    assert type(again) is type(classifier)
    assert again.classes == classifier.classes
    np.testing.assert_array_equal(again(examples), classifier(examples))


def test_a_class_that_is_added_is_as_if_it_had_been_there(learner, examples, classifier, tmp_path):
    if not hasattr(classifier, "add_classes"):
        with pytest.raises(ValueError, match=r"`add_class` needs a classifier of a metric learner"):
            classifier.add_class("new", examples)
        return
    # Class by class, in which order full context embeddings see the whole support set.
    order = sorted(range(len(LABELS)), key=lambda place: classifier.classes.index(LABELS[place]))
    x, labels = examples[order], [LABELS[place] for place in order]
    whole, known = learner.adapt(x, labels), sum(label != labels[-1] for label in labels)
    grown = learner.adapt(x[:known], labels[:known])
    before = grown.logits(examples).numpy()
    grown.add_class(labels[-1], x[known:])
    assert grown.classes == whole.classes
    after = grown.logits(examples).numpy()
    np.testing.assert_allclose(after, whole.logits(examples), rtol=1e-4, atol=1e-5)
    if not getattr(learner, "full_context", False):
        np.testing.assert_allclose(after[:, :-1], before, rtol=1e-4, atol=1e-5)
    grown.save(tmp_path / "grown.keras")
    again = keras.saving.load_model(tmp_path / "grown.keras")
    assert again.classes == whole.classes
    np.testing.assert_array_equal(again.logits(examples), after)


def test_a_classifier_shares_no_variable_with_the_learner(learner, classifier):
    assert not {id(variable) for variable in learner.variables} & {id(variable) for variable in classifier.variables}


def test_a_classifier_predicts_what_the_learner_predicts(learner, episode, predict, expected):
    """Probabilities are the softmax of the logits."""
    labels = episode.support_y[0]
    order = np.array(list(dict.fromkeys(labels.tolist())))
    classifier = learner.adapt(episode.support_x[0], labels)
    assert classifier.classes == order.tolist()
    probabilities = np.array(classifier(episode.query_x[0]))
    if getattr(learner, "transductive", False):
        pytest.skip("a classifier normalises by its support set")
    if hasattr(learner, "base_learner"):
        # Its outputs stand for the classes in the order in which they come.
        renamed = np.argsort(order).astype("int32")[episode.support_y]
        logits = predict(episode._replace(support_y=renamed))[0]
    else:
        logits = expected[0][:, order]
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits), rtol=1e-3, atol=1e-4)
