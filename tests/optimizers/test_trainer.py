"""Meta-training: what it optimises, keeps, resumes and saves."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.problems.base import Problem, Task, vector_segments
from tf_metalearn.rules import GradientDescent


def lstm(seed=0):
    return tfm.CoordinatewiseLSTM(units=(5,), chunks=1, seed=seed)


def make_trainer(rule=None, meta_optimizer=None, **options):
    settings = {"unroll_length": 5, "episode_length": 10, "validation_episodes": 2, **options}
    problem, held_out = tfm.problems.Quadratic(functions=4), tfm.problems.Quadratic(functions=2)
    trainer = tfm.OptimizerTrainer(
        rule or GradientDescent(1e-3), problem, settings.pop("validation", held_out), **settings
    )
    trainer.compile(optimizer=meta_optimizer or keras.optimizers.Adam(1e-4))
    return trainer


class Line(Problem):
    """f(theta) = slope * theta: every figure of a training is known by pencil."""

    def __init__(self, slope=1.0):
        super().__init__("line")
        self.slope = slope

    @property
    def segments(self):
        return vector_segments("theta", 1)

    def sample(self, seed):
        return Task(tf.zeros([1]), (), ())

    def loss(self, task, parameters, carry, step):
        return self.slope * parameters[0], carry


class Parabola(Line):
    """f(theta) = theta^2 / 2 from theta = 1."""

    def sample(self, seed):
        return Task(tf.ones([1]), (), ())

    def loss(self, task, parameters, carry, step):
        return parameters[0] ** 2 / 2, carry


def test_one_episode_reports_the_losses_after_each_update():
    """Rate 0.5 on a slope of 1: theta is -0.5, -1, -1.5, -2 after the four updates; no meta-update moves the rate."""
    trainer = tfm.OptimizerTrainer(GradientDescent(0.5), Line(), unroll_length=2, episode_length=4)
    trainer.compile(optimizer=keras.optimizers.SGD(0.0))
    history = trainer.fit(epochs=1, steps_per_epoch=1, verbose=0).history
    assert history["loss"] == pytest.approx([-1.25])
    assert history["final_loss"] == pytest.approx([-2.0])


def test_meta_updates_follow_the_gradient_of_the_summed_losses_of_each_stretch():
    """Over a stretch of 2 from theta: d/d rate of (theta - rate) + (theta - 2 rate) is -3, so SGD(0.1) adds 0.3."""
    rule = GradientDescent(0.5)
    trainer = tfm.OptimizerTrainer(rule, Line(), unroll_length=2, episode_length=4)
    trainer.compile(optimizer=keras.optimizers.SGD(0.1))
    trainer.fit(epochs=1, steps_per_epoch=1, verbose=0)
    assert float(rule.learning_rate) == pytest.approx(0.5 + 2 * 0.3)


def test_two_replicas_average_their_meta_gradients_and_stay_equal(mirrored):
    """Each plays the line by itself: the meta-update of one device, not twice that."""
    with mirrored.scope():
        rule = GradientDescent(0.5)
        trainer = tfm.OptimizerTrainer(rule, Line(), Line(), unroll_length=2, episode_length=4, validation_episodes=3)
        trainer.compile(optimizer=keras.optimizers.SGD(0.1))
    history = trainer.fit(epochs=1, steps_per_epoch=1, verbose=0).history
    values = [float(value) for value in mirrored.experimental_local_results(rule.learning_rate.value)]
    assert values == pytest.approx([0.5 + 2 * 0.3] * 2)
    assert history["val_final_loss"] == pytest.approx([-4 * (0.5 + 2 * 0.3)])


def test_two_replicas_play_different_training_episodes_and_the_validation_episodes_of_one_device(mirrored):
    class Random(Line):
        """Its slope is the seed's."""

        def sample(self, seed):
            return Task(tf.zeros([1]), (), tf.random.stateless_uniform([], seed))

        def loss(self, task, parameters, carry, step):
            return task.data * parameters[0], carry

    def played(scope):
        with scope():
            rule = GradientDescent(0.5)
            trainer = tfm.OptimizerTrainer(rule, Random(), Random(), unroll_length=1, episode_length=1)
            trainer.compile(optimizer=keras.optimizers.SGD(0.0))
        history = trainer.fit(epochs=1, steps_per_epoch=1, verbose=0).history
        return history["loss"][0], history["val_loss"][0]

    (one, held_out), (two, held_out_by_two) = played(contextlib.nullcontext), played(mirrored.scope)
    assert held_out_by_two == pytest.approx(held_out)
    assert two != pytest.approx(one)


