"""Requests with which a server warms up, before it says that a model is ready."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_metalearn.serving.load_check import Request
from tf_metalearn.serving.pictures import PictureFormat
from tf_metalearn.serving.service import ClassifierService, Service

#: Tasks, examples of each class, and queries of the requests.
SHAPES = ((1, 1, 1), (1, 1, 15), (1, 5, 15), (4, 1, 15))

#: By how much answers may change when inputs change by a rounding, for an export to be compared by them.
STEADY = 5e-6

#: How many requests are drawn at most to find a steady one, and how often each is changed.
_DRAWS, _CHANGES = 10, 4


def learner_requests(signatures: Mapping[str, Any], service: Service, form: PictureFormat | None) -> list[Request]:
    """Requests for the signatures of a learner; of those that are given a state, which may be large, for one.

    Args:
        signatures: Functions by name.
        service: The learner.
        form: Of encoded images; None if there are none.
    """
    requests: list[Request] = []
    for name, function in signatures.items():
        if name == "predict_with":
            # What the signature before it returns.
            adapted = signatures["adapt"]
            inputs = task_inputs(adapted, service, form, *SHAPES[0])
            state = adapted(*inputs.values())
            state = {part: value.numpy() for part, value in state.items() if part != "error"}
            queries = task_inputs(function, service, form, *SHAPES[0])
            requests.append((name, {part: state.get(part, value) for part, value in queries.items()}))
        elif not name.startswith("predict_with"):
            shapes = SHAPES if name == "serving_default" else SHAPES[:1]
            drawn = _steady_inputs if name.startswith("serv") else task_inputs
            requests += [(name, drawn(function, service, form, *shape)) for shape in shapes]
    return requests


def _steady_inputs(
    function: Any, service: Service, form: PictureFormat | None, tasks: int, shots: int, queries: int
) -> dict[str, Any]:
    """Inputs of a signature whose answers do not hang on a rounding; the first drawn if there are none.

    At the bend of a ReLU a gradient jumps, and what was adapted by it. There the same model answers differently where
    sums are rounded in another order.
    """
    draws = (task_inputs(function, service, form, tasks, shots, queries, seed) for seed in range(_DRAWS))
    first = next(draws)
    return next((inputs for inputs in (first, *draws) if _is_steady(service, inputs, form)), first)


def _is_steady(service: Service, inputs: Mapping[str, Any], form: PictureFormat | None) -> bool:
    if service.in_python is None:
        return True
    random = np.random.default_rng(0)
    for support_x, support_y, query_x in zip(*(_decoded(part, form) for part in inputs.values()), strict=True):
        answer = service.in_python(support_x, support_y, query_x)
        for _ in range(_CHANGES):
            changed = support_x * (1 + 1e-7 * random.standard_normal(support_x.shape).astype(support_x.dtype))
            if np.abs(np.subtract(service.in_python(changed, support_y, query_x), answer)).max() > STEADY:
                return False
    return True


def classifier_requests(signatures: Mapping[str, Any], form: PictureFormat | None) -> list[Request]:
    """Requests for each signature of a classifier.

    Args:
        signatures: Functions by name.
        form: Of encoded images; None if there are none.
    """
    random = np.random.default_rng(0)
    requests: list[Request] = []
    for name, function in signatures.items():
        [spec] = function.input_signature
        for examples in (1, 8):
            shape = [examples, *(8 if size is None else size for size in spec.shape[1:])]
            x = encoded(random, shape, form) if spec.dtype == tf.string else random.random(shape).astype("float32")
            requests.append((name, {spec.name: x}))
    return requests


def expected_of_learner(
    service: Service, requests: Sequence[Request], form: PictureFormat | None
) -> dict[str, np.ndarray]:
    """What a learner in Python answers to requests to adapt and predict.

    Args:
        service: The learner.
        requests: To any of its signatures.
        form: Of encoded images; None if there are none.

    Returns:
        Arrays by the request's place and the output's name, such as "0/probabilities".
    """
    expected = {}
    output = "probabilities" if service.outputs is None else "outputs"
    for place, (signature, inputs) in enumerate(requests):
        if signature.startswith("serv") and service.in_python is not None:
            tasks = zip(*(_decoded(part, form) for part in inputs.values()), strict=True)
            answers = [service.in_python(*task) for task in tasks]
            expected[f"{place}/{output}"] = np.stack(answers)
    return expected


def expected_of_classifier(
    service: ClassifierService, requests: Sequence[Request], form: PictureFormat | None
) -> dict[str, np.ndarray]:
    """What a classifier in Python answers to requests; see `expected_of_learner`."""
    return {
        f"{place}/probabilities": np.asarray(service.in_python(*(_decoded(part, form) for part in inputs.values())))
        for place, (signature, inputs) in enumerate(requests)
        if signature.startswith("serv") and service.in_python is not None
    }


def _decoded(examples: Any, form: PictureFormat | None) -> Any:
    """Encoded images as numbers; all else as it is."""
    flat = examples.reshape(-1)
    if examples.dtype != object or not isinstance(flat[0], bytes):
        return examples
    pictures = [np.asarray(Image.open(io.BytesIO(picture)), "float32") / 255 for picture in flat]
    found = np.stack(pictures).reshape(*examples.shape, *pictures[0].shape[:2], -1)
    return 1 - found if form is not None and form.invert else found


def task_inputs(
    function: Any, service: Service, form: PictureFormat | None, tasks: int, shots: int, queries: int, seed: int = 0
) -> dict[str, Any]:
    """Inputs of one of a learner's signatures, at random.

    Args:
        function: The signature.
        service: The learner.
        form: Of encoded images; None if there are none.
        tasks: How many.
        shots: Support examples of each class, of which there are five or as many as the learner has.
        queries: Of each task.
        seed: Of the numbers.

    Returns:
        Arrays by name, in the order of the signature; those that stand for a task's state are empty.
    """
    random = np.random.default_rng(seed)
    ways = min(5, service.most_classes or 5)
    support = shots * ways
    numbers = np.tile(np.arange(ways), [tasks, shots])

    def values(spec: tf.TensorSpec) -> Any:
        name = spec.name
        rows = queries if name.startswith("query") else support
        if name in ("support_x", "query_x"):
            shape = [8 if size is None else size for size in spec.shape[2:]]
            return random.random([tasks, rows, *shape]).astype("float32")
        if name.endswith("_bytes"):
            return encoded(random, [tasks, rows], form)
        if name == "support_y" and service.outputs is None:
            return numbers if spec.dtype == tf.int64 else numbers.astype(str).astype(object)
        if name == "support_y":
            return random.random([tasks, rows, *spec.shape[2:]]).astype("float32")
        return None

    return {spec.name: values(spec) for spec in function.input_signature}


def encoded(random: np.random.Generator, shape: Sequence[int], form: PictureFormat | None) -> np.ndarray:
    """Encoded images of noise.

    Args:
        random: Their source.
        shape: Of the array.
        form: Their size.
    """
    assert form is not None
    pictures = np.empty(int(np.prod(shape)), object)
    for place in range(pictures.size):
        pixels = random.integers(0, 256, [form.height, form.width, form.channels], np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if form.channels == 1 else pixels).save(file, "PNG")
        pictures[place] = file.getvalue()
    return pictures.reshape(shape)
