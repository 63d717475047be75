"""What learners with an inner loop share: adapt the base learner to the support set, then predict the query set."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.functional import StatelessModel, join, mean_loss
from tf_metalearn.learners.adaptation import Adaptation, Adapted, Settings, of_each_task
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.batch_statistics import BatchStatistics
from tf_metalearn.learners.checks import as_task, as_values, check_numbers, check_ways, checked, takes_labels
from tf_metalearn.learners.divergence import Divergence, first_divergence, with_warnings
from tf_metalearn.learners.inner_loop_service import inner_loop_service
from tf_metalearn.learners.networks import input_dtype, is_network, output_dtype, policy_of
from tf_metalearn.learners.task_classifier import AdaptedClassifier, class_numbers
from tf_metalearn.rules.base import UpdateRule
from tf_metalearn.serving.service import Service


class TaskResult(NamedTuple):
    """What one task contributes to a training step.

    Args:
        outputs: `[queries, outputs]`.
        loss: Scalar, of the query set.
        gradients: One tensor a trainable variable; zeros if the task diverged.
        averaged: One tensor for each variable that training averages over tasks, such as batch statistics.
        diverged: The inner step from which values were not finite; -1 if all were.
    """

    outputs: tf.Tensor
    loss: tf.Tensor
    gradients: list[tf.Tensor]
    averaged: list[tf.Tensor]
    diverged: tf.Tensor


class GradientBasedLearner(FewShotLearner):
    """Adapts a base learner to each task by an update rule, from initial parameters that are learned.

    What an algorithm learns, and how the inner loop moves parameters, is its rule (`architecture.md` has the table).
    Training computes each task's meta-gradient by itself, so that memory does not grow with the number of tasks. A
    task whose inner loop diverges is left out of the meta-gradient, with a warning at the end of the epoch. Where the
    optimizer scales the loss, as in `mixed_float16`, losses alone tell whether it does.

    Batch normalisation: in the inner loop a batch is normalised by its own statistics. Query examples are normalised
    by those of the support set, so that one query's prediction does not depend on the others; with
    `transductive=True` by those of the query set, as in MAML's published figures. Nothing is carried from one task to
    the next. With `statistics_per_step=True` averages are kept over training tasks, for each inner step its own, and
    normalise everything in evaluation (MAML++): row k those of parameters after k inner steps, over support sets; after
    the last step of training over query sets. Evaluation that takes more steps goes on with that last row, and so do
    its queries. A classifier that `adapt` returns never depends on what else it predicts: with `transductive=True` it
    normalises by the support set.

    Dropout is on in the inner loop, and off where queries are predicted, but for the training of averages with
    `statistics_per_step`. In training the masks are drawn anew for each task and update, from the layers' seeds and
    `optimizer.iterations`. In `evaluate`, `predict` and `adapt` they differ from step to step, and are the same for
    all tasks at each call.

    Args:
        base_learner: A built Keras model with one output for each way, or for each value of a regression.
        rule: How parameters move in the inner loop; its weights are learned too if they are trainable.
        inner_steps: In training.
        evaluation_steps: In `evaluate`, `predict` and `adapt`; as in training when None.
        inner_batch_size: Support examples of each inner step, one batch after the other, round and round; all of them
            when None.
        second_derivatives: Whether the meta-gradient sees how the inner gradients depend on the parameters.
        transductive: Whether a query batch is normalised by its own statistics.
        statistics_per_step: Whether batch normalisation keeps averages for each inner step.
        carried_state: Whether an inner loop begins with the state that the rule had at the end of the ones before it in
            training, averaged over the tasks of an update, such as Adam's moments.
        inner_loss: Of the support set, of `(y, outputs)`; the cross-entropy of logits when None. A loss that takes
            integer labels `[support]` beside outputs `[support, ways]` makes the learner classify; with any other,
            such as "mse", it is for regressions.
        name: Of the model.
        **kwargs: As `FewShotLearner` has them: whether pictures are of `ink`, and the dtype, which is that of the base
            learner when it is not given.

    Raises:
        ValueError: If the base learner is not built, or a number is not in its range.

    >>> from tf_metalearn.rules import GradientDescent
    >>> network = keras.Sequential([keras.Input([2]), keras.layers.Dense(2)])
    >>> learner = GradientBasedLearner(network, GradientDescent(0.1), inner_steps=3)
    >>> x = tf.constant([[[0.0, 1.0], [1.0, 0.0]]])
    >>> learner(Episode(x, tf.constant([[0, 1]]), x)).shape
    TensorShape([1, 2, 2])
    """

    def __init__(
        self,
        base_learner: keras.Model,
        rule: UpdateRule,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        inner_batch_size: int | None = None,
        second_derivatives: bool = True,
        transductive: bool = False,
        statistics_per_step: bool = False,
        carried_state: bool = False,
        inner_loss: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        if is_network(base_learner):
            kwargs.setdefault("dtype", policy_of(base_learner))
        super().__init__(name=name, **kwargs)
        check_numbers(optional=False, inner_steps=(inner_steps, 0))
        check_numbers(evaluation_steps=(evaluation_steps, 0), inner_batch_size=(inner_batch_size, 1))
        if transductive and statistics_per_step:
            raise ValueError(
                "`transductive` must be False with `statistics_per_step`. Received: True for both.\n"
                "Queries are normalised either by their own statistics or by averages over training."
            )
        self.base_learner = base_learner
        self.rule = rule
        self.inner_steps = inner_steps
        self.evaluation_steps = inner_steps if evaluation_steps is None else evaluation_steps
        self.inner_batch_size = inner_batch_size
        self.second_derivatives = second_derivatives
        self.transductive = transductive
        self.statistics_per_step = statistics_per_step
        self.carried_state = carried_state
        self.inner_loss = inner_loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._model = StatelessModel(base_learner)
        self._classifies = takes_labels(mean_loss(self.inner_loss), base_learner.output_shape[-1], self.compute_dtype)
        #: The batch statistics among the non-trainable values, which differ from task to task.
        self._statistics = sorted(BatchStatistics(self._model).momenta)
        tables = {place: self._table(place) for place in self._statistics if statistics_per_step}
        self._adaptation = Adaptation(
            self._model,
            rule,
            mean_loss(self.inner_loss),
            self.adapting(base_learner),
            inner_batch_size,
            transductive,
            tables,
            keep=self._keep if carried_state else None,
        )
        self._divergence = Divergence(name="diverged")
        self._accuracy_before = keras.metrics.Mean(name="accuracy_before")
        self._loss_before = keras.metrics.Mean(name="loss_before")
        self._evaluating = False
        # Compiled once, for support sets of any size and whoever adapts: the graph that an export has, too.
        self._adapt_compiled = tf.function(self._adapt_and_normalise, input_signature=self._support())
        self.built = True

    @classmethod
    def adapting(cls, base_learner: keras.Model) -> list[Any]:
        """The variables that the inner loop moves; the others keep their initial values. All of them here.

        Args:
            base_learner: Whose variables.

        >>> import tf_metalearn as tfm
        >>> network = keras.Sequential([keras.Input([2]), keras.layers.Dense(8), keras.layers.Dense(2)])
        >>> len(tfm.MAML.adapting(network)), len(tfm.ANIL.adapting(network))
        (4, 2)
        """
        return base_learner.trainable_variables

    # Keras's steps ---------------------------------------------------------------------------------------------------

    def call(self, episode: Episode, training: bool | None = None) -> tf.Tensor:
        episode = self._checked(episode)
        steps = self.inner_steps if training else self.evaluation_steps
        settings = Settings(bool(training), self.second_derivatives)
        outputs, _ = self._predictions(episode, steps, settings)
        return outputs

    def _predict_task(self, task: Episode, steps: int, settings: Settings) -> tuple[tf.Tensor, Adapted]:
        adaptation = self._adaptation
        start = adaptation.start(settings.draw)
        adapted = adaptation.advance(start, task.support_x, task.support_y, steps, settings)
        return adaptation.predict(adapted, task, settings)

    def _predictions(self, episode: Episode, steps: int, settings: Settings) -> tuple[tf.Tensor, tf.Tensor]:
        """The query predictions of a batch of tasks, and the step at which each diverged."""

        def of_task(task):
            outputs, adapted = self._predict_task(task, steps, settings)
            return outputs, first_divergence(adapted.losses, [outputs])

        return of_each_task(of_task, episode, (self._prediction(episode), tf.TensorSpec([], tf.int32)))

    def predict_along(self, episode: Episode, steps: Sequence[int]) -> list[tf.Tensor]:
        """Predicts the query sets after each of some numbers of inner steps.

        Args:
            episode: A batch of tasks.
            steps: Numbers of inner steps, in ascending order.

        Returns:
            `[tasks, queries, outputs]` for each of them.

        >>> import tf_metalearn as tfm
        >>> learner = tfm.MAML(keras.Sequential([keras.Input([1]), keras.layers.Dense(2, kernel_initializer="zeros")]))
        >>> x = tf.constant([[[-1.0], [1.0]]])
        >>> before, after = learner.predict_along(Episode(x, tf.constant([[0, 1]]), x), [0, 5])
        >>> before.numpy().tolist(), tf.argmax(after, axis=-1).numpy().tolist()
        ([[[0.0, 0.0], [0.0, 0.0]]], [[0, 1]])
        """
        episode, settings = self._checked(episode), Settings(False, False)

        def of_task(task):
            adapted, found = self._adaptation.start(), []
            for done, wanted in zip((0, *steps), steps, strict=False):
                adapted = self._adaptation.advance(adapted, task.support_x, task.support_y, wanted - done, settings)
                found.append(self._adaptation.predict(adapted, task, settings)[0])
            return found

        return of_each_task(of_task, episode, [self._prediction(episode)] * len(steps))

    def train_step(self, data: Any) -> dict[str, Any]:
        """Averages the meta-gradients of the tasks, each computed by itself."""
        episode, query_y, _ = keras.utils.unpack_x_y_sample_weight(data)
        result = self._of_tasks(self._checked(episode), query_y)
        fine = result.diverged < 0
        count = tf.cast(tf.maximum(tf.math.count_nonzero(fine), 1), tf.float32)
        # Tasks that diverged have gradients of zero.
        gradients = [tf.reduce_sum(part, axis=0) / tf.cast(count, part.dtype) for part in result.gradients]
        self.optimizer.apply(gradients, self.trainable_variables)
        for variable, values in zip(self._adaptation.averaged, result.averaged, strict=True):
            mean = tf.reduce_sum(tf.where(_like(fine, values), values, 0), axis=0) / tf.cast(count, values.dtype)
            variable.assign(tf.where(tf.reduce_any(fine), mean, variable))
        # Keras has divided the loss by the number of replicas.
        losses = tf.where(fine, result.loss, 0) * tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(tf.reduce_sum(losses) / tf.cast(count, losses.dtype), sample_weight=count)
        self._divergence.update_state(result.diverged)
        return self.compute_metrics(None, query_y, result.outputs)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Keras's, and the same before adaptation: `accuracy_before` and `loss_before`."""
        episode, query_y, _ = keras.utils.unpack_x_y_sample_weight(data)
        episode, settings = self._checked(episode), Settings(False, False)
        tasks, replicas = tf.shape(query_y)[0], tf.distribute.get_strategy().num_replicas_in_sync
        outputs, diverged = self._predictions(episode, self.evaluation_steps, settings)
        before, _ = self._predictions(episode, 0, settings)
        for tracker, predicted in ((self._loss_tracker, outputs), (self._loss_before, before)):
            loss = self.compute_loss(x=None, y=query_y, y_pred=predicted, training=False)
            tracker.update_state(loss * replicas, sample_weight=tasks)
        if query_y.shape.rank == 2:
            right = tf.cast(query_y, tf.int64) == tf.argmax(before, axis=-1)
            self._accuracy_before.update_state(tf.reduce_mean(tf.cast(right, tf.float32), axis=-1))
        self._divergence.update_state(diverged)
        return self.compute_metrics(None, query_y, outputs)

    def evaluate(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """Keras's `evaluate`, with `accuracy_before` or `loss_before` adaptation, which warns when tasks diverge.

        Args:
            *args: As Keras has them.
            callbacks: As Keras has them.
            **kwargs: As Keras has them.
        """
        self._evaluating = True
        try:
            return super().evaluate(*args, callbacks=with_warnings(callbacks), **kwargs)
        finally:
            self._evaluating = False

    def get_metrics_result(self) -> dict[str, Any]:
        """Keras's, without what was not measured: in training what precedes adaptation, in a regression accuracy."""
        logs = super().get_metrics_result()
        left_out = set() if "accuracy" in logs else {self._accuracy_before.name}
        if not self._evaluating:
            left_out = {self._accuracy_before.name, self._loss_before.name}
        return {name: value for name, value in logs.items() if name not in left_out}

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """Keras's `fit`, which warns when tasks diverge.

        Args:
            *args: As Keras has them.
            callbacks: As Keras has them.
            **kwargs: As Keras has them.
        """
        return super().fit(*args, callbacks=with_warnings(callbacks), **kwargs)

    def _of_tasks(self, episode: Episode, query_y: tf.Tensor) -> TaskResult:
        """What each task of a batch contributes to the training step, `[tasks, ...]`."""
        return self._map_tasks(episode, query_y, Settings(True, self.second_derivatives))

    def _map_tasks(self, episode: Episode, query_y: tf.Tensor, settings: Settings) -> TaskResult:
        signature = TaskResult(
            self._prediction(episode),
            tf.TensorSpec([], self._loss_dtype),
            [tf.TensorSpec(weight.shape, weight.dtype) for weight in self.trainable_variables],
            [tf.TensorSpec(variable.shape, variable.dtype) for variable in self._adaptation.averaged],
            tf.TensorSpec([], tf.int32),
        )
        count, replica = tf.shape(query_y)[0], tf.distribute.get_replica_context().replica_id_in_sync_group
        update, numbers = tf.cast(self.optimizer.iterations, tf.int32), replica * count + tf.range(count)

        def of_task(part):
            task, y, number = part
            return self._of_task(task, y, settings._replace(draw=(update, number)))

        return of_each_task(of_task, (episode, query_y, numbers), signature)

    def _of_task(self, task: Episode, query_y: tf.Tensor, settings: Settings) -> TaskResult:
        values = [weight.value for weight in self.trainable_variables]
        with tf.GradientTape() as tape:
            outputs, loss, adapted = self._meta_loss(task, query_y, settings)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return self._task_result(outputs, loss, gradients, adapted)

    def _meta_loss(self, task: Episode, query_y: tf.Tensor, settings: Settings) -> tuple[tf.Tensor, tf.Tensor, Adapted]:
        """What training differentiates, of one task: the query predictions, their loss, and the adapted learner."""
        outputs, adapted = self._predict_task(task, self.inner_steps, settings)
        return outputs, self._query_loss(query_y, outputs), adapted

    def _query_loss(self, query_y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        loss = self.compute_loss(x=None, y=query_y[None], y_pred=outputs[None], training=True)
        return tf.cast(loss, self._loss_dtype)

    def _task_result(
        self, outputs: tf.Tensor, loss: tf.Tensor, gradients: list[tf.Tensor], adapted: Adapted
    ) -> TaskResult:
        # Gradients that overflow by the scale of the loss reach the optimizer: it leaves out the step, and lowers the
        # scale.
        scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        diverged = first_divergence(adapted.losses, [loss] if scaled else [loss, *gradients])
        gradients = [tf.where(diverged < 0, gradient, tf.zeros_like(gradient)) for gradient in gradients]
        return TaskResult(outputs, loss, gradients, self._adaptation.ended(adapted), diverged)

    # One task --------------------------------------------------------------------------------------------------------

    def adapt(self, support_x: Any, support_y: Any) -> keras.Model:
        """Returns an ordinary Keras model for one task; the learner stays as it is. Threads may adapt side by side.

        Args:
            support_x: `[support, ...]`.
            support_y: `[support]` labels of any hashable kind, with unequal numbers of examples of the classes if need
                be; or `[support, outputs]` values of a regression.

        Returns:
            An `AdaptedClassifier`; in a regression the base learner with adapted parameters, compiled with
            `inner_loss` for `evaluate`.

        Raises:
            ValueError: If there is only one class, there are more than the base learner has outputs, not a label for
                each example, values of a regression are not of the shape of its outputs, or examples are of the wrong
                shape or not finite.
        """
        classes: list[Any] = []
        if self._classifies:
            classes, numbers = class_numbers(support_y)
        else:
            numbers = as_values(support_y, self.base_learner)
        outputs = self.base_learner.output_shape[-1]
        task = as_task(support_x, numbers, self.base_learner)
        if len(classes) > outputs:
            raise ValueError(
                f"`support_y` must have labels of at most {outputs} classes, as many as the base learner has outputs. "
                f"Received: {len(classes)} classes.\n"
                "Train a learner with more outputs for more classes."
            )
        if self._classifies:
            check_ways(classes)
        parameters, non_trainable, losses = self._adapt_compiled(task.support_x, task.support_y)
        step = int(first_divergence(losses, [parameters]))
        if step >= 0:
            warnings.warn(Divergence.message(1, step), stacklevel=2)
        model = keras.models.clone_model(self.base_learner)
        if not model.built:
            model(task.support_x)
        StatelessModel(model).assign(parameters, non_trainable)
        if self._classifies:
            return AdaptedClassifier(model, tuple(classes), ink=self.ink)
        model.compile("sgd", loss=self.inner_loss, jit_compile=False)
        return model

    def _adapt_and_normalise(
        self, support_x: tf.Tensor, support_y: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        """All parameters and non-trainable values after adaptation, and the support losses."""
        adaptation, settings = self._adaptation, Settings(False, False)
        adapted = adaptation.advance(adaptation.start(), support_x, support_y, self.evaluation_steps, settings)
        return join(adaptation.values(adapted.parameters)), adaptation.non_trainable(adapted, support_x), adapted.losses

    def learned_values(self, support_x: Any, support_y: Any) -> dict[str, Any]:
        """The rule's weights, such as learned rates."""
        return {weight.name: np.asarray(weight.value) for weight in self.rule.trainable_variables}

    def served(self) -> Service:
        kind = {"most_classes" if self._classifies else "outputs": self.base_learner.output_shape[-1]}
        variables = [variable.value for variable in self.variables]
        return inner_loop_service(
            self._model, self._adapt_and_normalise, variables, in_python=self.adapt_and_predict, **kind
        )

    # Configuration ---------------------------------------------------------------------------------------------------

    @property
    def _loss_dtype(self) -> str:
        return "float32" if self.compute_dtype in ("float16", "bfloat16") else self.compute_dtype

    def _checked(self, episode: Episode) -> Episode:
        outputs, shape = self.base_learner.output_shape[-1], tf.convert_to_tensor(episode.support_y).shape
        if not self._classifies and shape.rank == 2:
            raise ValueError(
                f"`support_y` must be [tasks, support, {outputs}] in a regression. Received: {shape.as_list()}.\n"
                "The axis of outputs is missing: take `support_y[..., None]`."
            )
        return checked(episode, self.base_learner.input_shape[1:], outputs if self._classifies else None)

    def _prediction(self, episode: Episode) -> tf.TensorSpec:
        """What the query set of one task gives."""
        return tf.TensorSpec([episode.query_x.shape[1], *self.base_learner.output_shape[1:]], self.compute_dtype)

    def _support(self) -> tuple[tf.TensorSpec, tf.TensorSpec]:
        """The examples and the labels of a support set, as `as_task` makes them."""
        x = tf.TensorSpec([None, *self.base_learner.input_shape[1:]], input_dtype(self.base_learner))
        values = tf.TensorSpec([None, *self.base_learner.output_shape[1:]], output_dtype(self.base_learner))
        return x, tf.TensorSpec([None], tf.int32) if self._classifies else values

    def _table(self, place: int) -> Any:
        """A row of batch statistics for each inner step of training, and one for the parameters after the last.

        In training the last row is averaged over query sets, which only those parameters see. In evaluation it serves
        all steps from there on.
        """
        value = self.base_learner.non_trainable_variables[place].value
        return self._keep(tf.broadcast_to(value, [self.inner_steps + 1, *value.shape]), f"statistics_{place}")

    def _keep(self, value: tf.Tensor, name: str = "carried") -> Any:
        """A variable that training averages over tasks, with its initial value."""
        return self.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype: value,
            dtype=value.dtype.name,
            trainable=False,
            aggregation="mean",
            name=name,
        )

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "base_learner": serialize(self.base_learner),
            "inner_steps": self.inner_steps,
            "evaluation_steps": self.evaluation_steps,
            "inner_batch_size": self.inner_batch_size,
            "transductive": self.transductive,
            "statistics_per_step": self.statistics_per_step,
            "carried_state": self.carried_state,
            "inner_loss": serialize(self.inner_loss),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "GradientBasedLearner":
        config = dict(config)
        for part in ("base_learner", "inner_loss", "rule"):
            if isinstance(config.get(part), dict):
                config[part] = keras.saving.deserialize_keras_object(config[part], custom_objects)
        return cls(**config)


def _like(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """A mask `[tasks]` that broadcasts over `[tasks, ...]`."""
    return tf.reshape(mask, [-1, *[1] * (values.shape.rank - 1)])
