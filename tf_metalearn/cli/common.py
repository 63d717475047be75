"""What the verbs share."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

#: What TensorFlow's C++ libraries log when they are loaded about the machine: information and warnings.
NEWS = re.compile(rb"[IW]\d{4} |WARNING: All log messages before absl::|To enable the following instructions")

#: Endings of what matplotlib can draw.
PICTURES = (".png", ".pdf", ".svg")


def start_tensorflow(many_small_operations: bool = True) -> None:
    """Imports TensorFlow without its news of the machine, and gives it the threads that suit what it is to do.

    What Python raises or warns of stays, and so does what C++ logs as it ends a process. Its other errors come as
    Python's, but for some that are none, such as that there is no GPU. TF_CPP_MIN_LOG_LEVEL=0 shows everything.

    Args:
        many_small_operations: Whether each runs on one thread; see `set_cpu_threads`.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0" and "tensorflow" not in sys.modules:
        with _without_news():
            import tensorflow  # noqa: F401
    if not many_small_operations:
        return
    from tf_metalearn.threads import set_cpu_threads

    # Only speed depends on it: inside a process where TensorFlow already runs, its threads stay as they are.
    with contextlib.suppress(RuntimeError):
        set_cpu_threads()


@contextlib.contextmanager
def _without_news() -> Iterator[None]:
    """Leaves out of what is written to stderr past Python whatever is news; that comes before logs have levels."""
    python, real = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as written, os.fdopen(os.dup(2), "w", buffering=1) as direct:
        # What Python writes goes on at once.
        sys.stderr = direct if python is sys.__stderr__ else python
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr = python
            os.dup2(real, 2)
            os.close(real)
            written.seek(0)
            os.write(2, b"".join(line for line in written if not NEWS.match(line)))


@contextlib.contextmanager
def in_words_of_the_command_line(**said: str) -> Iterator[None]:
    """Errors of functions as usage errors, which call their arguments what the command line calls them.

    Args:
        **said: What the command line says, by the arguments' names: `root="--support"`.
    """
    try:
        yield
    except ValueError as error:
        message = str(error)
        for argument, option in said.items():
            # Names that are no words of the language stand without quotes, too.
            bare = "_" in argument or argument == "unreadable"
            pattern = rf"`?(?<![-\w]){argument}\b`?" if bare else f"`{argument}`"
            # What was received, or a remedy, stands as `name=value`.
            message = re.sub(rf"\b{argument}='(\w+)'", rf"{option} \1", message)
            message = re.sub(rf"\b{argument}=", f"{option} ", message)
            message = re.sub(pattern, option, message)
        raise click.UsageError(message) from error


LEARNER, RULE = "few-shot learner", "learned optimizer"


def load_model(name: str, wanted: str) -> Any:
    """Loads what a verb works with.

    Args:
        name: A run's folder, the name of what ships, or a `.keras` file.
        wanted: `LEARNER` or `RULE`.
    """
    from tf_metalearn import pretrained
    from tf_metalearn.learners import FewShotLearner
    from tf_metalearn.rules import UpdateRule
    from tf_metalearn.runs.folder import model_file

    model = pretrained.load_any(model_file(name))
    kind, verb = f"{type(model).__name__}", f"export {name} served/{Path(name).stem}/1"
    if isinstance(model, FewShotLearner):
        kind, verb = LEARNER, f"evaluate {name}"
    elif isinstance(model, UpdateRule):
        kind, verb = RULE, f"compare {name}"
    if kind != wanted:
        raise click.UsageError(f"'{name}' must be a {wanted}. Received: a {kind}.\nTry `tf-metalearn {verb}`.")
    return model


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


def check_file(option: str, path: Path | None, *endings: str) -> None:
    """Refuses a file that cannot be written, before the work.

    Args:
        option: Of the command line.
        path: What it says.
        *endings: Of which it must have one.
    """
    if path is None:
        return
    if endings and path.suffix not in endings:
        raise click.UsageError(
            f"{option} must end in {' or '.join(endings)}. Received: '{path}'. Try '{path.with_suffix(endings[0])}'."
        )
    if not path.parent.is_dir():
        raise click.UsageError(f"{option} must be in a folder that is there. Received: '{path}'.")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on a terminal that something goes on, where there is no telling how much of it is done.

    Args:
        what: Goes on.
    """
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..."):
        yield
