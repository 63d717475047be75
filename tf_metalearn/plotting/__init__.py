"""Pictures, as matplotlib figures that need no display and touch no global state."""

from tf_metalearn.plotting.adaptation import plot_adapted_curves, plot_gates
from tf_metalearn.plotting.answers import plot_answers
from tf_metalearn.plotting.curves import learning_curves
from tf_metalearn.plotting.episodes import plot_episode
from tf_metalearn.plotting.history import plot_history
from tf_metalearn.plotting.metric import plot_confusion, plot_embeddings, plot_similarity, write_projector
from tf_metalearn.plotting.trajectories import plot_trajectories

__all__ = [
    "learning_curves",
    "plot_adapted_curves",
    "plot_answers",
    "plot_confusion",
    "plot_embeddings",
    "plot_episode",
    "plot_gates",
    "plot_history",
    "plot_similarity",
    "plot_trajectories",
    "write_projector",
]
