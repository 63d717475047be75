"""What LearnedOptimizer promises for every update rule; these are found in `tf_metalearn.rules.__all__`."""

import inspect

import keras
import numpy as np
import pytest

import tf_metalearn.rules as rules
from tf_metalearn.optimizers.learned_optimizer import LearnedOptimizer

#: How to make the rules whose arguments do not all have defaults, or whose defaults are random.
EXAMPLES = {
    "CoordinatewiseLSTM": lambda: rules.CoordinatewiseLSTM(seed=0),
    "GroupedRule": lambda: rules.GroupedRule({"first": rules.CoordinatewiseLSTM(seed=0), ".*": rules.Adam(0.02)}),
    # One rate for each variable, and for each parameter, of the model below.
    "RatePerLayerAndStep": lambda: rules.RatePerLayerAndStep(4, 3),
    "RatePerParameter": lambda: rules.RatePerParameter(3 * 4 + 4 + 4 + 1),
}
KINDS = {
    name: EXAMPLES.get(name, getattr(rules, name))
    for name in rules.__all__
    if inspect.isclass(getattr(rules, name)) and issubclass(getattr(rules, name), rules.UpdateRule)
    if name != "UpdateRule"
}
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def compiled(optimizer, **settings):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, activation="tanh", name="first"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input([3]), *layers])
    model.compile(optimizer=optimizer, loss="mse", **settings)
    return model


@pytest.mark.parametrize("name", KINDS)
def test_saves_in_the_middle_and_resumes(name, tmp_path):
    rule = KINDS[name]()
    if "loss" in rule.needs:
        with pytest.raises(ValueError, match="gradients only"):
            LearnedOptimizer(rule)
        return
    model = compiled(LearnedOptimizer(rule))
    start = model.get_weights()
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert any(not np.array_equal(old, new) for old, new in zip(start, model.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, resumed):
        each.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for expected, weight in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_every_way_to_execute_gives_the_same(name, mode):
    if "loss" in KINDS[name]().needs:
        pytest.skip("refused, as the test above checks")
    results = []
    for settings in ({}, mode):
        model = compiled(LearnedOptimizer(KINDS[name]()), **settings)
        model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for expected, weight in zip(*results, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5)
