import io
import math

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from matplotlib.colors import to_hex

from tf_metalearn.plotting import (
    learning_curves,
    plot_adapted_curves,
    plot_answers,
    plot_confusion,
    plot_embeddings,
    plot_episode,
    plot_gates,
    plot_history,
    plot_similarity,
    write_projector,
)
from tf_metalearn.plotting.style import EMPHASISED_COLOURS, RIGHT, WRONG


@pytest.fixture
def curves():
    generator = np.random.default_rng(0)
    fall = np.geomspace(2.0, 0.1, 30)
    return {
        name: scale * fall * generator.lognormal(sigma=0.1, size=[8, 30])
        for name, scale in [("SGD", 3.0), ("mine", 1.0), ("Adam", 2.0)]
    }


def lines_of(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_lines_are_means_and_bands_their_95_percent_intervals(curves):
    axes = learning_curves(curves, first_step=0).axes[0]
    line = lines_of(axes.figure)["SGD"]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(30))
    np.testing.assert_allclose(line.get_ydata(), curves["SGD"].mean(axis=0))
    expected = scipy.stats.ttest_1samp(curves["SGD"][:, 10], 0.0).confidence_interval(0.95)
    band = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(sorted(band[band[:, 0] == 10][:, 1]), [expected.low, expected.high])
    assert axes.get_yscale() == "log"


def test_the_emphasised_line_is_thick_solid_in_front_and_has_the_strong_colour(curves):
    lines = lines_of(learning_curves(curves, emphasised=["mine"]))
    others = [lines["SGD"], lines["Adam"]]
    assert to_hex(lines["mine"].get_color()).upper() == EMPHASISED_COLOURS[0]
    assert lines["mine"].get_linestyle() == "-"
    assert all(lines["mine"].get_linewidth() > line.get_linewidth() for line in others)
    assert all(lines["mine"].get_zorder() > line.get_zorder() for line in others)
    assert len({line.get_color() for line in lines.values()}) == 3


def test_the_legend_stands_in_the_order_in_which_the_lines_end(curves):
    legend = learning_curves(curves, emphasised=["mine"]).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["SGD", "Adam", "mine"]


def test_diverged_runs_are_left_out_and_told(curves):
    curves["SGD"][3, 20:] = math.inf
    curves["Adam"][:] = math.nan
    figure = learning_curves(curves)
    label = "SGD\n(1 of 8 runs diverged)"
    np.testing.assert_allclose(lines_of(figure)[label].get_ydata(), np.delete(curves["SGD"], 3, axis=0).mean(axis=0))
    assert "Adam\n(8 of 8 runs diverged)" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize("top", [3.0, 1e3, 1e9], ids=["within a decade", "three decades", "nine decades"])
def test_the_loss_axis_has_several_ticks_and_the_png_is_an_image(top):
    figure = learning_curves({"mine": np.geomspace(top, 1.0, 50)[None]}, title="A [b] $1", emphasised=["mine"])
    png = io.BytesIO()
    figure.savefig(png, format="png")
    image = tf.io.decode_png(png.getvalue()).numpy()
    assert image.shape[0] > 600
    assert image.shape[1] > 1000
    assert image.std() > 5  # something is drawn
    low, high = figure.axes[0].get_ylim()
    labels = zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels(), strict=True)
    shown = [label.get_text() for tick, label in labels if low <= tick <= high and label.get_text()]
    assert 3 <= len(shown) <= 15


def test_a_figure_touches_no_global_state(curves):
    import matplotlib
    from matplotlib import _pylab_helpers

    # Past RcParams' own look-up, which chooses a backend.
    before = dict(dict.items(matplotlib.rcParams))
    learning_curves(curves)
    assert dict(dict.items(matplotlib.rcParams)) == before
    assert not _pylab_helpers.Gcf.figs


@pytest.mark.parametrize("bad", [{}, {"mine": np.ones(5)}, {"mine": np.ones([0, 5])}], ids=["none", "flat", "empty"])
def test_bad_curves(bad):
    with pytest.raises(ValueError, match=r"`curves` must map names to losses \[runs, points\]. Received"):
        learning_curves(bad)


@pytest.fixture
def episode():
    """Two tasks, 3-way 2-shot with 4 queries a class, in random order; an image's grey is its class."""
    random = np.random.default_rng(0)
    support_y = np.stack([random.permutation(np.repeat(range(3), 2)) for _ in range(2)])
    query_y = np.stack([random.permutation(np.repeat(range(3), 4)) for _ in range(2)])

    def images(labels):
        return np.broadcast_to((labels / 4.0)[..., None, None, None], [*labels.shape, 5, 5, 1]).astype("float32")

    return (images(support_y), support_y, images(query_y)), query_y


