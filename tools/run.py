"""What `make run` shows: an LSTM learns to train networks, beats tuned optimizers, and trains a Keras model.

Everything happens on scikit-learn's 1,797 handwritten digits, without a network. Ends with exit code 1 if the learned
optimizer loses to the best tuned baseline in mean loss over the first 100 steps.
"""

import sys
import time
from pathlib import Path
from typing import Any

import click

from tf_metalearn.cli.common import start_tensorflow

# Training, comparison and model see different images; the comparison also has other widths than the training.
TRAINING: list[dict[str, Any]] = [{"hidden": (20,)}, {"hidden": (20,), "activation": "relu"}]
TESTS: list[dict[str, Any]] = [{"hidden": (32,)}, {"hidden": (32,), "activation": "relu"}]


def meta_train(directory: Path, epochs: int, episodes: int, seed: int) -> Any:
    """Trains the LSTM by gradient descent through the training of networks.

    Args:
        directory: For TensorBoard.
        epochs: Each ends with a validation.
        episodes: In an epoch, of each problem.
        seed: Of the initial rule and the episodes.

    Returns:
        The rule that was best on validation images.
    """
    import keras

    import tf_metalearn as tfm

    trainer = tfm.OptimizerTrainer(
        tfm.CoordinatewiseLSTM("paper", seed=seed),
        [tfm.problems.make("digits", split="train", **options) for options in TRAINING],
        [tfm.problems.make("digits", split="validation", **options) for options in TRAINING],
        seed=seed,
    )
    updates = epochs * episodes * (trainer.episode_length // trainer.unroll_length)
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, updates)
    trainer.compile(optimizer=keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    trainer.fit(
        epochs=epochs,
        steps_per_epoch=episodes,
        callbacks=[keras.callbacks.TensorBoard(directory / "meta_training")],
    )
    return trainer.rule


def train_a_keras_model(rule: Any, directory: Path) -> float:
    """Trains a plain Keras model with the learned optimizer, saves it, and loads it again.

    Args:
        rule: The learned rule.
        directory: For the model and TensorBoard.

    Returns:
        The loaded model's accuracy on test images.
    """
    import keras

    import tf_metalearn as tfm

    (x, y), (test_x, test_y) = tfm.problems.digits("train"), tfm.problems.digits("test")
    model = keras.Sequential(
        [
            keras.Input([8, 8]),
            keras.layers.Flatten(),
            keras.layers.Dense(48, "relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=tfm.LearnedOptimizer(rule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, epochs=12, batch_size=128, callbacks=[keras.callbacks.TensorBoard(directory / "keras_model")])
    model.save(directory / "model.keras")
    _, accuracy = keras.saving.load_model(directory / "model.keras").evaluate(test_x, test_y, verbose=0)
    return accuracy


@click.command()
@click.option("--out", default="runs/digits", show_default=True, type=click.Path(path_type=Path), help="Results.")
@click.option("--epochs", default=10, show_default=True, help="Of meta-training.")
@click.option("--episodes", default=20, show_default=True, help="Of each problem in an epoch.")
@click.option("--runs", default=100, show_default=True, help="Paired runs in the comparison.")
@click.option("--seed", default=0, show_default=True, help="Of everything.")
def main(out: Path, epochs: int, episodes: int, runs: int, seed: int) -> None:
    """Meta-trains an optimizer on handwritten digits, compares it, and trains a Keras model with it."""
    began = time.monotonic()
    start_tensorflow()
    import tf_metalearn as tfm
    from tf_metalearn.optimizers.report import print_table, progress_bar, report

    out.mkdir(parents=True, exist_ok=True)
    click.secho("\n1. An LSTM learns, by gradient descent, to do gradient descent.", bold=True)
    rule = meta_train(out, epochs, episodes, seed)
    tfm.save_rule(rule, out / "rule.keras")

    click.secho("\n2. It meets problems that it has never seen: other images, initial weights and widths.", bold=True)
    wins = []
    for options in TESTS:
        problem = tfm.problems.make("digits", split="test", **options)
        problem.name = f"digits, {options['hidden'][0]} {options.get('activation', 'sigmoid')} units"
        with progress_bar() as progress:
            comparison = tfm.compare({"Learned LSTM": rule}, problem, runs=runs, seed=seed, progress=progress)
        print_table(comparison)
        written = report(comparison, out / "comparison" / options.get("activation", "sigmoid"))
        wins.append(comparison.wins())

    click.secho("\n3. A plain Keras model learns by model.compile(optimizer=tfm.LearnedOptimizer(rule)).", bold=True)
    accuracy = train_a_keras_model(rule, out)
    click.echo(f"Accuracy of the saved and reloaded model on test images: {accuracy:.1%}")

    click.secho(f"\nDone in {time.monotonic() - began:.0f} s. What to look at next:", bold=True)
    click.echo(f"  learning curves   {written.picture.parent.parent}/*/curves.png")
    click.echo(f"  TensorBoard       .venv/bin/tensorboard --logdir {out}")
    click.echo(f"  the rule          tfm.LearnedOptimizer(tfm.load_rule('{out}/rule.keras'))")
    click.echo("  the tour          docs/getting_started.md")
    if not all(wins):
        click.secho("\nThe learned optimizer lost to the best tuned baseline.", fg="red", bold=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
