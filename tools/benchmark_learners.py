"""The few-shot learners' side of tools/benchmark.py. Prints a JSON object."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
import tensorflow as tf
from benchmark_episodes import CLASSES, EXAMPLES, SIDE, images
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
    return measure_training(tfm.MAML(base_learner, inner_steps, inner_learning_rate, transductive=True), arrays)


@main.command()
@click.argument("inputs", type=click.Path(path_type=Path))
def prototypical(inputs: Path) -> dict[str, Any]:
    """Milliseconds of a training step of a prototypical network, that of Adam included."""
    arrays = np.load(inputs)
    embedding = tfm.backbones.conv4(downsample="max")
    StatelessModel(embedding).assign(tf.constant(arrays["prototypical_conv4"]))
    return measure_training(tfm.PrototypicalNetwork(embedding), arrays, "prototypical_")


def measure_training(learner: tfm.FewShotLearner, arrays: Any, prefix: str = "") -> dict[str, Any]:
    """Time, memory, and the first loss and gradient of a learner that trains on one batch of tasks.

    Args:
        learner: The learner, not compiled.
        arrays: What tools/benchmark.py wrote.
        prefix: Of the names of the tasks' parts.
    """
    optimizer = keras.optimizers.Adam()
    learner.compile(optimizer)
    support_x, support_y, query_x, query_y = (
        tf.constant(arrays[prefix + part]) for part in ("support_x", "support_y", "query_x", "query_y")
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


@main.command()
@click.option("--logged/--silent", required=True)
def tensorboard(logged: bool) -> dict[str, Any]:
    """Seconds of a training of MAML on 16 tasks a step, with all that TensorBoard shows of it or without."""
    tfm.set_cpu_threads()
    episodes = tfm.load_episodes((images().reshape(-1, SIDE, SIDE, 1), np.repeat(range(CLASSES), EXAMPLES)), queries=5)
    learner = tfm.MAML(tfm.backbones.conv4(outputs=5))
    learner.compile()
    began = None

    class Clock(keras.callbacks.Callback):
        """Starts after the first epoch, in which everything is traced."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            nonlocal began
            began = began or time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        callbacks: list[Any] = [Clock()]
        if logged:
            batch = next(iter(episodes))
            callbacks = [keras.callbacks.TensorBoard(folder), tfm.MetaLearningTensorBoard(folder, batch), *callbacks]
        learner.fit(episodes, epochs=16, steps_per_epoch=40, verbose=0, callbacks=callbacks)
        assert began is not None
        return {"value": time.perf_counter() - began}


@main.command()
@click.option("--embedded/--each", required=True, help="Whether images are embedded once, or in each episode.")
def evaluation(embedded: bool) -> dict[str, Any]:
    """Seconds of 1,000 5-way 1-shot episodes with 15 queries a class, of images as many as in Omniglot's test split."""
    keras.utils.set_random_seed(0)
    learner = tfm.PrototypicalNetwork(tfm.backbones.conv4())
    learner.compile()
    pixels, labels = images().reshape(-1, SIDE, SIDE, 1), np.repeat(np.arange(CLASSES), EXAMPLES)
    classes, embedding = tfm.episodes.ClassTable.of(pixels, labels), 0.0
    if embedded:
        began = time.perf_counter()
        classes, learner = tfm.embed_classes(learner, classes), tfm.on_embeddings(learner)
        embedding = time.perf_counter() - began
    episodes = tfm.load_episodes(classes, episodes=1000, batch_size=20)

    def evaluate() -> dict[str, float]:
        return learner.evaluate(episodes, verbose=0, return_dict=True)

    figures = evaluate()
    return {
        "value": milliseconds(evaluate, seconds=1) / 1000,
        "accuracy": figures["accuracy"],
        "loss": figures["loss"],
        "embedding": embedding,
    }


@main.result_callback()
def show(result: dict[str, Any]) -> None:
    print(json.dumps(result))


if __name__ == "__main__":
    main()
