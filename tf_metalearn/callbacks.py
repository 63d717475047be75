"""What TensorBoard shows of meta-learning, beside Keras's own callback."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.plugins.hparams import api as hparams

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.inner_loop import unroll
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.learners.metric import MetricLearner
from tf_metalearn.optimizers.trainer import OptimizerTrainer
from tf_metalearn.plotting import plot_embeddings, plot_episode, plot_trajectories, write_projector
from tf_metalearn.plotting.charts import write_charts
from tf_metalearn.plotting.style import as_pixels
from tf_metalearn.problems import Quadratic

#: The run in TensorBoard, beside Keras's own "train" and "validation".
RUN = "meta_learning"
#: Inner steps of a learned optimizer that are looked at.
OPTIMIZER_STEPS = 20
#: Of the time of a training may go into looks.
SHARE = 0.02
TRY = "Try next(iter(tfm.load_episodes(..., split='validation')))."


class MetaLearningTensorBoard(keras.callbacks.Callback):
    """Writes for TensorBoard what is special to meta-learning; use it beside `keras.callbacks.TensorBoard`.

    Of a few-shot learner: the accuracy (or loss) after each inner step, the norm of the meta-gradient, histograms of
    what is learned besides weights (learning rates, gates), an episode with predictions, and the embeddings of a metric
    learner in two dimensions and in the projector. Of an `OptimizerTrainer`: histograms of the rule's updates, and its
    path on a function of two dimensions. Of both: steps a second, the configuration as text, hyperparameters, and a
    chart of the scalars that belong together (CUSTOM SCALARS).

    Args:
        log_dir: As `keras.callbacks.TensorBoard` has it.
        episodes: One batch of validation tasks, `(Episode, query_y)`, always the same: what is measured on few-shot
            learners is measured on these; of a data set the first batch. Not for an `OptimizerTrainer`.
        every: Epochs from one look to the next; steps a second are written after each. When None, it looks after the
            first and the last epoch, and in between as often as takes 2 % of the time.
        hyperparameters: Numbers, text and booleans by name, for the HPARAMS tab; a sweep gives each run its own.

    Raises:
        ValueError: If `episodes` are no batch of tasks, are missing for a few-shot learner or given for an
            `OptimizerTrainer`, or the model that is trained is neither.

    >>> import tempfile
    >>> import tf_metalearn as tfm
    >>> trainer = tfm.OptimizerTrainer(tfm.CoordinatewiseLSTM(seed=0), tfm.problems.Quadratic(functions=2))
    >>> trainer.compile(optimizer="adam")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     look = tfm.MetaLearningTensorBoard(folder)
    ...     history = trainer.fit(epochs=1, steps_per_epoch=1, verbose=0, callbacks=[look])
    ...     len(list(Path(folder).glob("meta_learning/events*")))
    1
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        episodes: Any = None,
        every: int | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ValueError(f"`every` must be an integer >= 1, or None. Received: every={every!r}.\nTry 1.")
        self.log_dir, self.every, self.hyperparameters = Path(log_dir), every, dict(hyperparameters or {})
        self._episodes = None if episodes is None else _batch_of_tasks(episodes)

    def on_train_begin(self, logs=None):
        self._look = self._look_at(self.model)
        self._writer = tf.summary.create_file_writer(str(self.log_dir / RUN))
        with self._writer.as_default(step=0):
            tf.summary.text("configuration", f"```json\n{_configuration(self.model)}\n```")
            write_charts(self._look.charts)
            if self.hyperparameters:
                # Without a name it would be a checksum.
                hparams.hparams(self.hyperparameters, trial_id=str(self.log_dir))
        self._epoch, self._looked, self._spent, self._start = None, None, 0.0, time.perf_counter()

    def _look_at(self, model: keras.Model) -> Any:
        if isinstance(model, FewShotLearner):
            if self._episodes is None:
                raise ValueError(f"`episodes` must be a batch of tasks for a few-shot learner. Received: None.\n{TRY}")
            return _LearnerLook(model, *self._episodes)
        if not isinstance(model, OptimizerTrainer):
            raise ValueError(
                "MetaLearningTensorBoard must be given to `fit` of a few-shot learner or an OptimizerTrainer. "
                f"Received: that of a {type(model).__name__}.\nUse keras.callbacks.TensorBoard for other models."
            )
        if self._episodes is not None:
            raise ValueError(
                "`episodes` must be None for an OptimizerTrainer, which draws problems itself. Received: a batch of "
                "tasks.\nLeave them out."
            )
        return _OptimizerLook(model)

    def on_epoch_begin(self, epoch, logs=None):
        self._began, self._batches = time.perf_counter(), 0

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        self._ended = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch
        with self._writer.as_default(step=epoch):
            tf.summary.scalar("steps_per_second", self._batches / (self._ended - self._began))
            # For the HPARAMS tab, which shows metrics of the same run only.
            for name, value in (logs or {}).items() if self.hyperparameters else ():
                tf.summary.scalar(name, value)
        if self._is_due(epoch):
            self._write_look()
        self._writer.flush()

    def _is_due(self, epoch: int) -> bool:
        if self.every is not None:
            return (epoch + 1) % self.every == 0
        return self._looked is None or self._spent <= SHARE * (time.perf_counter() - self._start)

    def _write_look(self) -> None:
        began = time.perf_counter()
        with self._writer.as_default(step=self._epoch):
            for name, value in self._look.scalars().items():
                tf.summary.scalar(name, value)
            for name, value in self._look.histograms().items():
                tf.summary.histogram(name, value)
            for name, figure in self._look.figures().items():
                tf.summary.image(name, as_pixels(figure)[None])
        # The first one traces, which is no measure of the next.
        if self._looked is not None:
            self._spent += time.perf_counter() - began
        self._looked = self._epoch

    def on_train_end(self, logs=None):
        if self.every is None and self._looked != self._epoch:
            self._write_look()
        self._writer.close()
        self._look.write_projector(self.log_dir / RUN)


