"""Labelled examples, sorted by class: what episodes are drawn from."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

#: What turned images are called, after the published lists of Omniglot's rotated characters.
TURNS = ("rot000", "rot090", "rot180", "rot270")


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTable:
    """Labelled examples, sorted by class.

    Args:
        examples: `[examples, ...]`, the classes one after the other. uint8 counts as pixels, which episodes scale to
            [0, 1]; everything else becomes float32 as it is.
        sizes: `[classes]`, how many examples each class has.
        names: Of the classes.
        groups: Each class's group, such as its alphabet; empty when there are none.
        metadata: `[classes, features]`, what describes a class without examples (zero-shot); None when there is none.
        title: What errors and pictures call it.

    Raises:
        ValueError: If the sizes do not match.

    >>> table = ClassTable.of(np.zeros([6, 2, 2, 1], np.uint8), ["b", "a", "b", "a", "c", "b"])
    >>> table.names, table.sizes.tolist()
    (('a', 'b', 'c'), [2, 3, 1])
    """

    examples: np.ndarray
    sizes: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...] = ()
    metadata: np.ndarray | None = None
    title: str = "examples"

    def __post_init__(self):
        classes = len(self.names)
        if len(self.sizes) != classes or sum(self.sizes) != len(self.examples):
            raise ValueError(
                f"`sizes` must have a number for each of the {classes} classes, {len(self.examples)} in all. "
                f"Received: {len(self.sizes)} numbers, {sum(self.sizes)} in all.\nUse `ClassTable.of`, which counts."
            )
        for argument, values in (("groups", self.groups or None), ("metadata", self.metadata)):
            if values is not None and len(values) != classes:
                raise ValueError(
                    f"`{argument}` must have one entry for each of the {classes} classes. Received: {len(values)}.\n"
                    "Leave it out if there is none."
                )

    @classmethod
    def of(
        cls,
        examples: Any,
        labels: Sequence[Any] | np.ndarray,
        groups: dict[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
        title: str = "examples",
    ) -> "ClassTable":
        """Sorts labelled examples by class; within a class they keep their order.

        Args:
            examples: `[examples, ...]`.
            labels: `[examples]`, each class's number or name.
            groups: Each class name's group.
            metadata: Each class name's features.
            title: What errors and pictures call it.

        >>> ClassTable.of(np.zeros([2, 3]), [7, 5]).names
        ('5', '7')
        """
        examples, labels = np.asarray(examples), np.asarray(labels)
        if labels.size and isinstance(labels.reshape(-1)[0], bytes):
            labels = np.array([label.decode() for label in labels.reshape(-1)]).reshape(labels.shape)
        if labels.ndim != 1 or len(labels) != len(examples) or not len(labels):
            raise ValueError(
                f"`labels` must be a vector with a label for each of the {len(examples)} examples. "
                f"Received: labels of shape {labels.shape}.\nGive arrays x [examples, ...] and y [examples]."
            )
        found, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        names = tuple(str(name) for name in found)
        return cls(
            examples[np.argsort(codes, kind="stable")],
            sizes,
            names,
            tuple(groups[name] for name in names) if groups else (),
            np.asarray([metadata[name] for name in names], "float32") if metadata else None,
            title=title,
        )

    @property
    def starts(self) -> np.ndarray:
        """`[classes]`, where each class's examples begin."""
        return np.cumsum(self.sizes) - self.sizes

    def select(self, names: Collection[str], title: str | None = None) -> "ClassTable":
        """Returns the table of some of the classes, in this table's order.

        Args:
            names: Which classes; unknown ones are refused.
            title: The new table's title; this one's when None.

        >>> table = ClassTable.of(np.arange(4), ["a", "b", "b", "c"]).select(["c", "b"])
        >>> table.names, table.examples.tolist()
        (('b', 'c'), [1, 2, 3])
        """
        wanted = set(names)
        if missing := sorted(wanted - set(self.names)):
            raise ValueError(
                f"`names` must be classes of {self.title}. Received: {', '.join(missing[:5])}"
                f"{', ...' if len(missing) > 5 else ''} ({len(missing)} unknown).\n"
                f"It has {len(self.names)} classes: {', '.join(self.names[:5])}, ..."
            )
        kept = np.array([name in wanted for name in self.names], bool)
        return dataclasses.replace(
            self,
            examples=self.examples[np.repeat(kept, self.sizes)],
            sizes=self.sizes[kept],
            names=tuple(name for name in self.names if name in wanted),
            groups=tuple(group for group, keep in zip(self.groups, kept, strict=True) if keep) if self.groups else (),
            metadata=None if self.metadata is None else self.metadata[kept],
            title=title or self.title,
        )

    def with_turns(self) -> "ClassTable":
        """Returns a table where each class is four: its images as they are, and turned by 90, 180 and 270 degrees.

        Metadata describes images as they are, so that there is none of such classes.

        Raises:
            ValueError: Unless the examples are square images.

        >>> ClassTable.of(np.zeros([2, 5, 5, 1]), ["a", "b"]).with_turns().names[:3]
        ('a/rot000', 'a/rot090', 'a/rot180')
        """
        shape = self.examples.shape[1:]
        if len(shape) != 3 or shape[0] != shape[1]:
            raise ValueError(
                f"`rotations` must be False unless the examples are square images. Received: True for {self.title}, "
                f"with examples of shape {shape}.\nGive `image_size` to make images square."
            )
        # Written class by class into one array: concatenating four whole tables would need twice the memory.
        examples = np.empty([len(TURNS) * len(self.examples), *shape], self.examples.dtype)
        for start, size in zip(self.starts, self.sizes, strict=True):
            images = self.examples[start : start + size]
            for turn in range(len(TURNS)):
                begin = len(TURNS) * start + turn * size
                examples[begin : begin + size] = np.rot90(images, turn, axes=(1, 2))
        return dataclasses.replace(
            self,
            examples=examples,
            sizes=np.repeat(self.sizes, len(TURNS)),
            names=tuple(f"{name}/{turn}" for name in self.names for turn in TURNS),
            groups=tuple(group for group in self.groups for _ in TURNS),
            metadata=None,
        )
