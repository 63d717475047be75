"""`tf-metalearn runs`: what was trained, and how good it is."""

from pathlib import Path
from typing import Any

import click

from tf_metalearn.runs.folder import RunFolder, find_runs


@click.command()
@click.argument("folder", default="runs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--config", "as_config", is_flag=True, help="Print the configuration of the run in FOLDER.")
def runs(folder: Path, as_config: bool) -> None:
    """List the runs below FOLDER, with their metrics.

    \b
    Examples:
      tf-metalearn runs
      tf-metalearn runs runs/my_maml --config > my_maml.toml
    """
    if as_config:
        # Opened first, so that what is printed can be read again.
        click.echo(RunFolder.open(folder).config.to_toml(), nl=False)
        return
    found = list(find_runs(folder))
    if not found:
        raise click.UsageError(f"No runs below '{folder}'.\n`tf-metalearn train prototypical --data glyphs` makes one.")
    for path in found:
        try:
            click.echo("\n".join([click.style(str(path), bold=True), *(f"  {line}" for line in _lines(path))]))
        except ValueError as error:
            click.echo(f"Unreadable: {error}", err=True)


def _lines(path: Path) -> list[str]:
    """What there is to say of a run."""
    run = RunFolder.open(path)
    values, metrics = run.config.values, run.metrics()
    if run.config.algorithm == "l2l":
        on = values["problem"]
    else:
        # A folder is kept by its whole path.
        on = f"{Path(values['data']).name}, {values['ways']}-way {values['shots']}-shot"
    validation = f", in validation {_figure(metrics[-1], 'val_')}" if metrics else ""
    tests = list(dict.fromkeys(f"{Path(test['task']).name}: {_tested(test)}" for test in run.evaluations()))
    done = f"epoch {len(metrics)} of {values['epochs']}{validation}"
    return [f"{run.config.algorithm} on {on}, seed {values['seed']}", done, *tests]


def _figure(found: dict[str, Any], prefix: str = "") -> str:
    if (accuracy := found.get(f"{prefix}accuracy")) is not None:
        return f"{accuracy:.1%} \u00b1 {found.get(f'{prefix}accuracy_ci95', 0):.1%}"
    return f"loss {found[f'{prefix}loss']:.4g}" if f"{prefix}loss" in found else ""


def _tested(test: dict[str, Any]) -> str:
    if "figures" in test:
        return _figure(test["figures"])
    losses = dict(test["mean_loss"])
    learned, best = losses.pop("learned"), min(losses, key=lambda name: losses[name])
    return f"mean loss {learned:.4g}, tuned {best} {losses[best]:.4g}"
