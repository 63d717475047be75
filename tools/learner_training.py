"""Trains and tests the learners of `learner_experiments.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from learner_experiments import learner_experiments
from learner_recipe import LearnerExperiment


def run_learner(name: str, directory: Path, seed: int, data_dir: str | None, shipped: bool) -> tuple[str, list[Path]]:
    """Trains a learner and its baselines, and tests them.

    Args:
        name: Of the experiment.
        directory: For all that is written.
        seed: Of initial weights and episodes; test episodes have the next.
        data_dir: Where data sets are.
        shipped: Whether to test the learner that comes with the package instead.

    Returns:
        Tables as Markdown, and the pictures' files.
    """
    from tf_metalearn import load, set_cpu_threads
    from tf_metalearn.episodes import SOURCES

    known = learner_experiments()
    experiment = known[name]
    if experiment.many_small_operations:
        set_cpu_threads()
    directory.mkdir(parents=True, exist_ok=True)
    baselines = {baseline: _trained_baseline(baseline, directory, seed, data_dir) for baseline in experiment.baselines}
    learner = load(name) if shipped else train_learner(experiment, directory, seed, data_dir, *baselines.values())
    sections = [test_learner(learner, experiment, seed + 1, data_dir)]
    pictures = draw(learner, experiment, name, directory, seed + 1, data_dir)
    # Ready to evaluate, without the state of the optimizer that trained it.
    learner.compile("sgd", loss=experiment.loss)
    learner.ink = experiment.source in SOURCES and SOURCES[experiment.source].ink
    learner.save(directory / f"{name}.keras")
    for baseline, other in baselines.items():
        sections.append(f"`{baseline}`:\n\n{test_learner(other, known[baseline], seed + 1, data_dir)}")
    sections += [f"![{picture.stem}](images/{picture.name})" for picture in pictures]
    return "\n\n".join(sections) + "\n", pictures


def _trained_baseline(name: str, beside: Path, seed: int, data_dir: str | None) -> Any:
    """A baseline of what is trained in another folder, with the baselines of its own."""
    experiment, folder = learner_experiments()[name], beside.parent / name
    folder.mkdir(parents=True, exist_ok=True)
    others = [_trained_baseline(other, folder, seed, data_dir) for other in experiment.baselines]
    return train_learner(experiment, folder, seed, data_dir, *others)


def train_learner(
    experiment: LearnerExperiment, directory: Path, seed: int, data_dir: str | None, *baselines: Any
) -> Any:
    """Trains the learner, or goes on after the last epoch that was saved, with the very episodes that come next.

    Args:
        experiment: What to train.
        directory: For the saved learner and TensorBoard.
        seed: Of initial weights and episodes.
        data_dir: Where data sets are.
        *baselines: Trained before it.

    Returns:
        The trained learner.
    """
    import keras

    saved = directory / "training.keras"
    if saved.exists():
        learner = keras.saving.load_model(saved)
        done = int(learner.optimizer.iterations) // experiment.steps
        click.echo(f"Goes on after epoch {done}.")
    else:
        keras.utils.set_random_seed(seed)
        learner, done = experiment.learner(*baselines), 0
        schedule = keras.optimizers.schedules.CosineDecay(
            experiment.learning_rate, experiment.epochs * experiment.steps
        )
        learner.compile((experiment.optimizer or keras.optimizers.Adam)(schedule), loss=experiment.loss)
    for epoch in range(done, experiment.epochs):
        logs = keras.callbacks.TensorBoard(directory / "tensorboard", profile_batch=0)
        data = _training_data(experiment, epoch, seed, data_dir)
        learner.fit(data, initial_epoch=epoch, epochs=epoch + 1, verbose=2, callbacks=[logs])
        learner.save(directory / "training.part.keras")
        (directory / "training.part.keras").replace(saved)
    return learner


def _training_data(experiment: LearnerExperiment, epoch: int, seed: int, data_dir: str | None) -> Any:
    from tf_metalearn import load_episodes, load_examples

    count = experiment.steps * experiment.training["batch_size"]
    arguments = {"seed": seed, "data_dir": data_dir, "start": epoch * count, **experiment.training}
    source = experiment.classes(data_dir) if experiment.classes else experiment.source
    if "shots" in arguments:
        return load_episodes(source, episodes=count, **arguments)
    return load_examples(source, examples=count, **arguments)


def test_learner(learner: Any, experiment: LearnerExperiment, seed: int, data_dir: str | None) -> str:
    """Evaluates a learner on each test.

    Args:
        learner: The trained learner.
        experiment: Its tests.
        seed: Of the test episodes.
        data_dir: Where data sets are.

    Returns:
        A Markdown table of accuracies in %, or of losses, with 95 % intervals over tasks.
    """
    from tf_metalearn import load_episodes

    what = "accuracy, %" if experiment.loss is None else f"{experiment.loss}"
    lines = [f"| test | {what} | before adaptation | published | episodes |", "|---|---|---|---|---|"]
    for one in experiment.tests:
        episodes = load_episodes(
            experiment.source, seed=seed, data_dir=data_dir, episodes=experiment.episodes, **one.episodes
        )
        tested = one.change(learner) if one.change else learner
        found = _figures(tested.evaluate(episodes, return_dict=True, verbose=0))
        lines.append(f"| {one.title} | {' | '.join(found)} | {one.published} | {experiment.episodes} |")
        click.echo(lines[-1])
    return "\n".join(lines)


def _figures(found: Mapping[str, float]) -> tuple[str, str]:
    """What was measured, and the same before adaptation where there is such a thing."""
    name, factor = ("accuracy", 100) if "accuracy" in found else ("loss", 1)
    after = f"{factor * found[name]:.2f} \u00b1 {factor * found[f'{name}_ci95']:.2f}"
    before = found.get(f"{name}_before")
    return after, "" if before is None else f"{factor * before:.2f}"


def draw(
    learner: Any, experiment: LearnerExperiment, name: str, directory: Path, seed: int, data_dir: str | None
) -> list[Path]:
    """Writes the experiment's pictures.

    Args:
        learner: The trained learner.
        experiment: What to draw.
        name: Of the experiment, with which the files' names begin.
        directory: For the files.
        seed: Of the episodes.
        data_dir: Where data sets are.

    Returns:
        The files.
    """
    from tf_metalearn import load_episodes

    if experiment.pictures is None:
        return []

    def episodes(**arguments):
        test = {**experiment.tests[0].episodes, **arguments}
        return load_episodes(experiment.source, seed=seed, data_dir=data_dir, **test)

    paths = []
    for suffix, figure in experiment.pictures(learner, episodes).items():
        paths.append(directory / f"{name}-{suffix}.png")
        figure.savefig(paths[-1])
    return paths
