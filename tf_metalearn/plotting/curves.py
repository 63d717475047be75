"""Learning curves."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import scipy.stats
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tf_metalearn.plotting.style import COLOURS, EMPHASISED_COLOURS, INK, STYLES, TITLE, new_figure


def learning_curves(
    curves: Mapping[str, np.ndarray],
    emphasised: Collection[str] = (),
    first_step: int = 1,
    title: str = "Learning curves",
    subtitle: str | None = None,
    loss_name: str = "Loss",
) -> Figure:
    """Draws loss against step on a logarithmic scale: the mean over runs with its 95 % interval as a band.

    Args:
        curves: `[runs, points]` losses by name; their order decides colours. Runs with losses that are not finite are
            left out of mean and band, and the legend tells how many.
        emphasised: Names that are drawn in strong solid lines over the others.
        first_step: The step of the first point.
        title: One line above the picture.
        subtitle: Another, smaller; what is shown when None.
        loss_name: With its unit, if it has one.

    Returns:
        A `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there are no curves, or one is not a matrix.

    >>> figure = learning_curves({"Adam": np.array([[4.0, 2.0, 1.0], [3.0, 2.0, 1.0]])})
    >>> figure.axes[0].get_yscale()
    'log'
    """
    if not curves or any(np.ndim(values) != 2 or np.size(values) == 0 for values in curves.values()):
        raise ValueError(
            "`curves` must map names to losses [runs, points]. "
            f"Received: shapes { {name: np.shape(values) for name, values in curves.items()} }.\n"
            "Give one curve the shape [1, points]."
        )
    figure = new_figure(9.6, 5.6)
    axes = figure.add_subplot()
    lines = {}
    for index, name in enumerate(name for name in curves if name not in emphasised):
        look = {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)], "linewidth": 1.8}
        lines[name] = _draw(axes, name, curves[name], first_step, zorder=2, **look)
    for index, name in enumerate(name for name in curves if name in emphasised):
        colour = EMPHASISED_COLOURS[index % len(EMPHASISED_COLOURS)]
        lines[name] = _draw(axes, name, curves[name], first_step, zorder=3, color=colour, linewidth=3.2)
    runs = max(len(values) for values in curves.values())
    _label(axes, title, subtitle or f"Mean of {runs} runs; bands: 95 % interval of the mean", loss_name)
    axes.legend(
        # The order in which the lines end, so that the eye need not search.
        handles=sorted(lines.values(), key=_end, reverse=True),
        loc="best",
        framealpha=0.92,
        edgecolor="none",
        handlelength=3.4,
        labelcolor=INK,
        fontsize=11,
    )
    return figure


def _draw(axes: Axes, name: str, values: np.ndarray, first_step: int, zorder: int, **look: Any) -> Line2D:
    finite = values[np.isfinite(values).all(axis=1)]
    lost = len(values) - len(finite)
    label = name if not lost else f"{name}\n({lost} of {len(values)} runs diverged)"
    if not len(finite):
        return axes.plot([], [], label=label, **look)[0]
    steps, mean = np.arange(first_step, first_step + values.shape[1]), finite.mean(axis=0)
    if len(finite) > 1:
        half = scipy.stats.t.ppf(0.975, len(finite) - 1) * finite.std(axis=0, ddof=1) / math.sqrt(len(finite))
        # A logarithmic axis has no room for an interval that reaches below zero.
        low = np.maximum(mean - half, mean / 10)
        axes.fill_between(steps, low, mean + half, color=look["color"], alpha=0.16, linewidth=0, zorder=zorder - 1)
    return axes.plot(steps, mean, label=label, zorder=zorder, solid_capstyle="round", **look)[0]


def _end(line: Line2D) -> float:
    heights = np.asarray(line.get_ydata())
    return float(heights[-1]) if len(heights) else math.inf


def _label(axes: Axes, title: str, subtitle: str, loss_name: str) -> None:
    axes.set_yscale("log")
    axes.set_xlabel("Steps (updates)", color=INK, fontsize=11, labelpad=6)
    axes.set_ylabel(f"{loss_name} (log scale)", color=INK, fontsize=11, labelpad=6)
    axes.set_title(f"{title}\n", loc="left", fontsize=15, fontweight="bold", color=TITLE)
    axes.text(0, 1.025, subtitle, transform=axes.transAxes, fontsize=10.5, color="#666666")
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(which="both", color="#999999", labelcolor=INK, labelsize=11)
    axes.grid(axis="y", which="major", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    low, high = axes.get_ylim()
    if high / low < 3e3:
        # Powers of ten alone would leave a short axis nearly bare.
        between = (1.0, 2.0, 3.0, 5.0, 7.0) if high / low < 30 else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=between))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    if low > 1e-4 and high < 1e5:
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