def drawn_images(figure):
    """The class that each drawn image shows, by row and column."""
    return {
        (round(image.get_extent()[3]), image.get_extent()[0]): round(4 * float(image.get_array()[0, 0]))
        for image in figure.axes[0].get_images()
    }


def test_an_episode_is_drawn_by_class_support_before_query(episode):
    images = drawn_images(plot_episode(*episode, task=1))
    assert len(images) == 3 * (2 + 4)
    assert all(shown == row for (row, _), shown in images.items())


def test_without_labels_queries_are_drawn_as_they_come(episode):
    images = drawn_images(plot_episode(episode[0]))
    assert len(images) == 3 * (2 + 4)
    queries = [shown for (_, column), shown in sorted(images.items()) if column > 2]
    assert queries == episode[1][0].tolist()


@pytest.mark.parametrize("scores", [False, True], ids=["labels", "scores"])
def test_predictions_frame_what_is_right_and_name_what_was_said(episode, scores):
    x, query_y = episode
    said = query_y.copy()
    said[0, 0] = (said[0, 0] + 1) % 3
    axes = plot_episode(x, query_y, np.eye(3)[said] if scores else said).axes[0]
    colours = [to_hex(patch.get_edgecolor()).upper() for patch in axes.patches]
    assert (colours.count(RIGHT), colours.count(WRONG)) == (11, 1)
    assert [text.get_text() for text in axes.texts] == [str(said[0, 0])]
    assert "92% right" in axes.get_xticklabels()[1].get_text()


def test_what_was_said_stands_below_the_image_and_hides_none(episode):
    x, query_y = episode
    figure = plot_episode(x, query_y, (query_y + 1) % 3)
    figure.draw_without_rendering()
    [axes] = figure.axes
    images = [image.get_window_extent() for image in axes.images]
    assert len(axes.texts) == 12
    assert not any(text.get_window_extent().overlaps(image) for text in axes.texts for image in images)


@pytest.mark.parametrize("queries", [3, 40])
def test_pictures_of_images_have_no_empty_bands(queries):
    images, labels = np.zeros([queries, 8, 8, 1]), np.arange(queries) % 2
    task = (images[None, :2], labels[None, :2], images[None])
    for figure in (
        plot_episode(task, labels[None]),
        plot_episode(task, labels[None], 1 - labels[None]),
        plot_answers(images[:2], ["cat", "dog"], images, np.eye(2)[labels], ["cat", "dog"]),
    ):
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        margins = [drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1]
        assert all(0 <= margin < 0.12 for margin in margins), margins


def test_zero_shot_episodes_show_metadata(episode):
    (_, _, query_x), query_y = episode
    figure = plot_episode((np.ones([2, 3, 7]), np.tile(range(3), [2, 1]), query_x), query_y)
    assert figure.axes[0].get_xticklabels()[0].get_text() == "Metadata"
    assert len(figure.axes[0].get_images()) == 3 + 12


def test_regression_tasks_are_drawn_as_curves():
    x = np.linspace(-1, 1, 6)[None, :, None]
    axes = plot_episode((x, x**2, x), x**2, x**2 + 0.1).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "Query points",
        "Predictions",
        "Support points",
    ]
    np.testing.assert_allclose(axes.get_lines()[1].get_ydata(), (x**2 + 0.1).reshape(-1))


def test_what_cannot_be_drawn_is_refused(episode):
    with pytest.raises(ValueError, match=r"`task` must be from 0 to 1\. Received: task=2"):
        plot_episode(*episode, task=2)
    with pytest.raises(ValueError, match=r"`episode` must hold images.*\(1, 4, 7\)"):
        plot_episode((np.zeros([1, 2, 7]), np.zeros([1, 2], int), np.zeros([1, 4, 7])))


def test_embeddings_lie_along_the_directions_of_largest_variance():
    """Points on a line in five dimensions: their places along it, and nothing across."""
    random = np.random.default_rng(0)
    along = random.normal(size=12)
    points = along[:, None] * np.array([[1, 2, 0, -1, 1]]) / 7**0.5
    labels = np.arange(12) % 2
    axes = plot_embeddings(points[:6], labels[:6], points[6:], labels[6:]).axes[0]
    drawn = np.concatenate([np.asarray(part.get_offsets()) for part in (axes.collections[1], axes.collections[4])])
    expected = np.concatenate([along[:6][labels[:6] == label] for label in (0, 1)]) - along.mean()
    np.testing.assert_allclose(np.abs(drawn[:, 0]), np.abs(expected), rtol=1e-6)
    np.testing.assert_allclose(drawn[:, 1], 0, atol=1e-9)
    assert "100% of the variance" in axes.get_xlabel()
    # Of each class: queries, support examples, their mean.
    for kind, places in enumerate(
        [
            [along[6:][labels[6:] == label] for label in (0, 1)],
            [along[:6][labels[:6] == label] for label in (0, 1)],
            [[along[:6][labels[:6] == label].mean()] for label in (0, 1)],
        ]
    ):
        for label in (0, 1):
            found = np.asarray(axes.collections[3 * label + kind].get_offsets())[:, 0]
            np.testing.assert_allclose(np.abs(found), np.abs(np.asarray(places[label]) - along.mean()), rtol=1e-6)


