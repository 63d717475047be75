"""Shipped rules: all load, have cards, and damaged files are refused with the remedy."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn import pretrained
from tf_metalearn.rules import GradientDescent

GUIDE = Path(__file__).parents[2] / "docs" / "learners.md"


@pytest.mark.parametrize("name", pretrained.rule_names())
def test_every_shipped_rule_loads_moves_parameters_and_has_a_card(name):
    rule = pretrained.load_rule(name)
    segments = tfm.functional.segments_of(["conv/kernel", "dense/kernel"], [(3,), (4,)])
    needed = {"segments": segments} if "segments" in rule.needs else {}
    update, _ = rule(tf.linspace(-1.0, 1.0, 7), rule.initial_state(7, segments), **needed)
    assert np.isfinite(update).all()
    assert np.abs(update).max() > 1e-4, "a trained rule does not stand still"
    assert (pretrained.DIRECTORY / f"{name}.md").read_text().startswith(f"# {name}")
    assert (pretrained.DIRECTORY / f"{name}.keras").stat().st_size < 100_000


def test_the_default_rule_ships():
    assert pretrained.DEFAULT_RULE in pretrained.rule_names()


def test_a_rule_survives_saving(tmp_path):
    rule = tfm.CoordinatewiseLSTM("code", seed=3)
    tfm.save_rule(rule, tmp_path / "deep" / "rule.keras")
    loaded = tfm.load_rule(tmp_path / "deep" / "rule.keras")
    assert loaded.p == 5.0
    for expected, actual in zip(rule.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["rule.keras"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"Received: 'adnrychowicz2016'.*\n.*andrychowicz2016"):
        tfm.load_rule("adnrychowicz2016")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.keras', which is not there"):
        tfm.load_rule(tmp_path / "missing.keras")


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.95])
def test_a_truncated_file_is_refused_and_left_alone(tmp_path, keep):
    path = tmp_path / "rule.keras"
    tfm.save_rule(tfm.CoordinatewiseLSTM(seed=0), path)
    content = path.read_bytes()
    damaged = content[: keep if isinstance(keep, int) else int(keep * len(content))]
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"cannot be read[\s\S]*save the rule again"):
        tfm.load_rule(path)
    assert path.read_bytes() == damaged


def test_a_corrupted_file_is_refused(tmp_path):
    path = tmp_path / "rule.keras"
    tfm.save_rule(tfm.CoordinatewiseLSTM(seed=0), path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        tfm.load_rule(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    import keras

    keras.Sequential([keras.Input([2]), keras.layers.Dense(1)]).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds an UpdateRule"):
        tfm.load_rule(tmp_path / "model.keras")


def test_saving_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "rule.keras"
    tfm.save_rule(GradientDescent(0.25), path)

    def full(rule, target):
        target.write_bytes(b"half a f")
        raise OSError("No space left on device")

    monkeypatch.setattr(pretrained.keras.saving, "save_model", full)
    with pytest.raises(OSError, match="No space left"):
        tfm.save_rule(GradientDescent(0.5), path)
    monkeypatch.undo()
    assert float(tfm.load_rule(path).learning_rate) == 0.25
    assert [file.name for file in tmp_path.iterdir()] == ["rule.keras"]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in '\.keras'"):
        tfm.save_rule(GradientDescent(0.5), tmp_path / "rule.h5")


def test_a_copy_outside_the_package_loads_by_path(tmp_path):
    shutil.copy(pretrained.DIRECTORY / f"{pretrained.DEFAULT_RULE}.keras", tmp_path / "copy.keras")
    assert isinstance(tfm.load_rule(tmp_path / "copy.keras"), tfm.UpdateRule)


def test_rules_and_learners_are_told_apart(tmp_path):
    assert not set(pretrained.rule_names()) & set(pretrained.learner_names())
    with pytest.raises(ValueError, match=r"`learner` must be a file that holds a model[\s\S]*load_rule"):
        tfm.load("default")
    with pytest.raises(ValueError, match=r"`learner` must be the name of a shipped learner"):
        tfm.load("omniglot_protypical")


def test_a_learner_is_loaded_from_a_file(tmp_path):
    learner = tfm.PrototypicalNetwork(tfm.backbones.conv4(filters=4))
    learner.save(tmp_path / "learner.keras")
    for expected, weight in zip(learner.get_weights(), tfm.load(tmp_path / "learner.keras").get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    with pytest.raises(ValueError, match=r"holds an UpdateRule[\s\S]*a learner is loaded by `load`"):
        tfm.load_rule(tmp_path / "learner.keras")


@pytest.mark.parametrize("name", pretrained.learner_names())
def test_every_shipped_learner_loads_has_a_card_and_is_in_the_guide(name):
    learner = tfm.load(name)
    assert learner.compiled
    assert f"[{name}](../tf_metalearn/pretrained/{name}.md)" in GUIDE.read_text()
    assert (pretrained.DIRECTORY / f"{name}.md").read_text().startswith(f"# {name}")
    assert (pretrained.DIRECTORY / f"{name}.keras").stat().st_size < 1_000_000


def test_the_shipped_prototypical_network_knows_omniglot(prepared_data):
    """98.73 % over 1,000 episodes (docs/results.md); 200 have an interval of 0.3."""
    episodes = tfm.load_episodes("omniglot", "test", data_dir=prepared_data("omniglot"), episodes=200, seed=2)
    found = tfm.load("omniglot_prototypical").evaluate(episodes, return_dict=True, verbose=0)
    assert found["accuracy"] > 0.98
