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
        """Zeros for each moment that decays; where a beta is 0, there is nothing to remember."""
        return tuple(tf.zeros([coordinates], self.dtype) for beta in (self.beta_1, self.beta_2) if beta)

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        count = tf.cast(step, gradient.dtype) + 1
        before, after, moments = iter(state), [], []
        for beta, value in ((self.beta_1, gradient), (self.beta_2, tf.square(gradient))):
            if beta:
                after.append(beta * next(before) + (1 - beta) * value)
                value = after[-1] / (1 - tf.pow(tf.cast(beta, gradient.dtype), count))
            moments.append(value)
        mean, mean_square = moments
        update = -tf.convert_to_tensor(self.learning_rate) * mean * tf.math.rsqrt(mean_square + self.epsilon**2)
        return update, tuple(after)

    def get_config(self) -> dict[str, Any]:
        config = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **config}
