"""What adapting gives: an ordinary Keras model for the classes of one task."""

from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.learners.checks import check_examples, check_queries
from tf_metalearn.serving.served_model import ServedModel
from tf_metalearn.serving.service import ClassifierService


class TaskClassifier(ServedModel):
    """A classifier of one task's classes: `predict` returns probabilities `[examples, classes]`.

    It is compiled, and `evaluate(x, y)` takes labels of the kind that it was adapted to.

    Args:
        classes: The labels, in the order of the probabilities.
        name: Of the model.
        **kwargs: As `ServedModel` has them: whether pictures are of `ink`.
    """

    def __init__(self, classes: Sequence[Hashable] = (), name: str = "task_classifier", **kwargs: Any):
        # The network casts what goes into it; Keras would make double precision single on the way.
        super().__init__(name=name, autocast=False, **kwargs)
        self._classes = tuple(classes)
        self.built = True
        self.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)

    @property
    def classes(self) -> list[Hashable]:
        """The labels, in the order of the probabilities."""
        return list(self._classes)

    @property
    def network(self) -> keras.Model:
        """What examples go into."""
        raise NotImplementedError

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras's `predict`: `[examples, classes]` probabilities.

        Args:
            x: `[examples, ...]`, or a data set of them.
            *args: As Keras has them.
            **kwargs: As Keras has them.

        Raises:
            ValueError: If examples have another shape than those of the support set, or are not finite.
        """
        check_queries("x", x, self.network)
        return super().predict(x, *args, **kwargs)

    def classify(self, x: Any) -> list[Hashable | None]:
        """Returns each example's label, or None for "none of these", which only a learner with a threshold says.

        Args:
            x: `[examples, ...]`.

        Raises:
            ValueError: If examples have another shape than those of the support set, or are not finite.
        """
        return [self._classes[place] for place in self.predict(np.asarray(x), verbose=0).argmax(axis=-1)]

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Keras's `evaluate`.

        Args:
            x: `[examples, ...]`; or a data set of `(x, y)` where y are places in `classes`.
            y: `[examples]` labels.
            **kwargs: As Keras has them.

        Raises:
            ValueError: If examples have another shape than those of the support set or are not finite, or a label is
                not among `classes`.
        """
        check_queries("x", x, self.network)
        return super().evaluate(x, None if y is None else self._places(y), **kwargs)

    def _places(self, labels: Any) -> np.ndarray:
        listed = as_list(labels)
        if unknown := [label for label in listed if label not in self._classes]:
            raise ValueError(
                f"`y` must hold labels that the classifier knows: {', '.join(map(repr, self._classes))}. "
                f"Received: {unknown[0]!r}.\nAdapt to a support set that has this class, too."
            )
        return np.array([self._classes.index(label) for label in listed], np.int32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": [_encoded(label) for label in self._classes]}

    @staticmethod
    def classes_of(config: dict[str, Any]) -> tuple[Hashable, ...]:
        """The labels that `get_config` has put into a configuration."""
        return tuple(_decoded(label) for label in config["classes"])


@keras.saving.register_keras_serializable("tf_metalearn")
class AdaptedClassifier(TaskClassifier):
    """A base learner that was adapted to one task: `predict` returns probabilities `[examples, classes]`.

    Args:
        model: The base learner, with adapted weights.
        classes: The labels of its outputs; outputs beyond them are left out.
        name: Of the model.
        **kwargs: As `TaskClassifier` has them.
    """

    def __init__(
        self, model: keras.Model, classes: tuple[Any, ...] = (), name: str = "adapted_classifier", **kwargs: Any
    ):
        super().__init__(classes, name=name, **kwargs)
        self.model = model

    @property
    def network(self) -> keras.Model:
        return self.model

    def call(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """Returns `[examples, classes]` probabilities."""
        check_examples("x", x, self.network)
        return tf.nn.softmax(self._logits(x))

    def add_class(self, label: Hashable, x: Any) -> None:
        """Refuses: parameters that were adapted to some classes know no others.

        Args:
            label: A class.
            x: `[examples, ...]`.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"`add_class` needs a classifier of a metric learner. Received: {label!r} for an adapted base learner.\n"
            "Adapt anew to the examples of all classes: learner.adapt(x, y)."
        )

    def _logits(self, x: Any) -> tf.Tensor:
        return self.model(x, training=False)[..., : len(self.classes)]

    def served(self) -> ClassifierService:
        variables = [variable.value for variable in self.model.variables]
        return ClassifierService(
            self._logits, tuple(self.model.input_shape[1:]), self.classes, variables, in_python=self
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AdaptedClassifier":
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model, "classes": cls.classes_of(config)})


def as_list(labels: Any) -> list[Hashable]:
    """Labels of any kind as plain Python values, which a tensor's are not."""
    labels = labels.numpy() if tf.is_tensor(labels) else labels
    return labels.tolist() if isinstance(labels, np.ndarray) else list(labels)


def check_label(argument: str, label: Any, expected: str) -> None:
    """Refuses what cannot be the label of a class.

    Args:
        argument: Its name.
        label: A label.
        expected: What the argument must hold.

    Raises:
        ValueError: If it cannot be hashed, as lists cannot.
    """
    try:
        hash(label)
    except TypeError:
        raise ValueError(
            f"`{argument}` must hold {expected}: text, a number or a tuple. Received: {label!r:.200}.\n"
            "For one-hot rows take `y.argmax(-1)`; of a list make a tuple."
        ) from None


def class_numbers(labels: Any) -> tuple[list[Hashable], np.ndarray]:
    """Numbers the classes of a support set in the order in which they come.

    Args:
        labels: `[support]` of any hashable kind.

    Returns:
        The classes, and `[support]` int32.

    Raises:
        ValueError: If labels cannot be hashed, such as one-hot rows.

    >>> class_numbers(["cat", "dog", "cat"])
    (['cat', 'dog'], array([0, 1, 0], dtype=int32))
    """
    listed = as_list(labels)
    for label in listed:
        check_label("support_y", label, "one hashable label for each example")
    classes = list(dict.fromkeys(listed))
    places = {label: place for place, label in enumerate(classes)}
    return classes, np.array([places[label] for label in listed], np.int32)


def _encoded(label: Any) -> Any:
    """A label as JSON can hold it, which knows no tuples."""
    if isinstance(label, tuple | frozenset):
        return {type(label).__name__: [_encoded(part) for part in label]}
    if isinstance(label, np.generic):
        return label.item()
    if label is None or isinstance(label, str | int | float):
        return label
    raise ValueError(
        "`classes` must be text, numbers, None, or tuples and frozensets of these, to be saved. Received: "
        f"{label!r}, a {type(label).__name__}.\nAdapt to labels of such a kind."
    )


def _decoded(label: Any) -> Hashable:
    if isinstance(label, dict):
        [(kind, parts)] = label.items()
        return {"tuple": tuple, "frozenset": frozenset}[kind](_decoded(part) for part in parts)
    return label
