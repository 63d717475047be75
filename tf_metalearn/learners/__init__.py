"""Few-shot learners, one algorithm a file."""

from tf_metalearn.learners.anil import ANIL
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.learners.maml import MAML
from tf_metalearn.learners.meta_sgd import MetaSGD
from tf_metalearn.learners.prototypical import PrototypicalNetwork

__all__ = ["ANIL", "MAML", "FewShotLearner", "GradientBasedLearner", "MetaSGD", "PrototypicalNetwork"]
