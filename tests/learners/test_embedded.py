"""Embedding a data set once gives what embedding each episode gives."""

import keras
import numpy as np
import pytest

import tf_metalearn as tfm
from tf_metalearn.episodes import ClassTable


@pytest.fixture
def classes():
    random = np.random.default_rng(0)
    return ClassTable.of(random.integers(0, 256, [120, 28, 28, 1], np.uint8), np.repeat(range(12), 10))


LEARNERS = {
    "prototypical": lambda: tfm.PrototypicalNetwork(tfm.backbones.conv4(filters=8), distance="cosine"),
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
    np.testing.assert_allclose(fast.predict(once, verbose=0), learner.predict(each, verbose=0), rtol=1e-3, atol=1e-4)
    expected = learner.evaluate(each, verbose=0, return_dict=True)
    found = fast.evaluate(once, verbose=0, return_dict=True)
    assert found["accuracy"] == expected["accuracy"]
    assert found == pytest.approx(expected, rel=1e-3)


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


def test_examples_of_another_shape_are_refused(classes):
    learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([5]), keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match=r"`classes` must have examples of shape \(5,\)[\s\S]*\(28, 28, 1\)"):
        tfm.embed_classes(learner, classes)
