"""What both sides of a benchmark of tools/benchmark.py are given, whatever draws numbers in their frameworks."""

from pathlib import Path
from typing import Any

import numpy as np


def write_inputs(path: Path) -> None:
    """Writes what both sides of a benchmark are given."""
    np.savez(path, **l2l_inputs(), **maml_inputs(), **prototypical_inputs())


def l2l_inputs(steps: int = 100) -> dict[str, Any]:
    """LSTM, data, batches and initial parameters."""
    random = np.random.default_rng(0)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return random.normal(size=shape, scale=scale).astype("float32")

    weights = [normal(*shape, scale=0.2) for shape in [(22, 80), (80,), (40, 80), (80,), (20, 1), (1,)]]
    arrays: dict[str, Any] = {f"weight_{index}": weight for index, weight in enumerate(weights)}
    arrays["x"] = random.random((2000, 784), dtype="float32")
    arrays["y"] = random.integers(0, 10, 2000, dtype="int32")
    arrays["rows"] = random.integers(0, 2000, (steps + 1, 128), dtype="int32")
    arrays["parameters"] = normal(784 * 20 + 20 + 20 * 10 + 10, scale=0.05)
    return arrays


def maml_inputs(tasks: int = 16, ways: int = 5, queries: int = 5) -> dict[str, Any]:
    """1-shot tasks, whose classes are dots of ink with some noise, and the initial parameters of conv4, end to end."""
    random = np.random.default_rng(0)
    ink = random.random((tasks, ways, 1, 28, 28, 1)) < 0.15
    images = ink + 0.1 * random.normal(size=(tasks, ways, 1 + queries, 28, 28, 1))
    labels = np.tile(np.arange(ways, dtype="int32")[:, None], (tasks, 1, 1 + queries))
    arrays = {}
    for part, examples in (("support", slice(1)), ("query", slice(1, None))):
        arrays[f"{part}_x"] = images[:, :, examples].reshape(tasks, -1, 28, 28, 1).astype("float32")
        arrays[f"{part}_y"] = labels[:, :, examples].reshape(tasks, -1)

    def kernel(size: int, fans: int) -> np.ndarray:
        return random.normal(size=size, scale=(2 / fans) ** 0.5)

    parameters: list[np.ndarray] = []
    for channels in (1, 64, 64, 64):
        parameters += [kernel(9 * channels * 64, 9 * (channels + 64)), np.ones(64), np.zeros(64)]
    parameters += [kernel(256 * ways, 256 + ways), np.zeros(ways)]
    arrays["conv4"] = np.concatenate(parameters).astype("float32")
    return arrays


def prototypical_inputs(ways: int = 60) -> dict[str, Any]:
    """One such task with more ways, and the parameters without a head."""
    arrays = maml_inputs(tasks=1, ways=ways)
    arrays["conv4"] = arrays["conv4"][: -(256 + 1) * ways]
    return {f"prototypical_{name}": array for name, array in arrays.items()}
