"""Glyphs: invented characters, drawn by invented people; a data set that is built here, without a download."""

import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

CLASSES = 1200
DRAWERS = 20
SIDE = 28
#: A class has two or three strokes, each a smooth curve through four points.
STROKES, POINTS = 3, 4
#: For each stroke, whether it is there and where its points are.
FEATURES = STROKES * (1 + 2 * POINTS)
#: Straight pieces that a stroke is drawn by.
PIECES = 10


def build(data_dir: str | os.PathLike[str]) -> None:
    """Builds the data set as a tensorflow_datasets folder, unless it is there. It takes less than a minute.

    Args:
        data_dir: Where data sets are kept.
    """
    Glyphs(data_dir=os.fspath(data_dir)).download_and_prepare(file_format="tfrecord")


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """1,200 characters of two or three random strokes, drawn once by each of 20 people.

    Each person has a slant, a size, a stroke width and an unsteadiness, and each drawing its own tilt and place. The
    metadata of a class is where its strokes run, which is enough to know it without an example. Deterministic.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 1)),
                    "label": tfds.features.ClassLabel(names=[f"glyph{number:04d}" for number in range(CLASSES)]),
                    "drawer": np.int64,
                    "metadata": tfds.features.Tensor(shape=(FEATURES,), dtype=np.float32),
                }
            ),
            supervised_keys=("image", "label"),
            license="Apache-2.0",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for label in range(CLASSES):
            strokes = character(label)
            for drawer, image in enumerate(drawings(strokes, label)):
                yield (
                    f"{label:04d}_{drawer:02d}",
                    {
                        "image": image[..., None],
                        "label": label,
                        "drawer": drawer,
                        "metadata": metadata(strokes),
                    },
                )


def character(label: int) -> np.ndarray:
    """Invents a character.

    Args:
        label: Decides everything.

    Returns:
        `[strokes, 4, 2]`, the points (x, y) that each stroke runs through, about from -1 to 1.

    >>> character(3).shape[1:]
    (4, 2)
    """
    random = np.random.default_rng([label, 0])
    strokes = random.integers(2, STROKES + 1)
    start = random.uniform(-0.9, 0.9, [strokes, 1, 2])
    # A stroke goes on in a direction that bends, so that it looks written rather than scribbled.
    angles = random.uniform(0, 2 * np.pi, [strokes, 1]) + np.cumsum(
        random.normal(0, 0.9, [strokes, POINTS - 1]), axis=1
    )
    lengths = random.uniform(0.3, 0.8, [strokes, POINTS - 1])
    moves = lengths[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = np.concatenate([start, start + np.cumsum(moves, axis=1)], axis=1)
    # Fitted into the square, as a writer fits a character into its place.
    points -= (points.max(axis=(0, 1)) + points.min(axis=(0, 1))) / 2
    return points / np.abs(points).max()


def metadata(strokes: np.ndarray) -> np.ndarray:
    """`[27]` float32: for each stroke, whether it is there and where its points are.

    >>> metadata(character(3)).shape
    (27,)
    """
    features = np.zeros([STROKES, 1 + 2 * POINTS], "float32")
    features[: len(strokes), 0] = 1
    features[: len(strokes), 1:] = strokes.reshape(len(strokes), -1)
    return features.reshape(-1)


def drawings(strokes: np.ndarray, label: int) -> np.ndarray:
    """Draws a character, once by each person.

    Args:
        strokes: See `character`.
        label: Decides the drawings' own tilt, place and unsteadiness.

    Returns:
        `[20, 28, 28]` uint8, ink is 255.
    """
    people = np.random.default_rng([0, 1])
    slant = people.uniform(-0.5, 0.5, DRAWERS)
    size = people.uniform(0.55, 0.9, [DRAWERS, 2])
    width = people.uniform(0.7, 1.6, DRAWERS)
    unsteadiness = people.uniform(0.02, 0.07, DRAWERS)

    random = np.random.default_rng([label, 1])
    points = strokes + unsteadiness[:, None, None, None] * random.normal(0, 1, [DRAWERS, *strokes.shape])
    tilt = random.normal(0, 0.15, DRAWERS)
    rotation = np.stack([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]).transpose(2, 0, 1)
    slanting = np.tile(np.eye(2), [DRAWERS, 1, 1])
    slanting[:, 0, 1] = slant
    points = np.einsum("dij,djk,dspk->dspi", rotation, slanting * size[:, None, :], points)
    points += random.uniform(-0.2, 0.2, [DRAWERS, 1, 1, 2])
    # The unit square lies within a margin of four pixels.
    lines = curves(points) * (SIDE / 2 - 4) + (SIDE - 1) / 2
    return ink(lines, width)


def curves(points: np.ndarray) -> np.ndarray:
    """Smooth curves through points (Catmull-Rom splines).

    Args:
        points: `[..., 4, 2]`.

    Returns:
        `[..., pieces + 1, 2]`, beginning and ending at the outer points.

    >>> curves(np.array([[[0.0, 0], [1, 0], [2, 0], [3, 0]]]))[0, [0, -1], 0].tolist()
    [0.0, 3.0]
    """
    ends = 2 * points[..., :1, :] - points[..., 1:2, :], 2 * points[..., -1:, :] - points[..., -2:-1, :]
    p = np.concatenate([ends[0], points, ends[1]], axis=-2)
    position = np.linspace(0, POINTS - 1, PIECES + 1)
    first = np.minimum(position.astype(int), POINTS - 2)
    t = (position - first)[:, None]
    a, b, c, d = (p[..., first + offset, :] for offset in range(4))
    return b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2)


def ink(lines: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Draws lines with soft edges.

    Args:
        lines: `[images, strokes, points, 2]` in pixels.
        width: `[images]`, half the width of the pen in pixels.

    Returns:
        `[images, 28, 28]` uint8.
    """
    lines = lines.astype("float32")
    # Coordinate by coordinate, [images, pixels, pieces]: four times faster than with a last axis of two.
    begin_x, begin_y = np.moveaxis(lines[:, :, :-1].reshape(len(lines), 1, -1, 2), -1, 0)
    along_x, along_y = np.moveaxis(np.diff(lines, axis=2).reshape(len(lines), 1, -1, 2), -1, 0)
    pixel_y, pixel_x = np.mgrid[:SIDE, :SIDE].astype("float32").reshape(2, 1, -1, 1)
    offset_x, offset_y = pixel_x - begin_x, pixel_y - begin_y
    # The nearest point of each piece of a line, and from there the nearest piece.
    share = (offset_x * along_x + offset_y * along_y) / np.maximum(along_x**2 + along_y**2, np.float32(1e-9))
    share = np.clip(share, 0, 1)
    squared = (offset_x - share * along_x) ** 2 + (offset_y - share * along_y) ** 2
    distance = np.sqrt(squared.min(axis=-1))
    drawn = np.round(255 * np.clip(width[:, None] + 0.5 - distance, 0, 1)).astype(np.uint8)
    return drawn.reshape(len(lines), SIDE, SIDE)
