"""What an experiment with a few-shot learner is, and how images change in training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LearnerTest:
    """One test of a trained learner.

    Args:
        title: In the table.
        episodes: Arguments of `load_episodes`.
        published: What papers report, in words; empty if nothing.
        change: Makes of the trained learner what is tested; the learner itself when None.
    """

    title: str
    episodes: Mapping[str, Any]
    published: str = ""
    change: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class LearnerExperiment:
    """How a learner is trained and what it is tested on.

    Args:
        learner: Makes the untrained learner, given the trained baselines.
        source: Of the data, as `load_episodes` has it.
        training: Arguments of `load_episodes` in training; of `load_examples` if there is no "ways" or "shots".
        tests: What it is tested on.
        epochs: The learner is saved after each.
        steps: Updates in an epoch.
        learning_rate: At the start; it falls to 0 along a cosine.
        optimizer: Makes the optimizer, given that schedule; Adam when None.
        loss: Of the query predictions; cross-entropy on logits when None.
        baselines: Names of experiments that are trained before it, and tested beside it.
        pictures: Draws figures of the trained learner, by name.
        classes: Makes the table of classes to train on, given where data sets are, if it is no split.
        episodes: Of each test.
        many_small_operations: Whether each operation runs on one thread; see `set_cpu_threads`.
    """

    learner: Callable[..., Any]
    source: str
    training: Mapping[str, Any]
    tests: Sequence[LearnerTest]
    epochs: int
    steps: int
    learning_rate: float
    optimizer: Callable[[Any], Any] | None = None
    loss: str | None = None
    baselines: Sequence[str] = ()
    pictures: Callable[[Any, Callable[..., Any]], Mapping[str, Any]] | None = None
    classes: Callable[[str | None], Any] | None = None
    episodes: int = 1000
    many_small_operations: bool = True


def omniglot_training(**shape: int) -> dict[str, Any]:
    """The papers' 1,200 characters, each turned by quarters into four classes, with random changes of the images."""
    from tf_metalearn import Augmentation

    changes = Augmentation(shift=2, turn=8, scale=0.1, shear=8)
    return {"split": "train+validation", "augmentation": changes, **shape}


def colour_training(**shape: int) -> dict[str, Any]:
    from tf_metalearn import Augmentation

    return {"split": "train", "augmentation": Augmentation(shift=2, flip=True, fill="reflect"), **shape}
