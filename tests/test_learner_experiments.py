"""tools/learner_experiments.py: every experiment can begin, and be tested. What it finds takes hours, and is left to
`tools/reproduce.py`. Data sets are stand-ins: the published classes, of empty images."""

import dataclasses
import functools
import inspect

import keras
import numpy as np
import pytest
from learner_experiments import learner_experiments
from learner_training import _training_data

import tf_metalearn as tfm
from tf_metalearn.episodes import SOURCES, ClassTable, glyphs, load_classes

EXPERIMENTS = learner_experiments()
#: As many as the greatest test draws of a class, five to show and fifteen to ask.
EXAMPLES = 20


def empty(name):
    """All classes of a data set, of images without anything on them."""

    def read(data_dir, image_size):
        every = [part.splits() for part in SOURCES[name].protocols.values()]
        names = sorted({one for splits in every for names in splits.values() for one in names})
        side = SOURCES[name].image_size
        return ClassTable(
            np.zeros([len(names) * EXAMPLES, side, side, 1 if SOURCES[name].ink else 3], np.uint8),
            np.full(len(names), EXAMPLES),
            tuple(names),
            tuple(one.split("/")[0] for one in names) if name == "omniglot" else (),
            np.zeros([len(names), glyphs.FEATURES], "float32") if name == "glyphs" else None,
        )

    return read


@pytest.fixture(scope="module")
def stand_ins():
    """Each is made once."""
    with pytest.MonkeyPatch.context() as patch:
        for name, source in list(SOURCES.items()):
            patch.setitem(SOURCES, name, dataclasses.replace(source, read=functools.cache(empty(name))))
        patch.setattr("tf_metalearn.episodes.load.load_classes", functools.cache(load_classes))
        yield


@functools.cache
def spec_of_tests(source, count, arguments):
    """The shapes of test episodes, which many experiments share."""
    return tfm.load_episodes(source, seed=1, episodes=count, **dict(arguments)).element_spec


def untrained(name):
    """An experiment's learner, made with untrained baselines."""
    return EXPERIMENTS[name].learner(*map(untrained, EXPERIMENTS[name].baselines))


def assert_takes(learner, spec):
    """That a learner has the shapes of the data."""
    x, _ = spec
    if not isinstance(x, tfm.Episode):
        assert learner.embedding.input_shape[1:] == x.shape[1:]
        return
    network = learner.base_learner if hasattr(learner, "base_learner") else learner.embedding
    support_network = getattr(learner, "support_network", network)
    assert network.input_shape[1:] == x.query_x.shape[2:]
    assert support_network.input_shape[1:] == x.support_x.shape[2:]


def ways_of(learner):
    """How many a learner is made for; None if any number."""
    return learner.base_learner.output_shape[-1] if hasattr(learner, "base_learner") else learner.ways


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_has_a_learner_and_arguments_that_are_known(name):
    experiment = EXPERIMENTS[name]
    learner = untrained(name)
    learner.compile((experiment.optimizer or keras.optimizers.Adam)(1e-3), loss=experiment.loss)
    for arguments in (experiment.training, *(one.episodes for one in experiment.tests)):
        inspect.signature(tfm.load_episodes).bind(experiment.source, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_can_begin_and_its_tests_too(name, stand_ins):
    experiment = EXPERIMENTS[name]
    learner = untrained(name)
    learner.compile(loss=experiment.loss)
    data = _training_data(experiment, 0, 0, None)
    assert int(data.cardinality()) == experiment.steps
    assert_takes(learner, data.element_spec)
    if "classes" in learner.get_config():
        labels = load_classes(experiment.source, experiment.training["split"])
        assert learner.classes == len(labels.names)
    elif "ways" in experiment.training:
        assert ways_of(learner) in (None, experiment.training["ways"])
    for one in experiment.tests:
        spec = spec_of_tests(experiment.source, experiment.episodes, tuple(one.episodes.items()))
        tested = one.change(learner) if one.change else learner
        assert tested.compiled
        assert_takes(tested, spec)
        if "ways" in one.episodes:
            assert ways_of(tested) in (None, one.episodes["ways"])


def test_baselines_are_experiments():
    baselines = {baseline for experiment in EXPERIMENTS.values() for baseline in experiment.baselines}
    assert baselines
    assert baselines <= EXPERIMENTS.keys()
