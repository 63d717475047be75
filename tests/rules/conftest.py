"""What the tests of all rules share."""

import contextlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.inner_loop import unroll


@pytest.fixture
def gradients():
    """`[6, 4]`: six steps of four coordinates, of very different sizes, with an exact zero here and there."""
    values = np.random.default_rng(0).normal(size=[6, 4]) * np.array([1.0, 100.0, 1e-3, 1.0])
    values[2, 0] = 0.0
    values[:3, 3] = 0.0
    return values.astype("float32")


@pytest.fixture
def play():
    """Returns the updates `[steps, coordinates]` that a rule answers to a sequence of gradients."""

    def play(rule, gradients, segments=None):
        state, updates = rule.initial_state(gradients.shape[1], segments), []
        for step, gradient in enumerate(gradients):
            offers = {"step": tf.constant(step), "segments": segments}
            update, state = rule(
                tf.constant(gradient, rule.dtype), state, **{name: offers[name] for name in rule.needs}
            )
            updates.append(update.numpy())
        return np.stack(updates)

    return play


@pytest.fixture
def saved_and_reloaded(tmp_path):
    """Returns what a `.keras` file gives back."""

    def saved_and_reloaded(rule):
        keras.saving.save_model(rule, tmp_path / "rule.keras")
        return keras.saving.load_model(tmp_path / "rule.keras")

    return saved_and_reloaded


@pytest.fixture
def refused():
    """A context that demands a ValueError of the house's form: `argument`, what was received, and on a new line what
    to do about it."""

    @contextlib.contextmanager
    def refused(argument, received):
        pattern = rf"(?s)^`{re.escape(argument)}` must .*Received: .*{re.escape(received)}.*\.\n\S.*\S"
        with pytest.raises(ValueError, match=pattern):
            yield

    return refused


@pytest.fixture
def meta_gradient_where_a_gradient_is_zero():
    """Meta-gradients through five steps on a loss that ignores the second coordinate, and whose gradient for the first
    is zero at the start: for the rule's weights and for the initial parameters."""

    def loss(parameters, carry, step):
        return tf.cast(step, parameters.dtype) * tf.square(parameters[0] - 1.0) + 0.0 * parameters[1], carry

    def meta_gradient(rule, second_derivatives):
        start = tf.constant([0.5, 2.0])
        weights = [variable.value for variable in rule.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(start)
            result = unroll(rule, loss, start, steps=5, second_derivatives=second_derivatives)
            meta_loss = tf.reduce_sum(result.losses) + tf.reduce_sum(tf.square(result.parameters))
        return [gradient.numpy() for gradient in tape.gradient(meta_loss, [*weights, start])]

    return meta_gradient
