"""Episodes: data sets as support and query sets."""

from tf_metalearn.episodes import catalogue, prepared
from tf_metalearn.episodes.augmentation import Augmentation
from tf_metalearn.episodes.class_table import ClassTable
from tf_metalearn.episodes.episode import Episode
from tf_metalearn.episodes.load import load_episodes, load_examples
from tf_metalearn.episodes.metadata import load_metadata
from tf_metalearn.episodes.sampler import EpisodeSampler
from tf_metalearn.episodes.sinusoids import SinusoidSampler
from tf_metalearn.episodes.sources import SOURCES, load_classes

__all__ = [
    "SOURCES",
    "Augmentation",
    "ClassTable",
    "Episode",
    "EpisodeSampler",
    "SinusoidSampler",
    "catalogue",
    "load_classes",
    "load_episodes",
    "load_examples",
    "load_metadata",
    "prepared",
]
