"""Meta-SGD: initial parameters, and a learning rate for each of them."""

from typing import Any

import keras

from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.learners.networks import dtype_of
from tf_metalearn.rules import RatePerParameter


@keras.saving.register_keras_serializable("tf_metalearn")
class MetaSGD(GradientBasedLearner):
    """Learns initial parameters and, for each of them, the rate of gradient descent, which may become negative.

    Args:
        base_learner: A built Keras model with one output for each way, or for each value of a regression.
        inner_steps: In training; the paper takes one.
        inner_learning_rates: The range from which the rates are drawn at the start.
        first_order: Whether inner gradients count as constants in the meta-gradient.
        seed: Of the rates at the start.
        name: Of the model.
        **kwargs: As `GradientBasedLearner` has them.

    >>> import tf_metalearn as tfm
    >>> learner = MetaSGD(tfm.backbones.sinusoid_mlp(), inner_loss="mse")
    >>> learner.rule.rates.shape == (learner.base_learner.count_params(),)
    True

    Reference: Li et al. 2017. https://arxiv.org/abs/1707.09835
    """

    def __init__(
        self,
        base_learner: keras.Model,
        inner_steps: int = 1,
        inner_learning_rates: tuple[float, float] = (0.005, 0.1),
        first_order: bool = False,
        seed: int = 0,
        name: str = "meta_sgd",
        **kwargs: Any,
    ):
        dtype = dtype_of(base_learner)
        coordinates = sum(int(keras.ops.size(variable)) for variable in self.adapting(base_learner))
        rule = RatePerParameter(coordinates, inner_learning_rates, seed=seed, dtype=dtype)
        super().__init__(base_learner, rule, inner_steps, second_derivatives=not first_order, name=name, **kwargs)
        self.inner_learning_rates, self.seed = tuple(inner_learning_rates), seed

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "inner_learning_rates": list(self.inner_learning_rates),
            "first_order": not self.second_derivatives,
            "seed": self.seed,
        }
