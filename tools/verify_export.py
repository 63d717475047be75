"""Checks a version of an exported model before it is deployed: `python tools/verify_export.py saved_models/NAME/1`."""

from pathlib import Path

import click

from tf_metalearn.serving.verification import print_checks, verify_export


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(path: Path) -> None:
    """Loads PATH as TensorFlow Serving does, and compares its answers with Python's. Ends with 1 if a check fails."""
    raise SystemExit(not print_checks(verify_export(path), str(path)))


if __name__ == "__main__":
    main()