def test_similarities_are_sorted_by_class_and_each_class_is_framed():
    similarity = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    axes = plot_similarity(similarity, [1, 0, 1]).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), similarity[[1, 0, 2]])
    frames = [(min(line.get_ydata()), max(line.get_ydata()), min(line.get_xdata())) for line in axes.lines]
    assert frames == [(-0.5, 0.5, -0.5), (0.5, 2.5, 0.5)]


def test_the_most_confused_classes_are_drawn_in_percent():
    counts = np.diag([10.0, 10, 10, 10])
    counts[1, 3] = 10
    axes = plot_confusion(counts, list("abcd"), worst=2).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[50, 50], [0, 100]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "d"]


def test_gates_and_adapted_curves_show_each_step_and_curve():
    gates = np.stack([np.full([4, 10], 0.9), np.full([4, 10], 0.1)])
    forget, write = plot_gates(gates).axes
    np.testing.assert_allclose(forget.lines[0].get_ydata(), 0.9)
    np.testing.assert_allclose(write.lines[0].get_ydata(), 0.1)
    x = np.linspace(-1, 1, 7)
    axes = plot_adapted_curves(([[0.0]], [[1.0]]), x, x, {"0 steps": 0 * x, "1 step": x**2}).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("True function", "0 steps", "1 step", "1 support points")
    ]


def test_tensorboards_projector_finds_vectors_and_labels(tmp_path):
    write_projector(tmp_path, np.array([[1.5, 2.0], [3.0, 4.0]]), ["a b", "c\td"])
    assert (tmp_path / "embeddings.tsv").read_text() == "1.5\t2\n3\t4\n"
    assert (tmp_path / "embeddings-labels.tsv").read_text() == "a b\nc d\n"
    assert 'tensor_path: "embeddings.tsv"' in (tmp_path / "projector_config.pbtxt").read_text()
    with pytest.raises(ValueError, match=r"`labels` must be as many as the vectors"):
        write_projector(tmp_path, np.zeros([2, 2]), ["a"])


def test_answers_stand_in_the_row_of_their_class_the_surest_first():
    images = np.random.default_rng(0).random([6, 8, 8, 1])
    probabilities = [[0.6, 0.4], [0.1, 0.9], [0.9, 0.1], [0.2, 0.8]]
    figure = plot_answers(images[:2], ["cat", "dog"], images[2:], probabilities, ["cat", "dog"])
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["90%", "60%", "90%", "80%"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    rows = [text.get_position()[1] for text in axes.texts]
    assert rows[0] == rows[1] < rows[2] == rows[3]
    # Two examples, four answers.
    assert len(axes.images) == 6


def test_answers_beyond_a_dozen_are_counted():
    images = np.zeros([15, 8, 8, 3])
    figure = plot_answers(images[:1], ["cat"], images, np.ones([15, 1]), ["cat"])
    assert figure.axes[0].texts[-1].get_text() == " and 3 more"
    with pytest.raises(ValueError, match="`probabilities` must be"):
        plot_answers(images[:1], ["cat"], images, np.ones([14, 1]), ["cat"])


def test_history_draws_what_there_is():
    history = {"loss": [1.0, 0.5], "val_loss": [1.2, 0.9], "accuracy": [0.3, 0.6], "val_accuracy_before": [0.2, 0.2]}
    loss, accuracy = plot_history(history).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[1.0, 0.5], [1.2, 0.9]]
    assert [line.get_label() for line in accuracy.lines] == ["training", "before adaptation"]
    said = accuracy.yaxis.get_major_formatter()
    assert [said(value) for value in (0.3, 0.1 + 0.2, 0.995)] == ["30%", "30%", "99.5%"]
    assert "%" not in loss.yaxis.get_major_formatter()(0.5)
    with pytest.raises(ValueError, match="`history` must have 'loss'"):
        plot_history({"accuracy": [1.0]})


def test_a_history_shows_what_guessing_reaches_where_tasks_differ():
    history = {"loss": [1.0], "accuracy": [0.4], "val_loss": [0.9], "val_accuracy": [0.6]}
    loss, accuracy = plot_history(history, ways={"training": 20, "validation": 5}).axes
    labels = [line.get_label() for line in accuracy.lines]
    assert labels == ["training, 20-way", "guessing, 20-way", "validation, 5-way", "guessing, 5-way"]
    assert [set(accuracy.lines[place].get_ydata()) for place in (1, 3)] == [{0.05}, {0.2}]
    assert len(loss.lines) == 2
