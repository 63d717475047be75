"""What all tests share. TensorFlow's threads and devices are fixed once it runs, so they are set here, first."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
import tensorflow as tf

from tf_metalearn.threads import set_cpu_threads

set_cpu_threads(2)
# Two logical devices on one CPU are enough for a MirroredStrategy with two replicas.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture
def seed() -> int:
    """Seeds Python, numpy and Keras, and returns the seed."""
    keras.utils.set_random_seed(0)
    return 0


@pytest.fixture(scope="session")
def mirrored() -> tf.distribute.MirroredStrategy:
    """Two replicas on two logical CPUs. One strategy for all tests: TensorFlow remembers the shapes of what replicas
    exchange by numbers that every new strategy counts from the start."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def prepared_data() -> Callable[[str], Path]:
    """`prepared_data("mnist")` returns the folder of prepared data sets, or skips the test where that one is not."""

    def folder_with(name: str) -> Path:
        folder = os.environ.get("TFDS_DATA_DIR")
        if not folder:
            pytest.skip(f"TFDS_DATA_DIR is not set; it must name a folder with {name!r} prepared")
        if not (Path(folder) / name).is_dir():
            pytest.skip(f"TFDS_DATA_DIR has no {name!r}; prepare it with tensorflow_datasets")
        return Path(folder)

    return folder_with


@pytest.fixture(scope="session")
def glyph_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the embedded data set in it, built once for all tests."""
    from tf_metalearn.episodes import glyphs

    folder = tmp_path_factory.mktemp("data")
    glyphs.build(folder)
    return folder
