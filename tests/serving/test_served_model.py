"""What learners and classifiers know of their pictures, and how they export themselves."""

import io
import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import tf_metalearn as tfm
from tf_metalearn import pretrained
from tf_metalearn.serving.verification import run_in_session


@pytest.fixture(params=["PrototypicalNetwork", "MAML", "FineTuning"])
def make(request, make_linear):
    """Makes a learner of pictures of two classes, given arguments."""
    cls = getattr(tfm, request.param)
    told = {"classes": 3, "ways": 2} if request.param == "FineTuning" else {}
    return lambda **arguments: cls(make_linear([4, 4, 1], 2), **told, **arguments)


def saved(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def test_ink_is_kept_in_files_copies_and_classifiers(make, tmp_path):
    learner = make(ink=True)
    assert not make().ink
    assert saved(learner, tmp_path).ink
    assert learner.with_settings().ink
    classifier = learner.adapt(np.random.default_rng(0).random([4, 4, 4, 1], "float32"), ["a", "b", "a", "b"])
    assert classifier.ink
    assert saved(classifier, tmp_path).ink


def test_ink_may_be_said_later(make, tmp_path):
    learner = make()
    learner.ink = True
    assert saved(learner, tmp_path).ink


def test_files_that_do_not_know_of_ink_load(make, tmp_path):
    make().save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                config = json.loads(content)
                del config["config"]["ink"]
                content = json.dumps(config)
            old.writestr(name, content)
    assert not keras.saving.load_model(tmp_path / "old.keras").ink


@pytest.mark.parametrize("name", pretrained.learner_names())
def test_shipped_learners_were_trained_on_ink(name):
    assert tfm.load(name).ink


def test_an_export_reads_pictures_as_the_model_does(make_linear, tmp_path):
    learner = tfm.PrototypicalNetwork(make_linear([4, 4, 1], 2), ink=True)
    version = tmp_path / "models" / "sides" / "1"
    learner.adapt(np.random.default_rng(0).random([2, 4, 4, 1]), ["left", "right"]).export(version, verbose=False)
    found = json.loads((version / "assets.extra" / "pictures.json").read_text())
    assert found == {"height": 4, "width": 4, "channels": 1, "invert": True}
    assert "dark pixels as 1" in (version.parent / "README.md").read_text()
    dark = io.BytesIO()
    Image.new("L", (4, 4), 40).save(dark, "PNG")
    x = np.full([1, 4, 4, 1], 215 / 255, "float32")
    requests = [("serve_bytes", {"image_bytes": np.array([dark.getvalue()], object)}), ("serving_default", {"x": x})]
    _, [(encoded, _), (plain, _)] = run_in_session(version, requests)
    np.testing.assert_array_equal(encoded["probabilities"], plain["probabilities"])
