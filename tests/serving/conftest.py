"""What the tests of serving share: tiny learners, and the folder of models that a server is given."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

import tf_metalearn as tfm


def linear(inputs, outputs):
    """A seeded linear layer."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten()] if len(inputs) > 1 else []
    return keras.Sequential([keras.Input(inputs), *layers, keras.layers.Dense(outputs)])


@pytest.fixture(scope="session")
def make_linear():
    """`make_linear(inputs, outputs)`: a seeded linear Keras model."""
    return linear


@pytest.fixture(scope="session")
def png():
    """`png(pixels)`: an array of pictures `[..., height, width]` of whole numbers as encoded files."""

    def png(pixels):
        files = np.empty(pixels.shape[:-2], object)
        for place in np.ndindex(files.shape):
            stream = io.BytesIO()
            Image.fromarray(pixels[place]).save(stream, "PNG")
            files[place] = stream.getvalue()
        return files

    return png


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of models as a server is given it, and by their names the models in Python: `characters` of pictures,
    `points` with three classes at most, `waves`, a regression, and `mine`, a classifier."""
    folder, random = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    points = tfm.PrototypicalNetwork(linear([4], 3))
    found = {
        "characters": tfm.PrototypicalNetwork(linear([8, 8, 1], 4)),
        "points": tfm.MAML(linear([4], 3), inner_steps=2),
        "waves": tfm.MAML(tfm.backbones.sinusoid_mlp([5]), inner_learning_rate=0.01, inner_loss="mse"),
        "mine": points.adapt(random.normal(size=[6, 4]), ["ash", "oak", "elm"] * 2),
    }
    for name, model in found.items():
        model.export(folder / name / "1", verbose=False)
    return folder, found
