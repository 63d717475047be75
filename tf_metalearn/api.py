"""The public names of the library: one import a line, and `__all__`.

`import tf_metalearn` offers them and imports this file when it must: see there.
"""

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
    average_views,
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
    "average_views",
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