def _batch_of_tasks(episodes: Any) -> tuple[Episode, Any]:
    """The tasks and their answers, of a data set those of the first batch."""
    batch = episodes
    if isinstance(batch, tf.data.Dataset):
        # It may have no end.
        batch = next(iter(batch), None)
    pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not pair or not isinstance(batch[0], tuple | list) or len(batch[0]) != len(Episode._fields):
        received = "an empty data set" if batch is None else f"a {type(episodes).__name__}"
        raise ValueError(f"`episodes` must be a batch of tasks, (Episode, query_y). Received: {received}.\n{TRY}")
    return Episode(*batch[0]), batch[1]


class _LearnerLook:
    """What is to be seen of a few-shot learner on a batch of tasks."""

    def __init__(self, learner: FewShotLearner, episode: Episode, query_y: Any):
        self._learner, self._episode, self._query_y = learner, episode, tf.convert_to_tensor(query_y)
        self._classifies = self._query_y.shape.rank == 2
        self._measured = tf.function(self._measure)
        most = learner.evaluation_steps if isinstance(learner, GradientBasedLearner) else 0
        # Not all of Reptile's fifty.
        self._steps = sorted({round(step) for step in np.linspace(0, most, min(most + 1, 6))})
        name = "accuracy" if self._classifies else "loss"
        self._names = [f"inner_steps/{name}_after_{step}" for step in self._steps]
        self.charts = {
            "Inner steps": [r"inner_steps/.*"],
            "Training": [r"epoch_.*", r"meta_gradient_norm"],
        }

    def _measure(self) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Accuracy or loss after each number of inner steps, the norm of the meta-gradient, and predictions."""
        learner = self._learner
        if isinstance(learner, GradientBasedLearner):
            outputs = learner.predict_along(self._episode, self._steps)
        else:
            outputs = [learner(self._episode, training=False)]
        found = [self._quality(predicted) for predicted in outputs]
        weights = [weight.value for weight in learner.trainable_variables]
        # Looking must not move averages of batch normalisation.
        with keras.StatelessScope(), tf.GradientTape() as tape:
            predicted = learner(self._episode, training=True)
            loss = learner.compute_loss(x=None, y=self._query_y, y_pred=predicted, training=True)
        gradients = [gradient for gradient in tape.gradient(loss, weights) if gradient is not None]
        return found, tf.linalg.global_norm(gradients), outputs[-1]

    def _quality(self, outputs: tf.Tensor) -> tf.Tensor:
        if not self._classifies:
            return self._learner.compute_loss(x=None, y=self._query_y, y_pred=outputs, training=False)
        right = tf.cast(self._query_y, tf.int64) == tf.argmax(outputs, axis=-1)
        return tf.reduce_mean(tf.cast(right, tf.float32))

    def scalars(self) -> dict[str, Any]:
        found, norm, self._outputs = self._measured()
        return {**dict(zip(self._names, found, strict=True)), "meta_gradient_norm": norm}

    def histograms(self) -> dict[str, Any]:
        support_x, support_y = self._episode.support_x[0], self._episode.support_y[0]
        return self._learner.learned_values(np.asarray(support_x), np.asarray(support_y))

    def figures(self) -> dict[str, Figure]:
        found = {}
        if self._episode.query_x.shape.rank == 5 or self._episode.query_x.shape[2:] == (1,):
            found["episode"] = plot_episode(self._episode, self._query_y, self._outputs)
        if isinstance(self._learner, MetricLearner):
            support, query = self._embedded()
            found["embeddings"] = plot_embeddings(support, self._episode.support_y[0], query, self._query_y[0])
        return found

    def _embedded(self, task: int = 0) -> Iterator[np.ndarray]:
        """The support and query embeddings of a task, as vectors."""
        networks = (self._learner.support_network, self._learner.embedding)
        for network, x in zip(networks, (self._episode.support_x[task], self._episode.query_x[task]), strict=True):
            features = np.asarray(network(x, training=False))
            yield features.reshape(len(features), -1)

    def write_projector(self, folder: Path) -> None:
        if isinstance(self._learner, MetricLearner):
            vectors, labels = [], []
            for task, names in enumerate(np.asarray(self._query_y)):
                vectors.append(list(self._embedded(task))[1])
                labels += [f"task {task}, class {name}" for name in names]
            write_projector(folder, np.concatenate(vectors), labels)


class _OptimizerLook:
    """What is to be seen of a learned optimizer."""

    def __init__(self, trainer: OptimizerTrainer):
        self.charts = {"Meta-training": [r"epoch_(val_)?(final_)?loss"]}
        self._rule, self._problem = trainer.rule, trainer.problems[0]
        self._plane = Quadratic(functions=1, dimensions=2)
        self._paths = {problem: tf.function(self._path_on(problem)) for problem in (self._problem, self._plane)}

    def _path_on(self, problem: Any) -> Any:
        """A function that returns a task and the parameters after each step, `[steps + 1, coordinates]`."""

        def path() -> tuple[Any, tf.Tensor]:
            task = problem.sample(tf.constant([0, 0]))

            def loss(parameters, carry, step):
                return problem.loss(task, parameters, carry, step)

            found, state, carry, step = [task.parameters], None, task.carry, 0
            for _ in range(OPTIMIZER_STEPS):
                segments = problem.segments
                result = unroll(self._rule, loss, found[-1], 1, state=state, carry=carry, step=step, segments=segments)
                found.append(result.parameters)
                state, carry, step = result.state, result.carry, result.step
            return task, tf.stack(found)

        return path

    def scalars(self) -> dict[str, Any]:
        return {}

    def histograms(self) -> dict[str, Any]:
        _, path = self._paths[self._problem]()
        return {"updates": path[1:] - path[:-1]}

    def figures(self) -> dict[str, Figure]:
        task, path = self._paths[self._plane]()
        matrix, target = (part[0].numpy() for part in task.data)

        def height(points: np.ndarray) -> np.ndarray:
            return ((points @ matrix.T - target) ** 2).sum(axis=-1)

        return {"trajectory": plot_trajectories(height, {"learned optimizer": path.numpy()})}

    def write_projector(self, folder: Path) -> None:
        """Has no embeddings."""


def _configuration(model: keras.Model) -> str:
    """A model's configuration, without that of the networks inside it."""
    config = {"class": type(model).__name__}
    if isinstance(model, FewShotLearner):
        parts = model.get_config().items()
        config |= {name: part.get("class_name", part) if isinstance(part, dict) else part for name, part in parts}
    else:
        names = ("unroll_length", "episode_length", "second_derivatives", "seed")
        config |= {name: getattr(model, name) for name in names}
    config["optimizer"] = model.optimizer.get_config()
    return json.dumps(config, indent=2, default=str)
