"""Writes the versions of a served model, whole or not at all, and the files that a server reads beside them."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from tf_metalearn.serving.load_check import Request
from tf_metalearn.serving.pictures import PictureFormat

#: Where the server looks for requests that it is to answer before it says that a model is ready.
WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
#: What the model in Python answered to those requests when it was exported.
EXPECTED = Path("assets.extra") / "expected.npz"
#: How encoded images are read, where a model takes any.
PICTURES = Path("assets.extra") / "pictures.json"
#: The first line of files that are written anew at each export.
MARK = "# Written by tf_metalearn at each export; remove this line to keep changes of your own."

#: `max_batch_size` counts tasks. Only requests of the same shapes are joined, so that no example is made up.
BATCHING = f"""{MARK}
# For tensorflow_model_server --enable_batching --batching_parameters_file=batching.config. Worth it where clients send
# single tasks of one shape: others wait in vain for company. Do not add pad_variable_length_inputs: it would make up
# support examples.
max_batch_size {{ value: 16 }}
batch_timeout_micros {{ value: 1000 }}
num_batch_threads {{ value: 2 }}
max_enqueued_batches {{ value: 100 }}
"""

COMPOSE = f"""{MARK}
# docker compose up: every model of this folder under TensorFlow Serving, gRPC on port 8500 and REST on 8501.
services:
  serving:
    image: tensorflow/serving:2.21.0
    command:
      - --model_config_file=/models/models.config
      - --model_config_file_poll_wait_seconds=60
    ports: ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    volumes: [".:/models:ro"]
"""


def check_version_folder(path: str | Path) -> Path:
    """Refuses a path that a server would not see, that has no folder for the server's files, or that is taken.

    Args:
        path: Of a version: `FOLDER/NAME/NUMBER`.

    Raises:
        ValueError: If it does not end in a name and a number in a folder, or is there already.
    """
    given, path = Path(path), Path(path).absolute()
    if not path.name.isdecimal() or str(int(path.name)) != path.name:
        first = (given if len(given.parts) > 1 else "served" / given) / "1"
        raise ValueError(
            f"`filepath` must be a version folder, which ends in a whole number. Received: '{path}'.\n"
            f"TensorFlow Serving passes over others. Try '{first}'."
        )
    # Files for the whole server are written beside the model: not into a folder that was not named.
    *folder, name, number = ("", *given.parts)
    if not any(folder) or folder[-1] == given.anchor or name == "..":
        name = name if name not in ("", "..", given.anchor) else "NAME"
        raise ValueError(
            "`filepath` must have a folder for all models, the model's name and a number. Received: "
            f"'{given}'.\nTry 'served/{name}/{number}'."
        )
    if path.exists():
        versions = [int(other.name) for other in path.parent.iterdir() if other.name.isdecimal()]
        raise ValueError(
            f"`filepath` must not be there yet. Received: '{path}', which is.\n"
            f"Export the next version: '{path.with_name(str(max(versions) + 1))}'."
        )
    return path


def write_version(
    path: Path,
    signatures: Mapping[str, Any],
    variables: Sequence[tf.Variable],
    requests: Sequence[Request],
    expected: Mapping[str, Any],
    form: PictureFormat | None = None,
) -> None:
    """Writes a SavedModel with warm-up requests, under another name, and renames it once it is whole.

    Args:
        path: Of the version, not there yet.
        signatures: Functions by name.
        variables: Whatever they read.
        requests: For warming up.
        expected: What the model in Python answers to them: arrays by the request's place and the output's name, such as
            "0/probabilities".
        form: Of encoded images; None if it takes none.
    """
    module = tf.Module()
    module.weights = list(variables)
    # A server passes over names that are no numbers.
    temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        tf.saved_model.save(module, str(temporary), signatures=dict(signatures))
        (temporary / WARM_UP).parent.mkdir()
        with tf.io.TFRecordWriter(str(temporary / WARM_UP)) as writer:
            for signature, inputs in requests:
                log = prediction_log_pb2.PredictLog(request=predict_request(path.parent.name, signature, inputs))
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
        np.savez_compressed(temporary / EXPECTED, **dict(expected))
        if form is not None:
            (temporary / PICTURES).write_text(json.dumps(form._asdict()) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            # Empty only if nothing came of a model's first version.
            path.parent.rmdir()


def predict_request(model: str, signature: str, inputs: Mapping[str, Any]) -> predict_pb2.PredictRequest:
    """What a client sends over gRPC.

    Args:
        model: Its name on the server.
        signature: Its name.
        inputs: Arrays by name.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def write_server_files(folder: Path) -> None:
    """Writes `models.config` for all models in a folder, `batching.config` and `compose.yaml`.

    Args:
        folder: With the models' folders in it. Files that do not begin with our mark are left alone.
    """
    write_if_ours(folder / "models.config", f"{MARK}\n{_models_config(folder)}")
    write_if_ours(folder / "batching.config", BATCHING)
    write_if_ours(folder / "compose.yaml", COMPOSE)


def write_if_ours(path: Path, text: str) -> None:
    """Writes a file anew, under another name first, unless someone has made it theirs.

    Args:
        path: The file.
        text: Has the mark in its first line.
    """
    if path.exists() and MARK.removeprefix("# ") not in path.read_text(encoding="utf-8").partition("\n")[0]:
        return
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _models_config(folder: Path) -> str:
    """The server's list of the models in a folder, at the place where compose.yaml puts it."""
    config = model_server_config_pb2.ModelServerConfig()
    for model in sorted(folder.iterdir()):
        if any((version / "saved_model.pb").exists() for version in model.glob("[0-9]*")):
            entry = config.model_config_list.config.add()
            entry.name, entry.base_path, entry.model_platform = model.name, f"/models/{model.name}", "tensorflow"
    return text_format.MessageToString(config)
