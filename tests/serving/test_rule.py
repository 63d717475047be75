"""Rules as SavedModels, for loops that are not Keras's."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn import rules
from tf_metalearn.serving import export_rule, verify_export

COORDINATES = 5

#: Arguments of rules that have some without a default.
ARGUMENTS = {"GradientDescent": (0.1,), "Momentum": (0.1,), "RatePerParameter": (COORDINATES,)}


def makers():
    """Every public rule that can be exported, some more ways to make one, and a quick one of each kind first."""
    quick = {"Adam", "MetaLSTMRule"}
    for name in rules.__all__:
        cls = getattr(rules, name)
        if not inspect.isclass(cls) or cls is rules.UpdateRule or not issubclass(cls, rules.UpdateRule):
            continue
        if name in ("GroupedRule", "RatePerLayerAndStep"):
            continue
        marks = [] if name in quick else [pytest.mark.slow]
        yield pytest.param(lambda cls=cls, name=name: cls(*ARGUMENTS.get(name, ())), id=name, marks=marks)
    averaging = lambda: rules.CoordinatewiseLSTM(units=(4, 3), global_units=2, seed=0)  # noqa: E731
    yield pytest.param(averaging, id="CoordinatewiseLSTM-global", marks=pytest.mark.slow)
    yield pytest.param(lambda: rules.Adam(0.1, dtype="float64"), id="Adam-float64", marks=pytest.mark.slow)


def of_segments():
    return [
        rules.GroupedRule({".*": rules.GradientDescent(0.1)}),
        rules.RatePerLayerAndStep(3, 4),
    ]


def test_rules_that_need_more_than_the_gradient_are_among_them():
    needs = {need for param in makers() for need in param.values[0]().needs}
    assert needs == {"parameter", "loss", "step"}


@pytest.mark.parametrize("make", list(makers()))
def test_an_exported_rule_moves_parameters_as_it_does_in_python(make, tmp_path):
    """Down a bowl, five steps, with whatever the rule needs."""
    rule = make()
    version = export_rule(rule, tmp_path / "rule" / "1", about="# A rule")
    served = tf.saved_model.load(str(version)).signatures
    start = tf.constant(np.random.default_rng(0).normal(size=COORDINATES), rule.dtype)
    here, there = start, start
    state = rule.initial_state(COORDINATES)
    served_state = served["initial_state"](gradient=start) if tf.nest.flatten(state) else {}
    for step in range(5):
        offers = {"parameter": here, "loss": tf.reduce_sum(here**2), "step": tf.constant(step, tf.int64)}
        update, state = rule(2 * here, state, **{need: offers[need] for need in rule.needs})
        offers = {"parameter": there, "loss": tf.reduce_sum(there**2), "step": tf.constant(step, tf.int64)}
        served_state = served["update"](
            gradient=2 * there, **served_state, **{need: offers[need] for need in rule.needs}
        )
        here, there = here + update, there + served_state.pop("update")
        np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-7)
    assert not np.allclose(here, start)


@pytest.mark.parametrize("make", list(makers()))
def test_an_exported_rule_passes_every_check(make, tmp_path):
    checks = verify_export(export_rule(make(), tmp_path / "rule" / "1"))
    assert [check.found for check in checks if not check.fine] == []
    assert len(checks) == 8


@pytest.mark.parametrize("rule", of_segments(), ids=lambda rule: type(rule).__name__)
def test_a_rule_with_segments_is_refused(rule, tmp_path):
    with pytest.raises(ValueError, match=r"`rule` must not need 'segments'\. Received: .*\n.*one by one"):
        export_rule(rule, tmp_path / "rule" / "1")
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_shipped_rule_will_do_and_brings_its_card(tmp_path):
    version = export_rule("default", tmp_path / "rule" / "1")
    assert "The rule of `LearnedOptimizer()`" in (version.parent / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="`rule` must be the name of a shipped rule"):
        export_rule("defualt", tmp_path / "rule" / "2")


def test_a_version_that_is_there_or_is_no_number_is_refused(tmp_path):
    rule = rules.GradientDescent(0.1)
    with pytest.raises(ValueError, match="`filepath` must be a version folder"):
        export_rule(rule, tmp_path / "rule")
    (tmp_path / "rule" / "1").mkdir(parents=True)
    with pytest.raises(ValueError, match="`filepath` must not be there yet"):
        export_rule(rule, tmp_path / "rule" / "1")


@pytest.mark.parametrize("make", [*makers(), pytest.param(lambda: rules.GradientDescent(0.1), id="stateless")])
def test_the_example_of_the_readme_runs_as_it_stands(make, tmp_path, monkeypatch, capsys):
    version = export_rule(make(), tmp_path / "rule" / "1")
    text = (version.parent / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert capsys.readouterr().out.startswith("Sum of squares: ")
    assert np.isfinite(names["parameters"]).all()
    assert not np.allclose(names["parameters"], 1)
