"""Where classes come from: named data sets, folders and arrays."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tf_metalearn.episodes import folders, images, prepared
from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.splits import Splits, by_hash, check, choose, published

Size = int | tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A published way to split a source's classes.

    Args:
        splits: Makes class names by split.
        turned: Whether images turned by quarters are classes of their own.
    """

    splits: Callable[[], Splits]
    turned: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
    """A named data set.

    Args:
        summary: One line.
        licence: Under which its images may be used.
        homepage: Where it comes from.
        read: Reads all its classes, given where data is kept and the image size.
        image_size: In pixels, unless the user wants another.
        protocols: The first is the default.
        dataset: Its name in tensorflow_datasets; empty if it is the user's own folder.
        download_size: Megabytes.
        ink: Whether examples are drawn in ink, 1 where a picture on paper is dark; see `ink` of learners.
    """

    summary: str
    licence: str
    homepage: str
    read: Callable[[Any, Size], ClassTable]
    image_size: int
    protocols: Mapping[str, Protocol]
    dataset: str = ""
    download_size: float = 0.0
    ink: bool = False


def _omniglot(data_dir, image_size):
    def naming(batch, features):
        alphabets = [features["alphabet"].int2str(number) for number in batch["alphabet"]]
        # The published lists count characters from 1, tensorflow_datasets from 0.
        numbers = batch["alphabet_char_id"] + 1
        return [f"{a}/character{n:02d}" for a, n in zip(alphabets, numbers, strict=True)], alphabets

    to_array = images.finish(image_size, "L", invert=True)
    # The splits small1 and small2 are parts of train.
    return prepared.read(
        "omniglot", data_dir, to_array, [image_size], ["train", "test"], naming, ["alphabet", "alphabet_char_id"]
    )


def _cifar_fs(data_dir, image_size):
    return prepared.read("cifar100", data_dir, images.finish(image_size, "RGB"), [image_size], known_as="cifar_fs")


def _glyphs(data_dir, image_size):
    def naming(batch, features):
        return [features["label"].int2str(number) for number in batch["label"]], [""] * len(batch["label"])

    if prepared.find("glyphs", data_dir) is None:
        from tf_metalearn.episodes import glyphs

        root = prepared.data_directory(data_dir)
        try:
            glyphs.build(root)
        except OSError as error:
            raise ValueError(
                f"`data_dir` must be a folder that glyphs can be built in. Received: '{root}' ({error}).\n"
                "Let data_dir or TFDS_DATA_DIR name a folder of yours."
            ) from error
    to_array = images.finish(image_size, "L")
    return prepared.read("glyphs", data_dir, to_array, [image_size], naming=naming, extras=["metadata"])


def _mini_imagenet(data_dir, image_size):
    """The user's images: folders called by WordNet numbers, or files whose names begin with them."""
    root = prepared.data_directory(data_dir)
    root = root / "mini_imagenet" if (root / "mini_imagenet").is_dir() else root
    classes = {name for names in published("mini_imagenet").values() for name in names}

    def of(file: Path) -> str:
        return file.parent.name if file.parent.name in classes else file.name[:9]

    files = list(folders.image_files(root, lambda file: of(file) in classes)) if root.is_dir() else []
    if missing := classes - {of(file) for file in files}:
        raise ValueError(
            f"`data_dir` must hold the images of mini-ImageNet. Received: '{root}', where {len(missing)} of its 100 "
            f"classes have no images, {min(missing)} among them.\nPut the images of each class into a folder called by "
            "its WordNet number (n01532829/...), below data_dir or data_dir/mini_imagenet. ImageNet's terms do not "
            "allow us to pass them on."
        )
    return folders.read_files(
        root, files, [of(file) for file in files], images.finish(image_size, "RGB"), ("mini", image_size)
    )


def _lake(background: str) -> Splits:
    return {"train": published(background)["train"], "test": published("omniglot_lake")["test"]}


