"""What every learner asks of an episode, in words, before it computes."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.learners.networks import input_dtype, output_dtype


def checked(
    episode: Episode,
    shape: Sequence[int | None],
    outputs: int | None,
    support_shape: Sequence[int | None] | None = None,
    other_ways: str | None = None,
) -> Episode:
    """An episode as tensors, with labels as integers, once it is what a learner can use.

    Values are checked as the episode runs, in compiled functions too; XLA leaves these checks out.

    Args:
        episode: A batch of tasks. Labels of shape `[tasks, support]` are classes, others are values to regress.
        shape: Of one example, None where any size will do.
        outputs: Of the base learner, as many as there must be classes; None when any number will do.
        support_shape: Of what is in the support set, where that is not examples but metadata.
        other_ways: How to get another number of classes where `outputs` are a learner's `ways`, and not those of a
            base learner.

    Raises:
        ValueError: If examples have another shape, are not finite, or labels are not 0 to ways - 1, each at least once.
            In a compiled function it is a `tf.errors.InvalidArgumentError` where values are the matter.
    """
    support_x, support_y, query_x = (tf.convert_to_tensor(part) for part in episode)
    shapes = {"support_x": support_shape or shape, "query_x": shape}
    for argument, x in (("support_x", support_x), ("query_x", query_x)):
        expected = tf.TensorShape([None, None, *shapes[argument]])
        if not expected.is_compatible_with(x.shape):
            example = ", ".join(map(str, shapes[argument]))
            remedy = "another `image_size`" if len(shapes[argument]) == 3 else "as many features"
            raise ValueError(
                f"`{argument}` must be [tasks, examples, {example}], as the model was built. "
                f"Received: {x.shape.as_list()}.\n"
                f"Load episodes with {remedy}, or build the model for these."
            )
    checks = [
        _ensure(
            tf.reduce_all(tf.math.is_finite(x)),
            f"`{argument}` must be finite numbers. Received: NaN or infinity.\nCheck the data for damaged examples.",
        )
        for argument, x in (("support_x", support_x), ("query_x", query_x))
        if x.dtype.is_floating
    ]
    if support_y.shape.rank == 2:
        # Keras hands integers over as floats when it builds a model symbolically.
        support_y = tf.cast(support_y, tf.int32)
        checks.append(_check_labels(support_y, outputs, other_ways))
    elif support_y.dtype.is_floating:
        message = "`support_y` must be finite numbers. Received: NaN or infinity.\nCheck the data."
        checks.append(_ensure(tf.reduce_all(tf.math.is_finite(support_y)), message))
    with tf.control_dependencies([check for check in checks if check is not None]):
        return Episode(*(tf.identity(part) for part in (support_x, support_y, query_x)))


def checked_targets(y: Any, outputs: tf.Tensor) -> tf.Tensor:
    """What is to be predicted, as a tensor, once it can be; checked as `checked` does.

    Args:
        y: `[tasks, queries]` integer labels, or values; of a baseline in training `[examples]` labels.
        outputs: `[..., outputs]`, the predictions.

    Raises:
        ValueError: If labels are not 0 to outputs - 1, or values not finite. In a compiled function it is a
            `tf.errors.InvalidArgumentError`.

    >>> checked_targets([[0, 7]], tf.zeros([1, 2, 5]))
    Traceback (most recent call last):
        ...
    ValueError: `query_y` must be 0 to 4, as there are 5 outputs. Received labels: [[0, 7]].
    Number the classes of each task from 0, the same in support and query set.
    """
    y, outputs = tf.convert_to_tensor(y), tf.convert_to_tensor(outputs)
    argument = "query_y" if outputs.shape.rank > 2 else "y"
    if y.dtype.is_integer and y.shape.rank == outputs.shape.rank - 1:
        ways = outputs.shape[-1] or tf.cast(tf.shape(outputs)[-1], y.dtype)
        number = outputs.shape[-1] or "ways"
        last = number - 1 if isinstance(number, int) else "ways - 1"
        check = _ensure(
            tf.reduce_all((y >= 0) & (y < ways)),
            f"`{argument}` must be 0 to {last}, as there are {number} outputs. Received labels:",
            y,
            "Number the classes of each task from 0, the same in support and query set."
            if argument == "query_y"
            else "Number the classes from 0, or make a learner of more classes.",
        )
    elif y.dtype.is_floating:
        message = f"`{argument}` must be finite numbers. Received: NaN or infinity.\nCheck the data."
        check = _ensure(tf.reduce_all(tf.math.is_finite(y)), message)
    else:
        check = None
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(y)


def as_task(support_x: Any, support_y: Any, model: keras.Model) -> Episode:
    """A support set as a task, once it is what a model can use; its queries are the support set itself.

    Args:
        support_x: `[support, ...]`.
        support_y: `[support]` class numbers from 0 on, or `[support, outputs]` values of a regression.
        model: What the examples go into.

    Raises:
        ValueError: If there are no examples, they have another shape or are not finite, or there is not a label for
            each.
    """
    x = tf.cast(as_support(support_x, len(support_y), model), input_dtype(model))
    y = tf.convert_to_tensor(support_y)
    y = tf.cast(y, tf.int32 if y.shape.rank == 1 else output_dtype(model))
    batch = checked(Episode(x[None], y[None], x[None]), model.input_shape[1:], None)
    return Episode(*(part[0] for part in batch))


def as_values(support_y: Any, model: keras.Model) -> np.ndarray:
    """The values of a support set in a regression.

    Args:
        support_y: `[support, outputs]`.
        model: What predicts such values.

    Raises:
        ValueError: If they have another shape than its outputs, or are no numbers.

    >>> as_values([0.5, 1.0], keras.Sequential([keras.Input([2]), keras.layers.Dense(1)]))
    Traceback (most recent call last):
        ...
    ValueError: `support_y` must be numbers [support, 1] in a regression, as the model's outputs. Received: shape (2,).
    The axis of outputs is missing: take `support_y[:, None]`.
    """
    expected = tf.TensorShape([None, *model.output_shape[1:]])
    try:
        values = np.asarray(support_y, float)
        received = f"shape {values.shape}"
    except (TypeError, ValueError):
        values, received = None, f"{support_y!r:.200}"
    if values is None or not expected.is_compatible_with(values.shape):
        remedy = "Give each example as many values as the model has outputs; to classify, leave out `inner_loss`."
        if values is not None and expected.is_compatible_with([*values.shape, 1]):
            remedy = "The axis of outputs is missing: take `support_y[:, None]`."
        raise ValueError(
            f"`support_y` must be numbers [support, {', '.join(map(str, expected[1:]))}] in a regression, as the "
            f"model's outputs. Received: {received}.\n{remedy}"
        )
    return values


def as_support(support_x: Any, labels: int, model: keras.Model) -> np.ndarray:
    """The examples of a support set, once a model can take them and there is a label for each.

    Args:
        support_x: `[support, ...]`.
        labels: How many there are.
        model: What the examples go into.

    Raises:
        ValueError: If there are no examples, they have another shape, or there is not a label for each.
    """
    x = as_array("support_x", support_x)
    if x.size:
        check_examples("support_x", x, model)
    if not len(x) or len(x) != labels:
        remedy = (
            "Give each example its own label, in the order of the examples, as in `np.repeat(names, shots)`."
            if len(x)
            else "A class needs one example or more."
        )
        raise ValueError(
            "`support_x` must have at least one example, and `support_y` a label for each. "
            f"Received: {len(x)} examples and {labels} labels.\n{remedy}"
        )
    return x


def check_examples(argument: str, x: Any, model: keras.Model) -> None:
    """Refuses examples of another shape than a model was built for.

    Args:
        argument: Its name.
        x: `[examples, ...]`; what has no shape, such as a data set, passes.
        model: What the examples go into.

    Raises:
        ValueError: If the shape is another.

    >>> network = keras.Sequential([keras.Input([28, 28, 1]), keras.layers.Flatten()])
    >>> check_examples("x", np.zeros([9, 28, 28]), network)
    Traceback (most recent call last):
        ...
    ValueError: `x` must be [examples, 28, 28, 1], as the model was built. Received: shape (9, 28, 28).
    The axis of channels is missing: take `x[..., None]`.
    """
    expected = tf.TensorShape(model.input_shape)
    if not hasattr(x, "shape") or expected.is_compatible_with(x.shape):
        return
    shape = tuple(x.shape)
    same_size = expected.rank == len(shape) == 4 and expected[1:3].is_compatible_with(shape[1:3])
    if expected.is_compatible_with([1, *shape]):
        remedy = f"For one example take `{argument}[None]`."
    elif expected.is_compatible_with([*shape, 1]):
        remedy = (
            f"The axis of {'channels' if len(shape) == 3 else 'features'} is missing: take `{argument}[..., None]`."
        )
    elif same_size and expected[3] == 1:
        remedy = f"Make the images grey: `{argument}.mean(axis=-1, keepdims=True)`."
    elif expected.rank == 4:
        remedy = "Resize the images, for example by `tf.image.resize`, or build the model for these."
    else:
        remedy = "Give as many features, or build the model for these."
    raise ValueError(
        f"`{argument}` must be [examples, {', '.join(map(str, expected[1:]))}], as the model was built. "
        f"Received: shape {shape}.\n{remedy}"
    )


def as_array(argument: str, examples: Any) -> np.ndarray:
    """Examples as one array.

    Args:
        argument: Its name.
        examples: `[examples, ...]`, an array or a sequence of arrays.

    Raises:
        ValueError: If examples are of unequal shapes.

    >>> as_array("x", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    try:
        return np.asarray(examples)
    except ValueError:
        shapes = list(dict.fromkeys(np.shape(example) for example in examples))
        raise ValueError(
            f"`{argument}` must have examples of one shape. Received: {', '.join(map(str, shapes[:3]))}"
            f"{', ...' if len(shapes) > 3 else ''}.\nResize them, for example by `tf.image.resize`."
        ) from None


def check_ways(classes: Sequence[Any], remedy: str = "") -> None:
    """Refuses a task with nothing to choose from.

    Args:
        classes: Of the support set.
        remedy: What else the user can do.

    Raises:
        ValueError: If there are less than two.
    """
    if len(classes) < 2:
        raise ValueError(
            f"`support_y` must have two classes or more. Received: only {classes[0]!r}.\n"
            f"Add examples of another class{remedy}."
        )


def _check_labels(labels: tf.Tensor, outputs: int | None, other_ways: str | None) -> Any:
    ways = tf.reduce_max(labels) + 1 if outputs is None else outputs
    # [tasks, ways]: whether a task's support set has the class.
    present = tf.reduce_any(labels[..., None] == tf.range(ways), axis=1)
    within = (labels >= 0) & (labels < ways)
    if outputs is None:
        message = "`support_y` must be 0 to ways - 1 in each task, with an example of each class. Received labels:"
        remedy = "Number the classes from 0, in the same number in all tasks of a batch."
    else:
        reason = f"the learner has ways={outputs}" if other_ways else f"the base learner has {outputs} outputs"
        message = (
            f"`support_y` must be 0 to {outputs - 1}, as {reason}, with an example of each class in each task. "
            "Received labels:"
        )
        other_ways = other_ways or "build a base learner with another number of outputs"
        remedy = f"Load episodes with ways={outputs}, or {other_ways}."
    return _ensure(tf.reduce_all(present) & tf.reduce_all(within), message, labels, remedy)


def _ensure(condition: tf.Tensor, message: str, received: tf.Tensor | None = None, remedy: str = "") -> Any:
    """Raises a ValueError at once in eager execution; in a graph, returns an operation that fails as it runs."""
    if tf.executing_eagerly():
        if not bool(condition):
            values = "" if received is None else f" {received.numpy().tolist()!r:.200}.\n{remedy}"
            raise ValueError(message + values)
        return None
    data = [message] if received is None else [message, received, remedy]
    return tf.debugging.Assert(condition, data, summarize=20)


def check_queries(argument: str, x: Any, model: keras.Model) -> None:
    """Refuses examples that a classifier cannot tell anything of.

    Args:
        argument: Its name.
        x: `[examples, ...]`; what has no shape, such as a data set, passes.
        model: What the examples go into.

    Raises:
        ValueError: If they have another shape than the model was built for, or are not finite.
    """
    check_examples(argument, x, model)
    if not hasattr(x, "shape") or isinstance(x, keras.KerasTensor):
        return
    finite = np.isfinite(np.asarray(x)).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"`{argument}` must be finite. Received: NaN or infinity in example {int(np.argmin(finite))}.\n"
            "Check how it was read."
        )


