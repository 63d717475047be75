"""Gradient descent with a learned rate for each parameter."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.rules.base import UpdateRule


@keras.saving.register_keras_serializable("tf_metalearn")
class RatePerParameter(UpdateRule):
    """update = -rates * gradient, with a learned rate for each coordinate.

    Args:
        coordinates: How many numbers it moves, no more and no fewer.
        rates: The range from which rates are drawn at the start.
        seed: Of these.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    Raises:
        ValueError: If there are no coordinates, or the range is none.

    >>> rule = RatePerParameter(2, rates=(0.5, 0.5))
    >>> update, state = rule(tf.constant([2.0, -4.0]), ())
    >>> update.numpy()
    array([-1.,  2.], dtype=float32)

    Reference: Li et al. 2017, equation 2. https://arxiv.org/abs/1707.09835
    """

    coordinatewise = False

    def __init__(
        self,
        coordinates: int,
        rates: Sequence[float] = (0.005, 0.1),
        seed: int = 0,
        name: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        if not isinstance(coordinates, int) or coordinates < 1:
            raise ValueError(
                f"`coordinates` must be a positive integer. Received: coordinates={coordinates!r}.\n"
                "It is the number of trainable values of the base learner."
            )
        if len(rates) != 2 or not rates[0] <= rates[1]:
            raise ValueError(f"`rates` must be (least, greatest). Received: rates={rates!r}.\nTry (0.005, 0.1).")
        self.coordinates, self.seed = coordinates, seed
        self._range = (float(rates[0]), float(rates[1]))
        self.rates = self.add_weight(
            shape=(coordinates,), initializer=keras.initializers.RandomUniform(*self._range, seed=seed), name="rates"
        )

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        if gradient.shape[0] not in (None, self.coordinates):
            raise ValueError(
                f"`gradient` must have {self.coordinates} coordinates, as many as this rule has rates. Received: "
                f"{gradient.shape[0]}.\nMake a RatePerParameter for this model."
            )
        return -tf.convert_to_tensor(self.rates) * gradient, state

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "coordinates": self.coordinates, "rates": list(self._range), "seed": self.seed}
