"""`AveragedViews`: what it computes, and that a learner with it saves, adapts and serves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.learners import AveragedViews, average_views
from tf_metalearn.serving.verification import verify_export


@pytest.fixture
def network(seed):
    return keras.Sequential([keras.Input([6, 6, 1]), keras.layers.Flatten(), keras.layers.Dense(5, "tanh")])


@pytest.fixture
def images():
    return np.random.default_rng(0).random([3, 6, 6, 1], "float32")


def test_one_view_is_the_embedding(network, images):
    np.testing.assert_allclose(AveragedViews(network, views=1)(images), network(images), rtol=1e-6)


def test_shifted_copies_by_hand(network, images):
    layer = AveragedViews(network, views=4, shift=1, turn=0, scale=0, shear=0, seed=3)
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    shifted = [padded[:, 1 + y : 7 + y, 1 + x : 7 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    possible = np.array([network(copy) for copy in shifted])
    # The mean of the image as it is and of three shifted copies, the same three for all images.
    rest = 4 * layer(images) - network(images)
    sums = np.array([[i, j, k] for i in range(9) for j in range(i, 9) for k in range(j, 9)])
    errors = np.abs(possible[sums].sum(axis=1) - rest).max(axis=(1, 2))
    assert errors.min() < 1e-5
    assert np.sort(errors)[1] > 1e-3


def test_an_image_does_not_depend_on_the_others(network, images):
    layer = AveragedViews(network)
    np.testing.assert_allclose(layer(images)[1:2], layer(images[1:2]), rtol=1e-6)


def test_gradients_reach_the_embedding(network, images):
    layer = AveragedViews(network, views=3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(images) ** 2)
    gradients = tape.gradient(loss, [weight.value for weight in network.trainable_variables])
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_a_learner_with_it_saves_and_serves(network, images, tmp_path):
    learner = average_views(tfm.PrototypicalNetwork(network), turn=20.0)
    expected = learner.adapt_and_predict(images, ["a", "b", "c"], images[::-1])
    learner.save(tmp_path / "learner.keras")
    loaded = tfm.load(tmp_path / "learner.keras")
    np.testing.assert_array_equal(loaded.adapt_and_predict(images, ["a", "b", "c"], images[::-1]), expected)
    version = tmp_path / "served" / "views" / "1"
    loaded.export(version, verbose=False)
    checks = verify_export(version)
    assert [check.found for check in checks if not check.fine] == []


@pytest.mark.parametrize("learner", [tfm.PrototypicalNetwork, tfm.MatchingNetwork, tfm.SiameseNetwork])
def test_averaging_one_view_changes_nothing(learner, network, images):
    learner = learner(network)
    averaged = average_views(learner, views=1)
    task = tfm.Episode(images[None], tf.constant([[0, 1, 2]]), images[None, ::-1])
    np.testing.assert_allclose(averaged(task), learner(task), rtol=1e-5, atol=1e-6)
    # A copy: what is learned later does not reach it.
    network.set_weights([0 * weight for weight in network.get_weights()])
    assert np.ptp(averaged(task)) > 0


@pytest.mark.parametrize("use", [average_views, tfm.on_embeddings, lambda learner: tfm.calibrate(learner, [])])
@pytest.mark.parametrize("kind", [tfm.MAML, lambda network: tfm.FineTuning(network, classes=5)])
def test_other_learners_are_refused_in_words(network, use, kind):
    with pytest.raises(ValueError, match=r"`learner` must be a metric[\s\S]*: (MAML|Fine)[\s\S]*PrototypicalNetwork"):
        use(kind(network))


def test_there_must_be_a_view(network):
    with pytest.raises(ValueError, match=r"`views` must be a whole number >= 1. Received: views=0"):
        AveragedViews(network, views=0)
