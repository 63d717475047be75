"""Pictures of training and of episodes, as matplotlib figures that need no display and touch no global state."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import scipy.stats
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

#: Okabe and Ito's colours, which colour-blind people can tell apart: the two strongest for what is to be seen first.
EMPHASISED_COLOURS = ("#D55E00", "#000000")
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
#: Line styles tell lines apart in black and white too.
STYLES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1.2)), (0, (9, 2)), "-")
INK = "#333333"
#: Right and wrong predictions, in colours that colour-blind people can tell apart.
RIGHT, WRONG = "#009E73", "#D55E00"
#: At most so many query images of a class are drawn.
MAX_QUERIES = 15


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
    figure = Figure(figsize=(9.6, 5.6), dpi=150, layout="constrained", facecolor="white")
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
    axes.set_title(f"{title}\n", loc="left", fontsize=15, fontweight="bold", color="#111111")
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


def plot_episode(episode: Any, query_y: Any = None, predictions: Any = None, task: int = 0) -> Figure:
    """Draws one task: support images by class on the left, query images on the right.

    Args:
        episode: An `Episode`, with the leading axis of tasks.
        query_y: `[tasks, queries]` labels, by which query images are sorted; in the episode's order when None. In a
            regression `[tasks, queries, 1]`.
        predictions: `[tasks, queries]` labels or `[tasks, queries, ways]` scores: each query image gets a frame that
            tells right from wrong, and wrong ones the label. In a regression `[tasks, queries, 1]`.
        task: Which.

    Returns:
        A `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no such task, or the episode holds neither images nor points on a curve.

    >>> x = np.zeros([1, 5, 8, 8, 1])
    >>> figure = plot_episode((x, np.arange(5)[None], x), query_y=np.arange(5)[None])
    >>> len(figure.axes)
    1
    """
    tasks = len(episode[0])
    if not 0 <= task < tasks:
        raise ValueError(f"`task` must be from 0 to {tasks - 1}. Received: task={task!r}.\nTry 0.")
    support_x, support_y, query_x = (np.asarray(part)[task] for part in episode)
    query_y, predictions = (None if part is None else np.asarray(part)[task] for part in (query_y, predictions))
    figure = Figure(dpi=150, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    if query_x.ndim == 2 and query_x.shape[1] == 1:
        _draw_regression(axes, support_x, support_y, query_x, query_y, predictions)
        return figure
    if query_x.ndim != 4:
        raise ValueError(
            "`episode` must hold images [tasks, examples, height, width, channels], or points [tasks, points, 1]. "
            f"Received: query_x of shape {np.shape(episode[2])}.\nShow features by their values instead."
        )
    for argument, values in (("query_y", query_y), ("predictions", predictions)):
        if values is not None and (values.ndim not in (1, 2) or len(values) != len(query_x)):
            raise ValueError(
                f"`{argument}` must have an entry for each of the {len(query_x)} queries of a task. Received: "
                f"{len(values) if values.ndim else 1} entries for task {task}.\nPass them as [tasks, queries]."
            )
    if predictions is not None and predictions.ndim == 2:
        predictions = predictions.argmax(axis=-1)
    ways = int(support_y.max()) + 1
    rows = [np.flatnonzero(support_y == label) for label in range(ways)]
    if query_y is None:
        width = -(-len(query_x) // ways)
        queries = [np.arange(low, min(low + width, len(query_x))) for low in range(0, len(query_x), width)]
    else:
        queries = [np.flatnonzero(query_y == label)[:MAX_QUERIES] for label in range(ways)]
    shots = max(map(len, rows)) if support_x.ndim == 4 else 2
    columns = shots + 0.6 + max(map(len, queries))
    figure.set_size_inches(max(3.5, 0.62 * columns + 0.8), 0.62 * ways + 0.9)
    for label, chosen in enumerate(rows):
        if support_x.ndim == 4:
            for column, number in enumerate(chosen):
                _draw_image(axes, support_x[number], column, label, INK)
        else:
            _draw_features(axes, support_x[label], shots, label)
    for label, chosen in enumerate(queries):
        for column, number in enumerate(chosen):
            right = None if predictions is None or query_y is None else predictions[number] == query_y[number]
            colour = "#BBBBBB" if right is None else RIGHT if right else WRONG
            _draw_image(axes, query_x[number], shots + 0.6 + column, label, colour)
            if predictions is not None and not right:
                # Beside colour, a figure says what was taken for what.
                said = str(predictions[number])
                look = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
                axes.text(
                    shots + 0.7 + column, label + 0.12, said, color=colour, fontsize=8, ha="left", va="top", bbox=look
                )
    axes.set(xlim=(-0.05, columns), ylim=(ways, -0.05), aspect="equal")
    axes.set_yticks(np.arange(ways) + 0.45, [str(label) for label in range(ways)])
    places = [shots / 2, shots + 0.6 + max(map(len, queries)) / 2]
    title = "Query set"
    if predictions is not None and query_y is not None:
        title += f": {np.mean(predictions == query_y):.0%} right"
    axes.set_xticks(places, ["Support set" if support_x.ndim == 4 else "Metadata", title])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK, labelsize=10)
    axes.spines[:].set_visible(False)
    return figure


def _draw_image(axes: Axes, image: np.ndarray, x: float, y: float, colour: str) -> None:
    image = np.clip(image, 0, 1) if image.dtype != np.uint8 else image / 255
    # Ink is 1, so that grey images are drawn as on paper.
    grey = image.shape[-1] == 1
    axes.imshow(
        image[..., 0] if grey else image, cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 0.9, y + 0.9, y), zorder=1
    )
    frame = Rectangle((x, y), 0.9, 0.9, fill=False, edgecolor=colour, linewidth=1.4, zorder=2)
    axes.add_patch(frame)


def _draw_features(axes: Axes, features: np.ndarray, width: float, row: int) -> None:
    scale = np.abs(features).max() or 1
    strip = features[None] / scale
    axes.imshow(strip, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, width - 0.1, row + 0.7, row + 0.2), aspect="auto")


def _draw_regression(
    axes: Axes,
    support_x: np.ndarray,
    support_y: np.ndarray,
    query_x: np.ndarray,
    query_y: np.ndarray | None,
    predictions: np.ndarray | None,
) -> None:
    order = np.argsort(query_x[:, 0])
    if query_y is not None:
        # A line between few points would run where the curve does not.
        line = {"linewidth": 1} if len(query_x) >= 40 else {"linestyle": "none"}
        axes.plot(query_x[order, 0], query_y[order, 0], color=INK, label="Query points", marker=".", **line)
    if predictions is not None:
        points = np.reshape(predictions, [len(query_x), -1])[order, 0]
        axes.plot(query_x[order, 0], points, color=WRONG, label="Predictions", linestyle=(0, (5, 1.5)), linewidth=2)
    axes.scatter(support_x[:, 0], support_y[:, 0], color=COLOURS[0], label="Support points", zorder=3)
    axes.set(xlabel="x", ylabel="y")
    axes.legend(frameon=False, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)


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
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained", facecolor="white")
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
    axes.set_title(title, loc="left", fontweight="bold", color="#111111")
    axes.set(xlabel="x", ylabel="y")
    _legend_beside(axes)
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
    figure = Figure(figsize=(9.2, 3.8), dpi=150, layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", color="#111111")
    names = ("Forget gate (1: keep)", "Input gate (learning rate)")
    for axes, name, values, colour in zip(figure.subplots(1, 2), names, gates, COLOURS, strict=False):
        low, lower, median, upper, high = np.quantile(np.asarray(values), [0.01, 0.25, 0.5, 0.75, 0.99], axis=1)
        steps = np.arange(1, len(median) + 1)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0, label="98 % of coordinates")
        axes.fill_between(steps, lower, upper, color=colour, alpha=0.35, linewidth=0, label="half of them")
        axes.plot(steps, median, color=colour, marker="o", markersize=4, label="median")
        axes.set(xlabel="Inner step", ylabel=name)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.legend(frameon=False, labelcolor=INK)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _legend_beside(axes: Axes) -> None:
    axes.legend(frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
