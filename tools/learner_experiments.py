"""Few-shot learners as published: how each is trained, and what it is tested on. `tools/reproduce.py NAME` runs one."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from learner_pictures import plot_gates_of, plot_sine_waves
from learner_recipe import LearnerExperiment, LearnerTest, colour_training, omniglot_training
from metric_experiments import metric_experiments


def learner_experiments() -> dict[str, LearnerExperiment]:
    """All experiments by the name of what they train."""
    return {**metric_experiments(), **_on_omniglot(), **_on_colour_images(), **_on_sine_waves()}


def _on_omniglot() -> dict[str, LearnerExperiment]:
    import keras

    from tf_metalearn import backbones, load
    from tf_metalearn.learners import ANIL, MAML, MetaLSTM, MetaSGD, Reptile
    from tf_metalearn.rules import MetaLSTMRule

    def experiment(learner, epochs, ways=5, shots=1, published="", transductive="", **others):
        return LearnerExperiment(
            **{
                "learner": learner,
                "source": "omniglot",
                "training": {**omniglot_training(ways=ways, shots=shots, queries=5), "batch_size": 8},
                "tests": _both_modes(ways, shots, published, transductive),
                "epochs": epochs,
                "steps": 500,
                "learning_rate": 2e-3,
                **others,
            }
        )

    def begun(outputs):
        # From scratch most updates teach it to tell characters apart at all: `omniglot_maml_from_scratch_5way_1shot`.
        return _begun(backbones.conv4(outputs=outputs), load("omniglot_prototypical").embedding)

    def maml(ways, network=begun):
        # One step where the paper takes one, with a rate for each layer; so too in the next.
        return lambda: MAML(network(ways), inner_steps=1, learned_rates=True)

    def meta_lstm():
        # The learned initial state begins where MAML's ended: an LSTM that has to find it, too, is at 94.6 % after an
        # hour (the next experiment).
        base_learner = backbones.conv4(outputs=5)
        base_learner.set_weights(load("omniglot_maml_5way_1shot").base_learner.get_weights())
        rule = MetaLSTMRule(forget_bias=(6, 7), input_bias=(-1.5, -0.5), seed=0)
        return MetaLSTM(base_learner, inner_steps=2, rule=rule)

    def meta_lstm_from_scratch():
        # The input gate starts where gradient descent would, and not where mini-ImageNet's training begins: this
        # saves the thousands of updates that its bias needs to get there. In the same time two steps on more tasks
        # learn more than three.
        rule = MetaLSTMRule(input_bias=(-1.5, -0.5), seed=0)
        return MetaLSTM(backbones.conv4(filters=32, outputs=5), inner_steps=2, rule=rule)

    def clipped(schedule):
        return keras.optimizers.Adam(schedule, global_clipnorm=0.25)

    four_tasks = {**omniglot_training(ways=5, shots=1, queries=5), "batch_size": 4}
    return {
        "omniglot_maml_5way_1shot": experiment(
            maml(5), 120, transductive="98.7 (first order 98.3)", learning_rate=1e-3
        ),
        "omniglot_maml_from_scratch_5way_1shot": experiment(
            maml(5, lambda ways: backbones.conv4(outputs=ways)), 60, transductive="98.7 (first order 98.3)"
        ),
        "omniglot_meta_lstm_5way_1shot": experiment(
            meta_lstm, 4, steps=250, training=four_tasks, learning_rate=3e-5, optimizer=clipped, pictures=plot_gates_of
        ),
        "omniglot_meta_lstm_from_scratch_5way_1shot": experiment(
            meta_lstm_from_scratch,
            64,
            training=four_tasks,
            learning_rate=3e-3,
            optimizer=clipped,
            pictures=plot_gates_of,
        ),
        "omniglot_meta_sgd_5way_1shot": experiment(
            lambda: MetaSGD(backbones.conv4(outputs=5)), 50, transductive="99.53"
        ),
        "omniglot_reptile_5way_1shot": experiment(
            # Five times the paper's rate, with which so few updates do.
            lambda: Reptile(begun(5), inner_learning_rate=5e-3),
            16,
            # Reptile learns from the support set alone.
            training={**omniglot_training(ways=5, shots=10, queries=1), "batch_size": 8},
            published="95.39",
            transductive="97.68",
            learning_rate=1.0,
            steps=250,
            optimizer=keras.optimizers.SGD,
        ),
        "omniglot_fine_tuning": _fine_tuning(
            "omniglot",
            lambda: backbones.conv4(),
            classes=4800,
            training={**omniglot_training(), "batch_size": 128},
            shapes=[(5, 1), (5, 5), (20, 1), (20, 5)],
        ),
        "omniglot_anil_5way_1shot": experiment(
            lambda: ANIL(backbones.conv4(outputs=5), inner_steps=1, learned_rates=True), 50
        ),
        "omniglot_maml_5way_5shot": experiment(
            maml(5), 50, shots=5, transductive="99.9 (first order 99.2)", learning_rate=1e-3
        ),
        "omniglot_maml_20way_1shot": experiment(
            maml(20), 50, ways=20, transductive="95.8 (first order 89.4)", learning_rate=1e-3
        ),
    }


def _on_colour_images() -> dict[str, LearnerExperiment]:
    """CIFAR-FS, and the Meta-LSTM's own experiment on a user's mini-ImageNet; each beside the baselines."""
    found = {}
    for source, side in (("cifar_fs", 32), ("mini_imagenet", 84)):
        network = functools.partial(_colour_network, side, None)
        training = colour_training(batch_size=64)
        found[f"{source}_fine_tuning"] = _fine_tuning(source, network, 64, training, [(5, 1), (5, 5)])
        for shots in (1, 5):
            found[f"{source}_maml_5way_{shots}shot"] = _colour_maml(source, side, shots)
            found[f"{source}_meta_lstm_5way_{shots}shot"] = _colour_meta_lstm(source, side, shots)
    return found


def _colour_network(side: int, outputs: int | None) -> Any:
    from tf_metalearn import backbones

    return backbones.conv4((side, side, 3), 32, outputs, downsample="max")


def _begun(network: Any, embedding: Any) -> Any:
    """The network with an embedding's weights, and with a head of zeros, which prefers no class."""
    learned, untrained = embedding.get_weights(), network.get_weights()
    network.set_weights([*learned, *map(np.zeros_like, untrained[len(learned) :])])
    return network


