"""The models under saved_models/ are what they are said to be."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm

FOLDER = Path(__file__).parents[1] / "saved_models"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())

#: The least accuracy, in %, that a learner ships with: 5-way 1-shot on the test characters of Omniglot.
LEAST = {"omniglot_prototypical": 98.0, "omniglot_maml_5way_1shot": 96.0, "omniglot_meta_lstm_5way_1shot": 95.0}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_passes_every_check_and_is_small(name):
    version = FOLDER / name / "1"
    checks = tfm.serving.verify_export(version)
    assert all(check.fine for check in checks), checks[-1]
    assert checks[-1].name == "configuration"
    assert sum(file.stat().st_size for file in version.rglob("*") if file.is_file()) < 3e6


#: An LSTM for each parameter takes a while.
SLOW = {"omniglot_meta_lstm_5way_1shot"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES if name in LEAST]
)
def test_a_shipped_learner_is_as_accurate_as_its_card_says(name, prepared_data):
    """Tested on half as many episodes as the card's figure, which is within 0.3 of the truth."""
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    stated = float(re.search(r"\*\*Tested on\*\*[\s\S]*?(\d\d\.\d\d)", card)[1])
    assert stated >= LEAST[name]
    episodes = tfm.load_episodes("omniglot", "test", data_dir=prepared_data("omniglot"), episodes=512, seed=5)
    served = tf.saved_model.load(FOLDER / name / "1").signatures["serving_default"]
    right = []
    for episode, query_y in episodes:
        support_y = tf.cast(episode.support_y, tf.int64)
        answer = served(support_x=episode.support_x, support_y=support_y, query_x=episode.query_x)
        right.append(np.mean(answer["label"].numpy() == query_y.numpy(), axis=1))
    accuracies = 100 * np.concatenate(right)
    interval = 1.96 * accuracies.std() / len(accuracies) ** 0.5
    assert abs(accuracies.mean() - stated) < interval + 0.3


def test_the_shipped_rule_trains_without_keras():
    """The loop of its README, on the sum of squares."""
    rule = tf.saved_model.load(FOLDER / "l2l_rule" / "1").signatures
    parameters = tf.constant([3.0, -2.0])
    state = rule["initial_state"](gradient=parameters)
    for _ in range(100):
        outputs = rule["update"](gradient=2 * parameters, **state)
        parameters += outputs.pop("update")
        state = outputs
    assert np.abs(parameters).max() < 0.1
