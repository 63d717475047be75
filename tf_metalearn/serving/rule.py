"""Exports an update rule, for loops that are not Keras's."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_metalearn.pretrained import card, load_rule
from tf_metalearn.rules.base import UpdateRule
from tf_metalearn.serving import archive
from tf_metalearn.serving.export import write

EXAMPLES = """
## Ask it

A training loop holds the state: `initial_state` makes it, where there is one, and `update` returns the next one. The
next parameters are `parameters + update`. All parameters of a model stand end to end in one vector. Here is the loop
on the sum of squares; run it in the folder that `{name}` lies in:

```python
import tensorflow as tf

rule = tf.saved_model.load("{name}/1").signatures
parameters = tf.ones([{coordinates}], "{dtype}")
state = {state}
for step in range(100):
    outputs = rule["update"](gradient=2 * parameters{needed}, **state)
    parameters += outputs.pop("update")
    state = outputs
print(f"Sum of squares: {{tf.reduce_sum(parameters**2).numpy():.2g}}")
```
"""

#: What the example gives to rules that need more than the gradient.
NEEDED = {
    "parameter": ", parameter=parameters",
    "loss": ", loss=tf.reduce_sum(parameters**2)",
    "step": ", step=tf.constant(step, tf.int64)",
}


def export_rule(rule: UpdateRule | str, path: str | Path, about: str = "") -> Path:
    """Writes a rule, learned or not, as a SavedModel that needs neither Keras nor this library.

    Args:
        rule: What to export, or the name of a shipped one. One that needs "segments", the names of variables, has
            nothing to know them by.
        path: Of the version, such as "served/my_rule/1". It must not be there yet.
        about: Markdown for the README; that of a shipped rule is its card when left out.

    Returns:
        The version's folder, with the signatures `update` (`serving_default` is the same) and, of a rule with a state,
        `initial_state`.

    Raises:
        ValueError: If the path does not end in a number or is there already, or the rule needs segments.

    >>> import tempfile
    >>> from tf_metalearn.rules import GradientDescent
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     version = export_rule(GradientDescent(0.5), f"{folder}/my_rule/1")
    ...     rule = tf.saved_model.load(str(version)).signatures
    >>> rule["update"](gradient=tf.constant([1.0, -4.0]))["update"].numpy()
    array([-0.5,  2. ], dtype=float32)
    """
    version = archive.check_version_folder(path)
    if isinstance(rule, str):
        rule, about = load_rule(rule), about or card(rule)
    if "segments" in rule.needs:
        raise ValueError(
            f"`rule` must not need 'segments'. Received: {rule!r}, which does.\n"
            "Export the rules that it is made of, one by one."
        )
    gradient = tf.TensorSpec([None], rule.dtype, "gradient")
    state = rule.initial_state(2)
    names = [f"state_{place}" for place, _ in enumerate(tf.nest.flatten(state))]
    specs = [
        tf.TensorSpec([None, *value.shape[1:]], value.dtype, name)
        for name, value in zip(names, tf.nest.flatten(state), strict=True)
    ]
    offered = {
        "parameter": tf.TensorSpec([None], rule.dtype, "parameter"),
        "loss": tf.TensorSpec([], rule.dtype, "loss"),
        "step": tf.TensorSpec([], tf.int64, "step"),
    }
    needed = sorted(rule.needs)

    def named(state: Any) -> dict[str, tf.Tensor]:
        return dict(zip(names, map(tf.identity, tf.nest.flatten(state)), strict=True))

    @tf.function(input_signature=[gradient, *specs, *(offered[need] for need in needed)])
    def update(gradient, *inputs):
        packed = tf.nest.pack_sequence_as(state, inputs[: len(names)])
        moved, after = rule(gradient, packed, **dict(zip(needed, inputs[len(names) :], strict=True)))
        return {"update": moved, **named(after)}

    @tf.function(input_signature=[gradient])
    def initial_state(gradient):
        return named(rule.initial_state(tf.shape(gradient)[0]))

    random = np.random.default_rng(0)
    requests, expected = [], {}
    # A rule with a rate for each parameter of one model moves that model alone.
    fixed = getattr(rule, "coordinates", None)
    for place, coordinates in enumerate((1, 1000) if fixed is None else (fixed,)):
        values = {
            "gradient": random.normal(size=coordinates),
            "parameter": random.normal(size=coordinates),
            "loss": np.array(1.0),
            "step": np.array(0),
        }
        arrays = {name: np.asarray(values[name], offered[name].dtype.name) for name in needed}
        arrays["gradient"] = values["gradient"].astype(rule.dtype)
        start = rule.initial_state(coordinates)
        requests.append(("update", {**arrays, **{name: value.numpy() for name, value in named(start).items()}}))
        inputs = {name: tf.constant(arrays[name]) for name in needed}
        expected[f"{place}/update"] = rule(tf.constant(arrays["gradient"]), start, **inputs)[0].numpy()
    signatures = {"serving_default": update, "update": update}
    if names:
        signatures["initial_state"] = initial_state
        requests.append(("initial_state", {"gradient": np.zeros(fixed or 3, rule.dtype)}))
    variables = [variable.value for variable in rule.variables]
    examples = EXAMPLES.format(
        name=version.parent.name,
        coordinates=fixed or 2,
        dtype=rule.dtype,
        state='rule["initial_state"](gradient=parameters)' if names else "{}",
        needed="".join(NEEDED[need] for need in needed),
    )
    return write(version, signatures, variables, requests, expected, about, examples)
