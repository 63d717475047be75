"""Draws episodes inside the graph: each is a pure function of the examples, the seed and its index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.augmentation import Augmentation
from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.episode import Episode
from tf_metalearn.episodes.randomness import Purpose, bits, distinct, uniform

#: A number, or the least and the greatest of a range.
Count = int | tuple[int, int]


class EpisodeSampler:
    """Draws the episodes of a batch of indices: distinct classes, distinct examples of each, all in random order.

    Nothing but the seed and its index decides an episode, with one exception: ways and shots that are ranges are drawn
    for each batch, from the batch's number, because they decide shapes.

    Args:
        table: What to draw from.
        ways: Classes in an episode, or a range.
        shots: Support examples of a class, or a range. 0 puts the classes' metadata in their place.
        queries: Query examples of a class.
        seed: Decides all episodes.
        within_groups: Whether all classes of an episode come from one group, such as an alphabet. A batch has no more
            ways than the smallest of its groups has classes.
        augmentation: Random changes of the images; None for none.

    Raises:
        ValueError: If there are too few classes, examples or groups, or an argument is not of its kind.

    >>> table = ClassTable.of(np.arange(40, dtype=np.uint8).reshape(40, 1), np.repeat(range(4), 10))
    >>> episode, query_y = EpisodeSampler(table, ways=3, shots=2, queries=4)([7, 8])
    >>> episode.support_x.shape, query_y.shape
    (TensorShape([2, 6, 1]), TensorShape([2, 12]))
    """

    def __init__(
        self,
        table: ClassTable,
        ways: Count = 5,
        shots: Count = 1,
        queries: int = 15,
        seed: int = 0,
        within_groups: bool = False,
        augmentation: Augmentation | None = None,
    ):
        self.ways, self.shots = count_range("ways", ways, 2), count_range("shots", shots, 0)
        self.queries = count_range("queries", queries, 1)[0]
        self.seed, self.augmentation, self.within_groups = int(seed), augmentation, within_groups
        self._check(table, shots)
        members = self._members_by_group(table)
        self.clipped = min(map(len, members)) < self.ways[1]
        with tf.device("CPU"):
            # Captured by reference: the graph does not carry the pixels.
            self.examples = tf.constant(table.examples)
            self.starts = tf.constant(table.starts, tf.int32)
            self.sizes = tf.constant(table.sizes, tf.int32)
            self.group_sizes = tf.constant([len(group) for group in members], tf.int32)
            self.members = tf.ragged.constant(members, dtype=tf.int32).to_tensor()
            self.metadata = None if table.metadata is None else tf.constant(table.metadata)
        self.largest_class = int(max(table.sizes))

    @property
    def static(self) -> bool:
        """Whether all episodes have the same shapes."""
        return not self.clipped and self.ways[0] == self.ways[1] and self.shots[0] == self.shots[1]

    def __call__(self, indices: Any, batch: Any = 0) -> tuple[Episode, tf.Tensor]:
        """Draws episodes.

        Args:
            indices: `[tasks]` int64.
            batch: A scalar, the batch's number. It decides ways and shots that are ranges, and nothing else.

        Returns:
            An Episode and the `[tasks, ways * queries]` int32 query labels; see `load_episodes`.
        """
        indices = tf.convert_to_tensor(indices, tf.int64)
        ways, shots = self._shape(batch)
        classes = self._classes(indices, ways)
        support, query = tf.split(self._examples(indices, classes, shots), [shots, self.queries], axis=2)
        support, support_y = self._shuffled(support, indices, Purpose.SUPPORT_ORDER)
        query, query_y = self._shuffled(query, indices, Purpose.QUERY_ORDER)
        if self.augmentation is None:
            support_x, query_x = (as_floats(tf.gather(self.examples, numbers)) for numbers in (support, query))
        else:
            # Together, so that what is drawn for an episode can be the same for both.
            x = as_floats(tf.gather(self.examples, tf.concat([support, query], axis=1)))
            x = self.augmentation(x, self.seed, indices)
            support_x, query_x = tf.split(x, [tf.shape(support)[1], tf.shape(query)[1]], axis=1)
        if self.shots[1] == 0:
            support_x = tf.gather(self.metadata, classes)
            support_y = tf.broadcast_to(tf.range(tf.shape(classes)[1]), tf.shape(classes))
        return self._with_shapes(indices.shape[0], support_x, support_y, query_x, query_y)

    def _shape(self, batch: Any) -> tuple[Any, Any]:
        """The batch's ways and shots."""
        numbers = uniform(self.seed, Purpose.SHAPE, tf.reshape(tf.cast(batch, tf.int64), [1]), 2)[0]
        ways, shots = (
            low if low == high else low + tf.cast(number * (high - low + 1), tf.int32)
            for (low, high), number in zip((self.ways, self.shots), tf.unstack(numbers), strict=True)
        )
        return ways, shots

    def _classes(self, indices: tf.Tensor, ways: Any) -> tf.Tensor:
        """`[tasks, ways]` classes of each episode in the order of their labels."""
        groups = tf.cast(uniform(self.seed, Purpose.GROUP, indices, 1)[:, 0] * len(self.group_sizes), tf.int32)
        sizes = tf.gather(self.group_sizes, groups)
        if self.clipped:
            ways = tf.minimum(ways, tf.reduce_min(sizes))
        chosen = distinct(bits(self.seed, Purpose.CLASSES, indices, self.members.shape[1]), sizes, ways)
        return tf.gather(tf.gather(self.members, groups), chosen, batch_dims=1)

    def _examples(self, indices: tf.Tensor, rows: tf.Tensor, shots: Any) -> tf.Tensor:
        """`[tasks, ways, shots + queries]` numbers of distinct examples of each class."""
        tasks, ways = tf.unstack(tf.shape(rows))
        random = bits(self.seed, Purpose.EXAMPLES, indices, ways * self.largest_class)
        random = tf.reshape(random, [tasks, ways, self.largest_class])
        chosen = distinct(random, tf.gather(self.sizes, rows), shots + self.queries)
        return chosen + tf.gather(self.starts, rows)[..., None]

    def _shuffled(self, examples: tf.Tensor, indices: tf.Tensor, purpose: Purpose) -> tuple[tf.Tensor, tf.Tensor]:
        """Lays `[tasks, ways, examples]` end to end in random order, with each example's label."""
        tasks, ways, count = tf.unstack(tf.shape(examples))
        total = ways * count
        order = distinct(bits(self.seed, purpose, indices, total), tf.fill([tasks], total), total)
        return tf.gather(tf.reshape(examples, [tasks, total]), order, batch_dims=1), order // count

    def _with_shapes(self, tasks, support_x, support_y, query_x, query_y):
        """Tells the graph what is known of the shapes."""
        support = self.ways[0] * max(self.shots[0], 1) if self.static else None
        queries = self.ways[0] * self.queries if self.static else None
        for tensor, leading in ((support_x, support), (support_y, support), (query_x, queries), (query_y, queries)):
            tensor.set_shape([tasks, leading, *tensor.shape[2:]])
        return Episode(support_x, support_y, query_x), query_y

    def _members_by_group(self, table: ClassTable) -> list[list[int]]:
        """Each group's classes; one group of all where groups do not count."""
        groups: Sequence[str] = table.groups if self.within_groups else [""] * len(table.names)
        members: dict[str, list[int]] = {}
        for row, group in enumerate(groups):
            members.setdefault(group, []).append(row)
        return list(members.values())

    def _check(self, table: ClassTable, shots: Count) -> None:
        if self.augmentation is not None and (
            not isinstance(self.augmentation, Augmentation) or table.examples.ndim != 4
        ):
            raise ValueError(
                f"`augmentation` must be an Augmentation, of images. Received: {self.augmentation!r} for {table.title} "
                f"with examples of shape {table.examples.shape[1:]}.\nTry tf_metalearn.Augmentation(shift=2), or None."
            )
        if self.within_groups and not table.groups:
            raise ValueError(
                f"`within_groups` must be False for {table.title}, whose classes have no groups. Received: True.\n"
                "Sources with groups: omniglot (alphabets), and folders of folders of classes."
            )
        if self.ways[1] > len(table.names) and not self.within_groups:
            raise ValueError(
                f"`ways` must be at most the number of classes. Received: ways={self.ways[1]} for {table.title}, which "
                f"has {len(table.names)} classes.\nChoose ways <= {len(table.names)}, or another split."
            )
        if self.shots[0] == 0 and (self.shots[1] > 0 or table.metadata is None):
            raise ValueError(
                f"`shots` must be at least 1 for {table.title}, "
                f"{'when it is a range' if self.shots[1] else 'which has no metadata'}. Received: shots={shots!r}.\n"
                "Zero-shot episodes need each class's metadata, and shots=0."
            )
        needed = self.shots[1] + self.queries
        small = [(name, size) for name, size in zip(table.names, table.sizes, strict=True) if size < needed]
        if small:
            listed = ", ".join(f"{name!r} has {size}" for name, size in small[:5])
            raise ValueError(
                f"`shots` + `queries` must be at most the examples of each class. Received: {self.shots[1]} + "
                f"{self.queries} = {needed} for {table.title}, where {listed}{', ...' if len(small) > 5 else ''}.\n"
                f"Choose shots + queries <= {min(size for _, size in small)}, or leave out "
                f"{'this class' if len(small) == 1 else f'these {len(small)} classes'}."
            )


def count_range(argument: str, value: Count, least: int) -> tuple[int, int]:
    """Reads a number or a range as a range.

    >>> count_range("ways", 5, 1), count_range("ways", (5, 20), 1)
    ((5, 5), (5, 20))
    """
    bounds: Any = value if isinstance(value, tuple | list) and argument != "queries" else (value, value)
    whole = all(isinstance(bound, int | np.integer) and not isinstance(bound, bool) for bound in bounds)
    if len(bounds) != 2 or not whole or not least <= bounds[0] <= bounds[1]:
        kind = "an integer" if argument == "queries" else "an integer or a range (least, greatest)"
        raise ValueError(
            f"`{argument}` must be {kind}, at least {least}. Received: {argument}={value!r}.\n"
            f"Try {argument}={max(least, 5)}."
        )
    return int(bounds[0]), int(bounds[1])


def as_floats(x: tf.Tensor) -> tf.Tensor:
    """Scales pixels to [0, 1]; everything else becomes float32 as it is."""
    return tf.cast(x, tf.float32) / 255.0 if x.dtype == tf.uint8 else tf.cast(x, tf.float32)
