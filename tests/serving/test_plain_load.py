"""Exports need TensorFlow alone: neither Keras nor this package."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import pickle, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ("keras", "tf_keras", "tf_metalearn"):
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
for name in ("keras", "tf_metalearn"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} is here")
import tensorflow as tf

with open(sys.argv[1], "rb") as file:
    requests = pickle.load(file)
answers = {}
for path, inputs in requests.items():
    serve = tf.saved_model.load(path).signatures["serving_default"]
    found = serve(**{name: tf.constant(value) for name, value in inputs.items()})
    answers[path] = {name: value.numpy() for name, value in found.items()}
assert not {name.partition(".")[0] for name in sys.modules} & {"keras", "tf_keras", "tf_metalearn"}
with open(sys.argv[2], "wb") as file:
    pickle.dump(answers, file)
"""


@pytest.mark.slow
def test_exports_load_and_answer_where_neither_keras_nor_this_package_is(models, tmp_path):
    folder, python = models
    random = np.random.default_rng(0)
    support, query = (random.normal(size=[1, count, 4]).astype("float32") for count in (4, 2))
    pictures = random.random([1, 4, 8, 8, 1], "float32")
    tasks = {
        "points": {"support_x": support, "support_y": np.array([[5, 3, 5, 4]]), "query_x": query},
        "characters": {"support_x": pictures, "support_y": np.array([[5, 3, 5, 4]]), "query_x": pictures[:, :3]},
        "waves": {"support_x": support[..., :1], "support_y": support[..., 1:2], "query_x": query[..., :1]},
        "mine": {"x": query[0]},
    }
    requests = {str(folder / name / "1"): inputs for name, inputs in tasks.items()}
    (tmp_path / "requests").write_bytes(pickle.dumps(requests))
    command = [sys.executable, "-I", "-c", PROGRAM, str(tmp_path / "requests"), str(tmp_path / "answers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = pickle.loads((tmp_path / "answers").read_bytes())
    for name, inputs in tasks.items():
        answer = answers[str(folder / name / "1")]
        if name == "mine":
            expected, found = python[name].predict(inputs["x"], verbose=0), answer["probabilities"]
        else:
            expected = python[name].adapt_and_predict(*(value[0] for value in inputs.values()))
            found = answer["outputs" if name == "waves" else "probabilities"][0]
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)
        assert set(answer["error"].tolist()) == {b""}
