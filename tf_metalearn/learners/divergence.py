"""What becomes of tasks whose inner loop diverges: they are counted, left out, and reported."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

#: Later than any step.
NEVER = np.iinfo(np.int32).max


def first_divergence(losses: tf.Tensor, others: Sequence[tf.Tensor]) -> tf.Tensor:
    """The first step whose loss is not finite.

    Args:
        losses: `[steps]`.
        others: What was computed from the last step; if only these are not finite, it is the number of steps.

    Returns:
        A scalar, -1 when all is finite.

    >>> first_divergence(tf.constant([1.0, np.inf, np.nan]), []).numpy()
    np.int32(1)
    """
    # A sum is finite only if all that is summed is.
    bad = [~tf.math.is_finite(losses), *(~tf.math.is_finite(tf.reduce_sum(other))[None] for other in others)]
    bad = tf.concat([bad[0], tf.reduce_any(tf.concat([*bad[1:], [False]], axis=0))[None]], axis=0)
    return tf.where(tf.reduce_any(bad), tf.argmax(bad, output_type=tf.int32), -1)


@keras.saving.register_keras_serializable("tf_metalearn")
class Divergence(keras.metrics.Metric):
    """Counts the tasks that diverged, and remembers the earliest inner step."""

    def __init__(self, name: str = "diverged", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.count = self.add_variable((), keras.initializers.Zeros(), name="count")
        self.step = self.add_variable((), keras.initializers.Constant(NEVER), dtype="int32", name="step")

    def update_state(self, steps: Any) -> None:
        """Adds a batch of tasks.

        Args:
            steps: `[tasks]`, what `first_divergence` returned.
        """
        diverged = steps >= 0
        self.count.assign_add(tf.cast(tf.math.count_nonzero(diverged), self.count.dtype))
        first = tf.reduce_min(tf.where(diverged, steps, NEVER))
        self.step.assign(tf.minimum(tf.convert_to_tensor(self.step), first))

    def result(self) -> tf.Tensor:
        """Returns the number of tasks."""
        return tf.convert_to_tensor(self.count)

    def reset_state(self) -> None:
        self.count.assign(0)
        self.step.assign(NEVER)

    @staticmethod
    def message(count: int, step: int) -> str:
        """What users are told.

        Args:
            count: How many tasks diverged.
            step: The earliest inner step with a value that is not finite.
        """
        # Replicas add their counts, which says nothing of steps.
        since = f"from inner step {step} on" if 0 <= step < NEVER else "in some inner step"
        return (
            f"The inner loop of {count} task{'s' * (count != 1)} diverged: {since}, its loss or "
            "gradient is not finite. Such tasks are left out of the meta-gradient.\n"
            "Lower the inner learning rate, or take fewer inner steps."
        )


class WarnOfDivergence(keras.callbacks.Callback):
    """Warns at the end of an epoch, a validation or an evaluation in which tasks diverged."""

    #: What training has counted, where validation has taken its place.
    _step: int | None = None

    def on_epoch_begin(self, epoch, logs=None):
        self._step = None

    def on_test_begin(self, logs=None):
        # Validation is about to reset what training has counted.
        self._step = self._first()

    def on_test_end(self, logs=None):
        self._warn("Evaluation", logs, self._first())

    def on_epoch_end(self, epoch, logs=None):
        self._warn(f"Epoch {epoch + 1}", logs, self._first() if self._step is None else self._step)

    def _first(self) -> int:
        return int(self.model._divergence.step.numpy())

    def _warn(self, when: str, logs: Any, step: int) -> None:
        count = int((logs or {}).get("diverged", 0))
        if count:
            warnings.warn(f"{when}: {Divergence.message(count, step)}", stacklevel=3)


def with_warnings(callbacks: Any) -> Any:
    """Callbacks, with one that warns when tasks diverge; a list that Keras has made has it already.

    Args:
        callbacks: As Keras's `fit` and `evaluate` take them.

    >>> [type(callback).__name__ for callback in with_warnings(None)]
    ['WarnOfDivergence']
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    return [*(callbacks if isinstance(callbacks, list | tuple) else filter(None, [callbacks])), WarnOfDivergence()]
