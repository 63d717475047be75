"""Checks a version of an exported model before it is deployed: `python tools/verify_export.py saved_models/NAME/1`."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tf_metalearn.serving import verify_export


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(path: Path) -> None:
    """Loads PATH as TensorFlow Serving does, and compares its answers with Python's. Ends with 1 if a check fails."""
    table = Table("check", "", "found", title=str(path))
    checks = verify_export(path)
    for check in checks:
        table.add_row(check.name, "ok" if check.fine else "FAILED", check.found)
    Console(width=120).print(table)
    raise SystemExit(not all(check.fine for check in checks))


if __name__ == "__main__":
    main()
