"""Reptile: initial parameters that move towards where training on each task leads."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.learners.adaptation import Settings
from tf_metalearn.learners.gradient_based import GradientBasedLearner, TaskResult
from tf_metalearn.learners.networks import dtype_of
from tf_metalearn.rules import Adam, UpdateRule


@keras.saving.register_keras_serializable("tf_metalearn")
class Reptile(GradientBasedLearner):
    """Learns initial parameters by moving them towards the parameters that the inner loop ends with.

    Nothing is differentiated through the loop. The step is the optimizer's: `keras.optimizers.SGD(epsilon)` is
    initial + epsilon * (adapted - initial), the paper's; it is the default with epsilon = 1, and may have a schedule.
    Training wants more shots than are needed later, in mini-batches; the query set serves to watch.

    Adam's moments are carried from task to task, as in the authors' code: begun anew, its first steps would have the
    same length for every coordinate, also where the gradient is mere rounding.

    Args:
        base_learner: A built Keras model with one output for each way, or for each value of a regression.
        inner_steps: In training.
        inner_learning_rate: Of Adam without momentum, the inner loop's rule.
        inner_batch_size: Support examples of each inner step.
        evaluation_steps: In `evaluate`, `predict` and `adapt`.
        rule: Another rule for the inner loop; it is not learned.
        carried_state: Whether an inner loop begins with the rule's state from the ends of those before it in training,
            averaged over the tasks of an update; anew otherwise.
        name: Of the model.
        **kwargs: As `GradientBasedLearner` has them.

    >>> import tf_metalearn as tfm
    >>> learner = Reptile(tfm.backbones.sinusoid_mlp(), inner_loss="mse")
    >>> learner.compile(loss="mse")
    >>> float(learner.optimizer.learning_rate)
    1.0

    Reference: Nichol et al. 2018, algorithm 2. https://arxiv.org/abs/1803.02999; the state, in the authors' code
    `supervised_reptile/reptile.py`: https://github.com/openai/supervised-reptile
    """

    def __init__(
        self,
        base_learner: keras.Model,
        inner_steps: int = 5,
        inner_learning_rate: float = 1e-3,
        inner_batch_size: int | None = 10,
        evaluation_steps: int | None = 50,
        rule: UpdateRule | None = None,
        carried_state: bool = True,
        name: str = "reptile",
        **kwargs: Any,
    ):
        # Without beta_1, momentum would be carried from one mini-batch to the next.
        rule = rule or Adam(inner_learning_rate, beta_1=0.0, dtype=dtype_of(base_learner))
        rule.trainable = False
        super().__init__(
            base_learner,
            rule,
            inner_steps,
            evaluation_steps,
            inner_batch_size,
            second_derivatives=False,
            carried_state=carried_state,
            name=name,
            **kwargs,
        )
        self.inner_learning_rate = inner_learning_rate

    def compile(
        self,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        jit_compile: bool = False,
        **kwargs: Any,
    ) -> None:
        """As `FewShotLearner` has it.

        Args:
            optimizer: Of the initial parameters; gradient descent with a rate of 1 when None.
            loss: Of the query predictions; cross-entropy on logits when None.
            metrics: "accuracy" when None and the loss is the default one.
            jit_compile: Whether XLA compiles.
            **kwargs: As Keras has them.
        """
        optimizer = keras.optimizers.SGD(1.0) if optimizer is None else optimizer
        super().compile(optimizer, loss, metrics, jit_compile, **kwargs)

    def _of_task(self, task: Episode, query_y: tf.Tensor, settings: Settings) -> TaskResult:
        outputs, adapted = self._predict_task(task, self.inner_steps, settings)
        # The optimizer divides by the scale of the loss, and Keras sums gradients over replicas.
        factor = self.optimizer.scale_loss(tf.ones([])) / tf.distribute.get_strategy().num_replicas_in_sync
        pairs = zip(self.trainable_variables, self._adaptation.values(adapted.parameters), strict=True)
        gradients = [
            (weight.value - tf.cast(value, weight.dtype)) * tf.cast(factor, weight.dtype) for weight, value in pairs
        ]
        return self._task_result(outputs, self._query_loss(query_y, outputs), gradients, adapted)

    def get_config(self) -> dict[str, Any]:
        rule = keras.saving.serialize_keras_object(self.rule)
        return {**super().get_config(), "inner_learning_rate": self.inner_learning_rate, "rule": rule}
