"""Keeps decoded and resized examples in one file, so that they are read in a moment the next time."""

import contextlib
import errno
import hashlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tf_metalearn.episodes.class_table import ClassTable

#: Raised by one whenever the same source would be read into other pixels or another order.
VERSION = 1
#: What the system says of a folder that is somebody else's, or on a medium that cannot be written.
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
#: The folder of cache files, beside a data set.
FOLDER = ".tf_metalearn"


def cached(path: Path, key: str, build: Callable[[], ClassTable]) -> ClassTable:
    """Returns what `build` returns, from a file if it is there, whole and not stale.

    The file is an uncompressed `.npz`, whose parts have checksums. It is written under a temporary name and renamed, so
    that a full disk or an interruption leaves an older file as it was. Where the folder is not the user's to write to,
    it goes to the user's own cache, `~/.cache/tf_metalearn`; where it cannot be written at all, a warning says so and
    work goes on without it.

    Args:
        path: Of the file.
        key: Changes with the source's content and with the settings; a file with another key is stale.
        build: Makes the table.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = cached(Path(folder) / "a.npz", "1", lambda: ClassTable.of(np.zeros([2, 3]), [0, 1]))
    ...     cached(Path(folder) / "a.npz", "1", lambda: None).names
    ('0', '1')
    """
    own = _own_folder() / f"{hashlib.sha256(bytes(path.absolute())).hexdigest()[:16]}-{path.name}"
    table = _read(path, key) or _read(own, key)
    if table is None:
        table = build()
        try:
            try:
                _write(path, key, table)
            except OSError as error:
                if error.errno not in NOT_OURS:
                    raise
                _write(own, key, table)
        except OSError as error:
            warnings.warn(
                f"'{path}' cannot be written ({error.strerror or error}): {table.title} is decoded anew the next time. "
                "Make room, or make the folder writable.",
                stacklevel=2,
            )
    return table


def content_key(files: Iterable[Path], *settings: object) -> str:
    """A checksum of files' contents and of settings.

    >>> len(content_key([], "28x28"))
    64
    """
    digest = hashlib.sha256(repr((VERSION, settings)).encode())
    for file in sorted(files):
        digest.update(f"{file.name}\n".encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def listing_key(files: Iterable[Path], root: Path, *settings: object) -> str:
    """A checksum of files' names, sizes and times of change, where reading all of them would take too long.

    >>> len(listing_key([], Path(".")))
    64
    """
    digest = hashlib.sha256(repr((VERSION, settings)).encode())
    for file in files:
        found = file.stat()
        digest.update(f"{file.relative_to(root)}\t{found.st_size}\t{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _own_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tf_metalearn"


def _read(path: Path, key: str) -> ClassTable | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["key"]) != key:
                return None
            return ClassTable(
                arrays["examples"],
                arrays["sizes"],
                tuple(arrays["names"].tolist()),
                tuple(arrays["groups"].tolist()),
                arrays["metadata"] if arrays["metadata"].size else None,
                title=str(arrays["title"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # Absent, or damaged: a checksum does not match, or the file ends too early.
        return None


def _write(path: Path, key: str, table: ClassTable) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(
                stream,
                key=key,
                examples=table.examples,
                sizes=table.sizes,
                names=np.array(table.names),
                groups=np.array(table.groups, "U"),
                metadata=np.zeros(0) if table.metadata is None else table.metadata,
                title=table.title,
            )
        # Others read the data set too.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