#: Data sets that `load_episodes` knows by name.
SOURCES: dict[str, Source] = {
    "omniglot": Source(
        summary="1,623 handwritten characters of 50 alphabets, 20 drawings each; ink is 1",
        licence="MIT",
        homepage="https://github.com/brendenlake/omniglot",
        read=_omniglot,
        image_size=28,
        protocols={
            "vinyals": Protocol(functools.partial(published, "omniglot_vinyals"), turned=True),
            "lake": Protocol(functools.partial(_lake, "omniglot_lake")),
            "small1": Protocol(functools.partial(_lake, "omniglot_small1")),
            "small2": Protocol(functools.partial(_lake, "omniglot_small2")),
        },
        dataset="omniglot",
        download_size=17.95,
        ink=True,
    ),
    "cifar_fs": Source(
        summary="CIFAR-100's classes, 64 to train, 16 to validate, 20 to test; 600 images each",
        licence="not stated by its authors (CIFAR-100)",
        homepage="https://arxiv.org/abs/1805.08136",
        read=_cifar_fs,
        image_size=32,
        protocols={"bertinetto": Protocol(functools.partial(published, "cifar_fs"))},
        dataset="cifar100",
        download_size=160.71,
    ),
    "mini_imagenet": Source(
        summary="100 classes of ImageNet, 600 images each, from your own folder (data_dir)",
        licence="ImageNet's terms",
        homepage="https://openreview.net/forum?id=rJY0-Kcll",
        read=_mini_imagenet,
        image_size=84,
        protocols={"ravi": Protocol(functools.partial(published, "mini_imagenet"))},
    ),
    "glyphs": Source(
        summary="1,200 invented characters, 20 drawers each, with metadata; built here, no download",
        licence="Apache-2.0, as tf_metalearn",
        homepage="tf_metalearn.episodes.glyphs",
        read=_glyphs,
        image_size=28,
        protocols={"glyphs": Protocol(lambda: by_hash([f"glyph{number:04d}" for number in range(1200)]))},
        dataset="glyphs",
        ink=True,
    ),
}


def load_classes(
    source: Any,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    protocol: str | None = None,
    rotations: bool | None = None,
    image_size: Size = None,
    splits: Splits | None = None,
    metadata: Mapping[str, Any] | None = None,
    unreadable: str = "fail",
) -> ClassTable:
    """Loads the classes of a split, from which episodes are drawn.

    Images are decoded and resized once, on all cores, and kept as a cache file beside the data set.

    Args:
        source: One of `SOURCES`; the name of another tensorflow_datasets builder of images with labels; the path of a
            folder of class folders; or arrays `(x, y)`.
        split: "train", "validation" or "test", several joined by "+", or "all".
        data_dir: Where data sets are; TFDS_DATA_DIR when None, and tensorflow_datasets' own default without that.
        protocol: For omniglot: "vinyals" (1,028 + 172 + 423 characters; the papers train on "train+validation"),
            "lake" (30 background alphabets to train, 20 to test), "small1" or "small2" (five of them to train).
        rotations: Whether images turned by 90, 180 and 270 degrees are classes of their own; as the protocol says when
            None (omniglot's "vinyals": yes, unless there is metadata).
        image_size: Pixels of both sides, or (height, width), whatever the image's proportions; the source's own when
            None.
        splits: Class names by split, instead of the source's. Without published splits, classes are dealt out 64 / 16 /
            20 % in an order that only depends on their names.
        metadata: The features of each class of the split by name, for zero-shot episodes.
        unreadable: For folders: "fail", or "skip" images that cannot be read, with a warning that counts them.

    Returns:
        A `ClassTable`.

    Raises:
        ValueError: If the source, the split or an image is not as it must be.

    >>> load_classes((np.zeros([100, 2]), np.repeat(range(10), 10)), split="validation").names
    ('2', '7')

    References: Vinyals et al. 2016, https://arxiv.org/abs/1606.04080; Lake et al. 2015, 10.1126/science.aab3050.
    """
    table, found, turned = _read(source, data_dir, protocol, image_size, unreadable)
    splits = splits or found or by_hash(table.names)
    check(splits, table.title)
    names = choose({part: [str(name) for name in of_part] for part, of_part in splits.items()}, split, table.title)
    chosen = table.select(names, f"{table.title!r} split {split!r}")
    if metadata is not None:
        chosen = _with_metadata(chosen, metadata)
        # A description does not say which way up a character is.
        turned = False
    return chosen.with_turns() if (turned if rotations is None else rotations) else chosen


