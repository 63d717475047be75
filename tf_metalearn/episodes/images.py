"""Decodes and resizes images in parallel, into one uint8 array."""

import collections
import concurrent.futures
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

#: What to do with an image that cannot be decoded.
POLICIES = ("fail", "skip")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})

#: Turns a decoded image into an array.
Finish = Callable[[Image.Image], np.ndarray]


def finish(image_size: int | tuple[int, int] | None = None, mode: str | None = None, invert: bool = False) -> Finish:
    """Says what becomes of a decoded image.

    Args:
        image_size: Of both sides or (height, width), in pixels; None leaves images as large as they are.
        mode: "L" for one channel, "RGB" for three; None for one where all images are grey, else three.
        invert: Whether black becomes 255, as ink is to be 1.

    Returns:
        A function of a Pillow image that returns `[height, width, channels]` uint8. Resizing is Pillow's, in whole
        numbers, and the same on every machine.
    """
    size = None if image_size is None else (image_size, image_size) if isinstance(image_size, int) else image_size

    def array(image: Image.Image) -> np.ndarray:
        if image.mode.startswith("I"):
            # Pillow would clip 16 bits to white.
            image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
        wanted = mode or ("L" if image.mode in ("1", "L", "LA") else "RGB")
        image = image.convert(wanted)
        if size is not None and image.size != (size[1], size[0]):
            image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
        pixels = np.asarray(image, np.uint8).reshape(image.size[1], image.size[0], -1)
        return 255 - pixels if invert else pixels

    return array


def decode(
    sources: Sequence[bytes | Path], names: Sequence[str], to_array: Finish, unreadable: str = "fail"
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes many images on all cores.

    Args:
        sources: Encoded images, or files.
        names: What errors call each.
        to_array: See `finish`.
        unreadable: "fail" raises at the first image that cannot be decoded, "skip" leaves such images out and warns
            with their number.

    Returns:
        `[images, height, width, channels]` uint8, and which of the sources they are.

    Raises:
        ValueError: If an image cannot be decoded, or images differ in size.
    """
    if unreadable not in POLICIES:
        raise ValueError(
            f"`unreadable` must be one of {POLICIES}. Received: unreadable={unreadable!r}.\nTry 'skip' to go on."
        )

    def one(source: bytes | Path) -> np.ndarray | Exception:
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                return to_array(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return error

    # What is quick, such as a task of a few pictures, needs no bar; nor does a file that holds the output.
    console = Console(stderr=True)
    quiet = len(sources) < 1000 or not console.is_terminal
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(one, sources, chunksize=64)
        bar = track(decoded, "Decoding images", len(sources), console=console, transient=True, disable=quiet)
        results = list(bar)
    bad = [number for number, result in enumerate(results) if isinstance(result, Exception)]
    if bad and unreadable == "fail":
        raise ValueError(
            f"Images must be readable. Received: {names[bad[0]]!r}, which is damaged ({results[bad[0]]})"
            f"{f', and {len(bad) - 1} more' if len(bad) > 1 else ''}.\n"
            "Repair or remove it, or pass unreadable='skip' to leave such images out."
        )
    if bad:
        warnings.warn(
            f"{len(bad)} of {len(results)} images cannot be read, the first is {names[bad[0]]!r}.", stacklevel=2
        )
    kept = np.setdiff1d(np.arange(len(results)), bad)
    arrays: list[Any] = [results[number] for number in kept]
    if not arrays:
        raise ValueError("Images must be readable. Received: none that is.\nGive other images.")
    if len({array.shape[-1] for array in arrays}) > 1:
        arrays = [array if array.shape[-1] == 3 else np.repeat(array, 3, axis=-1) for array in arrays]
    shapes = collections.Counter(array.shape for array in arrays)
    if len(shapes) > 1:
        odd = next(number for number, array in zip(kept, arrays, strict=True) if array.shape != arrays[0].shape)
        raise ValueError(
            f"Images must have one size. Received: {names[kept[0]]!r} of shape {arrays[0].shape} and {names[odd]!r} of "
            f"shape {results[odd].shape}; {len(shapes)} shapes in all.\nPass image_size to resize them."
        )
    return np.stack(arrays), kept


def content_order(images: np.ndarray) -> np.ndarray:
    """The order of images by a checksum of their pixels: the same however they are stored.

    >>> content_order(np.array([[7], [9]], np.uint8)).tolist() == content_order(np.array([[9], [7]], np.uint8)).tolist()
    False
    """
    return np.argsort([hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for image in images], kind="stable")
