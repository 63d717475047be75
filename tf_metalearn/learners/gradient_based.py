"""What learners with an inner loop share: adapt the base learner to the support set, then predict the query set."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.functional import Segment, StatelessModel, join, mean_loss, segments_of, split
from tf_metalearn.inner_loop import unroll
from tf_metalearn.learners.base import FewShotLearner, class_numbers
from tf_metalearn.rules.base import UpdateRule


class Adapted(NamedTuple):
    """A base learner after the inner loop.

    Args:
        parameters: `[coordinates]`.
        non_trainable: One tensor a non-trainable variable; batch-normalisation statistics are those of the support set.
        losses: `[inner_steps]`, the support loss before each step.
    """

    parameters: tf.Tensor
    non_trainable: list[tf.Tensor]
    losses: tf.Tensor


class GradientBasedLearner(FewShotLearner):
    """Adapts a base learner to each task by an update rule, from initial parameters that are learned.

    What an algorithm learns, and how the inner loop moves parameters, is its rule (`architecture.md` has the table).
    Training computes each task's meta-gradient by itself, so that memory does not grow with the number of tasks.

    Batch normalisation: in the inner loop a batch is normalised by its own statistics. Query examples are normalised
    by those of the support set, so that one query's prediction does not depend on the others; with
    `transductive=True` by those of the query set, as in MAML's published figures. Nothing is carried from one task to
    the next.

    Args:
        base_learner: A built Keras model with one output for each way, or for each value of a regression.
        rule: How parameters move in the inner loop; its weights are learned too if they are trainable.
        inner_steps: In training.
        evaluation_steps: In `evaluate`, `predict` and `adapt`; as in training when None.
        second_derivatives: Whether the meta-gradient sees how the inner gradients depend on the parameters.
        transductive: Whether a query batch is normalised by its own statistics.
        inner_loss: Of the support set; the cross-entropy of logits when None.
        name: Of the model.

    Raises:
        ValueError: If the base learner is not built, or a number of steps is negative.
    """

    def __init__(
        self,
        base_learner: keras.Model,
        rule: UpdateRule,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        second_derivatives: bool = True,
        transductive: bool = False,
        inner_loss: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        for argument, steps in (("inner_steps", inner_steps), ("evaluation_steps", evaluation_steps)):
            if (steps is not None or argument == "inner_steps") and (not isinstance(steps, int) or steps < 0):
                raise ValueError(
                    f"`{argument}` must be an integer >= 0. Received: {argument}={steps!r}.\n"
                    "MAML takes 1 step on Omniglot and 5 on mini-ImageNet."
                )
        self.base_learner = base_learner
        self.rule = rule
        self.inner_steps = inner_steps
        self.evaluation_steps = inner_steps if evaluation_steps is None else evaluation_steps
        self.second_derivatives = second_derivatives
        self.transductive = transductive
        self.inner_loss = inner_loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._inner_loss = mean_loss(self.inner_loss)
        self._model = StatelessModel(base_learner)
        self._statistics = _statistics_of(base_learner)
        self.built = True

    def call(self, episode: Episode, training: bool | None = None) -> tf.Tensor:
        episode = _as_tensors(episode)
        steps = self.inner_steps if training else self.evaluation_steps
        return _of_each_task(
            lambda task: self._predict_task(task, steps, self.second_derivatives), episode, self._prediction(episode)
        )

    def train_step(self, data: Any) -> dict[str, Any]:
        """Averages the meta-gradients of the tasks, each computed by itself."""
        episode, query_y, _ = keras.utils.unpack_x_y_sample_weight(data)
        episode = _as_tensors(episode)
        weights = self.trainable_variables
        values = [weight.value for weight in weights]

        def of_task(inputs):
            task, labels = inputs
            with tf.GradientTape() as tape:
                outputs = self._predict_task(task, self.inner_steps, self.second_derivatives)
                loss = self.compute_loss(x=None, y=labels[None], y_pred=outputs[None], training=True)
                scaled = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return outputs, loss, gradients

        signature = (
            self._prediction(episode),
            tf.TensorSpec([], self.compute_dtype),
            [tf.TensorSpec(weight.shape, weight.dtype) for weight in weights],
        )
        outputs, losses, gradients = _of_each_task(of_task, (episode, query_y), signature)
        self.optimizer.apply([tf.reduce_mean(gradient, axis=0) for gradient in gradients], weights)
        self._loss_tracker.update_state(tf.reduce_mean(losses), sample_weight=tf.shape(losses)[0])
        return self.compute_metrics(None, query_y, outputs)

    @property
    def base_segments(self) -> tuple[Segment, ...]:
        """The base learner's variables, laid end to end."""
        return self._model.segments

    def adapts(self, segment: Segment) -> bool:
        """Whether the inner loop moves a variable; the others keep their initial values. All of them here.

        Args:
            segment: The variable.
        """
        return True

    def _adapt(self, support_x: tf.Tensor, support_y: tf.Tensor, steps: int, second_derivatives: bool) -> Adapted:
        """Runs the inner loop on one support set."""
        segments = self.base_segments
        initial, carry = split(self._model.parameters(), segments), self._model.non_trainable()
        moving = [index for index, segment in enumerate(segments) if self.adapts(segment)]
        own = segments_of([segments[i].name for i in moving], [segments[i].shape for i in moving])

        def whole(parameters):
            values = dict(zip(moving, split(parameters, own), strict=True))
            return join([values.get(index, value) for index, value in enumerate(initial)])

        def loss(parameters, carry, step):
            outputs, carry, penalties = self._model(whole(parameters), carry, support_x, training=True)
            return tf.cast(self._inner_loss(support_y, outputs), penalties.dtype) + penalties, carry

        result = unroll(
            self.rule,
            loss,
            join([initial[index] for index in moving]),
            steps,
            carry=carry,
            segments=own,
            second_derivatives=second_derivatives,
        )
        parameters = whole(result.parameters)
        return Adapted(parameters, self._support_statistics(parameters, result.carry, support_x), result.losses)

    def _predict_task(self, task: Episode, steps: int, second_derivatives: bool) -> tf.Tensor:
        adapted = self._adapt(task.support_x, task.support_y, steps, second_derivatives)
        return self._predict(adapted, task.query_x)

    def _predict(self, adapted: Adapted, x: tf.Tensor) -> tf.Tensor:
        if self.transductive and self._statistics:
            _, carry, _ = self._model(adapted.parameters, self._without_statistics(adapted.non_trainable), x, True)
            adapted = adapted._replace(non_trainable=self._batch_statistics(carry))
        return self._model(adapted.parameters, adapted.non_trainable, x, training=False)[0]

    def _support_statistics(self, parameters, carry, support_x):
        """The non-trainable values, with the support set's own statistics in the place of running averages."""
        if not self._statistics or self.transductive:
            return carry
        _, carry, _ = self._model(parameters, self._without_statistics(carry), support_x, training=True)
        return self._batch_statistics(carry)

    def _without_statistics(self, carry):
        return [tf.zeros_like(value) if place in self._statistics else value for place, value in enumerate(carry)]

    def _batch_statistics(self, carry):
        # A running average that begins at zero holds (1 - momentum) of the batch's own value after one batch.
        return [
            value / (1 - self._statistics[place]) if place in self._statistics else value
            for place, value in enumerate(carry)
        ]

    def _prediction(self, episode: Episode) -> tf.TensorSpec:
        """What the query set of one task gives."""
        return tf.TensorSpec([episode.query_x.shape[1], *self.base_learner.output_shape[1:]], self.compute_dtype)

    def adapt(self, support_x: Any, support_y: Any) -> "AdaptedClassifier":
        """Returns a classifier of one task, the base learner with adapted parameters; the learner stays as it is.

        Args:
            support_x: `[support, ...]`.
            support_y: `[support]` labels of any hashable kind; classes may have unequal numbers of examples.

        Raises:
            ValueError: If there are more classes than the base learner has outputs, or not a label for each example.
        """
        classes, numbers = class_numbers(support_y)
        x = tf.cast(np.asarray(support_x), tf.float32)
        outputs = self.base_learner.output_shape[-1]
        if not classes or len(x) != len(numbers) or len(classes) > outputs:
            raise ValueError(
                f"`support_y` must have a label for each example, of at most {outputs} classes, as many as the base "
                f"learner has outputs. Received: {len(x)} examples, {len(numbers)} labels and {len(classes)} classes.\n"
                "Train a learner with more outputs for more classes."
            )
        run = tf.function(functools.partial(self._adapt, steps=self.evaluation_steps, second_derivatives=False))
        adapted = run(x, tf.constant(numbers))
        model = keras.models.clone_model(self.base_learner)
        StatelessModel(model).assign(adapted.parameters, adapted.non_trainable)
        return AdaptedClassifier(model, tuple(classes))

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "base_learner": serialize(self.base_learner),
            "inner_steps": self.inner_steps,
            "evaluation_steps": self.evaluation_steps,
            "transductive": self.transductive,
            "inner_loss": serialize(self.inner_loss),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "GradientBasedLearner":
        config = dict(config)
        for part in ("base_learner", "inner_loss"):
            config[part] = keras.saving.deserialize_keras_object(config[part], custom_objects)
        return cls(**config)


