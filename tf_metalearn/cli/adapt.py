"""`tf-metalearn adapt`: a learner becomes a classifier of your own pictures."""

from pathlib import Path
from typing import Any

import click

from tf_metalearn.cli.common import (
    LEARNER,
    PICTURES,
    check_file,
    in_words_of_the_command_line,
    load_model,
    start_tensorflow,
)


@click.command()
@click.argument("model")
@click.option(
    "--support",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with a folder of pictures for each class.",
)
@click.option(
    "--query",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of pictures to tell apart, in folders or not.",
)
@click.option("--csv", "table", type=click.Path(dir_okay=False, path_type=Path), help="Write what is said of them.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw what is said of them: FILE.png.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the classifier: FILE.keras.")
@click.option("--invert/--no-invert", default=None, help="Dark pixels of pictures become 1.  [default: as MODEL knows]")
@click.option("--unreadable", type=click.Choice(["fail", "skip"]), default="fail", help="Damaged pictures.")
def adapt(
    model: str,
    support: Path,
    query: Path | None,
    table: Path | None,
    picture: Path | None,
    save: Path | None,
    invert: bool | None,
    unreadable: str,
) -> None:
    """Adapt a learner to your own pictures, and tell others apart.

    MODEL is a run's folder, the name of a shipped learner, or a .keras file. Pictures are resized to what it takes. One
    example of each class will do; with metric learners classes may be any number.

    \b
    Examples:
      tf-metalearn adapt omniglot_prototypical --support letters --query unknown --csv unknown.csv
      tf-metalearn adapt runs/my_run --support letters --query unknown --picture unknown.png
      tf-metalearn adapt omniglot_prototypical --support letters --save letters.keras
    """
    if query is None and (beside := [f for f, v in (("--csv", table), ("--picture", picture)) if v is not None]):
        raise click.UsageError(f"{beside[0]} needs --query, the pictures to tell apart. Received: none.")
    check_file("--csv", table)
    check_file("--picture", picture, *PICTURES)
    check_file("--save", save, ".keras")
    start_tensorflow()
    from tf_metalearn.episodes import images
    from tf_metalearn.episodes.folders import image_files, read_pictures
    from tf_metalearn.serving.export import picture_format

    learner = load_model(model, LEARNER)
    service = learner.served()
    form = picture_format(service.query_shape, invert=False)
    if form is None:
        raise click.UsageError(f"MODEL must be a learner of images. Received: '{model}', which takes something else.")
    if invert is not None:
        learner.ink = invert
    to_array = images.finish((form.height, form.width), "L" if form.channels == 1 else "RGB", learner.ink)
    with in_words_of_the_command_line(root="--support", unreadable="--unreadable"):
        x, _, classes = read_pictures(support, to_array, unreadable)
    if "" in classes:
        raise click.UsageError(f"--support: '{support}' has pictures outside of class folders. Move them into some.")
    folders = [path for path in sorted(support.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if empty := [path.name for path in folders if not any(image_files(path))]:
        raise click.UsageError(
            f"--support: there are no pictures in {', '.join(empty)}. Put some in, or remove the folder."
        )
    named = list(dict.fromkeys(classes))
    least, most = (2 if service.threshold is None else 1), service.most_classes
    if len(named) < least or (most is not None and len(named) > most):
        wanted = f"{least} or more" if most is None else f"{least} to {most}"
        raise click.UsageError(
            f"--support must have {wanted} class folders for this learner. Received: {len(named)}: {', '.join(named)}."
        )
    if query is not None:
        with in_words_of_the_command_line(root="--query", unreadable="--unreadable"):
            queries, files, truth = read_pictures(query, to_array, unreadable)
    classifier = learner.adapt(x, classes)
    click.echo(f"Adapted to {len(x)} pictures of {len(classifier.classes)} classes: {', '.join(classifier.classes)}")
    if query is not None:
        _tell_apart(classifier, queries, [file.relative_to(query).as_posix() for file in files], truth, table)
        if picture is not None:
            from tf_metalearn.plotting import plot_answers

            said, probabilities = classifier.classify(queries), classifier.predict(queries, verbose=0)
            drawn = plot_answers(x, classes, queries, probabilities, classifier.classes, learner.ink, said)
            drawn.savefig(picture)
            click.echo(f"Picture     {picture}")
    elif save is None:
        click.echo("Next        --query FOLDER tells other pictures apart; --save FILE.keras keeps the classifier")
    if save is not None:
        classifier.save(save)
        click.echo(f"Classifier  {save}")
        click.echo(f"Serve       tf-metalearn export {save} served/{save.stem}/1 --verify")


def _tell_apart(classifier: Any, x: Any, names: list[str], truth: list[str], table: Path | None) -> None:
    """Prints what a classifier says of pictures, and writes it."""
    import csv

    from rich.console import Console
    from rich.table import Table

    classes, probabilities, said = classifier.classes, classifier.predict(x, verbose=0), classifier.classify(x)
    drawn = Table("picture", "class", "probability")
    for name, label, row in zip(names, said, probabilities, strict=True):
        drawn.add_row(name, label or "none of these", f"{row.max():.1%}" if label else "")
    Console().print(drawn)
    known = [place for place, name in enumerate(truth) if name in classes]
    if known:
        right = sum(said[place] == truth[place] for place in known)
        click.echo(f"{right} of the {len(known)} in folders named like a class are right.")
    if table is not None:
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["picture", "class", *classes])
            for name, label, row in zip(names, said, probabilities, strict=True):
                writer.writerow([name, label or "", *(f"{value:.6f}" for value in row)])
        click.echo(f"Table       {table}")
