"""Asks a TensorFlow Serving server to adapt and predict, over gRPC."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

from tf_metalearn.serving.archive import predict_request
from tf_metalearn.serving.load_check import plain

REMEDIES = {
    grpc.StatusCode.UNAVAILABLE: "Start the server, or check the address; gRPC is on port 8500 unless told otherwise.",
    grpc.StatusCode.NOT_FOUND: "Check the model's name against the server's models.config.",
    grpc.StatusCode.FAILED_PRECONDITION: "The model's README lists its signatures.",
    grpc.StatusCode.INVALID_ARGUMENT: "The model's README lists the shapes and dtypes that it takes.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Give the client a longer timeout, or send fewer tasks at once.",
}


class ServingError(RuntimeError):
    """The server could not answer a request.

    >>> Client("localhost:1").run("characters", {})
    Traceback (most recent call last):
        ...
    tf_metalearn.serving.client.ServingError: `serving_default` of 'characters' at localhost:1 gave no answer: ...
    Start the server, or check the address; gRPC is on port 8500 unless told otherwise.
    """


class Client:
    """A client of TensorFlow Serving for the models that this library exports.

    What is wrong with one task does not raise: it stands in `error` of the answer, and the other tasks are answered.

    Args:
        address: Host and port of gRPC.
        timeout: Of a request, in seconds.

    Raises:
        ValueError: If the address is that of a web page.

    Here a server that gives everyone the same answer stands for TensorFlow Serving:

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from tensorflow_serving.apis import predict_pb2
    >>> class SameAnswer(prediction_service_pb2_grpc.PredictionServiceServicer):
    ...     def Predict(self, request, context):
    ...         answer = {"label": [["b"]], "probabilities": [[[0.25, 0.75]]], "classes": [["a", "b"]], "error": [""]}
    ...         tensors = {name: tf.make_tensor_proto(value) for name, value in answer.items()}
    ...         return predict_pb2.PredictResponse(outputs=tensors)
    >>> server = grpc.server(ThreadPoolExecutor(1))
    >>> prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(SameAnswer(), server)
    >>> address = f"localhost:{server.add_insecure_port('localhost:0')}"
    >>> server.start()

    A single task has no axis of tasks, neither in the request nor in the answer:

    >>> client = Client(address)
    >>> support_x, support_y, query_x = np.zeros([2, 28, 28, 1]), ["a", "b"], np.zeros([1, 28, 28, 1])
    >>> answer = client.adapt_and_predict("characters", support_x, support_y, query_x)
    >>> answer["label"].tolist(), answer["probabilities"].tolist()
    (['b'], [[0.25, 0.75]])
    >>> state = client.adapt("characters", support_x, support_y)
    >>> client.predict_with("characters", state, query_x)["label"].tolist()
    ['b']

    Classifiers, and signatures of other models:

    >>> client.predict("letters", query_x)["label"].tolist()
    [['b']]
    >>> sorted(client.run("anything", {"x": query_x}, signature="serving_default"))
    ['classes', 'error', 'label', 'probabilities']
    >>> client.close()
    >>> _ = server.stop(None)
    """

    def __init__(self, address: str = "localhost:8500", timeout: float = 10.0):
        if address.startswith(("http://", "https://")):
            host = address.partition("://")[2].partition("/")[0].partition(":")[0]
            raise ValueError(
                f"`address` must be the host and port of gRPC. Received: {address!r}, an address of REST.\n"
                f"Try '{host}:8500', the port that the server has for gRPC unless told otherwise."
            )
        self.address, self.timeout = address, timeout
        # Support sets of images are larger than gRPC's 4 MB.
        sizes = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, options=sizes)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def adapt_and_predict(self, model: str, support_x: Any, support_y: Any, query_x: Any) -> dict[str, np.ndarray]:
        """Adapts to support sets and predicts queries, in one request.

        Args:
            model: Its name on the server.
            support_x: `[tasks, support, ...]` numbers as the learner takes them, of pictures from 0 to 1; or
                `[tasks, support]` encoded images, as `bytes` or as paths of files, which are read.
            support_y: `[tasks, support]` whole numbers from 0 on, or text.
            query_x: `[tasks, queries, ...]`, of the kind of `support_x`. For a single task leave out the first axis of
                all three.

        Returns:
            `probabilities` `[tasks, queries, classes]`, `label` `[tasks, queries]`, `classes` `[tasks, classes]` and
            `error` `[tasks]`, empty text where all is well.

        Raises:
            ServingError: If there is no answer.
            ValueError: If arguments do not fit each other.
        """
        y, ending, single = _labels(support_y)
        x, queries = _examples("support_x", support_x, single), _examples("query_x", query_x, single)
        _check_support(x, y, single)
        _check_queries(x, queries)
        inputs = {_name("support", x): x, "support_y": y, _name("query", queries): queries}
        return _answer(self.run(model, inputs, _signature("serve", (x, queries), ending)), single)

    def adapt(self, model: str, support_x: Any, support_y: Any) -> dict[str, np.ndarray]:
        """Adapts to support sets, and returns all that is known of them, for `predict_with`; the server keeps nothing.

        Args:
            model: Its name on the server.
            support_x: As `adapt_and_predict` has it.
            support_y: As `adapt_and_predict` has it.

        Returns:
            The state, `classes` and `error`.
        """
        y, ending, single = _labels(support_y)
        x = _examples("support_x", support_x, single)
        _check_support(x, y, single)
        inputs = {_name("support", x): x, "support_y": y}
        return _answer(self.run(model, inputs, _signature("adapt", (x,), ending)), single)

    def predict_with(self, model: str, state: Mapping[str, Any], query_x: Any) -> dict[str, np.ndarray]:
        """Predicts with what `adapt` returned.

        Args:
            model: Its name on the server.
            state: What `adapt` returned.
            query_x: As `adapt_and_predict` has it.
        """
        single, ending = np.ndim(state["error"]) == 0, ""
        x = _examples("query_x", query_x, single)
        inputs = {name: np.asarray(value)[None] if single else value for name, value in state.items()}
        del inputs["error"]
        # There are none in a regression.
        if "classes" in state:
            inputs["classes"], ending, _ = _labels(state["classes"])
        inputs[_name("query", x)] = x
        return _answer(self.run(model, inputs, _signature("predict_with", (x,), ending)), single)

    def predict(self, model: str, x: Any) -> dict[str, np.ndarray]:
        """Predicts with an exported classifier of one task.

        Args:
            model: Its name on the server.
            x: `[examples, ...]` numbers, or a list of encoded images, as `bytes` or as paths of files.
        """
        array = _array("x", x)
        if array.dtype == object:
            return _answer(self.run(model, {"image_bytes": array}, "serve_bytes"), False)
        return _answer(self.run(model, {"x": array}), False)

    def run(self, model: str, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Runs any signature of any model.

        Args:
            model: Its name on the server.
            inputs: Arrays by name.
            signature: Its name.

        Returns:
            Arrays by name.

        Raises:
            ServingError: If there is no answer.
        """
        request = predict_request(model, signature, inputs)
        try:
            response = self._service.Predict(request, self.timeout)
        except grpc.RpcError as error:
            remedy = self._remedy(error.code(), model, signature, inputs)
            raise ServingError(
                f"`{signature}` of {model!r} at {self.address} gave no answer: {error.code().name}, "
                f"{plain(error.details())}.\n{remedy}"
            ) from error
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _remedy(self, code: Any, model: str, signature: str, inputs: Mapping[str, Any]) -> str:
        """What to do about a code of gRPC; of inputs that do not fit, with what the server says that it takes."""
        remedy = REMEDIES.get(code, "The server's log says more.")
        if code == grpc.StatusCode.FAILED_PRECONDITION:
            names = ", ".join(sorted(self._signatures(model)))
            return f"There are: {names}. {remedy}" if names else remedy
        if code != grpc.StatusCode.INVALID_ARGUMENT or signature not in (found := self._signatures(model)):
            return remedy
        taken = found[signature].inputs
        if set(taken) != set(inputs):
            named = [", ".join(f"`{name}`" for name in sorted(names)) for names in (taken, inputs)]
            return f"It takes {named[0]}. Received: {named[1]}.\n{remedy}"
        wrong = []
        for name, info in taken.items():
            shape, dtype = tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype)
            received = tf.make_tensor_proto(inputs[name])
            sizes = tf.TensorShape(received.tensor_shape)
            if received.dtype != info.dtype or not shape.is_compatible_with(sizes):
                wanted = str([size or "any" for size in shape.as_list()]).replace("'", "")
                wrong.append(
                    f"`{name}` must be {dtype.name} {wanted}. "
                    f"Received: {tf.as_dtype(received.dtype).name} {sizes.as_list()}."
                )
        return "\n".join([*wrong, remedy])

    def _signatures(self, model: str) -> Mapping[str, Any]:
        """What the server says that a model takes, by the names of signatures; nothing if it does not say."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        found = get_model_metadata_pb2.SignatureDefMap()
        with contextlib.suppress(grpc.RpcError):
            self._service.GetModelMetadata(request, self.timeout).metadata["signature_def"].Unpack(found)
        return {name: value for name, value in found.signature_def.items() if not name.startswith("__saved_model")}

    def close(self) -> None:
        """Ends the connection; a `with` block does so by itself."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _signature(verb: str, examples: Sequence[np.ndarray], ending: str) -> str:
    encoded = any(part.dtype == object for part in examples)
    name = "_".join([verb, *["bytes"][: int(encoded)], *filter(None, [ending])])
    return "serving_default" if name == "serve" else name


