"""Checks an export as far as can be done without the server, before it is deployed."""

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from rich.console import Console
from rich.table import Table
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from tf_metalearn.serving import load_check
from tf_metalearn.serving.archive import EXPECTED, PICTURES, WARM_UP
from tf_metalearn.serving.pictures import PictureFormat

#: How far an export's answers may be from those of the model in Python.
TOLERANCE = 1e-5

#: Operations that need Python, or the compiler that the server switches off.
PYTHON_OPERATIONS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


AGAIN = "Export the model again."


class Check(NamedTuple):
    """One check of an export.

    Args:
        name: What was looked at.
        fine: Whether nothing is wrong.
        found: What was found, and of what is not fine the remedy in a second line.
        word: Of the result, in a table.

    >>> Check("files", True, "0.21 MB").fine
    True
    """

    name: str
    fine: bool
    found: str
    word: str = "ok"


def verify_export(path: str | Path) -> list[Check]:
    """Checks a version of an exported model; stops at the first check that fails.

    Args:
        path: The version's folder.

    Returns:
        The checks: the files are whole; no operation needs Python or XLA; the C++ runtime loads it as the server does,
        in a process without Python's TensorFlow; it answers its warm-up requests; the answers are those of the model in
        Python at the time of the export; how encoded images are read, where there are any; sizes are open; requests
        survive gRPC; the server's configuration lists it.

    >>> from tf_metalearn.rules import GradientDescent
    >>> from tf_metalearn.serving import export_rule
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checks = verify_export(export_rule(GradientDescent(0.1), f"{folder}/descent/1"))
    >>> all(check.fine for check in checks)
    True
    """
    checks = []
    for check in _checks(Path(path)):
        checks.append(check)
        if not check.fine:
            break
    return checks


def print_checks(checks: Sequence[Check], title: str) -> bool:
    """Prints checks as a table.

    Args:
        checks: What `verify_export` returned.
        title: Above them.

    Returns:
        Whether all are fine.
    """
    table = Table("check", "", "found", title=title)
    for check in checks:
        table.add_row(check.name, check.word if check.fine else "FAILED", check.found)
    Console(width=120).print(table)
    return all(check.fine for check in checks)


def _checks(path: Path) -> Iterator[Check]:
    if said := _no_version(path):
        yield Check("files", False, said)
        return
    parts = ("saved_model.pb", "variables/variables.index", str(WARM_UP))
    missing = [part for part in parts if not (path / part).exists()]
    if not any(path.glob("variables/variables.data-*")):
        missing.append("variables/variables.data-*, the values of the variables")
    wrong = f"The version is not whole; there is no {', no '.join(missing)}." if missing else ""
    yield _judged("files", wrong, AGAIN, f"{_size(path):.2f} MB")
    try:
        graph = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]
    except (DecodeError, IndexError) as error:
        yield _judged("operations", f"saved_model.pb cannot be read ({error or 'it is empty'}).", AGAIN)
        return
    wrong = " ".join(f"{each}." for each in sorted(set(_refused(graph))))
    remedy = (
        "The server has neither. Leave out jit_compile=True, tf.py_function and tf.numpy_function; export it again."
    )
    yield _judged("operations", wrong, remedy, "none needs Python or XLA")
    try:
        requests = warm_up_requests(path)
    except (tf.errors.OpError, DecodeError, ValueError) as error:
        why = load_check.plain(getattr(error, "message", None) or str(error))
        remedy = f"With it the server would not load the model. {AGAIN}"
        yield _judged("warm-up", f"{WARM_UP} cannot be read ({why}).", remedy)
        return
    try:
        signatures, answers = run_in_session(path, requests)
    except RuntimeError as error:
        yield _judged("load", f"TensorFlow cannot load it: {error}", f"A file is damaged or missing. {AGAIN}")
        return
    yield Check("load", True, f"signatures: {', '.join(sorted(signatures))}")
    failed = [
        f"record {place}, {requests[place][0]}: {found}"
        for place, (found, _) in enumerate(answers)
        if isinstance(found, str)
    ]
    times = [time for _, time in answers if time is not None]
    wrong = failed[0] if failed else "" if requests else "There are no requests."
    latency = f"{len(requests)} requests, median {1000 * statistics.median(times):.1f} ms" if times else ""
    yield _judged("warm-up", wrong, f"The server answers all of them before it is ready. {AGAIN}", latency)
    yield _compare(path, [found for found, _ in answers])
    if (path / PICTURES).exists():
        form = PictureFormat(**json.loads((path / PICTURES).read_text(encoding="utf-8")))
        yield Check("pictures", True, form.described())
    fixed = [
        f"`{argument}` of {name} has the shape {spec.shape}."
        for name, signature in signatures.items()
        for argument, spec in signature.inputs.items()
        if spec.shape is None or (spec.shape and spec.shape[0] is not None)
    ]
    remedy = "Export it with None as the first size of each input, for any number of tasks or examples."
    yield _judged("sizes", fixed[0] if fixed else "", remedy, "any number of tasks or examples")
    yield _over_grpc(path, requests, signatures, [found for found, _ in answers])
    yield _configured(path)


