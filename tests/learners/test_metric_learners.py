"""Siamese, Matching and Relation networks against numpy and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.learners.relation import RelationLoss
from tf_metalearn.learners.siamese import PairLoss

SUPPORT = np.array([[[0.0, 1.0], [2.0, 0.0], [1.0, 1.0], [-1.0, 0.5]]])
LABELS = np.array([[0, 1, 1, 0]])
QUERY = np.array([[[1.0, 0.5], [-2.0, 1.0], [0.3, 0.4]]])


def identity():
    return keras.Sequential([keras.Input([2], dtype="float64"), keras.layers.Identity(dtype="float64")])


def maps(dtype="float64", channels=2):
    return keras.Sequential(
        [keras.Input([2, 2, 1], dtype=dtype), keras.layers.Conv2D(channels, 2, padding="same", dtype=dtype)]
    )


def episode(support_x=SUPPORT, query_x=QUERY):
    return tfm.Episode(tf.constant(support_x), tf.constant(LABELS), tf.constant(query_x))


def test_siamese_logits_are_a_weighted_l1_distance_of_the_most_similar_example():
    learner = tfm.SiameseNetwork(identity(), dtype="float64")
    learner.weighting.assign([-0.5, -2.0])
    learner.offset.assign(0.25)
    pairs = 0.25 - np.abs(QUERY[0][:, None] - SUPPORT[0][None]) @ [0.5, 2.0]
    expected = np.stack([pairs[:, [0, 3]].max(axis=1), pairs[:, [1, 2]].max(axis=1)], axis=1)
    np.testing.assert_allclose(learner(episode())[0], expected, rtol=1e-12)


def test_the_loss_of_pairs_gives_half_the_weight_to_pairs_of_one_class():
    """-log sigmoid(2) for the pair of one class, the mean of -log(1 - sigmoid) of the two others."""
    found = PairLoss()(tf.constant([[1]]), tf.constant([[[0.5, 2.0, -1.0]]]))
    expected = 0.5 * np.log1p(np.exp(-2)) + 0.25 * (np.log1p(np.exp(0.5)) + np.log1p(np.exp(-1.0)))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_matching_is_a_softmax_over_cosines_that_votes_for_labels():
    learner = tfm.MatchingNetwork(identity(), dtype="float64")
    learner.scale.assign(3.0)
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (QUERY[0], SUPPORT[0])]
    attention = np.exp(3 * unit[0] @ unit[1].T)
    attention /= attention.sum(axis=1, keepdims=True)
    votes = np.stack([attention[:, [0, 3]].sum(axis=1), attention[:, [1, 2]].sum(axis=1)], axis=1)
    np.testing.assert_allclose(tf.nn.softmax(learner(episode())[0]), votes, rtol=1e-9)


def test_matching_with_full_context_by_the_equations_of_the_paper():
    """Appendix A: g is a bidirectional LSTM over the support set with a skip connection, f an LSTM with attention."""
    keras.utils.set_random_seed(0)
    learner = tfm.MatchingNetwork(identity(), full_context=True, processing_steps=2, dtype="float64")

    def lstm(x, hidden, cell, weights):
        kernel, recurrent, bias = weights
        write, forget, candidate, read = np.split(x @ kernel + hidden @ recurrent + bias, 4, axis=-1)
        sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
        cell = sigmoid(forget) * cell + sigmoid(write) * np.tanh(candidate)
        return sigmoid(read) * np.tanh(cell), cell

    weights = [np.asarray(weight.numpy(), np.float64) for weight in learner.reader.weights]
    context = SUPPORT[0].copy()
    for part, order in ((weights[:3], range(4)), (weights[3:], reversed(range(4)))):
        hidden = cell = np.zeros(2)
        for place in order:
            hidden, cell = lstm(SUPPORT[0][place], hidden, cell, part)
            context[place] += hidden
    attender = [np.asarray(weight.numpy(), np.float64) for weight in learner.attender.weights]
    hidden, cell, read = QUERY[0].copy(), np.zeros([3, 2]), np.zeros([3, 2])
    for _ in range(2):
        output, cell = lstm(np.concatenate([QUERY[0], read], axis=1), hidden, cell, attender)
        hidden = output + QUERY[0]
        looks = np.exp(hidden @ context.T)
        read = looks / looks.sum(axis=1, keepdims=True) @ context
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (hidden, context)]
    attention = np.exp(10 * unit[0] @ unit[1].T)
    attention /= attention.sum(axis=1, keepdims=True)
    votes = np.stack([attention[:, [0, 3]].sum(axis=1), attention[:, [1, 2]].sum(axis=1)], axis=1)
    np.testing.assert_allclose(tf.nn.softmax(learner(episode())[0]), votes, rtol=1e-9)
    # The LSTM reads a support set in its order, wherever it is adapted to.
    np.testing.assert_allclose(learner.adapt(SUPPORT[0], LABELS[0])(QUERY[0]), votes, rtol=1e-9)
    served = learner.served()
    logits = served.predict(served.adapt(SUPPORT, tf.constant(LABELS, tf.int32), tf.constant(2)), QUERY)
    np.testing.assert_allclose(tf.nn.softmax(logits[0]), votes, rtol=1e-9)


def test_relation_scores_each_query_beside_each_classs_mean_map():
    """A relation module that sums (class channel) * 1 + (query channel) * 10."""
    relation = keras.Sequential(
        [
            keras.Input([2, 2, 2], dtype="float64"),
            keras.layers.Flatten(dtype="float64"),
            keras.layers.Dense(1, use_bias=False, dtype="float64"),
        ]
    )
    relation.layers[-1].kernel.assign(np.tile([[1.0], [10.0]], [4, 1]))
    embedding = keras.Sequential([keras.Input([2, 2, 1], dtype="float64"), keras.layers.Identity(dtype="float64")])
    learner = tfm.RelationNetwork(embedding, relation, dtype="float64")
    random = np.random.default_rng(0)
    support, query = random.normal(size=[1, 4, 2, 2, 1]), random.normal(size=[1, 3, 2, 2, 1])
    totals = support[0].sum(axis=(1, 2, 3))
    classes = np.array([totals[[0, 3]].mean(), totals[[1, 2]].mean()])
    expected = classes[None] + 10 * query[0].sum(axis=(1, 2, 3))[:, None]
    np.testing.assert_allclose(learner(episode(support, query))[0], expected, rtol=1e-9)


def test_the_relation_loss_is_the_squared_error_of_scores():
    found = RelationLoss()(tf.constant([[1]]), tf.constant([[[0.0, 2.0]]]))
    assert float(found) == pytest.approx((0.25 + (1 - 1 / (1 + np.exp(-2))) ** 2) / 2, rel=1e-6)


LEARNERS = {
    "siamese": lambda: (tfm.SiameseNetwork(dense(), dtype="float64"), episode(), PairLoss(dtype="float64")),
    "matching": lambda: (tfm.MatchingNetwork(dense(), dtype="float64"), episode(), cross_entropy),
    "matching with full context": lambda: (
        tfm.MatchingNetwork(dense(), full_context=True, processing_steps=2, dtype="float64"),
        episode(),
        cross_entropy,
    ),
    "prototypical by cosine": lambda: (
        tfm.PrototypicalNetwork(dense(), "cosine", dtype="float64"),
        episode(),
        cross_entropy,
    ),
    "zero-shot": lambda: (
        tfm.PrototypicalNetwork(dense(), metadata_encoder=dense(5), dtype="float64"),
        episode(np.random.default_rng(0).normal(size=[1, 4, 5])),
        cross_entropy,
    ),
    "relation": lambda: (
        tfm.RelationNetwork(maps(), relation(), dtype="float64"),
        episode(*(np.random.default_rng(0).normal(size=[1, count, 2, 2, 1]) for count in (4, 3))),
        RelationLoss(dtype="float64"),
    ),
}


def dense(features=2):
    return keras.Sequential([keras.Input([features], dtype="float64"), keras.layers.Dense(3, "tanh", dtype="float64")])


def relation():
    layers = [keras.layers.Flatten(dtype="float64"), keras.layers.Dense(3, "tanh", dtype="float64")]
    return keras.Sequential([keras.Input([2, 2, 4], dtype="float64"), *layers, keras.layers.Dense(1, dtype="float64")])


def cross_entropy(y, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


@pytest.mark.parametrize("name", LEARNERS)
def test_gradients_are_those_of_finite_differences(name):
    keras.utils.set_random_seed(0)
    learner, task, loss = LEARNERS[name]()
    query_y = tf.constant([[0, 1, 1]])
    value = lambda: loss(query_y, learner(task, training=True))  # noqa: E731
    with tf.GradientTape() as tape:
        total = value()
    gradients = tape.gradient(total, [variable.value for variable in learner.trainable_variables])
    for variable, gradient in zip(learner.trainable_variables, gradients, strict=True):
        start = np.array(variable.numpy())
        for place in list(np.ndindex(start.shape))[:4]:
            ends = []
            for sign in (1, -1):
                moved = np.array(start)
                moved[place] += sign * 1e-6
                variable.assign(moved)
                ends.append(float(value()))
            variable.assign(start)
            expected = (ends[0] - ends[1]) / 2e-6
            assert np.asarray(gradient)[place] == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_bad_networks_are_refused():
    with pytest.raises(ValueError, match=r"`embedding` must be a built Keras model that returns feature maps"):
        tfm.RelationNetwork(dense())
    with pytest.raises(ValueError, match=r"`embedding` must be a built Keras model that returns vectors"):
        tfm.SiameseNetwork(maps())
    with pytest.raises(
        ValueError, match=r"`relation` must be a built Keras model from \(None, 2, 2, 4\) to one number"
    ):
        tfm.RelationNetwork(maps(), dense())
    with pytest.raises(ValueError, match=r"`processing_steps` must be an integer >= 1"):
        tfm.MatchingNetwork(dense(), processing_steps=0)


def test_a_convolution_of_pairs_is_the_sum_of_one_of_each_of_the_two():
    """The relation module that begins with a convolution, against the same as one model of whole pairs."""
    keras.utils.set_random_seed(0)
    learner = tfm.RelationNetwork(maps(), dtype="float64")
    pair = keras.Input([2, 2, 4], dtype="float64")
    whole = tfm.RelationNetwork(maps(), keras.Model(pair, learner.relation(pair)), dtype="float64")
    whole.set_weights(learner.get_weights())
    task = episode(*(np.random.default_rng(0).normal(size=[1, count, 2, 2, 1]) for count in (4, 3)))
    for training in (False, True):
        np.testing.assert_allclose(learner(task, training=training), whole(task, training=training), rtol=1e-9)
