"""The options of MAML++ (Antoniou et al. 2019), each against what it must be equal to."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm


def cross_entropy(y, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


def updated(learner, data, updates=1):
    """The learner's weights after training steps of gradient descent with a rate of 1."""
    learner.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    for _ in range(updates):
        learner.train_on_batch(*data)
    return learner.get_weights()


def test_equal_learned_rates_are_one_rate(network, points):
    episode, _ = points()
    model = network()
    plain, learned = tfm.MAML(model, 2, 0.3), tfm.MAML(model, 2, 0.3, learned_rates=True)
    assert learned.rule.rates.shape == (4, 2)
    np.testing.assert_allclose(learned(episode), plain(episode), rtol=1e-5, atol=1e-6)


def test_rates_of_each_layer_and_step_are_learned_by_finite_differences(network, points):
    episode, query_y = points("float64")
    learner = tfm.MAML(
        network(keras.layers.Dense(4, "tanh", dtype="float64"), dtype="float64"),
        *(2, 0.3),
        inner_loss=cross_entropy,
        learned_rates=True,
        dtype="float64",
    )
    rates = learner.rule.rates
    with tf.GradientTape() as tape:
        loss = cross_entropy(query_y, learner(episode, training=True))
    gradient = tape.gradient(loss, rates.value)
    start = rates.numpy()
    for place in np.ndindex(start.shape):
        moved = [start.copy(), start.copy()]
        moved[0][place] += 1e-6
        moved[1][place] -= 1e-6
        values = []
        for value in moved:
            rates.assign(value)
            values.append(float(cross_entropy(query_y, learner(episode, training=True))))
        rates.assign(start)
        assert gradient[place].numpy() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-8)


def test_anil_learns_rates_for_the_head_alone(network, points):
    learner = tfm.ANIL(network(), 2, 0.3, learned_rates=True)
    assert learner.rule.rates.shape == (2, 2)
    before = learner.rule.rates.numpy()
    updated(learner, points())
    assert not np.any(learner.rule.rates.numpy() == before)


def test_the_loss_after_every_step_fades_to_that_of_the_last(network, points):
    """At first the mean of the losses after one and after two steps; then the weights are 3/4 and 1/4; then 1 and 0."""
    data = points()
    last = [gradient_of(network, data, steps) for steps in (1, 2)]
    learner = tfm.MAML(network(), 2, 0.3, multi_step_updates=2)
    start = learner.get_weights()
    learner.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    for early in (0.5, 0.25, 0.0, 0.0):
        learner.set_weights(start)
        learner.train_on_batch(*data)
        for before, weight, one, two in zip(start, learner.get_weights(), *last, strict=True):
            np.testing.assert_allclose(before - weight, early * one + (1 - early) * two, rtol=1e-3, atol=1e-6)


def gradient_of(network, data, steps):
    learner = tfm.MAML(network(), steps, 0.3)
    start = learner.get_weights()
    return [before - after for before, after in zip(start, updated(learner, data), strict=True)]


def test_first_order_updates_come_first_and_second_order_after_them(network, points):
    data = points()
    weights = {
        name: updated(tfm.MAML(network(), 2, 0.3, **settings), data, updates=1)
        for name, settings in (("first", {"first_order": True}), ("second", {}), ("both", {"first_order_updates": 1}))
    }
    assert_equal(weights["both"], weights["first"])
    assert not np.allclose(weights["first"][0], weights["second"][0], atol=1e-5)
    # The second update begins where a first-order one ended.
    learner = tfm.MAML(network(), 2, 0.3)
    learner.set_weights(weights["first"])
    both = tfm.MAML(network(), 2, 0.3, first_order_updates=1)
    assert_equal(updated(both, data, updates=2), updated(learner, data))


def test_first_order_updates_train_where_the_loss_is_scaled(network, points):
    learner = tfm.MAML(network(), 2, 0.3, first_order_updates=1)
    learner.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=4.0))
    start = learner.get_weights()
    learner.train_on_batch(*points())
    assert not np.allclose(learner.get_weights()[0], start[0], atol=1e-4)


def assert_equal(left, right):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def normalised(network):
    layers = keras.layers.Dense(6), keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()
    return network(*layers)


