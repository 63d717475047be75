"""A user's folder of images as a table of classes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tf_metalearn.episodes import images
from tf_metalearn.episodes.cache import FOLDER, cached, listing_key
from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.splits import Splits, check

#: Folders that are splits rather than classes or groups, whatever their case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}


def read(
    root: Path, to_array: images.Finish, settings: tuple[object, ...], unreadable: str = "fail"
) -> tuple[ClassTable, Splits | None]:
    """Reads a folder of class folders, at any depth: `root/class/image` or `root/group/class/image`.

    A class is a folder with images in it, called by its path below the root; the folder that it lies in is its group.
    Folders `train`, `validation` and `test` directly in the root, with class folders in them, are splits.

    Args:
        root: The folder.
        to_array: See `images.finish`.
        settings: What changes the pixels, besides the files.
        unreadable: See `images.decode`.

    Returns:
        The table, and the splits that the folders make; None if they make none.

    Raises:
        ValueError: If there are no class folders, or two splits share a class.
    """
    if not root.is_dir():
        raise ValueError(
            f"`source` must be an existing folder. Received: '{root}', which is not there.\nCheck the path; the names "
            "of data sets are listed by `tf-metalearn datasets`."
        )
    files = list(image_files(root))
    parents = [file.parent.relative_to(root).as_posix() for file in files]
    if not files or "." in parents:
        loose = f"images without a class such as '{files[parents.index('.')].name}'" if files else "no images in it"
        raise ValueError(
            f"`source` must be a folder of class folders. Received: '{root}', which has {loose}.\n"
            "Put the images of each class into a folder of its own: root/class/image.png."
        )
    splits, split_of = _splits(root, list(dict.fromkeys(parents)))
    # Before the images are read, which may take a while.
    check(splits, root.name)
    names = [split_of.get(parent, parent) for parent in parents]
    table = read_files(root, files, names, to_array, settings, unreadable)
    return table, splits or None


def _splits(root: Path, classes: list[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The splits that folders make, and each class's name in its split; both empty where folders make none."""
    tops = {name: name.split("/")[0] for name in classes}
    # A class may itself be called "train": as a split it has class folders in it.
    marked = {top for name, top in tops.items() if top.lower() in SPLIT_NAMES and name != top}
    if not marked:
        return {}, {}
    if stray := sorted({name for name, top in tops.items() if top not in marked or name == top}):
        raise ValueError(
            f"`source` must have all class folders in its splits. Received: '{root}' with splits {sorted(marked)}, "
            f"and images beside them in {stray[0]!r}.\n"
            "Move such folders elsewhere, or pass one of the splits as the source."
        )
    splits: dict[str, list[str]] = {}
    for name, top in tops.items():
        splits.setdefault(SPLIT_NAMES[top.lower()], []).append(name.removeprefix(f"{top}/"))
    return splits, {name: name.removeprefix(f"{top}/") for name, top in tops.items()}


def read_files(
    root: Path,
    files: list[Path],
    names: list[str],
    to_array: images.Finish,
    settings: tuple[object, ...],
    unreadable: str = "fail",
) -> ClassTable:
    """Reads image files whose classes are known, or their cache in the root; see `read`."""

    def build() -> ClassTable:
        arrays, kept = images.decode(files, [str(file) for file in files], to_array, unreadable)
        kept_names = [names[number] for number in kept]
        groups = {name: name.rpartition("/")[0] for name in kept_names}
        return ClassTable.of(arrays, kept_names, groups if any(groups.values()) else None, title=root.name)

    path = root / FOLDER / f"{'-'.join(map(str, settings))}.npz"
    return cached(path, listing_key(files, root, *settings, unreadable), build)


def read_pictures(
    root: Path, to_array: images.Finish, unreadable: str = "fail"
) -> tuple[np.ndarray, list[Path], list[str]]:
    """Reads a few pictures, in class folders or not, without a cache.

    Args:
        root: The folder.
        to_array: See `images.finish`.
        unreadable: See `images.decode`.

    Returns:
        `[images, height, width, channels]` float32 from 0 to 1, their files, and each one's class: the folder that it
        lies in below the root, empty text in the root itself.

    Raises:
        ValueError: If there is no such folder, it has no images, or one cannot be read.
    """
    files = list(image_files(root)) if root.is_dir() else []
    if not files:
        lacks = "has no images in it" if root.is_dir() else "is not there"
        raise ValueError(
            f"`root` must be a folder of images. Received: '{root}', which {lacks}.\n"
            f"Put images into it; those of a known class into a folder of its own, such as "
            f"{root / 'class' / 'image.png'}."
        )
    pixels, kept = images.decode(files, [str(file) for file in files], to_array, unreadable)
    files = [files[number] for number in kept]
    classes = [file.parent.relative_to(root).as_posix() for file in files]
    return pixels.astype(np.float32) / 255, files, ["" if name == "." else name for name in classes]


def image_files(root: Path, wanted: Callable[[Path], bool] = lambda file: True) -> Iterator[Path]:
    """Yields the images below a folder, sorted, hidden ones left out."""
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from image_files(path, wanted)
        elif path.suffix.lower() in images.SUFFIXES and wanted(path):
            yield path
