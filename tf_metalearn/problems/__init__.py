"""Optimizees: what a learned optimizer is trained and tested on."""

from tf_metalearn.problems.base import Problem, Task
from tf_metalearn.problems.presets import PRESETS, cifar100, digits, make, mnist
from tf_metalearn.problems.quadratic import Quadratic
from tf_metalearn.problems.rescaled import RescaledProblem
from tf_metalearn.problems.supervised import SupervisedProblem

__all__ = [
    "PRESETS",
    "Problem",
    "Quadratic",
    "RescaledProblem",
    "SupervisedProblem",
    "Task",
    "cifar100",
    "digits",
    "make",
    "mnist",
]
