"""LearnedOptimizer against Keras's own optimizers, against `unroll`, and through what Keras does to one."""

import functools
import json
import operator
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.functional import join, segments_of
from tf_metalearn.inner_loop import unroll
from tf_metalearn.optimizers.learned_optimizer import LearnedOptimizer
from tf_metalearn.pretrained import save_rule
from tf_metalearn.rules import Adam, CoordinatewiseLSTM, GradientDescent, GroupedRule, Momentum, UpdateRule

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 2, size=16)
#: Rows 6 to 10 of an embedding with 11 rows stay unused; some rows are used many times.
IDS = np.random.default_rng(2).integers(0, 6, size=(16, 3))
MODES = {"graph": {}, "eager": {"run_eagerly": True}, "xla": {"jit_compile": True}}


def without_address(value):
    """What a value is called in a test's name: the same in each of the processes that run tests."""
    return re.sub(r" at 0x\w+", "", str(value))


def lstm(**settings):
    return CoordinatewiseLSTM(seed=0, output_scale=1.0, **settings)


def dense_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(4, activation="tanh", name="first"), keras.layers.Dense(2, name="last")]
    )


def embedding_model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(11, 4, name="words"), keras.layers.Flatten(), keras.layers.Dense(2, name="last")]
    return keras.Sequential([keras.Input([3], dtype="int32"), *layers])


def train(model, optimizer, x=X, epochs=3, **settings):
    if optimizer is not None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=optimizer, loss=loss, **settings)
    model.fit(x, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return [weight.numpy() for weight in model.weights]


def state_of(optimizer, variable):
    return [slot.numpy() for slot in optimizer._slots[optimizer._get_variable_index(variable)]]


def assert_close(ours, theirs, tolerance=1e-6):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


# Golden: Keras's own optimizers, and the rule itself.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"clipnorm": 0.05},
        {"clipvalue": 0.01},
        {"global_clipnorm": 0.05},
        {"use_ema": True, "ema_momentum": 0.5},
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        {"gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 2, "weight_decay": 0.1, "clipnorm": 0.05},
        {"loss_scale_factor": 8.0},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)},
    ],
    ids=without_address,
)
def test_gradient_descent_is_keras_sgd_under_every_option(options):
    options = {"learning_rate": 0.5, **options}
    ours = train(dense_model(), LearnedOptimizer(GradientDescent(1.0), **options))
    assert_close(ours, train(dense_model(), keras.optimizers.SGD(**options)))


def test_adam_is_keras_adam():
    ours = train(dense_model(), LearnedOptimizer(Adam(0.01, epsilon=1e-8)), epochs=10)
    assert_close(ours, train(dense_model(), keras.optimizers.Adam(0.01, epsilon=1e-8), epochs=10), 2e-5)


