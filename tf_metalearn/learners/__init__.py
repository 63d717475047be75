"""Few-shot learners, one algorithm a file."""

from tf_metalearn.learners.anil import ANIL
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.fine_tuning import FineTuning
from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.learners.maml import MAML
from tf_metalearn.learners.meta_lstm import MetaLSTM
from tf_metalearn.learners.meta_sgd import MetaSGD
from tf_metalearn.learners.prototypical import PrototypicalNetwork
from tf_metalearn.learners.reptile import Reptile

__all__ = [
    "ANIL",
    "MAML",
    "FewShotLearner",
    "FineTuning",
    "GradientBasedLearner",
    "MetaLSTM",
    "MetaSGD",
    "PrototypicalNetwork",
    "Reptile",
]
