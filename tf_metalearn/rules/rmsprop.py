"""RMSprop."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.rules.gradient_descent import RuleWithRate


@keras.saving.register_keras_serializable("tf_metalearn")
class RMSprop(RuleWithRate):
    """update = -learning_rate * gradient / sqrt(mean_square + epsilon^2).

    The epsilon stands inside the root, squared, so that it weighs what it weighs outside and the derivative is finite
    where a gradient is exactly zero.

    Args:
        learning_rate: A positive number; a weight of the rule.
        rho: How much of the running mean square is kept at each step, in [0, 1).
        epsilon: A positive number.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    >>> rule = RMSprop(0.1, rho=0.75)
    >>> update, _ = rule(tf.constant([2.0, 0.0]), rule.initial_state(2))
    >>> update.numpy().round(4)
    array([-0.2, -0. ], dtype=float32)

    Reference: Tieleman and Hinton 2012, "Neural networks for machine learning", lecture 6.5.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        epsilon: float = 1e-7,
        name: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, name=name, dtype=dtype, **kwargs)
        if not 0 <= rho < 1:
            raise ValueError(f"`rho` must be in [0, 1). Received: rho={rho!r}.\nA common choice is 0.9.")
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon!r}.\nA common choice is 1e-7.")
        self.rho = rho
        self.epsilon = epsilon

    def initial_state(self, coordinates, segments=None):
        return tf.zeros([coordinates], self.dtype)

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        mean_square = self.rho * state + (1 - self.rho) * tf.square(gradient)
        update = -tf.convert_to_tensor(self.learning_rate) * gradient * tf.math.rsqrt(mean_square + self.epsilon**2)
        return update, mean_square

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}