@pytest.mark.parametrize("mode", ["graph", "eager", pytest.param("xla", marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [lstm, lambda: lstm(global_units=3)], ids=["coordinatewise", "coupled"])
def test_lstm_is_unroll_on_the_joined_variables(make, mode):
    """Cells averaged over all coordinates tell one joint batch from a batch for each variable."""
    targets = tf.constant([1.0, -2.0, 3.0, 0.5, 0.1])
    rule = make()

    def loss(parameters, carry, step):
        return tf.reduce_sum((parameters - targets) ** 2), carry

    expected = tf.function(lambda: unroll(rule, loss, tf.zeros([5]), 6).parameters)()
    variables = [keras.Variable(tf.zeros([2, 2])), keras.Variable(tf.zeros([1]))]
    optimizer = LearnedOptimizer(rule)
    optimizer.build(variables)

    def step():
        with tf.GradientTape() as tape:
            value, _ = loss(join([variable.value for variable in variables]), (), 0)
        optimizer.apply(tape.gradient(value, [variable.value for variable in variables]), variables)

    step = step if mode == "eager" else tf.function(step, jit_compile=mode == "xla")
    for _ in range(6):
        step()
    assert_close([join(variables)], [expected], 1e-5)


def test_grouped_rule_follows_the_variables_names():
    optimizer = LearnedOptimizer(GroupedRule({"first": GradientDescent(1.0), ".*": GradientDescent(1e-20)}))
    before = [weight.numpy() for weight in dense_model().weights]
    after = train(dense_model(), optimizer)
    assert [np.allclose(old, new, atol=1e-15) for old, new in zip(before, after, strict=True)] == [
        False,
        False,
        True,
        True,
    ]


def test_rule_is_given_the_step_and_the_parameter():
    class Probe(UpdateRule):
        needs = frozenset({"parameter", "step"})

        def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
            return parameter * tf.cast(step + 1, "float32"), state

    weight = keras.Variable([1.0, 2.0])
    optimizer = LearnedOptimizer(Probe())
    for _ in range(2):
        optimizer.apply([tf.zeros([2])], [weight])
    np.testing.assert_array_equal(weight.numpy(), [1.0 * 2 * 3, 2.0 * 2 * 3])


# Through Keras: execution, precision, saving.


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_fit_gives_the_same_in_every_mode(mode):
    ours = train(dense_model(), LearnedOptimizer(lstm()), **MODES[mode])
    assert_close(ours, train(dense_model(), LearnedOptimizer(lstm())), 1e-5)


def test_steps_per_execution_changes_nothing():
    several = train(dense_model(), LearnedOptimizer(lstm()), steps_per_execution=2)
    assert_close(several, train(dense_model(), LearnedOptimizer(lstm())), 1e-6)


def test_mixed_float16_keeps_the_rule_in_float32():
    with_policy, policy = LearnedOptimizer(lstm()), keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model, rule = dense_model(), lstm()
        weights = train(model, LearnedOptimizer(rule))
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    slots = functools.reduce(operator.iadd, model.optimizer.inner_optimizer._slots, [])
    assert {slot.dtype for slot in slots} == {"float32"} == {weight.dtype for weight in rule.weights}
    assert_close(weights, train(dense_model(), with_policy), 3e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_variables_keep_their_dtype(dtype):
    weight = keras.Variable(np.ones(3), dtype=dtype)
    optimizer = LearnedOptimizer(GradientDescent(0.5), weight_decay=0.5)
    optimizer.apply([tf.ones([3], dtype)], [weight])
    assert weight.dtype == dtype
    np.testing.assert_array_equal(tf.cast(weight.value, "float64"), np.zeros(3))


def test_float64_variables_lose_no_digits():
    weight = keras.Variable(np.array([1.0 + 1e-12]), dtype="float64")
    LearnedOptimizer(GradientDescent(0.5)).apply([tf.zeros([1], "float64")], [weight])
    assert weight.numpy()[0] == 1.0 + 1e-12


@pytest.mark.parametrize(
    "make",
    [
        lambda: LearnedOptimizer(lstm(), use_ema=True),
        lambda: LearnedOptimizer(GroupedRule({"first": lstm(), ".*": Adam(0.05)}), gradient_accumulation_steps=3),
    ],
    ids=["lstm", "grouped"],
)
def test_saved_model_resumes_the_very_same_trajectory(make, tmp_path):
    model = dense_model()
    train(model, make(), epochs=2)
    model.save(tmp_path / "model.keras")
    expected = train(model, None, epochs=2)
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(train(resumed, None, epochs=2), expected, 1e-6)
    for one, other in zip(resumed.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


def test_config_carries_the_rule_with_its_weights():
    rule = GroupedRule({"first": lstm(), ".*": Adam(0.05)})
    for weight in rule.weights:
        weight.assign(weight + 0.25)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)
    optimizer = LearnedOptimizer(rule, schedule, non_finite="skip", clipnorm=0.5)
    config = json.loads(json.dumps(optimizer.get_config()))
    copy = LearnedOptimizer.from_config(config)
    assert copy.get_config() == optimizer.get_config()
    assert_close(train(dense_model(), copy), train(dense_model(), optimizer), 0)
    assert keras.optimizers.deserialize(keras.optimizers.serialize(copy)).get_config() == copy.get_config()


def test_rule_given_by_name_stays_a_name_in_the_config(monkeypatch):
    import tf_metalearn.pretrained as pretrained

    monkeypatch.setattr(pretrained, "load_rule", lambda name: {"default": Adam(0.5), "other": Adam(0.25)}[name])
    assert LearnedOptimizer().get_config()["rule"] == pretrained.DEFAULT_RULE
    config = LearnedOptimizer("other").get_config()
    assert config["rule"] == "other"
    assert "rule_weights" not in config
    assert float(LearnedOptimizer.from_config(config).rule.learning_rate.numpy()) == 0.25


def test_unknown_rule_name_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no_such_rule.*"):
        LearnedOptimizer("no_such_rule")


def test_rule_weights_are_not_the_optimizers_to_move():
    rule = lstm()
    before = [weight.numpy() for weight in rule.weights]
    model = dense_model()
    train(model, LearnedOptimizer(rule))
    assert_close([weight.numpy() for weight in rule.weights], before, 0)
    assert not {id(weight) for weight in rule.weights} & {id(v) for v in model.optimizer.variables + model.variables}


def test_multi_optimizer_gives_each_layer_its_own():
    optimizers = keras.optimizers
    theirs = optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.1), {"first/.*": optimizers.SGD(0.5)}))
    rules = GradientDescent(0.1), GradientDescent(0.5)
    ours = [LearnedOptimizer(rule, name=f"learned_{index}") for index, rule in enumerate(rules)]
    ours = optimizers.MultiOptimizer(optimizers.OptimizerMap(ours[0], {"first/.*": ours[1]}))
    assert_close(train(dense_model(), ours), train(dense_model(), theirs))


