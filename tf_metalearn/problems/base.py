"""What an optimizee is: something that can be drawn afresh and has a loss."""

from typing import Any, NamedTuple

import tensorflow as tf

from tf_metalearn.functional import Segment, segments_of


class Task(NamedTuple):
    """One fresh instance of a problem.

    Args:
        parameters: `[coordinates]`, the initial parameters.
        carry: What else changes from step to step (batch-normalisation statistics, dropout seeds).
        data: What makes this instance (matrices, seeds); constant from step to step.

    >>> Task(tf.zeros([3]), carry=(), data={"target": tf.ones([3])}).parameters.shape.as_list()
    [3]
    """

    parameters: tf.Tensor
    carry: Any
    data: Any


class Problem:
    """A family of functions to minimise: the optimizee of a learned optimizer.

    Everything is a pure function of a seed, so that two optimizers can be compared on the very same instances.

    Args:
        name: Shown in tables and progress bars.

    >>> class Parabola(Problem):
    ...     segments = vector_segments("theta", 1)
    ...     def sample(self, seed):
    ...         return Task(tf.random.stateless_normal([1], seed), carry=(), data=())
    ...     def loss(self, task, parameters, carry, step):
    ...         return tf.reduce_sum(parameters**2), carry
    >>> problem = Parabola("parabola")
    >>> task = problem.sample(tf.constant([0, 0]))
    >>> loss, carry = problem.loss(task, tf.constant([3.0]), task.carry, tf.constant(0))
    >>> float(loss), problem.coordinates
    (9.0, 1)
    """

    def __init__(self, name: str):
        self.name = name
        #: The arguments of `problems.make` that made this problem; None for one made by hand.
        self.recipe: dict[str, Any] | None = None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The variables behind the coordinates."""
        raise NotImplementedError

    @property
    def coordinates(self) -> int:
        """How many numbers there are to move."""
        return self.segments[-1].offset + self.segments[-1].size

    def sample(self, seed: tf.Tensor) -> Task:
        """Draws a fresh instance.

        Args:
            seed: `[2]` integers.

        Returns:
            A `Task`, equal for equal seeds. Under XLA, TensorFlow draws other floats from the same seed: compare
            optimizers on tasks that were all drawn with XLA, or all without.
        """
        raise NotImplementedError

    def loss(self, task: Task, parameters: tf.Tensor, carry: Any, step: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """The function to minimise, as `unroll` calls it with the task bound.

        Args:
            task: What `sample` returned.
            parameters: `[coordinates]`.
            carry: `task.carry` at first, then what the step before returned.
            step: Integer scalar; stochastic problems draw their batch from it.

        Returns:
            The scalar loss and the carry.
        """
        raise NotImplementedError


def vector_segments(name: str, size: int) -> tuple[Segment, ...]:
    """The segments of a problem with one unnamed vector.

    Args:
        name: Of the vector.
        size: Its coordinates.

    >>> vector_segments("theta", 3)
    (Segment(name='theta', shape=(3,), offset=0),)
    """
    return segments_of([name], [(size,)])
