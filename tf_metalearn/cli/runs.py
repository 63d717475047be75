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
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    # Names are there to be copied, so they are never cut.
    table = Table(Column("run", no_wrap=True), "algorithm", "on", "epochs", "validation", "tested", box=SIMPLE)
    unreadable = []
    for path in found:
        try:
            table.add_row(str(path), *_row(RunFolder.open(path)))
        except ValueError as error:
            unreadable.append(str(error))
    Console().print(table)
    for message in unreadable:
        click.echo(f"Unreadable: {message}", err=True)


def _row(run: RunFolder) -> list[str]:
    values, lines, evaluations = run.config.values, run.metrics(), run.evaluations()
    on = (
        values["problem"]
        if run.config.algorithm == "l2l"
        else f"{values['data']}, {values['ways']}-way {values['shots']}-shot"
    )
    return [
        run.config.algorithm,
        on,
        f"{len(lines)} of {values['epochs']}",
        _figure(lines[-1], "val_") if lines else "",
        f"{evaluations[-1]['task']}: {_figure(evaluations[-1].get('figures', {}))}" if evaluations else "",
    ]


def _figure(found: dict[str, Any], prefix: str = "") -> str:
    if (accuracy := found.get(f"{prefix}accuracy")) is not None:
        return f"{accuracy:.1%} \u00b1 {found.get(f'{prefix}accuracy_ci95', 0):.1%}"
    return f"loss {found[f'{prefix}loss']:.4g}" if f"{prefix}loss" in found else ""