def _judged(name: str, wrong: str, remedy: str, found: str = "") -> Check:
    """A check with what is wrong and what to do about it; with what was found if nothing is."""
    return Check(name, not wrong, f"{wrong}\n{remedy}" if wrong else found)


def _no_version(path: Path) -> str:
    """Why a path cannot be a version, in words; empty if it can be one."""
    if not path.is_dir():
        return f"There is no folder '{path}'.\nCheck the path."
    if (path / "saved_model.pb").exists():
        return ""
    if not any(path.iterdir()):
        return f"'{path}' is an empty folder.\nRemove it, and export into it: tf-metalearn export MODEL {path} --verify"
    for depth, what in (("*", "the folder of a model"), ("*/*", "the folder of all models")):
        versions = [file.parent for file in path.glob(f"{depth}/saved_model.pb") if file.parent.name.isdecimal()]
        if versions:
            newest = max(versions, key=lambda version: (version.parent, int(version.name)))
            return f"'{path}' is {what}, and not of a version.\nTry '{newest}'."
    # What was half written has parts of an export.
    if any((path / part).exists() for part in ("variables", "assets.extra")):
        return ""
    return (
        f"'{path}' holds no exported model.\nGive the folder of a version, such as 'served/NAME/1', which "
        "`tf-metalearn export` writes."
    )