def _fine_tuning(
    source: str,
    network: Callable[[], Any],
    classes: int,
    training: Mapping[str, Any],
    shapes: Sequence[tuple[int, int]],
) -> LearnerExperiment:
    """The baseline: a classifier of all training classes, tested with a linear probe and with nearest class means."""
    from tf_metalearn.learners import FineTuning, PrototypicalNetwork

    def linear_probe(ways: int, learner: Any) -> Any:
        probe = FineTuning.from_config({**learner.get_config(), "ways": ways})
        probe.set_weights(learner.get_weights())
        probe.compile()
        return probe

    def nearest_mean(learner: Any) -> Any:
        # With one shot, the nearest neighbour.
        baseline = PrototypicalNetwork(learner.embedding, distance="cosine")
        baseline.compile()
        return baseline

    return LearnerExperiment(
        learner=lambda: FineTuning(network(), classes),
        source=source,
        training=training,
        tests=[
            LearnerTest(
                f"{name}, {ways}-way {shots}-shot",
                {"split": "test", "ways": ways, "shots": shots, "batch_size": 4},
                change=change,
            )
            for ways, shots in shapes
            for name, change in (
                ("linear probe", functools.partial(linear_probe, ways)),
                ("nearest class mean", nearest_mean),
            )
        ],
        epochs=20,
        steps=250,
        learning_rate=2e-3,
        many_small_operations=False,
    )