#: What is common, as the remedy for a number out of its range.
_COMMON = {
    "inner_steps": "MAML takes 1 step on Omniglot and 5 on mini-ImageNet.",
    "evaluation_steps": "As many as inner steps are common, or more; None takes as many.",
    "inner_batch_size": "None takes the whole support set at each step.",
    "multi_step_updates": "0 leaves the loss of each step out.",
    "first_order_updates": "0 takes second derivatives from the beginning.",
    "processing_steps": "5 are the default.",
    "classes": "As many as the training data has, such as 64 in mini-ImageNet.",
    "ways": "Tasks of 5 or 20 are common.",
}


def check_numbers(optional: bool = True, **numbers: tuple[Any, int]) -> None:
    """Refuses numbers that are no integers or too small.

    Args:
        optional: Whether None will do.
        **numbers: Each argument's value and the least that it may be.
    """
    for argument, (value, least) in numbers.items():
        if not (optional and value is None) and (not isinstance(value, int | np.integer) or value < least):
            raise ValueError(
                f"`{argument}` must be an integer >= {least}. Received: {argument}={value!r}.\n{_COMMON[argument]}"
            )


def takes_labels(loss: Callable[[Any, Any], Any], outputs: int, dtype: str) -> bool:
    """Whether a loss takes labels, which no other tells so surely as itself.

    It is given one label more than there are outputs, so that it cannot take the labels for values.

    Args:
        loss: Of `(y, outputs)`.
        outputs: How many a network has.
        dtype: Of the outputs.

    >>> import keras
    >>> takes_labels(keras.losses.SparseCategoricalCrossentropy(), 3, "float32")
    True
    >>> takes_labels(keras.losses.MeanSquaredError(), 3, "float32")
    False
    """
    examples = max(outputs, 2) + 1
    try:
        loss(tf.zeros([examples], tf.int32), tf.zeros([examples, examples - 1], dtype))
    except Exception:
        # Losses say in many ways that they take something else.
        return False
    return True
