"""Embedding a data set once gives what embedding each episode gives."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import tf_metalearn as tfm
from tf_metalearn.episodes import ClassTable
from tf_metalearn.learners import embedded as embedded_module


@pytest.fixture
def classes():
    random = np.random.default_rng(0)
    return ClassTable.of(random.integers(0, 256, [120, 28, 28, 1], np.uint8), np.repeat(range(12), 10))


LEARNERS = {
    "prototypical": lambda: tfm.PrototypicalNetwork(tfm.backbones.conv4(filters=8)),
    "cosine": lambda: tfm.PrototypicalNetwork(tfm.backbones.conv4(filters=8), distance="cosine"),
    "matching": lambda: tfm.MatchingNetwork(tfm.backbones.conv4(filters=8), full_context=True),
    "siamese": lambda: tfm.SiameseNetwork(tfm.backbones.conv4(filters=8)),
    "relation": lambda: tfm.RelationNetwork(tfm.backbones.conv4(filters=8, downsampled_blocks=2, flatten=False)),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_results_are_those_of_embedding_each_episode(name, classes, seed):
    learner = LEARNERS[name]()
    learner.compile()
    settings = {"ways": 4, "shots": 2, "queries": 3, "episodes": 16, "batch_size": 8, "seed": 3}
    each = tfm.load_episodes(classes, **settings)
    once = tfm.load_episodes(tfm.embed_classes(learner, classes), **settings)
    fast = tfm.on_embeddings(learner)
    found, expected = fast.predict(once, verbose=0), learner.predict(each, verbose=0)
    # A convolution of another number of images adds up in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(found.argmax(axis=-1), expected.argmax(axis=-1))
    expected = learner.evaluate(each, verbose=0, return_dict=True)
    found = fast.evaluate(once, verbose=0, return_dict=True)
    assert found["accuracy"] == expected["accuracy"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_features_are_kept_until_weights_or_examples_change(classes, tmp_path, seed):
    learner = LEARNERS["prototypical"]()
    first = tfm.embed_classes(learner, classes, cache_dir=tmp_path)
    [file] = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = tfm.embed_classes(learner, classes, cache_dir=tmp_path)
    np.testing.assert_array_equal(again.examples, first.examples)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [written]
    variable = learner.embedding.trainable_variables[0]
    variable.assign(2 * variable)
    tfm.embed_classes(learner, classes, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_said_of_the_classes_is_that_of_the_table_that_was_given(classes, tmp_path, seed):
    learner = LEARNERS["prototypical"]()
    for number in range(2):
        table = replace(classes, metadata=np.full([12, 3], number, "float32"), groups=(f"group {number}",) * 12)
        embedded = tfm.embed_classes(learner, table, cache_dir=tmp_path)
        assert embedded.groups == table.groups
        np.testing.assert_array_equal(embedded.metadata, table.metadata)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("most", [2**27, 1])
def test_confusions_are_counted_by_true_and_taken_class(most, monkeypatch):
    """One support example of each class at 0, 10 and 14; queries by hand: of the class at 0 two stay and one is nearer
    to 10; of the class at 10 its only query stays; of the class at 14 one of two is nearer to 10."""
    monkeypatch.setattr(embedded_module, "_MOST_NUMBERS", most)
    table = ClassTable.of(
        np.array([0, 0.1, 0.2, 7, 10, 10.5, 14, 14.1, 11])[:, None].astype("float32"), list("aaaabbccc")
    )

    class First:
        """Chooses the first examples of each class."""

        def permutation(self, size):
            return np.arange(size)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: First())
    line = keras.Sequential([keras.Input([1]), keras.layers.Identity()])
    for learner in (tfm.PrototypicalNetwork(line), tfm.SiameseNetwork(line)):
        counts = tfm.confusion_counts(learner, table, shots=1)
        np.testing.assert_array_equal(counts, [[2, 1, 0], [0, 1, 0], [0, 1, 1]])


def test_examples_of_another_shape_are_refused(classes):
    learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([5]), keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match=r"`classes` must have examples of shape \(5,\)[\s\S]*\(28, 28, 1\)"):
        tfm.embed_classes(learner, classes)
