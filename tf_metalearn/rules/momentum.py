"""Gradient descent with momentum, classical or Nesterov's."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.rules.gradient_descent import RuleWithRate


@keras.saving.register_keras_serializable("tf_metalearn")
class Momentum(RuleWithRate):
    """velocity = momentum * velocity - learning_rate * gradient; the update is the velocity, or with Nesterov's
    look-ahead momentum * velocity - learning_rate * gradient with the new velocity.

    Args:
        learning_rate: A positive number; a weight of the rule.
        momentum: In [0, 1).
        nesterov: Whether to look ahead.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    >>> rule = Momentum(0.1, momentum=0.9)
    >>> update, state = rule(tf.constant([1.0]), rule.initial_state(1))
    >>> update, state = rule(tf.constant([1.0]), state)
    >>> update.numpy().round(3)
    array([-0.19], dtype=float32)

    Reference: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", eq. 1 to 4,
    in the variables of the look-ahead point, as deep-learning libraries write it.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        nesterov: bool = False,
        name: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, name=name, dtype=dtype, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={momentum!r}.\nA common choice is 0.9.")
        self.momentum = momentum
        self.nesterov = nesterov

    def initial_state(self, coordinates, segments=None):
        return tf.zeros([coordinates], self.dtype)

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        move = tf.convert_to_tensor(self.learning_rate) * gradient
        velocity = self.momentum * state - move
        return (self.momentum * velocity - move if self.nesterov else velocity), velocity

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}
