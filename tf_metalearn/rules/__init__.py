"""Update rules: how a parameter moves, given its gradient."""

from tf_metalearn.rules.adam import Adam
from tf_metalearn.rules.base import UpdateRule
from tf_metalearn.rules.coordinatewise_lstm import CoordinatewiseLSTM, log_sign
from tf_metalearn.rules.gradient_descent import GradientDescent
from tf_metalearn.rules.grouped import GroupedRule
from tf_metalearn.rules.meta_lstm import MetaLSTMRule
from tf_metalearn.rules.momentum import Momentum
from tf_metalearn.rules.rate_per_layer_and_step import RatePerLayerAndStep
from tf_metalearn.rules.rate_per_parameter import RatePerParameter
from tf_metalearn.rules.rmsprop import RMSprop

__all__ = [
    "Adam",
    "CoordinatewiseLSTM",
    "GradientDescent",
    "GroupedRule",
    "MetaLSTMRule",
    "Momentum",
    "RMSprop",
    "RatePerLayerAndStep",
    "RatePerParameter",
    "UpdateRule",
    "log_sign",
]
