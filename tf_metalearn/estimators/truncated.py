"""Truncated backpropagation through training."""

from typing import Any, NamedTuple

import tensorflow as tf

from tf_metalearn.inner_loop import Loss, Unrolled, unroll
from tf_metalearn.problems.base import Problem, Task
from tf_metalearn.rules.base import UpdateRule


class Training(NamedTuple):
    """A training under way: the task and where its parameters, states and step count stand."""

    task: Task
    parameters: tf.Tensor
    state: Any
    carry: Any
    step: tf.Tensor


def start(rule: UpdateRule, problem: Problem, seed: tf.Tensor) -> Training:
    """Draws a task and stands at its first step.

    Args:
        rule: Whose state to begin with.
        problem: What to draw from.
        seed: `[2]` integers.
    """
    task = problem.sample(seed)
    state = rule.initial_state(problem.coordinates, problem.segments)
    return Training(task, task.parameters, state, task.carry, tf.constant(0))


def advance(rule: UpdateRule, problem: Problem, training: Training, steps: int, **options: Any) -> Unrolled:
    """Unrolls a training by some steps.

    Args:
        rule: How parameters move.
        problem: What the training's task was drawn from.
        training: Where it stands.
        steps: How many updates.
        **options: Passed on to `unroll`.
    """
    loss = bind(problem, training.task)
    if not options.get("second_derivatives", False):
        loss = once_differentiated(loss)
    return unroll(
        rule,
        loss,
        training.parameters,
        steps,
        state=training.state,
        carry=training.carry,
        step=training.step,
        segments=problem.segments,
        **options,
    )


def bind(problem: Problem, task: Task) -> Loss:
    """The loss of one task, in the form that `unroll` takes.

    Args:
        problem: The family.
        task: One of its instances.
    """
    return lambda parameters, carry, step: problem.loss(task, parameters, carry, step)


def once_differentiated(loss: Loss) -> Loss:
    """The same loss, whose gradient is computed once and kept.

    Without second derivatives the meta-gradient needs the same d loss / d parameters that the rule was given. Keeping
    it spares a second pass back through the optimizee, and the memory of all its activations. What the loss depends
    on besides the parameters counts as constant.

    Args:
        loss: `loss(parameters, carry, step) -> (scalar, carry)`.
    """

    def kept(parameters, carry, step):
        after = {}

        @tf.custom_gradient
        def value_of(parameters):
            with tf.GradientTape() as tape:
                tape.watch(parameters)
                value, after["carry"] = loss(parameters, carry, step)
            gradient = tape.gradient(value, parameters, unconnected_gradients=tf.UnconnectedGradients.ZERO)

            def backward(upstream, variables=()):
                return upstream * gradient, [None] * len(variables)

            return value, backward

        return value_of(parameters), after["carry"]

    return kept


class TruncatedBackpropagation:
    """The gradient of the losses along a stretch of training with respect to what the rule has learned.

    Gradients stop at the borders of the stretch, parameters and states do not. The meta-loss is the sum of the losses
    *after* each of the updates, w_t = 1, so that every update is judged.

    Args:
        unroll_length: Updates in a stretch.
        second_derivatives: See `unroll`.
        recompute: See `unroll`.

    >>> from tf_metalearn.problems.quadratic import Quadratic
    >>> from tf_metalearn.rules import CoordinatewiseLSTM
    >>> rule, problem = CoordinatewiseLSTM(seed=0), Quadratic(functions=1, dimensions=2)
    >>> training = start(rule, problem, seed=tf.constant([0, 0]))
    >>> losses, gradients, training = TruncatedBackpropagation(unroll_length=5)(rule, problem, training)
    >>> losses.shape.as_list(), len(gradients) == len(rule.trainable_variables), int(training.step)
    ([5], True, 5)

    Reference: Andrychowicz et al. 2016, section 2, eq. 3. https://arxiv.org/abs/1606.04474
    """

    def __init__(self, unroll_length: int = 20, second_derivatives: bool = False, recompute: bool = False):
        if not isinstance(unroll_length, int) or unroll_length < 1:
            raise ValueError(
                f"`unroll_length` must be a positive integer. Received: unroll_length={unroll_length!r}.\n"
                "The paper has 20."
            )
        self.unroll_length = unroll_length
        self.second_derivatives = second_derivatives
        self.recompute = recompute

    def __call__(
        self, rule: UpdateRule, problem: Problem, training: Training
    ) -> tuple[tf.Tensor, list[tf.Tensor], Training]:
        """Plays one stretch.

        Args:
            rule: Whose trainable weights to differentiate for.
            problem: What the training's task was drawn from.
            training: Where it stands.

        Returns:
            The losses `[unroll_length]`, the meta-gradient (one tensor a trainable weight), and where the training
            stands now.
        """
        weights = [weight.value for weight in rule.trainable_variables]
        with tf.GradientTape() as tape:
            result = advance(
                rule,
                problem,
                training,
                self.unroll_length,
                second_derivatives=self.second_derivatives,
                recompute=self.recompute,
            )
            final, _ = problem.loss(training.task, result.parameters, result.carry, result.step)
            losses = tf.concat([result.losses[1:], final[None]], axis=0)
            meta_loss = tf.reduce_sum(losses)
        gradients = tape.gradient(meta_loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        moved = Training(training.task, result.parameters, result.state, result.carry, result.step)
        return losses, gradients, moved
