"""Few-shot learners, one algorithm a file."""

from tf_metalearn.learners.anil import ANIL
from tf_metalearn.learners.averaged_views import AveragedViews, average_views
from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.embedded import confusion_counts, embed_classes, on_embeddings
from tf_metalearn.learners.fine_tuning import FineTuning
from tf_metalearn.learners.gradient_based import GradientBasedLearner
from tf_metalearn.learners.maml import MAML
from tf_metalearn.learners.matching import MatchingNetwork
from tf_metalearn.learners.meta_lstm import MetaLSTM
from tf_metalearn.learners.meta_sgd import MetaSGD
from tf_metalearn.learners.prototypical import PrototypicalNetwork
from tf_metalearn.learners.rejection import Calibration, calibrate
from tf_metalearn.learners.relation import RelationNetwork
from tf_metalearn.learners.reptile import Reptile
from tf_metalearn.learners.siamese import SiameseNetwork

__all__ = [
    "ANIL",
    "MAML",
    "AveragedViews",
    "Calibration",
    "FewShotLearner",
    "FineTuning",
    "GradientBasedLearner",
    "MatchingNetwork",
    "MetaLSTM",
    "MetaSGD",
    "PrototypicalNetwork",
    "RelationNetwork",
    "Reptile",
    "SiameseNetwork",
    "average_views",
    "calibrate",
    "confusion_counts",
    "embed_classes",
    "on_embeddings",
]