def _colour_maml(source: str, side: int, shots: int) -> LearnerExperiment:
    from tf_metalearn.learners import MAML

    published = {("cifar_fs", 1): "58.9", ("cifar_fs", 5): "71.5", ("mini_imagenet", 1): "48.70"}

    def learner(fine_tuning):
        network = _begun(_colour_network(side, 5), fine_tuning.embedding)
        # The loss after every step, an option of MAML++, would cost as much as twice as many updates.
        return MAML(network, 3, 0.05, learned_rates=True)

    return LearnerExperiment(
        learner=learner,
        source=source,
        training=colour_training(ways=5, shots=shots, queries=5, batch_size=8),
        tests=_both_modes(5, shots, "", published.get((source, shots), "63.11")),
        epochs=25,
        steps=200,
        learning_rate=1e-3,
        baselines=[f"{source}_fine_tuning"],
    )


def _colour_meta_lstm(source: str, side: int, shots: int) -> LearnerExperiment:
    import keras

    from tf_metalearn.learners import MetaLSTM
    from tf_metalearn.rules import MetaLSTMRule

    published = {("mini_imagenet", 1): "43.44", ("mini_imagenet", 5): "60.60"}

    def from_scratch(fine_tuning):
        # The paper's numbers of passes over the support set.
        return MetaLSTM(_colour_network(side, 5), {1: 12, 5: 8}[shots])

    def begun(fine_tuning, maml):
        network = _colour_network(side, 5)
        network.set_weights(maml.base_learner.get_weights())
        return MetaLSTM(network, 5, MetaLSTMRule(forget_bias=(6, 7), input_bias=(-3, -2.5), seed=0))

    # On the papers' own images it begins from scratch, as theirs.
    if source == "mini_imagenet":
        settings: dict[str, Any] = {"learner": from_scratch, "epochs": 50, "steps": 300, "learning_rate": 1e-3}
        queries, tasks, begins = 15, 1, []
    else:
        settings = {"learner": begun, "epochs": 6, "steps": 200, "learning_rate": 3e-4}
        queries, tasks, begins = 5, 4, [f"{source}_maml_5way_{shots}shot"]
    return LearnerExperiment(
        **settings,
        source=source,
        training=colour_training(ways=5, shots=shots, queries=queries, batch_size=tasks),
        tests=_both_modes(5, shots, published.get((source, shots), ""), ""),
        optimizer=lambda schedule: keras.optimizers.Adam(schedule, global_clipnorm=0.25),
        baselines=[f"{source}_fine_tuning", *begins],
        pictures=plot_gates_of,
    )


def _on_sine_waves() -> dict[str, LearnerExperiment]:
    return {f"sinusoids_maml_{shots}shot": _sine_waves(shots) for shots in (5, 10)}


def _sine_waves(shots: int) -> LearnerExperiment:
    from tf_metalearn import backbones
    from tf_metalearn.learners import MAML

    def after(steps: int) -> LearnerTest:
        def change(learner: Any) -> Any:
            changed = learner.with_settings(evaluation_steps=steps)
            changed.compile(loss="mse")
            return changed

        return LearnerTest(f"inner steps: {steps}", {"split": "test", "shots": shots, "queries": 100}, change=change)

    return LearnerExperiment(
        learner=lambda: MAML(backbones.sinusoid_mlp(), 1, 0.01, evaluation_steps=10, inner_loss="mse"),
        source="sinusoids",
        training={"split": "train", "shots": shots, "queries": 10, "batch_size": 25},
        tests=[after(1), after(5), after(10)],
        epochs=20,
        steps=1000,
        learning_rate=1e-3,
        loss="mse",
        pictures=plot_sine_waves,
    )


def _both_modes(ways: int, shots: int, published: str, transductive: str) -> list[LearnerTest]:
    """Test classes with batch statistics of the support set, and of the query set as in MAML's published figures."""
    title, episodes = f"{ways}-way {shots}-shot", {"split": "test", "ways": ways, "shots": shots}
    return [
        LearnerTest(title, episodes, published),
        LearnerTest(
            f"{title}, transductive",
            episodes,
            transductive,
            lambda learner: learner.with_settings(transductive=True),
        ),
    ]
