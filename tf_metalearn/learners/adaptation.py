"""Adapting a base learner to one task, as a pure function of its values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.functional import StatelessModel, join, segments_of, split
from tf_metalearn.inner_loop import unroll
from tf_metalearn.learners.batch_statistics import BatchStatistics
from tf_metalearn.rules.base import UpdateRule


class Adapted(NamedTuple):
    """A base learner in or after the inner loop.

    Args:
        parameters: `[coordinates]` of those that the inner loop moves.
        state: The rule's.
        carry: One tensor a non-trainable variable.
        losses: `[steps]`, the support loss before each step.
        taken: How many steps were taken.
        step: The same as the rule counts, which includes those before its state was carried to this task.
    """

    parameters: tf.Tensor
    state: Any
    carry: list[tf.Tensor]
    losses: tf.Tensor
    taken: tf.Tensor
    step: tf.Tensor


class Settings(NamedTuple):
    """How an inner loop runs.

    Args:
        training: Whether averages of batch statistics are updated.
        second_derivatives: Whether inner gradients are differentiated.
        draw: Integers that tell this task from all others, for masks of dropout of its own; none for those of the
            base learner's seeds.
    """

    training: bool
    second_derivatives: bool
    draw: Sequence[tf.Tensor] = ()


class Adaptation:
    """The inner loop on a support set, and the prediction of a query set by what it has learned.

    Args:
        model: The base learner.
        rule: How parameters move.
        loss: Of the support set, `loss(y, outputs)`.
        moving: The variables of the base learner that the inner loop moves.
        batch_size: Support examples of each step; all of them when None.
        transductive: Whether queries are normalised by their own statistics.
        tables: For batch statistics that have averages of their own for each step, those, `[steps + 1, ...]`, by their
            place among the non-trainable variables.
        running_averages: Whether the base learner's own averages of batch statistics serve for all.
        keep: Makes a variable with an initial value, for the state that the rule begins each task with. None for a rule
            that begins anew.
    """

    def __init__(
        self,
        model: StatelessModel,
        rule: UpdateRule,
        loss: Callable[..., tf.Tensor],
        moving: Sequence[Any],
        batch_size: int | None = None,
        transductive: bool = False,
        tables: Mapping[int, Any] | None = None,
        running_averages: bool = False,
        keep: Callable[[tf.Tensor], Any] | None = None,
    ):
        self._model, self._rule, self._loss = model, rule, loss
        # Not by their paths: a layer in a trunk and the head may have the same.
        wanted = {id(variable) for variable in moving}
        variables = model.model.trainable_variables
        self._places = [place for place, variable in enumerate(variables) if id(variable) in wanted]
        kept = [model.segments[place] for place in self._places]
        # Those variables, laid end to end.
        self._moving = segments_of([segment.name for segment in kept], [segment.shape for segment in kept])
        self._batch_size, self._transductive, self._tables = batch_size, transductive, tables or {}
        self._running_averages = running_averages
        self._statistics = BatchStatistics(model)
        self._seeds = [
            place
            for place, variable in enumerate(model.model.non_trainable_variables)
            if variable.path.endswith("seed_generator_state")
        ]
        #: The rule's state before the first step, leaf by leaf, and how many steps led there.
        self._carried = [] if keep is None else [keep(leaf) for leaf in (*tf.nest.flatten(self._fresh()), tf.zeros([]))]

    @property
    def averaged(self) -> list[Any]:
        """What training averages over tasks: the tables of batch statistics, then what the rule begins with."""
        return [*self._tables.values(), *self._carried]

    @property
    def variables(self) -> list[Any]:
        """What it reads: those of the base learner and of the rule."""
        return [*self._model.model.variables, *self._rule.variables]

    def start(self, draw: Sequence[tf.Tensor] = ()) -> Adapted:
        """Returns the base learner before the first step.

        Args:
            draw: As `Settings` has it.
        """
        variables = self._model.model.trainable_variables
        parameters = join([variables[place].value for place in self._places], self._model.dtype)
        carry = [
            tf.convert_to_tensor(self._tables[place]) if place in self._tables else value
            for place, value in enumerate(self._model.non_trainable())
        ]
        for place in self._seeds:
            for number in draw:
                folded = tf.random.experimental.stateless_fold_in(carry[place], number)
                carry[place] = tf.cast(folded, carry[place].dtype)
        state, step = self._fresh(), tf.constant(0)
        if self._carried:
            *leaves, steps = map(tf.convert_to_tensor, self._carried)
            state, step = tf.nest.pack_sequence_as(state, leaves), tf.cast(steps, tf.int32)
        return Adapted(parameters, state, carry, tf.zeros([0], parameters.dtype), tf.constant(0), step)

    def _fresh(self) -> Any:
        """The state of a rule that begins anew."""
        return self._rule.initial_state(sum(segment.size for segment in self._moving), self._moving)

    def values(self, parameters: tf.Tensor) -> list[tf.Tensor]:
        """Returns the value of each of the base learner's variables, those that stay included.

        Args:
            parameters: `[coordinates]` of those that move.
        """
        values = [tf.convert_to_tensor(variable) for variable in self._model.model.trainable_variables]
        for place, value in zip(self._places, split(parameters, self._moving), strict=True):
            values[place] = value
        return values

    def advance(
        self, adapted: Adapted, support_x: tf.Tensor, support_y: tf.Tensor, steps: int, settings: Settings
    ) -> Adapted:
        """Takes some more steps.

        Args:
            adapted: The base learner.
            support_x: `[support, ...]`.
            support_y: `[support]` or `[support, outputs]`.
            steps: How many.
            settings: How.

        Returns:
            The base learner after them.
        """

        def loss(parameters, carry, step):
            step = step - adapted.step + adapted.taken
            x, y = self._batch(support_x, support_y, step)
            outputs, carry, penalties = self._call(self.values(parameters), carry, x, step, settings.training)
            return tf.cast(self._loss(y, outputs), penalties.dtype) + penalties, carry

        result = unroll(
            self._rule,
            loss,
            adapted.parameters,
            steps,
            state=adapted.state,
            carry=adapted.carry,
            step=adapted.step,
            segments=self._moving,
            second_derivatives=settings.second_derivatives,
        )
        losses = tf.concat([adapted.losses, result.losses], axis=0)
        taken = adapted.taken + result.step - adapted.step
        return Adapted(result.parameters, result.state, result.carry, losses, taken, result.step)

    def _batch(self, support_x, support_y, step):
        if self._batch_size is None:
            return support_x, support_y
        count = tf.shape(support_x)[0]
        rows = (step * self._batch_size + tf.range(tf.minimum(self._batch_size, count))) % count
        return tf.gather(support_x, rows), tf.gather(support_y, rows)

    def _call(self, parameters, carry, x, step, training):
        """The base learner as it is at an inner step: outputs, carry and penalties."""
        if not self._tables:
            return self._model(parameters, carry, x, training=not self._running_averages)
        values = self._row(carry, step)
        outputs, after, penalties = self._model(parameters, values, x, training=training)
        if training:
            index = tf.reshape(self._clipped(step), [1, 1])
            after = [
                tf.tensor_scatter_nd_update(carry[place], index, value[None]) if place in self._tables else value
                for place, value in enumerate(after)
            ]
        else:
            after = [carry[place] if place in self._tables else value for place, value in enumerate(after)]
        return outputs, after, penalties

    def _row(self, carry, step):
        """The non-trainable values with each table's row of a step in its place."""
        row = self._clipped(step)
        return [value[row] if place in self._tables else value for place, value in enumerate(carry)]

    def _clipped(self, step):
        return tf.minimum(step, min(table.shape[0] for table in self._tables.values()) - 1)

    def predict(self, adapted: Adapted, task: Episode, settings: Settings) -> tuple[tf.Tensor, Adapted]:
        """Predicts a query set.

        Args:
            adapted: The base learner.
            task: Without the axis of tasks.
            settings: How.

        Returns:
            `[queries, outputs]`, and the base learner, whose averages of batch statistics may change in training.
        """
        parameters = self.values(adapted.parameters)
        if self._tables:
            outputs, carry, _ = self._call(parameters, adapted.carry, task.query_x, adapted.taken, settings.training)
            return outputs, adapted._replace(carry=carry)
        carry = adapted.carry
        if self._transductive and self._statistics.alone:
            # The call that would find the query set's statistics predicts with them already.
            return self._model(parameters, carry, task.query_x, training=True)[0], adapted
        if not self._running_averages:
            source = task.query_x if self._transductive else task.support_x
            carry = self._statistics.of(parameters, carry, source)
        return self._model(parameters, carry, task.query_x, training=False)[0], adapted

    def non_trainable(self, adapted: Adapted, support_x: tf.Tensor) -> list[tf.Tensor]:
        """Returns the non-trainable values of a model for the task, which knows no more than the support set.

        Args:
            adapted: The base learner.
            support_x: `[support, ...]`.
        """
        if self._tables:
            return self._row(adapted.carry, adapted.taken)
        return self._statistics.of(self.values(adapted.parameters), adapted.carry, support_x)

    def ended(self, adapted: Adapted) -> list[tf.Tensor]:
        """Returns the values of what is averaged, after a task.

        Args:
            adapted: The base learner.
        """
        tables = [adapted.carry[place] for place in self._tables]
        state = [*tf.nest.flatten(adapted.state), adapted.step] if self._carried else []
        return [tf.cast(value, kept.dtype) for value, kept in zip([*tables, *state], self.averaged, strict=True)]


def of_each_task(function: Callable[[Any], Any], tasks: Any, signature: Any) -> Any:
    """Calls a function on every task, side by side on the cores.

    Args:
        function: Of one task.
        tasks: A nest of tensors `[tasks, ...]`.
        signature: Of what the function returns, as `tf.map_fn` has it.

    >>> of_each_task(tf.reduce_sum, tf.ones([2, 3]), tf.TensorSpec([], tf.float32)).numpy()
    array([3., 3.], dtype=float32)
    """
    return tf.map_fn(function, tasks, fn_output_signature=signature, parallel_iterations=8)
