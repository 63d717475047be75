"""What people see of a comparison: a table, a picture, TensorBoard, and a JSON for programs."""

import contextlib
import io
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rich.box
import rich.console
import rich.markup
import rich.progress
import rich.table
import tensorflow as tf

from tf_metalearn.optimizers.comparison import Comparison, Row
from tf_metalearn.plotting import learning_curves
from tf_metalearn.plotting.charts import write_charts

_SUFFIX = ".comparison"
#: The run in TensorBoard that has all optimizers on one chart.
TOGETHER = "together"


class Report(NamedTuple):
    """Where `report` wrote.

    Args:
        picture: The learning curves, a PNG.
        json: Configuration, seeds, versions and figures.
        tensorboard: The directory for `tensorboard --logdir`.
    """

    picture: Path
    json: Path
    tensorboard: Path


def report(comparison: Comparison, directory: str | Path) -> Report:
    """Writes a picture, a JSON and one TensorBoard run for each optimizer.

    Files of a report that is already there are replaced whole: no reader meets half a file.

    Args:
        comparison: What `compare` returned.
        directory: Made if it is not there.

    Returns:
        A `Report`.

    >>> from tf_metalearn.optimizers.comparison import compare
    >>> from tf_metalearn.problems.quadratic import Quadratic
    >>> from tf_metalearn.rules import Adam, GradientDescent
    >>> problem = Quadratic(functions=1, dimensions=2)
    >>> comparison = compare({"Adam": Adam()}, problem, 3, runs=2, baselines={"SGD": GradientDescent()}, tuning_runs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in report(comparison, folder)]
    ['curves.png', 'comparison.json', 'tensorboard']
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    written = Report(directory / "curves.png", directory / "comparison.json", directory / "tensorboard")
    picture = draw(comparison)
    _write(written.picture, picture)
    _write(written.json, comparison.to_json().encode())
    _write_events(comparison, picture, written.tensorboard)
    return written


def draw(comparison: Comparison) -> bytes:
    """Draws the learning curves from the loss before the first update on.

    Args:
        comparison: What `compare` returned.

    Returns:
        A PNG.
    """
    configuration = comparison.configuration
    rows = {row.name: row for row in comparison.table()}
    # In the order of the comparison: an optimizer has the same colour in every picture.
    curves = {_legend(rows[name]): _from_the_start(comparison, name) for name in comparison.curves}
    figure = learning_curves(
        curves,
        emphasised=[_legend(row) for row in rows.values() if row.learned],
        first_step=0,
        title=f"Learned and tuned optimizers on {configuration['problem']['name']!r}",
        subtitle=f"Mean of {configuration['runs']} runs from the same initial weights with the same batches; "
        "bands: 95 % interval of the mean",
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def print_table(comparison: Comparison, console: rich.console.Console | None = None) -> None:
    """Prints the figures, the lowest mean loss first, and who wins.

    Args:
        comparison: What `compare` returned.
        console: Where to; the terminal when None.

    >>> curves = {"learned": np.array([[0.5, 0.1], [0.7, 0.1]]), "SGD": np.array([[0.8, 0.6], [0.8, 0.4]])}
    >>> about = {"problem": {"name": "example"}, "runs": 2, "steps": 2}
    >>> comparison = Comparison(curves, np.ones(2), {"SGD": 0.1}, {"SGD": {0.1: 0.65}}, about)
    >>> print_table(comparison, rich.console.Console(width=80))
    example: 2 paired runs of 2 steps
    Optimizer     Rate   Mean loss   Last step  Difference
    ...
    learned    learned ...
    SGD            0.1 ...
    learned beats the best tuned baseline in mean loss over the steps: learned 0.35, SGD 0.65.
    """
    console = console or rich.console.Console()
    configuration = comparison.configuration
    problem, runs = configuration["problem"]["name"], configuration["runs"]
    table = rich.table.Table(
        title=f"{problem}: {runs} paired runs of {configuration['steps']} steps",
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
        caption=f"±: 95 % interval. Difference: mean loss less {comparison.learned[0]}'s, pairwise.",
    )
    rows = comparison.table()
    # A long name folds before any figure is cut.
    table.add_column("Optimizer", overflow="fold")
    for heading in ("Rate", "Mean loss", "Last step", "Difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    means = _plus_minus([(row.mean_loss, row.mean_loss_ci95) for row in rows])
    finals = _plus_minus([(row.final_loss, row.final_loss_ci95) for row in rows])
    differences = _plus_minus([(row.difference, row.difference_ci95) for row in rows], sign="+")
    for row, *figures in zip(rows, means, finals, differences, strict=True):
        cells = (row.name, "learned" if row.rate is None else f"{row.rate:g}", *figures)
        table.add_row(*(rich.markup.escape(cell) for cell in cells), style="bold" if row.learned else None)
    console.print(table)
    for row in rows:
        if row.diverged:
            lost = f"{row.name} diverged in {row.diverged} of {runs} runs, which its figures leave out."
            console.print(lost, markup=False, highlight=False, soft_wrap=True)
    console.print(verdict(comparison), markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on the terminal's error stream: what `compare` takes as its `progress`.

    Yields:
        A function of a description, the work done and the work in all.
    """
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn())
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def verdict(comparison: Comparison, name: str | None = None) -> str:
    """One sentence on a rule against the best tuned baseline.

    Args:
        comparison: What `compare` returned.
        name: Of a given rule; the first when None.
    """
    name = name or comparison.learned[0]
    rows = {row.name: row for row in comparison.table()}
    mine, best = rows[name], rows[comparison.best_baseline]
    if mine.diverged:
        return f"{name} does not count as better than {best.name}, the best tuned baseline: some of its runs diverged."
    pairs = f"{name} {mine.mean_loss:.4g}, {best.name} {best.mean_loss:.4g}"
    relation = "beats" if comparison.wins(name) else "does not beat"
    return f"{name} {relation} the best tuned baseline in mean loss over the steps: {pairs}."


