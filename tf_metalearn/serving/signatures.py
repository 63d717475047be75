"""The signatures of a served learner: adapt and predict, or one after the other.

Many tasks come in one request, and a server that batches joins requests along that axis. So no task may see another,
and none may fail another: what is wrong with a task is said in its own `error`, and its probabilities are NaN.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_metalearn.serving.labels import NO_LABEL, is_label, number_labels
from tf_metalearn.serving.pictures import PictureFormat, decode_pictures
from tf_metalearn.serving.service import ClassifierService, Service

UNREADABLE = "`{}_bytes` must be PNG, JPEG, GIF or BMP images. Received: one that cannot be read."
DIVERGED = "`support_x` must be examples that can be learned from. Received: some on which adapting diverged."
NOT_FINITE = "`{}` must be examples whose prediction is finite. Received: some for which it is not."
STATE = "{} must be what `adapt` returned of a task without an error. Received: NaN, infinity or no classes."

#: Endings of the signatures' names, by the labels that they take.
LABELS = {"": tf.int64, "strings": tf.string}


def learner_signatures(service: Service, pictures: PictureFormat | None = None) -> dict[str, Any]:
    """All signatures of a learner.

    Args:
        service: The learner.
        pictures: What encoded images become; None for signatures of numbers alone.

    Returns:
        Functions of named tensors by the names under which they are served. With whole numbers as labels they are
        `serving_default`, `adapt` and `predict_with`; with `_strings` in their names labels are text, and with
        `_bytes` examples are encoded images.
    """
    service = _traced_once(service)
    if service.outputs is not None:
        return _regression_signatures(service)
    found = {}
    for form in (None, pictures) if pictures else (None,):
        for ending, dtype in LABELS.items():
            tasks, kinds = _Tasks(service, dtype, form), [*["bytes"][: form is not None], *filter(None, [ending])]
            found["_".join(["serve", *kinds]) if kinds else "serving_default"] = tasks.adapt_and_predict
            found["_".join(["adapt", *kinds])] = tasks.adapt
            found["_".join(["predict_with", *kinds])] = tasks.predict_with
    return found


class _Tasks:
    """The three signatures for one kind of labels and of examples.

    Args:
        service: The learner.
        labels: int64 or text.
        form: What encoded images become; None if examples are numbers.
    """

    def __init__(self, service: Service, labels: tf.DType, form: PictureFormat | None):
        self._service, self._labels, self._form = service, labels, form
        self._support = _examples("support", service.support_shape, form)
        self._query = _examples("query", service.query_shape, form)
        self._support_y = tf.TensorSpec([None, None], labels, "support_y")
        self.adapt = tf.function(self._adapt, input_signature=[self._support, self._support_y])
        self.adapt_and_predict = tf.function(
            self._adapt_and_predict, input_signature=[self._support, self._support_y, self._query]
        )
        state = _state_specs(self.adapt)
        self._names = [spec.name for spec in state]
        classes = tf.TensorSpec([None, None], labels, "classes")
        self.predict_with = tf.function(self._predict_with, input_signature=[*state, classes, self._query])

    def _adapt_and_predict(self, support, support_y, query):
        x, numbers, classes, conditions = self._support_sets(support, support_y)
        at_once, predict = self._service.at_once, self._service.predict
        if at_once is not None:
            found = self._predicted(
                lambda queries: at_once(x, numbers, tf.shape(classes)[1], queries), classes, query, conditions
            )
        else:
            state = self._adapted(x, numbers, classes, conditions)
            found = self._predicted(lambda queries: predict(state, queries), classes, query, conditions)
        return {**found, "classes": classes}

    def _adapt(self, support, support_y):
        x, numbers, classes, conditions = self._support_sets(support, support_y)
        state = self._adapted(x, numbers, classes, conditions)
        # The state of a task in error must not pass for one.
        state = {name: _where(conditions.met, value, _nothing(value)) for name, value in state.items()}
        return {**state, "classes": classes, "error": conditions.error()}

    def _predict_with(self, *inputs):
        *values, classes, query = inputs
        conditions = _Conditions()
        whole = _finite(*values) & tf.reduce_any(is_label(classes), axis=1)
        conditions.add(whole, _state_error([*self._names, "classes"]))
        state = dict(zip(self._names, values, strict=True))
        return self._predicted(lambda query_x: self._service.predict(state, query_x), classes, query, conditions)

    def _support_sets(self, support, support_y):
        """Examples, class numbers, classes and conditions of tasks; examples of those in error are zeros."""
        conditions = _Conditions()
        x = self._read(support, "support", conditions)
        count, labels = tf.shape(x)[1], tf.shape(support_y)[1]
        # Whatever came, the rest of the graph sees an example or more, and a label for each.
        x, wanted = _pad(x, tf.cast(count == 0, tf.int32)), tf.maximum(count, 1)
        y = _pad(support_y, tf.maximum(wanted - labels, 0), self._no_label)[:, :wanted]
        most, least = self._service.most_classes, 2 if self._service.threshold is None else 1
        found = number_labels(y, most)
        each = "`support_y` must have a label for each example. Received: {} labels and {} examples."
        kind = "whole numbers from 0 on" if self._labels == tf.int64 else "text that is not empty"

        def least_label():
            return tf.strings.as_string(tf.reduce_min(y, axis=1)) if self._labels == tf.int64 else "empty text"

        def named():
            return tf.strings.as_string(found.counts)

        conditions.add(count > 0, f"`{self._support.name}` must have an example of each class. Received: none.")
        conditions.add(count == labels, lambda: tf.strings.format(each, (labels, count)))
        conditions.add(tf.reduce_all(is_label(y), axis=1), _received(f"`support_y` must be {kind}.", least_label))
        conditions.add(found.counts >= least, _received(f"`support_y` must name {least} classes or more.", named))
        numbers = found.numbers
        if most is not None:
            conditions.add(found.counts <= most, _received(f"`support_y` must name at most {most} classes.", named))
            numbers = tf.minimum(numbers, most - 1)
        conditions.add(_finite(x), "`support_x` must be finite numbers. Received: NaN or infinity.")
        return _where(conditions.met, x, tf.zeros_like(x)), numbers, found.classes, conditions

    def _adapted(self, x, numbers, classes, conditions):
        """The states of tasks."""
        state = self._service.adapt(x, numbers, tf.shape(classes)[1])
        conditions.add(_finite(*state.values()), DIVERGED)
        return state

    def _predicted(self, logits_of, classes, query, conditions):
        """What is said of queries, whose logits a function computes."""
        x = self._read(query, "query", conditions)
        conditions.add(_finite(x), "`query_x` must be finite numbers. Received: NaN or infinity.")
        logits = logits_of(_where(conditions.met, x, tf.zeros_like(x)))[..., : tf.shape(classes)[1]]
        conditions.add(_finite(logits), NOT_FINITE.format(self._query.name))
        logits = tf.where(is_label(classes)[:, None], logits, logits.dtype.min)
        label = tf.gather(classes, tf.argmax(logits, axis=-1), batch_dims=1)
        if self._service.threshold is not None:
            label = tf.where(tf.reduce_max(logits, axis=-1) >= self._service.threshold, label, self._no_label)
        return {
            "probabilities": tf.where(conditions.met[:, None, None], _probabilities(logits), float("nan")),
            "label": tf.where(conditions.met[:, None], label, self._no_label),
            "error": conditions.error(),
        }

    @property
    def _no_label(self):
        return tf.constant(NO_LABEL[self._labels], self._labels)

    def _read(self, examples, part, conditions):
        """Examples as numbers."""
        if examples.dtype != tf.string or self._form is None:
            return examples
        pictures, readable = decode_pictures(examples, self._form)
        conditions.add(tf.reduce_all(readable, axis=1), UNREADABLE.format(part))
        return pictures


def classifier_signatures(service: ClassifierService, form: PictureFormat | None = None) -> dict[str, Any]:
    """All signatures of a classifier of one task.

    Args:
        service: The classifier. Labels that are all whole numbers from 0 on are served as such, others as text.
        form: What encoded images become; None for signatures of numbers alone.

    Returns:
        Functions of named tensors by the names under which they are served: `serving_default`, of encoded images
        `serve_bytes`, and `embed` where there is an embedding.
    """
    given: list[Any] = list(service.classes)
    numbers = all(isinstance(label, int | np.integer) and label >= 0 for label in given)
    classes = [int(label) if numbers else str(label) for label in given]
    labels = tf.constant(classes, tf.int64 if numbers else tf.string)

    def answer(x, conditions):
        conditions.add(_finite(x), "`x` must be finite numbers. Received: NaN or infinity.")
        logits = service.logits(_where(conditions.met, x, tf.zeros_like(x)))
        label = tf.gather(labels, tf.argmax(logits, axis=-1))
        nothing = tf.constant(NO_LABEL[labels.dtype], labels.dtype)
        if service.threshold is not None:
            label = tf.where(tf.reduce_max(logits, axis=-1) >= service.threshold, label, nothing)
        return {
            "probabilities": tf.where(conditions.met[:, None], _probabilities(logits), float("nan")),
            "label": tf.where(conditions.met, label, nothing),
            "classes": tf.tile(labels[None], [tf.shape(x)[0], 1]),
            "error": conditions.error(),
        }

    examples = tf.TensorSpec([None, *service.shape], tf.float32, "x")

    @tf.function(input_signature=[examples])
    def predict(x):
        return answer(x, _Conditions())

    found = {"serving_default": predict}
    if form is not None:

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
        def predict_pictures(encoded):
            pictures, readable = decode_pictures(encoded, form)
            conditions = _Conditions()
            conditions.add(readable, UNREADABLE.format("image"))
            return answer(pictures, conditions)

        found["serve_bytes"] = predict_pictures
    if service.embed is not None:
        embed = service.embed
        found["embed"] = tf.function(lambda x: {"embedding": embed(x)}, input_signature=[examples])
    return found


def _regression_signatures(service: Service) -> dict[str, Any]:
    """The same three signatures where values are predicted."""
    support, query = (_examples(part, shape, None) for part, shape in _shapes(service))
    support_y = tf.TensorSpec([None, None, service.outputs], tf.float32, "support_y")

    def adapted(x, y):
        conditions = _Conditions()
        count, values = tf.shape(x)[1], tf.shape(y)[1]
        each = "`support_y` must have values for each example. Received: {} and {} examples."
        conditions.add(count > 0, "`support_x` must have one example or more. Received: none.")
        conditions.add(count == values, lambda: tf.strings.format(each, (values, count)))
        conditions.add(_finite(x), "`support_x` must be finite numbers. Received: NaN or infinity.")
        conditions.add(_finite(y), "`support_y` must be finite numbers. Received: NaN or infinity.")
        # Whatever came, the rest of the graph sees an example or more, and values for each.
        least = tf.maximum(tf.minimum(count, values), 1)
        x, y = (_pad(part, tf.cast(tf.shape(part)[1] == 0, tf.int32)) for part in (x, y))
        x, y = (_where(conditions.met, part, tf.zeros_like(part))[:, :least] for part in (x, y))
        state = service.adapt(x, y, service.outputs)
        conditions.add(_finite(*state.values()), DIVERGED)
        return state, conditions

    def predicted(state, x, conditions):
        conditions.add(_finite(x), "`query_x` must be finite numbers. Received: NaN or infinity.")
        outputs = service.predict(state, _where(conditions.met, x, tf.zeros_like(x)))
        outputs = tf.cast(outputs, tf.float32)
        conditions.add(_finite(outputs), NOT_FINITE.format("query_x"))
        return {"outputs": _where(conditions.met, outputs, _nothing(outputs)), "error": conditions.error()}

    @tf.function(input_signature=[support, support_y])
    def adapt(x, y):
        state, conditions = adapted(x, y)
        found = {name: _where(conditions.met, value, _nothing(value)) for name, value in state.items()}
        return {**found, "error": conditions.error()}

    @tf.function(input_signature=[support, support_y, query])
    def adapt_and_predict(x, y, query_x):
        state, conditions = adapted(x, y)
        return predicted(state, query_x, conditions)

    specs = _state_specs(adapt)

    @tf.function(input_signature=[*specs, query])
    def predict_with(*inputs):
        *values, query_x = inputs
        conditions = _Conditions()
        conditions.add(_finite(*values), _state_error([spec.name for spec in specs]))
        return predicted({spec.name: value for spec, value in zip(specs, values, strict=True)}, query_x, conditions)

    return {"serving_default": adapt_and_predict, "adapt": adapt, "predict_with": predict_with}


def _traced_once(service: Service) -> Service:
    """A learner whose functions are one graph each, which all signatures share."""
    labels = tf.TensorSpec([None, None], tf.int32)
    if service.outputs is not None:
        labels = tf.TensorSpec([None, None, service.outputs], tf.float32)
    support, query = (_examples(part, shape, None) for part, shape in _shapes(service))
    adapt = tf.function(service.adapt, input_signature=[support, labels, tf.TensorSpec([], tf.int32)])
    state = {spec.name: spec for spec in _state_specs(adapt)}
    at_once = service.at_once
    if at_once is not None:
        at_once = tf.function(at_once, input_signature=[support, labels, tf.TensorSpec([], tf.int32), query])
    predict = tf.function(service.predict, input_signature=[state, query])
    return service._replace(adapt=adapt, predict=predict, at_once=at_once)


def _shapes(service: Service) -> list[tuple[str, tuple[int | None, ...]]]:
    return [("support", service.support_shape), ("query", service.query_shape)]


def _examples(part: str, shape: tuple[int | None, ...], form: PictureFormat | None) -> tf.TensorSpec:
    if form is not None and len(shape) == 3:
        return tf.TensorSpec([None, None], tf.string, f"{part}_bytes")
    return tf.TensorSpec([None, None, *shape], tf.float32, f"{part}_x")


def _state_specs(adapt: Any) -> list[tf.TensorSpec]:
    """What `adapt` returns of a task's state, as inputs of another function."""
    outputs = adapt.get_concrete_function().structured_outputs
    return [
        tf.TensorSpec([None, *value.shape[1:]], value.dtype, name)
        for name, value in outputs.items()
        if name not in ("classes", "error")
    ]


