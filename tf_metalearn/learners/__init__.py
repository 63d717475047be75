"""Few-shot learners, one algorithm a file."""

from tf_metalearn.learners.base import FewShotLearner
from tf_metalearn.learners.prototypical import PrototypicalNetwork

__all__ = ["FewShotLearner", "PrototypicalNetwork"]
