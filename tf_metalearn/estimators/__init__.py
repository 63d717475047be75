"""Meta-gradient estimators."""

from tf_metalearn.estimators.truncated import TruncatedBackpropagation

__all__ = ["TruncatedBackpropagation"]
