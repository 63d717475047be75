"""The inner loop: its derivatives, its seams, and that no way of running it changes what it computes."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.functional import StatelessModel, segments_of
from tf_metalearn.inner_loop import unroll
from tf_metalearn.rules import Adam, CoordinatewiseLSTM, GradientDescent, Momentum, RMSprop, UpdateRule

STEPS = 5
START = np.array([0.7, -0.4, 0.3, 1.1])
CARRY = np.array([0.2, -0.1])


def curved(parameters, carry, step):
    """A loss with everything in it: third derivatives, a dependence on the step, and a carry that both follows the
    parameters and acts on the loss."""
    rates = 1.0 + 0.3 * tf.range(4, dtype=parameters.dtype)
    drift = 0.1 * tf.cast(step, parameters.dtype)
    value = tf.reduce_sum(rates * tf.square(parameters - drift)) + 0.2 * tf.reduce_sum(parameters**4)
    value += tf.sin(parameters[0]) * tf.sin(parameters[1]) + tf.reduce_sum(carry * parameters[2:])
    return value, 0.9 * carry + 0.1 * tf.tanh(parameters[:2])


def random_lstm(**arguments):
    """An LSTM with weights large enough for every gate to matter."""
    rule = CoordinatewiseLSTM(**{"units": (3, 2), **arguments})
    generator = np.random.default_rng(3)
    for weight in rule.weights:
        weight.assign(0.7 * generator.normal(size=weight.shape))
    return rule


class ProximalDescent(UpdateRule):
    """A rule that uses all it can be told: update = -rate * (gradient + parameter * loss) / (1 + step)."""

    needs = frozenset({"parameter", "loss", "step"})

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.rate = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.05))

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        return -self.rate * (gradient + parameter * loss) / (1 + tf.cast(step, gradient.dtype)), state


RULES = {
    "gradient descent": lambda dtype: GradientDescent(0.05, dtype=dtype),
    "nesterov": lambda dtype: Momentum(0.05, 0.8, nesterov=True, dtype=dtype),
    "rmsprop": lambda dtype: RMSprop(0.05, dtype=dtype),
    "adam": lambda dtype: Adam(0.05, dtype=dtype),
    "proximal": lambda dtype: ProximalDescent(dtype=dtype),
    "lstm": lambda dtype: random_lstm(output_scale=0.3, dtype=dtype),
    "averaging lstm": lambda dtype: random_lstm(global_units=2, preprocess=False, dtype=dtype),
}


@pytest.fixture(params=RULES)
def make_rule(request):
    return RULES[request.param]


def inner_gradients(rule):
    """What the rule is told in each of the steps."""

    parameters, carry = tf.constant(START), tf.constant(CARRY)
    told = []
    for step in range(STEPS):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            value, _ = curved(parameters, carry, tf.constant(step))
        told.append((tape.gradient(value, parameters), value))
        now = unroll(rule, curved, tf.constant(START), step + 1, carry=tf.constant(CARRY))
        parameters, carry = now.parameters, now.carry
    return told


def score(losses, parameters, carry):
    """A meta-loss that weighs every output of the loop differently."""
    weights = tf.range(1, STEPS + 1, dtype=losses.dtype)
    return tf.reduce_sum(weights * losses) + tf.reduce_sum(tf.sin(parameters)) + tf.reduce_sum(tf.square(carry))


class Inputs(NamedTuple):
    """What a meta-gradient can be taken for."""

    weights: list
    parameters: tf.Tensor
    carry: tf.Tensor


def meta_gradient(rule, jit_compile=None, **options):
    """What the loop returns, and the gradient of its score for everything that goes in."""

    @tf.function(jit_compile=jit_compile)
    def run(parameters, carry):
        weights = [variable.value for variable in rule.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch((parameters, carry))
            result = unroll(rule, curved, parameters, STEPS, carry=carry, **options)
            value = score(result.losses, result.parameters, result.carry)
        return result, tape.gradient(value, Inputs(weights, parameters, carry))

    return run(tf.constant(START, rule.dtype), tf.constant(CARRY, rule.dtype))


def assert_is_the_derivative(gradient, value, rule):
    """Compares a gradient with central differences of `value(parameters, carry)` along random directions in the space
    of the rule's weights, the initial parameters and the initial carry together, and along each alone."""
    generator = np.random.default_rng(8)
    point = Inputs([variable.numpy() for variable in rule.trainable_variables], tf.constant(START), tf.constant(CARRY))
    masks = [Inputs(1, 1, 1), Inputs(1, 1, 1), Inputs(1, 0, 0), Inputs(0, 1, 0), Inputs(0, 0, 1)]
    for mask in masks:
        direction = Inputs(
            [mask.weights * generator.normal(size=weight.shape) for weight in point.weights],
            mask.parameters * generator.normal(size=[4]),
            mask.carry * generator.normal(size=[2]),
        )

        def value_at(distance, direction=direction):
            moved = tf.nest.map_structure(lambda start, along: start + distance * along, point, direction)
            for variable, weight in zip(rule.trainable_variables, moved.weights, strict=True):
                variable.assign(weight)
            return float(value(moved.parameters, moved.carry))

        difference = (value_at(1e-5) - value_at(-1e-5)) / 2e-5
        value_at(0.0)
        slopes = tf.nest.map_structure(lambda slope, along: np.sum(slope * along), gradient, direction)
        np.testing.assert_allclose(sum(tf.nest.flatten(slopes)), difference, rtol=2e-6, atol=1e-7)


