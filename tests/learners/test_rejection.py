"""None of these: the threshold by hand, and on clusters."""

import keras
import numpy as np
import pytest

import tf_metalearn as tfm


def identity(features=2):
    return keras.Sequential([keras.Input([features]), keras.layers.Identity()])


def test_the_threshold_rejects_the_share_that_it_may():
    """Three classes on a line at 0, 10 and 20; the queries of the first two are 0.1 to 1.0 away from their own class,
    and -d^2 is -0.01 to -1: with a tenth to reject, the threshold lies at 0.9 away."""
    support = np.array([[[0.0], [10.0], [20.0]]])
    near = np.linspace(0.1, 1.0, 10)
    query = np.concatenate([near, 10 + near, [20.0, 11.2, 10.8]])[None, :, None]
    labels = np.array([[0] * 10 + [1] * 10 + [2] * 3])
    episode = tfm.Episode(support.astype("float32"), np.array([[0, 1, 2]]), query.astype("float32"))
    learner = tfm.PrototypicalNetwork(identity(1))
    found = tfm.calibrate(learner, [(episode, labels)], false_rejections=0.1)
    assert found.threshold == pytest.approx(-0.81, rel=1e-4)
    assert found.false_rejections == pytest.approx(0.1)
    # 10.8 lies within 0.9 of the class at 10; 20 and 11.2 do not.
    assert found.false_acceptances == pytest.approx(1 / 3)


@pytest.fixture
def clusters():
    random = np.random.default_rng(0)
    return (random.normal(size=[40, 1, 8]) + 0.1 * random.normal(size=[40, 20, 8])).reshape(-1, 8), np.repeat(
        range(40), 20
    )


@pytest.mark.parametrize("kind", [tfm.PrototypicalNetwork, tfm.SiameseNetwork, tfm.MatchingNetwork])
def test_classifiers_reject_strangers_and_keep_their_own(kind, clusters, tmp_path):
    x, y = clusters[0].astype("float32"), clusters[1]
    learner = kind(identity(8))
    found = tfm.calibrate(learner, tfm.load_episodes((x[y < 20], y[y < 20]), "all", shots=5, episodes=32))
    assert found.false_acceptances < 0.05
    learner.save(tmp_path / "learner.keras")
    learner = keras.saving.load_model(tmp_path / "learner.keras")
    names = np.array([f"class {number}" for number in y])
    own = (y >= 20) & (y < 25)
    classifier = learner.adapt(x[own][::2], names[own][::2])
    said = classifier.classify(x[own][1::2])
    assert np.mean([label == name for label, name in zip(said, names[own][1::2], strict=True)]) > 0.9
    strangers = classifier.classify(x[y >= 25])
    assert np.mean([label is None for label in strangers]) > 0.9


def test_without_a_threshold_nothing_is_rejected(clusters):
    x = clusters[0].astype("float32")
    classifier = tfm.PrototypicalNetwork(identity(8)).adapt(x[[0, 20]], ["a", "b"])
    assert set(classifier.classify(100 + x[:5])) <= {"a", "b"}


def test_one_class_is_enough_with_a_threshold():
    x = np.array([[0.0, 0.0], [0.0, 1.0]], "float32")
    learner = tfm.PrototypicalNetwork(identity(), threshold=-1.0)
    assert learner.adapt(x, ["cat", "cat"]).classify(np.array([[0.0, 0.5], [3.0, 0.0]])) == ["cat", None]
    learner = tfm.MatchingNetwork(identity(), threshold=5.0)
    assert learner.adapt(x + 1, ["cat", "cat"]).classify(np.array([[1.0, 1.0], [-1.0, -1.0]])) == ["cat", None]
    learner = tfm.PrototypicalNetwork(identity())
    with pytest.raises(ValueError, match=r"two classes or more\. Received: only 'cat'[\s\S]*`calibrate`"):
        learner.adapt(x, ["cat", "cat"])


def test_a_further_class_changes_nothing_for_those_that_were_alike():
    """The cosines to "a" are one whatever else there is; a posterior would be halved by a class beside it."""
    learner = tfm.MatchingNetwork(identity(), threshold=9.9)
    classifier = learner.adapt(np.eye(2, dtype="float32"), ["a", "b"])
    query = np.array([[1.0, 0.0], [0.7, 0.7]], "float32")
    assert classifier.classify(query) == ["a", None]
    classifier.add_class("c", np.array([[1.0, 0.1]], "float32"))
    assert classifier.classify(query) == ["a", None]


def test_queries_that_are_not_finite_are_refused():
    classifier = tfm.PrototypicalNetwork(identity()).adapt(np.eye(2, dtype="float32"), ["a", "b"])
    wrong = np.array([[0.0, 1.0], [np.nan, 0.0]], "float32")
    for ask in (classifier.classify, classifier.predict, lambda x: classifier.evaluate(x, ["a", "b"])):
        with pytest.raises(ValueError, match=r"`x` must be finite\. Received: NaN or infinity in example 1"):
            ask(wrong)


def test_views_need_a_threshold_of_their_own():
    learner = tfm.PrototypicalNetwork(tfm.backbones.conv4(filters=8), threshold=-3.0)
    assert tfm.average_views(learner, 2).threshold is None


def test_bad_input_is_refused():
    learner = tfm.PrototypicalNetwork(identity())
    with pytest.raises(ValueError, match=r"`false_rejections` must be between 0 and 1"):
        tfm.calibrate(learner, [], false_rejections=1.5)
    with pytest.raises(ValueError, match=r"`episodes` must not be empty"):
        tfm.calibrate(learner, [])
    x = np.zeros([1, 2, 2], "float32")
    with pytest.raises(ValueError, match=r"three ways or more[\s\S]*2 ways"):
        tfm.calibrate(learner, [(tfm.Episode(x, np.array([[0, 1]]), x), np.array([[0, 1]]))])


def test_examples_that_are_no_episodes_are_refused_in_words(clusters):
    x, y = clusters
    for given in ((x, y), tfm.load_examples((x, y), "all", batch_size=8), x):
        with pytest.raises(
            ValueError, match=r"`episodes` must be a data set of \(Episode[\s\S]*load_episodes\(\(x, y\)"
        ):
            tfm.calibrate(tfm.PrototypicalNetwork(identity(8)), given)
