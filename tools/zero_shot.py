"""Zero-shot on photographs: CIFAR-100's animals, known by a table of their attributes."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

TRAIN, TEST, SPLITS = 12, 5, 10
EPOCHS, STEPS, BATCH = 10, 120, 10

#: Of Student's distribution with `SPLITS - 1` degrees of freedom: half the width of a 95 % interval in standard errors.
INTERVAL = 2.262


def run_zero_shot(directory: Path, attributes: Path | None, seed: int, data_dir: str | None) -> str:
    """Trains on 12 animals and tests on 5 others, for 10 random choices of them.

    Args:
        directory: For what was found for each choice, so that a run that was interrupted goes on.
        attributes: A table of attributes, see `tf_metalearn.episodes.load_metadata`.
        seed: Of the choices, initial weights and episodes.
        data_dir: Where data sets are.

    Returns:
        A table as Markdown.
    """
    from tf_metalearn.episodes import load_classes, load_metadata

    if attributes is None:
        raise click.UsageError("Give the table of attributes: --attributes FOLDER, that of Animals with Attributes 2.")
    table = load_metadata(attributes)
    animals = sorted(set(table) & set(load_classes("cifar_fs", "all", data_dir=data_dir).names))
    if len(animals) < TRAIN + TEST:
        raise click.UsageError(
            f"--attributes must describe {TRAIN + TEST} classes of CIFAR-100 or more. Received: {len(animals)} that it "
            "has, too."
        )
    directory.mkdir(parents=True, exist_ok=True)
    random, accuracies = np.random.default_rng(seed), []
    lines = [f"| unseen, of {len(animals)} | accuracy, % |", "|---|---|"]
    for number in range(SPLITS):
        chosen = [str(name) for name in random.permutation(animals)[: TRAIN + TEST]]
        splits = {"train": chosen[:TRAIN], "test": chosen[TRAIN:]}
        file = directory / f"split-{number}.json"
        if not file.exists():
            accuracy = _accuracy(splits, {name: table[name] for name in animals}, seed + number, data_dir)
            file.write_text(json.dumps({**splits, "accuracy": accuracy}), encoding="utf-8")
        accuracies.append(100 * json.loads(file.read_text(encoding="utf-8"))["accuracy"])
        lines.append(f"| {', '.join(sorted(splits['test']))} | {accuracies[-1]:.2f} |")
        click.echo(lines[-1])
    interval = INTERVAL * np.std(accuracies, ddof=1) / SPLITS**0.5
    lines.append(
        f"| **mean of {SPLITS} choices** (chance: {100 / TEST:.0f}) | **{np.mean(accuracies):.2f} ± {interval:.2f}** |"
    )
    click.echo(lines[-1])
    return "\n".join(lines) + "\n"


def _accuracy(splits: dict[str, list[str]], table: dict[str, np.ndarray], seed: int, data_dir: str | None) -> float:
    """Of all images of the unseen classes, when these are the only ones to choose from."""
    import keras

    import tf_metalearn as tfm

    # In the units of what the training classes tell; the others are not looked at.
    known = np.stack([table[name] for name in splits["train"]])
    middle, spread = known.mean(axis=0), known.std(axis=0)
    features = {name: (row - middle)[spread > 0] / spread[spread > 0] for name, row in table.items()}
    keras.utils.set_random_seed(seed)
    learner = _learner(int(np.sum(spread > 0)))
    learner.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * STEPS)))
    images: dict[str, Any] = {"splits": splits, "metadata": features, "data_dir": data_dir}
    changes = tfm.Augmentation(shift=3, turn=10, scale=0.15, flip=True, fill="reflect")
    episodes = tfm.load_episodes(
        "cifar_fs", "train", TRAIN, 0, BATCH, batch_size=1, seed=seed, augmentation=changes, **images
    )
    learner.fit(episodes, epochs=EPOCHS, steps_per_epoch=STEPS, verbose=2)
    unseen = tfm.embed_classes(learner, tfm.episodes.load_classes("cifar_fs", "test", **images))
    everything = tfm.load_episodes(unseen, ways=TEST, shots=0, queries=int(min(unseen.sizes)), batch_size=1, episodes=1)
    return float(tfm.on_embeddings(learner).evaluate(everything, verbose=0, return_dict=True)["accuracy"])


def _learner(attributes: int) -> Any:
    """Says of an image which attributes it shows; a class is its attributes, as they are."""
    import keras

    import tf_metalearn as tfm

    body = tfm.backbones.conv4((32, 32, 3), downsample="max")
    layers = [*body.layers, keras.layers.Dropout(0.3), keras.layers.Dense(attributes)]
    embedding = keras.Sequential([keras.Input((32, 32, 3)), *layers], name="attributes_of_images")
    encoder = keras.Sequential([keras.Input([attributes]), keras.layers.Identity()], name="attributes_of_classes")
    return tfm.PrototypicalNetwork(embedding, distance="cosine", metadata_encoder=encoder)
