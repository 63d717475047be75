"""What the verbs share."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import click


def quiet_tensorflow() -> None:
    """Lets TensorFlow say nothing but what is wrong; to be called before it is imported, and imports nothing heavy.

    What its C++ logs is news of the machine, and its errors reach Python as exceptions. What Python raises, warns of or
    prints stays as it is. TF_CPP_MIN_LOG_LEVEL=0 shows everything.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        from absl import logging

        logging.set_verbosity(logging.ERROR)


def start_tensorflow() -> None:
    """Gives TensorFlow the threads that suit small graphs."""
    from tf_metalearn.threads import set_cpu_threads

    # Only speed depends on it: inside a process where TensorFlow already runs, its threads stay as they are.
    with contextlib.suppress(RuntimeError):
        set_cpu_threads()


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
            message = message.replace(f"`{argument}`", option)
        raise click.UsageError(message) from error


def complete_files(word: str) -> list[Any]:
    """Tells the shell to complete paths."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(word, type="file")]
