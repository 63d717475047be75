"""Samplers of few-shot episodes for tools/benchmark.py: the library's, and two that people write. Prints a JSON object.

All draw 5-way 1-shot episodes with 15 queries a class, as float32 images in batches of 16, from the same table of as
many classes and images as Omniglot's test split with its rotations.
"""

import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
import psutil

CLASSES, EXAMPLES, SIDE = 1692, 20, 28
WAYS, SHOTS, QUERIES, BATCH = 5, 1, 15, 16
WARM_UP, BATCHES, ROUNDS = 100, 100, 5


def images() -> np.ndarray:
    """`[classes, examples, side, side, 1]` uint8."""
    return np.random.default_rng(0).integers(0, 256, [CLASSES, EXAMPLES, SIDE, SIDE, 1], dtype=np.uint8)


def library() -> Iterator[Any]:
    import tf_metalearn as tfm

    table = tfm.episodes.ClassTable.of(images().reshape(-1, SIDE, SIDE, 1), np.repeat(np.arange(CLASSES), EXAMPLES))
    return iter(tfm.load_episodes(table, ways=WAYS, shots=SHOTS, queries=QUERIES, batch_size=BATCH))


def plain_numpy() -> Iterator[Any]:
    table, random = images(), np.random.default_rng(0)

    def episode() -> list[np.ndarray]:
        classes = random.choice(CLASSES, WAYS, replace=False)
        chosen = [table[label][random.permutation(EXAMPLES)[: SHOTS + QUERIES]] for label in classes]
        x = np.stack(chosen).astype("float32") / 255
        labels = np.arange(WAYS)
        support, query = x[:, :SHOTS].reshape(-1, SIDE, SIDE, 1), x[:, SHOTS:].reshape(-1, SIDE, SIDE, 1)
        return [support, np.repeat(labels, SHOTS), query, np.repeat(labels, QUERIES)]

    while True:
        yield [np.stack(parts) for parts in zip(*(episode() for _ in range(BATCH)), strict=True)]


def pipelines() -> Iterator[Any]:
    """A shuffled, repeated tf.data pipeline for each class, and one that chooses from them."""
    import tensorflow as tf

    def of_class(examples):
        return tf.data.Dataset.from_tensor_slices(examples).shuffle(EXAMPLES).repeat()

    def chosen(_):
        classes = tf.random.shuffle(tf.range(CLASSES, dtype=tf.int64))[:WAYS]
        return tf.data.Dataset.from_tensor_slices(tf.repeat(classes, SHOTS + QUERIES))

    def episode(x):
        x = tf.reshape(tf.cast(x, tf.float32) / 255.0, [WAYS, SHOTS + QUERIES, SIDE, SIDE, 1])
        labels = tf.range(WAYS)
        support, query = (tf.reshape(part, [-1, SIDE, SIDE, 1]) for part in (x[:, :SHOTS], x[:, SHOTS:]))
        return (support, tf.repeat(labels, SHOTS), query), tf.repeat(labels, QUERIES)

    selector = tf.data.Dataset.counter().flat_map(chosen)
    dataset = tf.data.Dataset.choose_from_datasets([of_class(examples) for examples in images()], selector)
    dataset = dataset.batch(WAYS * (SHOTS + QUERIES)).map(episode, num_parallel_calls=tf.data.AUTOTUNE)
    return iter(dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE))


SAMPLERS = {"library": library, "numpy": plain_numpy, "pipelines": pipelines}


@click.group()
def main() -> None:
    pass


@main.command("time")
@click.argument("name", type=click.Choice(list(SAMPLERS)))
def measure_time(name: str) -> None:
    """Microseconds an episode."""
    stream, times = SAMPLERS[name](), []
    for _ in range(WARM_UP):
        next(stream)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(BATCHES):
            next(stream)
        times.append((time.perf_counter() - began) / (BATCHES * BATCH))
    click.echo(json.dumps({"value": 1e6 * statistics.median(times)}))


@main.command("memory")
@click.option("--batches", type=int, required=True)
def measure_memory(batches: int) -> None:
    """Megabytes of the process in the middle and at the end of so many of the library's batches."""
    stream, resident = library(), []
    for _ in range(2):
        for _ in range(batches // 2):
            next(stream)
        resident.append(psutil.Process().memory_info().rss / 2**20)
    click.echo(json.dumps({"value": resident[1], "resident_early": resident[0]}))


if __name__ == "__main__":
    main()
