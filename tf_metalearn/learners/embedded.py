"""Evaluation on embeddings that are computed once: the same results as embedding every episode, thousands a second."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.cache import cached
from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.sampler import as_floats
from tf_metalearn.learners.metric import MetricLearner, check_metric

#: That a comparison may hold at once: half a gigabyte.
_MOST_NUMBERS = 2**27


def embed_classes(
    learner: MetricLearner,
    classes: ClassTable,
    cache_dir: str | os.PathLike[str] | None = None,
    batch_size: int = 256,
) -> ClassTable:
    """Embeds each example of a data set once.

    `load_episodes` draws the same episodes from the result as from the data set, features in the place of examples;
    `on_embeddings` gives the learner that takes these. Only what changes an example, augmentation, must stay out.

    Args:
        learner: Whose embedding.
        classes: What `load_classes` returns.
        cache_dir: A folder that keeps the features, in a file for each pair of weights and examples; None keeps none.
        batch_size: Examples at once.

    Returns:
        The table with `[examples, ...]` float32 features.

    >>> import tf_metalearn as tfm
    >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([8]), keras.layers.Dense(3)]))
    >>> classes = ClassTable.of(np.zeros([40, 8]), np.repeat(range(4), 10))
    >>> embedded = embed_classes(learner, classes)
    >>> embedded.examples.shape
    (40, 3)
    >>> episodes = tfm.load_episodes(embedded, ways=4, queries=5, episodes=16)
    >>> on_embeddings(learner).predict(episodes, verbose=0).shape
    (16, 20, 4)
    """
    network = learner.embedding
    if not tf.TensorShape(network.input_shape).is_compatible_with(classes.examples.shape):
        raise ValueError(
            f"`classes` must have examples of shape {network.input_shape[1:]}, as the embedding was built. Received: "
            f"{classes.examples.shape[1:]} in {classes.title}.\nLoad them with another `image_size`."
        )

    @tf.function(reduce_retracing=True)
    def embed(x):
        return tf.cast(network(as_floats(x), training=False), tf.float32)

    def build() -> ClassTable:
        batches = range(0, len(classes.examples), batch_size)
        features = [embed(classes.examples[low : low + batch_size]).numpy() for low in batches]
        return replace(classes, examples=np.concatenate(features))

    if cache_dir is None:
        return build()
    key = _key(network, classes)
    # What is said of the classes is not part of the key, and comes from the table that was given.
    return replace(classes, examples=cached(Path(cache_dir) / f"embedded-{key[:16]}.npz", key, build).examples)


def on_embeddings(learner: MetricLearner) -> MetricLearner:
    """Returns the learner that takes features instead of examples, compiled with the defaults of `compile`.

    Args:
        learner: Whose comparison it has, weights included.

    Raises:
        ValueError: If it is no metric learner.

    >>> import tf_metalearn as tfm
    >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([8]), keras.layers.Dense(3)]))
    >>> features = np.random.default_rng(0).random([1, 5, 3], "float32")
    >>> on_embeddings(learner)(tfm.Episode(features, np.arange(5)[None], features)).shape
    TensorShape([1, 5, 5])
    """
    check_metric(learner)
    shape = learner.embedding.output_shape[1:]
    nothing = keras.Sequential([keras.Input(shape), keras.layers.Identity()], name="embedded")
    config = {**learner.get_config(), "embedding": keras.saving.serialize_keras_object(nothing)}
    copy = type(learner).from_config(config)
    embedding = {id(variable) for variable in learner.embedding.variables}
    own = [variable for variable in learner.weights if id(variable) not in embedding]
    for mine, theirs in zip(copy.weights, own, strict=True):
        mine.assign(theirs)
    copy.compile()
    return copy


def confusion_counts(
    learner: MetricLearner, embedded: ClassTable, shots: int = 5, seed: int = 0, batch_size: int = 256
) -> np.ndarray:
    """Counts which classes of a data set are taken for which, all of them at once.

    Args:
        learner: The learner.
        embedded: What `embed_classes` returned.
        shots: Support examples of each class, chosen at random; all others are queries.
        seed: Of that choice.
        batch_size: Queries at once, at most.

    Returns:
        `[classes, classes]` integers: queries of the row's class that were taken for the column's.

    >>> import tf_metalearn as tfm
    >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([2]), keras.layers.Identity()]))
    >>> classes = ClassTable.of([[0, 0], [0, 1], [9, 0], [9, 1]], ["a", "a", "b", "b"])
    >>> confusion_counts(learner, embed_classes(learner, classes), shots=1)
    array([[1, 0],
           [0, 1]])
    """
    if shots < 1 or min(embedded.sizes) <= shots:
        raise ValueError(
            f"`shots` must be at least 1 and less than the examples of each class. Received: shots={shots} for "
            f"{embedded.title}, whose smallest class has {min(embedded.sizes)}.\nTry shots=1."
        )
    random, ways = np.random.default_rng(seed), len(embedded.names)
    chosen = np.zeros(len(embedded.examples), bool)
    for start, size in zip(embedded.starts, embedded.sizes, strict=True):
        chosen[start + random.permutation(size)[:shots]] = True
    labels = np.repeat(np.arange(ways), embedded.sizes)
    support, numbers = tf.constant(embedded.examples[chosen][None]), tf.constant(labels[chosen][None], tf.int32)
    classes = learner.represent(support, numbers, ways, training=False)

    @tf.function(reduce_retracing=True)
    def taken_for(query):
        return tf.argmax(learner.compare(query[None], classes, training=False)[0], axis=-1)

    # A learner that votes by examples holds a number for each query, class and support example.
    batch_size = max(1, min(batch_size, _MOST_NUMBERS // (ways * int(chosen.sum()))))
    query = embedded.examples[~chosen]
    batches = range(0, len(query), batch_size)
    taken = np.concatenate([taken_for(tf.constant(query[low : low + batch_size])).numpy() for low in batches])
    counts = np.zeros([ways, ways], int)
    np.add.at(counts, (labels[~chosen], taken), 1)
    return counts


def _key(network: keras.Model, classes: ClassTable) -> str:
    """A checksum of the embedding and the examples."""
    digest = hashlib.sha256(repr((network.get_config(), classes.names, classes.sizes.tolist())).encode())
    arrays: list[Any] = [*network.get_weights(), classes.examples]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
