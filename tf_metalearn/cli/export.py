"""`tf-metalearn export`: writes a SavedModel for TensorFlow Serving, or checks one."""

from pathlib import Path

import click

from tf_metalearn.cli.common import in_words_of_the_command_line, start_tensorflow, working
from tf_metalearn.runs.folder import CONFIG, RunFolder, model_file


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="[MODEL] VERSION")
@click.option("--verify", is_flag=True, help="Check VERSION, once it is written if MODEL is given.")
@click.option("--about", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Markdown for the README.")
@click.option("--invert/--no-invert", default=None, help="Dark pixels of pictures become 1.  [default: as MODEL knows]")
def export(paths: tuple[str, ...], verify: bool, about: Path | None, invert: bool | None) -> None:
    """Write a SavedModel for TensorFlow Serving, or check one.

    MODEL is a run's folder, the name of a shipped learner or rule, or a .keras file with a learner, a rule, or the
    classifier that `adapt` returned. VERSION is a folder: one for all models, the model's name, and a number.

    \b
    Examples:
      tf-metalearn export omniglot_prototypical served/characters/1 --verify
      tf-metalearn export runs/my_run served/my_run/1 --verify
      tf-metalearn export --verify served/my_learner/1
    """
    if len(paths) > 2 or (len(paths) == 1 and not verify):
        raise click.UsageError("Give MODEL and VERSION; or VERSION alone with --verify.")
    start_tensorflow()
    import tf_metalearn.learners  # noqa: F401  (registers the classes that files name)
    from tf_metalearn import pretrained, serving
    from tf_metalearn.rules import UpdateRule
    from tf_metalearn.serving.archive import check_version_folder
    from tf_metalearn.serving.served_model import ServedModel
    from tf_metalearn.serving.verification import print_checks

    version = Path(paths[-1])
    if len(paths) == 2:
        with in_words_of_the_command_line(filepath="VERSION"):
            check_version_folder(version)
        model = pretrained.load_any(model_file(paths[0]))
        text = about.read_text(encoding="utf-8") if about else _card(paths[0])
        if isinstance(model, UpdateRule):
            with working("Exporting"):
                serving.export_rule(model, version, text)
        elif not isinstance(model, ServedModel):
            kind = type(model).__name__
            raise click.UsageError(
                f"MODEL must be a learner, a classifier or a rule. Received: '{paths[0]}', a {kind}."
            )
        else:
            if invert is not None:
                model.ink = invert
            with working("Exporting"):
                model.export(version, verbose=False, about=text)
        click.echo(f"Version     {version}\nServer      docker compose -f {version.parent.parent / 'compose.yaml'} up")
    if verify:
        with working("Verifying"):
            checks = serving.verify_export(version)
        if not print_checks(checks, str(version)):
            raise SystemExit(1)


def _card(model: str) -> str:
    """What the README says of a model: the card of what ships, and of a run what is known of it."""
    from tf_metalearn import pretrained

    if not Path(model, CONFIG).exists():
        return pretrained.card(model)
    run = RunFolder.open(model)
    lines = [f"Trained by `tf-metalearn train` with these settings:\n\n```toml\n{run.config.to_toml()}```"]
    for found in run.evaluations():
        if (figures := found.get("figures", {})).get("accuracy") is not None:
            half = 100 * figures["accuracy_ci95"]
            lines.append(
                f"- {found['task']}: {100 * figures['accuracy']:.2f} \u00b1 {half:.2f} % of {found['episodes']} tasks"
            )
    return "\n".join(lines)
