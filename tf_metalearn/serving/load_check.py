"""Loads a SavedModel as TensorFlow Serving does: through TensorFlow's C interface, without Python's TensorFlow.

Run in a process of its own, `python -I load_check.py EXPORT REQUESTS ANSWERS`, this file imports neither TensorFlow nor
Keras nor the rest of this package: whatever an export needs of them is missed here, and not first in the server.
"""

import ctypes
import importlib.util
import pickle
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

#: A signature's name, and arrays by the names of its inputs.
Request = tuple[str, Mapping[str, Any]]

#: TensorFlow's numbers of dtypes.
STRING = 7
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_, 19: np.float16}
#: Bytes of TensorFlow's string object.
STRING_SIZE = 24


class TensorSpec(NamedTuple):
    """A tensor of a signature.

    Args:
        tensor: Its name in the graph, such as "serving_default_x:0".
        dtype: TensorFlow's number.
        shape: None where any size will do.
    """

    tensor: str
    dtype: int
    shape: tuple[int | None, ...] | None


class Signature(NamedTuple):
    """What a SavedModel takes and returns under one name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocate", ctypes.c_void_p)]


class ServingSession:
    """A SavedModel in a session of the C++ runtime, with XLA switched off, as the server has it by default.

    Threads may run it side by side.

    Args:
        path: The folder of a version, with `saved_model.pb` in it.
        threads: For work inside an operation and for operations side by side; TensorFlow's choice when None.

    Raises:
        RuntimeError: With TensorFlow's own words if it cannot be loaded.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        self._library = _library()
        # The server does so unless a flag says otherwise. It holds for the whole process.
        self._library._ZN10tensorflow21DisableXlaCompilationEv()
        self._graph = self._library.TF_NewGraph()
        options, meta_graph = self._library.TF_NewSessionOptions(), self._library.TF_NewBuffer()
        if threads is not None:
            # ConfigProto: intra_op_parallelism_threads is field 2, inter_op_parallelism_threads field 5.
            config = bytes([0x10, threads, 0x28, threads])
            with self._status() as status:
                self._library.TF_SetConfig(options, config, len(config), status)
        tags = (ctypes.c_char_p * 1)(b"serve")
        with self._status() as status:
            self._session = self._library.TF_LoadSessionFromSavedModel(
                options, None, str(path).encode(), tags, 1, self._graph, meta_graph, status
            )
        buffer = ctypes.cast(meta_graph, ctypes.POINTER(_Buffer)).contents
        self.signatures = signatures_of(ctypes.string_at(buffer.data, buffer.length))
        self._operations: dict[str, _Output] = {}

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: Its name.
            inputs: Arrays by name; text as arrays of `bytes` objects.

        Returns:
            Arrays by name.

        Raises:
            RuntimeError: With TensorFlow's own words if it fails.
            ValueError: If there is no such signature, or inputs have other names than its.
        """
        if signature not in self.signatures:
            raise ValueError(f"No signature {signature!r}. There are: {', '.join(sorted(self.signatures))}.")
        specs = self.signatures[signature]
        if set(inputs) != set(specs.inputs):
            raise ValueError(f"{signature!r} takes {sorted(specs.inputs)}. Received: {sorted(inputs)}.")
        fed = (_Output * len(inputs))(*(self._output(specs.inputs[name].tensor) for name in inputs))
        values = (ctypes.c_void_p * len(inputs))(
            *(self._tensor(value, specs.inputs[name]) for name, value in inputs.items())
        )
        fetched = (_Output * len(specs.outputs))(*(self._output(spec.tensor) for spec in specs.outputs.values()))
        results = (ctypes.c_void_p * len(specs.outputs))()
        try:
            with self._status() as status:
                self._library.TF_SessionRun(
                    *(self._session, None, fed, values, len(inputs)),
                    *(fetched, results, len(specs.outputs), None, 0, None, status),
                )
        finally:
            for value in values:
                self._library.TF_DeleteTensor(value)
        return {name: self._array(result) for name, result in zip(specs.outputs, results, strict=True)}

    def _status(self) -> "_Status":
        return _Status(self._library)

    def _output(self, tensor: str) -> _Output:
        if tensor not in self._operations:
            name, _, index = tensor.partition(":")
            operation = self._library.TF_GraphOperationByName(self._graph, name.encode())
            if not operation:
                raise RuntimeError(f"The graph has no operation {name!r}, which a signature names.")
            self._operations[tensor] = _Output(operation, int(index or 0))
        return self._operations[tensor]

    def _tensor(self, value: Any, spec: TensorSpec) -> int:
        """A TensorFlow tensor with an array's values."""
        array = np.asarray(value, object) if spec.dtype == STRING else np.ascontiguousarray(value, DTYPES[spec.dtype])
        dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
        size = array.size * (STRING_SIZE if spec.dtype == STRING else array.itemsize)
        tensor = self._library.TF_AllocateTensor(spec.dtype, dimensions, array.ndim, size)
        data = self._library.TF_TensorData(tensor)
        if spec.dtype != STRING:
            ctypes.memmove(data, array.ctypes.data, size)
            return tensor
        for place, text in enumerate(array.reshape(-1)):
            where = data + place * STRING_SIZE
            self._library.TF_StringInit(where)
            self._library.TF_StringCopy(where, text, len(text))
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        """The values of a TensorFlow tensor, which is freed."""
        try:
            dtype = self._library.TF_TensorType(tensor)
            shape = [self._library.TF_Dim(tensor, axis) for axis in range(self._library.TF_NumDims(tensor))]
            data, count = self._library.TF_TensorData(tensor), int(np.prod(shape, dtype=np.int64))
            if dtype == STRING:
                array = np.empty(count, object)
                array[:] = [self._text(data + place * STRING_SIZE) for place in range(count)]
                return array.reshape(shape)
            size = self._library.TF_TensorByteSize(tensor)
            return np.frombuffer(ctypes.string_at(data, size), DTYPES[dtype]).reshape(shape)
        finally:
            self._library.TF_DeleteTensor(tensor)

    def _text(self, where: int) -> bytes:
        size = self._library.TF_StringGetSize(where)
        return ctypes.string_at(self._library.TF_StringGetDataPointer(where), size)