# Derivatives ---------------------------------------------------------------------------------------------------------


def test_with_second_derivatives_the_meta_gradient_is_that_of_the_whole_program(make_rule):
    rule = make_rule("float64")
    _, gradient = meta_gradient(rule, second_derivatives=True)

    @tf.function
    def value(parameters, carry):
        result = unroll(rule, curved, parameters, STEPS, carry=carry)
        return score(result.losses, result.parameters, result.carry)

    assert_is_the_derivative(gradient, value, rule)


def test_without_second_derivatives_the_rule_is_told_constants(make_rule):
    """The program whose derivative is meant: the rule replays the gradients and losses that were recorded once."""
    rule = make_rule("float64")
    _, gradient = meta_gradient(rule, second_derivatives=False)
    told = inner_gradients(rule)

    @tf.function
    def value(parameters, carry):
        state, losses = rule.initial_state(4), []
        for step, (inner_gradient, inner_loss) in enumerate(told):
            loss, next_carry = curved(parameters, carry, tf.constant(step))
            losses.append(loss)
            offers = {"parameter": parameters, "loss": inner_loss, "step": tf.constant(step)}
            update, state = rule(inner_gradient, state, **{name: offers[name] for name in rule.needs})
            parameters, carry = parameters + update, next_carry
        return score(tf.stack(losses), parameters, carry)

    assert_is_the_derivative(gradient, value, rule)


def test_the_two_definitions_differ():
    """Else one of the two tests above would test nothing."""
    rule = RULES["gradient descent"]("float64")
    first, second = (meta_gradient(rule, second_derivatives=flag)[1].parameters for flag in (False, True))
    assert np.all(np.abs(first - second) > 1e-3)


def test_meta_gradient_for_the_initial_state():
    rule = Momentum(0.1, 0.5)
    state = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(state)
        result = unroll(rule, lambda p, c, s: (tf.reduce_sum(p), c), tf.zeros([2]), 3, state=state)
        total = tf.reduce_sum(result.parameters)
    # theta_3 = theta_0 + (0.5 + 0.25 + 0.125) v_0 + what does not depend on v_0
    np.testing.assert_allclose(tape.gradient(total, state), [0.875, 0.875])


def test_meta_gradient_for_what_else_the_loss_depends_on():
    """d/da of sum_t losses with loss = a * sum(theta), first order: each loss has its own factor a, no more."""
    scale = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(scale)
        result = unroll(GradientDescent(0.1), lambda p, c, s: (scale * tf.reduce_sum(p), c), tf.ones([2]), 2)
        total = tf.reduce_sum(result.losses)
    # theta: 1, then 1 - 0.1 * 3 = 0.7; two coordinates each
    np.testing.assert_allclose(tape.gradient(total, scale), 2 * (1.0 + 0.7), rtol=1e-6)


# Values --------------------------------------------------------------------------------------------------------------


