"""What learners and classifiers share: they know how pictures are read, and export themselves."""

from typing import Any

import keras

from tf_metalearn.serving.export import export_classifier, export_learner
from tf_metalearn.serving.service import ClassifierService, Service


class ServedModel(keras.Model):
    """A Keras model whose `export` writes a service.

    Args:
        name: Of the model.
        ink: Whether it was trained on ink, as that of Omniglot: 1 where a picture is dark. Encoded pictures are then
            inverted as they are read, in the server and by `tf-metalearn adapt`. May be set later; saved with the
            model.
        **kwargs: As Keras has them.

    >>> import tf_metalearn as tfm
    >>> tfm.load("omniglot_prototypical").ink
    True
    """

    def __init__(self, name: str | None = None, ink: bool = False, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.ink = ink

    def served(self) -> Service | ClassifierService:
        """Returns the model as plain functions of tensors, which is what `export` writes.

        >>> import tensorflow as tf
        >>> import tf_metalearn as tfm
        >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([2]), keras.layers.Identity()]))
        >>> service = learner.served()
        >>> state = service.adapt(tf.constant([[[0.0, 0.0], [9.0, 0.0]]]), tf.constant([[0, 1]]), 2)
        >>> service.predict(state, tf.constant([[[1.0, 0.0]]])).shape
        TensorShape([1, 1, 2])
        """
        raise NotImplementedError(f"{type(self).__name__} says nothing in `served`, and cannot be exported.")

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        *,
        about: str = "",
        **kwargs: Any,
    ) -> None:
        """Writes a SavedModel for TensorFlow Serving.

        That of a learner adapts to support sets inside the server, that of a classifier says the labels of examples.
        Beside the version come a README, and for all models in the same folder `models.config`, `batching.config` and
        `compose.yaml`.

        Args:
            filepath: Of the version: a folder for all models, the model's name and a number, such as
                "served/characters/1". It must not be there yet.
            format: "tf_saved_model"; Keras's `export` writes a classifier in all others.
            verbose: Whether to say where it is.
            input_signature: None; the README lists the model's own. For another, Keras's `export` writes a classifier
                without labels.
            about: Markdown for the README: data, training, accuracy, licence.
            **kwargs: As Keras has them for other formats.

        Raises:
            ValueError: If the path is not as above or is there already, or a learner is to be written otherwise.

        >>> import tf_metalearn as tfm
        >>> learner = tfm.PrototypicalNetwork(keras.Sequential([keras.Input([2]), keras.layers.Identity()]))
        >>> learner.export("served/points")
        Traceback (most recent call last):
            ...
        ValueError: `filepath` must be a version folder, which ends in a whole number. Received: '.../points'...
        """
        service = self.served()
        if format != "tf_saved_model" or input_signature is not None or kwargs:
            if isinstance(service, ClassifierService):
                super().export(filepath, format, verbose, input_signature, **kwargs)
                return
            raise ValueError(
                "`format` must be 'tf_saved_model', `input_signature` None and nothing else given. Received: "
                f"format={format!r}, input_signature={input_signature!r} and {sorted(kwargs)}.\n"
                "A learner's signatures are fixed; for another format export what `adapt` returns."
            )
        if isinstance(service, ClassifierService):
            version = export_classifier(filepath, service, about, self.ink)
        else:
            version = export_learner(filepath, service, about, self.ink)
        if verbose is not False:
            print(f"Written: '{version}'.")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ink": self.ink}
