"""Gradient descent, and the learning rate that the hand-made rules share."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.rules.base import UpdateRule


class RuleWithRate(UpdateRule):
    """A rule with a learning rate, which is a scalar weight and so can be meta-learned.

    Args:
        learning_rate: A positive number.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.
    """

    def __init__(self, learning_rate: float, name: str | None = None, dtype: Any = "float32", **kwargs: Any):
        super().__init__(name=name, dtype=dtype, **kwargs)
        if not isinstance(learning_rate, (int, float)) or not 0 < learning_rate < float("inf"):
            raise ValueError(
                f"`learning_rate` must be a positive number. Received: learning_rate={learning_rate!r}.\n"
                f"Try {type(self).__name__}(learning_rate=0.01)."
            )
        self._initial_learning_rate = float(learning_rate)
        self.learning_rate = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self._initial_learning_rate), name="learning_rate"
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learning_rate": self._initial_learning_rate}


@keras.saving.register_keras_serializable("tf_metalearn")
class GradientDescent(RuleWithRate):
    """update = -learning_rate * gradient.

    Args:
        learning_rate: A positive number; a weight of the rule.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    >>> update, state = GradientDescent(0.5)(tf.constant([2.0, -4.0]), ())
    >>> update.numpy()
    array([-1.,  2.], dtype=float32)
    """

    def __init__(self, learning_rate: float = 0.01, name: str | None = None, dtype: Any = "float32", **kwargs: Any):
        super().__init__(learning_rate, name=name, dtype=dtype, **kwargs)

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        return -tf.convert_to_tensor(self.learning_rate) * gradient, state
