"""What a run is made of: settings with their defaults and their help, by algorithm.

From here come the options of `tf-metalearn train` and the keys of configuration files. A setting of `[learner]` is an
argument of the learner's constructor. Nothing here imports TensorFlow, so that help and completion wait for nothing.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any


def setting(default: Any, explanation: str, least: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field of a section.

    Args:
        default: Its value when nothing is said.
        explanation: A sentence for help and for configuration files.
        least: The smallest number that it may be.
        choices: The only texts that it may be; any when empty.
    """
    return dataclasses.field(default=default, metadata={"explanation": explanation, "least": least, "choices": choices})


@dataclass(frozen=True)
class Data:
    """What tasks are drawn from."""

    data: str = setting(
        "omniglot", "Data set: a name that `tf-metalearn datasets` lists, or a folder of class folders."
    )
    ways: int = setting(5, "Classes in a task.", 2)
    shots: int = setting(1, "Support examples of a class.", 1)
    queries: int = setting(5, "Query examples of a class, in training.", 1)
    batch_size: int = setting(4, "Tasks in a training step.", 1)
    training_ways: int | None = setting(None, "Classes in a task of training; as in `ways` when left out.", 2)
    training_shots: int | None = setting(None, "Support examples of a class in training; as in `shots`.", 1)
    protocol: str | None = setting(None, "Of omniglot: vinyals, lake, small1 or small2.")
    image_size: int | None = setting(None, "Pixels of both sides; the data set's own when left out.", 1)
    invert: bool = setting(False, "Dark pixels of a folder's images become 1, as in omniglot: for ink on paper.")
    augment: bool = setting(True, "Shift, turn and scale training images at random; mirror those in colour.")
    unreadable: str = setting("fail", "What to do with damaged images of a folder.", choices=("fail", "skip"))


@dataclass(frozen=True)
class MetricData(Data):
    """Metric learners learn most from tasks of many classes."""

    batch_size: int = setting(1, "Tasks in a training step.", 1)
    training_ways: int | None = setting(None, "Classes in a task of training; when left out 20, or all there are.", 2)


@dataclass(frozen=True)
class ReptileData(Data):
    """Reptile learns from support sets alone, the larger the better."""

    training_shots: int | None = setting(10, "Support examples of a class in training.", 1)


@dataclass(frozen=True)
class ExampleData(Data):
    """The baseline learns from labelled examples of all classes."""

    batch_size: int = setting(64, "Examples in a training step.", 1)


@dataclass(frozen=True)
class Network:
    """The base learner, or the embedding."""

    network: str = setting("auto", "conv4, mlp, a .keras file, or auto: conv4 for images, mlp for everything else.")
    filters: int = setting(64, "Of each convolution of conv4.", 1)
    downsample: str = setting("stride", "How conv4 halves images.", choices=("stride", "average", "max"))
    normalization: str = setting("batch", "Of conv4.", choices=("batch", "layer", "group", "none"))
    hidden: tuple[int, ...] = setting((40, 40), "Units of the layers of mlp.", 1)


@dataclass(frozen=True)
class Training:
    """How long, and how fast."""

    epochs: int = setting(20, "Each ends with a validation and a checkpoint.", 1)
    steps: int = setting(250, "Updates in an epoch.", 1)
    learning_rate: float = setting(1e-3, "Of Adam at the start; it falls to 0 along a cosine.", 0)
    clip_norm: float | None = setting(None, "The largest norm of a gradient; larger ones are scaled to it.", 0)
    validation_episodes: int = setting(200, "Tasks of the validation after each epoch, always the same.", 2)
    seed: int = setting(0, "Decides initial weights and tasks.", 0)


@dataclass(frozen=True)
class ReptileTraining(Training):
    """Reptile's outer update is plain gradient descent."""

    learning_rate: float = setting(1.0, "Of gradient descent at the start; it falls to 0 along a cosine.", 0)


@dataclass(frozen=True)
class MetaLSTMTraining(Training):
    """A recurrent rule needs its gradient clipped."""

    clip_norm: float | None = setting(0.25, "The largest norm of a gradient; larger ones are scaled to it.", 0)


@dataclass(frozen=True)
class InnerLoop:
    """What all learners with an inner loop have."""

    inner_steps: int = setting(1, "Inner steps in training.", 0)
    evaluation_steps: int | None = setting(None, "Inner steps in evaluation; as in training when left out.", 0)
    transductive: bool = setting(False, "Normalise queries by their own statistics, as in MAML's published figures.")


