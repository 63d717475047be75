"""Few-shot learners as published: how each is trained and tested. `tools/reproduce.py NAME` runs one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class LearnerTest:
    """One test of a trained learner.

    Args:
        title: In the table.
        episodes: Arguments of `load_episodes`.
        published: What papers report, in words.
        settings: Of the learner's configuration that differ in this test, such as `transductive`.
    """

    title: str
    episodes: Mapping[str, Any]
    published: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LearnerExperiment:
    """How a learner is trained and what it is tested on.

    Args:
        learner: Makes the untrained learner.
        source: Of the episodes, as `load_episodes` has it.
        training: Arguments of `load_episodes` in training.
        tests: What it is tested on.
        epochs: The learner is saved after each.
        steps: Updates in an epoch.
        learning_rate: At the start; it falls to 0 along a cosine.
        optimizer: Makes the optimizer, given that schedule.
        episodes: Of each test.
        many_small_operations: Whether each operation runs on one thread; see `set_cpu_threads`.
    """

    learner: Callable[[], Any]
    source: str
    training: Mapping[str, Any]
    tests: Sequence[LearnerTest]
    epochs: int
    steps: int
    learning_rate: float
    optimizer: Callable[[Any], Any] | None = None
    episodes: int = 1000
    many_small_operations: bool = True


def learner_experiments() -> dict[str, LearnerExperiment]:
    """All experiments by the name of what they train."""
    return {**_metric_learners(), **_gradient_based_learners()}


def _metric_learners() -> dict[str, LearnerExperiment]:
    from tf_metalearn import backbones
    from tf_metalearn.learners import PrototypicalNetwork

    published = {(5, 1): "98.8", (5, 5): "99.7", (20, 1): "96.0", (20, 5): "98.9"}
    return {
        "omniglot_prototypical": LearnerExperiment(
            learner=lambda: PrototypicalNetwork(backbones.conv4()),
            source="omniglot",
            training={**_omniglot_training(ways=60, shots=1, queries=5), "batch_size": 1},
            tests=[
                LearnerTest(
                    f"{ways}-way {shots}-shot",
                    {"split": "test", "ways": ways, "shots": shots, "batch_size": 4},
                    figure,
                )
                for (ways, shots), figure in published.items()
            ],
            epochs=100,
            steps=250,
            learning_rate=2e-3,
            many_small_operations=False,
        ),
    }


def _gradient_based_learners() -> dict[str, LearnerExperiment]:
    import keras

    from tf_metalearn import backbones
    from tf_metalearn.learners import ANIL, MAML, MetaLSTM, MetaSGD, Reptile
    from tf_metalearn.rules import MetaLSTMRule

    five_way = {**_omniglot_training(ways=5, shots=1, queries=5), "batch_size": 8}
    # Reptile has no query set to learn from.
    many_shots = {**_omniglot_training(ways=5, shots=10, queries=1), "batch_size": 8}
    return {
        "omniglot_maml_5way_1shot": LearnerExperiment(
            learner=lambda: MAML(backbones.conv4(outputs=5), inner_steps=1, learned_rates=True),
            source="omniglot",
            training=five_way,
            tests=_both_modes("98.7", transductive="98.7 (MAML), 98.3 (first order)"),
            epochs=100,
            steps=500,
            learning_rate=2e-3,
        ),
        "omniglot_meta_lstm_5way_1shot": LearnerExperiment(
            # The input gate starts where gradient descent would, and not where mini-ImageNet's training begins: this
            # saves the thousands of updates that its bias needs to get there.
            learner=lambda: MetaLSTM(
                backbones.conv4(filters=32, outputs=5),
                inner_steps=5,
                rule=MetaLSTMRule(input_bias=(-1.5, -0.5), seed=0),
            ),
            source="omniglot",
            training={**five_way, "batch_size": 2},
            tests=_both_modes("none", transductive="none"),
            epochs=50,
            steps=500,
            learning_rate=2e-3,
            optimizer=lambda schedule: keras.optimizers.Adam(schedule, global_clipnorm=0.25),
        ),
        "omniglot_meta_sgd_5way_1shot": LearnerExperiment(
            learner=lambda: MetaSGD(backbones.conv4(outputs=5)),
            source="omniglot",
            training=five_way,
            tests=_both_modes("99.53", transductive="99.53"),
            epochs=50,
            steps=500,
            learning_rate=2e-3,
        ),
        "omniglot_reptile_5way_1shot": LearnerExperiment(
            learner=lambda: Reptile(backbones.conv4(outputs=5)),
            source="omniglot",
            training=many_shots,
            tests=_both_modes("95.39", transductive="97.68"),
            epochs=50,
            steps=200,
            learning_rate=1.0,
            optimizer=keras.optimizers.SGD,
        ),
        "omniglot_anil_5way_1shot": LearnerExperiment(
            learner=lambda: ANIL(backbones.conv4(outputs=5), inner_steps=1, learned_rates=True),
            source="omniglot",
            training=five_way,
            tests=_both_modes("none", transductive="none"),
            epochs=50,
            steps=500,
            learning_rate=2e-3,
        ),
    }


def _omniglot_training(**shape: int) -> dict[str, Any]:
    """The papers' 1,200 characters, each turned by quarters into four classes, with random changes of the images."""
    from tf_metalearn import Augmentation

    changes = Augmentation(shift=2, turn=8, scale=0.1, shear=8)
    return {"split": "train+validation", "augmentation": changes, **shape}


def _both_modes(published: str, transductive: str) -> list[LearnerTest]:
    """5-way 1-shot on Omniglot's test characters, with batch statistics of the support set and of the query set."""
    episodes = {"split": "test", "ways": 5, "shots": 1}
    return [
        LearnerTest("5-way 1-shot", episodes, published),
        LearnerTest("5-way 1-shot, transductive", episodes, transductive, {"transductive": True}),
    ]


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
        learner.compile((experiment.optimizer or keras.optimizers.Adam)(schedule))
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

    lines = ["| test | accuracy, % | before adaptation, % | published, % | episodes |", "|---|---|---|---|---|"]
    for one in experiment.tests:
        episodes = load_episodes(experiment.source, seed=seed, episodes=experiment.episodes, **one.episodes)
        found = with_settings(learner, one.settings).evaluate(episodes, return_dict=True, verbose=0)
        accuracy, interval = 100 * found["accuracy"], 100 * found["accuracy_ci95"]
        before = f"{100 * found['accuracy_before']:.1f}" if "accuracy_before" in found else ""
        lines.append(
            f"| {one.title} | {accuracy:.2f} \u00b1 {interval:.2f} | {before} | {one.published} | "
            f"{experiment.episodes} |"
        )
        click.echo(lines[-1])
    return "\n".join(lines)


def with_settings(learner: Any, settings: Mapping[str, Any]) -> Any:
    """The same learner with some of its configuration changed.

    Args:
        learner: Which stays as it is.
        settings: The changes.
    """
    if not settings:
        return learner
    changed = type(learner).from_config({**learner.get_config(), **settings})
    changed.set_weights(learner.get_weights())
    changed.compile()
    return changed
