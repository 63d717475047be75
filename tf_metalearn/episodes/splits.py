"""Which classes are for training, validation and test."""

import difflib
import functools
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

DIRECTORY = Path(__file__).parent / "splits"
#: Each split's share of the classes where no list says otherwise: that of mini-ImageNet.
SHARES = {"train": 0.64, "validation": 0.16, "test": 0.2}

Splits = Mapping[str, Collection[str]]


@functools.cache
def published(name: str) -> Splits:
    """Reads a list that ships with the package, with its source in the first line.

    >>> {split: len(classes) for split, classes in published("cifar_fs").items()}
    {'test': 20, 'train': 64, 'validation': 16}
    """
    return {
        path.stem: tuple(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
        for path in sorted((DIRECTORY / name).glob("*.txt"))
    }


def by_hash(names: Collection[str]) -> Splits:
    """Deals out classes 64 / 16 / 20 in an order that only depends on their names.

    >>> {split: len(classes) for split, classes in by_hash([str(name) for name in range(100)]).items()}
    {'train': 64, 'validation': 16, 'test': 20}
    """
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    bounds = np.round(np.cumsum([0.0, *SHARES.values()]) * len(ordered)).astype(int)
    return {split: ordered[low:high] for split, low, high in zip(SHARES, bounds[:-1], bounds[1:], strict=True)}


def check(splits: Splits, title: str) -> None:
    """Refuses splits that share classes.

    Raises:
        ValueError: With the classes.
    """
    if not isinstance(splits, Mapping) or any(isinstance(names, str) for names in splits.values()):
        raise ValueError(
            f"`splits` must map each split to its class names. Received: splits={splits!r:.100}.\n"
            "Try {'train': ['cat', 'dog'], 'test': ['cow']}."
        )
    owners: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if owners.setdefault(name, split) != split:
                raise ValueError(
                    f"`splits` must not overlap. Received: {title} with class {name!r} in both {owners[name]!r} and "
                    f"{split!r}.\nA class that is trained on cannot be tested on: remove it from one of them, "
                    "or pass one of the folders as the source."
                )


def choose(splits: Splits, split: str, title: str) -> list[str]:
    """The classes of a split, of a union such as "train+validation", or of "all".

    >>> choose({"train": ["a"], "test": ["b"]}, "train+test", "letters")
    ['a', 'b']

    Raises:
        ValueError: If there is no such split.
    """
    parts = list(splits) if split == "all" else [part.strip() for part in str(split).split("+")]
    if unknown := [part for part in parts if part not in splits]:
        raise ValueError(
            f"`split` must be one of {', '.join(splits)}, several joined by '+', or 'all'. Received: split={split!r} "
            f"for {title}, which has no {unknown[0]!r}.\n"
            f"Try split={(difflib.get_close_matches(unknown[0], splits, cutoff=0.3) or ['train'])[0]!r}."
        )
    return [name for part in dict.fromkeys(parts) for name in splits[part]]