def test_custom_loop_with_some_of_the_variables_leaves_the_others_and_their_state():
    """State belongs to variables, not to positions in the list of gradients."""
    variables = [keras.Variable(tf.ones([size])) for size in (2, 3, 4)]
    optimizer = LearnedOptimizer(Momentum(0.1, momentum=0.5))
    optimizer.build(variables)
    for _ in range(2):
        optimizer.apply([tf.ones([4]), None, tf.ones([2])], [variables[2], variables[1], variables[0]])
    reference = keras.Variable(tf.ones([4]))
    theirs = keras.optimizers.SGD(0.1, momentum=0.5)
    for _ in range(2):
        theirs.apply([tf.ones([4])], [reference])
    np.testing.assert_allclose(variables[2].numpy(), reference.numpy(), rtol=1e-6)
    np.testing.assert_allclose(variables[0].numpy(), reference.numpy()[:2], rtol=1e-6)
    assert np.all(variables[1].numpy() == 1)
    assert not np.any(state_of(optimizer, variables[1]))


def test_layers_frozen_after_building_keep_weights_and_state():
    model, optimizer = dense_model(), LearnedOptimizer(lstm())
    train(model, optimizer)
    frozen = model.layers[0]
    frozen.trainable = False
    weights, state = frozen.get_weights(), state_of(optimizer, frozen.kernel)
    last, last_state = model.layers[1].get_weights(), state_of(optimizer, model.layers[1].kernel)
    train(model, optimizer)
    assert_close(frozen.get_weights() + state_of(optimizer, frozen.kernel), weights + state, 0)
    assert not np.array_equal(model.layers[1].get_weights()[0], last[0])
    assert not np.array_equal(state_of(optimizer, model.layers[1].kernel)[0], last_state[0])


# Embeddings.


@pytest.mark.parametrize(
    ("rule", "options", "mode"),
    [
        (lstm, {}, "graph"),
        (lstm, {}, "xla"),
        (lstm, {"gradient_accumulation_steps": 2}, "graph"),
        (lstm, {"global_clipnorm": 0.1}, "graph"),
        (lstm, {"loss_scale_factor": 8.0}, "graph"),
        (lambda: lstm(global_units=2), {}, "graph"),
        pytest.param(lambda: GroupedRule({".*": lstm()}), {}, "xla", marks=pytest.mark.slow),
    ],
    ids=without_address,
)
def test_unused_rows_of_an_embedding_keep_weights_and_state(rule, options, mode):
    model, optimizer = embedding_model(), LearnedOptimizer(rule(), **options)
    table = model.layers[0].embeddings
    before = table.numpy()
    train(model, optimizer, IDS, **MODES[mode])
    np.testing.assert_array_equal(table.numpy()[6:], before[6:])
    assert np.all(table.numpy()[:6] != before[:6])
    for leaf in state_of(optimizer, table):
        rows = leaf.reshape([11, -1])
        assert not rows[6:].any()
        assert np.all(np.any(rows[:6] != 0, axis=1))


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("indices", [[4, 1, 4, 4], [2, 2], [0, 1, 2, 3, 4, 4, 0]], ids=str)
def test_used_rows_move_as_a_dense_variable_would_with_duplicates_summed(indices, jit_compile):
    rows = sorted(set(indices))
    values = np.random.default_rng(0).normal(size=(len(indices), 2)).astype("float32")
    summed = np.zeros([5, 2], "float32")
    np.add.at(summed, indices, values)
    table, dense = keras.Variable(tf.ones([5, 2])), keras.Variable(tf.ones([len(rows), 2]))
    optimizers = [LearnedOptimizer(lstm()), LearnedOptimizer(lstm())]
    for optimizer, variable in zip(optimizers, (table, dense), strict=True):
        optimizer.build([variable])

    # The number of indices is unknown when `fit` traces its function.
    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int64)])
    def step(values, indices):
        optimizers[0].apply([tf.IndexedSlices(values, indices, tf.constant([5, 2]))], [table])

    for _ in range(3):
        step(values, np.array(indices))
        optimizers[1].apply([tf.constant(summed[rows])], [dense])
    assert_close([table.numpy()[rows]], [dense.numpy()], 1e-5)
    assert np.all(table.numpy()[[row for row in range(5) if row not in rows]] == 1)
    for ours, theirs in zip(state_of(optimizers[0], table), state_of(optimizers[1], dense), strict=True):
        assert_close([ours.reshape([5, -1])[rows]], [theirs.reshape([len(rows), -1])], 1e-5)


