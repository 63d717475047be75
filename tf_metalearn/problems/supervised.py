"""Training a Keras model on data, as an optimizee."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.functional import InitialValues, StatelessModel, mean_loss
from tf_metalearn.problems.base import Problem, Task


class SupervisedProblem(Problem):
    """A Keras model, data and a loss: fresh initial weights for every task, a fresh batch at every step.

    Args:
        model: A function without arguments that returns a new, uncompiled `keras.Model`, always of one architecture.
        data: `(x, y)`, arrays with one row an example. uint8 images are brought to [0, 1].
        loss: A Keras loss or its name, or a function; called with `(y, outputs)`, returns a scalar. Losses by name are
            averaged over the batch.
        batch_size: Examples a step, drawn with replacement.
        training: Whether the model is called in training mode (batch statistics, dropout).
        name: Shown in tables.

    Raises:
        ValueError: If the data are empty or of unequal lengths, or the loss is not a scalar.

    >>> x, y = np.random.rand(50, 4).astype("float32"), np.arange(50) % 3
    >>> model = lambda: keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> problem = SupervisedProblem(model, (x, y), loss, batch_size=8, name="toy")
    >>> task = problem.sample(tf.constant([0, 1]))
    >>> value, carry = problem.loss(task, task.parameters, task.carry, tf.constant(0))
    >>> value.shape.rank
    0
    """

    def __init__(
        self,
        model: Callable[[], keras.Model],
        data: tuple[np.ndarray, np.ndarray],
        loss: keras.losses.Loss | Callable[..., tf.Tensor] | str,
        batch_size: int = 128,
        training: bool = True,
        name: str = "supervised",
    ):
        super().__init__(name)
        if not callable(model) or isinstance(model, keras.Model):
            raise ValueError(
                f"`model` must be a function without arguments that returns a new model. Received: {model!r:.80}.\n"
                "Write a function that builds the model, and pass the function."
            )
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise ValueError(
                f"`data` must be a pair of arrays (x, y). Received: a {type(data).__name__}.\n"
                "Read a tf.data.Dataset into arrays first."
            )
        x, y = (np.asarray(part) for part in data)
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(
                "`data` must be (x, y) with one row an example. "
                f"Received: {len(x)} rows of x and {len(y)} of y.\nCheck how the arrays were cut."
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(
                f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}.\nThe paper uses 128."
            )
        self.factory = model
        self.batch_size = batch_size
        self.training = training
        self._x, self._y = tf.constant(x), tf.constant(y)
        self._loss = mean_loss(loss)
        built = self._built(model())
        if built.compiled:
            # Its optimizer would be made anew for each task, which Keras refuses deep inside a graph.
            raise ValueError(
                f"`model` must return a model that is not compiled. Received: a function whose {built.name!r} is, as "
                "clones of a compiled model are.\nBuild the model in the function, and compile elsewhere."
            )
        self.model = StatelessModel(built)
        self._initial_values = InitialValues(model, built, self._built)
        value, _ = self.loss(task := self.sample(tf.constant([0, 0])), task.parameters, task.carry, tf.constant(0))
        if value.shape.rank != 0:
            raise ValueError(
                f"`loss` must return a scalar. Received: {loss!r}, which returns shape {value.shape}.\n"
                "Use a reduction: 'sum_over_batch_size' is Keras's default."
            )

    @property
    def segments(self):
        return self.model.segments

    def sample(self, seed):
        weight_seed, batch_seed = (tf.random.experimental.stateless_fold_in(seed, index) for index in range(2))
        return Task(self._initial_values(weight_seed), self._initial_carry(seed), batch_seed)

    def _initial_carry(self, seed):
        """The model's non-trainable values, with dropout seeds of this task's own."""
        carry = self.model.non_trainable()
        for index, variable in enumerate(self.model.model.non_trainable_variables):
            if variable.path.endswith("seed_generator_state"):
                fresh = tf.random.experimental.stateless_fold_in(seed, 2 + index)
                carry[index] = tf.cast(tf.abs(fresh), carry[index].dtype)
        return carry

    def loss(self, task, parameters, carry, step):
        seed = tf.random.experimental.stateless_fold_in(task.data, step)
        rows = tf.random.stateless_uniform([self.batch_size], seed, maxval=self._x.shape[0], dtype=tf.int32)
        inputs = self._scaled(tf.gather(self._x, rows))
        outputs, carry, penalties = self.model(parameters, carry, inputs, training=self.training)
        value = self._loss(tf.gather(self._y, rows), outputs)
        return tf.cast(value, penalties.dtype) + penalties, carry

    def _scaled(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(x, keras.backend.floatx()) / 255 if x.dtype == tf.uint8 else x

    def _built(self, model: keras.Model) -> Any:
        if not model.built:
            model.build((None, *self._x.shape[1:]))
        return model