def _name(part: str, examples: np.ndarray) -> str:
    """What the signature calls examples."""
    return f"{part}_bytes" if examples.dtype == object else f"{part}_x"


def _labels(labels: Any) -> tuple[np.ndarray, str, bool]:
    """Labels with an axis of tasks, the ending of their signatures' names, and whether it is a single task's."""
    array = _as_one("support_y", labels)
    if np.issubdtype(array.dtype, np.floating):
        array, ending, single = array.astype(np.float32), "", array.ndim == 2
        axes, kinds = 3, "values, [tasks, support, outputs] in a regression, or be whole numbers or text"
    else:
        numbers = np.issubdtype(array.dtype, np.integer)
        array, ending = (array.astype(np.int64), "") if numbers else (array.astype(object), "strings")
        single, axes, kinds = array.ndim == 1, 2, "labels, [tasks, support]"
    if array.ndim + single != axes:
        raise ValueError(
            f"`support_y` must hold {kinds}; without the first axis for a single task. Received: {array.dtype} of "
            f"shape {list(array.shape)}.\nGive each example a label."
        )
    return (array[None] if single else array), ending, single


def _examples(argument: str, x: Any, single: bool) -> np.ndarray:
    """Examples with an axis of tasks."""
    array = _array(argument, x)
    array = array[None] if single else array
    if array.ndim < 2 or (array.dtype == object and array.ndim > 2):
        axes = "[examples" if single else "[tasks, examples"
        raise ValueError(
            f"`{argument}` must be {axes}, ...] numbers or {axes}] encoded images, as `support_y` is of "
            f"{'a single task' if single else 'many tasks'}. Received: shape {list(np.shape(array)[int(single) :])}.\n"
            "Leave out the axis of tasks of support and query set and labels alike, or of none."
        )
    return array


