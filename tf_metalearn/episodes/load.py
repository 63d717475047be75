"""`load_episodes`: data sets as support and query sets; and `load_examples`, all classes at once."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.augmentation import Augmentation
from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.randomness import Purpose, uniform
from tf_metalearn.episodes.sampler import Count, EpisodeSampler, as_floats
from tf_metalearn.episodes.sinusoids import SinusoidSampler
from tf_metalearn.episodes.sources import Size, load_classes
from tf_metalearn.episodes.splits import Splits

#: Regression tasks.
SINUSOIDS = "sinusoids"


def load_episodes(
    source: Any,
    split: str | None = None,
    ways: Count = 5,
    shots: Count = 1,
    queries: int = 15,
    batch_size: int = 16,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    start: int = 0,
    episodes: int | None = None,
    protocol: str | None = None,
    rotations: bool | None = None,
    within_groups: bool = False,
    image_size: Size = None,
    splits: Splits | None = None,
    metadata: Any = None,
    augmentation: Augmentation | None = None,
    unreadable: str = "fail",
) -> tf.data.Dataset:
    """Loads a data set as a stream of few-shot tasks.

    Episode i is a pure function of the data, the split, the seed and i: the same on every machine, for every batch
    size. Classes in an episode are distinct, support and query sets disjoint, and all in random order. Ways and shots
    that are ranges are drawn once for each batch, so that shapes are the same within it, and a batch within groups has
    no more ways than the smallest of its groups has classes; these numbers then depend on the batch size, too.

    Args:
        source: "omniglot", "cifar_fs", "mini_imagenet", "glyphs"; another tensorflow_datasets name; the path of a
            folder of class folders; arrays `(x, y)`; a `ClassTable`; or "sinusoids", the regression tasks.
        split: "train" (the default), "validation" or "test", several joined by "+", or "all".
        ways: Classes in an episode, or a range `(least, greatest)`. Regression tasks have none.
        shots: Support examples of a class, or a range. 0 puts the classes' metadata in their place (zero-shot).
        queries: Query examples of a class.
        batch_size: Tasks in a batch.
        seed: Decides all episodes.
        data_dir: Where data sets are; TFDS_DATA_DIR when None, and tensorflow_datasets' own default without that.
        start: The first episode's index: a run that was interrupted goes on at any. With ranges, a multiple of the
            batch size.
        episodes: How many; without end when None.
        protocol: See `load_classes`, as `rotations`, `image_size`, `splits`, `metadata` and `unreadable`.
        rotations: Whether turned images are classes of their own.
        within_groups: Whether all classes of an episode come from one group, such as an alphabet; groups that have
            fewer classes than ways give what they have.
        image_size: Of resized images.
        splits: Class names by split.
        metadata: Each class name's features.
        augmentation: Random changes of the images, an `Augmentation`; a function of seed and index as well.
        unreadable: What to do with damaged images of a folder.

    Returns:
        A data set of `(Episode(support_x, support_y, query_x), query_y)`. Pixels are float32 in [0, 1]:
        `[tasks, ways * shots, height, width, channels]`, `[tasks, ways * shots]`,
        `[tasks, ways * queries, height, width, channels]` and `[tasks, ways * queries]`.

    Raises:
        ValueError: If an argument is not as it must be, or a split has too few classes or examples.

    >>> x, y = np.random.default_rng(0).random([200, 8, 8, 1]), np.repeat(range(10), 20)
    >>> episode, query_y = next(iter(load_episodes((x, y), split="all", batch_size=4)))
    >>> episode.support_x.shape, query_y.shape
    (TensorShape([4, 5, 8, 8, 1]), TensorShape([4, 75]))

    References: Vinyals et al. 2016, https://arxiv.org/abs/1606.04080; Ravi & Larochelle 2017,
    https://openreview.net/forum?id=rJY0-Kcll.
    """
    _check(batch_size=(batch_size, 1), seed=(seed, 0), start=(start, 0), episodes=(episodes, 1))
    sampler: EpisodeSampler | SinusoidSampler
    options = {
        "protocol": protocol,
        "rotations": rotations,
        "image_size": image_size,
        "splits": splits,
        "metadata": metadata,
    }
    if isinstance(source, str) and source == SINUSOIDS:
        _refuse("sinusoids", within_groups=within_groups or None, augmentation=augmentation, **options)
        sampler = SinusoidSampler(shots, queries, seed, split or "train")
    else:
        table = source
        if isinstance(source, ClassTable):
            _refuse("a ClassTable, which has its classes already", split=split, **options)
        else:
            table = load_classes(source, split or "train", data_dir=data_dir, unreadable=unreadable, **options)
        sampler = EpisodeSampler(table, ways, shots, queries, seed, within_groups, augmentation)
    if not sampler.static and start % batch_size:
        raise ValueError(
            f"`start` must be a multiple of the batch size where shapes are drawn for each batch. Received: "
            f"start={start}, batch_size={batch_size}.\nTry start={start - start % batch_size}."
        )
    stop = np.iinfo(np.int64).max if episodes is None else start + episodes
    whole = episodes is None or episodes % batch_size == 0
    indices = tf.data.Dataset.range(start, stop).batch(batch_size, drop_remainder=whole)

    def draw(indices):
        return sampler(indices, indices[0] // batch_size)

    return indices.map(draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def load_examples(
    source: Any,
    split: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    start: int = 0,
    examples: int | None = None,
    augmentation: Augmentation | None = None,
    **options: Any,
) -> tf.data.Dataset:
    """Loads a data set as a stream of labelled examples of all classes at once, to train an ordinary classifier on.

    Examples are drawn with replacement: example i is a pure function of the data, the split, the seed and i.

    Args:
        source: As `load_episodes` has it.
        split: "train" (the default), "validation" or "test", several joined by "+", or "all".
        batch_size: Examples in a batch.
        seed: Decides all examples.
        data_dir: Where data sets are.
        start: The first example's index.
        examples: How many; without end when None.
        augmentation: Random changes of the images.
        **options: As `load_classes` has them.

    Returns:
        A data set of `(x, y)`: `[batch, ...]` float32 and `[batch]` int32, the classes numbered in the order of
        `load_classes(source, split).names`.

    Raises:
        ValueError: If an argument is not as it must be.

    >>> x, y = np.random.default_rng(0).random([200, 8, 8, 1]), np.repeat(range(10), 20)
    >>> images, labels = next(iter(load_examples((x, y), split="all", batch_size=32)))
    >>> images.shape, labels.shape
    (TensorShape([32, 8, 8, 1]), TensorShape([32]))
    """
    _check(batch_size=(batch_size, 1), seed=(seed, 0), start=(start, 0), examples=(examples, 1))
    if isinstance(source, ClassTable):
        _refuse("a ClassTable, which has its classes already", split=split, **options)
        table = source
    else:
        table = load_classes(source, split or "train", data_dir=data_dir, **options)
    stop = np.iinfo(np.int64).max if examples is None else start + examples
    with tf.device("CPU"), tf.init_scope():
        pixels = tf.constant(table.examples)
    labels = tf.constant(np.repeat(np.arange(len(table.sizes), dtype="int32"), table.sizes))

    def draw(indices):
        rows = tf.cast(uniform(seed, Purpose.SINGLE_EXAMPLE, indices, 1)[:, 0] * len(table.examples), tf.int32)
        x = as_floats(tf.gather(pixels, rows))
        if augmentation is not None:
            # As tasks of one image each.
            x = augmentation(x[:, None], seed, indices)[:, 0]
        return x, tf.gather(labels, rows)

    whole = examples is None or examples % batch_size == 0
    indices = tf.data.Dataset.range(start, stop).batch(batch_size, drop_remainder=whole)
    return indices.map(draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _refuse(what: str, **arguments: Any) -> None:
    """Refuses arguments that would mean nothing."""
    for argument, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"`{argument}` must be left out for {what}. Received: {argument}={value!r:.80}.\n"
                "Pass it to `load_classes`, or leave it out."
            )


def _check(**arguments: tuple[Any, int]) -> None:
    for argument, (value, least) in arguments.items():
        if argument in ("episodes", "examples") and value is None:
            continue
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"`{argument}` must be an integer, at least {least}. Received: {argument}={value!r}.\n"
                f"Try {argument}={max(least, 1)}."
            )
