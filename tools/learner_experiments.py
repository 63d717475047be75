"""Few-shot learners as published: how each is trained and tested. `tools/reproduce.py NAME` runs one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class LearnerExperiment:
    """How a learner is trained and what it is tested on.

    Args:
        learner: Makes the untrained learner.
        source: Of the episodes, as `load_episodes` has it.
        training: Arguments of `load_episodes` in training.
        tests: Arguments of `load_episodes` for each test, by title.
        epochs: The learner is saved after each.
        steps: Updates in an epoch.
        learning_rate: Of Adam at the start; it falls to 0 along a cosine.
        published: What the paper reports for each test, in %.
        episodes: Of each test.
        many_small_operations: Whether each operation runs on one thread; see `set_cpu_threads`.
    """

    learner: Callable[[], Any]
    source: str
    training: dict[str, Any]
    tests: dict[str, dict[str, Any]]
    epochs: int
    steps: int
    learning_rate: float
    published: Sequence[float]
    episodes: int = 1000
    many_small_operations: bool = False


def learner_experiments() -> dict[str, LearnerExperiment]:
    """All experiments by the name of what they train."""
    from tf_metalearn import Augmentation, backbones
    from tf_metalearn.learners import MetaSGD, PrototypicalNetwork

    augmentation = Augmentation(shift=2, turn=8, scale=0.1, shear=8)
    omniglot = {
        f"{ways}-way {shots}-shot": {"split": "test", "ways": ways, "shots": shots, "batch_size": 4}
        for ways, shots in ((5, 1), (5, 5), (20, 1), (20, 5))
    }
    return {
        "omniglot_prototypical": LearnerExperiment(
            learner=lambda: PrototypicalNetwork(backbones.conv4()),
            source="omniglot",
            training={
                "split": "train+validation",
                "ways": 60,
                "shots": 1,
                "queries": 5,
                "batch_size": 1,
                "augmentation": augmentation,
            },
            tests=omniglot,
            epochs=100,
            steps=250,
            learning_rate=2e-3,
            published=[98.8, 99.7, 96.0, 98.9],
        ),
        "omniglot_meta_sgd_5way_1shot": LearnerExperiment(
            learner=lambda: MetaSGD(backbones.conv4(outputs=5)),
            source="omniglot",
            training={
                "split": "train+validation",
                "ways": 5,
                "shots": 1,
                "queries": 5,
                "batch_size": 8,
                "augmentation": augmentation,
            },
            tests={"5-way 1-shot": {"split": "test", "ways": 5, "shots": 1}},
            epochs=50,
            steps=500,
            learning_rate=2e-3,
            published=[99.53],
            many_small_operations=True,
        ),
    }


def train_learner(experiment: LearnerExperiment, directory: Path, seed: int) -> Any:
    """Trains the learner, or goes on after the last epoch that was saved, with the very episodes that come next.

    Args:
        experiment: What to train.
        directory: For the saved learner and TensorBoard.
        seed: Of initial weights and episodes.

    Returns:
        The trained learner.
    """
    import keras

    from tf_metalearn import load_episodes

    saved = directory / "training.keras"
    if saved.exists():
        learner = keras.saving.load_model(saved)
        done = int(learner.optimizer.iterations) // experiment.steps
        click.echo(f"Goes on after epoch {done}.")
    else:
        keras.utils.set_random_seed(seed)
        learner, done = experiment.learner(), 0
        schedule = keras.optimizers.schedules.CosineDecay(
            experiment.learning_rate, experiment.epochs * experiment.steps
        )
        learner.compile(keras.optimizers.Adam(schedule))
    tasks = experiment.steps * experiment.training["batch_size"]
    for epoch in range(done, experiment.epochs):
        episodes = load_episodes(
            experiment.source, seed=seed, start=epoch * tasks, episodes=tasks, **experiment.training
        )
        logs = keras.callbacks.TensorBoard(directory / "tensorboard", profile_batch=0)
        learner.fit(episodes, initial_epoch=epoch, epochs=epoch + 1, verbose=2, callbacks=[logs])
        learner.save(directory / "training.part.keras")
        (directory / "training.part.keras").replace(saved)
    return learner


def test_learner(learner: Any, experiment: LearnerExperiment, seed: int) -> str:
    """Evaluates a learner on each test.

    Args:
        learner: The trained learner.
        experiment: Its tests.
        seed: Of the test episodes.

    Returns:
        A Markdown table of accuracies in % with 95 % intervals over tasks.
    """
    from tf_metalearn import load_episodes

    lines = ["| test | accuracy, % | published, % | episodes |", "|---|---|---|---|"]
    for (title, arguments), published in zip(experiment.tests.items(), experiment.published, strict=True):
        episodes = load_episodes(experiment.source, seed=seed, episodes=experiment.episodes, **arguments)
        found = learner.evaluate(episodes, return_dict=True, verbose=0)
        accuracy, interval = 100 * found["accuracy"], 100 * found["accuracy_ci95"]
        lines.append(f"| {title} | {accuracy:.2f} \u00b1 {interval:.2f} | {published:g} | {experiment.episodes} |")
        click.echo(lines[-1])
    return "\n".join(lines)