class _Conditions:
    """What tasks must meet, in the order in which it is said of those that do not. No text is made where all do."""

    def __init__(self) -> None:
        self._conditions: list[tuple[tf.Tensor, Any]] = []
        #: `[tasks]` whether each meets all of them.
        self.met: tf.Tensor = None

    def add(self, met: tf.Tensor, message: str | Callable[[], Any]) -> None:
        """Adds a condition.

        Args:
            met: `[tasks]` whether each task meets it, or one for all.
            message: What is said if not, or a function that says it.
        """
        self._conditions.append((met, message))
        self.met = met if self.met is None else self.met & met

    def error(self) -> tf.Tensor:
        """Returns `[tasks]` what is said of the first condition that a task does not meet, or empty text."""
        nothing = tf.fill(tf.shape(self.met), "")

        def said() -> tf.Tensor:
            error = nothing
            for met, message in reversed(self._conditions):
                error = tf.where(met, error, message() if callable(message) else message)
            return error

        return tf.cond(tf.reduce_all(self.met), lambda: nothing, said)


def _state_error(names: list[str]) -> str:
    return STATE.format(", ".join(f"`{name}`" for name in names))


def _received(must: str, what: Callable[[], Any]) -> Callable[[], tf.Tensor]:
    """`[tasks]`, once it is wanted: what an argument must be, and what it was instead."""
    return lambda: tf.strings.join([f"{must} Received: ", what(), "."])


