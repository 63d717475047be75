"""Makes what a configuration says: learner or trainer, and the tasks that it sees."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_metalearn import backbones, learners, problems
from tf_metalearn.episodes import Augmentation, load_classes, load_episodes, load_examples, prepared
from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.load import SINUSOIDS
from tf_metalearn.episodes.sources import SOURCES
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.learners.metric import MetricLearner
from tf_metalearn.optimizers.trainer import OptimizerTrainer
from tf_metalearn.rules import CoordinatewiseLSTM
from tf_metalearn.runs.config import Config
from tf_metalearn.runs.settings import ALGORITHMS

#: Query examples of a class in validation and tests, as in the papers.
QUERIES = 15
#: Classes in a training task of metric learners.
METRIC_WAYS = 20


@dataclass(frozen=True)
class Built:
    """What a run works with.

    Args:
        model: A compiled learner or `OptimizerTrainer`.
        training: The data of training from an epoch on; None if the model draws its own.
        validation: The data of validation.
        updates: Meta-updates in an epoch.
        sums: What was read: classes, examples and a checksum by split.
        tasks: What each split is seen in, in words; empty for an optimizer.
        pictures: How they are read, in words; empty if there are none.
        ways: Classes in a task of "training" and of "validation"; empty if there are none.
    """

    model: keras.Model
    training: Callable[[int], Any] | None
    validation: Any
    updates: int
    sums: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[str, str]
    pictures: str = ""
    ways: Mapping[str, int] = dataclasses.field(default_factory=dict)


def build(config: Config, data_dir: str | None = None) -> Built:
    """Makes what a configuration says.

    Args:
        config: The settings of a run.
        data_dir: Where data sets are.

    Raises:
        ValueError: If settings do not fit each other or the data.
    """
    keras.utils.set_random_seed(config.values["seed"])
    return _build_trainer(config) if config.algorithm == "l2l" else _build_learner(config, data_dir)


def problem_of(config: Config, split: str) -> problems.Problem:
    """Makes the problem that an optimizer is learned on.

    Args:
        config: The settings of a run.
        split: Of its data.
    """
    names = {"hidden": "hidden", "activation": "activation", "batch_size": "problem_batch_size"}
    options = {option: config.values[name] for option, name in names.items() if config.values[name] is not None}
    return problems.make(config.values["problem"], split=split, **options)


def _build_trainer(config: Config) -> Built:
    values = config.values
    rule = CoordinatewiseLSTM(values["preset"], preprocess=values["preprocess"], seed=values["seed"])
    trainer = OptimizerTrainer(
        rule,
        problem_of(config, "train"),
        problem_of(config, "validation"),
        values["unroll_length"],
        values["episode_length"],
        values["validation_episodes"],
        seed=values["seed"],
    )
    updates = values["steps"] * (trainer.episode_length // trainer.unroll_length)
    trainer.compile(optimizer=_optimizer(config, updates))
    return Built(trainer, None, None, updates, {}, {})


def _build_learner(config: Config, data_dir: str | None) -> Built:
    values = config.values
    if values["data"] == SINUSOIDS:
        tables: dict[str, Any] = {}
        shape: tuple[int, ...] = (1,)
    else:
        tables = {split: read(values, split, data_dir) for split in ("train", "validation")}
        _check_classes(config, tables)
        shape = _shape(tables["train"])
    learner = _learner(config, shape, tables.get("train"))
    learner.ink = values["invert"] or (values["data"] in SOURCES and SOURCES[values["data"]].ink)
    learner.compile(_optimizer(config, values["steps"]), loss=None if tables else "mse")

    shots, ways = values["training_shots"] or values["shots"], values["training_ways"] or values["ways"]
    if isinstance(learner, MetricLearner) and values["training_ways"] is None:
        # They learn most from tasks of many classes.
        ways = max(ways, min(METRIC_WAYS, len(tables["train"].names)))

    def training(epoch: int) -> Any:
        count = values["steps"] * values["batch_size"]
        left = (values["epochs"] - epoch) * count
        changes = _augmentation(values["augment"], shape)
        arguments = {"batch_size": values["batch_size"], "seed": values["seed"], "start": epoch * count}
        if config.algorithm == "fine_tuning":
            return load_examples(tables["train"], augmentation=changes, examples=left, **arguments)
        if not tables:
            return load_episodes(SINUSOIDS, "train", 1, shots, values["queries"], episodes=left, **arguments)
        return load_episodes(
            tables["train"], None, ways, shots, values["queries"], episodes=left, augmentation=changes, **arguments
        )

    source = tables.get("validation", SINUSOIDS)
    validation = evaluation_tasks(source, values, values["validation_episodes"], values["seed"])
    sums = {split: checksum(table) for split, table in tables.items()}
    if not tables:
        tasks = {"train": f"sine waves of {shots} support and {values['queries']} query points"}
    elif config.algorithm == "fine_tuning":
        tasks = {"train": f"batches of {values['batch_size']} examples"}
    else:
        tasks = {"train": f"{ways}-way {shots}-shot tasks of {values['queries']} queries a class"}
    if tables:
        tasks["validation"] = f"{values['ways']}-way {values['shots']}-shot tasks"
    pictures = ""
    if len(shape) == 3:
        colour, bright = "grey" if shape[-1] == 1 else "in colour", "dark" if learner.ink else "light"
        pictures = f"{shape[1]} x {shape[0]}, {colour}, {bright} pixels as 1"
    counts = {"training": ways, "validation": values["ways"]} if tables else {}
    if config.algorithm == "fine_tuning":
        counts["training"] = len(tables["train"].names)
    return Built(learner, training, validation, values["steps"], sums, tasks, pictures, counts)


def settled(config: Config, data_dir: str | None) -> Config:
    """Returns a configuration whose folder of data is found from everywhere.

    Args:
        config: The settings of a run.
        data_dir: Where data sets are.
    """
    data = config.values.get("data")
    if data is None or not is_folder(data, data_dir):
        return config
    return Config(config.algorithm, {**config.values, "data": str(Path(data).expanduser().resolve())})


def is_folder(data: str, data_dir: str | None) -> bool:
    """Whether data is a folder of class folders, rather than a data set by name.

    Args:
        data: What a configuration says.
        data_dir: Where data sets are.
    """
    return data not in SOURCES and not prepared.find(data, data_dir) and Path(data).expanduser().is_dir()


def read(values: Mapping[str, Any], split: str, data_dir: str | None) -> ClassTable:
    """Reads the classes of a split.

    Args:
        values: Settings, of which those of the data count.
        split: As `load_classes` has it.
        data_dir: Where data sets are.

    Raises:
        ValueError: If the data cannot be read so.
    """
    options = {name: values[name] for name in ("protocol", "image_size", "unreadable")}
    if values["invert"] and not is_folder(values["data"], data_dir):
        raise ValueError(
            f"`invert` must be left out unless the data is a folder. Received: data={values['data']!r}.\n"
            "Data sets with names are read as they are known to be."
        )
    table = load_classes(values["data"], split, data_dir=data_dir, **options)
    return dataclasses.replace(table, examples=255 - table.examples) if values["invert"] else table


def evaluation_tasks(
    source: Any, values: Mapping[str, Any], episodes: int, seed: int, split: str = "validation"
) -> Any:
    """Tasks to evaluate on, always the same.

    Args:
        source: A `ClassTable`, or "sinusoids".
        values: Settings, of which `ways` and `shots` count.
        episodes: How many.
        seed: Which.
        split: Of sine waves.
    """
    if source == SINUSOIDS:
        return load_episodes(source, split, 1, values["shots"], 100, 16, seed, episodes=episodes)
    if not source.names:
        raise ValueError(
            f"`split` must have classes. Received: {source.title!r}, of which this split has none.\n"
            "Take another split such as 'all', or more classes."
        )
    # As many queries as there are left of the smallest class.
    queries = min(QUERIES, int(min(source.sizes)) - values["shots"])
    if queries < 1:
        raise ValueError(
            f"`shots` must leave a query of each class. Received: shots={values['shots']}, and a class of "
            f"{source.title} with {min(source.sizes)} examples.\nTake fewer shots, or more examples."
        )
    batch = max(1, min(16, 800 // (values["ways"] * (values["shots"] + queries))))
    return load_episodes(source, None, values["ways"], values["shots"], queries, batch, seed, episodes=episodes)


def _check_classes(config: Config, tables: Mapping[str, ClassTable]) -> None:
    """Refuses data with too little of something, before anything is made."""
    values = config.values
    fewest = min(len(table.names) for table in tables.values())
    if fewest < values["ways"]:
        counts = " and ".join(f"{len(table.names)} for {split}" for split, table in tables.items())
        fewer = f"Take at most {fewest} ways, or more classes" if fewest > 1 else "Take more classes"
        raise ValueError(
            f"`ways` must be at most the number of classes of each split. Received: ways={values['ways']}; "
            f"{values['data']!r} has {counts}.\n{fewer}, or deal them out yourself: a folder may have folders train, "
            "validation and test, and otherwise about 64, 16 and 20 % of its classes are for each."
        )
    shots = values["training_shots"] or values["shots"]
    needed = {"train": shots + values["queries"], "validation": values["shots"] + 1}
    if config.algorithm == "fine_tuning":
        needed["train"] = 1
    for split, table in tables.items():
        if (least := int(min(table.sizes))) < needed[split]:
            name = table.names[int(np.argmin(table.sizes))]
            raise ValueError(
                f"`shots` and `queries` must be together at most the examples of each class. Received: {needed[split]} "
                f"for {split}, where {name!r} has {least}.\n"
                f"Add examples to {name!r} or leave it out, or take fewer shots or queries."
            )


def checksum(table: ClassTable) -> dict[str, Any]:
    """Says what was read, so that another machine can tell whether it reads the same.

    Args:
        table: The classes.
    """
    found = hashlib.sha256(np.ascontiguousarray(table.examples).tobytes())
    found.update(repr((table.names, [int(size) for size in table.sizes])).encode())
    return {"classes": len(table.names), "examples": len(table.examples), "sha256": found.hexdigest()}


def _shape(table: ClassTable) -> tuple[int, ...]:
    return tuple(int(size) for size in table.examples.shape[1:])


def _augmentation(wanted: bool, shape: tuple[int, ...]) -> Augmentation | None:
    if not wanted or len(shape) != 3:
        return None
    if shape[-1] == 1:
        return Augmentation(shift=2, turn=8, scale=0.1, shear=8, fill="nearest")
    return Augmentation(shift=2, flip=True, fill="reflect")


def _optimizer(config: Config, updates: int) -> keras.optimizers.Optimizer:
    values = config.values
    schedule = keras.optimizers.schedules.CosineDecay(values["learning_rate"], values["epochs"] * updates)
    kind = keras.optimizers.SGD if config.algorithm == "reptile" else keras.optimizers.Adam
    return kind(schedule, global_clipnorm=values["clip_norm"])


def _learner(config: Config, shape: tuple[int, ...], table: ClassTable | None) -> FewShotLearner:
    kind, arguments = getattr(learners, ALGORITHMS[config.algorithm].learner), config.section("learner")
    gradient_based = issubclass(kind, GradientBasedLearner)
    if table is None and not gradient_based:
        raise ValueError(
            f"`data` must be classes for {config.algorithm}. Received: data='{SINUSOIDS}', a regression.\n"
            "Learners with an inner loop, such as maml, take it."
        )
    outputs = (config.values["ways"] if table is not None else 1) if gradient_based else None
    network = _network(config, shape, outputs)
    if kind is learners.FineTuning:
        assert table is not None
        return learners.FineTuning(network, classes=len(table.names), ways=config.values["ways"], **arguments)
    if table is None:
        arguments["inner_loss"] = "mse"
    if issubclass(kind, learners.MetaSGD | learners.MetaLSTM):
        arguments["seed"] = config.values["seed"]
    learner: FewShotLearner = kind(network, **arguments)
    assert isinstance(learner, GradientBasedLearner | MetricLearner)
    return learner


def _network(config: Config, shape: tuple[int, ...], outputs: int | None) -> keras.Model:
    values = config.values
    name = values["network"]
    if name == "auto":
        name = "conv4" if len(shape) == 3 else "mlp"
    if name.endswith(".keras"):
        if not Path(name).is_file():
            raise ValueError(f"`network` must be a file that is there. Received: '{name}'.\nCheck the path.")
        return keras.saving.load_model(name)
    maps = config.algorithm == "relation"
    if name == "mlp" and not maps:
        return backbones.mlp(shape, values["hidden"], outputs)
    if name != "conv4" or len(shape) != 3:
        raise ValueError(
            f"`network` must be conv4 (of images), mlp (not for relation), a .keras file, or auto. Received: "
            f"network={name!r} for examples of shape {shape}.\nLeave it out."
        )
    blocks = 2 if maps else 4
    return backbones.conv4(
        shape, values["filters"], outputs, values["downsample"], values["normalization"], blocks, flatten=not maps
    )
