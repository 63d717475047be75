"""What a run ran with, for whoever repeats it."""

import os
import platform
import sys
from importlib import metadata
from typing import Any

PACKAGES = ("tf-metalearn", "tensorflow", "keras", "numpy", "tensorflow-datasets")


def environment() -> dict[str, Any]:
    """Returns versions, machine and devices.

    >>> sorted(environment())
    ['command', 'cpus', 'devices', 'machine', 'packages', 'python', 'system']
    """
    import tensorflow as tf

    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
