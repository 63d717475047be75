"""What the experiments draw of a trained learner."""

from collections.abc import Callable
from typing import Any

import numpy as np


def plot_gates_of(learner: Any, episodes: Callable[..., Any]) -> dict[str, Any]:
    """The gates of a Meta-LSTM on one test task.

    Args:
        learner: A trained `MetaLSTM`.
        episodes: Makes test episodes.
    """
    from tf_metalearn.plotting import plot_gates

    episode, _ = next(iter(episodes(batch_size=1)))
    return {"gates": plot_gates(learner.gates(episode.support_x[0], episode.support_y[0]))}


def plot_sine_waves(learner: Any, episodes: Callable[..., Any]) -> dict[str, Any]:
    """A sine wave and what the learner makes of it after no, one and ten steps.

    Args:
        learner: A trained learner of sine waves.
        episodes: Makes test episodes.
    """
    from tf_metalearn.plotting import plot_adapted_curves

    episode, query_y = next(iter(episodes(batch_size=1, queries=100)))
    order = np.argsort(episode.query_x[0, :, 0])
    x, truth = (np.asarray(part)[0, order, 0] for part in (episode.query_x, query_y))
    curves = {}
    for steps in (0, 1, 10):
        predicted = learner.with_settings(evaluation_steps=steps)(episode)
        curves[f"{steps} step{'s' * (steps != 1)}"] = np.asarray(predicted)[0, order, 0]
    support = episode.support_x[0].numpy(), episode.support_y[0].numpy()
    title = f"MAML, {len(support[0])} points, a sine wave that it has not seen"
    return {"curves": plot_adapted_curves(support, x, truth, curves, title)}
