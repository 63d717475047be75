"""The client against a server: our stand-in, and the real one where there is one. The same tests drive both."""

import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tf_metalearn.serving import Client, ServingError
from tf_metalearn.serving.archive import COMPOSE

IMAGE = re.search(r"image: (\S+)", COMPOSE).group(1)


class Server(NamedTuple):
    """Where a server listens."""

    grpc: str
    rest: str


@contextlib.contextmanager
def stopped_at_the_end(command, **arguments):
    process = subprocess.Popen(command, text=True, **arguments)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


@contextlib.contextmanager
def stand_in(folder):
    command = [sys.executable, str(Path(__file__).with_name("stand_in.py")), str(folder)]
    with stopped_at_the_end(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        line = process.stdout.readline()
        assert line, "the stand-in did not start"
        ports = json.loads(line)
        yield Server(f"127.0.0.1:{ports['grpc']}", f"http://127.0.0.1:{ports['rest']}/v1/models")


def free_ports():
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def engine_with_the_image():
    """A container engine that answers and has the official image, or None; and what is missing."""
    engine = next(filter(None, map(shutil.which, ("docker", "podman"))), None)
    if engine is None or subprocess.run([engine, "info"], capture_output=True, check=False).returncode:
        return None, "no container engine runs"
    if subprocess.run([engine, "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        return None, f"{Path(engine).name} has no image {IMAGE}"
    return engine, ""


@contextlib.contextmanager
def real(folder, scratch):
    binary = shutil.which("tensorflow_model_server")
    grpc, rest = free_ports()
    if binary:
        config = scratch / "models.config"
        config.write_text((folder / "models.config").read_text().replace('"/models/', f'"{folder}/'))
        command = [binary, f"--port={grpc}", f"--rest_api_port={rest}", f"--model_config_file={config}"]
    else:
        engine, missing = engine_with_the_image()
        if engine is None:
            pytest.skip(f"tensorflow_model_server is not on the PATH, and {missing}")
        ports = [f"--publish=127.0.0.1:{grpc}:8500", f"--publish=127.0.0.1:{rest}:8501"]
        command = [engine, "run", "--rm", *ports, f"--volume={folder}:/models:ro", IMAGE]
        command.append("--model_config_file=/models/models.config")
    with stopped_at_the_end(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        server = Server(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{rest}/v1/models")
        deadline = time.monotonic() + 120
        while not all(is_available(server, path.parent.parent.name) for path in folder.glob("*/1/saved_model.pb")):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server is not ready after two minutes"
            time.sleep(0.5)
        yield server


def is_available(server, model):
    try:
        with urllib.request.urlopen(f"{server.rest}/{model}", timeout=5) as response:
            return json.load(response)["model_version_status"][0]["state"] == "AVAILABLE"
    except OSError:
        return False


@pytest.fixture(scope="module", params=["stand-in", "real"])
def server(request, models, tmp_path_factory):
    folder, _ = models
    start = stand_in(folder) if request.param == "stand-in" else real(folder, tmp_path_factory.mktemp("server"))
    with start as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with Client(server.grpc, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def python(models):
    """The models in Python by name."""
    return models[1]


@pytest.fixture(scope="module")
def pictures():
    """Support sets and queries of three tasks of pictures, as whole numbers."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, [3, 4, 8, 8], np.uint8), random.integers(0, 256, [3, 2, 8, 8], np.uint8)


LABELS = {
    "numbers": [[4, 9, 4, 2], [7, 7, 8, 8], [0, 1, 2, 3]],
    "text": [["a", "ö", "a", "c"], ["x", "x", "y", "y"], ["k", "l", "m", "n"]],
}


def assert_answers(answer, learner, support, labels, query):
    """A single task's answer is what the learner says in Python."""
    classes = list(dict.fromkeys(labels))
    expected = learner.adapt_and_predict(support, labels, query)
    np.testing.assert_allclose(answer["probabilities"][:, : len(classes)], expected, atol=1e-5)
    assert answer["label"].tolist() == [classes[place] for place in expected.argmax(axis=1)]
    assert answer["error"] == ""


def scaled(pictures):
    return (pictures[..., None] / 255).astype("float32")


def of_task(answer, place):
    return {name: value[place] for name, value in answer.items()}


@pytest.mark.parametrize("kind", LABELS)
def test_a_single_task_has_no_axis_of_tasks(client, python, pictures, kind):
    support, query = (scaled(part[0]) for part in pictures)
    labels = LABELS[kind][0]
    answer = client.adapt_and_predict("characters", support, labels, query)
    assert answer["probabilities"].shape == (2, 3)
    assert answer["classes"].tolist() == list(dict.fromkeys(labels))
    assert_answers(answer, python["characters"], support, labels, query)


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "files"])
@pytest.mark.parametrize("kind", LABELS)
def test_many_tasks_with_labels_and_examples_of_either_kind(client, python, pictures, png, kind, encoded):
    support, query = (png(part).tolist() if encoded else scaled(part) for part in pictures)
    answer = client.adapt_and_predict("characters", support, LABELS[kind], query)
    assert answer["probabilities"].shape == (3, 2, 4)
    for place, labels in enumerate(LABELS[kind]):
        inputs = scaled(pictures[0][place]), labels, scaled(pictures[1][place])
        assert_answers(of_task(answer, place), python["characters"], *inputs)


def test_a_single_task_of_files(client, python, pictures, png):
    files = [png(part[0]).tolist() for part in pictures]
    answer = client.adapt_and_predict("characters", files[0], LABELS["text"][0], files[1])
    assert_answers(answer, python["characters"], scaled(pictures[0][0]), LABELS["text"][0], scaled(pictures[1][0]))


def test_a_gradient_based_learner_adapts_in_the_server(client, python):
    random = np.random.default_rng(0)
    support, labels, query = random.normal(size=[5, 4]), [3, 5, 3, 5, 5], random.normal(size=[3, 4])
    answer = client.adapt_and_predict("points", support, labels, query)
    assert answer["classes"].tolist() == [3, 5, -1]
    assert_answers(answer, python["points"], support.astype("float32"), labels, query.astype("float32"))


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "files"])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("tasks", [slice(0, 3), 0], ids=["many", "single"])
def test_adapting_once_and_predicting_after_is_the_same(client, pictures, png, kind, encoded, tasks):
    support, query = ((png(part) if encoded else scaled(part))[tasks] for part in pictures)
    labels = LABELS[kind][tasks]
    expected = client.adapt_and_predict("characters", support, labels, query)
    state = client.adapt("characters", support, labels)
    np.testing.assert_array_equal(state["error"], expected["error"])
    np.testing.assert_array_equal(state["classes"], expected["classes"])
    answer = client.predict_with("characters", state, query)
    np.testing.assert_allclose(answer.pop("probabilities"), expected["probabilities"], atol=1e-6)
    for output, value in answer.items():
        np.testing.assert_array_equal(value, expected[output])


@pytest.mark.parametrize("single", [False, True])
def test_a_regression_predicts_values(client, python, single):
    x = np.linspace(-4, 4, 6, dtype="float32")[:, None]
    inputs = (x, np.sin(x), x[:4] / 2) if single else (x[None], np.sin(x)[None], x[None, :4] / 2)
    answer = client.adapt_and_predict("waves", *inputs)
    expected = python["waves"].adapt_and_predict(x, np.sin(x), x[:4] / 2)
    np.testing.assert_allclose(answer["outputs"], expected if single else expected[None], atol=1e-5)
    state = client.adapt("waves", *inputs[:2])
    after = client.predict_with("waves", state, inputs[2])
    np.testing.assert_array_equal(after["outputs"], answer["outputs"])


def test_a_classifier_predicts(client, python):
    x = np.random.default_rng(1).normal(size=[5, 4])
    answer = client.predict("mine", x)
    expected = python["mine"].predict(x, verbose=0)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["label"].tolist() == [["ash", "oak", "elm"][place] for place in expected.argmax(axis=1)]
    assert answer["error"].tolist() == [""] * 5


def test_any_signature_runs(client, python):
    x = np.random.default_rng(1).normal(size=[2, 4]).astype("float32")
    embedded = client.run("mine", {"x": x}, "embed")["embedding"]
    np.testing.assert_allclose(embedded, python["mine"].learner.embedding(x), atol=1e-5)


def test_a_damaged_task_does_not_raise_and_its_neighbours_are_answered(client, pictures):
    support, query = scaled(pictures[0]), scaled(pictures[1])
    whole = client.adapt_and_predict("characters", support, LABELS["text"], query)
    support[1, 0] = np.nan
    answer = client.adapt_and_predict("characters", support, LABELS["text"], query)
    assert answer["error"][1].startswith("`support_x` must be finite")
    assert answer["label"][1].tolist() == ["", ""]
    for output, value in whole.items():
        np.testing.assert_array_equal(answer[output][[0, 2]], value[[0, 2]])


# What is given wrongly is refused before it is sent -------------------------------------------------------------------


def test_paths_of_files_are_read(client, pictures, png, tmp_path):
    files = [png(part[0]).tolist() for part in pictures]
    paths = []
    for part, contents in zip(("support", "query"), files, strict=True):
        paths.append([tmp_path / f"{part}{place}.png" for place, _ in enumerate(contents)])
        for path, content in zip(paths[-1], contents, strict=True):
            path.write_bytes(content)
    expected = client.adapt_and_predict("characters", files[0], LABELS["text"][0], files[1])
    for kind in (Path, str):
        support, query = ([kind(path) for path in part] for part in paths)
        answer = client.adapt_and_predict("characters", support, LABELS["text"][0], query)
        np.testing.assert_array_equal(answer["probabilities"], expected["probabilities"])
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        client.predict("characters", [str(tmp_path / "nothing.png")])


NUMBERS, FILES = np.zeros([4, 8, 8, 1]), [b"file"] * 4


@pytest.mark.parametrize(
    ("support", "labels", "query", "says"),
    [
        (
            NUMBERS,
            [0, 1, 0],
            NUMBERS,
            r"`support_y` must have a label for each example.*shape \[3\] and .*\[4, 8, 8, 1\]",
        ),
        (NUMBERS, [[0, 1, 0, 1]], NUMBERS[None], r"`support_y` must have a label for each example"),
        (NUMBERS[None], [0, 1, 0, 1], NUMBERS, r"`support_y` must have a label for each example"),
        (
            NUMBERS[None],
            [[0, 1, 0, 1]],
            NUMBERS,
            r"`query_x` must have queries for each task.*1 tasks and queries of 4",
        ),
        (NUMBERS, [0, 1, 0, 1], FILES, r"`query_x` must be of the kind.*Received: encoded images for numbers"),
        (FILES, [0, 1, 0, 1], NUMBERS, r"`query_x` must be of the kind.*Received: numbers for encoded images"),
        (FILES, [[0, 1, 0, 1]], FILES, r"`support_x` must be \[tasks, examples, .*many tasks"),
        (FILES, [0, 1, 0, 1], b"file", r"`query_x` must be \[examples, .*a single task"),
        (NUMBERS, [0.0, 1.0, 0.0, 1.0], NUMBERS, r"`support_y` must hold values, .*or be whole numbers or text"),
        (NUMBERS, 3, NUMBERS, r"`support_y` must hold labels, \[tasks, support\]"),
        ([[0.0], [0.0, 1.0]], [0, 1], NUMBERS, r"`support_x` must have as many examples.*unequal lengths"),
        ([FILES, FILES[:2]], [[0] * 4, [0] * 4], FILES, r"`support_x` must have as many examples.*unequal lengths"),
        (np.full([4, 8, 8, 1], 200, np.uint8), [0, 1, 0, 1], NUMBERS, r"`support_x` must be numbers.*up to 200"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(support, labels, query, says):
    with Client("localhost:1") as client, pytest.raises(ValueError, match=says) as caught:
        client.adapt_and_predict("characters", support, labels, query)
    assert len(str(caught.value).splitlines()) == 2


def test_whole_numbers_of_0_and_1_are_sent(client, pictures):
    support, query = ((part[0, ..., None] > 128).astype("uint8") for part in pictures)
    assert client.adapt_and_predict("characters", support, LABELS["numbers"][0], query)["error"] == ""


def test_an_address_of_rest_is_refused():
    with pytest.raises(ValueError, match=r"`address` must be the host and port of gRPC[\s\S]*Try 'example\.org:8500'"):
        Client("http://example.org:8501/v1/models")


def test_the_server_says_what_it_takes_and_the_client_passes_it_on(client):
    with pytest.raises(ServingError) as caught:
        client.adapt_and_predict("characters", np.zeros([4, 8, 8, 1]), [0, 1, 0, 1], np.zeros([1, 2, 8, 8, 1]))
    expected = "`query_x` must be float32 [any, any, 8, 8, 1]. Received: float32 [1, 1, 2, 8, 8, 1]."
    assert expected in str(caught.value)
    with pytest.raises(ServingError, match=r"It takes `x`\. Received: `y`"):
        client.run("mine", {"y": np.zeros([1, 4], "float32")})
    with pytest.raises(ServingError, match=r"There are: embed, serving_default\. "):
        client.run("mine", {"x": np.zeros([1, 4], "float32")}, "serve_sounds")


# Errors --------------------------------------------------------------------------------------------------------------


def test_no_server_at_the_address_is_said():
    port, _ = free_ports()
    with Client(f"127.0.0.1:{port}", timeout=5) as client, pytest.raises(ServingError) as caught:
        client.predict("mine", [[0.0]])
    assert f"at 127.0.0.1:{port} gave no answer: UNAVAILABLE" in str(caught.value)
    assert "Start the server, or check the address" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "signature", "inputs", "code", "remedy"),
    [
        ("nobody", "serving_default", {"x": np.zeros([1, 4], "float32")}, "NOT_FOUND", "models.config"),
        ("mine", "serve_sounds", {"x": np.zeros([1, 4], "float32")}, "FAILED_PRECONDITION", "lists its signatures"),
        ("mine", "serving_default", {"y": np.zeros([1, 4], "float32")}, "INVALID_ARGUMENT", "shapes and dtypes"),
        ("mine", "serving_default", {"x": np.zeros([1, 4])}, "INVALID_ARGUMENT", "shapes and dtypes"),
        ("mine", "serving_default", {"x": np.zeros([1, 5], "float32")}, "INVALID_ARGUMENT", "shapes and dtypes"),
    ],
    ids=["model", "signature", "name", "dtype", "shape"],
)
def test_what_a_server_refuses_is_said_with_a_remedy(client, model, signature, inputs, code, remedy):
    with pytest.raises(ServingError) as caught:
        client.run(model, inputs, signature)
    assert f"`{signature}` of '{model}' at {client.address} gave no answer: {code}" in str(caught.value)
    assert remedy in str(caught.value)


# REST ----------------------------------------------------------------------------------------------------------------


def post(server, model, body):
    request = urllib.request.Request(f"{server.rest}/{model}:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@pytest.mark.parametrize("kind", LABELS)
def test_plain_json_gives_what_grpc_gives(server, client, pictures, kind):
    support, query = (scaled(part) for part in pictures)
    expected = client.adapt_and_predict("characters", support, LABELS[kind], query)
    body = {"inputs": {"support_x": support.tolist(), "support_y": LABELS[kind], "query_x": query.tolist()}}
    if kind == "text":
        body["signature_name"] = "serve_strings"
    outputs = post(server, "characters", body)["outputs"]
    np.testing.assert_allclose(outputs.pop("probabilities"), expected["probabilities"], atol=1e-6)
    assert outputs == {name: expected[name].tolist() for name in ("label", "classes", "error")}


def test_tasks_may_be_rows_in_plain_json(server, client, pictures):
    support, query = (scaled(part) for part in pictures)
    expected = client.adapt_and_predict("characters", support, LABELS["numbers"], query)
    rows = [
        {"support_x": x.tolist(), "support_y": y, "query_x": other.tolist()}
        for x, y, other in zip(support, LABELS["numbers"], query, strict=True)
    ]
    predictions = post(server, "characters", {"instances": rows})["predictions"]
    assert [row["label"] for row in predictions] == expected["label"].tolist()


def test_encoded_pictures_go_into_plain_json_as_base64(server, client, pictures, png):
    files = [png(part) for part in pictures]
    expected = client.adapt_and_predict("characters", files[0], LABELS["numbers"], files[1])
    plain = [[[{"b64": base64.b64encode(one).decode()} for one in task] for task in part] for part in files]
    inputs = {"support_bytes": plain[0], "support_y": LABELS["numbers"], "query_bytes": plain[1]}
    outputs = post(server, "characters", {"signature_name": "serve_bytes", "inputs": inputs})["outputs"]
    np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"], atol=1e-6)
    assert outputs["label"] == expected["label"].tolist()


def test_a_classifier_answers_rows_of_plain_json(server, client):
    x = np.random.default_rng(1).normal(size=[3, 4]).astype("float32")
    expected = client.predict("mine", x)
    predictions = post(server, "mine", {"instances": x.tolist()})["predictions"]
    assert [row["label"] for row in predictions] == expected["label"].tolist()
    np.testing.assert_allclose([row["probabilities"] for row in predictions], expected["probabilities"], atol=1e-6)


def test_the_examples_of_the_readme_are_answered(server, models, pictures_in_folders, monkeypatch):
    """Those of REST, and those of Python that read pictures."""
    folder, _ = models
    monkeypatch.chdir(pictures_in_folders)
    for model in ("characters", "points", "waves", "mine", "sides"):
        text = (folder / model / "README.md").read_text()
        for shell in re.findall(r"python -c '(.*?)' > request.json", text, re.DOTALL):
            done = subprocess.run([sys.executable, "-c", shell], capture_output=True, text=True, check=True)
            answer = post(server, model, json.loads(done.stdout))
            found = (
                answer["outputs"]["error"] if "outputs" in answer else [row["error"] for row in answer["predictions"]]
            )
            assert set(found) == {""}
    python = re.search(r"```python\n(.*?)```", (folder / "characters" / "README.md").read_text(), re.DOTALL).group(1)
    names = {}
    exec(python.replace("localhost:8500", server.grpc), names)
    assert names["answer"]["error"] == ""
    assert set(names["answer"]["label"]) <= {"alpha", "beta"}


def test_rows_of_one_input_may_be_encoded(server, png):
    """The real server takes `{"b64": ...}` for a value, and not for a row with an input of that name."""
    rows = [{"b64": base64.b64encode(one).decode()} for one in png(np.zeros([2, 8, 8], np.uint8))]
    predictions = post(server, "sides", {"signature_name": "serve_bytes", "instances": rows})["predictions"]
    assert [row["error"] for row in predictions] == ["", ""]


@pytest.mark.parametrize(("model", "signature", "status"), [("nobody", "serving_default", 404), ("mine", "no", 400)])
def test_what_rest_refuses_has_a_status_and_an_error(server, model, signature, status):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server, model, {"signature_name": signature, "instances": [[0.0] * 4]})
    assert caught.value.code == status
    assert json.load(caught.value)["error"]
