"""Rules that ship with the package, by name, each with a model card beside it."""

import zipfile
from pathlib import Path

import keras

import tf_metalearn.rules  # noqa: F401  (registers the classes that the files name)
from tf_metalearn.rules.base import UpdateRule

DIRECTORY = Path(__file__).parent

#: The rule of `LearnedOptimizer()`.
DEFAULT_RULE = "default"


def rule_names() -> list[str]:
    """Returns the names of the shipped rules.

    >>> "andrychowicz2016" in rule_names()
    True
    """
    return sorted(path.stem for path in DIRECTORY.glob("*.keras"))


def load_rule(name: str | Path) -> UpdateRule:
    """Loads a rule.

    Args:
        name: A shipped rule's name, or the path of a `.keras` file.

    Returns:
        The rule with its trained weights.

    Raises:
        ValueError: If there is no such rule, or the file is not a whole rule.

    >>> load_rule("andrychowicz2016").units
    (20, 20)
    """
    path = Path(name)
    if path.suffix != ".keras":
        path = DIRECTORY / f"{name}.keras"
        if not path.exists():
            raise ValueError(
                f"`rule` must be the name of a shipped rule or a '.keras' file. Received: {str(name)!r}.\n"
                f"Shipped rules: {', '.join(rule_names())}."
            )
    elif not path.exists():
        raise ValueError(f"`rule` must be an existing file. Received: '{path}', which is not there.\nCheck the path.")
    try:
        rule = keras.saving.load_model(path)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"`rule` must be a '.keras' file that holds a whole update rule. Received: '{path}', which cannot be read "
            f"({error}).\nThe file is damaged, truncated, or of another version: save the rule again by `save_rule`."
        ) from error
    if not isinstance(rule, UpdateRule):
        raise ValueError(
            f"`rule` must be a file that holds an UpdateRule. Received: '{path}', a {type(rule).__name__}.\n"
            "For an OptimizerTrainer, save its `rule` by `save_rule`."
        )
    return rule


def save_rule(rule: UpdateRule, path: str | Path) -> None:
    """Saves a rule as a `.keras` file, written under a temporary name and then renamed.

    Args:
        rule: What to save, weights and configuration.
        path: Ends in `.keras`.

    >>> import tempfile
    >>> from tf_metalearn.rules import GradientDescent
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_rule(GradientDescent(0.5), f"{folder}/rule.keras")
    ...     float(load_rule(f"{folder}/rule.keras").learning_rate)
    0.5
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"`path` must end in '.keras'. Received: path='{path}'.\nTry '{path.with_suffix('.keras')}'.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.writing.keras")
    try:
        keras.saving.save_model(rule, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
