"""Prototypical networks against numpy, the paper's equations, and what few-shot learners must not depend on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.episodes import ClassTable
from tf_metalearn.learners.base import TaskInterval
from tf_metalearn.learners.metric import class_means
from tf_metalearn.learners.task_classifier import class_numbers


def identity(features=3):
    """An embedding that changes nothing."""
    inputs = keras.Input([features])
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def dense(features=3, outputs=2, **settings):
    return keras.Sequential([keras.Input([features]), keras.layers.Dense(outputs, **settings)])


@pytest.fixture
def episode():
    """Two tasks, 3-way with 1 to 3 examples a class, 4 queries."""
    random = np.random.default_rng(0)
    support_y = np.array([[0, 1, 2, 2, 1, 2], [2, 1, 0, 0, 0, 1]])
    return tfm.Episode(
        *(
            tf.constant(part)
            for part in (
                random.normal(size=[2, 6, 3]).astype("float32"),
                support_y,
                random.normal(size=[2, 4, 3]).astype("float32"),
            )
        )
    )


def expected_logits(episode, similarity):
    """By the definition: class means, one at a time."""
    logits = np.zeros([2, 4, 3])
    for task in range(2):
        x, y, query = (np.asarray(part[task], "float64") for part in episode)
        for label in range(3):
            prototype = x[y == label].mean(axis=0)
            for place, vector in enumerate(query):
                logits[task, place, label] = similarity(vector, prototype)
    return logits


def test_logits_are_minus_squared_distances_to_class_means(episode):
    logits = tfm.PrototypicalNetwork(identity())(episode)
    expected = expected_logits(episode, lambda query, prototype: -np.sum((query - prototype) ** 2))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_cosine_logits_are_scaled_cosines(episode):
    def cosine(query, prototype):
        return 10 * query @ prototype / np.linalg.norm(query) / np.linalg.norm(prototype)

    logits = tfm.PrototypicalNetwork(identity(), distance="cosine")(episode)
    np.testing.assert_allclose(logits, expected_logits(episode, cosine), rtol=1e-5, atol=1e-5)


def test_the_order_of_support_examples_does_not_matter(episode):
    learner = tfm.PrototypicalNetwork(dense())
    order = np.random.default_rng(1).permutation(6)
    shuffled = episode._replace(
        support_x=tf.gather(episode.support_x, order, axis=1), support_y=tf.gather(episode.support_y, order, axis=1)
    )
    np.testing.assert_allclose(learner(episode), learner(shuffled), rtol=1e-5, atol=1e-6)


def test_permuted_labels_permute_predictions(episode):
    learner = tfm.PrototypicalNetwork(dense())
    permutation = tf.constant([2, 0, 1])
    permuted = learner(episode._replace(support_y=tf.gather(permutation, episode.support_y)))
    np.testing.assert_allclose(tf.gather(permuted, permutation, axis=2), learner(episode), rtol=1e-5, atol=1e-6)


def test_a_query_is_predicted_whatever_the_other_queries_are(episode):
    """Batch normalisation included: at test it uses what training gathered."""
    embedding = keras.Sequential([keras.Input([3]), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    learner = tfm.PrototypicalNetwork(embedding)
    together = learner(episode, training=False)
    for place in range(4):
        alone = learner(episode._replace(query_x=episode.query_x[:, place : place + 1]), training=False)
        np.testing.assert_allclose(alone[:, 0], together[:, place], rtol=1e-5, atol=1e-6)


def test_with_one_example_a_class_it_is_the_nearest_neighbour():
    random = np.random.default_rng(0)
    support, query = random.normal(size=[1, 5, 3]).astype("float32"), random.normal(size=[1, 50, 3]).astype("float32")
    said = tf.argmax(tfm.PrototypicalNetwork(identity())(tfm.Episode(support, np.arange(5)[None], query)), -1)
    distances = np.linalg.norm(query[0, :, None] - support[0][None], axis=-1)
    np.testing.assert_array_equal(said[0], distances.argmin(axis=1))


def test_gradients_are_those_of_finite_differences(episode):
    learner = tfm.PrototypicalNetwork(dense(dtype="float64"), dtype="float64")
    episode = episode._replace(
        support_x=tf.cast(episode.support_x, "float64"), query_x=tf.cast(episode.query_x, "float64")
    )
    labels = tf.constant([[0, 1, 2, 0], [1, 1, 0, 2]])
    kernel = learner.trainable_variables[0]

    def loss():
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, learner(episode)))

    with tf.GradientTape() as tape:
        value = loss()
    gradient = tape.gradient(value, kernel.value).numpy()
    start, step = kernel.numpy(), 1e-6
    for place in np.ndindex(start.shape):
        values = []
        for sign in (1, -1):
            moved = start.copy()
            moved[place] += sign * step
            kernel.assign(moved)
            values.append(float(loss()))
        kernel.assign(start)
        assert gradient[place] == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_zero_shot_prototypes_are_embedded_metadata(episode):
    metadata = np.random.default_rng(3).normal(size=[2, 3, 5]).astype("float32")
    encoder = dense(5, 3)
    queries, prototypes = np.asarray(episode.query_x), metadata @ encoder.get_weights()[0]
    prototypes /= np.linalg.norm(prototypes, axis=-1, keepdims=True)
    unit = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
    expected = {
        "euclidean": -np.sum((queries[:, :, None] - prototypes[:, None]) ** 2, axis=-1),
        "cosine": 10 * unit @ prototypes.transpose(0, 2, 1),
    }
    for distance, logits in expected.items():
        learner = tfm.PrototypicalNetwork(identity(), distance, metadata_encoder=encoder)
        found = learner(tfm.Episode(metadata, np.tile(range(3), [2, 1]), episode.query_x))
        np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)


def test_zero_shot_tells_unseen_classes_apart_and_goes_on_with_more(tmp_path):
    """An example is a fixed mixture of its class's metadata, with noise."""
    random = np.random.default_rng(0)
    metadata = random.normal(size=[60, 4]).astype("float32")
    y = np.repeat(range(60), 12)
    x = (metadata @ random.normal(size=[4, 6]))[y] + 0.05 * random.normal(size=[720, 6])
    classes = ClassTable.of(x.astype("float32"), y, metadata={str(place): row for place, row in enumerate(metadata)})
    seen, unseen = (classes.select(names) for names in (classes.names[:50], classes.names[50:]))
    keras.utils.set_random_seed(0)
    learner = tfm.PrototypicalNetwork(dense(6, 8), metadata_encoder=dense(4, 8))
    learner.compile(keras.optimizers.Adam(0.02))
    settings = {"ways": 5, "shots": 0, "queries": 4}
    test = tfm.load_episodes(unseen, episodes=64, batch_size=16, **settings)
    before = learner.evaluate(test, return_dict=True, verbose=0)["accuracy"]
    learner.fit(tfm.load_episodes(seen, batch_size=8, **settings), steps_per_epoch=150, verbose=0)
    after = learner.evaluate(test, return_dict=True, verbose=0)["accuracy"]
    assert before < 0.6
    assert after > 0.9
    learner.save(tmp_path / "learner.keras")
    learner = keras.saving.load_model(tmp_path / "learner.keras")
    assert learner.evaluate(test, return_dict=True, verbose=0)["accuracy"] == after
    tfm.calibrate(learner, test)
    described = [np.asarray(unseen.metadata[:1]), np.asarray(unseen.metadata[:3])]
    classifier, whole = learner.adapt(described[0], ["a"]), learner.adapt(described[1], ["a", "b", "c"])
    for label, row in (("b", described[1][1:2]), ("c", described[1][2:])):
        classifier.add_class(label, row)
    queries = np.asarray(unseen.examples[:36])
    np.testing.assert_allclose(classifier.logits(queries), whole.logits(queries), rtol=1e-5)
    said = classifier.classify(queries)
    assert np.mean([label == name for label, name in zip(said, np.repeat(list("abc"), 12), strict=True)]) > 0.8


