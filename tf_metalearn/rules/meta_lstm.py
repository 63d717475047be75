"""The Meta-LSTM's rule: an LSTM whose cell state is the parameter."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_metalearn.rules.base import UpdateRule
from tf_metalearn.rules.coordinatewise_lstm import log_sign


class MetaLSTMState(NamedTuple):
    """What the rule remembers of each coordinate.

    Args:
        output: `[coordinates, units]`, of the LSTM.
        cell: `[coordinates, units]`, of the LSTM.
        gates: The forget and the input gate at the last step, `[coordinates]` each.
    """

    output: tf.Tensor
    cell: tf.Tensor
    gates: tuple[tf.Tensor, tf.Tensor]


@keras.saving.register_keras_serializable("tf_metalearn")
class MetaLSTMRule(UpdateRule):
    """next parameter = forget * parameter - input * gradient, with gates in (0, 1) that are learned.

    The forget gate is a learned decay, the input gate a learned rate; gradient descent is forget = 1, input = rate.
    Both see the output of an ordinary LSTM over gradient and loss, the parameter, and their own last value. Weights
    are shared by all coordinates.

    Args:
        units: Of the LSTM.
        p: The range of the preprocessing of gradient and loss, in powers of e; see `log_sign`.
        forget_bias: The range from which the forget gate's bias is drawn at the start: near 1, to forget little.
        input_bias: The same of the input gate: sigmoid(-5) to sigmoid(-4) are rates of 0.007 to 0.018.
        weight_range: All other weights start between minus and plus this.
        chunks: Into how many parts coordinates are cut, to run side by side; the result does not depend on it.
        seed: Of the initial weights.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    Raises:
        ValueError: If a number is not positive, or a range is none.

    >>> rule = MetaLSTMRule(seed=0)
    >>> update, state = rule(tf.ones([5]), rule.initial_state(5), parameter=tf.ones([5]), loss=tf.constant(2.0))
    >>> update.shape, [gate.shape for gate in state.gates]
    (TensorShape([5]), [TensorShape([5]), TensorShape([5])])

    Reference: Ravi and Larochelle 2017, section 3. https://openreview.net/forum?id=rJY0-Kcll
    """

    needs = frozenset({"parameter", "loss"})
    coordinatewise = True

    def __init__(
        self,
        units: int = 20,
        p: float = 10.0,
        forget_bias: Sequence[float] = (4.0, 6.0),
        input_bias: Sequence[float] = (-5.0, -4.0),
        weight_range: float = 0.01,
        chunks: int = 2,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        for argument, value, kinds in (("units", units, int), ("chunks", chunks, int), ("p", p, int | float)):
            if not isinstance(value, kinds) or value <= 0:
                raise ValueError(
                    f"`{argument}` must be positive. Received: {argument}={value!r}.\nThe paper has "
                    "20 units and p = 10; chunks are as many as CPU cores."
                )
        for argument, span in (("forget_bias", forget_bias), ("input_bias", input_bias)):
            if len(span) != 2 or not span[0] <= span[1]:
                raise ValueError(
                    f"`{argument}` must be (least, greatest). Received: {argument}={span!r}.\n"
                    "The paper has forget_bias=(4, 6) and input_bias=(-5, -4)."
                )
        self.units, self.p, self.chunks, self.seed = units, p, chunks, seed
        self.forget_bias, self.input_bias = tuple(forget_bias), tuple(input_bias)
        self.weight_range = weight_range
        # Rows are features; the columns of the gates are forget and input.
        self.lstm_kernel = self._weight("lstm_kernel", (2 + units, 4 * units), 0)
        self.loss_kernel = self._weight("loss_kernel", (2, 4 * units), 1)
        self.lstm_bias = self.add_weight(shape=(4 * units,), initializer="zeros", name="lstm_bias")
        self.gate_kernel = self._weight("gate_kernel", (units, 2), 2)
        self.parameter_weight = self._weight("parameter_weight", (2,), 3)
        self.gate_weight = self._weight("gate_weight", (2,), 4)
        self.gate_bias = [
            self._weight(f"{gate}_bias", (), 5 + index, span)
            for index, (gate, span) in enumerate((("forget", self.forget_bias), ("input", self.input_bias)))
        ]

    def _weight(self, name, shape, index, span=None):
        low, high = span or (-self.weight_range, self.weight_range)
        seed = None if self.seed is None else self.seed + index
        return self.add_weight(shape=shape, initializer=keras.initializers.RandomUniform(low, high, seed), name=name)

    def initial_state(self, coordinates, segments=None):
        """Zeros, gates included: before the first step nothing was forgotten or written."""
        zeros = tf.zeros([coordinates, self.units], self.dtype)
        return MetaLSTMState(zeros, zeros, (zeros[:, 0], zeros[:, 0]))

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        # The loss is the same for all coordinates: its part of the product is computed once.
        shared = tf.matmul(log_sign(tf.reshape(loss, [1]), self.p), self.loss_kernel) + self.lstm_bias
        inputs = tf.concat([log_sign(gradient, self.p), state.output], axis=-1)
        write, keep, read, candidate = tf.split(tf.matmul(inputs, self.lstm_kernel) + shared, 4, axis=-1)
        cell = tf.sigmoid(keep) * state.cell + tf.sigmoid(write) * tf.tanh(candidate)
        output = tf.sigmoid(read) * tf.tanh(cell)

        signals = [
            tf.matmul(output, self.gate_kernel)[:, gate]
            + self.parameter_weight[gate] * parameter
            + self.gate_weight[gate] * state.gates[gate]
            + self.gate_bias[gate]
            for gate in range(2)
        ]
        forget, write = (tf.sigmoid(signal) for signal in signals)
        # forget - 1, without the rounding error of a forget gate near 1.
        update = -tf.sigmoid(-signals[0]) * parameter - write * gradient
        return update, MetaLSTMState(output, cell, (forget, write))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "p": self.p,
            "forget_bias": list(self.forget_bias),
            "input_bias": list(self.input_bias),
            "weight_range": self.weight_range,
            "chunks": self.chunks,
            "seed": self.seed,
        }
