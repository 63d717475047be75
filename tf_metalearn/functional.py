"""A Keras model as a pure function of its values.

Everything in this library that differentiates through training needs a model whose weights are tensors, not
variables. `StatelessModel` gives that view of any Keras model, with all trainable values laid end to end in one
vector, so that an update rule sees nothing but coordinates.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.moments import exact_moments


class Segment(NamedTuple):
    """One variable's place in a vector of parameters.

    Args:
        name: The variable's path, such as `"dense_1/kernel"`.
        shape: The variable's shape.
        offset: Where its first coordinate stands in the vector.

    >>> Segment("dense/kernel", (3, 4), offset=0).size
    12
    """

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """How many coordinates the variable has."""
        return int(np.prod(self.shape, dtype=np.int64))


def segments_of(names: Sequence[str], shapes: Sequence[Sequence[int]]) -> tuple[Segment, ...]:
    """Lays variables end to end.

    Args:
        names: One name a variable.
        shapes: One shape a variable.

    Returns:
        One `Segment` a variable, in order, without gaps.

    >>> [segment.offset for segment in segments_of(["kernel", "bias"], [(3, 4), (4,)])]
    [0, 12]
    """
    segments, offset = [], 0
    for name, shape in zip(names, shapes, strict=True):
        segment = Segment(name, tuple(shape), offset)
        segments.append(segment)
        offset += segment.size
    return tuple(segments)


def split(parameters: tf.Tensor, segments: Sequence[Segment]) -> list[tf.Tensor]:
    """Cuts a vector of parameters into tensors of the variables' shapes.

    Args:
        parameters: `[coordinates]`.
        segments: Where each variable stands, without gaps.

    Returns:
        One tensor a segment.

    >>> [part.shape.as_list() for part in split(tf.range(6.0), segments_of(["a", "b"], [(2, 2), (2,)]))]
    [[2, 2], [2]]
    """
    parts = tf.split(parameters, [segment.size for segment in segments])
    return [tf.reshape(part, segment.shape) for part, segment in zip(parts, segments, strict=True)]


def join(values: Sequence[tf.Tensor], dtype: Any = None) -> tf.Tensor:
    """Lays tensors of any shapes end to end.

    Args:
        values: Tensors; the inverse of `split`.
        dtype: Of the vector. Defaults to the first tensor's.

    Returns:
        `[coordinates]`.

    >>> join([tf.ones([2, 2]), tf.zeros([1])]).numpy()
    array([1., 1., 1., 1., 0.], dtype=float32)
    """
    values = [tf.convert_to_tensor(value) for value in values]
    return tf.concat([tf.cast(tf.reshape(value, [-1]), dtype or values[0].dtype) for value in values], axis=0)


class StatelessModel:
    """Any built Keras model as a pure function of its trainable and non-trainable values.

    The model's own variables are read once, by `parameters` and `non_trainable`, and are never written unless
    `assign` is called. Batch-normalisation statistics and dropout seeds are among the non-trainable values: hand
    those that one call returns to the next, or every step sees the same dropout mask. Second derivatives are exact,
    which those of Keras's normalisation layers by themselves are not.

    Args:
        model: A built `keras.Model` (functional, sequential or subclassed) with at least one trainable variable.

    Raises:
        ValueError: If the model is not built or has nothing to train.

    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> pure = StatelessModel(model)
    >>> pure.coordinates
    8
    >>> outputs, non_trainable, losses = pure(tf.zeros([8]), pure.non_trainable(), tf.ones([5, 3]))
    >>> outputs.shape.as_list()
    [5, 2]
    >>> pure.assign(2 * tf.ones([8]))
    >>> pure.parameters().numpy()
    array([2., 2., 2., 2., 2., 2., 2., 2.], dtype=float32)
    """

    def __init__(self, model: keras.Model):
        if not model.built:
            raise ValueError(
                f"`model` must be built, so that its weights exist. Received: model={model.name!r}, not built.\n"
                "Call it on a batch, or `model.build(input_shape)`, first."
            )
        if not model.trainable_variables:
            raise ValueError(
                f"`model` must have trainable variables. Received: model={model.name!r} with none.\n"
                "Check `trainable` on the model and its layers."
            )
        self.model = model
        self.segments = segments_of(
            [variable.path for variable in model.trainable_variables],
            [variable.shape for variable in model.trainable_variables],
        )
        self.dtype = tf.as_dtype(model.trainable_variables[0].dtype)

    @property
    def coordinates(self) -> int:
        """How many trainable numbers the model has."""
        return self.segments[-1].offset + self.segments[-1].size

    def parameters(self) -> tf.Tensor:
        """Returns the model's trainable values as they are now, `[coordinates]`."""
        return join([variable.value for variable in self.model.trainable_variables], self.dtype)

    def non_trainable(self) -> list[tf.Tensor]:
        """Returns the model's non-trainable values as they are now, one tensor a variable."""
        return [tf.identity(variable.value) for variable in self.model.non_trainable_variables]

    def __call__(
        self,
        parameters: tf.Tensor | Sequence[tf.Tensor],
        non_trainable: Sequence[tf.Tensor],
        inputs: Any,
        training: bool = True,
    ) -> tuple[Any, list[tf.Tensor], tf.Tensor]:
        """Calls the model with these values in the place of its own.

        Args:
            parameters: `[coordinates]`, the trainable values; or one tensor a trainable variable.
            non_trainable: One tensor a non-trainable variable.
            inputs: What the model takes, `[batch, ...]`.
            training: Whether dropout is on and batch statistics are used.

        Returns:
            The outputs; the non-trainable values after the call; and the scalar sum of the model's own losses
            (weight regularisation and `add_loss`).
        """
        values = split(parameters, self.segments) if isinstance(parameters, tf.Tensor) else parameters
        variables = self.model.trainable_variables
        with exact_moments():
            outputs, non_trainable, losses = self.model.stateless_call(
                [tf.cast(value, variable.dtype) for value, variable in zip(values, variables, strict=True)],
                list(non_trainable),
                inputs,
                training=training,
                return_losses=True,
            )
        total = tf.add_n([tf.cast(loss, self.dtype) for loss in losses]) if losses else tf.zeros([], self.dtype)
        return outputs, [tf.convert_to_tensor(value) for value in non_trainable], total

    def assign(self, parameters: tf.Tensor, non_trainable: Sequence[tf.Tensor] | None = None) -> None:
        """Writes values into the model's own variables.

        Args:
            parameters: `[coordinates]`.
            non_trainable: One tensor a non-trainable variable; left alone when None.
        """
        values = split(parameters, self.segments)
        for variable, value in zip(self.model.trainable_variables, values, strict=True):
            variable.assign(tf.cast(value, variable.dtype))
        if non_trainable is not None:
            for variable, value in zip(self.model.non_trainable_variables, non_trainable, strict=True):
                variable.assign(value)