@dataclass(frozen=True)
class MAML(InnerLoop):
    inner_learning_rate: float = setting(0.4, "Of the inner loop.", 0)
    first_order: bool = setting(False, "No second derivatives.")
    learned_rates: bool = setting(False, "Learn the inner rate of each variable and step.")
    multi_step_updates: int = setting(0, "So many updates at the start count the loss after every inner step.", 0)
    first_order_updates: int = setting(0, "So many updates at the start are first order.", 0)


@dataclass(frozen=True)
class MetaSGD(InnerLoop):
    inner_learning_rates: tuple[float, ...] = setting((0.005, 0.1), "Least and greatest inner rate at the start.", 0)
    first_order: bool = setting(False, "No second derivatives.")


@dataclass(frozen=True)
class Reptile(InnerLoop):
    inner_steps: int = setting(5, "Inner steps in training.", 0)
    evaluation_steps: int | None = setting(50, "Inner steps in evaluation.", 0)
    inner_learning_rate: float = setting(1e-3, "Of Adam in the inner loop.", 0)
    inner_batch_size: int = setting(10, "Support examples of an inner step.", 1)


@dataclass(frozen=True)
class MetaLSTM(InnerLoop):
    inner_steps: int = setting(5, "Inner steps in training.", 0)


@dataclass(frozen=True)
class FineTuning:
    method: str = setting("probe", "What learns on a task: a new head, or all.", choices=("probe", "full"))
    inner_steps: int = setting(100, "Steps on the support set.", 0)
    inner_learning_rate: float = setting(0.01, "Of Adam on the support set.", 0)


@dataclass(frozen=True)
class Prototypical:
    distance: str = setting("euclidean", "Between queries and prototypes.", choices=("euclidean", "cosine"))


@dataclass(frozen=True)
class Matching:
    full_context: bool = setting(False, "Embed in view of the whole support set.")
    processing_steps: int = setting(5, "Of attention, with full context.", 1)


@dataclass(frozen=True)
class NoSettings:
    """A learner whose network says it all."""


@dataclass(frozen=True)
class Problem:
    """What the optimizer is learned on."""

    problem: str = setting("digits", "What to train: quadratic, digits, mnist, cifar100, ... Unknown names list all.")
    hidden: tuple[int, ...] | None = setting(None, "Units of hidden layers; the problem's own when left out.", 1)
    activation: str | None = setting(None, "Of hidden layers, such as relu; the problem's own when left out.")
    problem_batch_size: int | None = setting(None, "Examples of an inner step; the problem's own when left out.", 1)


@dataclass(frozen=True)
class Rule:
    """The LSTM that takes the place of gradient descent."""

    preset: str = setting("paper", "The paper's LSTM, or that of its authors' code.", choices=("paper", "code"))
    preprocess: bool = setting(True, "Show it gradients as logarithm and sign.")


@dataclass(frozen=True)
class OptimizerTraining:
    """How long, and how fast."""

    epochs: int = setting(20, "Each ends with a validation and a checkpoint.", 1)
    steps: int = setting(50, "Episodes, fresh trainings of the problem, in an epoch.", 1)
    learning_rate: float = setting(3e-3, "Of Adam at the start; it falls to 0 along a cosine.", 0)
    clip_norm: float | None = setting(1.0, "The largest norm of a gradient; larger ones are scaled to it.", 0)
    unroll_length: int = setting(20, "Inner steps between two updates.", 1)
    episode_length: int = setting(100, "Inner steps of an episode.", 1)
    validation_episodes: int = setting(8, "Of the validation after each epoch, always the same.", 1)
    seed: int = setting(0, "Decides initial weights and episodes.", 0)


@dataclass(frozen=True)
class Algorithm:
    """What `tf-metalearn train NAME` trains.

    Args:
        summary: A line for help.
        learner: The name of its class in `tf_metalearn`.
        sections: Of its settings, by their names in configuration files.
    """

    summary: str
    learner: str
    sections: Mapping[str, type]


def _few_shot(learner: type, data: type = Data, training: type = Training) -> dict[str, type]:
    return {"data": data, "network": Network, "learner": learner, "training": training}


