import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tf_metalearn.episodes import Augmentation, ClassTable, EpisodeSampler

EPISODES = 4000


def draw(sampler, indices, batch=0):
    """Everything of some episodes as numpy arrays."""
    episode, query_y = sampler(np.asarray(indices, np.int64), batch)
    return [part.numpy() for part in (*episode, query_y)]


@pytest.fixture
def drawn(numbered):
    """Thousands of 5-way 2-shot episodes: example numbers and labels."""
    support_x, support_y, query_x, query_y = draw(EpisodeSampler(numbered, 5, 2, 3, seed=1), range(EPISODES))
    return support_x[..., 0].astype(int), support_y, query_x[..., 0].astype(int), query_y


def class_of(table, numbers):
    return np.searchsorted(np.cumsum(table.sizes), numbers, side="right")


def test_examples_have_the_labels_of_their_class_and_classes_are_distinct(numbered, drawn):
    support, support_y, query, query_y = drawn
    numbers, labels = np.concatenate([support, query], axis=1), np.concatenate([support_y, query_y], axis=1)
    classes = class_of(numbered, numbers)
    for label in range(5):
        of_label = np.where(labels == label, classes, -1).max(axis=1, keepdims=True)
        assert (classes[labels == label] == np.broadcast_to(of_label, labels.shape)[labels == label]).all()
    assert all(len(set(row)) == 5 for row in classes)


def test_each_class_has_its_shots_and_queries(drawn):
    _, support_y, _, query_y = drawn
    np.testing.assert_array_equal(np.sort(support_y), np.broadcast_to(np.repeat(range(5), 2), [EPISODES, 10]))
    np.testing.assert_array_equal(np.sort(query_y), np.broadcast_to(np.repeat(range(5), 3), [EPISODES, 15]))


def test_no_example_is_twice_in_an_episode(drawn):
    support, _, query, _ = drawn
    numbers = np.sort(np.concatenate([support, query], axis=1))
    assert (np.diff(numbers, axis=1) > 0).all()


def test_classes_are_equally_likely_and_so_is_every_label_of_each(numbered, drawn):
    support, support_y, _, _ = drawn
    counts = np.zeros([12, 5])
    np.add.at(counts, (class_of(numbered, support), support_y), 0.5)
    assert counts.sum() == EPISODES * 5
    # Classes of an episode exclude each other, which only makes the counts more even than independent draws.
    assert scipy.stats.chisquare(counts.sum(axis=1)).pvalue > 1e-3
    assert scipy.stats.chisquare(counts.reshape(-1)).pvalue > 1e-3


def test_examples_of_a_class_are_equally_likely_in_support_and_query(numbered, drawn):
    support, _, query, _ = drawn
    counts = [np.bincount(part.reshape(-1), minlength=len(numbered.examples)) for part in (support, query)]
    for label, (start, size) in enumerate(zip(numbered.starts, numbered.sizes, strict=True)):
        for of_part in counts:
            assert scipy.stats.chisquare(of_part[start : start + size]).pvalue > 1e-4, f"class {label}"


@pytest.mark.parametrize("part", [1, 3], ids=["support", "query"])
def test_the_order_within_a_set_tells_nothing_about_labels(drawn, part):
    labels = drawn[part]
    for position in range(labels.shape[1]):
        assert scipy.stats.chisquare(np.bincount(labels[:, position], minlength=5)).pvalue > 1e-4


def test_an_episode_is_the_same_in_every_batch_and_order(numbered):
    sampler = EpisodeSampler(numbered, 5, 2, 3, seed=3)
    together = draw(sampler, range(20))
    for index in (19, 0, 7):
        for whole, alone in zip(together, draw(sampler, [index]), strict=True):
            np.testing.assert_array_equal(whole[index], alone[0])
    for whole, backwards in zip(together, draw(sampler, range(19, -1, -1)), strict=True):
        np.testing.assert_array_equal(whole[::-1], backwards)


