"""The loader is tested in processes of its own: in this one it would switch off XLA for all other tests."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from tf_metalearn.serving import load_check
from tf_metalearn.serving.verification import run_in_session

PROGRAM = """
import concurrent.futures, importlib.util, pickle, resource, sys

spec = importlib.util.spec_from_file_location("load_check", sys.argv[1])
load_check = importlib.util.module_from_spec(spec)
sys.modules["load_check"] = load_check
spec.loader.exec_module(load_check)
with open(sys.argv[3], "rb") as file:
    requests = pickle.load(file)
session = load_check.ServingSession(sys.argv[2])

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

alone = [session.run(*request) for request in requests]
memory, differences = [], 0
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for _ in range(8):
        for place, answer in enumerate(pool.map(lambda place: session.run(*requests[place % 10]), range(250))):
            expected = alone[place % 10]
            differences += any(answer[name].tobytes() != value.tobytes() if value.dtype != object
                else answer[name].tolist() != value.tolist() for name, value in expected.items())
        memory.append(resident())
assert not {"tensorflow", "keras", "tf_metalearn"} & set(sys.modules)
with open(sys.argv[4], "wb") as file:
    pickle.dump((differences, memory), file)
"""


def drive(folder, requests, scratch):
    """How many of 2,000 answers to four threads differ from those to one, and memory in MB after each 250."""
    (scratch / "requests").write_bytes(pickle.dumps(requests))
    command = [sys.executable, "-I", "-c", PROGRAM, load_check.__file__, str(folder)]
    command += [str(scratch / "requests"), str(scratch / "result")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pickle.loads((scratch / "result").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["numbers", "pictures", "gradients"])
def test_2000_requests_of_four_threads_are_answered_as_one_by_one_and_memory_does_not_grow(models, png, tmp_path, kind):
    folder, _ = models
    random, labels = np.random.default_rng(0), np.arange(3)[None]
    requests = []
    for _ in range(10):
        if kind == "pictures":
            # Files of 6 kB: a leak of those is seen.
            pixels = random.integers(0, 256, [1, 6, 80, 80], np.uint8)
            inputs = {"support_bytes": png(pixels[:, :3]), "support_y": labels, "query_bytes": png(pixels[:, 3:])}
            requests.append(("serve_bytes", inputs))
        else:
            shape = [8, 8, 1] if kind == "numbers" else [4]
            support, query = random.random([1, 3, *shape], "float32"), random.random([1, 15, *shape], "float32")
            requests.append(("serving_default", {"support_x": support, "support_y": labels, "query_x": query}))
    model = "points" if kind == "gradients" else "characters"
    differences, memory = drive(folder / model / "1", requests, tmp_path)
    assert differences == 0
    # The first rounds warm up; 1,250 requests follow.
    assert memory[-1] - memory[2] < 4, memory


def test_a_model_that_cannot_be_loaded_is_an_error_in_tensorflows_words(tmp_path):
    with pytest.raises(RuntimeError, match="Could not find SavedModel"):
        run_in_session(tmp_path, [])


def test_signatures_are_read_from_the_bytes_of_a_meta_graph(models):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    folder, _ = models
    message = saved_model_pb2.SavedModel.FromString((folder / "points" / "1" / "saved_model.pb").read_bytes())
    graph = message.meta_graphs[0]
    found = load_check.signatures_of(graph.SerializeToString())
    expected = {name: value for name, value in graph.signature_def.items() if not name.startswith("__saved_model")}
    assert found.keys() == expected.keys()
    for name, signature in found.items():
        for specs, infos in ((signature.inputs, expected[name].inputs), (signature.outputs, expected[name].outputs)):
            assert specs.keys() == infos.keys()
            for part, spec in specs.items():
                shape = tf.TensorShape(infos[part].tensor_shape)
                assert (spec.tensor, spec.dtype) == (infos[part].name, infos[part].dtype)
                assert spec.shape == (None if shape.rank is None else tuple(shape.as_list()))


def test_what_a_session_is_asked_wrongly_is_said_request_by_request(models):
    folder, _ = models
    x = np.zeros([2, 4], "float32")
    requests = [("serving_default", {"x": x}), ("other", {"x": x}), ("serving_default", {"y": x})]
    _, [fine, unknown, misnamed] = run_in_session(folder / "mine" / "1", requests)
    assert fine[0]["probabilities"].shape == (2, 3)
    assert fine[1] > 0
    assert unknown == ("No signature 'other'. There are: embed, serving_default.", None)
    assert misnamed == ("'serving_default' takes ['x']. Received: ['y'].", None)


def test_text_of_any_length_goes_through_a_session(models, png):
    """Short text lies inside TensorFlow's string object, long text outside of it."""
    folder, _ = models
    pixels = np.random.default_rng(0).random([1, 3, 8, 8, 1], "float32")
    labels = np.array([[b"a", b"b" * 22, ("ö" * 5000).encode()]], object)
    inputs = {"support_x": pixels, "support_y": labels, "query_x": pixels}
    _, [(answer, _)] = run_in_session(folder / "characters" / "1", [("serve_strings", inputs)])
    assert answer["label"].tolist() == labels.tolist()
