"""Repeats the published experiments: trains a rule, saves it, and compares it with tuned hand-made optimizers.

One command an experiment, for example::

    python tools/reproduce.py mnist --out runs/mnist --docs docs

A training that was interrupted goes on where it stopped when the same command is given again.
"""

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from learner_experiments import learner_experiments
from learner_training import run_learner
from plateau import run_plateau
from zero_shot import run_zero_shot


@dataclass(frozen=True)
class Test:
    """One comparison on test data.

    Args:
        title: What is new to the rule.
        problem: A name in `tf_metalearn.problems.PRESETS`.
        options: Of the problem.
        steps: Inner steps.
        runs: Paired runs.
        tuning_runs: Runs for each learning rate of a baseline.
    """

    title: str
    problem: str
    options: dict[str, Any]
    steps: int = 100
    runs: int = 100
    tuning_runs: int = 20


@dataclass(frozen=True)
class Experiment:
    """How a rule is trained and what it is tested on.

    Args:
        rule: Makes the untrained rule.
        ships_as: The name under which the rule comes with the package.
        training: The training problem: a name in `tf_metalearn.problems.PRESETS`. None for the rule that `make run`
            trains, of which only the tests are here.
        tests: What the trained rule is tested on.
        epochs: The rule that was best on the validation problem at the end of an epoch is kept.
        episodes: In an epoch.
        learning_rate: Of Adam for the meta-parameters at the start; it falls to 0 along a cosine.
    """

    rule: Callable[[], Any]
    ships_as: str
    training: str | None
    tests: Sequence[Test]
    epochs: int = 0
    episodes: int = 0
    learning_rate: float = 3e-3


def experiments() -> dict[str, Experiment]:
    """All experiments by name."""
    from tf_metalearn.rules import CoordinatewiseLSTM, GroupedRule

    return {
        "digits": Experiment(
            rule=lambda: CoordinatewiseLSTM("paper", seed=0),
            ships_as="default",
            training=None,
            tests=[
                Test("Another width, sigmoid", "digits", {"hidden": (32,)}),
                Test("Another width, ReLU", "digits", {"hidden": (32,), "activation": "relu"}),
                Test("Two hidden layers of tanh", "digits", {"hidden": (32, 32), "activation": "tanh"}),
                Test("Ten times as many steps", "digits", {"hidden": (32,)}, steps=1000, runs=20, tuning_runs=5),
                Test("Other images, ten times as many parameters", "mnist-relu", {}),
            ],
        ),
        "quadratic": Experiment(
            rule=lambda: CoordinatewiseLSTM("paper", preprocess=False, seed=0),
            ships_as="quadratic",
            training="quadratic",
            tests=[Test("Fresh functions", "quadratic", {"functions": 1}, runs=500, tuning_runs=100)],
            epochs=30,
            episodes=100,
        ),
        "mnist": Experiment(
            rule=lambda: CoordinatewiseLSTM("paper", seed=0),
            ships_as="andrychowicz2016",
            training="mnist",
            tests=[
                Test("The training architecture, test images", "mnist", {}),
                Test("Twice as many steps", "mnist", {}, steps=200),
                Test("40 hidden units", "mnist-40-units", {}),
                Test("Two hidden layers", "mnist-two-layers", {}),
                Test("ReLU instead of sigmoid", "mnist-relu", {}),
            ],
            epochs=30,
            episodes=50,
        ),
        "cifar100": Experiment(
            rule=lambda: GroupedRule(
                {"conv": CoordinatewiseLSTM("paper", seed=0), ".*": CoordinatewiseLSTM("paper", seed=100)}
            ),
            ships_as="cifar100",
            training="cifar100",
            tests=[Test("Test images", "cifar100", {}, runs=30, tuning_runs=3)],
            epochs=20,
            episodes=10,
        ),
    }


