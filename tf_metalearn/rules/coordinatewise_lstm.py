"""The learned optimizer of "Learning to learn by gradient descent by gradient descent": an LSTM on each coordinate."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.rules.base import UpdateRule

#: What the paper (section 2.1 and appendix A) and the authors' code each set.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"preprocess": True, "p": 10.0, "output_scale": 0.1},
    "code": {"preprocess": True, "p": 5.0, "output_scale": 0.01},
}


def log_sign(gradient: tf.Tensor, p: float = 10.0) -> tf.Tensor:
    """Splits a gradient into its order of magnitude and its sign, so that an LSTM can see both.

    Args:
        gradient: `[coordinates]` float tensor.
        p: How many powers of e count as large; gradients under exp(-p) are scaled up linearly.

    Returns:
        `[coordinates, 2]`: (log|g| / p, sign g) where |g| >= exp(-p), else (-1, exp(p) g). The first is at least -1,
        the second in [-1, 1].

    >>> log_sign(tf.constant([1.0, -1.0])).numpy()
    array([[ 0.,  1.],
           [ 0., -1.]], dtype=float32)

    Reference: Andrychowicz et al. 2016, appendix A. https://arxiv.org/abs/1606.04474
    """
    magnitude = tf.maximum(tf.abs(gradient), math.exp(-p))
    sign = tf.clip_by_value(math.exp(p) * gradient, -1.0, 1.0)
    return tf.stack([tf.math.log(magnitude) / p, sign], axis=-1)


@keras.saving.register_keras_serializable("tf_metalearn")
class CoordinatewiseLSTM(UpdateRule):
    """An LSTM with shared weights and a state of its own for every coordinate: update = scale * linear(lstm(gradient)).

    All coordinates of all variables are one batch for the LSTM.

    Args:
        preset: "paper" (p = 10, output scale 0.1) or "code" (p = 5, output scale 0.01), the settings of the paper and
            of its authors' code. Any of the next arguments overrides its part of the preset.
        units: Units of each LSTM layer.
        preprocess: Whether the LSTM sees `log_sign` of the gradient, or the gradient itself (the paper's quadratics).
        p: The range of the preprocessing, in powers of e.
        output_scale: What the linear output is multiplied by.
        global_units: How many units of the first layer are averaged across all coordinates at each step, so that
            coordinates can tell each other (the paper's global averaging cells, appendix B). They couple coordinates.
        chunks: Into how many parts a batch of coordinates is cut, so that they run side by side: as many as there are
            CPU cores, 1 on an accelerator. The result does not depend on it.
        seed: Of the initial weights.
        name: Of the layer.
        dtype: Of the weights and the arithmetic.

    >>> rule = CoordinatewiseLSTM(preset="paper", seed=0)
    >>> update, state = rule(tf.ones([5]), rule.initial_state(5))
    >>> update.shape.as_list()
    [5]

    Reference: Andrychowicz et al. 2016, sections 2.1 and 3. https://arxiv.org/abs/1606.04474
    """

    def __init__(
        self,
        preset: str = "paper",
        units: Sequence[int] = (20, 20),
        preprocess: bool | None = None,
        p: float | None = None,
        output_scale: float | None = None,
        global_units: int = 0,
        chunks: int = 2,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        if preset not in PRESETS:
            raise ValueError(
                f"`preset` must be one of {sorted(PRESETS)}. Received: preset={preset!r}.\n"
                "Choose 'paper', or 'code' for the settings of the authors' code."
            )
        units = tuple(units)
        if not units or any(not isinstance(size, int) or size < 1 for size in units):
            raise ValueError(
                f"`units` must be positive integers, one for each LSTM layer. Received: units={units!r}.\n"
                "The paper uses (20, 20)."
            )
        if not 0 <= global_units <= units[0]:
            raise ValueError(
                "`global_units` must be between 0 and the units of the first layer. "
                f"Received: global_units={global_units!r} with units={units!r}.\nUse 0 for independent coordinates."
            )
        if not isinstance(chunks, int) or chunks < 1:
            raise ValueError(
                f"`chunks` must be a positive integer. Received: chunks={chunks!r}.\nUse the number of CPU cores."
            )
        settings = dict(PRESETS[preset])
        overrides = {"preprocess": preprocess, "p": p, "output_scale": output_scale}
        settings.update({argument: value for argument, value in overrides.items() if value is not None})
        if not settings["p"] > 0:
            raise ValueError(f"`p` must be positive. Received: p={p!r}.\nThe paper has 10, its authors' code 5.")
        self.preset = preset
        self.units = units
        self.preprocess: bool = settings["preprocess"]
        self.p: float = settings["p"]
        self.output_scale: float = settings["output_scale"]
        self.global_units = global_units
        self.chunks = chunks
        self.seed = seed

        seeds = iter([None] * (2 * len(units) + 1) if seed is None else range(seed, seed + 2 * len(units) + 1))
        inputs = 2 if self.preprocess else 1
        self.cells = []
        for layer, size in enumerate(units):
            # One matrix for inputs and state: one product a step is faster than two and an addition.
            kernel = self.add_weight(
                shape=(inputs + size, 4 * size),
                initializer=keras.initializers.GlorotUniform(next(seeds)),
                name=f"lstm_{layer}_kernel",
            )
            bias = self.add_weight(shape=(4 * size,), initializer="zeros", name=f"lstm_{layer}_bias")
            # A forget gate that starts open lets the LSTM remember across steps (Jozefowicz et al. 2015).
            bias.assign(tf.concat([tf.zeros([size]), tf.ones([size]), tf.zeros([2 * size])], axis=0))
            self.cells.append((kernel, bias))
            inputs = size
        self.output_kernel = self.add_weight(
            shape=(inputs, 1), initializer=keras.initializers.GlorotUniform(next(seeds)), name="output_kernel"
        )
        self.output_bias = self.add_weight(shape=(1,), initializer="zeros", name="output_bias")

    @property
    def coordinatewise(self) -> bool:  # type: ignore[override]
        """Whether every coordinate moves by its own gradient alone: not with global averaging cells."""
        return self.global_units == 0

    def initial_state(self, coordinates, segments=None):
        return [(tf.zeros([coordinates, size], self.dtype),) * 2 for size in self.units]

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        inputs = log_sign(gradient, self.p) if self.preprocess else gradient[:, None]
        next_state = []
        for layer, ((kernel, bias), (output, cell)) in enumerate(zip(self.cells, state, strict=True)):
            gates = tf.matmul(tf.concat([inputs, output], axis=-1), kernel) + tf.convert_to_tensor(bias)
            write, forget, read, candidate = tf.split(gates, 4, axis=-1)
            cell = tf.sigmoid(forget) * cell + tf.sigmoid(write) * tf.tanh(candidate)
            output = tf.sigmoid(read) * tf.tanh(cell)
            if layer == 0 and self.global_units:
                output = self._averaged(output)
            next_state.append((output, cell))
            inputs = output
        update = tf.matmul(inputs, self.output_kernel) + tf.convert_to_tensor(self.output_bias)
        return self.output_scale * update[:, 0], next_state

    def _averaged(self, output):
        """Replaces the first `global_units` outputs by their mean over coordinates."""
        shared = tf.reduce_mean(output[:, : self.global_units], axis=0, keepdims=True)
        own = output[:, self.global_units :]
        return tf.concat([tf.repeat(shared, tf.shape(own)[0], axis=0), own], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "preset": self.preset,
            "units": self.units,
            "preprocess": self.preprocess,
            "p": self.p,
            "output_scale": self.output_scale,
            "global_units": self.global_units,
            "chunks": self.chunks,
            "seed": self.seed,
        }