class _GivenSeed(keras.random.SeedGenerator):
    """A Keras seed generator whose next seed is a tensor that it is handed, without any state."""

    def __init__(self, seed: tf.Tensor):
        # SeedGenerator.__init__ would create a state variable, which cannot exist inside a traced function.
        self.given = seed

    def next(self, ordered: bool = True) -> tf.Tensor:
        return self.given


class InitialValues:
    """Fresh initial weights of a model, as a pure function of a seed.

    Keras initializers draw the same values each time once they are built. Here every variable's initializer is
    found by building the model once more in a scope that creates no variables, and is then called with seeds of
    the caller's, inside a traced function too. A variable that has no random initializer keeps the model's value.

    Args:
        factory: Returns a new model each time, always of the same architecture.
        model: A built model from that factory.
        build: Builds a model that the factory left unbuilt; called with the model.

    >>> factory = lambda: keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> initial = InitialValues(factory, factory())
    >>> first, second = initial(tf.constant([0, 0])), initial(tf.constant([0, 1]))
    >>> bool(tf.reduce_any(first != second)), first.shape.as_list()
    (True, [8])
    """

    def __init__(
        self,
        factory: Callable[[], keras.Model],
        model: keras.Model,
        build: Callable[[keras.Model], Any] = lambda model: None,
    ):
        with keras.StatelessScope(initialize_variables=False):
            shadow = factory()
            build(shadow)
            self._initializers = [getattr(variable, "_initializer", None) for variable in shadow.trainable_variables]
        self._variables = list(model.trainable_variables)
        shapes = [tuple(variable.shape) for variable in self._variables]
        if [tuple(variable.shape) for variable in shadow.trainable_variables] != shapes:
            raise ValueError(
                "`factory` must return the same architecture at every call. Received: variables of shapes "
                f"{shapes} and then {[tuple(variable.shape) for variable in shadow.trainable_variables]}.\n"
                "Make it a function without random choices."
            )

    def __call__(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws initial values.

        Args:
            seed: `[2]` integers.

        Returns:
            `[coordinates]`, every variable drawn from its own initializer.
        """
        values = []
        for index, (initializer, variable) in enumerate(zip(self._initializers, self._variables, strict=True)):
            if initializer is None:
                values.append(variable.value)
                continue
            if hasattr(initializer, "seed"):
                initializer = copy.copy(initializer)
                initializer.seed = _GivenSeed(tf.random.experimental.stateless_fold_in(seed, index))
            values.append(initializer(tuple(variable.shape), dtype=variable.dtype))
        return join(values)


def mean_loss(loss: keras.losses.Loss | Callable[..., tf.Tensor] | str) -> Callable[..., tf.Tensor]:
    """Makes of a Keras loss, its name or a function what can be called with `(y, outputs)`.

    Args:
        loss: A Keras loss that means over the examples, or a name, is computed in the dtype of the outputs, and as it
            is on one device: under a distribution strategy Keras divides its losses by the number of replicas, which
            is right for a gradient that is summed over replicas, and wrong in an inner loop. All else is taken as it
            is.

    >>> float(mean_loss("mse")(tf.constant([[1.0], [3.0]]), tf.zeros([2, 1])))
    5.0
    """
    function = keras.losses.get(loss)
    if isinstance(function, keras.losses.Loss) and function.reduction in ("sum_over_batch_size", "mean"):
        return lambda y, outputs: tf.reduce_mean(function.call(y, outputs))
    if isinstance(loss, str) and not isinstance(function, keras.losses.Loss):
        # Keras's functions of that name return one loss an example.
        return lambda y, outputs: tf.reduce_mean(function(y, outputs))
    return function