def _legend(row: Row) -> str:
    return row.name if row.rate is None else f"{row.name}, best rate {row.rate:g}"


def _from_the_start(comparison: Comparison, name: str) -> np.ndarray:
    return np.concatenate([comparison.initial_losses[:, None], comparison.curves[name]], axis=1)


def _plus_minus(figures: list[tuple[Any, Any]], sign: str = "") -> list[str]:
    """A column of figures, all with the places that the narrowest interval warrants: 0.263 ± 0.012, 0.47 ± 0.03."""
    halves = [half for _, half in figures if half is not None and math.isfinite(half) and half > 0]
    places = min(8, max(0, math.ceil(-math.log10(min(halves) / 2)))) if halves else 4
    cells = []
    for value, half in figures:
        known = value is not None and math.isfinite(value)
        margin = f" ± {half:.{places}f}" if known and math.isfinite(half) else ""
        cells.append(f"{value:{sign}.{places}f}{margin}" if known else "" if value is None else "-")
    return cells


def _write(path: Path, content: bytes) -> None:
    """Writes under a temporary name, then renames."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)


def _write_events(comparison: Comparison, picture: bytes, directory: Path) -> None:
    # A second report into one run would draw its curves over the first's.
    for old in directory.glob(f"*/events.out.tfevents.*{_SUFFIX}"):
        old.unlink()
    # Besides a run for each optimizer, one with all of them, since a chart of CUSTOM SCALARS is of one run.
    together = tf.summary.create_file_writer(str(directory / TOGETHER), filename_suffix=_SUFFIX)
    with together.as_default():
        write_charts({"Learned and tuned optimizers": ["loss/.*"]})
    for name in comparison.curves:
        curves = _from_the_start(comparison, name)
        finite = curves[np.isfinite(curves).all(axis=1)]
        with together.as_default():
            for step, loss in enumerate(finite.mean(axis=0) if len(finite) else ()):
                tf.summary.scalar(f"loss/{name}", loss, step=step)
        writer = tf.summary.create_file_writer(str(directory / _file_name(name)), filename_suffix=_SUFFIX)
        with writer.as_default():
            for step, loss in enumerate(finite.mean(axis=0) if len(finite) else ()):
                tf.summary.scalar("loss", loss, step=step)
            if name == comparison.learned[0]:
                tf.summary.image("learning curves", tf.io.decode_png(picture)[None], step=0)
        writer.close()
    together.close()


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name) or "_"
