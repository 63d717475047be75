"""JAX's side of tools/benchmark.py: "learning to learn" as a jitted `lax.scan`. Prints a JSON object.

Runs in the environment of requirements-peers.txt, which has neither TensorFlow nor this library. The algorithm is that
of `TruncatedBackpropagation` with `CoordinatewiseLSTM(preset="paper")`, step by step.
"""

import argparse
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
from stopwatch import milliseconds, peak_megabytes

UNROLL_LENGTH = 20
UNITS = 20
P = 10.0
OUTPUT_SCALE = 0.1


def cross_entropy(parameters, x, y):
    """The paper's MLP (784-20-10, sigmoid)."""
    kernel_1, bias_1, kernel_2, bias_2 = jnp.split(parameters, [15680, 15700, 15900])
    hidden = jax.nn.sigmoid(x @ kernel_1.reshape(784, 20) + bias_1)
    log_probabilities = jax.nn.log_softmax(hidden @ kernel_2.reshape(20, 10) + bias_2)
    return -jnp.mean(jnp.take_along_axis(log_probabilities, y[:, None], axis=1))


@jax.custom_vjp
def loss_and_gradient(parameters, x, y):
    """The gradient that the rule is given is kept for the meta-gradient as well, which makes JAX about 10 % faster."""
    return jax.value_and_grad(cross_entropy)(parameters, x, y)


def _forward(parameters, x, y):
    loss, gradient = jax.value_and_grad(cross_entropy)(parameters, x, y)
    return (loss, gradient), gradient


def _backward(gradient, upstream):
    return upstream[0] * gradient, None, None


loss_and_gradient.defvjp(_forward, _backward)


def log_sign(gradient):
    magnitude = jnp.maximum(jnp.abs(gradient), math.exp(-P))
    return jnp.stack([jnp.log(magnitude) / P, jnp.clip(math.exp(P) * gradient, -1, 1)], axis=-1)


def lstm(inputs, state, kernel, bias):
    output, cell = state
    gates = jnp.concatenate([inputs, output], axis=-1) @ kernel + bias
    write, forget, read, candidate = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(write) * jnp.tanh(candidate)
    return jax.nn.sigmoid(read) * jnp.tanh(cell), cell


def rule(weights, gradient, state):
    kernel_1, bias_1, kernel_2, bias_2, output_kernel, output_bias = weights
    first = lstm(log_sign(gradient), state[0], kernel_1, bias_1)
    second = lstm(first[0], state[1], kernel_2, bias_2)
    return OUTPUT_SCALE * (second[0] @ output_kernel + output_bias)[:, 0], (first, second)


def meta_step_on(x, y, rows, cuts):
    """The meta-training step: `(weights, training) -> ((meta-loss, (losses, training)), meta-gradient)`."""

    def inner_step(weights, training):
        parameters, states, step = training
        loss, gradient = loss_and_gradient(parameters, x[rows[step]], y[rows[step]])
        pieces = jnp.split(jax.lax.stop_gradient(gradient), cuts)
        moves = [rule(weights, piece, state) for piece, state in zip(pieces, states, strict=True)]
        parameters = parameters + jnp.concatenate([update for update, _ in moves])
        return (parameters, [state for _, state in moves], step + 1), loss

    def meta_loss(weights, training):
        training, losses = jax.lax.scan(lambda carry, _: inner_step(weights, carry), training, length=UNROLL_LENGTH)
        parameters, _, step = training
        final = cross_entropy(parameters, x[rows[step]], y[rows[step]])
        losses = jnp.append(losses[1:], final)
        return jnp.sum(losses), (losses, training)

    return jax.jit(jax.value_and_grad(meta_loss, has_aux=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["l2l-time", "l2l-memory"])
    parser.add_argument("inputs")
    parser.add_argument("--chunks", type=int, default=1)
    parser.add_argument("--meta-steps", type=int, default=50)
    arguments = parser.parse_args()

    arrays = np.load(arguments.inputs)
    weights = [jnp.asarray(arrays[f"weight_{index}"]) for index in range(6)]
    parameters = jnp.asarray(arrays["parameters"])
    coordinates = parameters.size
    cuts = [coordinates * index // arguments.chunks for index in range(1, arguments.chunks)]
    x, y, rows = (jnp.asarray(arrays[name]) for name in ("x", "y", "rows"))
    meta_step = meta_step_on(x, y, rows, cuts)
    zeros = [jnp.zeros((size, UNITS)) for size in np.diff([0, *cuts, coordinates])]
    first = (parameters, [((zero, zero), (zero, zero)) for zero in zeros], jnp.asarray(0))

    if arguments.what == "l2l-time":
        (_, (losses, _)), gradients = jax.block_until_ready(meta_step(weights, first))
        time = milliseconds(lambda: jax.block_until_ready(meta_step(weights, first)), seconds=3)
        result = {
            "value": time / UNROLL_LENGTH,
            "losses": losses.tolist(),
            "meta_gradient": np.concatenate([np.ravel(gradient) for gradient in gradients]).tolist(),
        }
    else:
        training = first
        for step in range(arguments.meta_steps):
            (_, (_, training)), _ = jax.block_until_ready(meta_step(weights, first if step % 5 == 0 else training))
        result = {"value": peak_megabytes()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
