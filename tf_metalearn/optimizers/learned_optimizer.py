"""An update rule as a Keras optimizer."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_metalearn.functional import segments_of
from tf_metalearn.optimizers.rows import Everything, UsedRows
from tf_metalearn.rules.base import UpdateRule, join_coordinates

#: What may be done about a gradient that is infinite or not a number.
NON_FINITE = ("raise", "skip", "zero")


@keras.saving.register_keras_serializable("tf_metalearn")
class LearnedOptimizer(keras.optimizers.Optimizer):
    """Any update rule, learned or made by hand, as a Keras optimizer: `model.compile(optimizer=LearnedOptimizer())`.

    All coordinates of all variables go through the rule as one batch, in the rule's own precision. The rule's weights
    are not among the optimizer's variables and do not move. They are saved with a model (`.keras`), and travel in
    `get_config` unless the rule is a shipped one, given by name.

    Rows of an embedding that a batch does not use keep their weights and their state. Three of Keras's options move
    them nonetheless, as under every Keras optimizer: weight decay and moving averages reach all rows; and gradient
    accumulation and global clipping hand over dense gradients, where a row counts as unused if its gradient is zero.

    Args:
        rule: An `UpdateRule`, or the name of a shipped one or the path of a `.keras` file, or None for the one that
            ships as the default. Rules that need the loss cannot work here: Keras tells optimizers nothing but
            gradients.
        learning_rate: What the rule's updates are multiplied by, a float or a schedule. Rules know their own scale.
        non_finite: What happens when a gradient is infinite or not a number. "raise": an error, before anything has
            moved; XLA cannot raise, so under `jit_compile=True` such steps are left out and `fit` raises at its end;
            a loop of your own looks at `skipped_steps`.
            "skip": the step is left out, weights and state stay; the iteration counts. "zero": such entries count as
            zero. Under mixed float16 Keras's loss scaling skips such steps before they come here.
        weight_decay: As of any Keras optimizer, like the following arguments.
        clipnorm: The norm to which each variable's gradient is clipped.
        clipvalue: The value to which each coordinate's gradient is clipped.
        global_clipnorm: The norm to which all gradients are clipped together. Keras clips on each replica of a
            distribution strategy, before gradients are summed.
        use_ema: Whether a moving average of the weights is kept.
        ema_momentum: Of the moving average.
        ema_overwrite_frequency: After how many steps the average replaces the weights.
        loss_scale_factor: A constant that the loss is multiplied by and the gradients are divided by.
        gradient_accumulation_steps: Over how many batches gradients are averaged before a step.
        name: Of the optimizer.

    Raises:
        ValueError: If the rule needs the loss, or an argument is not one of the above.

    >>> from tf_metalearn.rules import GradientDescent
    >>> weight = keras.Variable([1.0, 2.0])
    >>> optimizer = LearnedOptimizer(GradientDescent(0.5))
    >>> optimizer.apply([tf.constant([2.0, 2.0])], [weight])
    >>> weight.numpy()
    array([0., 1.], dtype=float32)

    Reference: Andrychowicz et al. 2016. https://arxiv.org/abs/1606.04474
    """

    def __init__(
        self,
        rule: UpdateRule | str | None = None,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1.0,
        non_finite: str = "raise",
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "learned_optimizer",
        **kwargs: Any,
    ):
        if not isinstance(learning_rate, float) and not callable(learning_rate):
            remedy = f"Write {float(learning_rate)!r}." if isinstance(learning_rate, int) else "1.0 is the default."
            raise ValueError(
                "`learning_rate`, which multiplies the rule's updates, must be a float or a schedule. "
                f"Received: learning_rate={learning_rate!r}.\n{remedy}"
            )
        if non_finite not in NON_FINITE:
            raise ValueError(
                f"`non_finite` must be one of {NON_FINITE}. Received: non_finite={non_finite!r}.\n"
                "'raise' is the default."
            )
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
            **kwargs,
        )
        self._rule_name: str | None = None
        if rule is None or isinstance(rule, str):
            from tf_metalearn.pretrained import DEFAULT_RULE, load_rule

            name_or_path = DEFAULT_RULE if rule is None else rule
            rule = load_rule(name_or_path)
            # A file may move or change; what ships does not.
            self._rule_name = None if name_or_path.endswith(".keras") else name_or_path
        if not isinstance(rule, UpdateRule):
            raise ValueError(
                f"`rule` must be an UpdateRule, the name of a shipped rule, or None. Received: rule={rule!r}.\n"
                "For an optimizer of Keras's own, compile the model with it directly."
            )
        if "loss" in rule.needs:
            raise ValueError(
                "`rule` must not need the loss: Keras hands an optimizer gradients only. "
                f"Received: rule={type(rule).__name__}, which needs {sorted(rule.needs)}.\n"
                "Use it through `OptimizerTrainer` or `unroll`, which know the loss."
            )
        self.rule = rule
        self.non_finite = non_finite
        self._slots: list[list[keras.Variable]] = []
        self._sparse: set[str] = set()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the rule's state, some slots for each variable.

        Args:
            variables: What will be optimized.
        """
        if self.built:
            self._check_variables_are_known(variables)
            return
        if tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context():
            raise ValueError(
                "The optimizer must be built before replicas use it. Received: a first step inside `strategy.run`.\n"
                "Call `optimizer.build(model.trainable_variables)` in `strategy.scope()` first."
            )
        # `fit` may come here while it traces its function; initial values need real tensors.
        with tf.init_scope():
            super().build(variables)
            self._paths = [getattr(variable, "path", variable.name) for variable in variables]
            #: How many steps were left out because of gradients that were not finite.
            self.skipped_steps = self.add_variable((), dtype="int32", name="skipped_steps")
            self._slots = [
                self._make_slots(variable, path) for variable, path in zip(variables, self._paths, strict=True)
            ]

    def _make_slots(self, variable, path):
        segments = segments_of([path], [variable.shape])
        state = self.rule.initial_state(segments[0].size, segments)
        structure = tf.nest.map_structure(lambda leaf: 0, state)
        # A function, because Keras rewraps lists that it sees in an attribute.
        self._pack_state = lambda leaves: tf.nest.pack_sequence_as(structure, leaves)
        return [
            self.add_variable(
                leaf.shape,
                initializer=lambda shape, dtype, leaf=leaf: tf.cast(leaf, dtype),
                dtype=leaf.dtype.name,
                name=f"{path.replace('/', '_')}_state_{index}",
            )
            for index, leaf in enumerate(tf.nest.flatten(state))
        ]

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Moves variables by their gradients.

        Args:
            grads: One tensor, `tf.IndexedSlices` or None a variable.
            trainable_variables: The variables; those that the optimizer was built with, or some of them.
        """
        # Keras makes sparse gradients dense when it accumulates or clips them; here they can still be told apart.
        known = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        for gradient, variable in zip(grads, known, strict=False):
            if isinstance(gradient, tf.IndexedSlices):
                self._sparse.add(self._var_key(variable))
        if self.loss_scale_factor is not None:
            # Keras divides gradients by the scale, which sparse ones do not support.
            grads = [tf.convert_to_tensor(g) if isinstance(g, tf.IndexedSlices) else g for g in grads]
        super().apply(grads, None if trainable_variables is None else known)

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Ends training, as Keras's `fit` does: averages replace weights, and errors held back under XLA are raised."""
        super().finalize_variable_values(var_list)
        if self.built and self.non_finite == "raise" and self.skipped_steps.numpy():
            count = int(self.skipped_steps.numpy())
            self.skipped_steps.assign(0)
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Gradients must be finite. Received: infinite or NaN gradients in {count} steps, which were left out "
                f"(XLA cannot raise at the step itself).\n{_REMEDY}",
            )

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "non_finite": self.non_finite}
        if self._rule_name is not None:
            return {**config, "rule": self._rule_name}
        serialize = keras.saving.serialize_keras_object
        # A rule's weights are to a model's training what a learning rate is: without them it is another optimizer.
        return {**config, "rule": serialize(self.rule), "rule_weights": serialize(self.rule.get_weights())}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "LearnedOptimizer":
        config = dict(config)
        weights = config.pop("rule_weights", None)
        if isinstance(config.get("rule"), dict):
            config["rule"] = keras.saving.deserialize_keras_object(config["rule"], custom_objects=custom_objects)
        if weights is not None:
            # Scalars come back as plain numbers.
            config["rule"].set_weights([np.asarray(w) for w in keras.saving.deserialize_keras_object(weights)])
        return super().from_config(config, custom_objects)

    def _check_variables_are_known(self, variables):
        unknown = [v for v in variables if self._var_key(v) not in self._trainable_variables_indices]
        if unknown:
            raise ValueError(
                "`variables` must be among those that the optimizer was built with, since it keeps a state for each. "
                f"Received: {[getattr(v, 'path', v.name) for v in unknown]}, unknown to {self.name!r}.\n"
                "Make a new LearnedOptimizer for another model, or after unfreezing layers."
            )

    def _clip_gradients(self, grads):
        if self.non_finite == "zero":
            # Before clipping, which would spread one entry over all.
            grads = [_map_values(lambda v: tf.where(tf.math.is_finite(v), v, tf.zeros_like(v)), g) for g in grads]
        elif self.clipvalue:
            # An infinite gradient clipped to a value would go unnoticed.
            return [_map_values(self._clip_finite, g) for g in grads]
        return super()._clip_gradients(grads)

    def _clip_finite(self, values):
        clipped = tf.clip_by_value(values, -self.clipvalue, self.clipvalue)
        return tf.where(tf.math.is_finite(values), clipped, tf.constant(float("nan"), values.dtype))

    def _apply_weight_decay(self, variables):
        """Leaves it to `_step`, which knows whether there will be a step."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        variables = [v.value if isinstance(v, keras.Variable) else v for v in trainable_variables]
        gradients = [g for g, _ in self._all_reduce_sum_gradients(zip(grads, variables, strict=True))]

        def update_replicas(strategy, gradients, variables, learning_rate):
            # One update for all variables: a rule may look across them. Within it every replica reads and writes its
            # own copy of each variable, though only the first one is named.
            strategy.extended.update(
                variables[0],
                lambda _, gradients, learning_rate: self._guarded_step(gradients, variables, learning_rate),
                args=(gradients, learning_rate),
                group=False,
            )

        tf.__internal__.distribute.interim.maybe_merge_call(
            update_replicas, self._distribution_strategy, gradients, variables, learning_rate
        )

    def _guarded_step(self, gradients, variables, learning_rate):
        """A step, unless the gradients are not finite."""
        if self.non_finite == "zero":
            self._step(gradients, variables, learning_rate)
            return
        finite = [tf.reduce_all(tf.math.is_finite(_values(gradient))) for gradient in gradients]

        def step():
            self._step(gradients, variables, learning_rate)
            return tf.constant(True)

        def refuse():
            checks = []
            if self.non_finite == "raise":
                names = [self._paths[self._get_variable_index(variable)] for variable in variables]
                message = (
                    f"Gradients must be finite. Received: infinite or NaN gradients. Of the variables {names} those "
                    f"marked 0 have them. Nothing has moved.\n{_REMEDY}"
                )
                checks = [tf.debugging.Assert(False, [message, tf.cast(finite, tf.int32)], summarize=-1)]
            # XLA leaves out the assertion; there this count is what `finalize_variable_values` goes by.
            with tf.control_dependencies([check for check in checks if check is not None]):
                self.assign_add(self.skipped_steps, 1)
            return tf.constant(False)

        tf.cond(tf.reduce_all(finite), step, refuse)

    def _step(self, gradients, variables, learning_rate):
        """Moves variables and their states, on one replica."""
        if self.weight_decay is not None:
            for variable in filter(self._use_weight_decay, variables):
                decay = tf.cast(self.weight_decay, variable.dtype) * tf.cast(learning_rate, variable.dtype)
                variable.assign_sub(variable * decay)

        indices = [self._get_variable_index(variable) for variable in variables]
        slots = [[slot.value for slot in self._slots[index]] for index in indices]
        rule_dtype = self.rule.compute_dtype
        picks = [self._pick(gradient, variable) for gradient, variable in zip(gradients, variables, strict=True)]
        values = [pick.read(variable) for pick, variable in zip(picks, variables, strict=True)]
        states = [[pick.read(slot) for slot in own] for pick, own in zip(picks, slots, strict=True)]

        offers = {
            "parameter": lambda: tf.concat([tf.cast(tf.reshape(value, [-1]), rule_dtype) for value in values], axis=0),
            "step": lambda: tf.cast(self.iterations, tf.int32),
            "segments": lambda: segments_of([self._paths[index] for index in indices], [v.shape for v in variables]),
        }
        update, new_state = self.rule(
            tf.concat([tf.cast(tf.reshape(pick.gradient, [-1]), rule_dtype) for pick in picks], axis=0),
            self._pack_state(join_coordinates(states)),
            **{name: offers[name]() for name in self.rule.needs},
        )
        update *= tf.cast(learning_rate, update.dtype)

        for pick, variable, value, move in zip(picks, variables, values, _split_like(values, update), strict=True):
            pick.write(variable, value, value + tf.cast(move, value.dtype))
        for position, leaf in enumerate(tf.nest.flatten(new_state)):
            old = [state[position] for state in states]
            for pick, own, before, after in zip(picks, slots, old, _split_like(old, leaf), strict=True):
                pick.write(own[position], before, tf.cast(after, before.dtype))

    def _pick(self, gradient, variable):
        if self._var_key(variable) not in self._sparse:
            return Everything(gradient)
        if isinstance(gradient, tf.IndexedSlices):
            # Rules that look across coordinates or variables see whole variables, whatever the batch uses of them.
            if self.rule.coordinatewise and "segments" not in self.rule.needs:
                return UsedRows(gradient, variable.shape)
            rows = tf.math.unsorted_segment_sum(tf.ones_like(gradient.indices), gradient.indices, variable.shape[0])
            return Everything(
                tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0]), used=rows > 0
            )
        return Everything(gradient, used=tf.reduce_any(gradient != 0, axis=range(1, gradient.shape.rank)))


_REMEDY = (
    "Lower the learning rate or clip gradients, look for overflow or log(0) in the loss, or choose non_finite='skip' "
    "or 'zero'."
)


def _values(gradient):
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _map_values(function, gradient):
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(function(gradient.values), gradient.indices, gradient.dense_shape)
    return function(tf.convert_to_tensor(gradient))


def _split_like(pieces, joined):
    """Cuts along the first axis a tensor that was made of pieces, and gives each its piece's shape again."""
    width = joined.shape[1:].num_elements()
    sizes = [tf.size(piece) if None in piece.shape else piece.shape.num_elements() for piece in pieces]
    parts = tf.split(joined, [size // width for size in sizes])
    return [tf.reshape(part, tf.shape(piece)) for part, piece in zip(parts, pieces, strict=True)]