def test_several_problems_are_averaged():
    """Slopes 1 and 3: the meta-gradients -3 and -27 (rates times squared slopes) average to -15."""
    rule = GradientDescent(0.5)
    trainer = tfm.OptimizerTrainer(rule, [Line(1.0), Line(3.0)], unroll_length=2, episode_length=2)
    trainer.compile(optimizer=keras.optimizers.SGD(0.01))
    trainer.fit(epochs=1, steps_per_epoch=1, verbose=0)
    assert float(rule.learning_rate) == pytest.approx(0.5 + 0.15)


def test_meta_training_improves_on_held_out_problems():
    trainer = make_trainer(lstm(), keras.optimizers.Adam(1e-2), episode_length=20, unroll_length=10)
    before = trainer.evaluate(verbose=0, return_dict=True)["loss"]
    trainer.fit(epochs=5, steps_per_epoch=40, verbose=0)
    assert trainer.evaluate(verbose=0, return_dict=True)["loss"] < 0.7 * before


def test_equal_seeds_give_equal_rules_and_other_seeds_others():
    weights = []
    for seed in (0, 0, 1):
        trainer = make_trainer(seed=seed)
        trainer.fit(epochs=1, steps_per_epoch=3, verbose=0)
        weights.append(np.concatenate([weight.ravel() for weight in trainer.rule.get_weights()]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 1e-9


def test_the_rule_that_was_best_in_validation_is_kept():
    """Training on a line drives the rate up by 0.3 an epoch, to 0.8, 1.1, 1.4; on the parabola 1.0 would be best."""
    rule = GradientDescent(0.5)
    trainer = tfm.OptimizerTrainer(rule, Line(), Parabola(), unroll_length=2, episode_length=2, validation_episodes=1)
    trainer.compile(optimizer=keras.optimizers.SGD(0.1))
    history = trainer.fit(epochs=3, steps_per_epoch=1, verbose=0).history["val_loss"]
    # theta is 1 - rate, then (1 - rate)^2; the loss is half its square.
    assert history == pytest.approx([np.mean([(1 - r) ** 2 / 2, (1 - r) ** 4 / 2]) for r in (0.8, 1.1, 1.4)], rel=1e-4)
    assert float(rule.learning_rate) == pytest.approx(1.1)


def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path):
    straight = make_trainer()
    straight.fit(epochs=4, steps_per_epoch=3, verbose=0)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    first = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        first.fit(
            epochs=4,
            steps_per_epoch=3,
            verbose=0,
            callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup"), Interrupt()],
        )
    second = make_trainer(rule=GradientDescent(5.0))
    history = second.fit(
        epochs=4, steps_per_epoch=3, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")]
    )
    assert history.epoch == [2, 3]
    for expected, actual in zip(straight.rule.get_weights(), second.rule.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)


def test_works_with_the_callbacks_of_keras(tmp_path):
    trainer = make_trainer(meta_optimizer=keras.optimizers.SGD(1e-12))
    history = trainer.fit(
        epochs=6,
        steps_per_epoch=2,
        verbose=0,
        callbacks=[
            keras.callbacks.TensorBoard(tmp_path / "logs"),
            keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss", save_best_only=True),
            keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=1.0, patience=1),
        ],
    )
    assert len(history.epoch) == 2, "nothing improves at this rate, so patience 1 ends training after two epochs"
    assert list((tmp_path / "logs").rglob("events.out.tfevents*"))
    assert isinstance(keras.saving.load_model(tmp_path / "best.keras"), tfm.OptimizerTrainer)


