"""The contract at the heart of the library: how a parameter moves, given its gradient."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.functional import Segment

#: What a rule may ask for besides the gradient and the state.
OFFERS = frozenset({"parameter", "loss", "step", "segments"})


class UpdateRule(keras.layers.Layer):
    """How parameters move, given their gradient.

    A rule works on one vector of coordinates. It is pure: it reads tensors and returns tensors, and never assigns.
    `unroll` differentiates through it; `LearnedOptimizer` assigns what it returns. Its weights, made in `__init__`,
    are what meta-training learns.

    A new rule is `initial_state` and `call`:

    >>> class SignDescent(UpdateRule):
    ...     def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
    ...         return -0.01 * tf.sign(gradient), state
    >>> update, _ = SignDescent()(tf.constant([3.0, -4.0]), ())
    >>> update.numpy()
    array([-0.01,  0.01], dtype=float32)

    Args:
        name: Of the layer.
        dtype: Of the weights and the arithmetic. A global mixed-precision policy does not reach a rule: an LSTM
            that follows gradients in float16 loses the small ones.
    """

    #: What `call` must be given besides the gradient and the state: any of "parameter", "loss", "step", "segments".
    needs: frozenset[str] = frozenset()

    #: Whether every coordinate moves by its own gradient and state alone, with the same weights for all. Then any set
    #: of coordinates may be cut into pieces and moved piece by piece.
    coordinatewise: bool = True

    #: Into how many pieces `unroll` cuts the coordinates of a coordinatewise rule, to run them side by side.
    chunks: int = 1

    def __init__(self, name: str | None = None, dtype: Any = "float32", **kwargs: Any):
        super().__init__(name=name, dtype=dtype, autocast=False, **kwargs)
        # The weights are there from the start: an optimizer may first see its rule inside a traced function.
        self.built = True

    def initial_state(self, coordinates: int, segments: Sequence[Segment] | None = None) -> Any:
        """Returns the state before the first step.

        Args:
            coordinates: How many numbers the rule will move.
            segments: The variables that they belong to, for rules that need "segments".

        Returns:
            A nest of tensors whose leading axis runs over coordinates, in the order of the coordinates. Stateless
            rules return `()`.

        >>> from tf_metalearn.rules import CoordinatewiseLSTM
        >>> [value.shape.as_list() for value in tf.nest.flatten(CoordinatewiseLSTM().initial_state(7))]
        [[7, 20], [7, 20], [7, 20], [7, 20]]
        """
        return ()

    def call(
        self,
        gradient: tf.Tensor,
        state: Any,
        *,
        parameter: tf.Tensor | None = None,
        loss: tf.Tensor | None = None,
        step: tf.Tensor | None = None,
        segments: Sequence[Segment] | None = None,
    ) -> tuple[tf.Tensor, Any]:
        """Returns `(update, state)`; the next parameter is `parameter + update`.

        Args:
            gradient: `[coordinates]`, d loss / d parameter.
            state: What `initial_state` or the step before returned.
            parameter: `[coordinates]`, where "parameter" is among `needs`.
            loss: Scalar, where "loss" is among `needs`.
            step: Integer scalar that counts from 0, where "step" is among `needs`.
            segments: The variables behind the coordinates, where "segments" is among `needs`.
        """
        raise NotImplementedError

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Rules are called on tensors, never on symbolic Keras inputs."""
        raise TypeError(
            f"{type(self).__name__} is an update rule, not a layer of a functional model. Received: symbolic inputs.\n"
            "Give it to `LearnedOptimizer` or `unroll`."
        )


def split_coordinates(values: Any, sizes: Sequence[int]) -> list[Any]:
    """Cuts a nest of tensors along the coordinates.

    Args:
        values: A nest of tensors `[coordinates, ...]`.
        sizes: Coordinates in each piece.

    Returns:
        A list of nests.

    >>> [piece.numpy().tolist() for piece in split_coordinates(tf.range(3), [2, 1])]
    [[0, 1], [2]]
    """
    leaves = [tf.split(leaf, sizes, axis=0) for leaf in tf.nest.flatten(values)]
    return [tf.nest.pack_sequence_as(values, [leaf[index] for leaf in leaves]) for index in range(len(sizes))]


def join_coordinates(pieces: Sequence[Any]) -> Any:
    """Lays nests of tensors end to end: the inverse of `split_coordinates`.

    Args:
        pieces: Nests of tensors `[coordinates, ...]`.

    >>> join_coordinates([tf.range(2), tf.range(1)]).numpy().tolist()
    [0, 1, 0]
    """
    return tf.nest.map_structure(lambda *leaves: tf.concat(leaves, axis=0), *pieces)
