"""What a classifier makes of pictures whose class nobody knows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tf_metalearn.plotting.episodes import draw_image
from tf_metalearn.plotting.style import INK, new_figure, trim

#: More pictures of one class are left out, and counted.
MOST = 12


def plot_answers(
    support_x: Any,
    support_y: Sequence[Any],
    query_x: Any,
    probabilities: Any,
    classes: Sequence[Any],
    ink: bool = True,
    said: Sequence[Any] | None = None,
) -> Figure:
    """Draws a row for each class: examples of it on the left, what was taken for it on the right, the surest first.

    Args:
        support_x: `[support, height, width, channels]`.
        support_y: `[support]` labels.
        query_x: `[queries, height, width, channels]`.
        probabilities: `[queries, classes]`.
        classes: The labels, in the order of the probabilities.
        ink: Whether 1 is dark in grey images.
        said: `[queries]` labels, as `classifier.classify` says them, with None for "none of these", which has a row of
            its own then; the likeliest class of each when None.

    Returns:
        A `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If shapes do not match.

    >>> images = np.zeros([3, 8, 8, 1])
    >>> figure = plot_answers(images[:2], ["cat", "dog"], images, [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['90%', '60%', '80%']
    """
    probabilities = np.asarray(probabilities)
    if probabilities.shape != (len(query_x), len(classes)):
        raise ValueError(
            f"`probabilities` must be [queries, classes], {[len(query_x), len(classes)]}. Received: shape "
            f"{probabilities.shape}.\nPass what `classifier.predict(query_x)` returned."
        )
    sure = probabilities.max(axis=1)
    said = [classes[number] for number in probabilities.argmax(axis=1)] if said is None else said
    rows = [*classes, *([None] if None in said else [])]
    examples = [[place for place, label in enumerate(support_y) if label == name][:MOST] for name in rows]
    answers = [
        sorted((place for place, label in enumerate(said) if label == name), key=lambda place: -sure[place])
        for name in rows
    ]
    left, right = (max(1, *(min(len(row), MOST) for row in places), 1) for places in (examples, answers))
    columns = left + 0.6 + right
    figure = new_figure(max(4.0, 0.7 * columns + 1.6), 0.85 * len(rows) + 0.9)
    axes = figure.add_subplot()
    for row, (known, found) in enumerate(zip(examples, answers, strict=True)):
        for column, example in enumerate(known):
            draw_image(axes, np.asarray(support_x[example]), column, 1.2 * row, INK, ink)
        for column, place in enumerate(found[:MOST]):
            x = left + 0.6 + column
            draw_image(axes, np.asarray(query_x[place]), x, 1.2 * row, "#BBBBBB", ink)
            if rows[row] is not None:
                axes.text(
                    x + 0.45, 1.2 * row + 0.92, f"{sure[place]:.0%}", fontsize=8, color=INK, ha="center", va="top"
                )
        if len(found) > MOST:
            axes.text(left + 0.6 + MOST, 1.2 * row + 0.45, f" and {len(found) - MOST} more", fontsize=8, color=INK)
    axes.set(xlim=(-0.05, columns), ylim=(1.2 * len(rows) - 0.05, -0.05), aspect="equal")
    named = ["none of these" if name is None else str(name) for name in rows]
    axes.set_yticks(1.2 * np.arange(len(rows)) + 0.45, named)
    axes.set_xticks([left / 2, left + 0.6 + right / 2], ["Examples", "Taken for it"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK, labelsize=10)
    axes.spines[:].set_visible(False)
    trim(figure)
    return figure