def test_saves_and_reloads_and_goes_on_with_the_same_episodes(tmp_path):
    problem = tfm.problems.make("quadratic", functions=2)
    trainer = tfm.OptimizerTrainer(GradientDescent(1e-3), problem, problem, unroll_length=5, episode_length=10, seed=3)
    trainer.compile(optimizer=keras.optimizers.Adam(1e-2))
    trainer.fit(epochs=1, steps_per_epoch=2, verbose=0)
    trainer.save(tmp_path / "trainer.keras")
    loaded = keras.saving.load_model(tmp_path / "trainer.keras")
    assert loaded.problems[0].recipe == {"name": "quadratic", "split": "train", "functions": 2}
    for one in (trainer, loaded):
        one.fit(epochs=1, steps_per_epoch=2, verbose=0)
    for expected, actual in zip(trainer.rule.get_weights(), loaded.rule.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)


def test_a_trainer_of_problems_made_by_hand_asks_for_them_after_loading(tmp_path):
    trainer = make_trainer()
    trainer.save(tmp_path / "trainer.keras")
    loaded = keras.saving.load_model(tmp_path / "trainer.keras")
    with pytest.raises(ValueError, match=r"Set `trainer.problems`"):
        loaded.fit(epochs=1, steps_per_epoch=1, verbose=0)


def test_an_episode_that_diverges_changes_nothing_and_is_counted():
    rule = GradientDescent(0.5)
    trainer = tfm.OptimizerTrainer(rule, Line(float("inf")), unroll_length=2, episode_length=2)
    trainer.compile(optimizer=keras.optimizers.SGD(0.1))
    history = trainer.fit(epochs=1, steps_per_epoch=3, verbose=0).history
    assert history["skipped"] == [3.0]
    assert float(rule.learning_rate) == 0.5


def test_recompute_does_not_change_what_is_learned():
    learned = []
    for options in ({}, {"recompute": True}):
        trainer = make_trainer(lstm(), keras.optimizers.Adam(1e-2), **options)
        trainer.fit(epochs=1, steps_per_epoch=2, verbose=0)
        learned.append(trainer.rule.get_weights())
    for one, other in zip(*learned, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unroll_length": 20, "episode_length": 10}, "`unroll_length` must divide `episode_length`"),
        ({"unroll_length": 4, "episode_length": 10}, "Try unroll_length=5"),
        ({"unroll_length": 0}, "`unroll_length` must be a positive integer"),
        ({"episode_length": 10.0}, "`episode_length` must be a positive integer"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(**options)


def test_a_rule_without_trainable_weights_is_refused():
    rule = GradientDescent(0.1)
    rule.trainable = False
    with pytest.raises(ValueError, match="`rule` must have trainable weights"):
        tfm.OptimizerTrainer(rule, Line())


def test_evaluate_without_validation_problems_says_what_is_missing():
    with pytest.raises(ValueError, match="`validation_problems` must not be empty"):
        make_trainer(validation=None).evaluate(verbose=0)


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("rule", {"rule": "default"}),
        ("problems", {"problems": "digits"}),
        ("problems", {"problems": [Line(), "digits"]}),
        ("validation_problems", {"validation_problems": 3}),
    ],
)
def test_what_is_no_rule_and_no_problem_is_refused_at_construction(argument, arguments):
    with pytest.raises(ValueError, match=rf"`{argument}` must be[\s\S]*Received: {argument}=[\s\S]*\nTry "):
        tfm.OptimizerTrainer(**{"rule": GradientDescent(0.5), "problems": Line(), **arguments})


def test_data_handed_to_fit_is_refused():
    trainer = make_trainer(lstm(), keras.optimizers.Adam(1e-2))
    with pytest.raises(ValueError, match=r"`x` must be left out[\s\S]*Received: a ndarray[\s\S]*SupervisedProblem"):
        trainer.fit(np.zeros([4, 2]), np.zeros(4))