def _check_support(x: np.ndarray, y: np.ndarray, single: bool) -> None:
    """Refuses support sets that do not have a label for each example."""
    if x.shape[:2] == y.shape[:2]:
        return
    axes = int(single)
    raise ValueError(
        "`support_y` must have a label for each example of `support_x`. Received: labels of shape "
        f"{list(y.shape[axes:])} and examples of shape {list(x.shape[axes:])}.\n"
        "Give as many labels as examples; the first axis of both is the task, or of neither for a single task."
    )


def _check_queries(support: np.ndarray, query: np.ndarray) -> None:
    """Refuses queries of other tasks than the support sets, or of another kind."""
    if len(support) != len(query):
        raise ValueError(
            "`query_x` must have queries for each task. Received: support sets of "
            f"{len(support)} tasks and queries of {len(query)}.\nGive both the same tasks, in the same order."
        )
    kinds = ["encoded images" if part.dtype == object else "numbers" for part in (support, query)]
    # Metadata of classes, which are vectors, may stand beside encoded queries.
    if kinds[0] != kinds[1] and not (support.dtype != object and support.ndim == 3):
        raise ValueError(
            f"`query_x` must be of the kind of `support_x`. Received: {kinds[1]} for {kinds[0]}.\n"
            "Give both as encoded images, or both as numbers."
        )


def _array(argument: str, x: Any) -> np.ndarray:
    """Encoded images as an array of objects, numbers as float32."""
    first = x
    while isinstance(first, list | tuple | np.ndarray) and len(first):
        first = first[0]
    if isinstance(first, bytes | str | Path):
        array = np.asarray(_read(x), object)
        if not all(isinstance(part, bytes) for part in array.reshape(-1)):
            raise ValueError(_unequal(argument))
        return array
    array = _as_one(argument, x)
    if array.dtype == np.uint8 and array.max(initial=0) > 1:
        raise ValueError(
            f"`{argument}` must be numbers as the learner takes them, of pictures from 0 to 1. Received: whole numbers "
            f"up to {array.max()}.\n"
            "Divide by 255 (and subtract from 1 where ink is to be 1); or send the files, of which the server does so."
        )
    return array.astype(np.float32)


def _read(x: Any) -> Any:
    """Paths as what is in the files; all else as it is."""
    if isinstance(x, list | tuple | np.ndarray):
        return [_read(part) for part in x]
    return Path(x).read_bytes() if isinstance(x, str | Path) else x


def _as_one(argument: str, x: Any) -> np.ndarray:
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ValueError(_unequal(argument)) from error


def _unequal(argument: str) -> str:
    return (
        f"`{argument}` must have as many examples in each task, of one shape. Received: some of unequal lengths.\n"
        "Ask for tasks of another size in a request of their own."
    )


def _answer(outputs: Mapping[str, np.ndarray], single: bool) -> dict[str, np.ndarray]:
    """Outputs with text as `str`, and without the axis of tasks for a single one."""
    answer = {}
    for name, value in outputs.items():
        if value.dtype == object:
            text = np.array([part.decode() for part in value.reshape(-1)], object)
            value = text.reshape(value.shape)
        answer[name] = value[0] if single else value
    return answer
