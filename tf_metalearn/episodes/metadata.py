"""Tables of what describes a class, for zero-shot episodes."""

import os
import re
from pathlib import Path

import numpy as np

#: What a folder of Animals with Attributes holds: the classes' names, and a row of features for each.
NAMES, FEATURES = "classes.txt", "predicate-matrix-continuous.txt"


def load_metadata(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the features of classes from a table, for `load_episodes(..., shots=0, metadata=...)`.

    Args:
        path: A text file with a line for each class: its name, and its features, separated by commas. A first line of
            headings is left out. Or a folder as that of Animals with Attributes 2, with `classes.txt` and
            `predicate-matrix-continuous.txt`, where names are written with `_` for `+`, as tensorflow_datasets has it.

    Returns:
        Each class name's `[features]` float32.

    Raises:
        ValueError: If the file is not there, a class has two lines, or a line has not as many features as the others,
            all of them finite numbers.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "animals.csv"
    >>> _ = file.write_text("class,stripes,fins\\nzebra,1,0\\nwhale,0,1\\n")
    >>> {name: features.tolist() for name, features in load_metadata(file).items()}
    {'zebra': [1.0, 0.0], 'whale': [0.0, 1.0]}

    Reference: Xian et al. 2018, Zero-shot learning (the data set). https://arxiv.org/abs/1707.00600
    """
    source = Path(path)
    files = (source / NAMES, source / FEATURES) if source.is_dir() else (source,)
    for file in files:
        if not file.is_file():
            raise ValueError(
                "`path` must be a file of lines such as 'zebra,1,0', or a folder with "
                f"{NAMES} and {FEATURES}. Received: '{source}', where there is no '{file.name}'.\nCheck the path."
            )
    lines = [[line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()] for file in files]
    if source.is_dir():
        # A line of names is a number and a name.
        names, rows = [line.split()[-1].replace("+", "_") for line in lines[0]], [line.split() for line in lines[1]]
        if len(names) != len(rows):
            raise ValueError(
                f"`path` must have a row of features for each class. Received: {len(names)} names and {len(rows)} rows "
                f"in '{source}'.\nGet the files anew."
            )
    else:
        cells = [[cell.strip() for cell in line.split(",")] for line in lines[0]]
        if cells and not any(_number(cell) for cell in cells[0][1:]):
            cells = cells[1:]
        names, rows = [row[0] for row in cells], [row[1:] for row in cells]
    return _as_table(names, rows, source)


def _as_table(names: list[str], rows: list[list[str]], source: Path) -> dict[str, np.ndarray]:
    table: dict[str, np.ndarray] = {}
    width = len(rows[0]) if rows else 0
    for name, row in zip(names, rows, strict=True):
        good = len(row) == width > 0 and all(map(_number, row))
        if not good or name in table:
            received = "a second line for it" if good else f"{len(row)} features: {', '.join(row):.80}"
            raise ValueError(
                f"`path` must have one line for each class, with {max(width, 1)} features that are finite numbers. "
                f"Received: for {name!r} {received}, in '{source}'.\nCorrect this line."
            )
        table[name] = np.array(row, "float32")
    if not table:
        raise ValueError(f"`path` must have a line for each class. Received: none in '{source}'.\nTry 'zebra,1,0'.")
    return table


def _number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", cell.strip(), re.IGNORECASE) is not None
