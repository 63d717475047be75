"""Meta-training: a learned optimizer is trained by gradient descent."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.estimators.truncated import Training, TruncatedBackpropagation, advance, start
from tf_metalearn.problems import make
from tf_metalearn.problems.base import Problem
from tf_metalearn.rules.base import UpdateRule

# Seeds of training and of validation come from streams that never meet.
_TRAINING, _VALIDATION = 0, 1


@keras.saving.register_keras_serializable("tf_metalearn")
class OptimizerTrainer(keras.Model):
    """Trains an update rule on problems, by truncated backpropagation through their training.

    One step of `fit` plays one fresh episode of every problem: `episode_length` inner steps in stretches of
    `unroll_length`, with a meta-update after each stretch. `loss` is the mean loss along the episode, `final_loss` the
    loss at its end. Under a distribution strategy every replica plays episodes of its own, and a meta-update is their
    mean. With validation problems, every epoch ends with the same held-out episodes, played to their end, and when
    `fit` is done the rule has the weights that were best on them. Keras's callbacks work as for any model.

    Args:
        rule: What is trained: the rule's trainable weights.
        problems: One `Problem` or several.
        validation_problems: One or several, which share no example with `problems`; None validates on nothing.
        unroll_length: Inner steps between two meta-updates, through which the meta-gradient flows.
        episode_length: Inner steps of an episode, a multiple of `unroll_length`.
        validation_episodes: Of each validation problem, at the end of every epoch.
        second_derivatives: Whether the gradients that the rule sees are differentiated too. The paper does not.
        recompute: Whether to trade time for memory; see `unroll`.
        seed: Every episode is a function of it and of its number.
        name: Of the model.

    Raises:
        ValueError: If the unroll is longer than the episode or does not divide it.

    >>> import tf_metalearn as tfm
    >>> rule = tfm.CoordinatewiseLSTM(seed=0)
    >>> trainer = tfm.OptimizerTrainer(rule, tfm.problems.Quadratic(), unroll_length=5, episode_length=10)
    >>> trainer.compile(optimizer=keras.optimizers.Adam(1e-3))
    >>> history = trainer.fit(epochs=2, steps_per_epoch=3, verbose=0)
    >>> sorted(history.history)
    ['final_loss', 'loss', 'skipped']

    Reference: Andrychowicz et al. 2016, section 2. https://arxiv.org/abs/1606.04474
    """

    def __init__(
        self,
        rule: UpdateRule,
        problems: Problem | Sequence[Problem],
        validation_problems: Problem | Sequence[Problem] | None = None,
        unroll_length: int = 20,
        episode_length: int = 100,
        validation_episodes: int = 8,
        second_derivatives: bool = False,
        recompute: bool = False,
        seed: int = 0,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        for argument, value in (("unroll_length", unroll_length), ("episode_length", episode_length)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{argument}` must be a positive integer. Received: {argument}={value!r}.\n"
                    "The paper has unroll_length=20 and episode_length=100."
                )
        if unroll_length > episode_length or episode_length % unroll_length:
            raise ValueError(
                "`unroll_length` must divide `episode_length`. "
                f"Received: unroll_length={unroll_length}, episode_length={episode_length}.\n"
                f"Try unroll_length={_nearest_divisor(episode_length, unroll_length)}."
            )
        if not isinstance(rule, UpdateRule):
            raise ValueError(
                f"`rule` must be an UpdateRule. Received: rule={rule!r}.\nTry `CoordinatewiseLSTM()`, or `load_rule` "
                "to go on with a shipped one."
            )
        if not rule.trainable_variables:
            raise ValueError(
                f"`rule` must have trainable weights. Received: {type(rule).__name__} without any.\n"
                "Check its `trainable`."
            )
        self.rule = rule
        self.problems = _as_tuple("problems", problems)
        self.validation_problems = _as_tuple("validation_problems", validation_problems)
        self.unroll_length = unroll_length
        self.episode_length = episode_length
        self.validation_episodes = validation_episodes
        self.second_derivatives = second_derivatives
        self.recompute = recompute
        self.seed = seed
        self._estimator = TruncatedBackpropagation(unroll_length, second_derivatives, recompute)
        self._loss_tracker = keras.metrics.Mean("loss")
        self._final_loss_tracker = keras.metrics.Mean("final_loss")
        self._skipped_tracker = keras.metrics.Sum("skipped")
        # Part of the model, so that a training that is resumed goes on with the next episode and the best rule so far.
        self._episodes = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="episodes")
        self._best_loss = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(float("inf")), trainable=False, name="best_loss"
        )
        self._best_weights = [
            self.add_weight(shape=weight.shape, dtype=weight.dtype, trainable=False, name=f"best_{index}")
            for index, weight in enumerate(rule.weights)
        ]
        self.built = True
        # Keras would choose XLA where there is a GPU; on loops of small operations that costs minutes of compilation.
        self.supports_jit = False

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What `fit` and `evaluate` report."""
        return [self._loss_tracker, self._final_loss_tracker, self._skipped_tracker]

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Keras's `fit`, without data: episodes are drawn from the problems.

        Args:
            x: Nothing, or a dataset whose elements only count the episodes.
            *args: As Keras has them.
            **kwargs: As Keras has them; `steps_per_epoch` is the number of episodes an epoch, by default 100.

        Returns:
            Keras's history.
        """
        if not self.problems:
            raise ValueError(
                "`problems` must not be empty. Received: a trainer without problems, as after loading one whose "
                "problems were made by hand.\nSet `trainer.problems` and `trainer.validation_problems`."
            )
        if x is not None and not isinstance(x, tf.data.Dataset):
            raise ValueError(
                f"`x` must be left out: the trainer draws its data from its problems. Received: a {type(x).__name__}.\n"
                "Make a SupervisedProblem of the data, and call `fit(epochs=..., steps_per_epoch=...)`."
            )
        if x is None:
            replicas = self.distribute_strategy.num_replicas_in_sync
            x = tf.data.Dataset.range(replicas).repeat().batch(replicas)
            kwargs.setdefault("steps_per_epoch", 100)
            kwargs.setdefault("shuffle", False)
        callbacks = kwargs.pop("callbacks", None) or []
        if self.validation_problems:
            kwargs.setdefault("validation_data", self._validation_data())
            callbacks = [_KeepBest(), *callbacks] if isinstance(callbacks, (list, tuple)) else callbacks
        return super().fit(x, *args, callbacks=callbacks, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Keras's `evaluate`, on the held-out episodes of the validation problems.

        Args:
            x: Nothing, or a dataset of episode numbers.
            *args: As Keras has them.
            **kwargs: As Keras has them.
        """
        if x is None and not self.validation_problems:
            raise ValueError(
                "`validation_problems` must not be empty. Received: a trainer without any.\n"
                "Give `OptimizerTrainer` problems that share no example with the training problems."
            )
        return super().evaluate(self._validation_data() if x is None else x, *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Plays one episode of every problem, with a meta-update after every stretch."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = self._seed(_TRAINING, self._episodes.value, replica)
        self._episodes.assign_add(1)
        trainings = [
            start(self.rule, problem, tf.random.experimental.stateless_fold_in(seed, index))
            for index, problem in enumerate(self.problems)
        ]
        # One traced function a problem, called for every stretch: tracing takes longer than playing.
        stretches = [
            tf.function(lambda training, problem=p: self._estimator(self.rule, problem, training))
            for p in self.problems
        ]
        losses: list[tf.Tensor] = []
        for _ in range(self.episode_length // self.unroll_length):
            played = [
                stretch(training._replace(step=tf.convert_to_tensor(training.step)))
                for stretch, training in zip(stretches, trainings, strict=True)
            ]
            trainings = [Training(*training) for _, _, training in played]
            losses.append(tf.add_n([losses for losses, _, _ in played]) / len(played))
            gradients = [tf.add_n(parts) / len(played) for parts in zip(*(part for _, part, _ in played), strict=True)]
            self._meta_update(gradients)
        return self._report(tf.concat(losses, axis=0))

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Plays one held-out episode of every validation problem."""
        number = tf.cast(tf.reshape(data[0] if isinstance(data, tuple) else data, [-1])[0], tf.int32)
        seed = self._seed(_VALIDATION, number)
        losses = []
        for index, problem in enumerate(self.validation_problems):
            training = start(self.rule, problem, tf.random.experimental.stateless_fold_in(seed, index))
            result = advance(self.rule, problem, training, self.episode_length)
            final, _ = problem.loss(training.task, result.parameters, result.carry, result.step)
            losses.append(tf.concat([result.losses[1:], final[None]], axis=0))
        return self._report(tf.add_n(losses) / len(losses))

    def call(self, gradient: tf.Tensor, state: Any, **offers: Any) -> Any:
        """Calls the rule, so that the trainer can stand where a rule can."""
        return self.rule(gradient, state, **offers)

    def _meta_update(self, gradients: list[tf.Tensor]) -> None:
        # One diverged episode must not wipe out what thousands have taught.
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        # Keras sums gradients over replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = [tf.where(finite, gradient / replicas, tf.zeros_like(gradient)) for gradient in gradients]
        self.optimizer.apply(gradients, self.rule.trainable_variables)
        self._skipped_tracker.update_state(tf.where(finite, 0.0, 1.0))

    def _report(self, losses: tf.Tensor) -> dict[str, tf.Tensor]:
        self._loss_tracker.update_state(tf.reduce_mean(losses))
        self._final_loss_tracker.update_state(losses[-1])
        return {metric.name: metric.result() for metric in self.metrics}

    def _seed(self, stream: int, number: tf.Tensor, replica: int | tf.Tensor = 0) -> tf.Tensor:
        seed = tf.stack([tf.constant(self.seed), tf.constant(stream)])
        seed = tf.random.experimental.stateless_fold_in(seed, number)
        return tf.random.experimental.stateless_fold_in(seed, replica)

    def _validation_data(self) -> tf.data.Dataset:
        """Episode numbers: one for each replica in a batch, the last batch filled up with further ones."""
        replicas = self.distribute_strategy.num_replicas_in_sync
        batches = -(-self.validation_episodes // replicas)
        return tf.data.Dataset.range(batches * replicas).batch(replicas)

    def get_config(self) -> dict[str, Any]:
        recipes = [problem.recipe for problem in self.problems]
        validation_recipes = [problem.recipe for problem in self.validation_problems]
        repeatable = None not in recipes + validation_recipes
        return {
            **super().get_config(),
            "rule": keras.saving.serialize_keras_object(self.rule),
            "problems": recipes if repeatable else [],
            "validation_problems": validation_recipes if repeatable else [],
            "unroll_length": self.unroll_length,
            "episode_length": self.episode_length,
            "validation_episodes": self.validation_episodes,
            "second_derivatives": self.second_derivatives,
            "recompute": self.recompute,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "OptimizerTrainer":
        config = dict(config)
        config["rule"] = keras.saving.deserialize_keras_object(config["rule"], custom_objects)
        for argument in ("problems", "validation_problems"):
            config[argument] = [make(**recipe) for recipe in config[argument]]
        return cls(**config)


class _KeepBest(keras.callbacks.Callback):
    """Remembers the rule with the lowest validation loss, and puts it back when training is over."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        trainer, loss = self.model, (logs or {}).get("val_loss")
        if loss is not None and loss < trainer._best_loss.numpy():
            trainer._best_loss.assign(loss)
            for best, weight in zip(trainer._best_weights, trainer.rule.weights, strict=True):
                best.assign(weight.numpy())

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        trainer = self.model
        if trainer._best_loss.numpy() < float("inf"):
            for best, weight in zip(trainer._best_weights, trainer.rule.weights, strict=True):
                weight.assign(best.numpy())


def _as_tuple(argument: str, problems: Problem | Sequence[Problem] | None) -> tuple[Problem, ...]:
    if problems is None:
        return ()
    found = (problems,) if isinstance(problems, Problem) or not isinstance(problems, Sequence) else tuple(problems)
    if isinstance(problems, str) or not all(isinstance(problem, Problem) for problem in found):
        raise ValueError(
            f"`{argument}` must be a Problem or several. Received: {argument}={problems!r}.\n"
            "Try `tf_metalearn.problems.make('digits')`, or a SupervisedProblem of your own."
        )
    return found


def _nearest_divisor(whole: int, wanted: int) -> int:
    """The divisor that is nearest to a number.

    >>> _nearest_divisor(100, 30)
    25
    """
    divisors = [number for number in range(1, whole + 1) if whole % number == 0]
    return min(divisors, key=lambda divisor: abs(divisor - wanted))
