"""An embedding that looks at each image several times, slightly changed, and takes the mean."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.episodes.augmentation import Augmentation
from tf_metalearn.learners.metric import MetricLearner, check_metric


@keras.saving.register_keras_serializable("tf_metalearn")
class AveragedViews(keras.layers.Layer):
    """The mean embedding of an image as it is and of changed copies of it, the same changes for all images.

    What an embedding learned to ignore when images changed at random in training, it ignores better in the mean. That
    needs no training, and costs as many times the computation as there are views. `average_views` applies it.

    Args:
        embedding: A built Keras model from an image to its features.
        views: How many, with the image as it is.
        shift: Pixels, at most.
        turn: Degrees, at most.
        scale: By how much, at most, the copies grow or shrink.
        shear: Degrees, at most.
        seed: Decides the changes.
        **kwargs: As layers have them.

    Raises:
        ValueError: If there is no view.

    >>> import tf_metalearn as tfm
    >>> network = tfm.backbones.conv4(filters=8)
    >>> AveragedViews(network, views=4)(tf.zeros([2, 28, 28, 1])).shape
    TensorShape([2, 32])
    """

    def __init__(
        self,
        embedding: keras.Model,
        views: int = 12,
        shift: int = 2,
        turn: float = 8.0,
        scale: float = 0.1,
        shear: float = 8.0,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if views < 1:
            raise ValueError(f"`views` must be a whole number >= 1. Received: views={views!r}.\nTry 12.")
        self.embedding, self.views, self.seed = embedding, views, seed
        self._changes: dict[str, Any] = {"shift": shift, "turn": turn, "scale": scale, "shear": shear}
        self._augmentation = Augmentation(**self._changes, same_for="episode")

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Embeds.

        Args:
            images: `[images, height, width, channels]`.
            training: As layers have it.
        """
        copies = tf.tile(images[None], [self.views - 1, 1, 1, 1, 1])
        changed = self._augmentation(copies, self.seed, tf.range(self.views - 1, dtype=tf.int64))
        seen = tf.concat([images[None], changed], axis=0)
        vectors = self.embedding(tf.reshape(seen, [-1, *images.shape[1:]]), training=training)
        return tf.reduce_mean(tf.reshape(vectors, [self.views, -1, *vectors.shape[1:]]), axis=0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], *self.embedding.output_shape[1:])

    def get_config(self) -> dict[str, Any]:
        embedding = keras.saving.serialize_keras_object(self.embedding)
        return {**super().get_config(), "embedding": embedding, "views": self.views, "seed": self.seed, **self._changes}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AveragedViews":
        embedding = keras.saving.deserialize_keras_object(config["embedding"], custom_objects)
        return cls(**{**config, "embedding": embedding})


def average_views(learner: MetricLearner, views: int = 12, **changes: Any) -> MetricLearner:
    """Returns a copy of a trained metric learner whose embedding is the mean over views of each image.

    It has no threshold for "none of these"; `calibrate` finds its own.

    Args:
        learner: It stays as it is.
        views: How many.
        **changes: As `AveragedViews` has them; best those of training.

    Raises:
        ValueError: If it is no metric learner, or there is no view.

    >>> import tf_metalearn as tfm
    >>> steadier = average_views(tfm.load("omniglot_prototypical"), views=4, turn=5.0)
    >>> steadier.embedding.input_shape
    (None, 28, 28, 1)
    """
    check_metric(learner)
    config = learner.get_config()
    inner = keras.saving.deserialize_keras_object(config["embedding"])
    whole = keras.Sequential([keras.Input(inner.input_shape[1:]), AveragedViews(inner, views, **changes)], name="views")
    # Mean embeddings lie nearer to each other: a threshold has to be fitted anew.
    config["threshold"] = None
    copy = type(learner).from_config({**config, "embedding": keras.saving.serialize_keras_object(whole)})
    copy.set_weights(learner.get_weights())
    copy.compile("sgd")
    return copy
