"""A run's configuration, and the TOML files that hold one."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_metalearn.runs.settings import ALGORITHMS, SettingError, checked, fields

#: Raised by one when a run folder of before cannot be read as it is any more.
FORMAT = 1


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    Args:
        algorithm: A name in `ALGORITHMS`.
        values: Every setting by its name.

    >>> config = Config.of("maml", {"ways": 20})
    >>> config.values["ways"], config.values["inner_steps"], config.section("training")["epochs"]
    (20, 1, 20)
    """

    algorithm: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, algorithm: str, values: Mapping[str, Any]) -> "Config":
        """Fills in defaults, and checks.

        Args:
            algorithm: A name in `ALGORITHMS`.
            values: Settings by name; defaults stand for those left out.

        Raises:
            ValueError: If a name is unknown.
            SettingError: If a value cannot be.
        """
        if algorithm not in list(ALGORITHMS):
            raise ValueError(
                f"`algorithm` must be one of {', '.join(ALGORITHMS)}. Received: {algorithm!r}."
                f"{_nearest(algorithm, ALGORITHMS)}"
            )
        known = fields(algorithm)
        for name in values:
            if name not in known:
                raise ValueError(
                    f"`{name}` is no setting of {algorithm}.{_nearest(name, known)}\n"
                    f"`tf-metalearn train {algorithm} --help` lists them."
                )
        given = {name: values.get(name, field.default) for name, (_, field) in known.items()}
        return cls(algorithm, {name: checked(algorithm, name, value) for name, value in given.items()})

    def section(self, name: str) -> dict[str, Any]:
        """Returns the settings of a section.

        Args:
            name: Of the section, such as "training".
        """
        return {key: self.values[key] for key, (section, _) in fields(self.algorithm).items() if section == name}

    def to_toml(self) -> str:
        """Returns the configuration as the text of a file, each setting with its explanation.

        >>> print(Config.of("l2l", {"problem": "quadratic"}).to_toml()[:29])
        format = 1
        algorithm = "l2l"
        """
        import tomlkit

        document = tomlkit.document()
        document.add("format", tomlkit.item(FORMAT))
        document.add("algorithm", tomlkit.item(self.algorithm))
        known = fields(self.algorithm)
        for section in ALGORITHMS[self.algorithm].sections:
            table = tomlkit.table()
            for name, value in self.section(section).items():
                explanation = known[name][1].metadata["explanation"]
                if value is None:
                    table.add(tomlkit.comment(f"{name} is left out. {explanation}"))
                else:
                    item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
                    table.add(name, item.comment(explanation))
            if len(table) or table.as_string():
                document.add(section, table)
        return tomlkit.dumps(document)


def read_config(path: str | Path) -> Config:
    """Reads a configuration file.

    Args:
        path: A TOML file.

    Raises:
        ValueError: If it is no such file, of a later format, or has a setting that cannot be.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.toml").write_text(Config.of("anil", {"shots": 5}).to_toml())
    ...     read_config(f"{folder}/a.toml").values["shots"]
    5
    """
    try:
        read = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"'{path}' is no configuration: {reason}.\n`tf-metalearn train ALGORITHM --dry-run` prints one to begin "
            "with."
        ) from error
    if (found := read.pop("format", FORMAT)) != FORMAT:
        raise ValueError(
            f"'{path}' has format {found!r}; this version of tf_metalearn reads {FORMAT}.\n"
            "Use the version that wrote it, or write the settings into a new file."
        )
    if "algorithm" not in read:
        raise ValueError(f"'{path}' does not say the algorithm.\nAdd a first line such as: algorithm = \"maml\".")
    algorithm, values = read.pop("algorithm"), {}
    for section, settings in read.items():
        if not isinstance(settings, dict):
            raise ValueError(f"'{path}': `{section}` stands outside of a section.\nPut it below [data] or [training].")
        for name, value in settings.items():
            place = fields(algorithm).get(name) if algorithm in list(ALGORITHMS) else None
            if place is not None and place[0] != section:
                raise ValueError(f"'{path}': `{name}` stands in [{section}].\nPut it below [{place[0]}].")
            values[name] = value
    try:
        return Config.of(algorithm, values)
    except SettingError as error:
        section = fields(algorithm)[error.name][0]
        raise ValueError(f"'{path}': `{error.name}` in [{section}] must be {error.must}") from error
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from error


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean `{near[0]}`?" if near else ""
