"""Random quadratic functions."""

import tensorflow as tf

from tf_metalearn.problems.base import Problem, Task, vector_segments

VARIANTS = ("paper", "code")


class Quadratic(Problem):
    """f(theta) = ||W theta - y||^2 with fresh random W and y, many functions at once.

    Args:
        variant: "paper": W and y standard normal, theta starts at standard normal values, and the loss is *summed*
            over the functions, so that each function's gradient is its own whatever their number. "code", as in the
            authors' code: W and y uniform in (0, 1), theta starts at N(0, 0.01^2), and the loss is the mean over the
            functions.
        functions: How many functions are minimised side by side. They share nothing.
        dimensions: Of theta for each function.
        name: Shown in tables.

    >>> problem = Quadratic(functions=3, dimensions=10)
    >>> task = problem.sample(tf.constant([0, 1]))
    >>> task.parameters.shape.as_list()
    [30]
    >>> loss, _ = problem.loss(task, task.parameters, task.carry, tf.constant(0))

    Reference: Andrychowicz et al. 2016, section 3.1. https://arxiv.org/abs/1606.04474
    """

    def __init__(self, variant: str = "paper", functions: int = 128, dimensions: int = 10, name: str = "quadratic"):
        super().__init__(name)
        if variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}.\nTry 'paper'.")
        for argument, value in (("functions", functions), ("dimensions", dimensions)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{argument}` must be a positive integer. Received: {argument}={value!r}.\n"
                    "The paper has 10 dimensions; its authors' code minimises 128 functions at once."
                )
        self.variant = variant
        self.functions = functions
        self.dimensions = dimensions

    @property
    def segments(self):
        return vector_segments("theta", self.functions * self.dimensions)

    def sample(self, seed):
        matrix_seed, target_seed, start_seed = (
            tf.random.experimental.stateless_fold_in(seed, index) for index in range(3)
        )
        shape = [self.functions, self.dimensions]
        if self.variant == "paper":
            draw, spread = tf.random.stateless_normal, 1.0
        else:
            draw, spread = tf.random.stateless_uniform, 0.01
        matrix = draw([*shape, self.dimensions], matrix_seed)
        target = draw(shape, target_seed)
        start = spread * tf.random.stateless_normal([self.functions * self.dimensions], start_seed)
        return Task(start, (), (matrix, target))

    def loss(self, task, parameters, carry, step):
        matrix, target = task.data
        theta = tf.reshape(parameters, [self.functions, self.dimensions])
        values = tf.reduce_sum(tf.square(tf.linalg.matvec(matrix, theta) - target), axis=1)
        return (tf.reduce_sum(values) if self.variant == "paper" else tf.reduce_mean(values)), carry
