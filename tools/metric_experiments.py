"""Metric learners as published, and recipes of our own that are meant to beat them."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from learner_recipe import LearnerExperiment, LearnerTest, colour_training, omniglot_training


def metric_experiments() -> dict[str, LearnerExperiment]:
    """All experiments by the name of what they train."""
    from glyphs_zero_shot import glyphs_zero_shot

    return {**_on_omniglot(), **_within_alphabets(), **_on_cifar_fs(), "glyphs_zero_shot": glyphs_zero_shot()}


def _on_omniglot() -> dict[str, LearnerExperiment]:
    from tf_metalearn import backbones
    from tf_metalearn.learners import MatchingNetwork, PrototypicalNetwork, RelationNetwork, SiameseNetwork

    def experiment(learner, published, ways=60, epochs=60, test_batch=4, learning_rate=2e-3):
        return LearnerExperiment(
            learner=learner,
            source="omniglot",
            training={**omniglot_training(ways=ways, shots=1, queries=5), "batch_size": 1},
            tests=_tests(dict(zip([(5, 1), (5, 5), (20, 1), (20, 5)], published, strict=True)), test_batch),
            epochs=epochs,
            steps=250,
            learning_rate=learning_rate,
            many_small_operations=False,
        )

    return {
        "omniglot_prototypical": experiment(
            lambda: PrototypicalNetwork(backbones.conv4()), ["98.8", "99.7", "96.0", "98.9"], epochs=100
        ),
        "omniglot_prototypical_wide": experiment(
            lambda: PrototypicalNetwork(backbones.conv4(filters=128)),
            # The best of all four metric learners.
            [f"{figure} (Relation)" for figure in ("99.6", "99.8", "97.6", "99.1")],
            epochs=100,
        ),
        "omniglot_matching": experiment(
            lambda: MatchingNetwork(backbones.conv4()), ["98.1", "98.9", "93.8", "98.5"], epochs=90
        ),
        "omniglot_siamese": experiment(lambda: SiameseNetwork(backbones.conv4()), ["97.3", "98.4", "88.2", "97.0"]),
        "omniglot_relation": experiment(
            lambda: RelationNetwork(backbones.conv4(downsampled_blocks=2, flatten=False)),
            ["99.6", "99.8", "97.6", "99.1"],
            ways=20,
            epochs=80,
            test_batch=1,
            learning_rate=1e-3,
        ),
    }


def _within_alphabets() -> dict[str, LearnerExperiment]:
    """Which of 20 characters of one alphabet is it, shown one drawing of each?"""
    from tf_metalearn import backbones
    from tf_metalearn.learners import PrototypicalNetwork, RelationNetwork, average_views

    published = {"lake": "86.3 (people 95.5)", "small1": "69.9 (people 95.5)", "small2": "69.9 (people 95.5)"}

    def experiment(learner, protocol, ways, epochs, learning_rate, batch_size):
        test = {"split": "test", "protocol": protocol, "ways": 20, "within_groups": True, "queries": 5}
        test["batch_size"] = batch_size
        title = "20-way 1-shot within an alphabet"
        tests = [
            LearnerTest(title, test, published[protocol]),
            LearnerTest(f"{title}, 12 views", {**test, "batch_size": 1}, published[protocol], average_views),
        ]
        return LearnerExperiment(
            learner=learner,
            source="omniglot",
            training={**omniglot_training(ways=ways, shots=1, queries=5), "split": None, "batch_size": 1},
            classes=functools.partial(_turned_and_mirrored, protocol),
            tests=tests,
            epochs=epochs,
            steps=250,
            learning_rate=learning_rate,
            many_small_operations=False,
        )

    def prototypical(protocol, epochs):
        return experiment(lambda: PrototypicalNetwork(backbones.conv4()), protocol, 60, epochs, 2e-3, 4)

    def relation(protocol, epochs):
        def learner():
            return RelationNetwork(backbones.conv4(downsampled_blocks=2, flatten=False))

        return experiment(learner, protocol, 20, epochs, 1e-3, 1)

    return {
        "omniglot_lake_prototypical": prototypical("lake", 100),
        "omniglot_small1_prototypical": prototypical("small1", 45),
        "omniglot_small2_prototypical": prototypical("small2", 45),
        "omniglot_small1_relation": relation("small1", 40),
        "omniglot_small2_relation": relation("small2", 40),
    }


def _turned_and_mirrored(protocol: str, data_dir: str | None) -> Any:
    """The background alphabets, where each character is eight: turned by quarters, and each of these in a mirror.

    Few alphabets have few characters; what is one when it is turned or mirrored is a new one to tell apart.
    """
    from tf_metalearn.episodes import ClassTable, load_classes

    table = load_classes("omniglot", "train", protocol=protocol, rotations=True, data_dir=data_dir)
    return ClassTable(
        np.concatenate([table.examples, table.examples[:, :, ::-1]]),
        np.tile(table.sizes, 2),
        (*table.names, *(f"{name}/mirrored" for name in table.names)),
        table.groups * 2,
        title=f"omniglot {protocol}",
    )


def _on_cifar_fs() -> dict[str, LearnerExperiment]:
    from tf_metalearn import backbones
    from tf_metalearn.learners import PrototypicalNetwork, RelationNetwork

    def embedding(**settings):
        return backbones.conv4((32, 32, 3), downsample="max", **settings)

    def experiment(learner, published, ways, shots, queries, epochs):
        return LearnerExperiment(
            learner=learner,
            source="cifar_fs",
            training=colour_training(ways=ways, shots=shots, queries=queries, batch_size=1),
            tests=_tests(dict(zip([(5, 1), (5, 5)], published, strict=True))),
            epochs=epochs,
            steps=200,
            learning_rate=1e-3,
            many_small_operations=False,
        )

    return {
        "cifar_fs_prototypical": experiment(
            lambda: PrototypicalNetwork(embedding()), ["55.5", "72.0"], ways=20, shots=5, queries=10, epochs=75
        ),
        "cifar_fs_relation": experiment(
            lambda: RelationNetwork(embedding(downsampled_blocks=2, flatten=False)),
            ["55.0", "69.3"],
            ways=5,
            shots=1,
            queries=15,
            epochs=100,
        ),
    }


def _tests(published: Mapping[tuple[int, int], str], batch_size: int = 4) -> list[LearnerTest]:
    """Tests on test classes, by ways and shots."""
    return [
        LearnerTest(
            f"{ways}-way {shots}-shot",
            {"split": "test", "ways": ways, "shots": shots, "batch_size": batch_size},
            figure,
        )
        for (ways, shots), figure in published.items()
    ]