def warm_up_requests(path: Path) -> list[load_check.Request]:
    """Reads an export's warm-up requests.

    Args:
        path: The version's folder.

    Returns:
        Pairs of a signature's name and its inputs.

    Raises:
        tf.errors.OpError: If the file is damaged.
        ValueError: If a record is no request.
    """
    requests: list[load_check.Request] = []
    for record in tf.data.TFRecordDataset(str(path / WARM_UP)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        if not request.inputs:
            raise ValueError(f"record {len(requests)} holds no request to predict")
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        requests.append((request.model_spec.signature_name or "serving_default", inputs))
    return requests


def run_in_session(
    path: Path, requests: Sequence[load_check.Request]
) -> tuple[dict[str, load_check.Signature], list[tuple[Any, float | None]]]:
    """Runs requests in a process that has neither Python's TensorFlow nor Keras nor this package.

    Args:
        path: The version's folder.
        requests: Pairs of a signature's name and its inputs.

    Returns:
        The signatures; and for each request its outputs and seconds, or what went wrong and None.

    Raises:
        RuntimeError: In TensorFlow's words if the export cannot be loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "requests", Path(folder) / "answers"
        asked.write_bytes(pickle.dumps(list(requests)))
        command = [sys.executable, "-I", load_check.__file__, str(path), str(asked), str(answered)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"]
            raise RuntimeError(lines[-1])
        plain, answers = pickle.loads(answered.read_bytes())
    parts = ({n: load_check.TensorSpec(*spec) for n, spec in part.items()} for both in plain.values() for part in both)
    return {name: load_check.Signature(next(parts), next(parts)) for name in plain}, answers


def _refused(graph: Any) -> Iterator[str]:
    """What the server cannot run, in the graph and in its functions."""
    library = graph.graph_def.library.function
    for node in [*graph.graph_def.node, *(node for function in library for node in function.node_def)]:
        if node.op in PYTHON_OPERATIONS:
            yield f"{node.op} needs Python"
        if node.op.startswith("Xla"):
            yield f"{node.op} needs XLA"
    for part in [*graph.graph_def.node, *(node for function in library for node in function.node_def), *library]:
        if part.attr["_XlaMustCompile"].b:
            yield "jit_compile=True needs XLA"


def _compare(path: Path, answers: Sequence[Any]) -> Check:
    """Whether the answers to the warm-up requests are those of the model in Python."""
    name = "same as in Python"
    expected = {}
    if (path / EXPECTED).exists():
        with np.load(path / EXPECTED) as stored:
            expected = dict(stored)
    if not expected:
        return Check(name, True, "the export holds no answers of the model in Python", "not compared")
    worst, wrong = 0.0, ""
    for key, value in expected.items():
        place, _, output = key.partition("/")
        found = answers[int(place)].get(output) if int(place) < len(answers) else None
        if found is None:
            wrong = wrong or f"{key} is not among the answers."
        elif found.shape != value.shape:
            wrong = wrong or f"{key} has the shape {found.shape} instead of {value.shape}."
        elif (np.isnan(found) != np.isnan(value)).any():
            wrong = wrong or f"{key} is NaN in one of the two alone."
        else:
            worst = max(worst, float(np.max(np.abs(np.nan_to_num(found) - np.nan_to_num(value)), initial=0)))
    if not wrong and worst > TOLERANCE:
        wrong = f"The largest difference is {worst:.1e}."
    remedy = "Do not deploy it: it answers otherwise than the model. Export again with the TensorFlow that it runs on."
    return _judged(name, wrong, remedy, f"largest difference {worst:.1e}")


def _over_grpc(path: Path, requests: Sequence[Any], signatures: Any, answers: Sequence[Any]) -> Check:
    """Whether requests and answers survive the messages of gRPC with their names, dtypes and shapes."""
    for (signature, inputs), outputs in zip(requests, answers, strict=True):
        response = predict_pb2.PredictResponse()
        for output, value in outputs.items():
            response.outputs[output].CopyFrom(tf.make_tensor_proto(value))
        response = predict_pb2.PredictResponse.FromString(response.SerializeToString())
        for specs, tensors in (
            (signatures[signature].inputs, {part: tf.make_tensor_proto(value) for part, value in inputs.items()}),
            (signatures[signature].outputs, dict(response.outputs)),
        ):
            wrong = [part for part, spec in specs.items() if part not in tensors or not _fits(tensors[part], spec)]
            if wrong:
                found = f"{signature}: {wrong[0]} is of another dtype or shape, or missing."
                return _judged("gRPC", found, f"The server would refuse the request. {AGAIN}")
    return Check("gRPC", True, "names, dtypes and shapes are those of the signatures")


def _fits(tensor: Any, spec: load_check.TensorSpec) -> bool:
    """Whether a tensor of a message is of a signature's dtype and shape."""
    shape = tf.TensorShape(tensor.tensor_shape)
    return tensor.dtype == spec.dtype and tf.TensorShape(spec.shape).is_compatible_with(shape)


def _configured(path: Path) -> Check:
    """Whether the server's configuration lists the model."""
    name, folder = path.absolute().parent.name, path.absolute().parent.parent
    file = folder / "models.config"
    entry = f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}'
    anew = "remove the file; the next export writes it for all models of the folder"
    if not file.exists():
        found = f"There is no models.config in '{folder}', from which the server learns what to load."
        return _judged("configuration", found, "Export the model there, which writes it.")
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(file.read_text(encoding="utf-8"), config)
    except text_format.ParseError as error:
        found = f"The server cannot read '{file}', line {error.GetLine() or '?'}: {error}."
        return _judged("configuration", found, f"Mend that line, or {anew}.")
    names = [entry.name for entry in config.model_config_list.config]
    if name not in names:
        found = f"models.config lists {', '.join(names) or 'no model'}, and not {name}: the server would not load it."
        return _judged("configuration", found, f"Add {entry}, or {anew}.")
    return Check("configuration", True, f"models.config lists {', '.join(names)}")


def _size(path: Path) -> float:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
