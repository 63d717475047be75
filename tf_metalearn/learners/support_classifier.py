"""What adapting a metric learner gives: a classifier that keeps its support set, embedded, and takes more classes."""

from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.learners.checks import as_array, check_examples, check_queries
from tf_metalearn.learners.networks import policy_of
from tf_metalearn.learners.task_classifier import TaskClassifier, check_label
from tf_metalearn.serving.service import ClassifierService

#: Examples that are embedded at once.
_BATCH = 256


@keras.saving.register_keras_serializable("tf_metalearn")
class SupportClassifier(TaskClassifier):
    """A classifier of one task's classes: `predict` returns probabilities `[examples, classes]`.

    Args:
        learner: The metric learner whose embedding and comparison it uses.
        classes: Labels; they come with their examples, by `add_class` or from a saved file.
        name: Of the model.
        **kwargs: As `TaskClassifier` has them.
    """

    def __init__(
        self,
        learner: Any,
        classes: tuple[Hashable, ...] = (),
        name: str = "support_classifier",
        **kwargs: Any,
    ):
        super().__init__(classes, name=name, **kwargs)
        self.learner = learner
        network = learner.support_network
        shape, dtype = network.output_shape[1:], policy_of(network).variable_dtype
        # Both grow with the classes.
        self._features = tf.Variable(tf.zeros([0, *shape], dtype), shape=[None, *shape], trainable=False)
        self._labels = tf.Variable(tf.zeros([0], tf.int32), shape=[None], trainable=False)

    @property
    def network(self) -> keras.Model:
        return self.learner.embedding

    def call(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """Returns `[examples, classes]` probabilities."""
        return tf.nn.softmax(self.logits(x))

    def classify(self, x: Any) -> list[Hashable | None]:
        x, threshold = np.asarray(x), self.learner.threshold
        check_queries("x", x, self.network)
        parts = [self.logits(part).numpy() for part in _batches(x)]
        return [
            self._classes[row.argmax()] if threshold is None or row.max() >= threshold else None
            for logits in parts
            for row in logits
        ]

    def logits(self, x: Any) -> tf.Tensor:
        """Returns `[examples, classes]`, how alike examples are to each class, in the learner's own measure.

        Args:
            x: `[examples, ...]`.
        """
        check_examples("x", x, self.network)
        query = self.learner.embedding(x, training=False)
        features, labels = tf.cast(self._features, query.dtype), tf.convert_to_tensor(self._labels)
        ways = tf.reduce_max(labels) + 1
        classes = self.learner.represent(features[None], labels[None], ways, training=False)
        return self.learner.compare(query[None], classes, training=False)[0]

    def served(self) -> ClassifierService:
        learner, embedding = self.learner, self.learner.embedding
        # What stands for the classes is computed now, and not at each request.
        ways, labels = tf.reduce_max(self._labels) + 1, tf.convert_to_tensor(self._labels)
        found = learner.represent(tf.convert_to_tensor(self._features)[None], labels[None], ways, training=False)
        classes = {name: tf.Variable(value, trainable=False) for name, value in found.items()}

        def embed(x):
            return embedding(x, training=False)

        def logits(x):
            return learner.compare(embed(x)[None], classes, training=False)[0]

        variables = [*(variable.value for variable in learner.weights), *classes.values()]
        shape = tuple(embedding.input_shape[1:])
        return ClassifierService(logits, shape, self.classes, variables, embed, learner.threshold, self)

    def add_class(self, label: Hashable, x: Any) -> None:
        """Adds a class; the others stay as they are, but where full context makes each example see all others.

        For other examples of a class that is there, adapt anew.

        Args:
            label: Any hashable that is not among `classes`.
            x: `[examples, ...]`, or its metadata `[1, features]` with a metadata encoder.

        Raises:
            ValueError: If the label cannot be hashed, the class is there already, there is no example, they have
                another shape, or a value is not finite.
        """
        check_label("label", label, "one hashable label")
        if label in self._classes:
            raise ValueError(
                f"`label` must be a class that the classifier does not have yet. Received: {label!r}.\n"
                "For more examples of a class, adapt anew to the examples of all classes: learner.adapt(x, y)."
            )
        x = as_array("x", x)
        if not len(x):
            raise ValueError(
                f"`x` must hold finite examples of class {label!r}. Received: no examples.\nCheck the arrays."
            )
        self.add_classes([label], np.zeros(len(x), int), x)

    def add_classes(self, classes: Sequence[Hashable], numbers: np.ndarray, x: np.ndarray) -> None:
        """Adds classes at once. Their examples keep their order, on which full context embeddings depend.

        Args:
            classes: Labels that are not among `classes` yet.
            numbers: `[examples]`, each example's place among them.
            x: `[examples, ...]`.
        """
        network = self.learner.support_network
        check_examples("x", x, network)
        finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"`x` must hold finite examples of class {classes[numbers[np.argmin(finite)]]!r}. Received: not finite "
                "numbers.\nCheck the arrays."
            )
        features = [network(tf.cast(part, network.compute_dtype), training=False) for part in _batches(x)]
        self._features.assign(np.concatenate([self._features.numpy(), *features]))
        self._labels.assign(np.append(self._labels.numpy(), len(self._classes) + numbers).astype("int32"))
        self._classes = (*self._classes, *classes)

    def save_own_variables(self, store: Any) -> None:
        store["features"], store["labels"] = self._features.numpy(), self._labels.numpy()

    def load_own_variables(self, store: Any) -> None:
        self._features.assign(store["features"][...])
        self._labels.assign(store["labels"][...])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learner": keras.saving.serialize_keras_object(self.learner)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SupportClassifier":
        learner = keras.saving.deserialize_keras_object(config["learner"], custom_objects)
        return cls(**{**config, "learner": learner, "classes": cls.classes_of(config)})


def _batches(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]