def train(experiment: Experiment, directory: Path, seed: int) -> Any:
    """Trains the experiment's rule, or goes on with a training that was interrupted.

    Args:
        experiment: What to train.
        directory: For checkpoints, TensorBoard events and the log.
        seed: Of the episodes.

    Returns:
        The rule that was best on the validation problem.
    """
    import keras

    import tf_metalearn as tfm

    assert experiment.training is not None
    trainer = tfm.OptimizerTrainer(
        experiment.rule(),
        tfm.problems.make(experiment.training, split="train"),
        tfm.problems.make(experiment.training, split="validation"),
        seed=seed,
    )
    updates = experiment.epochs * experiment.episodes * (trainer.episode_length // trainer.unroll_length)
    schedule = keras.optimizers.schedules.CosineDecay(experiment.learning_rate, updates)
    trainer.compile(optimizer=keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    trainer.fit(
        epochs=experiment.epochs,
        steps_per_epoch=experiment.episodes,
        verbose=2,
        callbacks=[
            keras.callbacks.BackupAndRestore(directory / "backup", delete_checkpoint=False),
            keras.callbacks.ModelCheckpoint(directory / "best.keras", monitor="val_loss", save_best_only=True),
            keras.callbacks.CSVLogger(directory / "log.csv", append=True),
            keras.callbacks.TensorBoard(directory / "tensorboard"),
        ],
    )
    return trainer.rule


def test(rule: Any, name: str, tests: Sequence[Test], directory: Path, seed: int) -> str:
    """Compares a rule with tuned baselines on each test.

    Args:
        rule: The trained rule.
        name: What it is called in tables.
        tests: Which comparisons.
        directory: For the reports.
        seed: Of the fresh runs.

    Returns:
        The tables and pictures as Markdown.
    """
    import tf_metalearn as tfm
    from tf_metalearn.optimizers.report import print_table, report, verdict

    sections = []
    for number, one in enumerate(tests):
        problem = tfm.problems.make(one.problem, split="test", **one.options)
        comparison = tfm.compare(
            {name: rule}, problem, one.steps, runs=one.runs, tuning_runs=one.tuning_runs, seed=seed
        )
        print_table(comparison)
        written = report(comparison, directory / f"{number}-{one.problem}-{one.steps}")
        picture = f"images/{name}-{number}.png"
        shutil.copy(written.picture, directory / f"{name}-{number}.png")
        sections.append(
            f"### {one.title} (`{one.problem}`, {one.steps} steps, {one.runs} paired runs)\n\n{verdict(comparison)}\n\n"
            f"{markdown(comparison)}\n\n![Learning curves]({picture})\n"
        )
    return "\n".join(sections)


def markdown(comparison: Any) -> str:
    """A comparison's figures as a Markdown table.

    Args:
        comparison: A `tf_metalearn.Comparison`.
    """
    lines = [
        "| optimizer | learning rate | mean loss over steps | loss at last step | paired difference | diverged |",
        "|---|---|---|---|---|---|",
    ]
    for row in comparison.table():
        difference = "" if row.difference is None else f"{row.difference:+.4g} ± {row.difference_ci95:.2g}"
        rate = "learned" if row.rate is None else f"{row.rate:g}"
        lines.append(
            f"| {row.name} | {rate} | {row.mean_loss:.4g} ± {row.mean_loss_ci95:.2g} | "
            f"{row.final_loss:.4g} ± {row.final_loss_ci95:.2g} | {difference} | {row.diverged} |"
        )
    return "\n".join(lines)


def update_docs(docs: Path, name: str, text: str, pictures: Sequence[Path]) -> None:
    """Puts an experiment's results into `results.md`, in the place of its former ones.

    Args:
        docs: The folder of the documentation.
        name: Of the experiment; its section stands between two comments with this name.
        text: Markdown.
        pictures: Copied into `images`.
    """
    page = docs / "results.md"
    content = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by tools/reproduce.py -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{text}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(content):
        raise click.ClickException(f"{page} has no place for {name!r}: add the lines\n{begin}\n{end}")
    page.write_text(pattern.sub(lambda _: section, content), encoding="utf-8")
    (docs / "images").mkdir(exist_ok=True)
    for picture in pictures:
        shutil.copy(picture, docs / "images" / picture.name)


@click.command()
@click.argument("name", metavar="EXPERIMENT")
@click.option("--out", type=click.Path(path_type=Path), help="Where results go. [default: runs/EXPERIMENT]")
@click.option("--seed", default=0, show_default=True, help="Of the training episodes and of the fresh test runs.")
@click.option("--docs", type=click.Path(path_type=Path), help="Also write the results into this folder's results.md.")
@click.option(
    "--shipped", is_flag=True, help="Test the rule or learner that ships with the package instead of training one."
)
@click.option("--data-dir", help="Where data sets are, such as your mini-ImageNet. [default: TFDS_DATA_DIR]")
@click.option(
    "--attributes",
    type=click.Path(path_type=Path),
    help="Of animals_zero_shot: the folder of Animals with Attributes 2, or a table of lines such as 'zebra,1,0'.",
)
def main(
    name: str,
    out: Path | None,
    seed: int,
    docs: Path | None,
    shipped: bool,
    data_dir: str | None,
    attributes: Path | None,
) -> None:
    """Trains and tests what EXPERIMENT is about: a learned optimizer, against tuned ones (digits, quadratic, mnist,
    cifar100), or a few-shot learner (such as omniglot_maml_5way_1shot; plateau shows the Meta-LSTM's forget gate)."""
    learners = learner_experiments()
    others = ("plateau", "animals_zero_shot")
    directory = out or Path("runs") / name
    if name in learners or name in others:
        pictures: list[Path] = []
        if name == "plateau":
            text, pictures = run_plateau(directory)
        elif name == "animals_zero_shot":
            text = run_zero_shot(directory, attributes, seed, data_dir)
        else:
            text, pictures = run_learner(name, directory, seed, data_dir, shipped)
        if docs:
            update_docs(docs, name, text, pictures)
        return
    from tf_metalearn import load_rule, save_rule, set_cpu_threads

    set_cpu_threads()
    known = experiments()
    if name not in known:
        raise click.UsageError(
            f"EXPERIMENT must be one of {', '.join([*known, *learners, *others])}. Received: {name!r}."
        )
    experiment = known[name]
    directory.mkdir(parents=True, exist_ok=True)
    if shipped or experiment.training is None:
        rule = load_rule(experiment.ships_as)
    else:
        rule = train(experiment, directory, seed)
        save_rule(rule, directory / f"{experiment.ships_as}.keras")
    text = test(rule, experiment.ships_as, experiment.tests, directory, seed)
    if docs:
        update_docs(docs, name, text, sorted(directory.glob(f"{experiment.ships_as}-*.png")))


if __name__ == "__main__":
    sys.exit(main())
