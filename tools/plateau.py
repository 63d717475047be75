"""Why the Meta-LSTM has a forget gate: it leaves a plateau by shrinking parameters, where gradient descent stays."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

COORDINATES = 2
STEPS = 20


class Descent(NamedTuple):
    """One optimizer's way: losses `[STEPS + 1]`, and for a Meta-LSTM its gates, `[STEPS, COORDINATES]` each."""

    losses: np.ndarray
    gates: tuple[np.ndarray, np.ndarray] | None = None


def task(seed: Any, nearest: float = 5.0) -> tuple[Any, Any]:
    """A loss of nearly 1, flat everywhere but around its minimum of 0: the mean of 1 - exp(-(x - minimum)^2 / 2).

    Args:
        seed: Decides the minimum, up to 1.5 away from 0, and the start, up to 8 away.
        nearest: How far away the start is at least.

    Returns:
        The loss as `unroll` wants it, and the start.
    """
    import tensorflow as tf

    def draw(number, low, high):
        return tf.random.stateless_uniform([COORDINATES], [seed, number], low, high, tf.float64)

    minimum, start = draw(0, -1.5, 1.5), draw(1, nearest, 8.0) * tf.sign(draw(2, -1.0, 1.0))

    def loss(parameters, carry, step):
        return tf.reduce_mean(1 - tf.exp(-0.5 * (parameters - minimum) ** 2)), carry

    return loss, start


def train_meta_lstm(updates: int = 1000) -> Any:
    """Trains a Meta-LSTM to get the losses of a descent down, on a new task each time."""
    import keras
    import tensorflow as tf

    from tf_metalearn import unroll
    from tf_metalearn.rules import MetaLSTMRule

    rule = MetaLSTMRule(seed=0, dtype="float64")
    optimizer = keras.optimizers.Adam(0.01, global_clipnorm=1.0)

    @tf.function
    def meta_gradient(seed):
        weights = [weight.value for weight in rule.trainable_variables]
        with tf.GradientTape() as tape:
            # Starts near the minimum, too, so that it learns when not to forget.
            loss, start = task(seed, nearest=0.0)
            result = unroll(rule, loss, start, STEPS)
            total = tf.reduce_sum(result.losses) + loss(result.parameters, (), STEPS)[0]
        return tape.gradient(total, weights)

    for seed in range(updates):
        optimizer.apply(meta_gradient(tf.constant(seed)), rule.trainable_variables)
    return rule


def watch(rule: Any, seeds: Iterable[int]) -> list[Descent]:
    """What a rule does step by step on some tasks."""
    import tensorflow as tf

    from tf_metalearn import unroll

    @tf.function
    def run(seed):
        loss, parameters = task(seed)
        state, losses, gates = None, [], []
        for step in range(STEPS):
            result = unroll(rule, loss, parameters, 1, state=state, step=step)
            parameters, state = result.parameters, result.state
            losses.append(result.losses[0])
            gates.append(getattr(state, "gates", ()))
        losses.append(loss(parameters, (), STEPS)[0])
        return tf.stack(losses), [tf.stack(gate) for gate in zip(*gates, strict=True)]

    results = [run(tf.constant(seed)) for seed in seeds]
    return [Descent(losses.numpy(), tuple(gate.numpy() for gate in gates) or None) for losses, gates in results]


def run_plateau(directory: Path) -> tuple[str, list[Path]]:
    """Trains a Meta-LSTM, compares it with gradient descent, and draws both.

    Args:
        directory: For the pictures.

    Returns:
        Markdown, and the pictures' files.
    """
    from tf_metalearn.plotting import learning_curves, plot_gates
    from tf_metalearn.rules import GradientDescent

    rates = (0.1, 1.0, 10.0)
    seeds = range(1000, 1020)
    rule = train_meta_lstm()
    ways = {"Meta-LSTM": watch(rule, seeds)}
    for rate in rates:
        descent = GradientDescent(rate, dtype="float64")
        ways[f"gradient descent, rate {rate:g}"] = watch(descent, seeds)
    curves = {name: np.stack([way.losses for way in found]) for name, found in ways.items()}
    directory.mkdir(parents=True, exist_ok=True)
    pictures = [directory / "plateau-losses.png", directory / "plateau-gates.png"]
    learning_curves(curves, emphasised=["Meta-LSTM"], first_step=0, title="On a plateau").savefig(pictures[0])
    each = [way.gates for way in ways["Meta-LSTM"] if way.gates]
    gates = tuple(np.concatenate([one[gate] for one in each], axis=1) for gate in range(2))
    plot_gates(gates, "Gates of the Meta-LSTM on a plateau").savefig(pictures[1])
    lines = ["| rule | loss at the start | after 20 steps |", "|---|---|---|"]
    lines += [f"| {name} | {values[:, 0].mean():.4f} | {values[:, -1].mean():.4f} |" for name, values in curves.items()]
    shown = [f"![{picture.stem}](images/{picture.name})" for picture in pictures]
    return "\n\n".join(["\n".join(lines), *shown]) + "\n", pictures