def test_metadata_of_another_width_or_that_is_not_finite_is_refused(episode):
    learner = tfm.PrototypicalNetwork(identity(), metadata_encoder=dense(5, 3))
    metadata, labels = np.zeros([2, 3, 5], "float32"), np.tile(range(3), [2, 1])
    with pytest.raises(
        ValueError, match=r"`support_x` must be \[tasks, examples, 5\][\s\S]*\[2, 3, 4\][\s\S]*features"
    ):
        learner(tfm.Episode(metadata[..., :4], labels, episode.query_x))
    with pytest.raises(ValueError, match=r"`support_x` must be finite numbers"):
        learner(tfm.Episode(metadata + np.nan, labels, episode.query_x))
    with pytest.raises(
        ValueError, match=r"`support_x` must be \[examples, 5\], as the model was built\. Received: shape \(2, 4\)"
    ):
        learner.adapt(metadata[0, :2, :4], ["cat", "dog"])
    classifier = learner.adapt(metadata[0, :2], ["cat", "dog"])
    with pytest.raises(ValueError, match=r"examples of class 'cow'\. Received: no examples"):
        classifier.add_class("cow", metadata[0, :0])


def toy_episodes(**arguments):
    """Classes are directions, which a random projection hides in the first two of six features."""
    random = np.random.default_rng(0)
    centres = random.normal(size=[60, 2])
    x = np.concatenate(
        [centres[:, None] + 0.15 * random.normal(size=[60, 20, 2]), 3 * random.normal(size=[60, 20, 4])], -1
    )
    x, y = x.reshape(-1, 6).astype("float32"), np.repeat(range(60), 20)
    return tfm.load_episodes((x, y), **{"batch_size": 4, "queries": 5, **arguments})


