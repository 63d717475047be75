"""Measures learners on test tasks."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.load import SINUSOIDS
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.runs.build import evaluation_tasks, is_folder, read


def evaluate_learner(
    learner: FewShotLearner,
    values: Mapping[str, Any],
    split: str = "test",
    episodes: int = 1000,
    seed: int = 1,
    data_dir: str | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Evaluates a learner.

    Args:
        learner: A trained one.
        values: Settings: `data`, `ways`, `shots`, `protocol`, `image_size` and `unreadable`; `transductive` and
            `evaluation_steps` if the learner is to have others than its own. A folder's pictures are read as the
            learner takes them: of its size, grey or in colour, and inverted if `invert` or else its `ink` says so.
        split: Of the data.
        episodes: Tasks.
        seed: Decides them.
        data_dir: Where data sets are.
        progress: Told what is done, how much, and how much in all; such as `report.progress_bar` has it.

    Returns:
        What was tested, and the figures: `accuracy` with `accuracy_ci95`, or `loss` with `loss_ci95`.

    Raises:
        ValueError: If learner and data do not fit, or the learner has no such setting.
    """
    regression = values["data"] == SINUSOIDS
    tested = _with_settings(learner, values)
    tested.compile(loss="mse" if regression else None)
    source = SINUSOIDS if regression else _read(tested, values, split, data_dir)
    tasks = evaluation_tasks(source, values, episodes, seed, split)
    ways = "" if regression else f"{values['ways']}-way "
    done = tested.evaluate(
        tasks, return_dict=True, verbose=0, callbacks=[_Progress(progress, int(tasks.cardinality()))]
    )
    return {
        "task": f"{values['data']} {split}, {ways}{values['shots']}-shot",
        "batch_statistics": _statistics(tested),
        "classes": None if isinstance(source, str) else len(source.names),
        "episodes": episodes,
        "seed": seed,
        "figures": {name: float(value) for name, value in done.items()},
    }


def _read(learner: FewShotLearner, values: Mapping[str, Any], split: str, data_dir: str | None) -> ClassTable:
    if not is_folder(values["data"], data_dir):
        return read({**values, "invert": False}, split, data_dir)
    shape = learner.served().query_shape
    if len(shape) != 3:
        return read(values, split, data_dir)
    invert, size = values.get("invert"), values["image_size"]
    settings = {"invert": learner.ink if invert is None else invert, "image_size": size or shape[:2]}
    table = read({**values, **settings}, split, data_dir)
    grey, colour = table.examples.shape[-1] == 1, shape[-1] == 3
    if grey == (shape[-1] == 1):
        return table
    examples = np.repeat(table.examples, 3, axis=-1) if grey and colour else _in_grey(table.examples)
    return dataclasses.replace(table, examples=examples)


def _in_grey(images: np.ndarray) -> np.ndarray:
    """Luminance, by the weights of ITU-R 601 as Pillow has them."""
    return np.round(images @ np.array([0.299, 0.587, 0.114]))[..., None].astype(images.dtype)


class _Progress(keras.callbacks.Callback):
    def __init__(self, progress: Callable[[str, int, int], None], batches: int):
        super().__init__()
        self._progress, self._batches = progress, batches

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._progress("Tasks", batch + 1, self._batches)


def _with_settings(learner: FewShotLearner, values: Mapping[str, Any]) -> FewShotLearner:
    wanted = {
        name: values[name]
        for name in ("transductive", "evaluation_steps")
        if values.get(name) is not None and values[name] != getattr(learner, name, None)
    }
    if wanted and not isinstance(learner, GradientBasedLearner):
        raise ValueError(
            f"`{next(iter(wanted))}` must be left out for a {type(learner).__name__}, which has no inner loop. "
            f"Received: {wanted}.\nMAML, ANIL, Meta-SGD, Reptile and the Meta-LSTM have it."
        )
    return learner.with_settings(**wanted) if wanted else learner


def _statistics(learner: FewShotLearner) -> str:
    """Of what batch normalisation takes its statistics in evaluation."""
    if not isinstance(learner, GradientBasedLearner) or learner.statistics_per_step:
        return "averages over training (not transductive)"
    if learner.transductive:
        return "statistics of the query set (transductive)"
    return "statistics of the support set (not transductive)"
