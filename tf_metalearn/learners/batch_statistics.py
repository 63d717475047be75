"""Batch normalisation in an episode: whose statistics normalise whom."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_metalearn.functional import StatelessModel


class BatchStatistics:
    """The batch-normalisation statistics among a model's non-trainable values.

    Args:
        model: The model; without batch normalisation there is nothing to do.

    >>> layers = [keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    >>> model = StatelessModel(keras.Sequential([keras.Input([1]), *layers]))
    >>> x = tf.constant([[1.0], [3.0]])
    >>> values = BatchStatistics(model).of(model.parameters(), model.non_trainable(), x)
    >>> [value.numpy().round(3).tolist() for value in values]
    [[2.0], [1.0]]
    """

    def __init__(self, model: StatelessModel):
        self._model = model
        places = {id(variable): place for place, variable in enumerate(model.model.non_trainable_variables)}
        #: The momentum of each statistic, by its place among the non-trainable values.
        self.momenta = {
            places[id(variable)]: layer.momentum
            for layer in model.model._flatten_layers()
            # A frozen layer goes on with its averages, in training too.
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            for variable in (layer.moving_mean, layer.moving_variance)
        }

    @property
    def alone(self) -> bool:
        """Whether a model's training differs from its inference by these statistics only: not by dropout, for one."""
        return 0 < len(self.momenta) == len(self._model.model.non_trainable_variables)

    def of(
        self, parameters: tf.Tensor | Sequence[tf.Tensor], non_trainable: Sequence[tf.Tensor], x: tf.Tensor
    ) -> list[tf.Tensor]:
        """Puts a batch's own statistics in the place of running averages.

        Args:
            parameters: `[coordinates]`, or one tensor a trainable variable.
            non_trainable: One tensor a non-trainable variable.
            x: `[examples, ...]`.

        Returns:
            The non-trainable values.
        """
        if not self.momenta:
            return list(non_trainable)
        empty = {place: tf.zeros_like(non_trainable[place]) for place in self.momenta}
        values = [empty.get(place, value) for place, value in enumerate(non_trainable)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(empty)
            _, after, _ = self._model(parameters, values, x, training=True)
            averages = {place: after[place] for place in empty}
        # How much of the empty average is left: the momentum, once for each call of the layer in the model.
        left = tape.gradient(averages, empty)
        found = list(non_trainable)
        for place, momentum in self.momenta.items():
            # Of one call Keras's own number, as 1 - left has fewer digits.
            once = tf.constant(1 - momentum, left[place].dtype)
            weight = tf.where(left[place] == momentum, once, 1 - left[place])
            found[place] = tf.math.divide_no_nan(averages[place], weight)
        return found
