"""What every program of tools/benchmark.py measures alike, in whatever environment it runs."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any


def milliseconds(step: Callable[[], Any], seconds: float) -> float:
    """The median time of a step, tried for some seconds and at least five times."""
    step(), step()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def peak_megabytes() -> float:
    """The most memory that this process ever had; the system counts it in kB, or in bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
