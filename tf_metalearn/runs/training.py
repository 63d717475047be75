"""Trains what a run's configuration says, from its last checkpoint on."""

import signal
import threading
import time
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.callbacks import MetaLearningTensorBoard
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.optimizers.trainer import OptimizerTrainer
from tf_metalearn.plotting import plot_episode, plot_history
from tf_metalearn.runs.build import Built
from tf_metalearn.runs.folder import RunFolder


def run_training(run: RunFolder, built: Built, verbose: int = 1) -> keras.Model:
    """Trains to the last epoch, and writes checkpoint, metrics, pictures and what was learned into the run's folder.

    An interrupted training goes on after the last whole epoch, with the very tasks that come next.

    Args:
        run: Where to write.
        built: What to train.
        verbose: As Keras has it: 0 for silence, 1 for a progress bar, 2 for a line an epoch.

    Returns:
        The learner, or the `OptimizerTrainer`.

    Raises:
        KeyboardInterrupt: After the step in which Ctrl-C came.
    """
    model, values = built.model, run.config.values
    model.optimizer.build(model.trainable_variables)
    done = 0
    if run.checkpoint.exists():
        model.load_weights(run.checkpoint)
        done = int(model.optimizer.iterations) // built.updates
    else:
        save(run, model)
    if done < values["epochs"]:
        look = next(iter(built.validation)) if built.validation is not None else None
        flat = {name: str(value) if isinstance(value, tuple) else value for name, value in values.items()}
        callbacks = [
            keras.callbacks.TensorBoard(run.tensorboard),
            MetaLearningTensorBoard(
                run.tensorboard,
                look,
                hyperparameters={name: value for name, value in flat.items() if value is not None},
            ),
            _Keep(run),
        ]
        data = {"x": built.training(done)} if built.training else {}
        if built.validation is not None:
            data["validation_data"] = built.validation
        with _StopWhenAsked() as stop:
            model.fit(
                **data,
                initial_epoch=done,
                epochs=values["epochs"],
                steps_per_epoch=values["steps"],
                shuffle=False,
                verbose=verbose,
                callbacks=[*callbacks, stop],
            )
        # The trainer has put back the rule that was best.
        _save_model(run, model)
    _draw(run, built)
    return model


def save(run: RunFolder, model: keras.Model) -> None:
    """Writes the state of a training, and what it has learned so far.

    Args:
        run: Where to write.
        model: In training.
    """
    temporary = run.checkpoint.with_name(".writing.weights.h5")
    try:
        model.save_weights(temporary)
        temporary.replace(run.checkpoint)
    finally:
        temporary.unlink(missing_ok=True)
    _save_model(run, model)


def _save_model(run: RunFolder, model: keras.Model) -> None:
    temporary = run.model.with_name(".writing.keras")
    try:
        keras.saving.save_model(model.rule if isinstance(model, OptimizerTrainer) else model, temporary)
        temporary.replace(run.model)
    finally:
        temporary.unlink(missing_ok=True)


class _Keep(keras.callbacks.Callback):
    """Writes checkpoint and metrics after each epoch."""

    def __init__(self, run: RunFolder):
        super().__init__()
        self._run = run

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = round(time.perf_counter() - self._began, 3)
        found = {name: float(value) for name, value in (logs or {}).items()}
        save(self._run, self.model)
        self._run.add_metrics({"epoch": epoch + 1, "seconds": seconds, **found})


class _StopWhenAsked(keras.callbacks.Callback):
    """Ends a training by Ctrl-C between two steps; a second one ends it at once.

    Where Python would raise KeyboardInterrupt by itself, it may be in the middle of a file or where nothing can be
    raised, and it does not where the program was started in the background.
    """

    def __enter__(self) -> "_StopWhenAsked":
        self._asked, self._before = False, None
        # Only the main thread may say what becomes of signals.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._asked:
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.on_train_batch_end(batch)


def _draw(run: RunFolder, built: Built) -> None:
    """Writes the learning curves, and a task with predictions."""
    run.pictures.mkdir(exist_ok=True)
    lines = run.metrics()
    history = {name: [line[name] for line in lines] for name in lines[-1]}
    plot_history(history, run.path.name, built.ways).savefig(run.pictures / "curves.png")
    if isinstance(built.model, FewShotLearner):
        episode, query_y = next(iter(built.validation))
        predictions = tf.function(built.model)(episode, training=False)
        plot_episode(episode, query_y, predictions).savefig(run.pictures / "episode.png")
