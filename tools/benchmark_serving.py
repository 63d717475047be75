"""The served side of tools/benchmark.py: exports, and asks them as the server would. Prints a JSON object."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

WAYS, QUERIES, IMAGE = 5, 15, (28, 28, 1)


@click.group()
def main() -> None:
    pass


@main.command()
@click.argument("kind", type=click.Choice(["prototypical", "maml"]))
@click.argument("folder", type=click.Path(path_type=Path))
def export(kind: str, folder: Path) -> dict[str, Any]:
    """Writes a learner's export, and beside it the passes through its network that adapting and predicting take."""
    import keras
    import tensorflow as tf

    import tf_metalearn as tfm
    from tf_metalearn.functional import StatelessModel

    keras.utils.set_random_seed(0)
    network = tfm.backbones.conv4(outputs=WAYS if kind == "maml" else None)
    learner = tfm.MAML(network, 5, 0.1) if kind == "maml" else tfm.PrototypicalNetwork(network)
    learner.export(folder / "learner" / "1", verbose=False)
    pure, loss = StatelessModel(network), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    images = tf.TensorSpec([None, *IMAGE], tf.float32, "x")

    @tf.function(input_signature=[images])
    def forward(x):
        return {"outputs": network(x, training=False)}

    @tf.function(input_signature=[images, tf.TensorSpec([None], tf.int32, "y")])
    def gradient(x, y):
        parameters = pure.parameters()
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            value = loss(y, pure(parameters, pure.non_trainable(), x, training=True)[0])
        return {"gradient": tape.gradient(value, parameters)}

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    signatures = (
        {"serving_default": forward} if kind == "prototypical" else {"serving_default": forward, "gradient": gradient}
    )
    tf.saved_model.save(module, str(folder / "passes"), signatures=signatures)
    return {"value": 0}


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--requests", default=300, help="Of each number of callers.")
def ask(folder: Path, requests: int) -> dict[str, Any]:
    """Milliseconds of a task of 5 ways, 1 shot and 15 queries, adapted to and predicted; by 1, 2, 4 and 8 callers."""
    session, inputs = _session(folder / "learner" / "1"), _task()
    expected = session.run("serving_default", inputs)["probabilities"]

    def one() -> bool:
        return bool(np.array_equal(session.run("serving_default", inputs)["probabilities"], expected))

    callers, same = {}, True
    for count in (1, 2, 4, 8):
        times, seconds, answers = _ask(one, count, requests)
        same = same and all(answers)
        low, high = (1000 * float(np.percentile(times, percentile)) for percentile in (50, 99))
        callers[count] = {"p50": low, "p99": high, "a_second": len(times) / seconds}
    return {"value": callers[1]["p50"], "callers": callers, "same": same}


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--requests", default=10_000)
def memory(folder: Path, requests: int) -> dict[str, Any]:
    """Megabytes after a tenth of the requests, and after all of them."""
    session, inputs, process = _session(folder / "learner" / "1"), _task(), psutil.Process()
    found = []
    for count in (requests // 10, requests - requests // 10):
        _ask(lambda: session.run("serving_default", inputs), 2, count)
        found.append(process.memory_info().rss / 2**20)
    return {"value": found[1], "early": found[0]}


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--inner-steps", default=0)
def passes(folder: Path, inner_steps: int) -> dict[str, Any]:
    """Milliseconds of the bare passes: all images forward; or each inner step, the support set and the queries."""
    session, task = _session(folder / "passes"), _task()
    support, query = task["support_x"][0], task["query_x"][0]

    def median(signature: str, **inputs: Any) -> float:
        times, _, _ = _ask(lambda: session.run(signature, inputs), 1, 300)
        return 1000 * float(np.median(times))

    if not inner_steps:
        return {"value": median("serving_default", x=np.concatenate([support, query]))}
    step = median("gradient", x=support, y=task["support_y"][0])
    return {"value": inner_steps * step + median("serving_default", x=support) + median("serving_default", x=query)}


def _session(path: Path) -> Any:
    """A session as the server has it; the module is loaded from its file, without TensorFlow in Python."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tf_metalearn" / "serving"))
    from load_check import ServingSession

    return ServingSession(path)


def _task() -> dict[str, Any]:
    random = np.random.default_rng(0)
    support, query = (random.random([1, count, *IMAGE]).astype("float32") for count in (WAYS, QUERIES))
    return {"support_x": support, "support_y": np.arange(WAYS)[None], "query_x": query}


def _ask(one: Callable[[], Any], callers: int, requests: int) -> tuple[list[float], float, list[Any]]:
    """Seconds of each request, of all together, and the answers; some requests before do not count."""
    for _ in range(10):
        one()
    times: list[float] = []
    answers: list[Any] = []

    def call() -> None:
        for _ in range(requests // callers):
            began = time.perf_counter()
            answer = one()
            times.append(time.perf_counter() - began)
            answers.append(answer is not False)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, time.perf_counter() - began, answers


@main.result_callback()
def show(result: dict[str, Any]) -> None:
    print(json.dumps(result))


if __name__ == "__main__":
    main()
