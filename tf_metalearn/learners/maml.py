"""MAML: initial parameters from which a few steps of gradient descent solve a task."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.learners.adaptation import Adapted, Settings
from tf_metalearn.learners.checks import check_numbers
from tf_metalearn.learners.gradient_based import GradientBasedLearner, TaskResult
from tf_metalearn.learners.networks import dtype_of
from tf_metalearn.rules import GradientDescent, RatePerLayerAndStep


@keras.saving.register_keras_serializable("tf_metalearn")
class MAML(GradientBasedLearner):
    """Learns initial parameters from which a few steps of gradient descent on the support set solve a task.

    The options of MAML++ are `learned_rates`, `multi_step_updates`, `first_order_updates` and `statistics_per_step`.

    Args:
        base_learner: A built Keras model with one output for each way, or for each value of a regression.
        inner_steps: In training.
        inner_learning_rate: Of gradient descent on the support set.
        first_order: Whether inner gradients count as constants in the meta-gradient (FOMAML): cheaper, less exact.
        evaluation_steps: In `evaluate`, `predict` and `adapt`; as in training when None.
        transductive: Whether a query batch is normalised by its own statistics, as in the published figures.
        inner_loss: Of the support set; the cross-entropy of logits when None.
        learned_rates: Whether the rate is learned for each variable and inner step, from `inner_learning_rate` on.
        multi_step_updates: In so many meta-updates at the start, the query loss counts after every inner step; its
            weights fade from equal ones to that of the last step alone.
        first_order_updates: So many meta-updates at the start are first order.
        name: Of the model.
        **kwargs: As `GradientBasedLearner` has them.

    Raises:
        ValueError: If the base learner is not a built model, or a number is not in its range.

    >>> import numpy as np
    >>> import tf_metalearn as tfm
    >>> learner = MAML(tfm.backbones.conv4(filters=8, outputs=5), inner_steps=2, inner_learning_rate=0.4)
    >>> x = np.random.default_rng(0).random([2, 5, 28, 28, 1], "float32")
    >>> learner(tfm.Episode(x, np.tile(range(5), [2, 1]), x)).shape
    TensorShape([2, 5, 5])

    References: Finn et al. 2017, https://arxiv.org/abs/1703.03400; Antoniou et al. 2019 (MAML++),
    https://arxiv.org/abs/1810.09502.
    """

    def __init__(
        self,
        base_learner: keras.Model,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.4,
        first_order: bool = False,
        evaluation_steps: int | None = None,
        transductive: bool = False,
        inner_loss: Any = None,
        learned_rates: bool = False,
        multi_step_updates: int = 0,
        first_order_updates: int = 0,
        name: str = "maml",
        **kwargs: Any,
    ):
        check_numbers(multi_step_updates=(multi_step_updates, 0), first_order_updates=(first_order_updates, 0))
        dtype = dtype_of(base_learner)
        rule: GradientDescent | RatePerLayerAndStep
        if learned_rates:
            layers = len(self.adapting(base_learner))
            rule = RatePerLayerAndStep(layers, max(inner_steps, 1), inner_learning_rate, dtype=dtype)
        else:
            rule = GradientDescent(inner_learning_rate, dtype=dtype)
            rule.trainable = False
        super().__init__(
            base_learner,
            rule,
            inner_steps,
            evaluation_steps,
            second_derivatives=not first_order,
            transductive=transductive,
            inner_loss=inner_loss,
            name=name,
            **kwargs,
        )
        self.inner_learning_rate, self.learned_rates = inner_learning_rate, learned_rates
        self.multi_step_updates, self.first_order_updates = multi_step_updates, first_order_updates

    def _of_tasks(self, episode: Episode, query_y: tf.Tensor) -> TaskResult:
        if not self.first_order_updates or not self.second_derivatives:
            return super()._of_tasks(episode, query_y)
        # Whatever the optimizer makes cannot be made in a branch, and one that scales the loss makes it at each build.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return tf.cond(
            tf.convert_to_tensor(self.optimizer.iterations) < self.first_order_updates,
            lambda: self._map_tasks(episode, query_y, Settings(True, second_derivatives=False)),
            lambda: self._map_tasks(episode, query_y, Settings(True, second_derivatives=True)),
        )

    def _meta_loss(self, task: Episode, query_y: tf.Tensor, settings: Settings) -> tuple[tf.Tensor, tf.Tensor, Adapted]:
        if not self.multi_step_updates or self.inner_steps < 2:
            return super()._meta_loss(task, query_y, settings)
        adapted, losses, outputs = self._adaptation.start(settings.draw), [], None
        for _ in range(self.inner_steps):
            adapted = self._adaptation.advance(adapted, task.support_x, task.support_y, 1, settings)
            outputs, adapted = self._adaptation.predict(adapted, task, settings)
            losses.append(self._query_loss(query_y, outputs))
        done = tf.cast(self.optimizer.iterations, losses[0].dtype) / self.multi_step_updates
        early = tf.maximum(1 - done, 0) / self.inner_steps
        total = early * tf.add_n(losses[:-1]) + (1 - early * (self.inner_steps - 1)) * losses[-1]
        return outputs, total, adapted

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "inner_learning_rate": self.inner_learning_rate,
            "first_order": not self.second_derivatives,
            "learned_rates": self.learned_rates,
            "multi_step_updates": self.multi_step_updates,
            "first_order_updates": self.first_order_updates,
        }