@keras.saving.register_keras_serializable("tf_metalearn")
class AdaptedClassifier(keras.Model):
    """A base learner that was adapted to one task: `predict` returns probabilities `[examples, classes]`.

    Args:
        model: The base learner, with adapted weights.
        classes: The labels of its outputs; outputs beyond them are left out.
        name: Of the model.
    """

    def __init__(self, model: keras.Model, classes: Sequence[Any], name: str = "adapted_classifier", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.model = model
        self._classes = tuple(classes)
        self.built = True

    @property
    def classes(self) -> list[Any]:
        """The labels, in the order of the probabilities."""
        return list(self._classes)

    def call(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """Returns `[examples, classes]` probabilities."""
        return tf.nn.softmax(self.model(x, training=False)[..., : len(self._classes)])

    def get_config(self) -> dict[str, Any]:
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "classes": list(self._classes)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AdaptedClassifier":
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"], custom_objects)})


def _of_each_task(function: Callable[[Any], Any], tasks: Any, signature: Any) -> Any:
    """Calls a function on every task, side by side on the cores."""
    return tf.map_fn(function, tasks, fn_output_signature=signature, parallel_iterations=8)


def dtype_of(base_learner: keras.Model) -> str:
    """The dtype of a base learner's parameters, which is that of its rule.

    Raises:
        ValueError: If it is not a built Keras model with something to train.
    """
    if not isinstance(base_learner, keras.Model) or not base_learner.trainable_variables:
        raise ValueError(
            f"`base_learner` must be a built Keras model with trainable weights. Received: {base_learner!r}.\n"
            "Try `tf_metalearn.backbones.conv4(outputs=5)`."
        )
    return base_learner.trainable_variables[0].dtype


def _as_tensors(episode: Episode) -> Episode:
    support_x, support_y, query_x = (tf.convert_to_tensor(part) for part in episode)
    # Keras hands integers over as floats when it builds a model symbolically.
    support_y = tf.cast(support_y, tf.int32) if support_y.shape.rank == 2 else support_y
    return Episode(support_x, support_y, query_x)


def _statistics_of(model: keras.Model) -> dict[int, float]:
    """The momentum of each batch-normalisation statistic, by its place among the non-trainable variables."""
    places = {id(variable): place for place, variable in enumerate(model.non_trainable_variables)}
    return {
        places[id(variable)]: layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in (layer.moving_mean, layer.moving_variance)
    }
