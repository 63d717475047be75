"""The Meta-LSTM: an LSTM trains the base learner, whose parameters are its cell state."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_metalearn.learners.adaptation import Settings
from tf_metalearn.learners.checks import as_task
from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.learners.networks import dtype_of
from tf_metalearn.rules import MetaLSTMRule


class Gates(NamedTuple):
    """What a Meta-LSTM did with each parameter at each step: next = forget * parameter - input * gradient.

    Args:
        forget: `[steps, coordinates]`, 1 keeps a parameter.
        input: `[steps, coordinates]`, the learning rate.
    """

    forget: Any
    input: Any


@keras.saving.register_keras_serializable("tf_metalearn")
class MetaLSTM(GradientBasedLearner):
    """Learns an LSTM that trains the base learner, and the initial parameters, its initial cell state.

    Gradients and losses that the LSTM is given are constants for the meta-gradient.

    Args:
        base_learner: A built Keras model with one output for each way, or for each value of a regression.
        inner_steps: In training. The paper takes 12 for 1 shot with batches of 5, 8 for 5 shots with batches of 25.
        rule: The LSTM; a `MetaLSTMRule` as in the paper when None.
        seed: Of the LSTM's initial weights, without a rule.
        name: Of the model.
        **kwargs: As `GradientBasedLearner` has them.

    >>> import tf_metalearn as tfm
    >>> learner = MetaLSTM(tfm.backbones.sinusoid_mlp(), inner_steps=3, inner_loss="mse")
    >>> gates = learner.gates([[0.0], [1.0]], [[0.0], [1.0]])
    >>> gates.forget.shape, bool(gates.forget.min() > 0.98)
    ((3, 1761), True)

    Reference: Ravi and Larochelle 2017. https://openreview.net/forum?id=rJY0-Kcll
    """

    def __init__(
        self,
        base_learner: keras.Model,
        inner_steps: int = 12,
        rule: MetaLSTMRule | None = None,
        seed: int | None = 0,
        name: str = "meta_lstm",
        **kwargs: Any,
    ):
        dtype = dtype_of(base_learner)
        rule = rule or MetaLSTMRule(seed=seed, dtype=dtype)
        super().__init__(base_learner, rule, inner_steps, second_derivatives=False, name=name, **kwargs)
        self.seed = seed

    def gates(self, support_x: Any, support_y: Any) -> Gates:
        """Returns the gates while adapting to one support set.

        Args:
            support_x: `[support, ...]`.
            support_y: `[support]` labels from 0 on, or `[support, outputs]` values of a regression.
        """
        task = as_task(support_x, support_y, self.base_learner)

        @tf.function
        def step(adapted):
            return self._adaptation.advance(adapted, task.support_x, task.support_y, 1, Settings(False, False))

        adapted, gates = self._adaptation.start(), []
        for _ in range(self.evaluation_steps):
            adapted = step(adapted._replace(losses=adapted.losses[:0]))
            gates.append(adapted.state.gates)
        return Gates(*(tf.stack(gate).numpy() for gate in zip(*gates, strict=True)))

    def learned_values(self, support_x: Any, support_y: Any) -> dict[str, Any]:
        """The gates of every parameter at each inner step."""
        gates = self.gates(support_x, support_y)
        return {"forget_gates": gates.forget, "input_gates": gates.input}

    def get_config(self) -> dict[str, Any]:
        rule = keras.saving.serialize_keras_object(self.rule)
        return {**super().get_config(), "rule": rule, "seed": self.seed}
