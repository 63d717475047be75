import contextlib
import re

import numpy as np
import pytest
from PIL import Image

from tf_metalearn.episodes import ClassTable


@pytest.fixture
def numbered():
    """A table whose examples are their own numbers: 12 classes of 8 to 19 examples."""
    sizes = np.arange(8, 20)
    return ClassTable.of(np.arange(sizes.sum(), dtype="float32")[:, None], np.repeat(np.arange(12) + 10, sizes))


@pytest.fixture
def image_folder(tmp_path):
    """`image_folder("a/b", 3)` writes three 6 x 6 grey PNGs into a folder of that name, below the root it returns."""
    random = np.random.default_rng(0)

    def write(name, count, size=(6, 6), mode="L"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 256, [size[1], size[0], *([3] if mode == "RGB" else [])], np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        return tmp_path / "images"

    return write


@pytest.fixture
def refused():
    """A context that demands a ValueError with these parts, and a remedy on a line of its own."""

    @contextlib.contextmanager
    def refused(*parts):
        with pytest.raises(ValueError, match=r"(?s)must .*Received: .*\.\n\S") as caught:
            yield
        for part in parts:
            assert re.search(re.escape(part), str(caught.value)), f"{part!r} is not in: {caught.value}"

    return refused