def test_graph_and_eager_mode_draw_the_same(numbered):
    sampler = EpisodeSampler(numbered, 5, (1, 3), 3, seed=3)
    eager = draw(sampler, [5], batch=2)
    graph = tf.function(sampler)(tf.constant([5], tf.int64), tf.constant(2, tf.int64))
    for one, other in zip(eager, (*graph[0], graph[1]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_seeds_give_different_episodes(numbered):
    drawn = [draw(EpisodeSampler(numbered, seed=seed, queries=3), range(100))[0] for seed in (0, 1)]
    assert (drawn[0] != drawn[1]).any(axis=(1, 2)).mean() > 0.99


def test_ranges_give_every_shape_and_one_for_a_batch(numbered):
    sampler = EpisodeSampler(numbered, ways=(2, 4), shots=(1, 3), queries=2, seed=0)
    assert not sampler.static
    shapes = set()
    for batch in range(200):
        _, support_y, _, query_y = draw(sampler, [7, 8], batch)
        ways = query_y.max() + 1
        shots = support_y.shape[1] // ways
        assert support_y.shape == (2, ways * shots)
        assert query_y.shape == (2, ways * 2)
        shapes.add((int(ways), int(shots)))
    assert shapes == {(ways, shots) for ways in (2, 3, 4) for shots in (1, 2, 3)}


def test_static_shapes_are_known_to_the_graph(numbered):
    sampler = EpisodeSampler(numbered, ways=5, shots=2, queries=3)
    dataset = tf.data.Dataset.range(8).batch(4, drop_remainder=True).map(sampler)
    episode, query_y = dataset.element_spec
    assert [spec.shape.as_list() for spec in episode] == [[4, 10, 1], [4, 10], [4, 15, 1]]
    assert query_y.shape.as_list() == [4, 15]


@pytest.fixture
def alphabets():
    """Three alphabets of 3, 5 and 8 characters."""
    names = [f"{group}{number}" for group, size in (("a", 3), ("b", 5), ("c", 8)) for number in range(size)]
    labels = np.repeat(names, 4)
    return ClassTable.of(np.arange(64.0)[:, None], labels, groups={name: name[0] for name in names})


def test_classes_within_groups_share_their_group(alphabets):
    sampler = EpisodeSampler(alphabets, ways=3, shots=1, queries=2, within_groups=True)
    assert sampler.static
    support, *_ = draw(sampler, range(3000))
    groups = np.array(alphabets.groups)[class_of(alphabets, support[..., 0])]
    assert (groups == groups[:, :1]).all()
    assert scipy.stats.chisquare([np.sum(groups[:, 0] == group) for group in "abc"]).pvalue > 1e-3


def test_ways_are_clipped_to_the_size_of_the_group(alphabets):
    sampler = EpisodeSampler(alphabets, ways=8, shots=1, queries=2, within_groups=True)
    ways = {"a": 3, "b": 5, "c": 8}
    seen = set()
    for index in range(40):
        support, support_y, _, _ = draw(sampler, [index])
        group = alphabets.groups[class_of(alphabets, support[0, 0, 0])]
        assert support_y.shape == (1, ways[group])
        seen.add(group)
    assert seen == set("abc")
    # In a batch all tasks have as many ways as the smallest of their groups.
    assert draw(sampler, range(40))[1].shape == (40, 3)


def test_zero_shot_episodes_have_metadata_in_the_place_of_examples():
    labels = np.repeat(["x", "y", "z", "w"], 5)
    features = {name: np.full(3, ord(name)) for name in "xyzw"}
    x = np.array([ord(label) for label in labels], "float32")[:, None]
    sampler = EpisodeSampler(ClassTable.of(x, labels, metadata=features), ways=3, shots=0, queries=2)
    support_x, support_y, query_x, query_y = draw(sampler, range(50))
    assert support_x.shape == (50, 3, 3)
    np.testing.assert_array_equal(support_y, np.broadcast_to(range(3), [50, 3]))
    for features_of, of_query, labels_of in zip(support_x, query_x, query_y, strict=True):
        np.testing.assert_array_equal(features_of[labels_of, 0], of_query[:, 0])


def test_pixels_are_scaled_to_one_and_other_numbers_left_alone():
    labels = np.repeat([0, 1], 3)
    pixels = ClassTable.of(np.full([6, 2, 2, 1], 51, np.uint8), labels)
    np.testing.assert_allclose(draw(EpisodeSampler(pixels, 2, 1, 1), [0])[0], 0.2, rtol=1e-6)
    numbers = ClassTable.of(np.full([6, 2], 51.0), labels)
    support_x, support_y, *_ = draw(EpisodeSampler(numbers, 2, 1, 1), [0])
    assert (support_x == 51).all()
    assert (support_x.dtype, support_y.dtype) == (np.float32, np.int32)


def test_augmentation_leaves_the_choice_of_examples_alone():
    table = ClassTable.of(np.random.default_rng(0).integers(1, 255, [40, 6, 6, 1], np.uint8), np.repeat(range(4), 10))
    plain = draw(EpisodeSampler(table, 3, 1, 2, seed=5), range(10))
    moved = draw(EpisodeSampler(table, 3, 1, 2, seed=5, augmentation=Augmentation(shift=1)), range(10))
    np.testing.assert_array_equal(plain[1], moved[1])
    np.testing.assert_array_equal(plain[3], moved[3])
    assert (plain[0] != moved[0]).any()
    # What is in the middle has only moved by a pixel.
    assert all(
        any(np.allclose(a[1:-1, 1:-1], b[1 + y : 5 + y, 1 + x : 5 + x]) for y in (-1, 0, 1) for x in (-1, 0, 1))
        for a, b in zip(moved[0].reshape(-1, 6, 6), plain[0].reshape(-1, 6, 6), strict=True)
    )


def test_too_few_classes_or_examples_are_refused_with_their_numbers(numbered, alphabets, refused):
    with refused("`ways`", "ways=13", "which has 12 classes"):
        EpisodeSampler(numbered, ways=13)
    with refused("`shots` + `queries`", "1 + 9 = 10", "'10' has 8, '11' has 9", "shots + queries <= 8", "2 classes"):
        EpisodeSampler(numbered, shots=1, queries=9)
    with refused("`within_groups`", "have no groups"):
        EpisodeSampler(numbered, within_groups=True)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"ways": 0}, "ways=0"),
        ({"ways": 2.5}, "ways=2.5"),
        ({"ways": (5, 2)}, "ways=(5, 2)"),
        ({"ways": True}, "ways=True"),
        ({"shots": -1}, "shots=-1"),
        ({"shots": (1, 2, 3)}, "shots=(1, 2, 3)"),
        ({"queries": 0}, "queries=0"),
        ({"queries": (1, 2)}, "queries=(1, 2)"),
        ({"shots": 0}, "shots=0"),
        ({"shots": (0, 2)}, "shots=(0, 2)"),
    ],
)
def test_what_is_no_count_is_refused(numbered, refused, arguments, received):
    with refused(f"`{next(iter(arguments))}`", received):
        EpisodeSampler(numbered, **{"queries": 3, **arguments})
