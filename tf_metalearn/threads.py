"""How TensorFlow uses the cores of a CPU."""

import os

import tensorflow as tf


def set_cpu_threads(cores: int | None = None) -> None:
    """Gives each operation one thread and runs independent operations side by side.

    Graphs of learned optimizers and of few-shot learning are many small operations: splitting each over the cores
    costs more than it gives. On two cores this halves the time of a meta-training step. Call it first, before
    TensorFlow has run anything; the command line does. Large convolutions on big batches want the opposite, which is
    TensorFlow's default.

    Args:
        cores: How many operations may run at once. Defaults to the cores that this process may use.

    Raises:
        RuntimeError: If TensorFlow has already started, when threads are fixed.

    >>> import subprocess, sys
    >>> code = "import tf_metalearn as tfm; tfm.set_cpu_threads(2)"
    >>> subprocess.run([sys.executable, "-c", code], capture_output=True).returncode
    0
    """
    if cores is not None and (not isinstance(cores, int) or cores < 1):
        raise ValueError(f"`cores` must be a positive integer. Received: cores={cores!r}.\nLeave it out to use all.")
    cores = cores or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores or os.cpu_count()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    except RuntimeError as error:
        raise RuntimeError(
            "`set_cpu_threads` must be called before TensorFlow runs its first operation. Received: a call after that."
            "\nMove it to the top of the program."
        ) from error
