"""Zero-shot with invented characters: one is known by where its strokes run, without a drawing of it."""

from typing import Any

import numpy as np
from learner_recipe import LearnerExperiment, LearnerTest

from tf_metalearn import Augmentation
from tf_metalearn.episodes import ClassTable, glyphs, load_classes


def glyphs_zero_shot() -> LearnerExperiment:
    """The experiment."""
    return LearnerExperiment(
        learner=_learner,
        source="glyphs",
        training={
            "split": None,
            "augmentation": Augmentation(shift=2, turn=8, scale=0.1, shear=8),
            "ways": 60,
            "shots": 0,
            "queries": 5,
            "batch_size": 1,
        },
        classes=lambda data_dir: turned_and_mirrored(load_classes("glyphs", "train", data_dir=data_dir)),
        tests=[LearnerTest("5-way 0-shot", {"split": "test", "ways": 5, "shots": 0, "batch_size": 4})],
        epochs=20,
        steps=250,
        learning_rate=2e-3,
        many_small_operations=False,
    )


def _learner() -> Any:
    from tf_metalearn import backbones
    from tf_metalearn.learners import PrototypicalNetwork

    embedding = backbones.conv4()
    encoder = stroke_encoder(embedding.output_shape[-1])
    return PrototypicalNetwork(embedding, distance="cosine", metadata_encoder=encoder)


def stroke_encoder(outputs: int) -> Any:
    """A network that reads a glyph's metadata as a set: whatever order its strokes have, from whichever end each runs.

    A drawing shows neither, so that a network that reads the metadata number by number learns them by heart.

    Args:
        outputs: Numbers in a vector.
    """
    import keras

    each = keras.Sequential([keras.layers.Dense(128, "relu"), keras.layers.Dense(128, "relu")], name="stroke")
    inputs = keras.Input([glyphs.FEATURES])
    strokes = keras.layers.Reshape([glyphs.STROKES, 1 + 2 * glyphs.POINTS])(inputs)
    there, points = strokes[..., :1], keras.layers.Reshape([glyphs.STROKES, glyphs.POINTS, 2])(strokes[..., 1:])
    flat = keras.layers.Reshape([glyphs.STROKES, 2 * glyphs.POINTS])
    both_ways = each(flat(points)) + each(flat(keras.ops.flip(points, axis=2)))
    together = keras.ops.sum(there * both_ways, axis=1)
    vector = keras.layers.Dense(outputs)(keras.layers.Dense(128, "relu")(together))
    return keras.Model(inputs, vector, name="encoder")


def turned_and_mirrored(table: ClassTable) -> ClassTable:
    """Each glyph is eight: turned by quarters, and each of these in a mirror; drawings and metadata alike.

    Args:
        table: Of glyphs.
    """
    sides = [table.examples] + [np.rot90(table.examples, turns, axes=(1, 2)) for turns in (1, 2, 3)]
    assert table.metadata is not None
    # Along the axes of a picture, y points down.
    quarter = np.array([[0, 1], [-1, 0]], "float32")
    described = [_moved(table.metadata, np.linalg.matrix_power(quarter, turns)) for turns in range(4)]
    mirror = np.diag([-1, 1]).astype("float32")
    names = [f"{name}/{turn}" for turn in range(4) for name in table.names]
    return ClassTable(
        np.concatenate([*sides, *(side[:, :, ::-1] for side in sides)]),
        np.tile(table.sizes, 8),
        (*names, *(f"{name}/mirrored" for name in names)),
        metadata=np.concatenate([*described, *(_moved(each, mirror) for each in described)]),
        title="glyphs",
    )


def _moved(metadata: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    strokes = metadata.reshape(len(metadata), glyphs.STROKES, -1)
    points = strokes[..., 1:].reshape(len(metadata), glyphs.STROKES, glyphs.POINTS, 2) @ matrix.T
    return np.concatenate([strokes[..., :1], points.reshape(*strokes.shape[:2], -1)], axis=-1).reshape(metadata.shape)
