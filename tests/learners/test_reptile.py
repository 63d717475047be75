"""Reptile: no differentiation through the loop, mini-batches, and the step towards the adapted parameters."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.rules import Adam, GradientDescent


@pytest.mark.parametrize("epsilon", [1.0, 0.25])
def test_it_moves_a_part_of_the_way_to_the_mean_of_the_adapted_parameters(network, points, epsilon):
    """theta + epsilon * (mean of theta_k - theta), theta_k by Keras's own gradient descent on each task."""
    (episode, query_y), model = points(), network()
    start = model.get_weights()
    ends = []
    for x, y in zip(episode.support_x, episode.support_y, strict=True):
        one = network()
        one.compile(keras.optimizers.SGD(0.3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        one.fit(x, y, batch_size=6, epochs=4, shuffle=False, verbose=0)
        ends.append(one.get_weights())
    learner = tfm.Reptile(model, 4, inner_batch_size=None, rule=GradientDescent(0.3))
    learner.compile(keras.optimizers.SGD(epsilon))
    learner.train_on_batch(episode, query_y)
    for before, weight, *adapted in zip(start, model.get_weights(), *ends, strict=True):
        np.testing.assert_allclose(weight, before + epsilon * (np.mean(adapted, axis=0) - before), rtol=1e-4, atol=1e-6)


def test_scaling_the_loss_changes_no_step(network, points):
    """The optimizer divides by the scale, so the step, which is no gradient of a loss, must have been multiplied."""
    weights = []
    for scaled in (False, True):
        learner, optimizer = tfm.Reptile(network(), 2, 0.1, inner_batch_size=None), keras.optimizers.SGD(0.5)
        learner.compile(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0) if scaled else optimizer)
        learner.train_on_batch(*points())
        weights.append(learner.base_learner.get_weights())
    for plain, scaled in zip(*weights, strict=True):
        np.testing.assert_allclose(scaled, plain, rtol=1e-5, atol=1e-7)
    assert not np.allclose(weights[0][0], network().get_weights()[0], atol=1e-2)


def test_inner_batches_go_round_the_support_set():
    """y = w x by one-parameter gradient descent from w = 0 on examples (1, 1), (1, 2), (1, 4): rate 1/4, loss (w-y)^2,
    batches of two: w = 0 -> 0 + (1 + 2) / 4 = 0.75, then (4, 1): -> 0.75 + (3.25 + 0.25) / 4 = 1.625."""
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    rule = GradientDescent(0.25)
    learner = tfm.Reptile(model, 2, inner_batch_size=2, evaluation_steps=2, rule=rule, inner_loss="mse")
    episode = tfm.Episode(np.float32([[[1], [1], [1]]]), np.float32([[[1], [2], [4]]]), np.float32([[[10]]]))
    np.testing.assert_allclose(learner(episode), [[[16.25]]])


def test_its_own_rule_is_adam_without_momentum(network, points):
    """The first step of Adam moves every coordinate by the rate, against the gradient's sign."""
    (episode, query_y), model = points(), network()
    start = model.get_weights()
    learner = tfm.Reptile(model, 1, inner_learning_rate=0.01, inner_batch_size=None)
    assert learner.rule.beta_1 == 0.0
    learner.compile()
    learner.train_on_batch(tfm.Episode(*(part[:1] for part in episode)), query_y[:1])
    for before, weight in zip(start, model.get_weights(), strict=True):
        np.testing.assert_allclose(np.abs(weight - before), 0.01, rtol=1e-3)


def test_moments_are_carried_from_update_to_update(network, points):
    """With one task an update and steps of 1, each task goes on where the one before ended: Keras's own Adam, which
    keeps its moments and its count, trained on task after task. Begun anew, Adam would take other steps."""
    (episode, query_y), one = points("float64"), network(dtype="float64")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    # The two take an epsilon inside and outside of the root.
    one.compile(keras.optimizers.Adam(0.03, beta_1=0.0, epsilon=1e-14), loss)
    learners = {}
    for kept in (True, False):
        rule = Adam(0.03, beta_1=0.0, epsilon=1e-14, dtype="float64")
        learners[kept] = tfm.Reptile(
            network(dtype="float64"), 3, None, None, rule=rule, carried_state=kept, dtype="float64"
        )
        learners[kept].compile()
    for task, y in enumerate(query_y):
        one.fit(episode.support_x[task], episode.support_y[task], batch_size=100, epochs=3, shuffle=False, verbose=0)
        for learner in learners.values():
            learner.train_on_batch(tfm.Episode(*(part[task][None] for part in episode)), y[None])
    kept, anew = (learner.base_learner.get_weights() for learner in learners.values())
    for expected, weight in zip(one.get_weights(), kept, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)
    assert any(np.abs(other - weight).max() > 1e-2 for other, weight in zip(anew, kept, strict=True))


def test_carried_moments_are_means_over_tasks_and_adapting_begins_with_them(network, points):
    """One step of each task leaves 0.001 * gradient^2; their mean, and one step counted, divide the next gradient."""
    (episode, query_y), model = points(), network()
    learner = tfm.Reptile(model, 1, 0.1, None, evaluation_steps=1)
    learner.compile(keras.optimizers.SGD(0.0))

    def gradients():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for x, y in zip(episode.support_x, episode.support_y, strict=True):
            with tf.GradientTape() as tape:
                value = loss(y, model(x, training=True))
            yield np.concatenate([np.ravel(part) for part in tape.gradient(value, model.trainable_variables)])

    found = np.stack(list(gradients()))
    learner.train_on_batch(episode, query_y)
    second = 0.001 * np.mean(found**2, axis=0)
    expected = 0.999 * second + 0.001 * found[0] ** 2
    expected = -0.1 * found[0] / np.sqrt(expected / (1 - 0.999**2) + 1e-16)
    adapted = learner.adapt(episode.support_x[0], episode.support_y[0]).model
    moved = [after - before for after, before in zip(adapted.get_weights(), model.get_weights(), strict=True)]
    np.testing.assert_allclose(np.concatenate([np.ravel(part) for part in moved]), expected, rtol=1e-3, atol=1e-6)


def test_nothing_but_the_base_learner_is_learned(network):
    learner = tfm.Reptile(network())
    assert [variable.path for variable in learner.trainable_variables] == [
        variable.path for variable in learner.base_learner.trainable_variables
    ]


@pytest.mark.slow
def test_it_learns_sine_waves(seed):
    learner = tfm.Reptile(
        tfm.backbones.sinusoid_mlp(), inner_steps=10, inner_learning_rate=0.01, evaluation_steps=30, inner_loss="mse"
    )
    learner.compile(keras.optimizers.SGD(0.5), loss="mse")
    test = tfm.load_episodes("sinusoids", "test", shots=10, queries=10, batch_size=8, episodes=80)
    before = learner.evaluate(test, verbose=0, return_dict=True)
    learner.fit(tfm.load_episodes("sinusoids", shots=20, queries=10, batch_size=8), steps_per_epoch=600, verbose=0)
    after = learner.evaluate(test, verbose=0, return_dict=True)
    assert after["loss"] < 0.6 * before["loss"]
    assert tf.math.is_finite(after["loss"])
