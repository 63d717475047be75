"""What the verbs share."""

import contextlib
import os
from typing import Any


def start_tensorflow() -> None:
    """Gives TensorFlow the threads that suit small graphs, and less to say."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf_metalearn.threads import set_cpu_threads

    # Only speed depends on it: inside a process where TensorFlow already runs, its threads stay as they are.
    with contextlib.suppress(RuntimeError):
        set_cpu_threads()


def complete_files(word: str) -> list[Any]:
    """Tells the shell to complete paths."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(word, type="file")]