class _Status:
    """A TF_Status, whose error is raised at the end of the block."""

    def __init__(self, library: Any):
        self._library, self._status = library, library.TF_NewStatus()

    def __enter__(self) -> int:
        return self._status

    def __exit__(self, *error: Any) -> None:
        code, message = self._library.TF_GetCode(self._status), self._library.TF_Message(self._status)
        self._library.TF_DeleteStatus(self._status)
        if code and error[0] is None:
            raise RuntimeError(plain(message.decode(errors="replace")))


def plain(message: str) -> str:
    """A message of TensorFlow without the names of the graph's nodes.

    >>> plain("Incompatible shapes: [2] vs. [3]\\n\\t [[{{node add}}]]")
    'Incompatible shapes: [2] vs. [3]'
    """
    return re.sub(r"\s*\[\[\{\{.*?\]\]|\{\{function_node .*?\}\}\s*", "", message).strip()


def _library() -> Any:
    """TensorFlow's shared library out of its package, which is not imported."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("TensorFlow's package, which holds the C++ runtime, is not installed.")
    library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / "libtensorflow_cc.so.2"))
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    for name, result, arguments in (
        ("TF_NewStatus", pointer, []),
        ("TF_DeleteStatus", None, [pointer]),
        ("TF_GetCode", ctypes.c_int, [pointer]),
        ("TF_Message", text, [pointer]),
        ("TF_NewGraph", pointer, []),
        ("TF_NewBuffer", pointer, []),
        ("TF_NewSessionOptions", pointer, []),
        ("TF_SetConfig", None, [pointer, text, size, pointer]),
        (
            "TF_LoadSessionFromSavedModel",
            pointer,
            [pointer, pointer, text, pointer, ctypes.c_int, pointer, pointer, pointer],
        ),
        (
            "TF_SessionRun",
            None,
            [*(pointer,) * 4, ctypes.c_int, *(pointer,) * 2, ctypes.c_int, pointer, ctypes.c_int, *(pointer,) * 2],
        ),
        ("TF_GraphOperationByName", pointer, [pointer, text]),
        ("TF_AllocateTensor", pointer, [ctypes.c_int, pointer, ctypes.c_int, size]),
        ("TF_DeleteTensor", None, [pointer]),
        ("TF_TensorData", pointer, [pointer]),
        ("TF_TensorType", ctypes.c_int, [pointer]),
        ("TF_TensorByteSize", size, [pointer]),
        ("TF_NumDims", ctypes.c_int, [pointer]),
        ("TF_Dim", ctypes.c_int64, [pointer, ctypes.c_int]),
        ("TF_StringInit", None, [pointer]),
        ("TF_StringCopy", None, [pointer, text, size]),
        ("TF_StringGetSize", size, [pointer]),
        ("TF_StringGetDataPointer", pointer, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


# The few parts of a MetaGraphDef that hold its signatures, read from its bytes: TensorFlow's classes for them come with
# TensorFlow itself.


def signatures_of(meta_graph: bytes) -> dict[str, Signature]:
    """Reads the signatures of a MetaGraphDef.

    Args:
        meta_graph: The message, as bytes.
    """
    found = {}
    for number, value in _fields(meta_graph):
        if number == 5:
            name, signature = _entry(value)
            parts: dict[int, dict[str, TensorSpec]] = {1: {}, 2: {}}
            for part, entry in _fields(signature):
                if part in parts:
                    argument, info = _entry(entry)
                    parts[part][argument] = _tensor_spec(info)
            # The loader's own, which runs restoring operations, has outputs without a tensor's dtype.
            if not name.startswith("__saved_model"):
                found[name] = Signature(parts[1], parts[2])
    return found


def _entry(value: bytes) -> tuple[str, bytes]:
    """A key and a value of a map."""
    parts = dict(_fields(value))
    return parts.get(1, b"").decode(), parts.get(2, b"")


def _tensor_spec(info: bytes) -> TensorSpec:
    parts = dict(_fields(info))
    dimensions: list[int | None] = []
    for number, value in _fields(parts.get(3, b"")):
        if number == 3 and value:
            return TensorSpec(parts[1].decode(), parts.get(2, 0), None)
        if number == 2:
            size = dict(_fields(value)).get(1, 0)
            dimensions.append(None if size >= 1 << 63 else size)
    return TensorSpec(parts[1].decode(), parts.get(2, 0), tuple(dimensions))


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The numbers and values of a message's fields, in order."""
    place = 0

    def varint() -> int:
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(message):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
        else:
            size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
            yield number, message[place : place + size]
            place += size


def answer(export: str, requests: str, answers: str) -> None:
    """Runs requests, and writes signatures, answers and times.

    Args:
        export: The folder of a version.
        requests: A file of pickled pairs of a signature's name and its inputs.
        answers: The file to write.
    """
    session = ServingSession(export)
    answered: list[tuple[Any, float | None]] = []
    for signature, inputs in pickle.loads(Path(requests).read_bytes()):
        try:
            outputs = session.run(signature, inputs)
            began = time.perf_counter()
            session.run(signature, inputs)
            answered.append((outputs, time.perf_counter() - began))
        except (RuntimeError, TypeError, ValueError) as error:
            answered.append((str(error), None))
    # As plain tuples: whoever reads this knows these classes under another name.
    signatures = {
        name: tuple({argument: tuple(spec) for argument, spec in part.items()} for part in signature)
        for name, signature in session.signatures.items()
    }
    Path(answers).write_bytes(pickle.dumps((signatures, answered)))


if __name__ == "__main__":
    try:
        answer(*sys.argv[1:])
    except RuntimeError as error:
        # One line, which is what the caller reads.
        sys.exit(" ".join(str(error).split()))
