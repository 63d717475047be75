"""The few-shot learners' side of tools/benchmark.py. Prints a JSON object."""

import json
import time
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
import tensorflow as tf
from stopwatch import milliseconds, peak_megabytes

import tf_metalearn as tfm
from tf_metalearn.functional import StatelessModel, join


@click.group()
def main() -> None:
    pass


@main.command()
@click.argument("inputs", type=click.Path(path_type=Path))
@click.option("--inner-steps", type=int, required=True)
@click.option("--inner-learning-rate", type=float, required=True)
def maml(inputs: Path, inner_steps: int, inner_learning_rate: float) -> dict[str, Any]:
    """Milliseconds of a training step of second-order MAML, the step of the outer Adam included."""
    tfm.set_cpu_threads()
    arrays = np.load(inputs)
    base_learner = tfm.backbones.conv4(outputs=5)
    StatelessModel(base_learner).assign(tf.constant(arrays["conv4"]))
    learner = tfm.MAML(base_learner, inner_steps, inner_learning_rate, transductive=True)
    optimizer = keras.optimizers.Adam()
    learner.compile(optimizer)
    support_x, support_y, query_x, query_y = (
        tf.constant(arrays[part]) for part in ("support_x", "support_y", "query_x", "query_y")
    )
    episode = tfm.Episode(support_x, support_y, query_x)

    def step() -> float:
        return learner.train_on_batch(episode, query_y, return_dict=True)["loss"]

    began = time.perf_counter()
    loss = step()
    tracing = time.perf_counter() - began
    # After one step Adam's average of the gradient holds (1 - beta_1) of it.
    averages = [variable for variable in optimizer.variables if variable.path.endswith("momentum")]
    meta_gradient = join([average / (1 - optimizer.beta_1) for average in averages])
    return {
        "value": milliseconds(step, seconds=3),
        "loss": float(loss),
        "meta_gradient": meta_gradient.numpy().tolist(),
        "tracing": tracing,
        "memory": peak_megabytes(),
    }


@main.result_callback()
def show(result: dict[str, Any]) -> None:
    print(json.dumps(result))


if __name__ == "__main__":
    main()
