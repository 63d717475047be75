"""What the tests of serving share: tiny learners, and the folder of models that a server is given."""

import io

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw

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
    `points` with three classes at most, `waves`, a regression, `mine`, a classifier, and `sides`, one of pictures."""
    folder, random = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    points, characters = tfm.PrototypicalNetwork(linear([4], 3)), tfm.PrototypicalNetwork(linear([8, 8, 1], 4))
    found = {
        "characters": characters,
        "points": tfm.MAML(linear([4], 3), inner_steps=2),
        "waves": tfm.MAML(tfm.backbones.sinusoid_mlp([5]), inner_learning_rate=0.01, inner_loss="mse"),
        "mine": points.adapt(random.normal(size=[6, 4]), ["ash", "oak", "elm"] * 2),
        "sides": characters.adapt(random.random([2, 8, 8, 1]), ["left", "right"]),
    }
    for name, model in found.items():
        model.export(folder / name / "1", verbose=False)
    return folder, found


@pytest.fixture(scope="session")
def pictures_in_folders(tmp_path_factory):
    """A folder with `letters/alpha`, `letters/beta` and `unknown`, dark letters of unequal hands on light paper."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    corners = {
        "alpha": [(20, 85), (50, 15), (80, 85), (65, 55), (35, 55)],
        "beta": [(30, 10), (30, 90), (75, 70), (30, 50)],
    }
    for name, points in corners.items():
        for number in range(1, 8):
            image = Image.new("L", (100, 100), 245)
            hand = np.array(points) + random.normal(scale=4, size=[len(points), 2])
            ImageDraw.Draw(image).line([tuple(point) for point in hand], fill=15, width=6, joint="curve")
            kept = folder / "letters" / name if number <= 5 else folder / "unknown"
            kept.mkdir(parents=True, exist_ok=True)
            image.save(kept / (f"{number}.png" if number <= 5 else f"{name}-{number}.png"))
    return folder
