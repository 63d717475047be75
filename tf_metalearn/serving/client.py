"""Asks a TensorFlow Serving server to adapt and predict, over gRPC."""

from collections.abc import Mapping
from typing import Any, Self

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tf_metalearn.serving.archive import predict_request

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
        self.address, self.timeout = address, timeout
        # Support sets of images are larger than gRPC's 4 MB.
        sizes = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, options=sizes)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def adapt_and_predict(self, model: str, support_x: Any, support_y: Any, query_x: Any) -> dict[str, np.ndarray]:
        """Adapts to support sets and predicts queries, in one request.

        Args:
            model: Its name on the server.
            support_x: `[tasks, support, ...]` numbers, or `[tasks, support]` encoded images as `bytes`.
            support_y: `[tasks, support]` whole numbers from 0 on, or text.
            query_x: `[tasks, queries, ...]`, of the kind of `support_x`. For a single task leave out the first axis of
                all three.

        Returns:
            `probabilities` `[tasks, queries, classes]`, `label` `[tasks, queries]`, `classes` `[tasks, classes]` and
            `error` `[tasks]`, empty text where all is well.

        Raises:
            ServingError: If there is no answer.
        """
        y, ending, single = _labels(support_y)
        (support, x), (query, queries) = _examples("support", support_x, single), _examples("query", query_x, single)
        signature = _signature("serve", x.dtype == object, ending)
        return _answer(self.run(model, {support: x, "support_y": y, query: queries}, signature), single)

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
        support, x = _examples("support", support_x, single)
        return _answer(
            self.run(model, {support: x, "support_y": y}, _signature("adapt", x.dtype == object, ending)), single
        )

    def predict_with(self, model: str, state: Mapping[str, Any], query_x: Any) -> dict[str, np.ndarray]:
        """Predicts with what `adapt` returned.

        Args:
            model: Its name on the server.
            state: What `adapt` returned.
            query_x: As `adapt_and_predict` has it.
        """
        single, ending = np.ndim(state["error"]) == 0, ""
        query, x = _examples("query", query_x, single)
        inputs = {name: np.asarray(value)[None] if single else value for name, value in state.items()}
        del inputs["error"]
        # There are none in a regression.
        if "classes" in state:
            inputs["classes"], ending, _ = _labels(state["classes"])
        inputs[query] = x
        return _answer(self.run(model, inputs, _signature("predict_with", x.dtype == object, ending)), single)

    def predict(self, model: str, x: Any) -> dict[str, np.ndarray]:
        """Predicts with an exported classifier of one task.

        Args:
            model: Its name on the server.
            x: `[examples, ...]` numbers, or a list of encoded images.
        """
        array = _array(x)
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
            remedy = REMEDIES.get(error.code(), "The server's log says more.")
            raise ServingError(
                f"`{signature}` of {model!r} at {self.address} gave no answer: {error.code().name}, "
                f"{error.details()}.\n{remedy}"
            ) from error
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def close(self) -> None:
        """Ends the connection; a `with` block does so by itself."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _signature(verb: str, encoded: bool, ending: str) -> str:
    name = "_".join([verb, *["bytes"][: int(encoded)], *filter(None, [ending])])
    return "serving_default" if name == "serve" else name


def _labels(labels: Any) -> tuple[np.ndarray, str, bool]:
    """Labels with an axis of tasks, the ending of their signatures' names, and whether it is a single task's."""
    array = np.asarray(labels)
    if np.issubdtype(array.dtype, np.floating):
        array, ending = array.astype(np.float32), ""
        single = array.ndim == 2
    elif np.issubdtype(array.dtype, np.integer):
        array, ending, single = array.astype(np.int64), "", array.ndim == 1
    else:
        array, ending, single = array.astype(object), "strings", array.ndim == 1
    return (array[None] if single else array), ending, single


def _examples(part: str, x: Any, single: bool) -> tuple[str, np.ndarray]:
    """Examples with an axis of tasks, under the name that the signature has for them."""
    array = _array(x)
    return f"{part}_bytes" if array.dtype == object else f"{part}_x", array[None] if single else array


def _array(x: Any) -> np.ndarray:
    array = np.asarray(x, dtype=object if _holds_bytes(x) else None)
    return array if array.dtype == object else array.astype(np.float32)


def _holds_bytes(x: Any) -> bool:
    while isinstance(x, list | tuple | np.ndarray) and len(x):
        x = x[0]
    return isinstance(x, bytes)


def _answer(outputs: Mapping[str, np.ndarray], single: bool) -> dict[str, np.ndarray]:
    """Outputs with text as `str`, and without the axis of tasks for a single one."""
    answer = {}
    for name, value in outputs.items():
        if value.dtype == object:
            text = np.array([part.decode() for part in value.reshape(-1)], object)
            value = text.reshape(value.shape)
        answer[name] = value[0] if single else value
    return answer
