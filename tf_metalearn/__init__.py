"""Meta-learning on TensorFlow and Keras: learn the optimizer, the initialisation or the metric."""

import os as _os

if _os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
    raise ImportError(
        "tf_metalearn needs Keras 3 as `tf.keras`. Received: TF_USE_LEGACY_KERAS="
        f"{_os.environ['TF_USE_LEGACY_KERAS']!r} in the environment.\nRemedy: unset TF_USE_LEGACY_KERAS."
    )
if _os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    # Before Keras is imported, which fails in its own words where that backend is not installed.
    raise ImportError(
        "tf_metalearn needs Keras's TensorFlow backend. Received: KERAS_BACKEND="
        f"{_os.environ['KERAS_BACKEND']!r} in the environment.\nRemedy: unset KERAS_BACKEND."
    )
import keras as _keras

if _keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"tf_metalearn needs Keras's TensorFlow backend. Received: {_keras.backend.backend()!r}, Keras's configuration."
        "\nRemedy: set KERAS_BACKEND=tensorflow, or 'backend' in ~/.keras/keras.json."
    )

from tf_metalearn import backbones, episodes, functional, plotting, problems, rules, serving
from tf_metalearn.callbacks import MetaLearningTensorBoard
from tf_metalearn.episodes import Augmentation, Episode, load_episodes, load_examples
from tf_metalearn.inner_loop import Unrolled, unroll
from tf_metalearn.learners import (
    ANIL,
    MAML,
    FewShotLearner,
    FineTuning,
    MatchingNetwork,
    MetaLSTM,
    MetaSGD,
    PrototypicalNetwork,
    RelationNetwork,
    Reptile,
    SiameseNetwork,
    calibrate,
    confusion_counts,
    embed_classes,
    on_embeddings,
)
from tf_metalearn.optimizers.comparison import Comparison, compare
from tf_metalearn.optimizers.learned_optimizer import LearnedOptimizer
from tf_metalearn.optimizers.report import print_table, report
from tf_metalearn.optimizers.trainer import OptimizerTrainer
from tf_metalearn.plotting import plot_episode
from tf_metalearn.pretrained import load, load_rule, save_rule
from tf_metalearn.rules import CoordinatewiseLSTM, GroupedRule, UpdateRule
from tf_metalearn.threads import set_cpu_threads

__version__ = "0.1.0"
__all__ = [
    "ANIL",
    "MAML",
    "Augmentation",
    "Comparison",
    "CoordinatewiseLSTM",
    "Episode",
    "FewShotLearner",
    "FineTuning",
    "GroupedRule",
    "LearnedOptimizer",
    "MatchingNetwork",
    "MetaLSTM",
    "MetaLearningTensorBoard",
    "MetaSGD",
    "OptimizerTrainer",
    "PrototypicalNetwork",
    "RelationNetwork",
    "Reptile",
    "SiameseNetwork",
    "Unrolled",
    "UpdateRule",
    "backbones",
    "calibrate",
    "compare",
    "confusion_counts",
    "embed_classes",
    "episodes",
    "functional",
    "load",
    "load_episodes",
    "load_examples",
    "load_rule",
    "on_embeddings",
    "plot_episode",
    "plotting",
    "print_table",
    "problems",
    "report",
    "rules",
    "save_rule",
    "serving",
    "set_cpu_threads",
    "unroll",
]
