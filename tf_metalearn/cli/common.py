"""What the verbs share."""

import contextlib
import os
from pathlib import Path
from typing import Any

import click


def start_tensorflow(many_small_operations: bool = True) -> None:
    """Gives TensorFlow the threads that suit what it is to do, and less to say.

    Args:
        many_small_operations: Whether each runs on one thread; see `set_cpu_threads`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not many_small_operations:
        return
    from tf_metalearn.threads import set_cpu_threads

    # Only speed depends on it: inside a process where TensorFlow already runs, its threads stay as they are.
    with contextlib.suppress(RuntimeError):
        set_cpu_threads()


def complete_files(word: str) -> list[Any]:
    """Tells the shell to complete paths."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(word, type="file")]


def show_comparison(comparison: Any, folder: Path) -> None:
    """Prints a comparison of optimizers, and writes its report.

    Args:
        comparison: A `Comparison`.
        folder: Where the report goes.
    """
    from tf_metalearn.optimizers import report

    report.print_table(comparison)
    written = report.report(comparison, folder)
    click.echo(f"\nCurves      {written.picture}\nFigures     {written.json}")
    click.echo(f"TensorBoard tensorboard --logdir {written.tensorboard}")