def _with_metadata(table: ClassTable, metadata: Mapping[Any, Any]) -> ClassTable:
    if not isinstance(metadata, Mapping):
        raise ValueError(
            f"`metadata` must map each class name to its features. Received: a {type(metadata).__name__}.\n"
            "Try {'zebra': [1.0, 0.0], 'whale': [0.0, 1.0]}."
        )
    features = {str(name): values for name, values in metadata.items()}
    if missing := sorted(set(table.names) - set(features)):
        raise ValueError(
            f"`metadata` must have features for each class. Received: none for {missing[0]!r} of {table.title} "
            f"({len(missing)} classes without).\nAdd them, or leave these classes out by `splits`."
        )
    if len({np.shape(features[name]) for name in table.names}) > 1:
        raise ValueError(
            "`metadata` must have equally many features for all classes. Received: "
            f"{sorted({np.shape(features[name]) for name in table.names})}.\nFill up what is missing."
        )
    return dataclasses.replace(table, metadata=np.asarray([features[name] for name in table.names], "float32"))


def _read(
    source: Any, data_dir: Any, protocol: str | None, image_size: Size, unreadable: str
) -> tuple[ClassTable, Splits | None, bool]:
    """All classes of a source, the splits that it comes with, and whether its images are turned."""
    if image_size is not None:
        sides: Any = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
        image_size = sides[0] if len(set(sides)) == 1 else sides
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(
                f"`image_size` must be pixels, or (height, width). Received: image_size={image_size!r}.\nTry 84."
            )
    if isinstance(source, str) and source in SOURCES:
        known = SOURCES[source]
        protocol = protocol or next(iter(known.protocols))
        if protocol not in known.protocols:
            raise ValueError(
                f"`protocol` must be one of {', '.join(known.protocols)} for {source!r}. Received: "
                f"protocol={protocol!r}.\nLeave it out for {next(iter(known.protocols))!r}."
            )
        chosen = known.protocols[protocol]
        table = known.read(data_dir, image_size or known.image_size)
        return dataclasses.replace(table, title=source), chosen.splits(), chosen.turned
    if protocol is not None:
        raise ValueError(
            f"`protocol` must be left out for a source without published splits. Received: protocol={protocol!r}.\n"
            "In Python `splits` may map each split to its classes; a folder may have splits of its own, such as "
            "root/train/class."
        )
    if isinstance(source, tuple | list):
        if len(source) != 2:
            raise ValueError(
                f"`source` must be a pair of arrays (x, y). Received: {len(source)} of them.\n"
                "Pass metadata by `metadata=`."
            )
        if image_size is not None:
            raise ValueError(
                f"`image_size` must be None for arrays. Received: image_size={image_size!r}.\n"
                "Resize them before, for example by `tf.image.resize`."
            )
        x, y = source
        return ClassTable.of(x, y, title="arrays"), None, False
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            "`source` must be a name, a path, or a pair of arrays (x, y). "
            f"Received: a {type(source).__name__}.\n`tf-metalearn datasets` lists the names."
        )
    to_array, settings = images.finish(image_size), (image_size or "original",)
    if isinstance(source, str) and (prepared.find(source, data_dir) or not _is_path(source)):
        others = [*SOURCES, "sinusoids"]
        # A cache of its own: a named source may read the same files otherwise, as omniglot inverts its ink.
        return prepared.read(source, data_dir, to_array, ("plain", *settings), others=others), None, False
    return *folders.read(Path(source).expanduser(), to_array, settings, unreadable), False


def _is_path(source: str) -> bool:
    return source.startswith(("/", ".", "~")) or Path(source).is_dir()
