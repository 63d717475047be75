"""Different rules for different variables."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.functional import Segment, segments_of
from tf_metalearn.rules.base import UpdateRule


@keras.saving.register_keras_serializable("tf_metalearn")
class GroupedRule(UpdateRule):
    """Sends each variable to the first rule whose pattern is found in the variable's name.

    The paper's CIFAR experiment uses one LSTM for convolutional and another for dense variables.

    Args:
        rules: A mapping from a regular expression, searched in the variable's path, to a rule; order matters. End
            with `".*"` to catch the rest.
        name: Of the layer.
        dtype: Of the arithmetic.

    >>> from tf_metalearn.rules.gradient_descent import GradientDescent
    >>> rule = GroupedRule({"conv": GradientDescent(1.0), ".*": GradientDescent(0.1)})
    >>> variables = segments_of(["conv/kernel", "dense/bias"], [(2,), (1,)])
    >>> update, _ = rule(tf.ones([3]), rule.initial_state(3, variables), segments=variables)
    >>> update.numpy()
    array([-1. , -1. , -0.1], dtype=float32)

    Reference: Andrychowicz et al. 2016, section 3.3. https://arxiv.org/abs/1606.04474
    """

    def __init__(self, rules: dict[str, UpdateRule], name: str | None = None, dtype: Any = "float32", **kwargs: Any):
        super().__init__(name=name, dtype=dtype, **kwargs)
        if not isinstance(rules, dict) or not rules or not all(isinstance(r, UpdateRule) for r in rules.values()):
            raise ValueError(
                f"`rules` must map patterns to update rules. Received: a {type(rules).__name__}, rules={rules!r}.\n"
                "Try {'conv': a, '.*': b}."
            )
        for pattern in rules:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"`rules` must have regular expressions as keys. Received: {pattern!r} ({error}).\n"
                    "Escape special characters by a backslash."
                ) from error
        self.patterns = list(rules)
        self.rules = list(rules.values())

    coordinatewise = False

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What any of the rules needs, and the segments to tell variables apart."""
        return frozenset({"segments"}).union(*(rule.needs for rule in self.rules))

    def initial_state(self, coordinates, segments=None):
        return tuple(
            rule.initial_state(sum(segment.size for segment in group), group)
            for rule, group in zip(self.rules, self._groups(segments)[0], strict=True)
        )

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        groups, owners = self._groups(segments)
        gradients = self._deal(gradient, segments, owners)
        parameters = [None] * len(self.rules) if parameter is None else self._deal(parameter, segments, owners)
        updates, next_state = [], []
        for index, rule in enumerate(self.rules):
            offers = {"parameter": parameters[index], "loss": loss, "step": step, "segments": groups[index]}
            needed = {argument: value for argument, value in offers.items() if argument in rule.needs}
            update, rule_state = rule(gradients[index], state[index], **needed)
            updates.append(tf.split(update, [segment.size for segment in groups[index]]) if groups[index] else [])
            next_state.append(rule_state)
        piles = [iter(pile) for pile in updates]
        return tf.concat([next(piles[owner]) for owner in owners], axis=0), tuple(next_state)

    def _groups(self, segments: Sequence[Segment] | None) -> tuple[list[tuple[Segment, ...]], list[int]]:
        """Each rule's variables, laid end to end anew, and each variable's rule."""
        if segments is None:
            raise ValueError(
                "`segments` must name the variables behind the coordinates. Received: segments=None.\n"
                "Pass `segments=` to `unroll`; `OptimizerTrainer` and `LearnedOptimizer` do so by themselves."
            )
        owners = [self._owner(segment) for segment in segments]
        groups = []
        for index in range(len(self.rules)):
            mine = [segment for segment, owner in zip(segments, owners, strict=True) if owner == index]
            groups.append(segments_of([segment.name for segment in mine], [segment.shape for segment in mine]))
        return groups, owners

    def _owner(self, segment: Segment) -> int:
        for index, pattern in enumerate(self.patterns):
            if re.search(pattern, segment.name):
                return index
        raise ValueError(
            f"`rules` must have a pattern for every variable. Received: patterns {self.patterns}, none of which is "
            f"found in {segment.name!r}.\nEnd the mapping with '.*'."
        )

    def _deal(self, values: tf.Tensor, segments: Sequence[Segment], owners: list[int]) -> list[tf.Tensor]:
        """Cuts a vector by variable and lays each rule's pieces end to end."""
        pieces = tf.split(values, [segment.size for segment in segments])
        empty = values[:0]
        return [
            tf.concat([empty, *(p for p, owner in zip(pieces, owners, strict=True) if owner == index)], axis=0)
            for index in range(len(self.rules))
        ]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        rules = [[pattern, serialize(rule)] for pattern, rule in zip(self.patterns, self.rules, strict=True)]
        return {**super().get_config(), "rules": rules}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GroupedRule":
        rules = {pattern: keras.saving.deserialize_keras_object(rule) for pattern, rule in config["rules"]}
        return cls(**{**config, "rules": rules})
