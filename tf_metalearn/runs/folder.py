"""The folder of a run, which holds all of it: settings, environment, metrics, checkpoint, and what was learned."""

import contextlib
import difflib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_metalearn.runs.config import Config, read_config

CONFIG = "config.toml"
#: Where the rules and learners that ship are, whose package needs TensorFlow.
SHIPPED = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what.

    Args:
        path: The folder.
        config: The run's settings.
    """

    path: Path
    config: Config

    @classmethod
    def create(cls, path: str | Path, config: Config, environment: Mapping[str, Any]) -> "RunFolder":
        """Makes the folder of a new run.

        Args:
            path: Not there yet, or empty.
            config: The run's settings.
            environment: What the run ran with, for `environment.json`.

        Raises:
            ValueError: If something is there already.
        """
        path = cls.check_new(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, config)
        write_text(path / "environment.json", json.dumps(environment, indent=2) + "\n")
        again = f"tf-metalearn train --config {shlex.quote(str((path / CONFIG).resolve()))}"
        write_text(path / "command.txt", f"{again}\n")
        # Last, since it makes the folder a run.
        write_text(path / CONFIG, config.to_toml())
        return run

    @staticmethod
    def check_new(path: str | Path) -> Path:
        """Refuses a path where something is already.

        Args:
            path: Of a run that is to be.

        Raises:
            ValueError: If something is there.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            remedy = f"Go on with it by `--resume {path}`, or choose" if (path / CONFIG).exists() else "Choose"
            raise ValueError(
                f"`--out` must name a new folder. Received: '{path}', which is there already.\n{remedy} another."
            )
        return path

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Opens the folder of a run.

        Args:
            path: The folder.

        Raises:
            ValueError: If there is no run, or one of a later format.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            lacks = f"has no {CONFIG}" if path.is_dir() else "is not there"
            raise ValueError(
                f"A run must be a folder that `tf-metalearn train` wrote. Received: '{path}', which {lacks}.\n"
                "`tf-metalearn runs` lists those below runs/."
            )
        return cls(path, read_config(path / CONFIG))

    def check_data(self, sums: Mapping[str, Any]) -> None:
        """Refuses to go on with other data than the run began with.

        Args:
            sums: What was read now, as `environment.json` has it under "data".

        Raises:
            ValueError: If it is not the same.
        """
        before = json.loads((self.path / "environment.json").read_text(encoding="utf-8")).get("data", {})
        nothing = {"examples": 0, "sha256": "none"}
        for split, found in sums.items():
            if found != before.get(split):
                was, now = (
                    f"{part['examples']:,} examples ({part['sha256'][:8]})"
                    for part in (before.get(split, nothing), found)
                )
                raise ValueError(
                    f"The {split} data must be what '{self.path}' began with, {was}. Received: {now}.\n"
                    f"Bring back the data, or begin anew: tf-metalearn train --config {self.path / CONFIG}"
                )

    @property
    def checkpoint(self) -> Path:
        """The state of the training after its last whole epoch."""
        return self.path / "checkpoint.weights.h5"

    @property
    def model(self) -> Path:
        """What was learned: a rule or a learner."""
        return self.path / ("rule.keras" if self.config.algorithm == "l2l" else "learner.keras")

    @property
    def tensorboard(self) -> Path:
        """The directory for `tensorboard --logdir`."""
        return self.path / "tensorboard"

    @property
    def pictures(self) -> Path:
        """The folder of pictures."""
        return self.path / "pictures"

    def metrics(self) -> list[dict[str, Any]]:
        """Returns what was measured after each epoch."""
        return _lines(self.path / "metrics.jsonl")

    def evaluations(self) -> list[dict[str, Any]]:
        """Returns what `tf-metalearn evaluate` measured."""
        return _lines(self.path / "evaluations.jsonl")

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """Adds what was measured after an epoch.

        Args:
            line: With the number of the `epoch`, of which an earlier line is replaced, as are those of later ones.
        """
        kept = [other for other in self.metrics() if other["epoch"] < line["epoch"]]
        _write_lines(self.path / "metrics.jsonl", [*kept, line])

    def add_evaluation(self, line: Mapping[str, Any]) -> None:
        """Adds what was measured on test data.

        Args:
            line: What was tested, and the figures.
        """
        _write_lines(self.path / "evaluations.jsonl", [*self.evaluations(), line])


def next_folder(root: str | Path, name: str) -> Path:
    """Returns a folder that is not there yet.

    Args:
        root: Where it would be.
        name: What its name begins with; a number follows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Path(root, "maml-1").mkdir()
    ...     next_folder(root, "maml").name
    'maml-2'
    """
    number = 1
    while (path := Path(root) / f"{name}-{number}").exists():
        number += 1
    return path


def find_runs(root: str | Path) -> Iterator[Path]:
    """Yields the folders of runs below a folder, or that folder itself.

    Args:
        root: Where to look, two levels deep.
    """
    root = Path(root)
    for pattern in (CONFIG, f"*/{CONFIG}", f"*/*/{CONFIG}"):
        yield from (file.parent for file in sorted(root.glob(pattern)))


def model_file(name: str | Path) -> str:
    """Returns the file with what a run has learned; another name as it is.

    Args:
        name: A run's folder, a `.keras` file, or the name of what ships.

    Raises:
        ValueError: If a run has learned nothing yet.
    """
    shipped = sorted(path.stem for path in SHIPPED.glob("*.keras"))
    if not Path(name).exists() and Path(name).suffix != ".keras" and str(name) not in shipped:
        near = difflib.get_close_matches(str(name), shipped, 1)
        raise ValueError(
            f"This must be a run's folder, a '.keras' file, or the name of what ships. Received: '{name}', which is "
            f"not there.\n{f'Did you mean {near[0]!r}? ' if near else ''}Shipped: {', '.join(shipped)}. `tf-metalearn "
            "runs` lists runs."
        )
    if not Path(name).is_dir() or (str(name) in shipped and not Path(name, CONFIG).exists()):
        return str(name)
    run = RunFolder.open(name)
    if not run.model.exists():
        raise ValueError(f"'{name}' has learned nothing yet.\nGo on with it by `tf-metalearn train --resume {name}`.")
    return str(run.model)


def write_text(path: Path, text: str) -> None:
    """Writes a file under a temporary name, and renames it.

    Args:
        path: The file.
        text: What it holds.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _write_lines(path: Path, lines: list[Any]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
