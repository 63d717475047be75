"""What learners ask of the networks that they are given: that they are of a kind, and of which dtypes."""

from typing import Any

import keras


def input_dtype(model: keras.Model) -> str:
    """The dtype of what goes into a model."""
    return model.inputs[0].dtype if model.inputs else "float32"


def output_dtype(model: keras.Model) -> str:
    """The dtype of what comes out of a model."""
    return model.outputs[0].dtype if model.outputs else policy_of(model).compute_dtype


def policy_of(model: keras.Model) -> keras.DTypePolicy:
    """The dtypes of a model's last layer; those of a model around layers say nothing of them.

    Args:
        model: Built, or one without layers of its own.
    """
    return model.layers[-1].dtype_policy if model.layers else model.dtype_policy


def is_network(model: Any) -> bool:
    """Whether it is a built Keras model that tells its shapes, as functional and Sequential ones do.

    Args:
        model: What should be one.

    >>> is_network(keras.Sequential([keras.Input([2]), keras.layers.Dense(1)]))
    True
    """
    return isinstance(model, keras.Model) and model.built and hasattr(model, "input_shape")


def network_remedy(model: Any, otherwise: str) -> str:
    """What to do about something that is no network.

    Args:
        model: It.
        otherwise: What to do if the trouble is not that it is of a class of its own.
    """
    if isinstance(model, keras.Model) and model.built and not is_network(model):
        return "Wrap a model of a class of your own: `keras.Sequential([keras.Input(shape), model])`."
    return otherwise


def dtype_of(base_learner: keras.Model) -> str:
    """The dtype of a base learner's parameters, which is that of its rule.

    Raises:
        ValueError: If it is not a built Keras model, functional or Sequential, with something to train.
    """
    if not is_network(base_learner) or not base_learner.trainable_variables:
        raise ValueError(
            "`base_learner` must be a built Keras model with trainable weights, functional or Sequential. Received: "
            f"{base_learner!r}.\n" + network_remedy(base_learner, "Try `tf_metalearn.backbones.conv4(outputs=5)`.")
        )
    return base_learner.trainable_variables[0].dtype