ALGORITHMS: dict[str, Algorithm] = {
    "l2l": Algorithm(
        "Learn an optimizer: an LSTM that takes the place of gradient descent (Andrychowicz et al. 2016).",
        "OptimizerTrainer",
        {"problem": Problem, "rule": Rule, "training": OptimizerTraining},
    ),
    "maml": Algorithm(
        "Learn initial parameters from which a few steps solve a task (Finn et al. 2017).", "MAML", _few_shot(MAML)
    ),
    "anil": Algorithm("MAML where only the last layer adapts (Raghu et al. 2020).", "ANIL", _few_shot(MAML)),
    "meta_sgd": Algorithm(
        "Learn initial parameters, and a rate for each (Li et al. 2017).", "MetaSGD", _few_shot(MetaSGD)
    ),
    "reptile": Algorithm(
        "Learn initial parameters without differentiating through the inner loop (Nichol et al. 2018).",
        "Reptile",
        _few_shot(Reptile, ReptileData, ReptileTraining),
    ),
    "meta_lstm": Algorithm(
        "Learn initial parameters, and the LSTM that trains them (Ravi & Larochelle 2017).",
        "MetaLSTM",
        _few_shot(MetaLSTM, training=MetaLSTMTraining),
    ),
    "fine_tuning": Algorithm(
        "The baseline: a classifier of all training classes, and a new head for each task.",
        "FineTuning",
        _few_shot(FineTuning, ExampleData),
    ),
    "prototypical": Algorithm(
        "Learn an embedding; a class is the mean of its examples (Snell et al. 2017).",
        "PrototypicalNetwork",
        _few_shot(Prototypical, MetricData),
    ),
    "siamese": Algorithm(
        "Learn an embedding and a distance of pairs; the most similar example decides (Koch et al. 2015).",
        "SiameseNetwork",
        _few_shot(NoSettings, MetricData),
    ),
    "matching": Algorithm(
        "Learn an embedding; attention votes for the support labels (Vinyals et al. 2016).",
        "MatchingNetwork",
        _few_shot(Matching, MetricData),
    ),
    "relation": Algorithm(
        "Learn feature maps, and the network that says how alike two are (Sung et al. 2018).",
        "RelationNetwork",
        _few_shot(NoSettings, MetricData),
    ),
}


class SettingError(ValueError):
    """A setting that cannot be.

    Args:
        name: Of the setting.
        must: What it must be, and what was received.
    """

    def __init__(self, name: str, must: str):
        super().__init__(f"`{name}` must be {must}")
        self.name, self.must = name, must


def fields(algorithm: str) -> dict[str, tuple[str, "dataclasses.Field[Any]"]]:
    """All settings of an algorithm.

    Args:
        algorithm: A name in `ALGORITHMS`.

    Returns:
        Section and field by the setting's name.

    >>> section, field = fields("maml")["inner_steps"]
    >>> section, field.default
    ('learner', 1)
    """
    sections = ALGORITHMS[algorithm].sections.items()
    return {field.name: (name, field) for name, section in sections for field in dataclasses.fields(section)}


def kind_of(section: type, name: str) -> tuple[type, bool, bool]:
    """What a setting holds.

    Args:
        section: A class of settings.
        name: Of a setting.

    Returns:
        int, float, str or bool; whether it is several of them; and whether it may be left empty.

    >>> kind_of(Network, "hidden"), kind_of(Data, "protocol")
    ((<class 'int'>, True, False), (<class 'str'>, False, True))
    """
    hint = typing.get_type_hints(section)[name]
    parts = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    [held] = [part for part in parts if part is not NoneType]
    several = typing.get_origin(held) is tuple
    return (typing.get_args(held)[0] if several else held), several, NoneType in parts


def checked(algorithm: str, name: str, value: Any) -> Any:
    """Returns a setting's value in its own type.

    Args:
        algorithm: A name in `ALGORITHMS`.
        name: Of the setting.
        value: From a configuration file or the command line.

    Raises:
        SettingError: If it cannot be.

    >>> checked("maml", "inner_learning_rate", 1)
    1.0
    >>> checked("maml", "ways", 1)
    Traceback (most recent call last):
    tf_metalearn.runs.settings.SettingError: `ways` must be a whole number, at least 2. Received: 1.
    """
    section, field = fields(algorithm)[name]
    kind, several, optional = kind_of(ALGORITHMS[algorithm].sections[section], name)
    if value is None and optional:
        return None
    values = list(value) if several and isinstance(value, list | tuple) else [value]
    if several and isinstance(value, list | tuple) is False:
        raise SettingError(name, _expectation(kind, several, field, value))
    found = [_as(kind, one) for one in values]
    least, choices = field.metadata["least"], field.metadata["choices"]
    if (
        not found
        or None in found
        or (choices and not set(found) <= set(choices))
        or (least is not None and any(not one >= least for one in found))
    ):
        raise SettingError(name, _expectation(kind, several, field, value))
    return tuple(found) if several else found[0]


def _as(kind: type, value: Any) -> Any:
    """A value as a type, None if it is another."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is kind else None


def _expectation(kind: type, several: bool, field: "dataclasses.Field[Any]", value: Any) -> str:
    least, choices = field.metadata["least"], field.metadata["choices"]
    what = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
    what = f"one of {', '.join(choices)}" if choices else f"a list of which each is {what}" if several else what
    return f"{what}{f', at least {least:g}' if least is not None else ''}. Received: {value!r}."
