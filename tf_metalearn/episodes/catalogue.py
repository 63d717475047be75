"""What data sets there are, and what of them is on this machine."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tf_metalearn.episodes import prepared
from tf_metalearn.episodes.cache import FOLDER
from tf_metalearn.episodes.sources import SOURCES

MEGABYTE = 1e6


class Entry(NamedTuple):
    """A data set.

    Args:
        name: For `load_episodes`.
        summary: One line.
        folder: Where it is; None if it is not on this machine.
        megabytes: What it takes on the disk; what it takes to download if it is not there; None if nobody knows.
        cached: Whether decoded images are kept, and in which files.
        licence: Of its images.
        homepage: Where it comes from.

    >>> [(entry.name, entry.licence) for entry in entries("/nowhere") if entry.folder is None][0]
    ('omniglot', 'MIT')
    """

    name: str
    summary: str
    folder: Path | None
    megabytes: float | None
    cached: tuple[Path, ...]
    licence: str
    homepage: str


def entries(data_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """Lists the named sources, and what else tensorflow_datasets has prepared.

    Args:
        data_dir: See `prepared.data_directory`.

    >>> [entry.name for entry in entries("/nowhere")]
    ['omniglot', 'cifar_fs', 'mini_imagenet', 'glyphs']
    """
    root = prepared.data_directory(data_dir)
    return [*_sources(root), *_others(root)]


def _sources(root: Path) -> Iterator[Entry]:
    for name, source in SOURCES.items():
        if source.dataset:
            folder = prepared.find(source.dataset, root)
        else:
            folder = root / name if (root / name).is_dir() else None
        size = _size(folder) if folder else source.download_size
        cached = _cached(root, folder)
        yield Entry(name, source.summary, folder, size, cached, source.licence, source.homepage)


def _others(root: Path) -> Iterator[Entry]:
    known = {source.dataset for source in SOURCES.values()} - {"cifar100"}
    names = sorted(path.name for path in root.iterdir() if path.name not in known) if root.is_dir() else []
    for name in names:
        folder = prepared.find(name, root)
        if folder is None:
            continue
        about = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        licence = about.get("redistributionInfo", {}).get("license") or "see its homepage"
        homepage = (about.get("location", {}).get("urls") or [""])[0]
        summary = about.get("description", "").strip().split("\n")[0]
        yield Entry(name, summary, folder, _size(folder), _cached(root, folder), licence, homepage)


def _cached(root: Path, folder: Path | None) -> tuple[Path, ...]:
    if folder is None:
        return ()
    if not folder.is_relative_to(root) or (folder / FOLDER).is_dir():
        return tuple(sorted((folder / FOLDER).glob("*.npz")))
    return tuple(sorted((root / FOLDER).glob(f"{'-'.join(folder.relative_to(root).parts)}-*.npz")))


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MEGABYTE
