"""TensorFlow's side of tools/benchmark.py: the library, and Keras's own Adam. Prints a JSON object."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
import psutil
import tensorflow as tf
from stopwatch import milliseconds, peak_megabytes

import tf_metalearn as tfm
from tf_metalearn.estimators.truncated import Training, TruncatedBackpropagation, start
from tf_metalearn.functional import StatelessModel, join
from tf_metalearn.problems.base import Problem, Task
from tf_metalearn.threads import set_cpu_threads

UNROLL_LENGTH = 20
MEGABYTE = 2**20


class GivenBatches(Problem):
    """The paper's MLP (784-20-10, sigmoid) from given initial parameters on given batches, so that a peer can follow.

    Args:
        arrays: What tools/benchmark.py wrote: x, y, rows (one row of indices a step) and parameters.
    """

    def __init__(self, arrays: Any):
        super().__init__("given batches")
        layers = [keras.Input([784]), keras.layers.Dense(20, activation="sigmoid"), keras.layers.Dense(10)]
        self.model = StatelessModel(keras.Sequential(layers))
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.x, self.y = tf.constant(arrays["x"]), tf.constant(arrays["y"])
        self.rows, self.initial = tf.constant(arrays["rows"]), tf.constant(arrays["parameters"])

    @property
    def segments(self):
        return self.model.segments

    def sample(self, seed):
        return Task(self.initial, self.model.non_trainable(), ())

    def loss(self, task, parameters, carry, step):
        rows = tf.gather(self.rows, step)
        outputs, carry, _ = self.model(parameters, carry, tf.gather(self.x, rows))
        return self.cross_entropy(tf.gather(self.y, rows), outputs), carry


def meta_training(inputs: Path) -> tuple[Callable[[Training], Any], Training]:
    """A meta-training step, and a training at its first step to give it."""
    set_cpu_threads()
    arrays = np.load(inputs)
    rule = tfm.CoordinatewiseLSTM(preset="paper")
    rule.set_weights([arrays[f"weight_{index}"] for index in range(len(rule.weights))])
    problem = GivenBatches(arrays)
    estimator = TruncatedBackpropagation(UNROLL_LENGTH)

    @tf.function
    def meta_step(training):
        return estimator(rule, problem, training)

    return meta_step, start(rule, problem, tf.constant([0, 0]))


@click.group()
def main() -> None:
    pass


@main.command()
@click.argument("inputs", type=click.Path(path_type=Path))
def l2l_time(inputs: Path) -> dict[str, Any]:
    """Milliseconds of an inner step, with the meta-gradient's share."""
    meta_step, training = meta_training(inputs)
    losses, gradients, _ = meta_step(training)
    return {
        "value": milliseconds(lambda: meta_step(training)[0].numpy(), seconds=3) / UNROLL_LENGTH,
        "losses": losses.numpy().tolist(),
        "meta_gradient": join(gradients).numpy().tolist(),
    }


@main.command()
@click.argument("inputs", type=click.Path(path_type=Path))
@click.option("--meta-steps", type=int, required=True)
def l2l_memory(inputs: Path, meta_steps: int) -> dict[str, Any]:
    """Peak memory of meta-training, in episodes of five segments."""
    meta_step, first = meta_training(inputs)
    training, resident = first, {}
    for step in range(meta_steps):
        losses, _, training = meta_step(first if step % 5 == 0 else training)
        losses.numpy()
        resident[step + 1] = psutil.Process().memory_info().rss / MEGABYTE
    return {"value": peak_megabytes(), "resident_early": resident[50], "resident_late": resident[meta_steps]}


def step_of(optimizer: keras.optimizers.Optimizer, parameters: int) -> Callable[[], Any]:
    """One step of an optimizer on four dense layers with about so many parameters in all."""
    width = round((parameters / 4) ** 0.5)
    model = keras.Sequential([keras.Input([width]), *(keras.layers.Dense(width) for _ in range(4))])
    variables = model.trainable_variables
    gradients = [tf.random.stateless_normal(variable.shape, [0, 0], stddev=0.01) for variable in variables]
    optimizer.build(variables)

    @tf.function
    def step(gradients: Sequence[tf.Tensor]) -> None:
        optimizer.apply(gradients, variables)

    return lambda: step(gradients)


@main.command()
@click.argument("inputs", type=click.Path(path_type=Path))
@click.option("--parameters", type=int, required=True)
def learned(inputs: Path, parameters: int) -> dict[str, Any]:
    """Milliseconds of a step of the learned optimizer."""
    set_cpu_threads()
    return {"value": milliseconds(step_of(tfm.LearnedOptimizer(tfm.CoordinatewiseLSTM()), parameters), seconds=2)}


@main.command()
@click.argument("inputs", type=click.Path(path_type=Path))
@click.option("--parameters", type=int, required=True)
@click.option("--threads", type=click.Choice(["default", "many"]), required=True)
def adam(inputs: Path, parameters: int, threads: str) -> dict[str, Any]:
    """Milliseconds of a step of Keras's Adam."""
    if threads == "many":
        set_cpu_threads()
    return {"value": milliseconds(step_of(keras.optimizers.Adam(), parameters), seconds=2)}


@main.result_callback()
def show(result: dict[str, Any]) -> None:
    print(json.dumps(result))


if __name__ == "__main__":
    main()
