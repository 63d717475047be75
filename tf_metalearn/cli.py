"""The command line: `tf-metalearn VERB`, or `python -m tf_metalearn VERB`.

A verb is a function that imports what it needs when it runs, so that help and completion wait for nothing. It lets
errors out: the group prints them for people, with a traceback only if asked.
"""

import contextlib
import os
import textwrap
from pathlib import Path
from typing import Any

import click


class _Verbs(click.Group):
    """Verbs whose failures end with one message and exit code 1; click's usage errors end with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            kind = "" if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: "
            hint = "Run `tf-metalearn --debug ...` for the traceback."
            raise click.ClickException(f"{kind}{error}\n{hint}") from error


def _version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import tf_metalearn

        click.echo(f"tf-metalearn {tf_metalearn.__version__}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def main(debug: bool) -> None:
    """Meta-learning on TensorFlow and Keras: learn the optimizer, the initialisation or the metric.

    \b
    Examples:
      tf-metalearn compare --problem digits
      tf-metalearn compare my_rule.keras --problem mnist --out results
      tf-metalearn adapt omniglot_prototypical --support letters --query unknown
      tf-metalearn export omniglot_prototypical saved_models/characters/1 --verify

    \b
    Shell completion, for bash (zsh and fish likewise); add it to ~/.bashrc:
      eval "$(_TF_METALEARN_COMPLETE=bash_source tf-metalearn)"
    """


@main.command()
@click.argument("rule", required=False, shell_complete=lambda ctx, parameter, word: _files(word))
@click.option(
    "--problem",
    "problem_name",
    default="digits",
    show_default=True,
    help="What to train: quadratic, digits, mnist, cifar100, ... An unknown name lists all.",
)
@click.option("--runs", default=100, show_default=True, type=click.IntRange(1), help="Fresh trainings, paired.")
@click.option("--steps", default=100, show_default=True, type=click.IntRange(1), help="Updates in a training.")
@click.option(
    "--tuning-runs",
    default=20,
    show_default=True,
    type=click.IntRange(1),
    help="Other fresh trainings for each learning rate of each baseline.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Decides all trainings.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write.  [default: comparisons/PROBLEM]",
)
def compare(
    rule: str | None, problem_name: str, runs: int, steps: int, tuning_runs: int, seed: int, out: Path | None
) -> None:
    """Pit a learned optimizer against SGD, RMSprop, Adam and Nesterov.

    RULE is the name of a shipped rule or the path of a .keras file; the rule of `LearnedOptimizer()` when left out.
    Each of the others first gets its best learning rate from a grid on the same problem. Then all train the same
    fresh instances, on data kept for testing. Prints a table and writes DIR/curves.png, DIR/comparison.json and
    DIR/tensorboard.

    \b
    Examples:
      tf-metalearn compare
      tf-metalearn compare andrychowicz2016 --problem mnist
      tf-metalearn compare my_rule.keras --problem cifar100 --runs 10 --tuning-runs 3
    """
    _start_tensorflow()
    from tf_metalearn import problems
    from tf_metalearn.optimizers import comparison, report
    from tf_metalearn.pretrained import DEFAULT_RULE, load_rule

    if problem_name not in problems.PRESETS:
        known = ", ".join(problems.PRESETS)
        raise click.BadParameter(f"{problem_name!r} is not a known problem. Known: {known}.", param_hint="--problem")
    loaded = load_rule(rule or DEFAULT_RULE)
    out = out or Path("comparisons", problem_name)
    # Better to fail now than after the work.
    out.mkdir(parents=True, exist_ok=True)
    problem = problems.make(problem_name, split="test")
    with report.progress_bar() as progress:
        result = comparison.compare(
            {Path(rule or "learned").stem: loaded},
            problem,
            steps,
            runs,
            seed,
            tuning_runs=tuning_runs,
            progress=progress,
        )
    report.print_table(result)
    written = report.report(result, out)
    click.echo(f"\nCurves      {written.picture}\nFigures     {written.json}")
    click.echo(f"TensorBoard tensorboard --logdir {written.tensorboard}")


@main.command()
@click.argument("name", required=False)
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where data sets are kept.")
@click.option("--download", is_flag=True, help="Get NAME by its tensorflow_datasets builder and decode it.")
@click.option("--draw", type=click.Path(dir_okay=False, path_type=Path), help="Draw an episode of NAME to this PNG.")
@click.option("--split", default="test", show_default=True, help="Of the episode: train, validation, test or all.")
@click.option("--ways", default=5, show_default=True, type=click.IntRange(1), help="Classes in the episode.")
@click.option("--shots", default=1, show_default=True, type=click.IntRange(0), help="Support examples of a class.")
@click.option("--queries", default=5, show_default=True, type=click.IntRange(1), help="Query examples of a class.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Decides the episode.")
@click.option("--protocol", help="Of omniglot: vinyals, lake, small1 or small2.")
@click.option("--within-groups", is_flag=True, help="All classes of the episode from one group, such as an alphabet.")
@click.option("--image-size", type=click.IntRange(1), help="Pixels of both sides.")
@click.option("--unreadable", type=click.Choice(["fail", "skip"]), default="fail", help="Damaged images of a folder.")
def datasets(
    name: str | None,
    data_dir: Path | None,
    download: bool,
    draw: Path | None,
    split: str,
    ways: int,
    shots: int,
    queries: int,
    seed: int,
    protocol: str | None,
    within_groups: bool,
    image_size: int | None,
    unreadable: str,
) -> None:
    """List data sets, get one, or draw one of its episodes.

    Without NAME, lists what `load_episodes` knows by name and what tensorflow_datasets has prepared, where it is kept,
    its size, licence and source. NAME is one of these, another tensorflow_datasets builder, or a folder of class
    folders. TFDS_DATA_DIR (or --data-dir) says where data sets are kept.

    \b
    Examples:
      tf-metalearn datasets
      tf-metalearn datasets omniglot --download
      tf-metalearn datasets my_images --split all --draw episode.png
    """
    if name is None:
        if download or draw:
            raise click.UsageError("NAME must say which data set. Received: none. See `tf-metalearn datasets`.")
        _list_data_sets(data_dir)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf_metalearn import episodes

    if download:
        known = episodes.SOURCES.get(name)
        if known and not known.dataset:
            raise click.UsageError(f"{name!r} cannot be downloaded: {known.summary}.")
        folder = episodes.prepared.download(known.dataset if known else name, data_dir)
        click.echo(f"{name} is in {folder}")
    reading: dict[str, Any] = {
        "data_dir": data_dir,
        "protocol": protocol,
        "image_size": image_size,
        "unreadable": unreadable,
    }
    if not draw:
        table = episodes.load_classes(name, "all", rotations=False, **reading)
        low, high = min(table.sizes), max(table.sizes)
        of_each = f"{low}" if low == high else f"{low} to {high}"
        click.echo(
            f"{name}: {len(table.names):,} classes, {of_each} examples of each, {len(table.examples):,} in all, "
            f"of shape {table.examples.shape[1:]}"
        )
        if table.groups:
            click.echo(
                f"{len(set(table.groups))} groups: {textwrap.shorten(', '.join(sorted(set(table.groups))), 100)}"
            )
        if table.metadata is not None:
            click.echo(f"metadata of {table.metadata.shape[1]} features")
        click.echo(f"Classes: {textwrap.shorten(', '.join(table.names), 100)}")
        return
    from tf_metalearn.plotting import plot_episode

    stream = episodes.load_episodes(
        name, split, ways, shots, queries, 1, seed, episodes=1, within_groups=within_groups, **reading
    )
    episode, query_y = next(iter(stream))
    draw.parent.mkdir(parents=True, exist_ok=True)
    plot_episode(episode, query_y).savefig(draw)
    click.echo(f"Episode     {draw}")


@main.command()
@click.argument("model")
@click.option(
    "--support", required=True, type=click.Path(path_type=Path), help="Folder with a folder of pictures for each class."
)
@click.option("--query", type=click.Path(path_type=Path), help="Folder of pictures to tell apart, in folders or not.")
@click.option("--csv", "table", type=click.Path(dir_okay=False, path_type=Path), help="Write what is said of them.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the classifier: FILE.keras.")
@click.option(
    "--invert/--no-invert", default=None, help="Dark pixels of pictures become 1.  [default: of shipped learners, ink]"
)
def adapt(
    model: str, support: Path, query: Path | None, table: Path | None, save: Path | None, invert: bool | None
) -> None:
    """Adapt a learner to your own pictures, and tell others apart.

    MODEL is the name of a shipped learner or a .keras file. Pictures are resized to what it takes. One example of each
    class will do; with metric learners classes may be any number.

    \b
    Examples:
      tf-metalearn adapt omniglot_prototypical --support letters --query unknown --csv unknown.csv
      tf-metalearn adapt omniglot_prototypical --support letters --save letters.keras
    """
    if save is not None and save.suffix != ".keras":
        raise click.UsageError(f"--save must end in '.keras'. Received: '{save}'. Try '{save.with_suffix('.keras')}'.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf_metalearn import pretrained
    from tf_metalearn.episodes import images
    from tf_metalearn.episodes.folders import read_pictures
    from tf_metalearn.learners import FewShotLearner
    from tf_metalearn.serving.export import picture_format

    learner = pretrained.load(model)
    if not isinstance(learner, FewShotLearner):
        raise click.UsageError(f"MODEL must be a learner. Received: '{model}', a {type(learner).__name__}.")
    form = picture_format(learner.served().query_shape, invert=False)
    if form is None:
        raise click.UsageError(f"MODEL must be a learner of images. Received: '{model}', which takes something else.")
    ink = model in pretrained.learner_names() if invert is None else invert
    to_array = images.finish((form.height, form.width), "L" if form.channels == 1 else "RGB", ink)
    x, _, classes = read_pictures(support, to_array)
    if "" in classes:
        raise click.UsageError(f"--support: '{support}' has pictures outside of class folders. Move them into some.")
    classifier = learner.adapt(x, classes)
    click.echo(f"Adapted to {len(x)} pictures of {len(classifier.classes)} classes: {', '.join(classifier.classes)}")
    if query is not None:
        x, files, truth = read_pictures(query, to_array)
        _tell_apart(classifier, x, [file.relative_to(query).as_posix() for file in files], truth, table)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        classifier.save(save)
        invert_too = " --invert" if ink else ""
        click.echo(f"Classifier  {save}")
        click.echo(f"Serve       tf-metalearn export {save} saved_models/{save.stem}/1{invert_too} --verify")


def _tell_apart(classifier: Any, x: Any, names: list[str], truth: list[str], table: Path | None) -> None:
    """Prints what a classifier says of pictures, and writes it."""
    import csv

    from rich.console import Console
    from rich.table import Table

    classes, probabilities = classifier.classes, classifier.predict(x, verbose=0)
    drawn = Table("picture", "class", "probability")
    for name, row in zip(names, probabilities, strict=True):
        drawn.add_row(name, classes[row.argmax()], f"{row.max():.1%}")
    Console().print(drawn)
    known = [place for place, name in enumerate(truth) if name in classes]
    if known:
        right = sum(classes[probabilities[place].argmax()] == truth[place] for place in known)
        click.echo(f"{right} of the {len(known)} in folders named like a class are right.")
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["picture", "class", *classes])
            for name, row in zip(names, probabilities, strict=True):
                writer.writerow([name, classes[row.argmax()], *(f"{value:.6f}" for value in row)])
        click.echo(f"Table       {table}")


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="[MODEL] VERSION")
@click.option("--verify", is_flag=True, help="Check VERSION, once it is written if MODEL is given.")
@click.option("--about", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Markdown for the README.")
@click.option(
    "--invert/--no-invert", default=None, help="Dark pixels of pictures become 1.  [default: of shipped learners, ink]"
)
def export(paths: tuple[str, ...], verify: bool, about: Path | None, invert: bool | None) -> None:
    """Write a SavedModel for TensorFlow Serving, or check one.

    MODEL is the name of a shipped learner or rule, or a .keras file with a learner, a rule, or the classifier that
    `adapt` returned. VERSION is a folder: one for all models, the model's name, and a number.

    \b
    Examples:
      tf-metalearn export omniglot_prototypical saved_models/characters/1 --verify
      tf-metalearn export my_learner.keras saved_models/my_learner/1
      tf-metalearn export --verify saved_models/my_learner/1
    """
    if len(paths) > 2 or (len(paths) == 1 and not verify):
        raise click.UsageError("Give MODEL and VERSION; or VERSION alone with --verify.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf_metalearn import pretrained, serving
    from tf_metalearn.rules import UpdateRule
    from tf_metalearn.serving.verification import print_checks

    version = Path(paths[-1])
    if len(paths) == 2:
        model = pretrained.load_any(paths[0])
        text = about.read_text(encoding="utf-8") if about else pretrained.card(paths[0])
        if isinstance(model, UpdateRule):
            serving.export_rule(model, version, text)
        else:
            # The learners that ship were trained on ink.
            ink = paths[0] in pretrained.learner_names() if invert is None else invert
            model.export(version, verbose=False, about=text, invert=ink)
        click.echo(f"Version     {version}\nServer      docker compose -f {version.parent.parent / 'compose.yaml'} up")
    if verify and not print_checks(serving.verify_export(version), str(version)):
        raise SystemExit(1)


def _list_data_sets(data_dir: Path | None) -> None:
    from tf_metalearn.episodes import catalogue
    from tf_metalearn.episodes.prepared import data_directory

    click.echo(f"Data sets in {data_directory(data_dir)}\n")
    for entry in catalogue.entries(data_dir):
        click.echo(f"{click.style(entry.name, bold=True)}\n  {textwrap.shorten(entry.summary, 100)}")
        size = f"{entry.megabytes:,.0f} MB" if entry.megabytes else ""
        if entry.folder:
            click.echo(f"  {entry.folder}, {size}")
            for cached in entry.cached:
                click.echo(f"  {cached}, decoded, {cached.stat().st_size / catalogue.MEGABYTE:,.0f} MB")
        else:
            click.echo(f"  not on this machine{f', {size} to download' if size else ''}")
        click.echo(f"  Licence: {entry.licence}\n  Source: {entry.homepage or 'unknown'}\n")
    click.echo(click.style("sinusoids", bold=True))
    click.echo("  regression tasks: sine waves of random amplitude and phase, made as they are drawn\n")
    click.echo("Get one by `tf-metalearn datasets NAME --download`. A folder of class folders works as well.")


def _start_tensorflow() -> None:
    """Gives TensorFlow the threads that suit small graphs, and less to say."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tf_metalearn.threads import set_cpu_threads

    # Only speed depends on it: inside a process where TensorFlow already runs, its threads stay as they are.
    with contextlib.suppress(RuntimeError):
        set_cpu_threads()


def _files(word: str) -> list[Any]:
    """Tells the shell to complete paths."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(word, type="file")]
