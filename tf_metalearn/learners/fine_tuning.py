"""Fine-tuning, the baseline: an ordinary classifier of all classes, and a new head for each task."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.functional import StatelessModel, mean_loss
from tf_metalearn.learners.adaptation import Adaptation, Settings
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.checks import as_task, check_numbers, check_ways, checked
from tf_metalearn.learners.metric import check_network
from tf_metalearn.learners.networks import input_dtype
from tf_metalearn.learners.task_classifier import AdaptedClassifier, class_numbers
from tf_metalearn.rules import Adam
from tf_metalearn.serving.service import Service

METHODS = ("probe", "full")

_SETTINGS = Settings(training=False, second_derivatives=False)


@keras.saving.register_keras_serializable("tf_metalearn")
class FineTuning(FewShotLearner):
    """Trains an embedding to tell all training classes apart, and on each task a new linear head, by Adam.

    The baseline that meta-learning has to beat. `fit` takes labelled examples, not episodes: see `load_examples`.
    Batch normalisation uses running averages, so nothing is transductive.

    Args:
        embedding: A built Keras model from an example to a vector.
        classes: How many there are in training.
        ways: Of the tasks.
        method: "probe" trains the head alone on a task, "full" the embedding, too.
        inner_steps: On a task.
        inner_learning_rate: Of Adam on a task.
        name: Of the model.
        **kwargs: As `FewShotLearner` has them: whether pictures are of `ink`.

    Raises:
        ValueError: If the embedding returns no vectors, a number is not in its range, or the method is unknown.

    >>> import tf_metalearn as tfm
    >>> learner = FineTuning(keras.Sequential([keras.Input([2]), keras.layers.Dense(4)]), classes=64, inner_steps=5)
    >>> learner(tf.zeros([3, 2])).shape
    TensorShape([3, 64])
    >>> learner(tfm.Episode(tf.zeros([1, 5, 2]), tf.range(5)[None], tf.zeros([1, 9, 2]))).shape
    TensorShape([1, 9, 5])

    Reference: Ravi and Larochelle 2017, section 5.1, "Baseline-finetune". https://openreview.net/forum?id=rJY0-Kcll
    """

    learns_from_episodes = False

    def __init__(
        self,
        embedding: keras.Model,
        classes: int,
        ways: int = 5,
        method: str = "probe",
        inner_steps: int = 100,
        inner_learning_rate: float = 0.01,
        name: str = "fine_tuning",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        check_numbers(optional=False, classes=(classes, 1), ways=(ways, 1), inner_steps=(inner_steps, 0))
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}. Received: method={method!r}.\nTry 'probe'.")
        check_network("embedding", embedding, axes=2)
        self.embedding, self.classes, self.ways, self.method = embedding, classes, ways, method
        self.inner_steps, self.inner_learning_rate = inner_steps, inner_learning_rate
        self.head = keras.layers.Dense(classes, dtype=self.dtype_policy, name="all_classes")
        self.head.build(embedding.output_shape)
        network = self._with_head(embedding)
        stateless = StatelessModel(network if method == "full" else _last(network))
        self._adaptation = Adaptation(
            stateless,
            Adam(inner_learning_rate, dtype=stateless.dtype.name),
            mean_loss(keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
            stateless.model.trainable_variables,
            running_averages=True,
        )
        # Compiled once, for support sets of any size.
        examples = tf.TensorSpec([None, *embedding.input_shape[1:]], input_dtype(embedding))
        self._adapt_compiled = tf.function(self._adapted, input_signature=[examples, tf.TensorSpec([None], tf.int32)])
        self.built = True

    def _with_head(self, embedding: keras.Model) -> keras.Sequential:
        """A head that knows nothing yet, over an embedding."""
        head = keras.layers.Dense(self.ways, kernel_initializer="zeros", dtype=self.dtype_policy, name="head")
        inputs = keras.Input(embedding.input_shape[1:], dtype=input_dtype(embedding))
        return keras.Sequential([inputs, embedding, head])

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Predicts.

        Args:
            inputs: An `Episode`, or `[examples, ...]`.
            training: Whether the embedding is in training mode; never on episodes.

        Returns:
            `[tasks, queries, ways]` logits; or of examples `[examples, classes]`.
        """
        if not isinstance(inputs, Episode):
            return self.head(self.embedding(inputs, training=training))
        other_ways = "take `learner.with_settings(ways=...)`"
        episode = checked(inputs, self.embedding.input_shape[1:], self.ways, other_ways=other_ways)
        signature = tf.TensorSpec([episode.query_x.shape[1], self.ways], self.compute_dtype)
        return tf.map_fn(self._predict_task, episode, fn_output_signature=signature, parallel_iterations=8)

    def _predict_task(self, task: Episode) -> tf.Tensor:
        return self._predict_by(self._adapted(task.support_x, task.support_y), task.query_x)

    def _adapted(self, support_x: tf.Tensor, support_y: tf.Tensor) -> tf.Tensor:
        """`[coordinates]` of what learns on a task, after it has."""
        adaptation = self._adaptation
        x, start = self._seen(support_x), adaptation.start()
        return adaptation.advance(start, x, support_y, self.inner_steps, _SETTINGS).parameters

    def _predict_by(self, parameters: tf.Tensor, query_x: tf.Tensor) -> tf.Tensor:
        x, adapted = self._seen(query_x), self._adaptation.start()._replace(parameters=parameters)
        return self._adaptation.predict(adapted, Episode(x, None, x), _SETTINGS)[0]

    def _seen(self, x: tf.Tensor) -> tf.Tensor:
        """What learns on a task sees of examples: with a frozen embedding, vectors."""
        return x if self.method == "full" else self.embedding(x, training=False)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Keras's, on labelled examples; the head of the tasks is not part of it."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, Episode | tuple | list):
            raise ValueError(
                "`x` of `fit` must be a batch of examples, with labels of all training classes. Received: episodes.\n"
                "FineTuning learns as an ordinary classifier: fit(tf_metalearn.load_examples(source), ...)."
            )
        variables = [*self.embedding.trainable_variables, *self.head.trainable_variables]
        with tf.GradientTape() as tape:
            logits = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=logits, sample_weight=sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        self.optimizer.apply(tape.gradient(scaled, [variable.value for variable in variables]), variables)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(y)[0])
        logs = self.compute_metrics(x, y, logits, sample_weight=sample_weight)
        # An interval over tasks means nothing where there are none.
        return {name: value for name, value in logs.items() if not name.endswith("_ci95")}

    def adapt(self, support_x: Any, support_y: Any) -> AdaptedClassifier:
        """Returns a classifier for one task; the learner stays as it is.

        Args:
            support_x: `[support, ...]`.
            support_y: `[support]` labels of any hashable kind, of two to `ways` classes.
        """
        classes, numbers = class_numbers(support_y)
        task = as_task(support_x, numbers, self.embedding)
        if len(classes) > self.ways:
            raise ValueError(
                f"`support_y` must have labels of at most {self.ways} classes. Received: {len(classes)} classes.\n"
                "Make a FineTuning with more ways for more classes."
            )
        check_ways(classes)
        parameters = self._adapt_compiled(task.support_x, task.support_y)
        # Weights of its own, which neither this learner nor other threads share.
        embedding = keras.models.clone_model(self.embedding)
        embedding.set_weights(self.embedding.get_weights())
        model = self._with_head(embedding)
        StatelessModel(model if self.method == "full" else _last(model)).assign(parameters)
        return AdaptedClassifier(model, tuple(classes), ink=self.ink)

    def served(self) -> Service:
        def adapt(support_x, labels, ways):
            start = self._adaptation.start().parameters
            signature = tf.TensorSpec(start.shape, start.dtype)
            tasks = (support_x, labels)
            return {"parameters": tf.map_fn(lambda task: self._adapted(*task), tasks, fn_output_signature=signature)}

        def predict(state, query_x):
            signature = tf.TensorSpec([None, self.ways], self.compute_dtype)
            tasks = (state["parameters"], query_x)
            return tf.map_fn(lambda task: self._predict_by(*task), tasks, fn_output_signature=signature)

        # Keras does not know the head of the tasks.
        read = {id(variable): variable.value for variable in [*self.variables, *self._adaptation.variables]}
        shape, variables = tuple(self.embedding.input_shape[1:]), list(read.values())
        return Service(
            adapt, predict, shape, shape, variables, most_classes=self.ways, in_python=self.adapt_and_predict
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "embedding": keras.saving.serialize_keras_object(self.embedding),
            "classes": self.classes,
            "ways": self.ways,
            "method": self.method,
            "inner_steps": self.inner_steps,
            "inner_learning_rate": self.inner_learning_rate,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "FineTuning":
        embedding = keras.saving.deserialize_keras_object(config["embedding"], custom_objects)
        return cls(**{**config, "embedding": embedding})


def _last(model: keras.Sequential) -> keras.Sequential:
    """A model's last layer alone."""
    inputs = keras.Input(model.layers[-1].input.shape[1:], dtype=model.layers[-1].input.dtype)
    return keras.Sequential([inputs, model.layers[-1]])
