"""The inner loop: training a model by an update rule, in a form that can be differentiated."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_metalearn.functional import Segment
from tf_metalearn.rules.base import OFFERS, UpdateRule, join_coordinates, split_coordinates

#: `loss(parameters, carry, step) -> (scalar, carry)`. The carry is whatever else changes from step to step, such as
#: batch-normalisation statistics and dropout seeds.
Loss = Callable[[tf.Tensor, Any, tf.Tensor], tuple[tf.Tensor, Any]]


class Unrolled(NamedTuple):
    """What a stretch of training leaves behind; hand `parameters`, `state`, `carry` and `step` to the next stretch.

    Args:
        losses: `[steps]`, the loss at each step before its update.
        parameters: `[coordinates]` after the last update.
        state: The rule's state after the last update.
        carry: The loss's carry after the last update.
        step: How many steps the whole training has taken, an integer scalar.

    >>> from tf_metalearn.rules import GradientDescent
    >>> def square(parameters, carry, step):
    ...     return tf.reduce_sum(parameters**2), carry
    >>> rule = GradientDescent(0.25)
    >>> first = unroll(rule, square, tf.constant([8.0]), steps=2)
    >>> second = unroll(rule, square, first.parameters, steps=1, state=first.state, carry=first.carry, step=first.step)
    >>> int(second.step), second.parameters.numpy()
    (3, array([1.], dtype=float32))
    """

    losses: tf.Tensor
    parameters: tf.Tensor
    state: Any
    carry: Any
    step: tf.Tensor


def unroll(
    rule: UpdateRule,
    loss: Loss,
    parameters: tf.Tensor,
    steps: int | tf.Tensor,
    *,
    state: Any = None,
    carry: Any = (),
    step: int | tf.Tensor = 0,
    segments: Sequence[Segment] | None = None,
    second_derivatives: bool = False,
    recompute: bool = False,
) -> Unrolled:
    """Trains `parameters` on `loss` by `rule` for some steps, differentiably.

    The result can be differentiated with respect to the rule's weights, the parameters, the state, the carry and
    whatever else the loss depends on. Segments join without a seam: 5 times 20 steps, each given what the one before
    returned, are 100 steps. Call it inside a `tf.function`; there it is one `tf.while_loop`, whatever the number of
    steps, or no loop if it is one.

    Args:
        rule: How parameters move.
        loss: `loss(parameters, carry, step) -> (scalar, carry)`.
        parameters: `[coordinates]`.
        steps: How many updates.
        state: The rule's state; a fresh one when None.
        carry: The loss's carry before the first step.
        step: The number of the first step, for rules and losses that count.
        segments: The variables behind the coordinates, for rules that need them.
        second_derivatives: Whether the gradient that the rule is given is itself differentiated. Off, it is a constant
            for the meta-gradient (Andrychowicz et al. 2016, section 2; first-order MAML).
        recompute: Whether each step's intermediate results are computed anew for the meta-gradient instead of kept:
            memory no longer grows with the model's activations, for about a third more time. Gradients then reach
            parameters, state, carry and variables, but no other tensors that the loss has captured.

    Returns:
        An `Unrolled`.

    Raises:
        ValueError: If the loss is not a scalar, or the rule needs something unknown.

    >>> from tf_metalearn.rules import GradientDescent
    >>> def square(parameters, carry, step):
    ...     return tf.reduce_sum(parameters**2), carry
    >>> result = unroll(GradientDescent(0.25), square, tf.constant([8.0]), steps=3)
    >>> result.losses.numpy(), result.parameters.numpy()
    (array([64., 16.,  4.], dtype=float32), array([1.], dtype=float32))
    """
    parameters = tf.convert_to_tensor(parameters)
    if parameters.shape.rank != 1:
        raise ValueError(
            "`parameters` must be one vector `[coordinates]`. "
            f"Received: a tensor of shape {parameters.shape}.\n`tf_metalearn.functional.join` makes one of many."
        )
    unknown = set(rule.needs) - OFFERS
    if unknown:
        raise ValueError(
            f"`rule.needs` must be among {sorted(OFFERS)}. Received: {sorted(unknown)} from {type(rule).__name__}.\n"
            "Correct the rule's `needs`."
        )
    if state is None:
        state = rule.initial_state(parameters.shape[0], segments)
    carry = tf.nest.map_structure(tf.convert_to_tensor, carry)
    # A coordinatewise rule's work falls into independent pieces, which run side by side. Its state stays cut from step
    # to step: cutting and joining it anew each time cost a fifth of the step.
    sizes = _chunk_sizes(rule, parameters.shape[0])
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    states = split_coordinates(state, sizes) if len(sizes) > 1 else [state]

    def advance(parameters, states, carry, step):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            value, carry = loss(parameters, carry, step)
            _check_scalar(value)
        gradient = tape.gradient(value, parameters, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        told = value
        if not second_derivatives:
            gradient, told = tf.stop_gradient(gradient), tf.stop_gradient(value)
        moves = []
        pieces = zip(tf.split(gradient, sizes), states, tf.split(parameters, sizes), strict=True)
        for gradient_piece, state, parameter_piece in pieces:
            offers = {"parameter": parameter_piece, "loss": told, "step": step, "segments": segments}
            moves.append(rule(gradient_piece, state, **{name: offers[name] for name in rule.needs}))
        update = tf.concat([update for update, _ in moves], axis=0)
        return value, parameters + update, [state for _, state in moves], carry

    start = tf.convert_to_tensor(step, tf.int32)
    steps = tf.convert_to_tensor(steps, tf.int32)
    run = _loop_recomputed if recompute else _loop
    losses, parameters, states, carry = run(advance, parameters, states, carry, start, steps)
    state = join_coordinates(states) if len(states) > 1 else states[0]
    return Unrolled(losses, parameters, state, carry, start + steps)


def _loop(advance, parameters, states, carry, start, steps):
    """`steps` times `advance`, as one while loop; TensorFlow keeps what its gradient needs."""
    # The bound lets XLA size what is kept; it must be known when the function is traced.
    bound = tf.get_static_value(steps)
    if bound == 1:
        # A loop of one turn, with all that its gradient keeps, takes a quarter more time in MAML.
        value, parameters, states, carry = advance(parameters, states, carry, start)
        return value[None], parameters, states, carry

    def body(index, losses, parameters, states, carry):
        value, parameters, states, carry = advance(parameters, states, carry, start + index)
        return index + 1, losses.write(index, value), parameters, states, carry

    _, losses, parameters, states, carry = tf.while_loop(
        lambda index, *_: index < steps,
        body,
        (tf.constant(0), tf.TensorArray(parameters.dtype, size=steps, element_shape=[]), parameters, states, carry),
        maximum_iterations=steps if bound is None else int(bound),
    )
    values = losses.stack()
    return (values if bound is None else tf.ensure_shape(values, [int(bound)])), parameters, states, carry


def _loop_recomputed(advance, parameters, states, carry, start, steps):
    """`_loop` that keeps only what enters each step, and runs each step again on the way back.

    `tf.recompute_grad` cannot do this: inside a while loop it fails on whatever the step captures from outside.
    """
    entry = (parameters, states, carry)

    def step_from(leaves, index):
        value, *following = advance(*tf.nest.pack_sequence_as(entry, leaves), start + index)
        return [value, *tf.nest.flatten(following)]

    @tf.custom_gradient
    def loop(*leaves):
        def body(index, losses, kept, leaves):
            kept = [array.write(index, leaf) for array, leaf in zip(kept, leaves, strict=True)]
            value, *leaves = step_from(leaves, index)
            return index + 1, losses.write(index, value), kept, leaves

        bound = tf.get_static_value(steps)
        limit = {"maximum_iterations": steps if bound is None else int(bound)}
        kept = [tf.TensorArray(leaf.dtype, size=steps, element_shape=leaf.shape) for leaf in leaves]
        losses = tf.TensorArray(parameters.dtype, size=steps, element_shape=[])
        _, losses, kept, after = tf.while_loop(
            lambda index, *_: index < steps, body, (tf.constant(0), losses, kept, list(leaves)), **limit
        )

        def gradient(*upstream, variables=()):
            differentiable = [index for index, leaf in enumerate(leaves) if leaf.dtype.is_floating]
            variables = list(variables or ())

            def back(index, cotangents, totals):
                entering = [array.read(index) for array in kept]
                watched = [entering[leaf] for leaf in differentiable]
                with tf.GradientTape() as tape:
                    tape.watch(watched)
                    results = step_from(entering, index)
                    moving = [results[0], *(results[1 + leaf] for leaf in differentiable)]
                gradients = tape.gradient(
                    moving,
                    [*watched, *variables],
                    output_gradients=[upstream[0][index], *cotangents],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                gradients = [tf.convert_to_tensor(part) for part in gradients]
                totals = [total + part for total, part in zip(totals, gradients[len(watched) :], strict=True)]
                return index - 1, gradients[: len(watched)], totals

            cotangents = [upstream[1 + leaf] for leaf in differentiable]
            totals = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
            _, cotangents, totals = tf.while_loop(
                lambda index, *_: index >= 0, back, (steps - 1, cotangents, totals), **limit
            )
            by_leaf = dict(zip(differentiable, cotangents, strict=True))
            return [by_leaf.get(index) for index in range(len(leaves))], totals

        values = losses.stack()
        values = values if bound is None else tf.ensure_shape(values, [int(bound)])
        return (values, *after), gradient

    values, *after = loop(*tf.nest.flatten(entry))
    return (values, *tf.nest.pack_sequence_as(entry, after))


def _check_scalar(value: tf.Tensor) -> None:
    if value.shape.rank != 0:
        raise ValueError(
            f"`loss` must return a scalar. Received: a tensor of shape {value.shape}.\n"
            "Reduce it, for example by `tf.reduce_mean`."
        )


def _chunk_sizes(rule: UpdateRule, coordinates: int) -> list[int]:
    chunks = min(rule.chunks, coordinates) if rule.coordinatewise else 1
    return [(coordinates + index) // chunks for index in range(chunks)]
