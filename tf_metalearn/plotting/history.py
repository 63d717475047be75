"""What `fit` reported, epoch by epoch."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tf_metalearn.plotting.style import COLOURS, EMPHASISED_COLOURS, INK, TITLE, legend_beside, new_figure, quiet


def plot_history(
    history: Mapping[str, Sequence[float]], title: str = "Training", ways: Mapping[str, int] | None = None
) -> Figure:
    """Draws loss and accuracy by epoch, in training and in validation.

    Args:
        history: Values by name, as the `history` of what `fit` returned has them, those of validation included.
        title: One line above the picture.
        ways: Classes in a task of "training" and of "validation", with which the accuracy of guessing is drawn, too.

    Returns:
        A `matplotlib.figure.Figure` with a panel for the loss, and one for the accuracy, in per cent, if there is any.

    Raises:
        ValueError: If there is no loss.

    >>> figure = plot_history({"loss": [1.0, 0.5], "val_loss": [1.1, 0.7]})
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['training', 'validation']
    """
    if "loss" not in history:
        raise ValueError(
            f"`history` must have 'loss'. Received: {sorted(history)}.\nPass the `history` of what `fit` returned."
        )
    ways = ways or {}
    names = [name for name in ("loss", "accuracy") if name in history]
    figure = new_figure(5.2 * len(names) + 1, 4)
    figure.suptitle(title, x=0.02, ha="left", fontweight="bold", color=TITLE)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label, colour in (
            (name, "training", COLOURS[0]),
            (f"val_{name}", "validation", EMPHASISED_COLOURS[0]),
            # What is known of a task before its support set was seen.
            (f"val_{name}_before", "before adaptation", COLOURS[2]),
        ):
            if key not in history:
                continue
            named = f"{label}, {ways[label]}-way" if label in ways else label
            axes.plot(range(1, len(history[key]) + 1), history[key], "o-", ms=3, color=colour, label=named)
            if name == "accuracy" and label in ways:
                axes.axhline(1 / ways[label], color=colour, ls=":", lw=1, label=f"guessing, {ways[label]}-way")
        axes.set_xlabel("Epoch", color=INK)
        axes.set_ylabel(name.capitalize(), color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "accuracy":
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
        quiet(axes)
    legend_beside(axes)
    return figure
