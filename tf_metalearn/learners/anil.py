"""ANIL: MAML whose inner loop moves nothing but the head."""

from typing import Any

import keras

from tf_metalearn.learners.maml import MAML


@keras.saving.register_keras_serializable("tf_metalearn")
class ANIL(MAML):
    """MAML that adapts the last layer alone: almost no inner loop. All parameters are learned in the outer loop.

    Args:
        base_learner: A built Keras model; the last of its layers with weights is its head.
        inner_steps: In training.
        inner_learning_rate: Of gradient descent on the support set.
        name: Of the model.
        **kwargs: As MAML has them.

    >>> import tf_metalearn as tfm
    >>> learner = ANIL(tfm.backbones.conv4(filters=8, outputs=5))
    >>> [tuple(variable.shape) for variable in learner.adapting(learner.base_learner)]
    [(32, 5), (5,)]

    Reference: Raghu et al. 2020. https://arxiv.org/abs/1909.09157
    """

    def __init__(
        self,
        base_learner: keras.Model,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.4,
        name: str = "anil",
        **kwargs: Any,
    ):
        super().__init__(base_learner, inner_steps, inner_learning_rate, name=name, **kwargs)

    @classmethod
    def adapting(cls, base_learner: keras.Model) -> list[Any]:
        """The variables of the head.

        Args:
            base_learner: Whose head.
        """
        layers = [layer for layer in base_learner._flatten_layers(include_self=False) if not layer._layers]
        return next(layer for layer in reversed(layers) if layer.trainable_variables).trainable_variables