def test_it_learns_by_keras_fit_and_evaluates_with_an_interval(seed, tmp_path):
    learner = tfm.PrototypicalNetwork(dense(6, 2, use_bias=False))
    learner.compile(keras.optimizers.Adam(0.02))
    test = toy_episodes(split="test", episodes=100)
    before = learner.evaluate(test, return_dict=True, verbose=0)
    # More ways in training than at test.
    history = learner.fit(toy_episodes(ways=10), steps_per_epoch=100, epochs=2, verbose=0)
    after = learner.evaluate(test, return_dict=True, verbose=0)
    assert set(after) == {"loss", "accuracy", "accuracy_ci95"}
    assert history.history["loss"][1] < history.history["loss"][0]
    assert after["accuracy"] > before["accuracy"] + 0.2
    assert 0 < after["accuracy_ci95"] < 0.05
    learner.save(tmp_path / "learner.keras")
    again = keras.saving.load_model(tmp_path / "learner.keras")
    assert again.evaluate(test, return_dict=True, verbose=0) == pytest.approx(after)


def test_evaluation_changes_no_variable(seed):
    learner = tfm.PrototypicalNetwork(
        keras.Sequential([keras.Input([6]), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    )
    learner.compile()
    weights = learner.get_weights()
    learner.evaluate(toy_episodes(split="test", episodes=8), verbose=0)
    for before, after in zip(weights, learner.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_xla_agrees_when_it_knows_the_ways(episode):
    learner = tfm.PrototypicalNetwork(dense(), ways=3)
    compiled = tf.function(learner, jit_compile=True)(episode)
    np.testing.assert_allclose(compiled, learner(episode), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_replicas_train_like_one_device(mirrored):
    def trained(scope):
        with scope:
            keras.utils.set_random_seed(0)
            learner = tfm.PrototypicalNetwork(dense(6, 2))
            learner.compile(keras.optimizers.SGD(0.01))
        learner.fit(toy_episodes(episodes=40), epochs=1, verbose=0)
        return learner.get_weights()

    import contextlib

    for one, two in zip(trained(contextlib.nullcontext()), trained(mirrored.scope()), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_adapting_makes_a_classifier_of_any_labels_and_leaves_the_learner_alone(seed, tmp_path):
    learner = tfm.PrototypicalNetwork(identity(2))
    classifier = learner.adapt(np.array([[0.0, 0], [0, 2], [5, 5]]), ["cat", "cat", "dog"])
    assert classifier.classes == ["cat", "dog"]
    probabilities = classifier.predict(np.array([[0.0, 1], [5, 5]]), verbose=0)
    # Distances 0 and 41 of the first example, 41 and 0 of the second.
    np.testing.assert_allclose(probabilities, [[1, np.exp(-41)], [np.exp(-41), 1]], rtol=1e-4)
    classifier.add_class(("a", 3), np.array([[0.0, 1.5]]))
    three = classifier.predict(np.array([[0.0, 1.0]]), verbose=0)
    np.testing.assert_allclose(three, [[1, 0, np.exp(-0.25)] / (1 + np.exp(-0.25))], rtol=1e-4, atol=1e-8)
    with pytest.raises(ValueError, match=r"`label` must be a class[\s\S]*Received: 'dog'[\s\S]*adapt anew"):
        classifier.add_class("dog", np.array([[50.0, 50.0]]))
    np.testing.assert_array_equal(classifier.predict(np.array([[0.0, 1.0]]), verbose=0), three)


def test_a_classifier_survives_saving(seed, tmp_path):
    learner = tfm.PrototypicalNetwork(dense())
    x = np.random.default_rng(0).normal(size=[7, 3]).astype("float32")
    classifier = learner.adapt(x, list("abcabca"))
    classifier.save(tmp_path / "classifier.keras")
    again = keras.saving.load_model(tmp_path / "classifier.keras")
    assert again.classes == ["a", "b", "c"]
    np.testing.assert_allclose(again.predict(x, verbose=0), classifier.predict(x, verbose=0), rtol=1e-6)


def test_a_classifier_does_not_follow_the_learners_further_training(seed):
    learner = tfm.PrototypicalNetwork(dense())
    x = np.random.default_rng(0).normal(size=[4, 3]).astype("float32")
    classifier = learner.adapt(x, [0, 1, 0, 1])
    before = classifier.predict(x, verbose=0)
    learner.embedding.set_weights([2 * weight + 1 for weight in learner.embedding.get_weights()])
    np.testing.assert_array_equal(classifier.predict(x, verbose=0), before)


def test_bad_input_is_refused():
    learner = tfm.PrototypicalNetwork(identity(2))
    with pytest.raises(ValueError, match=r"`support_x` must have at least one example[\s\S]*0 examples"):
        learner.adapt(np.zeros([0, 2]), [])
    with pytest.raises(ValueError, match=r"a label for each[\s\S]*2 examples and 3 labels"):
        learner.adapt(np.zeros([2, 2]), [1, 2, 3])
    with pytest.raises(ValueError, match=r"class 1\. Received: not finite"):
        learner.adapt(np.array([[0.0, 1.0], [np.nan, 1.0]]), [0, 1])
    with pytest.raises(ValueError, match=r"`distance` must be one of[\s\S]*'manhattan'"):
        tfm.PrototypicalNetwork(identity(), distance="manhattan")
    with pytest.raises(ValueError, match=r"`embedding` must be a built Keras model"):
        tfm.PrototypicalNetwork(lambda x: x)
    with pytest.raises(ValueError, match=r"`metadata_encoder` must return vectors[\s\S]*2 instead of 3"):
        tfm.PrototypicalNetwork(identity(), metadata_encoder=dense(5, 2))


def test_class_means_leave_room_for_classes_without_examples():
    means = class_means(tf.constant([[[2.0], [4.0]]]), tf.constant([[2, 2]]), 4)
    np.testing.assert_array_equal(means[0, :, 0], [0, 0, 3, 0])


def test_the_interval_is_that_of_independent_tasks():
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 3, [40, 10]), random.normal(size=[40, 10, 3])
    interval = TaskInterval()
    for start in range(0, 40, 8):
        interval.update_state(labels[start : start + 8], scores[start : start + 8])
    accuracies = (scores.argmax(-1) == labels).mean(axis=1)
    assert float(interval.result()) == pytest.approx(1.96 * accuracies.std(ddof=1) / np.sqrt(40), rel=1e-4)


def test_classes_are_numbered_as_they_come():
    classes, numbers = class_numbers(np.array(["b", "a", "b"]))
    assert classes == ["b", "a"]
    np.testing.assert_array_equal(numbers, [0, 1, 0])
