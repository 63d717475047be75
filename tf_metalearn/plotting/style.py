"""What all pictures share: colours that colour-blind people can tell apart, and quiet axes."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Okabe and Ito's colours: the two strongest for what is to be seen first.
EMPHASISED_COLOURS = ("#D55E00", "#000000")
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
#: Line styles tell lines apart in black and white too.
STYLES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1.2)), (0, (9, 2)), "-")
INK = "#333333"
TITLE = "#111111"
#: Right and wrong predictions.
RIGHT, WRONG = "#009E73", "#D55E00"


def new_figure(width: float, height: float) -> Figure:
    """Returns a figure that needs no display and touches no global state.

    Args:
        width: In inches.
        height: In inches.
    """
    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def trim(figure: Figure) -> None:
    """Takes away the empty bands that axes of a fixed aspect leave in a figure, but for a narrow margin.

    Args:
        figure: Which, with everything drawn in it.
    """
    figure.draw_without_rendering()
    drawn, margin = figure.get_tightbbox(), 0.08
    figure.set_size_inches(drawn.width + margin, drawn.height + margin)


def as_pixels(figure: Figure) -> np.ndarray:
    """A figure as `[height, width, 3]` uint8, for TensorBoard.

    Args:
        figure: Which.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def quiet(axes: Axes) -> None:
    """Takes away what frames a picture without saying anything.

    Args:
        axes: Which.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelcolor=INK)


def legend_beside(axes: Axes) -> None:
    """Puts the legend to the right of the axes, where it hides nothing.

    Args:
        axes: Whose.
    """
    axes.legend(frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5))
