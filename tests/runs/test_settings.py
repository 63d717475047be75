import dataclasses
import inspect
import re

import pytest

import tf_metalearn as tfm
from tf_metalearn.runs.settings import ALGORITHMS, SettingError, checked, fields


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_learner_takes_all_that_its_section_says(algorithm):
    learner = getattr(tfm, ALGORITHMS[algorithm].learner)
    taken = set()
    for kind in inspect.getmro(learner):
        if kind.__module__.startswith("tf_metalearn"):
            taken |= set(inspect.signature(kind.__init__).parameters)
    section = ALGORITHMS[algorithm].sections.get("learner", ALGORITHMS["siamese"].sections["learner"])
    named = {field.name for field in dataclasses.fields(section)}
    assert named <= taken


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_default_is_a_value_that_can_be_given(algorithm):
    for name, (_, field) in fields(algorithm).items():
        assert checked(algorithm, name, field.default) == field.default


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_setting_has_one_name_in_all_sections(algorithm):
    sections = ALGORITHMS[algorithm].sections.values()
    assert len(fields(algorithm)) == sum(len(dataclasses.fields(section)) for section in sections)


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("ways", 1, "a whole number, at least 2. Received: 1."),
        ("ways", 2.5, "a whole number, at least 2. Received: 2.5."),
        ("ways", True, "a whole number, at least 2. Received: True."),
        ("ways", None, "a whole number, at least 2. Received: None."),
        ("learning_rate", float("nan"), "a number, at least 0. Received: nan."),
        ("augment", 1, "true or false. Received: 1."),
        ("data", 7, "text. Received: 7."),
        ("downsample", "max pool", "one of stride, average, max. Received: 'max pool'."),
        ("hidden", 40, "a list of which each is a whole number, at least 1. Received: 40."),
        ("hidden", [40, 0], "a list of which each is a whole number, at least 1. Received: [40, 0]."),
        ("hidden", [], "a list of which each is a whole number, at least 1. Received: []."),
    ],
)
def test_a_value_that_cannot_be_is_refused(name, value, must):
    with pytest.raises(SettingError, match=re.escape(f"`{name}` must be {must}")):
        checked("maml", name, value)


def test_values_come_in_their_own_type():
    assert checked("maml", "hidden", [3, 4]) == (3, 4)
    assert isinstance(checked("maml", "learning_rate", 1), float)
    assert checked("maml", "protocol", None) is None
