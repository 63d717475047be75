"""MAML: initial parameters from which a few steps of gradient descent solve a task."""

from typing import Any

import keras

from tf_metalearn.learners.gradient_based import GradientBasedLearner, dtype_of
from tf_metalearn.rules import GradientDescent


@keras.saving.register_keras_serializable("tf_metalearn")
class MAML(GradientBasedLearner):
    """Learns initial parameters from which a few steps of gradient descent on the support set solve a task.

    Args:
        base_learner: A built Keras model with one output for each way, or for each value of a regression.
        inner_steps: In training.
        inner_learning_rate: Of gradient descent on the support set.
        first_order: Whether inner gradients count as constants in the meta-gradient (FOMAML): cheaper, less exact.
        evaluation_steps: In `evaluate`, `predict` and `adapt`; as in training when None.
        transductive: Whether a query batch is normalised by its own statistics, as in the published figures.
        inner_loss: Of the support set; the cross-entropy of logits when None.
        name: Of the model.

    Raises:
        ValueError: If the base learner is not a built model, or a number is not in its range.

    >>> import numpy as np
    >>> import tf_metalearn as tfm
    >>> learner = MAML(tfm.backbones.conv4(filters=8, outputs=5), inner_steps=2, inner_learning_rate=0.4)
    >>> x = np.random.default_rng(0).random([2, 5, 28, 28, 1], "float32")
    >>> learner(tfm.Episode(x, np.tile(range(5), [2, 1]), x)).shape
    TensorShape([2, 5, 5])

    Reference: Finn et al. 2017. https://arxiv.org/abs/1703.03400
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
        name: str = "maml",
        **kwargs: Any,
    ):
        rule = GradientDescent(inner_learning_rate, dtype=dtype_of(base_learner))
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
        self.inner_learning_rate = inner_learning_rate

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "inner_learning_rate": self.inner_learning_rate,
            "first_order": not self.second_derivatives,
        }
