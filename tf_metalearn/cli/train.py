"""`tf-metalearn train`: a training by name, in a folder that holds all of it."""

import dataclasses
import difflib
import math
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from tf_metalearn.cli.common import in_words_of_the_command_line, start_tensorflow
from tf_metalearn.runs.config import Config, read_config
from tf_metalearn.runs.folder import RunFolder, next_folder
from tf_metalearn.runs.settings import ALGORITHMS, SettingError, fields, kind_of

_RUN_OPTIONS = [
    click.Option(
        ["--config"],
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Settings from a TOML file; options go before it.",
    ),
    click.Option(["--out"], type=click.Path(path_type=Path), help="The run's folder.  [default: runs/NAME-NUMBER]"),
    click.Option(
        ["--resume"],
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Go on with the run of this folder, after its last whole epoch.",
    ),
    click.Option(
        ["--data-dir"], type=click.Path(file_okay=False), help="Where data sets are kept.  [default: TFDS_DATA_DIR]"
    ),
    click.Option(["--dry-run"], is_flag=True, help="Print the configuration and what would be done; train nothing."),
]


class _Algorithms(click.Group):
    """One command an algorithm; without its name, the one that a configuration or a run says."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0].startswith("--"):
            for option in ("--config", "--resume"):
                if (path := _value_of(option, args)) is not None:
                    args = [_algorithm_of(option, Path(path)), *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(
                f"ALGORITHM must be one of {', '.join(self.commands)}. Received: {args[0]!r}.{meant}"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Algorithms, subcommand_metavar="ALGORITHM [OPTIONS]")
def train() -> None:
    """Train a learner or an optimizer.

    Everything goes into one folder: settings, environment and checksums of the data, metrics, checkpoint, TensorBoard's
    events, pictures, and what was learned. Ctrl-C loses nothing but the epoch that it interrupts.

    \b
    Examples:
      tf-metalearn train prototypical --data glyphs
      tf-metalearn train maml --data omniglot --ways 5 --shots 1 --out runs/my_maml
      tf-metalearn train maml --data my_pictures --image-size 28 --dry-run
      tf-metalearn train l2l --problem mnist
      tf-metalearn train --config runs/my_maml/config.toml --seed 1
      tf-metalearn train --resume runs/my_maml
    """


def _command(algorithm: str) -> click.Command:
    """The command of an algorithm, whose options are its settings."""
    known = fields(algorithm)
    options = [_option(algorithm, name, section, field) for name, (section, field) in known.items()]

    def run(
        config: Path | None, out: Path | None, resume: Path | None, data_dir: str | None, dry_run: bool, **given: Any
    ) -> None:
        context = click.get_current_context()
        chosen = {name: value for name, value in given.items() if _was_given(context, name)}
        if resume is not None:
            _refuse_beside_resume(config, out, chosen)
            opened = RunFolder.open(resume)
            _check_algorithm(algorithm, opened.config, f"--resume {resume}")
            _train(opened.config, opened, data_dir, dry_run)
            return
        values: dict[str, Any] = {}
        if config is not None:
            from_file = read_config(config)
            _check_algorithm(algorithm, from_file, f"--config {config}")
            values.update(from_file.values)
        try:
            settings = Config.of(algorithm, {**values, **chosen})
        except SettingError as error:
            raise click.BadParameter(f"It must be {error.must}", param_hint=_flag(error.name)) from error
        source = Path(str(settings.values.get("data") or settings.values["problem"])).name
        folder = out or next_folder("runs", f"{algorithm}-{source}")
        _train(settings, RunFolder.check_new(folder), data_dir, dry_run)

    examples = f"tf-metalearn train {algorithm} " + ("--problem digits" if algorithm == "l2l" else "--data glyphs")
    text = f"{ALGORITHMS[algorithm].summary}\n\n\b\nExamples:\n  {examples} --dry-run\n  {examples} --epochs 5"
    # As a short help it is not cut.
    summary = ALGORITHMS[algorithm].summary
    return click.Command(algorithm, params=[*options, *_RUN_OPTIONS], callback=run, help=text, short_help=summary)


def _train(config: Config, where: RunFolder | Path, data_dir: str | None, dry_run: bool) -> None:
    """Trains in a new folder or goes on in that of a run, and says where all of it is."""
    start_tensorflow(many_small_operations=config.algorithm not in _LARGE_OPERATIONS)
    from tf_metalearn.runs.build import build, settled
    from tf_metalearn.runs.environment import environment
    from tf_metalearn.runs.training import run_training

    with in_words_of_the_command_line(
        source="--data", name="--problem", **{name: _flag(name) for name in config.values}
    ):
        config = settled(config, data_dir)
        built = build(config, data_dir)
    parameters = sum(math.prod(weight.shape) for weight in built.model.trainable_variables)
    summary = _summary(config, built, parameters)
    if dry_run:
        # Comments, so that all of it is a configuration file.
        folder = where if isinstance(where, Path) else where.path
        click.echo(textwrap.indent(f"{summary}\nFolder      {folder}", "# ", lambda line: True))
        click.echo(config.to_toml(), nl=False)
        return
    click.echo(summary)
    if isinstance(where, RunFolder):
        where.check_data(built.sums)
        run = where
    else:
        run = RunFolder.create(where, config, {**environment(), "data": built.sums})
    if len(run.metrics()) >= config.values["epochs"]:
        click.echo("The last epoch is done already.")
    click.echo(f"Folder      {run.path}\nTensorBoard tensorboard --logdir {run.tensorboard}\n")
    try:
        run_training(run, built, verbose=1 if sys.stdout.isatty() else 2)
    except KeyboardInterrupt:
        done = len(run.metrics())
        click.echo(
            f"\nStopped. {f'Kept up to the end of epoch {done}' if done else 'Nothing was learned yet'}. Go on by:\n"
            f"  tf-metalearn train --resume {run.path}",
            err=True,
        )
        raise SystemExit(130) from None
    click.echo(f"\nLearned     {run.model}\nPictures    {run.pictures}")
    click.echo(f"Next        tf-metalearn evaluate {run.path}")
    if built.pictures:
        click.echo(f"            tf-metalearn adapt {run.path} --support FOLDER --query FOLDER")
    click.echo(f"            tf-metalearn export {run.path} served/{run.path.name}/1")


#: Large convolutions like TensorFlow's own threads.
_LARGE_OPERATIONS = ("prototypical", "siamese", "matching", "relation", "fine_tuning")


def _summary(config: Config, built: Any, parameters: int) -> str:
    lines = [f"Algorithm   {config.algorithm}: {parameters:,} parameters to learn"]
    for split, tasks in built.tasks.items():
        read = built.sums.get(split)
        classes = f"{read['classes']:,} classes, {read['examples']:,} examples, in " if read else ""
        lines.append(f"{split.capitalize():<11} {classes}{tasks}")
    if built.pictures:
        lines.append(f"Pictures    {built.pictures}")
    lines.append(f"Epochs      {config.values['epochs']}, of {config.values['steps']:,} steps")
    return "\n".join(lines)


def _option(algorithm: str, name: str, section: str, field: "dataclasses.Field[Any]") -> click.Option:
    kind, several, _ = kind_of(ALGORITHMS[algorithm].sections[section], name)
    settings: dict[str, Any] = {"help": field.metadata["explanation"], "default": field.default}
    if kind is bool:
        return click.Option([f"{_flag(name)}/--no-{_flag(name)[2:]}"], show_default=True, **settings)
    choices = field.metadata["choices"]
    settings["type"] = click.Choice(choices) if choices else _Several(kind) if several else kind
    if isinstance(field.default, tuple):
        settings["default"] = ",".join(map(str, field.default))
    return click.Option([_flag(name)], show_default=field.default is not None, **settings)


class _Several(click.ParamType[Any]):
    """Numbers with commas between them."""

    def __init__(self, kind: type):
        self.name, self._kind = "numbers", kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between them, such as 64,32.", param, ctx)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in (None, click.core.ParameterSource.DEFAULT)


def _value_of(option: str, args: list[str]) -> str | None:
    """An option's value among arguments that are not parsed yet."""
    for place, argument in enumerate(args):
        if argument == option and place + 1 < len(args):
            return args[place + 1]
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None


def _algorithm_of(option: str, path: Path) -> str:
    if not path.exists():
        raise click.BadParameter(f"'{path}' is not there.", param_hint=option)
    config = read_config(path) if option == "--config" else RunFolder.open(path).config
    return config.algorithm


def _check_algorithm(algorithm: str, config: Config, where: str) -> None:
    if config.algorithm != algorithm:
        raise click.UsageError(
            f"{where} is of {config.algorithm}, not of {algorithm}.\nLeave out the name: tf-metalearn train {where}"
        )


def _refuse_beside_resume(config: Path | None, out: Path | None, chosen: dict[str, Any]) -> None:
    others = [option for option, value in (("--config", config), ("--out", out)) if value is not None]
    if others := [*others, *map(_flag, chosen)]:
        raise click.UsageError(
            f"--resume goes on with the run as it is. Received: {', '.join(others)} beside it.\n"
            "Start another run by --config RUN/config.toml to change its settings."
        )


for algorithm in ALGORITHMS:
    train.add_command(_command(algorithm))
