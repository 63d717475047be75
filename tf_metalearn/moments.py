"""Exact second derivatives through Keras's normalisation layers.

TensorFlow's `moments` takes the mean for a constant in the variance. First derivatives are right all the same, because
the mean's share of them is zero; second ones lack a term. Through four layers of batch normalisation MAML's
meta-gradient was wrong by a quarter. Keras offers no hook, but its layers look the function up at each call.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from keras.src import backend

_exact = contextvars.ContextVar("exact", default=False)
_of_keras = backend.nn.moments


@contextlib.contextmanager
def exact_moments() -> Iterator[None]:
    """Makes second derivatives exact of whatever Keras layers this thread calls meanwhile. Values stay the same.

    >>> from keras import ops
    >>> x = tf.constant([1.0, 2.0])
    >>> def hessian():
    ...     with tf.GradientTape() as outer:
    ...         outer.watch(x)
    ...         with tf.GradientTape() as inner:
    ...             inner.watch(x)
    ...             _, variance = ops.moments(x, axes=[0])
    ...         gradient = inner.gradient(variance, x)
    ...     return outer.jacobian(gradient, x).numpy().tolist()
    >>> hessian()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> with exact_moments():
    ...     hessian()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def wanted_exact() -> bool:
    """Whether this thread is within `exact_moments`.

    >>> with exact_moments():
    ...     wanted_exact()
    True
    """
    return _exact.get()


def _moments(
    x: tf.Tensor, axes: Any, keepdims: bool = False, synchronized: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    # Those that replicas share are exact in Keras too.
    if synchronized or not _exact.get():
        return _of_keras(x, axes, keepdims, synchronized)
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance


backend.nn.moments = _moments
