"""Rules and learners that ship with the package, by name, each with a model card beside it."""

import json
import zipfile
from pathlib import Path
from typing import Any

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
    return _names("rules")


def learner_names() -> list[str]:
    """Returns the names of the shipped learners.

    >>> "omniglot_prototypical" in learner_names()
    True
    """
    return _names("learners")


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
    rule = _open(name, "rule", rule_names())
    if not isinstance(rule, UpdateRule):
        raise ValueError(
            f"`rule` must be a file that holds an UpdateRule. Received: '{name}', a {type(rule).__name__}.\n"
            "For an OptimizerTrainer, save its `rule` by `save_rule`; a learner is loaded by `load`."
        )
    return rule


def load(name: str | Path) -> keras.Model:
    """Loads a few-shot learner.

    Args:
        name: A shipped learner's name, or the path of a `.keras` file.

    Returns:
        The learner, ready to `adapt`, `evaluate` and `fit`.

    Raises:
        ValueError: If there is no such learner, or the file is not a whole model.

    >>> load("omniglot_prototypical").embedding.input_shape
    (None, 28, 28, 1)
    """
    learner = _open(name, "learner", learner_names())
    if not isinstance(learner, keras.Model):
        raise ValueError(
            f"`learner` must be a file that holds a model. Received: '{name}', a {type(learner).__name__}.\n"
            "A rule is loaded by `load_rule`."
        )
    return learner


def load_any(name: str | Path) -> keras.Model | UpdateRule:
    """Loads a rule, a learner or a classifier.

    Args:
        name: A shipped rule's or learner's name, or the path of a `.keras` file.

    Raises:
        ValueError: If there is no such thing, or the file is not whole.

    >>> [type(load_any(name)).__name__ for name in ("andrychowicz2016", "omniglot_maml_5way_1shot")]
    ['CoordinatewiseLSTM', 'MAML']
    """
    return _open(name, "model", [*learner_names(), *rule_names()])


def card(name: str | Path) -> str:
    """Returns the card of a shipped rule or learner without its title, as Markdown; empty text of others.

    Args:
        name: As `load_any` has it.

    >>> "Omniglot" in card("omniglot_prototypical"), card("my_learner.keras")
    (True, '')
    """
    path = DIRECTORY / f"{name}.md"
    return path.read_text(encoding="utf-8").partition("\n")[2].strip() if path.exists() else ""


def _names(package: str) -> list[str]:
    """The shipped files whose classes come from a package of this library."""
    found = []
    for path in DIRECTORY.glob("*.keras"):
        with zipfile.ZipFile(path) as archive:
            module = json.loads(archive.read("config.json"))["module"]
        if module is None or module.split(".")[1] == package:
            found.append(path.stem)
    return sorted(found)


def _open(name: str | Path, what: str, known: list[str]) -> Any:
    path = Path(name)
    if path.suffix != ".keras":
        path = DIRECTORY / f"{name}.keras"
        if not path.exists():
            raise ValueError(
                f"`{what}` must be the name of a shipped {what} or a '.keras' file. Received: {str(name)!r}.\n"
                f"Shipped {what}s: {', '.join(known)}."
            )
    elif not path.exists():
        raise ValueError(f"`{what}` must be an existing file. Received: '{path}', which is not there.\nCheck the path.")
    elif not zipfile.is_zipfile(path):
        raise ValueError(
            f"`{what}` must be a whole '.keras' file. Received: '{path}', which cannot be read.\n"
            f"The file is something else, or cut short: save the {what} again."
        )
    try:
        return keras.saving.load_model(path)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"`{what}` must be a whole '.keras' file of this library. Received: '{path}', which cannot be read "
            f"({error}).\nThe file is damaged, truncated, or of another version: save the {what} again."
        ) from error


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
