"""What a metric learner sees: embeddings in two dimensions, similarities, confusions."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tf_metalearn.plotting.style import COLOURS, INK, TITLE, WRONG, legend_beside, new_figure, quiet

#: With the colours, they tell twenty classes apart.
MARKERS = ("o", "s", "^", "D")


def plot_embeddings(
    support: Any,
    support_y: Any,
    query: Any,
    query_y: Any,
    names: Sequence[str] | None = None,
    title: str = "Embeddings",
) -> Figure:
    """Draws an episode's embeddings in the two directions in which they vary most (PCA).

    Args:
        support: `[support, features]`, or feature maps `[support, ...]`.
        support_y: `[support]` labels from 0 on.
        query: `[queries, features]`, or feature maps.
        query_y: `[queries]` labels.
        names: Of the classes; their numbers when None.
        title: One line above the picture.

    Returns:
        A `matplotlib.figure.Figure`: queries small, support examples larger, class means as crosses.

    >>> random = np.random.default_rng(0)
    >>> figure = plot_embeddings(random.random([4, 8]), [0, 0, 1, 1], random.random([6, 8]), [0, 0, 0, 1, 1, 1])
    >>> len(figure.axes[0].collections)
    6
    """
    from sklearn.decomposition import PCA  # a third of the time of `import tf_metalearn`, were it at the top

    support, query = (np.asarray(part).reshape(len(part), -1) for part in (support, query))
    support_y, query_y = np.asarray(support_y), np.asarray(query_y)
    view = PCA(n_components=2, svd_solver="full").fit(np.concatenate([support, query]))
    figure = new_figure(7.6, 5.2)
    axes = figure.add_subplot()
    for label in range(int(support_y.max()) + 1):
        look: dict[str, Any] = {
            "color": COLOURS[label % len(COLOURS)],
            "marker": MARKERS[label // len(COLOURS) % len(MARKERS)],
        }
        name = str(label) if names is None else names[label]
        points = view.transform(query[query_y == label])
        axes.scatter(points[:, 0], points[:, 1], s=16, alpha=0.45, linewidths=0, **look)
        points = view.transform(support[support_y == label])
        axes.scatter(points[:, 0], points[:, 1], s=64, edgecolors="white", label=name, zorder=3, **look)
        middle = view.transform(support[support_y == label].mean(axis=0, keepdims=True))
        axes.scatter(middle[:, 0], middle[:, 1], s=120, color="black", marker="+", zorder=4)
    shares = (f"{share:.0%}" for share in view.explained_variance_ratio_)
    axes.set_xlabel(f"First direction, {next(shares)} of the variance")
    axes.set_ylabel(f"Second direction, {next(shares)}")
    axes.set_title(f"{title}: support examples, their means (+), queries (small)", loc="left", color=TITLE, fontsize=11)
    legend_beside(axes)
    quiet(axes)
    return figure


def plot_similarity(similarity: Any, query_y: Any, title: str = "Similarity of queries to classes") -> Figure:
    """Draws how alike each query is to each class.

    Args:
        similarity: `[queries, ways]`, such as a learner's predictions for one task.
        query_y: `[queries]` labels, by which queries are sorted.
        title: One line above the picture.

    Returns:
        A `matplotlib.figure.Figure`; a frame marks each query's own class.

    >>> len(plot_similarity(np.eye(3), [0, 1, 2]).axes[0].images)
    1
    """
    similarity, query_y = np.asarray(similarity), np.asarray(query_y)
    order = np.argsort(query_y, kind="stable")
    figure = new_figure(3.2 + 0.32 * similarity.shape[1], 5.6)
    axes = figure.add_subplot()
    image = axes.imshow(similarity[order], aspect="auto", cmap="viridis", interpolation="nearest")
    ends = np.append(np.flatnonzero(np.diff(query_y[order])) + 0.5, len(order) - 0.5)
    low = -0.5
    for label, high in zip(np.unique(query_y), ends, strict=True):
        sides = [label - 0.5, label + 0.5, label + 0.5, label - 0.5, label - 0.5], [low, low, high, high, low]
        axes.plot(*sides, color=WRONG, linewidth=1.8)
        low = high
    axes.set(xlabel="Class", ylabel="Query, sorted by its own class", xticks=range(similarity.shape[1]))
    axes.set_title(title, loc="left", color=TITLE, fontsize=11)
    figure.colorbar(image, label="Similarity (logit)")
    return figure


def plot_confusion(counts: Any, names: Sequence[str], worst: int = 20) -> Figure:
    """Draws which classes are taken for which: those that are confused most.

    Args:
        counts: `[classes, classes]`, queries of the row's class that were taken for the column's.
        names: Of the classes.
        worst: At most so many classes are drawn.

    Returns:
        A `matplotlib.figure.Figure`; cells hold the share of the row's queries in %.

    >>> plot_confusion(np.array([[9, 1], [0, 10]]), ["a", "b"]).axes[0].get_xlabel()
    'Taken for'
    """
    counts = np.asarray(counts, float)
    mistakes = counts - np.diag(np.diag(counts))
    chosen = np.sort(np.argsort(mistakes.sum(axis=1) + mistakes.sum(axis=0))[::-1][:worst])
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = shares[np.ix_(chosen, chosen)]
    side = 2.6 + 0.3 * len(chosen)
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    # Mistakes are to be seen, not the diagonal.
    highest = max(10.0, float((shown - np.diag(np.diag(shown))).max()))
    image = axes.imshow(shown, cmap="magma_r", vmin=0, vmax=highest)
    if len(chosen) <= 12:
        for row, column in np.ndindex(shown.shape):
            colour = "white" if shown[row, column] > highest / 2 else INK
            axes.text(column, row, f"{shown[row, column]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    labels = [names[place] for place in chosen]
    axes.set_xticks(range(len(chosen)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(chosen)), labels, fontsize=7)
    axes.set(xlabel="Taken for", ylabel="Class")
    which = "classes" if len(chosen) == len(counts) else f"{len(chosen)} of {len(counts)} classes, the most confused"
    axes.set_title(f"Confusion, % of a class's queries: {which}", loc="left", color=TITLE, fontsize=10)
    figure.colorbar(image, label="% of the row's queries")
    return figure


def write_projector(
    directory: str | os.PathLike[str], vectors: Any, labels: Sequence[Any], name: str = "embeddings"
) -> None:
    """Writes embeddings for TensorBoard's projector: `tensorboard --logdir DIRECTORY`, then PROJECTOR.

    Args:
        directory: The log directory.
        vectors: `[examples, features]`.
        labels: `[examples]`, shown at each point.
        name: Of the tensor.

    Raises:
        ValueError: If there is not a label for each vector.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_projector(folder, np.eye(3), ["a", "b", "c"])
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['embeddings-labels.tsv', 'embeddings.tsv', 'projector_config.pbtxt']
    """
    from tensorboard.plugins import projector

    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != len(labels):
        raise ValueError(
            f"`labels` must be as many as the vectors [examples, features]. Received: {len(labels)} labels for vectors "
            f"of shape {vectors.shape}.\nFlatten feature maps first."
        )
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / f"{name}.tsv", vectors, fmt="%.6g", delimiter="\t")
    lines = (" ".join(str(label).split()) for label in labels)
    (folder / f"{name}-labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name, embedding.tensor_path = name, f"{name}.tsv"
    embedding.metadata_path = f"{name}-labels.tsv"
    projector.visualize_embeddings(str(folder), config)