def _finite(*values: tf.Tensor) -> tf.Tensor:
    """`[tasks]`: whether all values of a task are finite numbers.

    Args:
        *values: `[tasks, ...]`, at least one of them floating-point numbers; others are finite.
    """
    found = [value for value in values if value.dtype.is_floating]
    fine = [tf.reduce_all(tf.math.is_finite(value), axis=list(range(1, value.shape.rank))) for value in found]
    return functools.reduce(tf.logical_and, fine)


def _where(tasks: tf.Tensor, values: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Values of these tasks `[tasks]`, others of the rest; both of one shape, whose rows are copied whole."""
    return tf.raw_ops.Select(condition=tasks, x=values, y=others)


def _pad(values: tf.Tensor, count: tf.Tensor, nothing: Any = 0) -> tf.Tensor:
    """`[tasks, examples, ...]` with some more examples, which are nothing."""
    paddings = np.zeros([values.shape.rank, 2], np.int32)
    paddings[1, 1] = 1
    return tf.pad(values, count * paddings, constant_values=nothing)


def _probabilities(logits: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.nn.softmax(logits), tf.float32)


def _nothing(values: tf.Tensor) -> tf.Tensor:
    """NaN in the place of floating-point numbers; the same values otherwise."""
    return tf.fill(tf.shape(values), tf.constant(float("nan"), values.dtype)) if values.dtype.is_floating else values