# Gradients that are not finite.


@pytest.mark.parametrize("mode", ["eager", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("graph", "xla"))])
@pytest.mark.parametrize("options", [{}, {"clipvalue": 0.1}, {"clipnorm": 0.1}, {"weight_decay": 0.5}], ids=str)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_skip_leaves_weights_and_state_as_they_were(mode, options, bad):
    weights = [keras.Variable(tf.ones([2])), keras.Variable(tf.ones([2]))]
    optimizer = LearnedOptimizer(lstm(), non_finite="skip", **options)
    optimizer.build(weights)

    def step(gradient):
        optimizer.apply([gradient, tf.ones([2])], weights)

    step = step if mode == "eager" else tf.function(step, jit_compile=mode == "xla")
    step(tf.constant([1.0, 2.0]))
    before = [v.numpy() for v in weights + optimizer._slots[0] + optimizer._slots[1]]
    step(tf.constant([1.0, bad]))
    after = [v.numpy() for v in weights + optimizer._slots[0] + optimizer._slots[1]]
    assert_close(after, before, 0)
    assert optimizer.skipped_steps.numpy() == 1


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 1.0}], ids=str)
def test_zero_counts_bad_entries_as_zero(options):
    weight = keras.Variable([1.0, 1.0, 1.0])
    optimizer = LearnedOptimizer(GradientDescent(1.0), non_finite="zero", **options)
    optimizer.apply([tf.constant([np.nan, 0.5, -np.inf])], [weight])
    np.testing.assert_array_equal(weight.numpy(), [1.0, 0.5, 1.0])


@pytest.mark.parametrize("mode", MODES)
def test_raise_names_the_variables_and_loses_nothing(mode):
    """XLA leaves assertions out: there `fit` raises at its end, and until then nothing has been lost either."""
    model = dense_model()
    before = [weight.numpy() for weight in model.weights]
    x = X.copy()
    x[[0, 8]] = np.nan
    message = "Gradients must be finite.*2 steps" if mode == "xla" else "Gradients must be finite.*first/kernel"
    optimizer = LearnedOptimizer(lstm())
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){message}"):
        train(model, optimizer, x, epochs=1, **MODES[mode])
    assert_close([weight.numpy() for weight in model.weights], before, 0)
    assert not np.array_equal(train(model, optimizer)[0], before[0])


# Errors.


