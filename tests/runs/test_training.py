"""Real trainings of a minute's fraction, and what is left of them when they stop."""

import signal

import numpy as np
import pytest

from tf_metalearn import load, load_rule
from tf_metalearn.runs.build import build
from tf_metalearn.runs.config import Config
from tf_metalearn.runs.evaluation import evaluate_learner
from tf_metalearn.runs.folder import RunFolder
from tf_metalearn.runs.settings import ALGORITHMS
from tf_metalearn.runs.training import _StopWhenAsked, run_training, save

SMALL = {"data": "glyphs", "filters": 8, "epochs": 2, "steps": 3, "validation_episodes": 8, "queries": 2}
SMALL_PROBLEM = {
    "problem": "quadratic",
    "epochs": 2,
    "steps": 2,
    "unroll_length": 4,
    "episode_length": 8,
    "validation_episodes": 2,
}


def config_of(algorithm, **changes):
    return Config.of(algorithm, {**(SMALL_PROBLEM if algorithm == "l2l" else SMALL), **changes})


def start(path, config, data_dir):
    return RunFolder.create(path, config, {}), build(config, data_dir)


@pytest.mark.parametrize(
    "algorithm",
    [name if name in ("prototypical", "l2l") else pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS],
)
def test_a_run_holds_all_of_it(algorithm, tmp_path, glyph_directory):
    run, built = start(tmp_path / "run", config_of(algorithm), str(glyph_directory))
    run_training(run, built, verbose=0)
    assert [line["epoch"] for line in run.metrics()] == [1, 2]
    assert np.isfinite([line["val_loss"] for line in run.metrics()]).all()
    assert (run.pictures / "curves.png").stat().st_size > 1000
    assert {path.name for path in run.tensorboard.iterdir()} >= {"train", "validation", "meta_learning"}
    learned = load_rule(run.model) if algorithm == "l2l" else load(run.model)
    assert not list(run.path.glob(".*"))
    if algorithm != "l2l":
        assert (run.pictures / "episode.png").stat().st_size > 1000
        assert learned.ink
        line = evaluate_learner(learned, run.config.values, "test", 8, data_dir=str(glyph_directory))
        assert line["task"] == "glyphs test, 5-way 1-shot"
        assert 0 <= line["figures"]["accuracy"] <= 1


@pytest.mark.parametrize("algorithm", [pytest.param("maml", marks=pytest.mark.slow), "l2l"])
def test_an_interrupted_run_ends_as_one_that_was_not(algorithm, tmp_path, glyph_directory, monkeypatch):
    config = config_of(algorithm, epochs=3)
    whole, built = start(tmp_path / "whole", config, str(glyph_directory))
    run_training(whole, built, verbose=0)

    run, built = start(tmp_path / "run", config, str(glyph_directory))
    add, trained = RunFolder.add_metrics, built.model

    def interrupt(self, line):
        add(self, line)
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "add_metrics", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_training(run, built, verbose=0)
    monkeypatch.undo()
    assert len(run.metrics()) == 2
    again = RunFolder.open(run.path)
    built = build(again.config, str(glyph_directory))
    assert built.model is not trained
    run_training(again, built, verbose=0)
    for mine, expected in zip(again.metrics(), whole.metrics(), strict=True):
        assert {**mine, "seconds": 0} == {**expected, "seconds": 0}
    read = load_rule if algorithm == "l2l" else load
    for mine, expected in zip(read(again.model).weights, read(whole.model).weights, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_a_failed_save_leaves_the_last_checkpoint(tmp_path, glyph_directory, monkeypatch):
    run, built = start(tmp_path / "run", config_of("prototypical"), str(glyph_directory))
    save(run, built.model)
    before = run.checkpoint.read_bytes()

    def half(path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(built.model, "save_weights", half)
    with pytest.raises(OSError, match="No space left"):
        save(run, built.model)
    assert run.checkpoint.read_bytes() == before
    assert not list(run.path.glob(".*"))


def test_sine_waves_are_learned_too(tmp_path):
    run, built = start(tmp_path / "run", config_of("maml", data="sinusoids", shots=5, inner_learning_rate=0.01), None)
    run_training(run, built, verbose=0)
    assert "val_loss_ci95" in run.metrics()[-1]
    assert evaluate_learner(load(run.model), run.config.values, "test", 8)["task"] == "sinusoids test, 5-shot"


@pytest.mark.parametrize(
    ("algorithm", "changes", "message"),
    [
        ("prototypical", {"data": "sinusoids"}, "`data` must be classes for prototypical"),
        ("relation", {"network": "mlp"}, "`network` must be conv4"),
        ("maml", {"network": "resnet"}, "`network` must be conv4"),
        ("maml", {"network": "nothing.keras"}, "`network` must be a file that is there"),
        ("maml", {"ways": 500}, "`ways` must be at most the number of classes"),
        ("maml", {"shots": 20}, "`shots` and `queries` must be together at most the examples of each class"),
        ("l2l", {"problem": "nothing"}, "`name` must be a known problem"),
        ("l2l", {"problem": "quadratic", "hidden": (3,)}, "`options` must be among"),
        ("l2l", {"unroll_length": 7}, "`unroll_length` must divide"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(algorithm, changes, message, glyph_directory):
    with pytest.raises(ValueError, match=message):
        build(config_of(algorithm, **changes), str(glyph_directory))


def test_ctrl_c_waits_for_the_end_of_a_step_and_twice_does_not():
    before = signal.getsignal(signal.SIGINT)
    with _StopWhenAsked() as stop:
        stop.on_train_batch_end(0)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stop.on_test_batch_end(0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