def test_gradient_descent_by_pencil():
    def square(parameters, carry, step):
        return tf.reduce_sum(parameters**2), carry + 1

    result = unroll(GradientDescent(0.25), square, tf.constant([8.0, 0.0]), 3, carry=tf.constant(10), step=4)
    np.testing.assert_array_equal(result.losses, [64.0, 16.0, 4.0])
    np.testing.assert_array_equal(result.parameters, [1.0, 0.0])
    assert (int(result.carry), int(result.step), result.state) == (13, 7, ())


def test_a_rule_is_told_what_it_needs():
    """One step of the proximal rule at step 3, by pencil: loss = 2 theta, gradient 2, rate 0.05."""
    rule = ProximalDescent(dtype="float64")
    start = tf.constant([5.0], tf.float64)
    result = unroll(rule, lambda p, c, s: (2.0 * tf.reduce_sum(p), c), start, 1, step=3)
    np.testing.assert_allclose(result.parameters, [5.0 - 0.05 * (2.0 + 5.0 * 10.0) / 4], rtol=1e-6)


def test_a_rule_that_needs_segments_gets_them():
    seen = []

    class Asking(UpdateRule):
        needs = frozenset({"segments"})
        coordinatewise = False

        def initial_state(self, coordinates, segments=None):
            seen.append((coordinates, segments))
            return ()

        def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
            seen.append(segments)
            return -gradient, state

    segments = segments_of(["a", "b"], [(1, 2), (1,)])
    unroll(Asking(), lambda p, c, s: (tf.reduce_sum(p), c), tf.zeros([3]), 1, segments=segments)
    assert seen == [(3, segments), segments]


def test_the_loss_is_told_the_step():
    result = unroll(
        GradientDescent(0.1), lambda p, c, s: (tf.cast(s, tf.float32) + 0.0 * p[0], c), tf.zeros([1]), 3, step=10
    )
    np.testing.assert_array_equal(result.losses, [10.0, 11.0, 12.0])


def test_no_steps_change_nothing():
    start = tf.constant([1.0, 2.0])
    for run in (unroll, tf.function(unroll)):
        result = run(Adam(), lambda p, c, s: (tf.reduce_sum(p), c), start, 0, step=2)
        assert result.losses.shape == [0]
        assert int(result.step) == 2
        np.testing.assert_array_equal(result.parameters, start)


def test_the_number_of_steps_may_be_a_tensor():
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def run(steps):
        rate = rule.learning_rate.value
        with tf.GradientTape() as tape:
            result = unroll(rule, lambda p, c, s: (tf.reduce_sum(p), c), tf.zeros([1]), steps)
            total = tf.reduce_sum(result.losses)
        return result.losses, tape.gradient(total, rate)

    rule = GradientDescent(0.5)
    for steps in (1, 4):
        losses, gradient = run(tf.constant(steps))
        np.testing.assert_allclose(losses, -0.5 * np.arange(steps))  # theta_t = -rate * t
        np.testing.assert_allclose(gradient, -np.arange(steps).sum())


# Seams ---------------------------------------------------------------------------------------------------------------