def test_a_rule_that_needs_the_loss_is_refused_with_the_reason():
    class NeedsLoss(GradientDescent):
        needs = frozenset({"loss"})

    with pytest.raises(ValueError, match=r"(?s)gradients only.*NeedsLoss.*OptimizerTrainer"):
        LearnedOptimizer(NeedsLoss())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 1}, r"`learning_rate`.*must be a float.*Received: learning_rate=1\.\nWrite 1.0"),
        ({"learning_rate": "fast"}, r"`learning_rate`.*must be a float.*'fast'"),
        ({"non_finite": "ignore"}, r"`non_finite` must be one of.*'ignore'.*'raise'"),
        ({"rule": keras.optimizers.Adam()}, r"`rule` must be an UpdateRule.*compile the model with it"),
        ({"momentum": 0.9}, r"momentum"),
    ],
    ids=without_address,
)
def test_bad_arguments_are_told_with_the_remedy(arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        LearnedOptimizer(**{"rule": GradientDescent(), **arguments})


def test_a_second_model_is_told_to_take_a_new_optimizer():
    optimizer = LearnedOptimizer(lstm())
    train(dense_model(), optimizer)
    with pytest.raises(ValueError, match=r"(?s)last/kernel.*new LearnedOptimizer"):
        train(embedding_model(), optimizer, IDS)
    with pytest.raises(ValueError, match=r"(?s)last/kernel.*new LearnedOptimizer"):
        optimizer.build(embedding_model().trainable_variables)


def test_segments_are_those_of_the_variables_that_take_part():
    seen = []

    class Probe(GradientDescent):
        needs = frozenset({"segments"})

        def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
            seen.append(segments)
            return gradient, state

    variables = [keras.Variable(tf.ones([2, 3]), name="a"), keras.Variable(tf.ones([4]), name="b")]
    optimizer = LearnedOptimizer(Probe())
    optimizer.build(variables)
    optimizer.apply([tf.ones([4])], [variables[1]])
    assert seen == [segments_of([variables[1].path], [(4,)])]


# Two devices.


def trained_with_embedding(strategy, optimizer, x):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        words, other = keras.Input([3], dtype="int32"), keras.Input([3])
        left = keras.layers.Flatten()(keras.layers.Embedding(11, 4, name="words")(words))
        both = keras.layers.Concatenate()([left, keras.layers.Dense(4, activation="tanh", name="first")(other)])
        model = keras.Model([words, other], keras.layers.Dense(2, name="last")(both))
        optimizer = optimizer()
        train(model, optimizer, [IDS, x], epochs=4)
    return optimizer, model.weights + [v for v in optimizer.variables if "iteration" not in v.name]


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        pytest.param(lambda: CoordinatewiseLSTM(seed=0), {}, marks=pytest.mark.slow),
        (lambda: CoordinatewiseLSTM(seed=0, global_units=3), {"weight_decay": 0.1, "use_ema": True}),
        pytest.param(
            lambda: GroupedRule({"first": Adam(0.05), ".*": CoordinatewiseLSTM(seed=0)}), {}, marks=pytest.mark.slow
        ),
        (lambda: CoordinatewiseLSTM(seed=0), {"non_finite": "skip", "weight_decay": 0.1}),
    ],
    ids=["lstm", "coupled", "grouped", "skip"],
)
def test_two_replicas_agree_with_each_other_and_with_one_device(rule, options, mirrored):
    x = X.copy()
    if options.get("non_finite") == "skip":
        x[3] = np.nan
    _, single = trained_with_embedding(tf.distribute.get_strategy(), lambda: LearnedOptimizer(rule(), **options), x)
    optimizer, double = trained_with_embedding(mirrored, lambda: LearnedOptimizer(rule(), **options), x)
    copies = [[copy.numpy() for copy in v.value.values] for v in double if hasattr(v.value, "values")]
    assert len(copies) > 20
    for first, second in copies:
        np.testing.assert_array_equal(first, second)
    assert_close([v.numpy() for v in double], [v.numpy() for v in single], 1e-5)
    assert optimizer.skipped_steps.numpy() == (4 if options.get("non_finite") == "skip" else 0)


def test_an_optimizer_that_replicas_would_have_to_build_is_told_how(mirrored):
    with mirrored.scope():
        weight, optimizer = keras.Variable([1.0]), LearnedOptimizer(lstm())
    with pytest.raises(ValueError, match=r"(?s)must be built.*optimizer\.build\("):
        mirrored.run(lambda: optimizer.apply([tf.ones([1])], [weight]))


def test_a_rule_given_by_a_file_travels_with_the_model(tmp_path):
    path = tmp_path / "rule.keras"
    save_rule(CoordinatewiseLSTM(seed=5), path)
    optimizer = LearnedOptimizer(str(path))
    path.unlink()
    again = LearnedOptimizer.from_config(optimizer.get_config())
    for expected, actual in zip(optimizer.rule.get_weights(), again.rule.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)
    assert LearnedOptimizer("andrychowicz2016").get_config()["rule"] == "andrychowicz2016"
