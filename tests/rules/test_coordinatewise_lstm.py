"""The LSTM of Andrychowicz et al. 2016 against the same network written out in numpy."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.rules import CoordinatewiseLSTM, log_sign


def numpy_log_sign(gradient, p):
    """Appendix A, case by case."""
    large = np.abs(gradient) >= np.exp(-p)
    magnitude = np.where(large, np.log(np.where(large, np.abs(gradient), 1.0)) / p, -1.0)
    return np.stack([magnitude, np.where(large, np.sign(gradient), np.exp(p) * gradient)], axis=-1)


def numpy_lstm(rule, gradients, preprocess, p, output_scale, global_units=0):
    """Plays the rule's weights in numpy: gates in the order input, forget, output, candidate."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    *cells, kernel, bias = [np.array(weight, np.float64) for weight in rule.weights]
    layers = list(zip(cells[0::2], cells[1::2], strict=True))
    sizes = [len(layer_bias) // 4 for _, layer_bias in layers]
    outputs = [np.zeros([gradients.shape[1], size]) for size in sizes]
    memories = [np.zeros([gradients.shape[1], size]) for size in sizes]
    updates = []
    for gradient in gradients.astype("float64"):
        seen = numpy_log_sign(gradient, p) if preprocess else gradient[:, None]
        for layer, (layer_kernel, layer_bias) in enumerate(layers):
            size = sizes[layer]
            gates = np.concatenate([seen, outputs[layer]], axis=1) @ layer_kernel + layer_bias
            write, forget, read, candidate = (gates[:, i * size : (i + 1) * size] for i in range(4))
            memories[layer] = sigmoid(forget) * memories[layer] + sigmoid(write) * np.tanh(candidate)
            outputs[layer] = sigmoid(read) * np.tanh(memories[layer])
            if layer == 0 and global_units:
                outputs[0][:, :global_units] = outputs[0][:, :global_units].mean(axis=0)
            seen = outputs[layer]
        updates.append(output_scale * (seen @ kernel + bias)[:, 0])
    return np.stack(updates)


def with_random_weights(rule):
    generator = np.random.default_rng(5)
    for weight in rule.weights:
        weight.assign(generator.normal(size=weight.shape))
    return rule


# The gradient's preprocessing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [5.0, 10.0])
def test_log_sign_follows_appendix_a(p):
    edge = np.exp(-p)
    gradient = np.array([0.0, 1.0, -1.0, np.e, -100.0, 0.5 * edge, -0.1 * edge, 2 * edge, 1e-30, 1e30])
    expected = numpy_log_sign(gradient, p)
    np.testing.assert_allclose(log_sign(tf.constant(gradient), p), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(log_sign(tf.constant(gradient, tf.float32), p), expected, rtol=1e-5, atol=1e-6)


def test_log_sign_by_pencil():
    np.testing.assert_allclose(
        log_sign(tf.constant([np.e**2, -(np.e**-4), 0.25 * np.e**-8]), p=8.0),
        [[0.25, 1.0], [-0.5, -1.0], [-1.0, 0.25]],
        rtol=1e-6,
    )


def test_log_sign_has_a_finite_derivative_at_zero():
    gradient = tf.constant([0.0, 1e-20, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(gradient)
        seen = log_sign(gradient, 10.0)
    np.testing.assert_allclose(tape.gradient(seen, gradient), [np.exp(10), np.exp(10), 0.1], rtol=1e-5)


# The network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ({"preset": "paper"}, {"preprocess": True, "p": 10.0, "output_scale": 0.1}),
        ({"preset": "code"}, {"preprocess": True, "p": 5.0, "output_scale": 0.01}),
        ({"preset": "code", "p": 7.0}, {"preprocess": True, "p": 7.0, "output_scale": 0.01}),
        (
            {"preprocess": False, "output_scale": 1.0, "units": (4,)},
            {"preprocess": False, "p": 10.0, "output_scale": 1.0},
        ),
        (
            {"units": (5, 4, 3), "global_units": 2},
            {"preprocess": True, "p": 10.0, "output_scale": 0.1, "global_units": 2},
        ),
    ],
    ids=["paper", "code", "override", "raw one layer", "three layers averaged"],
)
def test_updates_are_those_of_the_network_in_numpy(play, gradients, arguments, settings):
    rule = with_random_weights(CoordinatewiseLSTM(**arguments))
    expected = numpy_lstm(rule, gradients, **settings)
    np.testing.assert_allclose(play(rule, gradients), expected, rtol=1e-4, atol=1e-5)


def test_the_papers_network_has_two_layers_of_twenty_units():
    shapes = [tuple(weight.shape) for weight in CoordinatewiseLSTM(preset="paper").trainable_variables]
    assert shapes == [(22, 80), (80,), (40, 80), (80,), (20, 1), (1,)]


def test_global_units_couple_coordinates_and_others_do_not(play, gradients):
    changed = gradients.copy()
    changed[:, 0] += 1.0
    for global_units, coupled in ((0, False), (3, True)):
        rule = with_random_weights(CoordinatewiseLSTM(units=(6, 6), global_units=global_units))
        assert rule.coordinatewise is not coupled
        moved = play(rule, gradients)[:, 1:] != play(rule, changed)[:, 1:]
        assert np.any(moved) == coupled


def test_forget_gates_start_open():
    rule = CoordinatewiseLSTM(units=(3,))
    np.testing.assert_array_equal(rule.weights[1], [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])


def test_seed_fixes_the_initial_weights(play, gradients):
    first, same, other = (play(CoordinatewiseLSTM(seed=seed), gradients) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


def test_layers_of_equal_size_start_with_different_weights():
    """Inputs of both later layers have 20 units, so that their kernels have one shape."""
    rule = CoordinatewiseLSTM(units=(20, 20, 20), seed=0)
    assert np.any(np.array(rule.weights[2]) != np.array(rule.weights[4]))


def test_config_round_trip():
    rule = CoordinatewiseLSTM("code", units=(7, 3), preprocess=False, p=3.0, global_units=2, chunks=5, name="lstm")
    again = CoordinatewiseLSTM.from_config(rule.get_config())
    assert again.get_config() == rule.get_config()
    settings = (again.units, again.preprocess, again.p, again.output_scale, again.global_units, again.chunks)
    assert settings == ((7, 3), False, 3.0, 0.01, 2, 5)


def test_trained_weights_survive_saving(saved_and_reloaded, play, gradients):
    rule = with_random_weights(CoordinatewiseLSTM("code", units=(4, 3), global_units=1, chunks=3))
    reloaded = saved_and_reloaded(rule)
    np.testing.assert_array_equal(play(reloaded, gradients), play(rule, gradients))
    assert reloaded.get_config() == rule.get_config()


def test_no_coordinates_are_no_trouble():
    rule = CoordinatewiseLSTM()
    update, state = rule(tf.zeros([0]), rule.initial_state(0))
    assert update.shape == [0]
    assert state[0][0].shape == [0, 20]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("preset", "papr"),
        ("units", ()),
        ("units", (20, 0)),
        ("units", (20.0,)),
        ("global_units", -1),
        ("global_units", 21),
        ("chunks", 0),
        ("chunks", 1.5),
        ("p", 0.0),
        ("p", -1.0),
    ],
)
def test_arguments_must_be_in_their_ranges(refused, argument, value):
    with refused(argument, f"{argument}={value!r}"):
        CoordinatewiseLSTM(**{argument: value})