def make_network(dropout):
    """A loss with batch normalisation and dropout, its parameters, and its carry: the non-trainable values."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input([3]),
            layers.Dense(4, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(dropout, seed=1),
            layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.01)),
        ]
    )
    pure = StatelessModel(model)
    x = tf.constant(np.random.default_rng(1).normal(size=[64, 3]), tf.float32)
    y = tf.reduce_sum(tf.sin(x), axis=1, keepdims=True)

    def loss(parameters, carry, step):
        rows = tf.random.stateless_uniform([16], tf.stack([7, step]), maxval=64, dtype=tf.int32)
        outputs, carry, penalties = pure(parameters, carry, tf.gather(x, rows))
        return tf.reduce_mean(tf.square(outputs - tf.gather(y, rows))) + penalties, carry

    return loss, pure.parameters(), pure.non_trainable()


@pytest.fixture(scope="module")
def network():
    return make_network(dropout=0.3)


def flat(result):
    return [np.array(leaf) for leaf in tf.nest.flatten(result._asdict())]


@pytest.mark.parametrize("name", RULES)
def test_single_steps_which_are_no_loop_are_a_loop_of_several(name):
    rule = RULES[name]("float64")

    @tf.function
    def run(stretches):
        start, carry = tf.constant(START), tf.constant(CARRY)
        with tf.GradientTape() as tape:
            tape.watch(start)
            state, step, parameters, losses = None, 0, start, []
            for steps in stretches:
                part = unroll(
                    rule, curved, parameters, steps, state=state, carry=carry, step=step, second_derivatives=True
                )
                parameters, state, carry, step = part.parameters, part.state, part.carry, part.step
                losses.append(part.losses)
            total = tf.reduce_sum(parameters**2) + tf.reduce_sum(tf.concat(losses, axis=0))
        return part._replace(losses=tf.concat(losses, axis=0)), tape.gradient(total, start)

    assert_same(run([1, 1, 1]), run([3]), rtol=1e-10)


@pytest.mark.parametrize(
    "rule",
    [Adam(0.05), Momentum(0.02, nesterov=True), CoordinatewiseLSTM(seed=0), ProximalDescent()],
    ids=lambda rule: type(rule).__name__,
)
def test_five_segments_of_twenty_steps_are_a_hundred_steps(network, rule):
    loss, parameters, carry = network

    @tf.function
    def stretch(steps, parameters, state, carry, step):
        return unroll(rule, loss, parameters, steps, state=state, carry=carry, step=step)

    state, step = rule.initial_state(parameters.shape[0]), tf.constant(0)
    whole = stretch(100, parameters, state, carry, step)
    losses = []
    for _ in range(5):
        part = stretch(20, parameters, state, carry, step)
        parameters, state, carry, step = part.parameters, part.state, part.carry, part.step
        losses.append(part.losses)
    joined = part._replace(losses=tf.concat(losses, axis=0))
    tf.nest.assert_same_structure(whole, joined)
    for one, other in zip(flat(whole), flat(joined), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert int(joined.step) == 100


def test_the_carry_makes_every_step_draw_its_own_dropout_mask():
    model = keras.Sequential([keras.Input([40]), keras.layers.Dropout(0.5), keras.layers.Dense(1, use_bias=False)])
    pure = StatelessModel(model)

    def loss(parameters, carry, step):
        outputs, carry, _ = pure(parameters, carry, tf.ones([1, 40]))
        return outputs[0, 0], carry

    result = unroll(GradientDescent(1e-9), loss, tf.ones([40]), 6, carry=pure.non_trainable())
    assert len(np.unique(result.losses.numpy().round(3))) >= 4  # 2 * Binomial(40, 1/2)


# No way of running it changes what it computes -----------------------------------------------------------------------


def assert_same(left, right, rtol=1e-5, atol=1e-6):
    for one, other in zip(tf.nest.flatten(left), tf.nest.flatten(right), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("second_derivatives", [False, True])
@pytest.mark.parametrize(
    "name", ["proximal", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lstm", "averaging lstm"))]
)
def test_recomputation_changes_neither_values_nor_gradients(name, second_derivatives):
    rule = RULES[name]("float64")
    kept, anew = (
        meta_gradient(rule, second_derivatives=second_derivatives, recompute=recompute) for recompute in (False, True)
    )
    assert_same(kept, anew, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("second_derivatives", [False, True])
def test_recomputation_of_a_network_with_a_carry(network, second_derivatives):
    loss, start, carry = network
    rule = random_lstm(chunks=1)

    @tf.function
    def run(recompute):
        weights = [variable.value for variable in rule.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(start)
            options = {"second_derivatives": second_derivatives, "recompute": recompute}
            result = unroll(rule, loss, start, 7, carry=carry, **options)
            total = tf.reduce_sum(result.losses)
        return result, tape.gradient(total, [*weights, start])

    assert_same(run(False), run(True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunks", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_the_number_of_chunks_changes_nothing(chunks):
    """Four coordinates: cut unevenly, and into fewer pieces than asked for."""
    whole = meta_gradient(random_lstm(chunks=1, dtype="float64"))
    assert_same(meta_gradient(random_lstm(chunks=chunks, dtype="float64")), whole, rtol=1e-9, atol=1e-12)


def test_chunks_hand_back_the_state_in_the_order_of_the_coordinates():
    results = [
        unroll(random_lstm(chunks=chunks), curved, tf.constant(START, tf.float32), 2, carry=tf.zeros([2]))
        for chunks in (1, 3)
    ]
    for one, other in zip(flat(results[0]), flat(results[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_eager_and_graph_agree(make_rule):
    rule = make_rule("float64")
    traced = meta_gradient(rule, second_derivatives=True)
    eager_functions = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        eager = meta_gradient(rule, second_derivatives=True)
    finally:
        tf.config.run_functions_eagerly(eager_functions)
    assert_same(eager, traced, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {"second_derivatives": True}),
        ("adam", {}),
        ("proximal", {"recompute": True}),
        pytest.param("lstm", {}, marks=pytest.mark.slow),
        pytest.param("adam", {"second_derivatives": True}, marks=pytest.mark.slow),
        pytest.param("lstm", {"recompute": True}, marks=pytest.mark.slow),
        pytest.param("averaging lstm", {"recompute": True, "second_derivatives": True}, marks=pytest.mark.slow),
        pytest.param("rmsprop", {"second_derivatives": True}, marks=pytest.mark.slow),
        pytest.param("nesterov", {}, marks=pytest.mark.slow),
        pytest.param("proximal", {"second_derivatives": True}, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value) or "plain",
)
def test_it_compiles_under_xla_to_the_same_values_and_gradients(name, options):
    rule = RULES[name]("float64")
    compiled, plain = (meta_gradient(rule, jit_compile, **options) for jit_compile in (True, False))
    assert_same(compiled, plain, rtol=1e-7, atol=1e-9)


def test_a_network_compiles_under_xla():
    # Without dropout: from one seed XLA draws other random floats than TensorFlow's own kernels do.
    loss, start, carry = make_network(dropout=0.0)
    rule = Momentum(0.05)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(start)
            result = unroll(rule, loss, start, 4, carry=carry, second_derivatives=True)
            total = tf.reduce_sum(result.losses)
        return result, tape.gradient(total, start)

    compiled, plain = tf.function(run, jit_compile=True)(), tf.function(run)()
    # XLA sums float32 in another order.
    assert_same(compiled, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_graph_does_not_grow_with_the_steps(recompute):
    def nodes(steps):
        def run(parameters):
            with tf.GradientTape() as tape:
                tape.watch(parameters)
                result = unroll(rule, curved, parameters, steps, carry=tf.zeros([2]), recompute=recompute)
                total = tf.reduce_sum(result.losses)
            return tape.gradient(total, parameters)

        graph = tf.function(run).get_concrete_function(tf.TensorSpec([4])).graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    rule = Adam()
    assert nodes(3) == nodes(300)


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [tf.zeros([3]), tf.zeros([1])], ids=["vector", "one number in a vector"])
def test_a_loss_that_is_not_a_scalar_is_refused(value):
    with pytest.raises(ValueError, match=r"(?s)`loss` must return a scalar.*Received: .*shape \(\d,\).*reduce_mean"):
        unroll(GradientDescent(), lambda p, c, s: (value + p[0], c), tf.zeros([3]), 1)


@pytest.mark.parametrize("shape", [[], [2, 3]])
def test_parameters_that_are_not_a_vector_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"(?s)`parameters` must be one vector.*Received: .*shape \(.*functional\.join"
    ):
        unroll(GradientDescent(), lambda p, c, s: (tf.reduce_sum(p), c), tf.zeros(shape), 1)


def test_a_rule_that_needs_the_unknown_is_refused():
    class Curious(GradientDescent):
        needs = frozenset({"hessian", "step"})

    with pytest.raises(ValueError, match=r"(?s)`rule\.needs` must be among .*'step'.*\['hessian'\] from Curious"):
        unroll(Curious(), lambda p, c, s: (tf.reduce_sum(p), c), tf.zeros([1]), 1)


def test_a_loss_that_ignores_the_parameters_moves_nothing():
    result = unroll(GradientDescent(), lambda p, c, s: (tf.constant(1.0), c), tf.ones([2]), 2)
    np.testing.assert_array_equal(result.parameters, [1.0, 1.0])
