"""Paths of optimizers on functions of two dimensions."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tf_metalearn.plotting.style import COLOURS, EMPHASISED_COLOURS, TITLE, legend_beside, new_figure, quiet


def plot_trajectories(
    height: Callable[[np.ndarray], Any], paths: Mapping[str, Any], title: str = "Paths of optimizers"
) -> Figure:
    """Draws where optimizers go on a function of two dimensions.

    Args:
        height: Of points `[..., 2]`, the function's values `[...]`.
        paths: `[steps + 1, 2]` by the optimizer's name, the start first.
        title: One line above the picture.

    Returns:
        A `matplotlib.figure.Figure`: contours a constant factor apart, a dot at each step.

    >>> figure = plot_trajectories(lambda points: (points**2).sum(axis=-1), {"descent": [[2, 1], [1, 0.5]]})
    >>> figure.axes[0].get_lines()[0].get_label()
    'descent'
    """
    points = np.concatenate([np.asarray(path, float) for path in paths.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.25 * np.maximum(high - low, 1e-3).max()
    grid = np.stack(
        np.meshgrid(*(np.linspace(a - margin, b + margin, 120) for a, b in zip(low, high, strict=True))), -1
    )
    figure = new_figure(6.6, 4.6)
    axes = figure.add_subplot()
    values = np.log10(np.maximum(np.asarray(height(grid)), 1e-6))
    axes.contour(grid[..., 0], grid[..., 1], values, levels=12, colors="#BBBBBB", linewidths=0.8)
    for (name, path), colour in zip(paths.items(), (*EMPHASISED_COLOURS[:1], *COLOURS), strict=False):
        steps = np.asarray(path, float)
        axes.plot(steps[:, 0], steps[:, 1], color=colour, marker="o", markersize=3, linewidth=1.4, label=name)
        axes.scatter(steps[0, 0], steps[0, 1], color=colour, marker="s", s=36, zorder=3)
    axes.set_title(f"{title}: from the square on, a dot at each step", loc="left", color=TITLE, fontsize=11)
    axes.set(xlabel="First parameter", ylabel="Second parameter")
    legend_beside(axes)
    quiet(axes)
    return figure
