"""Data sets that tensorflow_datasets has prepared on this machine."""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_metalearn.episodes import images
from tf_metalearn.episodes.cache import FOLDER, cached, content_key
from tf_metalearn.episodes.class_table import ClassTable

#: Names of the classes and of their groups, for a batch of examples.
Naming = Callable[[Mapping[str, np.ndarray], Any], tuple[Sequence[str], Sequence[str]]]


def data_directory(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where tensorflow_datasets keeps data sets: the argument, or TFDS_DATA_DIR, or its own default.

    >>> data_directory("~/data").is_absolute()
    True
    """
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder of the newest prepared version of a data set; None if there is none.

    Args:
        name: "omniglot", "emnist/balanced" or "omniglot:3.0.0".
        data_dir: See `data_directory`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for version in ("2.0.0", "10.0.0"):
    ...         Path(folder, "letters", version).mkdir(parents=True)
    ...         Path(folder, "letters", version, "dataset_info.json").touch()
    ...     find("letters", folder).name, find("letters:2.0.0", folder).name, find("digits", folder)
    ('10.0.0', '2.0.0', None)
    """
    base, _, version = name.partition(":")
    place = data_directory(data_dir) / base
    found = list(place.glob(f"{version or '*'}/dataset_info.json")) or list(
        place.glob(f"*/{version or '*'}/dataset_info.json")
    )
    folders = [path.parent for path in found if path.parent.name.replace(".", "").isdigit()]
    return max(folders, key=lambda folder: tuple(map(int, folder.name.split("."))), default=None)


def require(
    name: str, data_dir: str | os.PathLike[str] | None = None, known_as: str | None = None, others: Sequence[str] = ()
) -> Path:
    """Like `find`, but refuses a data set that is not there.

    Args:
        name: See `find`.
        data_dir: See `data_directory`.
        known_as: What the user calls it, if not by this name.
        others: Names that the user may have meant.

    Raises:
        ValueError: With what to run.

    >>> require("omniglott", "/nowhere", others=["omniglot"])
    Traceback (most recent call last):
        ...
    ValueError: `source` must be a data set on this machine, or a folder. Received: 'omniglott', which is not in ...
    Did you mean 'omniglot'? If it is a folder, check the path. ...
    """
    folder = find(name, data_dir)
    if folder is None:
        asked = known_as or name
        meant = difflib.get_close_matches(asked, [other for other in others if other != asked], 1)
        raise ValueError(
            f"`source` must be a data set on this machine, or a folder. Received: {asked!r}, which is not in "
            f"'{data_directory(data_dir)}'.\n{f'Did you mean {meant[0]!r}? ' if meant else ''}"
            f"If it is a folder, check the path. A data set of tensorflow_datasets is got by `tf-metalearn datasets "
            f"{asked} --download`, and TFDS_DATA_DIR (or data_dir) says where it is."
        )
    return folder


def download(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Downloads and prepares a data set by its own builder, unless it is there.

    Args:
        name: See `find`.
        data_dir: See `data_directory`.

    Returns:
        Its folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "letters", "1.0.0").mkdir(parents=True)
    ...     Path(folder, "letters", "1.0.0", "dataset_info.json").touch()
    ...     download("letters", folder).name  # it is there already
    '1.0.0'
    """
    folder = find(name, data_dir)
    if folder is None:
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(name, data_dir=str(data_directory(data_dir)))
        except tfds.core.DatasetNotFoundError as error:
            # Whose text lists a thousand names.
            raise ValueError(
                f"`name` must be a tensorflow_datasets builder. Received: {name!r}, which is none.\n"
                "https://www.tensorflow.org/datasets/catalog lists them; `tf-metalearn datasets` lists ours."
            ) from error
        builder.download_and_prepare()
        folder = require(name, data_dir)
    return folder


def read(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    to_array: images.Finish,
    settings: Sequence[object],
    splits: Sequence[str] | None = None,
    naming: Naming | None = None,
    extras: Sequence[str] = (),
    known_as: str | None = None,
    others: Sequence[str] = (),
) -> ClassTable:
    """Reads a prepared classification data set as one table of all its classes.

    Within a class, images are in the order of a checksum of their pixels, so that it does not matter in which order a
    builder wrote them. What was read is kept in a cache file beside the data set.

    Args:
        name: See `find`.
        data_dir: See `data_directory`.
        to_array: See `images.finish`.
        settings: What changes the pixels, besides the files.
        splits: Of tensorflow_datasets; all when None.
        naming: Names classes and groups; the label's name, without groups, when None.
        extras: Features that `naming` needs, or "metadata".
        known_as: See `require`.
        others: See `require`.

    Raises:
        ValueError: If the data set is not there, or has no images with labels.

    >>> import tempfile
    >>> import tensorflow_datasets as tfds
    >>> features = tfds.features.FeaturesDict(
    ...     {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(names=["a", "b"])}
    ... )
    >>> made = [{"image": np.full([8, 8, 1], shade, "uint8"), "label": shade % 2} for shade in range(6)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tfds.dataset_builders.store_as_tfds_dataset(
    ...         "shades", "1.0.0", features, {"train": enumerate(made)}, data_dir=folder
    ...     )
    ...     table = read("shades", folder, images.finish((4, 4), "L", invert=False), ["small"])
    Downloading and preparing dataset ...
    Dataset shades downloaded and prepared to ...
    >>> table.names, table.examples.shape
    (('a', 'b'), (6, 4, 4, 1))
    """
    folder, root = require(name, data_dir, known_as, others), data_directory(data_dir)
    path = root / FOLDER / f"{'-'.join([*folder.relative_to(root).parts, *map(str, settings)])}.npz"
    files = [file for file in folder.iterdir() if file.is_file()]
    return cached(path, content_key(files, *settings), lambda: _decode(folder, to_array, splits, naming, extras))


def _decode(
    folder: Path,
    to_array: images.Finish,
    splits: Sequence[str] | None,
    naming: Naming | None,
    extras: Sequence[str],
) -> ClassTable:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    image_key, label_key = _keys(builder, tfds)
    encoded: list[bytes] = []
    names: list[str] = []
    groups: dict[str, str] = {}
    metadata: dict[str, np.ndarray] = {}
    for split in splits or builder.info.splits:
        dataset = builder.as_dataset(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
        wanted = {image_key, label_key, *extras}
        dataset = dataset.map(lambda example, wanted=wanted: {key: example[key] for key in wanted})
        for batch in tfds.as_numpy(dataset.batch(1024)):
            labelled = batch[label_key] >= 0
            batch = {key: values[labelled] for key, values in batch.items()}
            encoded.extend(batch[image_key].tolist())
            if naming is None:
                names.extend(map(builder.info.features[label_key].int2str, batch[label_key]))
                continue
            batch_names, batch_groups = naming(batch, builder.info.features)
            names.extend(batch_names)
            groups.update(zip(batch_names, batch_groups, strict=True))
            if "metadata" in batch:
                metadata.update(zip(batch_names, batch["metadata"], strict=True))
    labels = [f"{name} (image {number} of {builder.name})" for number, name in enumerate(names)]
    arrays, kept = images.decode(encoded, labels, to_array)
    order = images.content_order(arrays)
    return ClassTable.of(
        arrays[order],
        np.array(names)[kept][order],
        groups if any(groups.values()) else None,
        metadata or None,
        title=builder.name,
    )


def _keys(builder: Any, tfds: Any) -> tuple[str, str]:
    """The names of the image and of the label."""
    features = dict(builder.info.features.items())
    if builder.info.supervised_keys:
        image, label = builder.info.supervised_keys[:2]
    else:
        image, label = (
            next((key for key, feature in features.items() if isinstance(feature, kind)), None)
            for kind in (tfds.features.Image, tfds.features.ClassLabel)
        )
    if not isinstance(features.get(image), tfds.features.Image) or not isinstance(
        features.get(label), tfds.features.ClassLabel
    ):
        raise ValueError(
            f"`source` must be a data set of images with class labels. Received: {builder.name!r} with features "
            f"{', '.join(features)}.\nRead it yourself and pass arrays (x, y)."
        )
    return image, label
