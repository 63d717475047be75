"""`tf-metalearn evaluate`: what a run has learned, or what ships, on test data."""

from pathlib import Path
from typing import Any

import click

from tf_metalearn.cli.common import (
    LEARNER,
    in_words_of_the_command_line,
    load_model,
    show_comparison,
    start_tensorflow,
)
from tf_metalearn.runs.folder import CONFIG, RunFolder, model_file

#: What the command line calls the arguments of functions.
_OPTIONS = ("ways", "shots", "split", "protocol", "image_size", "invert", "unreadable")
_FLAGS = {name: f"--{name.replace('_', '-')}" for name in _OPTIONS}


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--data", help="Data set.  [default: the run's]")
@click.option("--split", default="test", show_default=True, help="train, validation or test, joined by +, or all.")
@click.option("--ways", type=click.IntRange(2), help="Classes in a task.  [default: the run's, else 5]")
@click.option("--shots", type=click.IntRange(1), help="Support examples of a class.  [default: the run's, else 1]")
@click.option("--episodes", default=1000, show_default=True, type=click.IntRange(2), help="Tasks.")
@click.option("--protocol", help="Of omniglot: vinyals, lake, small1 or small2.")
@click.option("--image-size", type=click.IntRange(1), help="Pixels of both sides.  [default: as the learner takes]")
@click.option(
    "--invert/--no-invert",
    default=None,
    help="Dark pixels of a folder's images become 1.  [default: as the learner knows]",
)
@click.option("--transductive/--no-transductive", default=None, help="Normalise queries by their own statistics.")
@click.option("--evaluation-steps", type=click.IntRange(0), help="Inner steps.  [default: the learner's]")
@click.option(
    "--problem-runs", default=100, show_default=True, type=click.IntRange(2), help="Of an optimizer: trainings."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Decides the tasks.")
@click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Where data sets are kept.  [default: TFDS_DATA_DIR]"
)
def evaluate(
    run: str, split: str, episodes: int, problem_runs: int, seed: int, data_dir: str | None, **given: Any
) -> None:
    """Evaluate a learner on tasks of classes that it has never seen, or an optimizer against tuned ones.

    RUN is a run's folder, the name of what ships, or a .keras file of a learner. Prints figures with 95 % intervals
    over tasks; in a run's folder it also adds a line to evaluations.jsonl.

    \b
    Examples:
      tf-metalearn evaluate runs/maml-omniglot-1
      tf-metalearn evaluate runs/maml-omniglot-1 --transductive
      tf-metalearn evaluate omniglot_prototypical --data omniglot --ways 20 --shots 5
    """
    opened = RunFolder.open(run) if Path(run, CONFIG).exists() or Path(run).is_dir() else None
    chosen = {name: value for name, value in given.items() if value is not None}
    if opened is not None and opened.config.algorithm == "l2l":
        _evaluate_rule(opened, chosen, problem_runs, seed)
        return
    values = {"protocol": None, "image_size": None, "unreadable": "fail", "ways": 5, "shots": 1}
    values |= dict(opened.config.values) if opened else {}
    values["invert"] = None
    values |= chosen
    start_tensorflow()
    from tf_metalearn.optimizers import report
    from tf_metalearn.runs.evaluation import evaluate_learner

    learner = load_model(run, LEARNER)
    if "data" not in values:
        raise click.UsageError(f"--data must say which data set, since '{run}' is no run.\nTry --data omniglot.")
    with report.progress_bar() as progress, in_words_of_the_command_line(source="--data", **_FLAGS):
        line = evaluate_learner(learner, values, split, episodes, seed, data_dir, progress)
    _print(line)
    if opened is not None:
        try:
            opened.add_evaluation(line)
        except OSError as error:
            click.echo(f"Not added to '{opened.path}': {error.strerror}.", err=True)


def _print(line: Any) -> None:
    figures, of_accuracy = line["figures"], "accuracy" in line["figures"]
    name, factor, unit = ("accuracy", 100, " %") if of_accuracy else ("loss", 1, "")
    of_classes = f", from {line['classes']:,} classes" if line["classes"] else ""
    click.echo(f"Task        {line['task']}, {line['episodes']:,} of them{of_classes}")
    half = factor * figures[f"{name}_ci95"]
    click.echo(f"{name.capitalize():<11} {factor * figures[name]:.2f}{unit} \u00b1 {half:.2f} (95 %)")
    if (before := figures.get(f"{name}_before")) is not None:
        click.echo(f"Before      {factor * before:.2f}{unit}, before adaptation")
    click.echo(f"Normalised  by {line['batch_statistics']}")


def _evaluate_rule(run: RunFolder, chosen: dict[str, Any], runs: int, seed: int) -> None:
    if chosen:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise click.UsageError(f"'{run.path}' has learned an optimizer, which has no tasks. Received: {flags}.")
    start_tensorflow()
    from tf_metalearn import load_rule
    from tf_metalearn.optimizers import comparison, report
    from tf_metalearn.runs.build import problem_of

    with report.progress_bar() as progress:
        steps = run.config.values["episode_length"]
        result = comparison.compare(
            {"learned": load_rule(model_file(run.path))},
            problem_of(run.config, "test"),
            steps,
            runs,
            seed,
            progress=progress,
        )
    show_comparison(result, run.path / "comparison")
    rows = {row.name: row.mean_loss for row in result.table()}
    run.add_evaluation({"task": f"{steps} steps of {run.config.values['problem']}", "seed": seed, "mean_loss": rows})
