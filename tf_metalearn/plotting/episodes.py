"""Episodes: support and query sets."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tf_metalearn.plotting.style import COLOURS, INK, RIGHT, WRONG, trim

#: At most so many query images of a class are drawn.
MAX_QUERIES = 15


def plot_episode(episode: Any, query_y: Any = None, predictions: Any = None, task: int = 0) -> Figure:
    """Draws one task: support images by class on the left, query images on the right.

    Args:
        episode: An `Episode`, with the leading axis of tasks.
        query_y: `[tasks, queries]` labels, by which query images are sorted; in the episode's order when None. In a
            regression `[tasks, queries, 1]`.
        predictions: `[tasks, queries]` labels or `[tasks, queries, ways]` scores: each query image gets a frame that
            tells right from wrong, and below wrong ones stands the label. In a regression `[tasks, queries, 1]`.
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
    # Ink on an empty ground is drawn as on paper.
    ink = bool(np.mean(query_x == 0) > 0.5)
    ways = int(support_y.max()) + 1
    rows = [np.flatnonzero(support_y == label) for label in range(ways)]
    if query_y is None:
        width = -(-len(query_x) // ways)
        queries = [np.arange(low, min(low + width, len(query_x))) for low in range(0, len(query_x), width)]
    else:
        queries = [np.flatnonzero(query_y == label)[:MAX_QUERIES] for label in range(ways)]
    shots = max(map(len, rows)) if support_x.ndim == 4 else 2
    columns = shots + 0.6 + max(map(len, queries))
    # Labels have a line of their own, where they hide nothing.
    pitch = 1.0 if predictions is None else 1.25
    figure.set_size_inches(max(3.5, 0.62 * columns + 0.8), 0.62 * pitch * ways + 0.9)
    for label, chosen in enumerate(rows):
        if support_x.ndim == 4:
            for column, number in enumerate(chosen):
                draw_image(axes, support_x[number], column, pitch * label, INK, ink)
        else:
            _draw_features(axes, support_x[label], shots, pitch * label)
    for label, chosen in enumerate(queries):
        for column, number in enumerate(chosen):
            right = None if predictions is None or query_y is None else predictions[number] == query_y[number]
            colour = "#BBBBBB" if right is None else RIGHT if right else WRONG
            x, y = shots + 0.6 + column, pitch * label
            draw_image(axes, query_x[number], x, y, colour, ink)
            if predictions is not None and not right:
                # Beside colour, a figure says what was taken for what.
                ink_of_text = INK if right is None else colour
                said = str(predictions[number])
                axes.text(x + 0.45, y + 0.94, said, color=ink_of_text, fontsize=8, ha="center", va="top")
    axes.set(xlim=(-0.05, columns), ylim=(pitch * ways - 0.05, -0.05), aspect="equal")
    axes.set_yticks(pitch * np.arange(ways) + 0.45, [str(label) for label in range(ways)])
    places = [shots / 2, shots + 0.6 + max(map(len, queries)) / 2]
    title = "Query set"
    if predictions is not None and query_y is not None:
        title += f": {np.mean(predictions == query_y):.0%} right"
    axes.set_xticks(places, ["Support set" if support_x.ndim == 4 else "Metadata", title])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK, labelsize=10)
    axes.spines[:].set_visible(False)
    trim(figure)
    return figure


def draw_image(axes: Axes, image: np.ndarray, x: float, y: float, colour: str, ink: bool = True) -> None:
    """Draws an image of 0.9 by 0.9 with a frame.

    Args:
        axes: Where.
        image: `[height, width, channels]`.
        x: Of its left side.
        y: Of its upper side.
        colour: Of the frame.
        ink: Whether 1 is dark in grey images, which are then drawn as on paper.
    """
    image = np.clip(image, 0, 1) if image.dtype != np.uint8 else image / 255
    shown, colours = (image[..., 0] if image.shape[-1] == 1 else image), "gray_r" if ink else "gray"
    axes.imshow(shown, cmap=colours, vmin=0, vmax=1, extent=(x, x + 0.9, y + 0.9, y), zorder=1)
    frame = Rectangle((x, y), 0.9, 0.9, fill=False, edgecolor=colour, linewidth=1.4, zorder=2)
    axes.add_patch(frame)


def _draw_features(axes: Axes, features: np.ndarray, width: float, y: float) -> None:
    scale = np.abs(features).max() or 1
    strip = features[None] / scale
    axes.imshow(strip, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, width - 0.1, y + 0.7, y + 0.2), aspect="auto")


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
