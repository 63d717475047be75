"""Gradient descent with a learned rate for each layer and inner step."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.rules.base import UpdateRule


@keras.saving.register_keras_serializable("tf_metalearn")
class RatePerLayerAndStep(UpdateRule):
    """update = -rate * gradient, with a learned rate for each variable of the model at each inner step.

    Args:
        layers: How many variables it moves, the model's kernels and biases.
        steps: How many inner steps have rates of their own; later ones take the last.
        learning_rate: All rates at the start.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    Raises:
        ValueError: If a number is not in its range.

    >>> from tf_metalearn.functional import segments_of
    >>> rule = RatePerLayerAndStep(layers=2, steps=3, learning_rate=0.5)
    >>> segments = segments_of(["kernel", "bias"], [(2,), (1,)])
    >>> update, _ = rule(tf.constant([2.0, 4.0, -2.0]), (), step=tf.constant(0), segments=segments)
    >>> update.numpy()
    array([-1., -2.,  1.], dtype=float32)

    Reference: Antoniou et al. 2019, section 4, "LSLR". https://arxiv.org/abs/1810.09502
    """

    needs = frozenset({"step", "segments"})
    coordinatewise = False

    def __init__(
        self,
        layers: int,
        steps: int,
        learning_rate: float = 0.1,
        name: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        for argument, value in (("layers", layers), ("steps", steps)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{argument}` must be a positive integer. Received: {argument}={value!r}.\n"
                    "Rates belong to the variables of a model and to inner steps."
                )
        if not learning_rate > 0:
            raise ValueError(f"`learning_rate` must be positive. Received: learning_rate={learning_rate!r}.\nTry 0.1.")
        self.layers, self.steps, self.learning_rate = layers, steps, float(learning_rate)
        self.rates = self.add_weight(
            shape=(layers, steps), initializer=keras.initializers.Constant(self.learning_rate), name="rates"
        )

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        if len(segments) != self.layers:
            raise ValueError(
                f"`segments` must be {self.layers} variables, as many as this rule has rates. Received: "
                f"{len(segments)}.\nMake a RatePerLayerAndStep for this model."
            )
        rates = tf.gather(self.rates, tf.minimum(step, self.steps - 1), axis=1)
        pieces = tf.split(gradient, [segment.size for segment in segments])
        return tf.concat([-rates[index] * piece for index, piece in enumerate(pieces)], axis=0), state

    def get_config(self) -> dict[str, Any]:
        config = {"layers": self.layers, "steps": self.steps, "learning_rate": self.learning_rate}
        return {**super().get_config(), **config}
