"""Learning rates for hand-made optimizers: the best of a grid, on the problem at hand."""

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_metalearn.estimators.truncated import advance, start
from tf_metalearn.problems.base import Problem
from tf_metalearn.rules.base import UpdateRule

#: Half-decades of learning rates: 1e-4, 3e-4, ... 10. Tuning goes beyond them while the best is at the border.
GRID = range(-8, 3)
_WIDEST_GRID = range(-24, 13)

#: How many trainings one call of the compiled function plays, between two reports of progress.
_BLOCK = 10

#: From seeds `[runs, 2]` to losses `[runs, steps + 1]`, before the first update and after each.
Player = Callable[[tf.Tensor], tf.Tensor]


def player(rule: UpdateRule, problem: Problem, steps: int) -> Player:
    """Makes whole trainings one compiled function of their seeds.

    A learning rate is a weight of its rule, so a whole grid of them is one trace.

    Args:
        rule: How parameters move.
        problem: What instances are drawn from.
        steps: Updates in a training.

    >>> from tf_metalearn.problems.quadratic import Quadratic
    >>> from tf_metalearn.rules import Adam
    >>> player(Adam(), Quadratic(functions=2), steps=5)(tf.constant([[0, 1], [0, 2], [0, 3]])).shape.as_list()
    [3, 6]
    """
    signature = tf.TensorSpec([steps + 1], problem.sample(tf.constant([0, 0])).parameters.dtype)

    def losses_of(seed):
        training = start(rule, problem, seed)
        result = advance(rule, problem, training, steps)
        final, _ = problem.loss(training.task, result.parameters, result.carry, result.step)
        return tf.concat([result.losses, final[None]], axis=0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32)])
    def play(seeds):
        return tf.map_fn(losses_of, seeds, fn_output_signature=signature, parallel_iterations=os.cpu_count() or 1)

    return play


def play_all(play: Player, seeds: np.ndarray, report: Callable[[int], None]) -> np.ndarray:
    """Plays trainings block by block.

    Args:
        play: What `player` returned.
        seeds: `[runs, 2]`.
        report: Called with 0 at the start and with the size of each block when it is done.

    Returns:
        `[runs, steps + 1]`, float64.
    """
    report(0)
    blocks = []
    for first in range(0, len(seeds), _BLOCK):
        blocks.append(play(tf.constant(seeds[first : first + _BLOCK])).numpy().astype("float64"))
        report(len(blocks[-1]))
    return np.concatenate(blocks)


def tune(
    rule: Any, play: Player, seeds: np.ndarray, report: Callable[[str, int], None] = lambda what, done: None
) -> tuple[float, dict[float, float]]:
    """Finds the learning rate with the lowest mean loss over the steps.

    Args:
        rule: Whose weight `learning_rate` is set; left at the best rate.
        play: What `player` made of it.
        seeds: `[runs, 2]`, the trainings that every rate is judged by.
        report: Called with what is being done and how many trainings more are done.

    Returns:
        The best rate, and the mean loss of each rate that was tried: infinite where a training diverged.

    Raises:
        ValueError: If trainings diverge with every rate.
    """
    results: dict[int, float] = {}

    def try_rate(index: int) -> None:
        rule.learning_rate.assign(rate_at(index))
        losses = play_all(play, seeds, functools.partial(report, f"tuning, rate {rate_at(index):g}"))[:, 1:]
        results[index] = float(losses.mean()) if np.isfinite(losses).all() else math.inf

    for index in GRID:
        try_rate(index)
    while True:
        # Of equals the lowest, so that a grid that diverges throughout grows downwards.
        best = min(sorted(results), key=lambda index: results[index])
        beyond = {min(results): best - 1, max(results): best + 1}.get(best)
        if beyond is None or beyond not in _WIDEST_GRID:
            break
        try_rate(beyond)
    if results[best] == math.inf:
        raise ValueError(
            "`problem` must have finite losses with some learning rate. "
            f"Received: a problem on which {type(rule).__name__} diverges with every rate from "
            f"{rate_at(min(results)):g} to {rate_at(max(results)):g}.\n"
            "Check that its loss is finite at the initial parameters."
        )
    rule.learning_rate.assign(rate_at(best))
    return rate_at(best), {rate_at(index): results[index] for index in sorted(results)}


def rate_at(index: int) -> float:
    """The learning rate at a place of the grid of half-decades.

    >>> [rate_at(index) for index in (-3, -2, -1, 0, 1, 2)]
    [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    """
    return float(f"{'13'[index % 2]}e{index // 2}")
