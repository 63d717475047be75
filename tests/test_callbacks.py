"""MetaLearningTensorBoard, read back from a real TensorBoard over HTTP."""

import json
import socket
import subprocess
import sys
import time
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.callbacks import _LearnerLook


def tiny(outputs=None):
    layers = [keras.layers.Flatten(), keras.layers.Dense(outputs or 4)]
    return keras.Sequential([keras.Input([8, 8, 1]), *layers])


def episodes():
    x, y = np.random.default_rng(0).random([60, 8, 8, 1]), np.repeat(range(6), 10)
    return tfm.load_episodes((x, y), "all", ways=3, queries=2, batch_size=4)


def fit(model, folder, **arguments):
    callbacks = [keras.callbacks.TensorBoard(folder), tfm.MetaLearningTensorBoard(folder, **arguments)]
    data = {"x": episodes()} if isinstance(model, tfm.FewShotLearner) else {}
    model.fit(**data, epochs=2, steps_per_epoch=3, verbose=0, callbacks=callbacks)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The log directory of four trainings."""
    folder = tmp_path_factory.mktemp("logs")
    validation = next(iter(episodes()))
    learners = {
        "meta_sgd": tfm.MetaSGD(tiny(3), inner_steps=2),
        "meta_lstm": tfm.MetaLSTM(tiny(3), inner_steps=2),
        "prototypical": tfm.PrototypicalNetwork(tiny()),
    }
    for name, learner in learners.items():
        learner.compile(keras.optimizers.Adam(1e-3))
        fit(learner, folder / name, episodes=validation, hyperparameters={"algorithm": name, "inner_steps": 2})
    trainer = tfm.OptimizerTrainer(tfm.CoordinatewiseLSTM(seed=0), tfm.problems.Quadratic(functions=2))
    trainer.compile("adam")
    fit(trainer, folder / "l2l")
    return folder


@pytest.fixture(scope="module")
def tensorboard(logs):
    """A function that asks a running TensorBoard for a path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/{path}", timeout=10) as answer:
            return json.load(answer)

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if len(ask("runs")) >= 8:
                    break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
            time.sleep(0.5)
        yield ask
    finally:
        server.terminate()
        server.wait(10)


def test_scalars_are_there(tensorboard):
    tags = tensorboard("plugin/scalars/tags")
    for run in ("meta_sgd", "meta_lstm"):
        steps = {f"inner_steps/accuracy_after_{step}" for step in range(3)}
        assert {*steps, "meta_gradient_norm", "steps_per_second"} <= set(tags[f"{run}/meta_learning"])
    assert {"inner_steps/accuracy_after_0", "meta_gradient_norm"} <= set(tags["prototypical/meta_learning"])
    assert "epoch_loss" in tags["l2l/train"]


def test_histograms_show_what_is_learned(tensorboard):
    tags = tensorboard("plugin/histograms/tags")
    assert set(tags["meta_sgd/meta_learning"]) == {"rates"}
    assert set(tags["meta_lstm/meta_learning"]) == {"forget_gates", "input_gates"}
    assert set(tags["l2l/meta_learning"]) == {"updates"}


def test_pictures_are_there(tensorboard):
    tags = tensorboard("plugin/images/tags")
    assert set(tags["prototypical/meta_learning"]) == {"episode", "embeddings"}
    assert set(tags["meta_lstm/meta_learning"]) == {"episode"}
    assert set(tags["l2l/meta_learning"]) == {"trajectory"}


def test_text_charts_and_projector_are_there(tensorboard, logs):
    assert "configuration" in tensorboard("plugin/text/tags")["l2l/meta_learning"]
    titles = [chart["title"] for chart in tensorboard("plugin/custom_scalars/layout")["category"][0]["chart"]]
    assert "Inner steps" in titles
    assert "prototypical/meta_learning" in tensorboard("plugin/projector/runs")
    vectors = np.loadtxt(logs / "prototypical" / "meta_learning" / "embeddings.tsv")
    assert vectors.shape == (4 * 3 * 2, 4)


def test_looking_changes_nothing():
    """Also not the averages of batch normalisation, although the meta-gradient is that of training."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    for make in (tfm.PrototypicalNetwork, lambda model: tfm.MAML(model, statistics_per_step=True)):
        learner = make(keras.Sequential([keras.Input([8, 8, 1]), *layers]))
        learner.compile("adam")
        before = learner.get_weights()
        _LearnerLook(learner, *next(iter(episodes()))).scalars()
        for old, new in zip(before, learner.get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)


def test_after_no_inner_step_the_accuracy_is_that_before_adaptation():
    learner = tfm.MAML(tiny(3), inner_steps=2)
    learner.compile("adam")
    episode, query_y = next(iter(episodes()))
    found = _LearnerLook(learner, episode, query_y).scalars()
    logs = learner.evaluate(episode, query_y, batch_size=4, return_dict=True, verbose=0)
    assert float(found["inner_steps/accuracy_after_0"]) == pytest.approx(logs["accuracy_before"])
    assert float(found["inner_steps/accuracy_after_2"]) == pytest.approx(logs["accuracy"])


@pytest.mark.parametrize("every", [0, 1.5])
def test_epochs_between_looks_must_be_a_number(every):
    with pytest.raises(ValueError, match="`every` must be an integer >= 1"):
        tfm.MetaLearningTensorBoard("logs", every=every)


def test_a_few_shot_learner_needs_episodes(tmp_path):
    learner = tfm.PrototypicalNetwork(tiny())
    learner.compile("adam")
    with pytest.raises(ValueError, match=r"`episodes` must be a batch of tasks[\s\S]*split='validation'"):
        fit(learner, tmp_path)


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: 5, "a int"),
        (lambda: next(iter(episodes()))[0], "a Episode"),
        (lambda: tf.data.Dataset.range(3), "a _RangeDataset"),
        (lambda: episodes().take(0), "an empty data set"),
    ],
    ids=["number", "no answers", "other data", "empty"],
)
def test_episodes_that_are_no_batch_of_tasks_are_refused(make, received):
    with pytest.raises(
        ValueError, match=rf"`episodes` must be a batch of tasks, \(Episode, query_y\)\. Received: {received}"
    ):
        tfm.MetaLearningTensorBoard("logs", episodes=make())


def test_models_that_do_not_learn_to_learn_are_refused(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(
        ValueError, match=r"of a few-shot learner or an OptimizerTrainer\. Received: that of a Sequential"
    ):
        model.fit(np.zeros([2, 2]), np.zeros([2, 1]), verbose=0, callbacks=[tfm.MetaLearningTensorBoard(tmp_path)])


def test_a_trainer_takes_no_episodes(tmp_path):
    trainer = tfm.OptimizerTrainer(tfm.CoordinatewiseLSTM(seed=0), tfm.problems.Quadratic(functions=2))
    trainer.compile("adam")
    with pytest.raises(ValueError, match=r"`episodes` must be None for an OptimizerTrainer[\s\S]*Leave them out"):
        fit(trainer, tmp_path, episodes=next(iter(episodes())))
