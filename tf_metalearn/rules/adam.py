"""Adam, differentiable everywhere."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.rules.gradient_descent import RuleWithRate


@keras.saving.register_keras_serializable("tf_metalearn")
class Adam(RuleWithRate):
    """update = -learning_rate * m / sqrt(v + epsilon^2), m and v the bias-corrected running moments.

    The epsilon stands inside the root, squared: the usual form has an infinite derivative where a gradient is
    exactly zero, which turns meta-gradients into NaN.

    Args:
        learning_rate: A positive number; a weight of the rule.
        beta_1: Decay of the first moment, in [0, 1).
        beta_2: Decay of the second moment, in [0, 1).
        epsilon: A positive number.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    >>> rule = Adam(0.1)
    >>> update, _ = rule(tf.constant([5.0, 0.0]), rule.initial_state(2), step=tf.constant(0))
    >>> update.numpy().round(4)
    array([-0.1, -0. ], dtype=float32)

    Reference: Kingma and Ba 2015, algorithm 1. https://arxiv.org/abs/1412.6980
    """

    needs = frozenset({"step"})

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, name=name, dtype=dtype, **kwargs)
        for argument, value in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= value < 1:
                raise ValueError(
                    f"`{argument}` must be in [0, 1). Received: {argument}={value!r}.\n"
                    "Common choices are beta_1=0.9, beta_2=0.999."
                )
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon!r}.\nA common choice is 1e-8.")
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def initial_state(self, coordinates, segments=None):
        return tf.zeros([coordinates], self.dtype), tf.zeros([coordinates], self.dtype)

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        first, second = state
        first = self.beta_1 * first + (1 - self.beta_1) * gradient
        second = self.beta_2 * second + (1 - self.beta_2) * tf.square(gradient)
        count = tf.cast(step, gradient.dtype) + 1
        mean = first / (1 - tf.pow(tf.cast(self.beta_1, gradient.dtype), count))
        mean_square = second / (1 - tf.pow(tf.cast(self.beta_2, gradient.dtype), count))
        update = -tf.convert_to_tensor(self.learning_rate) * mean * tf.math.rsqrt(mean_square + self.epsilon**2)
        return update, (first, second)

    def get_config(self) -> dict[str, Any]:
        config = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **config}
