"""What an inner loop does: adapted curves, and the gates of a Meta-LSTM."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from tf_metalearn.plotting.style import COLOURS, INK, STYLES, TITLE, WRONG, legend_beside, new_figure, quiet


def plot_adapted_curves(
    support: tuple[Any, Any], x: Any, truth: Any, predictions: Mapping[str, Any], title: str = "Adapted curves"
) -> Figure:
    """Draws a regression task: the true curve, the support points, and predictions, as after some numbers of steps.

    Args:
        support: `(support_x, support_y)`, each `[support, 1]`.
        x: `[points]`, in order.
        truth: `[points]`.
        predictions: `[points]` by name; their order decides colours.
        title: One line above the picture.

    Returns:
        A `matplotlib.figure.Figure`.

    >>> line = np.linspace(0, 1, 5)
    >>> len(plot_adapted_curves(([[0.5]], [[0.5]]), line, line, {"0 steps": 0 * line}).axes[0].lines)
    2
    """
    figure = new_figure(7.2, 4.4)
    axes = figure.add_subplot()
    axes.plot(np.ravel(x), np.ravel(truth), color=INK, linewidth=2.4, label="True function")
    for index, (name, values) in enumerate(predictions.items()):
        look = {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)], "linewidth": 2}
        axes.plot(np.ravel(x), np.ravel(values), label=name, **look)
    axes.scatter(
        np.ravel(support[0]),
        np.ravel(support[1]),
        color=WRONG,
        zorder=3,
        s=42,
        label=f"{len(support[0])} support points",
    )
    axes.set_title(title, loc="left", fontweight="bold", color=TITLE)
    axes.set(xlabel="x", ylabel="y")
    legend_beside(axes)
    quiet(axes)
    return figure


def plot_gates(gates: Any, title: str = "Gates of the Meta-LSTM") -> Figure:
    """Draws what a Meta-LSTM's gates did at each inner step, over all coordinates.

    Args:
        gates: `(forget, input)`, each `[steps, coordinates]`: what `MetaLSTM.gates` returns.
        title: One line above the picture.

    Returns:
        A `matplotlib.figure.Figure`: median, middle half and middle 98 % of the coordinates.

    >>> gates = np.random.default_rng(0).random([2, 5, 100])
    >>> [axes.get_ylabel() for axes in plot_gates(gates).axes]
    ['Forget gate (1: keep)', 'Input gate (learning rate)']
    """
    figure = new_figure(9.2, 3.8)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", color=TITLE)
    names = ("Forget gate (1: keep)", "Input gate (learning rate)")
    for axes, name, values, colour in zip(figure.subplots(1, 2), names, gates, COLOURS, strict=False):
        low, lower, median, upper, high = np.quantile(np.asarray(values), [0.01, 0.25, 0.5, 0.75, 0.99], axis=1)
        steps = np.arange(1, len(median) + 1)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0, label="98 % of coordinates")
        axes.fill_between(steps, lower, upper, color=colour, alpha=0.35, linewidth=0, label="half of them")
        axes.plot(steps, median, color=colour, marker="o", markersize=4, label="median")
        axes.set(xlabel="Inner step", ylabel=name)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        # A gate that hardly moves looks as if it hardly moved.
        middle, half = np.mean(axes.get_ylim()), max(np.ptp(axes.get_ylim()), 0.02) / 2
        axes.set_ylim(middle - half, middle + half)
        axes.legend(frameon=False, labelcolor=INK)
        quiet(axes)
    return figure
