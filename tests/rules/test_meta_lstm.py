"""The Meta-LSTM's rule against the paper's equations in numpy, and against gradient descent."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.inner_loop import unroll
from tf_metalearn.rules import GradientDescent, MetaLSTMRule
from tools import plateau


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def preprocessed(x, p=10.0):
    """Ravi & Larochelle 2017, equation 5."""
    return np.array([np.log(abs(x)) / p, np.sign(x)]) if abs(x) >= np.exp(-p) else np.array([-1, np.exp(p) * x])


def test_two_steps_by_the_equations_of_the_paper():
    """Section 3, equation 2, with the ordinary LSTM's output in the place of gradient and loss."""
    rule = MetaLSTMRule(units=3, weight_range=0.7, seed=1)
    kernel, loss_kernel, bias, gate_kernel, of_parameter, of_gate, forget_bias, input_bias = (
        weight.numpy().astype(np.float64)
        for weight in (
            *(rule.lstm_kernel, rule.loss_kernel, rule.lstm_bias, rule.gate_kernel),
            *(rule.parameter_weight, rule.gate_weight, *rule.gate_bias),
        )
    )
    gradients, losses = [[0.3, -2.0, 1e-6], [0.0, 5.0, -0.1]], [2.5, 1e-5]
    parameter, state = tf.constant([0.5, -1.0, 2.0]), rule.initial_state(3)
    theta, output, cell, gates = np.array([0.5, -1.0, 2.0]), np.zeros([3, 3]), np.zeros([3, 3]), np.zeros([2, 3])
    for gradient, loss in zip(gradients, losses, strict=True):
        update, state = rule(tf.constant(gradient), state, parameter=parameter, loss=tf.constant(loss))
        parameter = parameter + update
        for place in range(3):
            x = np.concatenate([preprocessed(gradient[place]), output[place]])
            write, keep, read, candidate = np.split(x @ kernel + preprocessed(loss) @ loss_kernel + bias, 4)
            cell[place] = sigmoid(keep) * cell[place] + sigmoid(write) * np.tanh(candidate)
            output[place] = sigmoid(read) * np.tanh(cell[place])
            for gate, gate_bias in enumerate((forget_bias, input_bias)):
                signal = output[place] @ gate_kernel[:, gate] + of_parameter[gate] * theta[place]
                gates[gate, place] = sigmoid(signal + of_gate[gate] * gates[gate, place] + gate_bias)
            theta[place] = gates[0, place] * theta[place] - gates[1, place] * gradient[place]
        np.testing.assert_allclose(parameter, theta, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.gates, gates, rtol=1e-5)


def test_gates_start_where_the_paper_puts_them():
    for seed in range(20):
        rule = MetaLSTMRule(seed=seed)
        assert 4 <= float(rule.gate_bias[0]) <= 6
        assert -5 <= float(rule.gate_bias[1]) <= -4
        assert max(float(tf.reduce_max(tf.abs(weight))) for weight in rule.trainable_variables[:2]) <= 0.01


def pinned(rate):
    """forget = 1 and input = rate, whatever the inputs."""
    rule = MetaLSTMRule(weight_range=0.0, forget_bias=(40, 40), input_bias=(np.log(rate / (1 - rate)),) * 2)
    assert all(not np.any(weight) for weight in rule.trainable_variables[:-2])
    return rule


@pytest.mark.parametrize("rate", [0.01, 0.4])
def test_with_pinned_gates_it_is_gradient_descent(rate):
    """forget = 1 and input = rate turn the cell-state equation into theta - rate * gradient (equations 1 and 2)."""
    matrix = np.random.default_rng(0).normal(size=[6, 6]).astype("float32")
    matrix = matrix @ matrix.T / 6

    def bowl(parameters, carry, step):
        return 0.5 * tf.tensordot(parameters, tf.linalg.matvec(matrix, parameters), 1), carry

    start = tf.constant(np.linspace(-3, 3, 6), tf.float32)
    ours = unroll(pinned(rate), bowl, start, steps=20)
    descent = unroll(GradientDescent(rate), bowl, start, steps=20)
    np.testing.assert_allclose(ours.losses, descent.losses, rtol=2e-6)
    np.testing.assert_allclose(ours.parameters, descent.parameters, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
def test_a_trained_forget_gate_leaves_a_plateau_where_gradient_descent_stays():
    """Section 3.1: high loss and a gradient near zero are when to shrink the parameters and forget."""
    [learned] = plateau.watch(plateau.train_meta_lstm(), seeds=[1000])
    [descent] = plateau.watch(GradientDescent(1.0, dtype="float64"), seeds=[1000])
    assert learned.losses[0] == descent.losses[0] > 0.99
    assert descent.losses[-1] > 0.99
    assert learned.losses[-1] < 0.01
    # It got near 0 by forgetting, as gradients that small move nothing; and then it stopped.
    assert learned.gates[0][0].max() < 0.1
    assert learned.gates[0][-1].min() > 0.9


def test_bad_arguments_are_refused(refused):
    with refused("units", "0"):
        MetaLSTMRule(units=0)
    with refused("forget_bias", "(6, 4)"):
        MetaLSTMRule(forget_bias=(6, 4))
