"""The same problem in other units."""

import math

import tensorflow as tf

from tf_metalearn.problems.base import Problem, Task

# Apart from the numbers by which problems derive their own seeds, or scales and starts would be correlated.
_SCALE = 0x5CA1E


class RescaledProblem(Problem):
    """A problem each of whose parameters is measured in a random unit: f(s * theta) from theta_0 / s.

    The function and its start stay the same, but gradients grow and needed updates shrink with s. A rule that has been
    trained on it cannot rely on one scale.

    Args:
        problem: What to rescale.
        spread: s is drawn log-uniformly from [1 / spread, spread], for each coordinate and each task.

    >>> from tf_metalearn.problems.quadratic import Quadratic
    >>> problem = RescaledProblem(Quadratic(functions=1), spread=3.0)
    >>> problem.sample(tf.constant([0, 0])).parameters.shape.as_list()
    [10]

    Reference: Lv et al. 2017, "Learning gradient descent: better generalization and longer horizons", section 4.1.
    https://arxiv.org/abs/1703.03633
    """

    def __init__(self, problem: Problem, spread: float = 3.0):
        super().__init__(f"{problem.name}, rescaled")
        if not spread >= 1:
            raise ValueError(f"`spread` must be at least 1. Received: spread={spread!r}.\nTry 3.0.")
        self.problem = problem
        self.spread = spread

    @property
    def segments(self):
        return self.problem.segments

    def sample(self, seed):
        task = self.problem.sample(seed)
        bound = math.log(self.spread)
        scale_seed = tf.random.experimental.stateless_fold_in(seed, _SCALE)
        exponent = tf.random.stateless_uniform(task.parameters.shape, scale_seed, -bound, bound)
        scale = tf.cast(tf.exp(exponent), task.parameters.dtype)
        return Task(task.parameters / scale, task.carry, (task, scale))

    def loss(self, task, parameters, carry, step):
        inner, scale = task.data
        return self.problem.loss(inner, parameters * scale, carry, step)