def test_statistics_are_averaged_over_tasks_for_each_inner_step(network, points):
    """By hand: after one update each row is 0.9 times the start and 0.1 times the mean over tasks of batch means."""
    (episode, query_y), model = points(), normalised(network)
    learner = tfm.MAML(model, 1, 0.3, statistics_per_step=True)
    kernel, bias = (weight.numpy() for weight in model.weights[:2])
    means, variances = (table.numpy() for table in learner._adaptation.averaged)
    assert means.shape == (2, 6)
    assert (not means.any(), variances.min()) == (True, 1.0)
    updated(learner, (episode, query_y))
    hidden = episode.support_x.numpy() @ kernel + bias
    means, variances = (table.numpy() for table in learner._adaptation.averaged)
    np.testing.assert_allclose(means[0], 0.1 * hidden.mean(axis=(0, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variances[0], 0.9 + 0.1 * hidden.var(axis=1).mean(axis=0), rtol=1e-4)
    # The query set's row is another one, after adaptation.
    assert not np.allclose(means[0], means[1], atol=1e-4)


def test_with_statistics_per_step_a_prediction_depends_on_no_other_example_of_its_batch(network, points):
    (episode, query_y), model = points(), normalised(network)
    learner = tfm.MAML(model, 2, 0.3, statistics_per_step=True)
    updated(learner, (episode, query_y))
    tables = [table.numpy() for table in learner._adaptation.averaged]
    together, alone = learner(episode), learner(episode._replace(query_x=episode.query_x[:, :1]))
    np.testing.assert_allclose(together[:, :1], alone, rtol=1e-5)
    classifier = learner.adapt(episode.support_x[0].numpy(), [0, 1, 2, 2, 1, 0])
    np.testing.assert_allclose(classifier.predict(episode.query_x[0], verbose=0), tf.nn.softmax(together[0]), rtol=1e-4)
    for before, table in zip(tables, learner._adaptation.averaged, strict=True):
        np.testing.assert_array_equal(table.numpy(), before)


def test_inner_steps_beyond_those_of_training_take_the_last_statistics(network, points):
    """Others would never have been trained: mean 0 and variance 1."""
    episode, query_y = points()
    learner = tfm.MAML(normalised(network), 1, 0.3, evaluation_steps=3, statistics_per_step=True)
    updated(learner, (episode, query_y))
    means, variances = (table.numpy() for table in learner._adaptation.averaged)
    assert means.shape == variances.shape == (2, 6)
    for evaluated in (learner, learner.with_settings(evaluation_steps=4), learner.with_settings(evaluation_steps=1)):
        normalisation = evaluated.adapt(episode.support_x[0], [0, 1, 2, 2, 1, 0]).model.layers[1]
        np.testing.assert_allclose(normalisation.moving_mean, means[1], rtol=1e-6)
        np.testing.assert_allclose(normalisation.moving_variance, variances[1], rtol=1e-6)
    first = learner.with_settings(evaluation_steps=0).adapt(episode.support_x[0], [0, 1, 2, 2, 1, 0]).model.layers[1]
    np.testing.assert_allclose(first.moving_mean, means[0], rtol=1e-6)


def test_transductive_and_statistics_per_step_exclude_each_other(network):
    with pytest.raises(ValueError, match=r"`transductive` must be False with `statistics_per_step`"):
        tfm.MAML(network(), transductive=True, statistics_per_step=True)


def test_all_options_together_train_save_and_go_on(network, points, tmp_path):
    data = points()
    learner = tfm.MAML(
        normalised(network),
        *(2, 0.1),
        learned_rates=True,
        multi_step_updates=10,
        first_order_updates=1,
        statistics_per_step=True,
    )
    learner.compile(keras.optimizers.Adam(0.01))
    losses = [learner.train_on_batch(*data, return_dict=True)["loss"] for _ in range(15)]
    assert losses[-1] < losses[0]
    learner.save(tmp_path / "learner.keras")
    again = keras.saving.load_model(tmp_path / "learner.keras")
    np.testing.assert_allclose(again(data[0]), learner(data[0]), rtol=1e-5, atol=1e-6)
    for one in (again, learner):
        one.train_on_batch(*data)
    assert_equal(again.get_weights(), learner.get_weights())
