"""The Meta-LSTM as a learner: what it learns, and its gates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.rules import MetaLSTMRule


def cross_entropy(y, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


def test_with_pinned_gates_it_is_first_order_maml(network, points):
    """forget = 1 and input = rate is gradient descent; gradients that count as constants are FOMAML."""
    data, rate = points(), 0.3
    rule = MetaLSTMRule(weight_range=0.0, forget_bias=(40, 40), input_bias=(np.log(rate / (1 - rate)),) * 2)
    weights = []
    for learner in (tfm.MetaLSTM(network(), 3, rule), tfm.MAML(network(), 3, rate, first_order=True)):
        predictions = learner(data[0])
        learner.compile(keras.optimizers.SGD(1.0))
        learner.train_on_batch(*data)
        weights.append((predictions, *learner.base_learner.get_weights()))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)


def test_meta_gradients_with_gradients_and_losses_as_constants(network, points):
    """Finite differences of the same updates with the inner gradients and losses of the unmoved learner put in."""
    episode, query_y = points("float64")
    episode, query_y = tfm.Episode(*(part[:1] for part in episode)), query_y[:1]
    rule = MetaLSTMRule(units=3, weight_range=0.5, input_bias=(-1, 0), seed=0, dtype="float64")
    learner = tfm.MetaLSTM(
        network(dtype="float64"), 2, rule, inner_loss=cross_entropy, evaluation_steps=2, dtype="float64"
    )
    with tf.GradientTape() as tape:
        loss = cross_entropy(query_y, learner(episode, training=True))
    variables = learner.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    model = learner.base_learner

    def recorded():
        """What the inner loop was given at each step, written down once."""
        given, parameter, state = [], flat(model), rule.initial_state(flat(model).shape[0])
        for _ in range(2):
            with tf.GradientTape() as inner:
                inner.watch(parameter)
                value = cross_entropy(episode.support_y[0], applied(parameter, episode.support_x[0]))
            given.append((inner.gradient(value, parameter), value))
            update, state = rule(given[-1][0], state, parameter=parameter, loss=value)
            parameter = parameter + update
        return given

    def applied(parameter, x):
        pure = tfm.functional.StatelessModel(model)
        return pure(parameter, pure.non_trainable(), x)[0]

    def flat(model):
        return tfm.functional.StatelessModel(model).parameters()

    given = recorded()

    def value():
        parameter, state = flat(model), rule.initial_state(flat(model).shape[0])
        for gradient, told in given:
            update, state = rule(gradient, state, parameter=parameter, loss=told)
            parameter = parameter + update
        return float(cross_entropy(query_y[0], applied(parameter, episode.query_x[0])))

    assert value() == pytest.approx(float(loss), rel=1e-6)
    for variable, gradient in zip(variables, gradients, strict=True):
        start = variable.numpy()
        for place in list(np.ndindex(start.shape))[:3]:
            ends = []
            for sign in (1, -1):
                moved = np.array(start)
                moved[place] += sign * 1e-6
                variable.assign(moved)
                ends.append(value())
            variable.assign(start)
            expected = (ends[0] - ends[1]) / 2e-6
            assert np.asarray(gradient)[place] == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("inner_batch_size", [None, 2])
def test_gates_are_those_of_the_inner_loop(network, points, inner_batch_size):
    (episode, _), model = points(), network()
    rule = MetaLSTMRule(weight_range=0.5, seed=0)
    learner = tfm.MetaLSTM(model, 4, rule, inner_batch_size=inner_batch_size)
    gates = learner.gates(episode.support_x[0], episode.support_y[0])
    assert gates.forget.shape == gates.input.shape == (4, 2 * 4 + 4 + 4 * 3 + 3)
    adapted = learner._adaptation.advance(
        learner._adaptation.start(),
        *(episode.support_x[0], tf.cast(episode.support_y[0], tf.int32), 4),
        tfm.learners.adaptation.Settings(False, False),
    )
    np.testing.assert_allclose(gates.forget[-1], adapted.state.gates[0], rtol=1e-5)
    np.testing.assert_allclose(gates.input[-1], adapted.state.gates[1], rtol=1e-5)


@pytest.mark.slow
def test_it_learns_a_rate_and_a_start_that_solve_new_tasks(seed):
    """Sine waves, three steps."""
    learner = tfm.MetaLSTM(
        tfm.backbones.sinusoid_mlp((20, 20)), 3, MetaLSTMRule(input_bias=(-4, -3), seed=0), inner_loss="mse"
    )
    learner.compile(keras.optimizers.Adam(3e-3, global_clipnorm=1.0), loss="mse")
    test = tfm.load_episodes("sinusoids", "test", shots=10, queries=10, batch_size=8, episodes=80)
    before = learner.evaluate(test, verbose=0, return_dict=True)
    learner.fit(tfm.load_episodes("sinusoids", shots=10, queries=10, batch_size=4), steps_per_epoch=200, verbose=0)
    after = learner.evaluate(test, verbose=0, return_dict=True)
    assert after["loss"] < 0.8 * before["loss"]
    assert after["loss"] < 0.9 * after["loss_before"]
