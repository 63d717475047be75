"""Which rows of a variable take part in a step: how `LearnedOptimizer` reads and writes them."""

import tensorflow as tf


class Everything:
    """All of a variable takes part in a step; rows that are not used are written back as they were.

    Args:
        gradient: Dense, of the variable's shape.
        used: `[rows]` booleans; None if all are.
    """

    def __init__(self, gradient: tf.Tensor, used: tf.Tensor | None = None):
        self.gradient = gradient
        self.used = used

    def read(self, variable: tf.Variable) -> tf.Tensor:
        """What the rule sees of a variable, or of a state with one or more rows for each of its rows."""
        return tf.convert_to_tensor(variable)

    def write(self, variable: tf.Variable, before: tf.Tensor, after: tf.Tensor) -> None:
        """Puts back what `read` returned, moved.

        Args:
            variable: The variable or state.
            before: What `read` returned.
            after: The same, moved.
        """
        if self.used is not None:
            per_row = variable.shape[0] // self.used.shape[0]
            mask = tf.repeat(self.used, per_row)
            after = tf.where(tf.reshape(mask, [-1] + [1] * (after.shape.rank - 1)), after, before)
        variable.assign(after)


class UsedRows:
    """The rows of an embedding that a batch uses take part in a step, each once; the others are not touched.

    How many they are is known only from the indices, and XLA wants shapes that do not depend on values: there is room
    for as many as there are indices, and what is left over repeats the first of them.

    Args:
        gradient: `tf.IndexedSlices`, in which a row may occur several times.
        shape: The variable's.
    """

    def __init__(self, gradient: tf.IndexedSlices, shape: tf.TensorShape):
        self.size = shape[0]
        room = tf.minimum(tf.shape(gradient.indices)[0], self.size)
        if gradient.indices.shape[0] is not None:
            room = min(gradient.indices.shape[0], self.size)
        used = tf.math.unsorted_segment_sum(tf.ones_like(gradient.indices, tf.int32), gradient.indices, self.size) > 0
        place = tf.cumsum(tf.cast(used, tf.int32)) - 1
        row = tf.where(used, tf.range(self.size), 0)
        rows = tf.math.unsorted_segment_sum(row, tf.where(used, place, -1), room)
        taken = tf.range(room) <= place[-1]
        self.own = tf.where(taken, tf.range(room), 0)
        self.rows = tf.where(taken, rows, rows[:1])
        self.gradient = tf.math.unsorted_segment_sum(gradient.values, tf.gather(place, gradient.indices), room)

    def _indices(self, variable):
        per_row = variable.shape[0] // self.size
        return tf.reshape(self.rows[:, None] * per_row + tf.range(per_row), [-1])

    def read(self, variable: tf.Variable) -> tf.Tensor:
        """What the rule sees of a variable, or of a state with one or more rows for each of its rows."""
        return tf.gather(variable, self._indices(variable))

    def write(self, variable: tf.Variable, before: tf.Tensor, after: tf.Tensor) -> None:
        """Puts back what `read` returned, moved.

        Args:
            variable: The variable or state.
            before: What `read` returned.
            after: The same, moved.
        """
        # What stands in the spare room becomes an exact copy of the first row, so that the order of writing is nothing.
        per_row = variable.shape[0] // self.size
        by_row = tf.reshape(after, tf.concat([[-1, per_row], after.shape[1:]], axis=0))
        after = tf.reshape(tf.gather(by_row, self.own), tf.concat([[-1], after.shape[1:]], axis=0))
        variable.scatter_update(tf.IndexedSlices(after, self._indices(variable)))
