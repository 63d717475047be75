"""Stands in for TensorFlow Serving: answers gRPC and REST for all models below a folder, in a process of its own.

`python stand_in.py FOLDER` prints its ports as JSON once it answers. What it loads, and how, is TensorFlow's C++
runtime, as in the server; codes and messages of errors and the forms of JSON are those that the server documents.
"""

import base64
import concurrent.futures
import http.server
import importlib.util
import json
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc


class Refused(Exception):
    """A request that the server refuses.

    Args:
        code: Of gRPC.
        status: Of HTTP.
        message: In words.
    """

    def __init__(self, code, status, message):
        super().__init__(message)
        self.code, self.status = code, status


def load_check():
    """The package's file that loads exports, without the package, which would bring Keras in."""
    path = Path(__file__).parents[2] / "tf_metalearn" / "serving" / "load_check.py"
    spec = importlib.util.spec_from_file_location("load_check", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Models:
    """The newest version of each model below a folder.

    Args:
        folder: With a folder for each model.
    """

    def __init__(self, folder):
        self._loader = load_check()
        self._sessions = {}
        for model in folder.iterdir():
            if versions := [int(path.name) for path in model.glob("*/") if path.name.isdecimal()]:
                newest = max(versions)
                self._sessions[model.name] = newest, self._loader.ServingSession(model / str(newest))

    def session(self, name):
        if name not in self._sessions:
            message = f"Servable not found for request: Latest({name})"
            raise Refused(grpc.StatusCode.NOT_FOUND, 404, message)
        return self._sessions[name]

    def signature(self, name, signature):
        version, session = self.session(name)
        if signature not in session.signatures:
            message = f'Serving signature key "{signature}" not found.'
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, 400, message)
        return version, session, session.signatures[signature]

    def run(self, name, signature, inputs):
        version, session, specs = self.signature(name, signature)
        if set(inputs) != set(specs.inputs):
            message = f"input tensor alias not found in signature. Inputs expected: {sorted(specs.inputs)}"
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, 400, message)
        for part, value in inputs.items():
            expected = tf.as_dtype(specs.inputs[part].dtype)
            if tf.as_dtype(value.dtype if value.dtype != object else "string") != expected:
                message = f"input {part} must be {expected.name}"
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, 400, message)
        try:
            return version, session.run(signature, inputs)
        except RuntimeError as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, 400, str(error)) from error


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The service of gRPC."""

    def __init__(self, models):
        self._models = models

    def Predict(self, request, context):
        name, signature = request.model_spec.name, request.model_spec.signature_name or "serving_default"
        inputs = {part: tf.make_ndarray(value) for part, value in request.inputs.items()}
        try:
            version, outputs = self._models.run(name, signature, inputs)
        except Refused as error:
            context.abort(error.code, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = name, signature
        response.model_spec.version.value = version
        for output, value in outputs.items():
            response.outputs[output].CopyFrom(tf.make_tensor_proto(value))
        return response

    def GetModelMetadata(self, request, context):
        try:
            _, session = self._models.session(request.model_spec.name)
        except Refused as error:
            context.abort(error.code, str(error))
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in session.signatures.items():
            for part in ("inputs", "outputs"):
                for argument, spec in getattr(signature, part).items():
                    info = getattr(found.signature_def[name], part)[argument]
                    info.name, info.dtype = spec.tensor, spec.dtype
                    info.tensor_shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(found)
        return response


def handler(models):
    """A handler of REST requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self._answer(lambda: {"model_version_status": [self._status()]})

        def do_POST(self):
            self._answer(self._predict)

        def _model(self):
            return self.path.removeprefix("/v1/models/").partition(":")[0].partition("/")[0]

        def _status(self):
            version, _ = models.session(self._model())
            return {"version": str(version), "state": "AVAILABLE"}

        def _predict(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, signature = self._model(), body.get("signature_name", "serving_default")
            _, _, specs = models.signature(name, signature)
            rows = body.get("instances")
            values = body.get("inputs") if rows is None else rows
            first = values[0] if rows else values
            # An encoded value is a value, and not a row of named ones.
            if len(specs.inputs) == 1 and (not isinstance(first, dict) or set(first) == {"b64"}):
                [only] = specs.inputs
                values = {only: values}
            elif rows is not None:
                values = {part: [row[part] for row in rows] for part in rows[0]}
            inputs = {
                part: _array(value, specs.inputs[part].dtype) for part, value in values.items() if part in specs.inputs
            }
            _, outputs = models.run(name, signature, inputs)
            named = {output: _plain(value, output.endswith("_bytes")) for output, value in outputs.items()}
            if rows is None:
                return {"outputs": named if len(named) > 1 else next(iter(named.values()))}
            if len(named) == 1:
                return {"predictions": next(iter(named.values()))}
            return {"predictions": [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]}

        def _answer(self, function):
            try:
                status, answer = 200, function()
            except Refused as error:
                status, answer = error.status, {"error": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _array(value, dtype):
    """A value of JSON as an array; text and `{"b64": ...}` as bytes."""
    if tf.as_dtype(dtype) != tf.string:
        return np.array(value, tf.as_dtype(dtype).as_numpy_dtype)

    def leaves(part):
        if isinstance(part, list):
            return [leaves(each) for each in part]
        return base64.b64decode(part["b64"]) if isinstance(part, dict) else part.encode()

    return np.array(leaves(value), object)


def _plain(value, encoded):
    """An array as JSON has it."""
    if value.dtype != object:
        return value.tolist()

    def leaves(part):
        if isinstance(part, list):
            return [leaves(each) for each in part]
        return {"b64": base64.b64encode(part).decode()} if encoded else part.decode()

    return leaves(value.tolist())


def main(folder):
    models = Models(Path(folder))
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(models), server)
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(models))
    ports = {"grpc": server.add_insecure_port("127.0.0.1:0"), "rest": rest.server_port}
    server.start()
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    print(json.dumps(ports), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
