"""The embedded data set, built for real: what it holds, and that it tells learners apart."""

import hashlib
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_metalearn import load_episodes
from tf_metalearn.episodes import EpisodeSampler, glyphs, load_classes, prepared


@pytest.fixture(scope="session")
def splits(glyph_directory):
    return {split: load_classes("glyphs", split, data_dir=glyph_directory) for split in ("train", "validation", "test")}


def test_it_is_a_tensorflow_datasets_folder_like_any_other(glyph_directory):
    builder = tfds.builder_from_directory(prepared.find("glyphs", glyph_directory))
    assert builder.info.splits["train"].num_examples == 24_000
    example = next(iter(tfds.as_numpy(builder.as_dataset(split="train"))))
    name = builder.info.features["label"].int2str(example["label"])
    label = int(name.removeprefix("glyph"))
    expected = glyphs.drawings(glyphs.character(label), label)[example["drawer"], ..., None]
    np.testing.assert_array_equal(example["image"], expected)
    np.testing.assert_array_equal(example["metadata"], glyphs.metadata(glyphs.character(label)))


def test_it_has_1200_classes_of_20_drawings_in_splits_that_do_not_overlap(splits):
    assert [len(table.names) for table in splits.values()] == [768, 192, 240]
    assert len({name for table in splits.values() for name in table.names}) == 1200
    for table in splits.values():
        assert set(table.sizes) == {20}
        assert table.examples.shape[1:] == (28, 28, 1)
        assert table.metadata.shape == (len(table.names), 27)


def test_metadata_is_where_the_strokes_of_the_class_run(splits):
    table = splits["test"]
    label = int(table.names[5].removeprefix("glyph"))
    strokes = glyphs.character(label)
    described = table.metadata[5].reshape(3, 9)
    assert described[:, 0].sum() == len(strokes)
    np.testing.assert_allclose(described[: len(strokes), 1:].reshape(-1, 4, 2), strokes, rtol=1e-6)


def test_drawings_are_the_same_every_time():
    """Other ones would change every figure that was measured on glyphs."""
    drawn = glyphs.drawings(glyphs.character(7), 7)
    np.testing.assert_array_equal(drawn, glyphs.drawings(glyphs.character(7), 7))
    # Grey edges may be rounded otherwise on another processor; where there is ink may not.
    assert hashlib.sha256((drawn > 127).tobytes()).hexdigest()[:16] == "f79809865d8eccd0"


def test_a_line_is_drawn_as_thick_as_its_pen():
    line = np.array([[[[5.0, 14.0], [22.0, 14.0]]]])
    image = glyphs.ink(line, np.array([1.5]))[0]
    np.testing.assert_array_equal(image[:, 14].nonzero()[0], [13, 14, 15])
    np.testing.assert_array_equal(image[14].nonzero()[0][[0, -1]], [4, 23])
    assert image[14, 14] == 255


def test_curves_run_through_their_points():
    points = np.random.default_rng(0).normal(size=[3, 4, 2])
    curve = glyphs.curves(points)
    np.testing.assert_allclose(curve[:, [0, -1]], points[:, [0, -1]])
    assert curve.shape == (3, glyphs.PIECES + 1, 2)


def test_nearest_neighbours_on_pixels_get_less_than_60_percent(splits):
    episode, query_y = EpisodeSampler(splits["test"], 5, 1, 15)(tf.range(600, dtype=tf.int64))
    support, query = (np.reshape(x, [600, -1, 784]) for x in (episode.support_x, episode.query_x))
    distance = np.sum(support**2, -1)[:, None] - 2 * np.einsum("tqp,tsp->tqs", query, support)
    said = np.take_along_axis(np.asarray(episode.support_y), distance.argmin(-1), axis=1)
    accuracy = np.mean(said == query_y)
    assert 0.4 < accuracy < 0.6


@pytest.mark.slow
def test_a_small_embedding_network_gets_more_than_90_percent(splits, seed):
    """Snell et al. 2017 with three convolutions, in half a minute."""
    layers = []
    for filters in (32, 64, 64):
        layers += [
            keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    network = keras.Sequential([keras.Input([28, 28, 1]), *layers, keras.layers.Flatten(), keras.layers.Dense(64)])
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 800))

    def scores(episode, training):
        prototypes = tf.gather(network(episode.support_x[0], training=training), tf.argsort(episode.support_y[0]))
        query = network(episode.query_x[0], training=training)
        return -tf.reduce_sum((query[:, None] - prototypes) ** 2, axis=-1)

    @tf.function
    def step(episode, query_y):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(query_y[0], scores(episode, True))
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)

    for episode, query_y in load_episodes(splits["train"], ways=30, queries=4, batch_size=1, episodes=800):
        step(episode, query_y)
    right = tf.function(lambda episode, y: tf.argmax(scores(episode, False), -1, tf.int32) == y[0])
    test = load_episodes(splits["test"], batch_size=1, episodes=300)
    assert np.mean([right(episode, query_y) for episode, query_y in test]) > 0.9


def test_it_is_ready_in_a_moment_once_it_was_built(glyph_directory, splits):
    began = time.perf_counter()
    load_classes("glyphs", "test", data_dir=glyph_directory)
    assert time.perf_counter() - began < 1
