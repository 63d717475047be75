import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn import Augmentation, load_episodes
from tf_metalearn.episodes import ClassTable, SinusoidSampler, load_classes


@pytest.fixture
def arrays():
    return np.random.default_rng(0).integers(0, 256, [60, 5, 5, 1], np.uint8), np.repeat(range(6), 10)


def flat(dataset):
    """All tasks of a data set, one after the other, each as a list of numpy arrays."""
    return [
        [part[task].numpy() for part in (*episode, query_y)]
        for episode, query_y in dataset
        for task in range(len(query_y))
    ]


def equal(ones, others):
    for one, other in zip(ones, others, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def load(arrays, **arguments):
    return load_episodes(arrays, "all", **{"ways": 3, "queries": 2, "batch_size": 4, "episodes": 24, **arguments})


def test_shapes_and_types_are_those_of_the_docs(arrays):
    dataset = load(arrays, shots=2)
    episode, query_y = dataset.element_spec
    shapes = [spec.shape.as_list() for spec in (*episode, query_y)]
    assert shapes == [[4, 6, 5, 5, 1], [4, 6], [4, 6, 5, 5, 1], [4, 6]]
    assert [spec.dtype for spec in (*episode, query_y)] == [tf.float32, tf.int32, tf.float32, tf.int32]
    assert len(flat(dataset)) == 24


@pytest.mark.parametrize("augmentation", [None, Augmentation(shift=2, turn=20, scale=0.2, shear=10, flip=True)])
def test_episode_i_is_the_same_for_every_batch_size_and_start(arrays, augmentation):
    whole = flat(load(arrays, batch_size=24, augmentation=augmentation))
    equal(whole, flat(load(arrays, batch_size=5, augmentation=augmentation)))
    equal(whole[9:], flat(load(arrays, start=9, episodes=15, augmentation=augmentation)))
    with pytest.raises(AssertionError):
        equal(whole, flat(load(arrays, seed=1, augmentation=augmentation)))


def test_sinusoids_are_the_same_for_every_batch_size():
    whole = flat(load_episodes("sinusoids", shots=3, queries=4, batch_size=40, episodes=40))
    equal(whole, flat(load_episodes("sinusoids", shots=3, queries=4, batch_size=7, episodes=40)))


def test_it_goes_on_without_end_unless_told(arrays):
    dataset = load(arrays, episodes=None)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY or dataset.cardinality() > 10**15
    first = list(itertools.islice(dataset, 3))
    assert all(len(query_y) == 4 for _, query_y in first)


def test_a_number_that_the_batch_size_does_not_divide_ends_with_a_smaller_batch(arrays):
    assert [len(query_y) for _, query_y in load(arrays, episodes=6)] == [4, 2]


def test_ranges_resume_at_a_batch_alone(arrays, refused):
    ranges = {"ways": (2, 4), "shots": (1, 3)}
    whole = flat(load(arrays, **ranges))
    equal(whole[8:], flat(load(arrays, start=8, episodes=16, **ranges)))
    with refused("`start`", "start=9", "start=8"):
        load(arrays, start=9, **ranges)


def test_each_shape_of_a_range_is_traced_once(arrays):
    traced = []

    @tf.function(reduce_retracing=False)
    def learn(episode, query_y):
        traced.append(episode.support_x.shape[1:])
        return tf.reduce_sum(episode.support_x)

    for episode, query_y in load(arrays, ways=(2, 4), episodes=160):
        learn(episode, query_y)
    assert len(traced) == 3


def test_random_splits_do_not_overlap_and_only_depend_on_names(arrays):
    x, y = arrays
    parts = {split: set(load_classes(arrays, split).names) for split in ("train", "validation", "test")}
    assert set.union(*parts.values()) == {str(label) for label in range(6)}
    assert sum(map(len, parts.values())) == 6
    backwards = {split: set(load_classes((x[::-1], y[::-1]), split).names) for split in parts}
    assert backwards == parts


def test_metadata_makes_zero_shot_episodes(arrays, refused):
    metadata = {str(label): [label, -label] for label in range(6)}
    for episode, _ in load(arrays, shots=0, metadata=metadata, episodes=4):
        assert episode.support_x.shape == (4, 3, 2)
        np.testing.assert_array_equal(episode.support_x[..., 0], -episode.support_x[..., 1])
    with refused("`metadata`", "'5'", "1 classes without"):
        load(arrays, shots=0, metadata={label: [label] for label in range(5)})
    with refused("`metadata`", "Received: a ndarray"):
        load(arrays, shots=0, metadata=np.zeros([6, 2]))
    with refused("`metadata`", "equally many"):
        load(arrays, shots=0, metadata={label: [1.0] * (1 + label % 2) for label in range(6)})
    with refused("`shots`", "no metadata"):
        load(arrays, shots=0)


def test_sinusoids_are_sine_waves_in_the_ranges_of_the_paper():
    """Amplitude and phase are recovered by least squares on sin and cos, and must explain all points."""
    episodes = list(load_episodes("sinusoids", shots=10, queries=20, batch_size=500, episodes=500))
    (support_x, support_y, query_x), query_y = episodes[0]
    x, y = np.concatenate([support_x, query_x], 1)[..., 0], np.concatenate([support_y, query_y], 1)[..., 0]
    assert np.abs(x).max() <= 5
    found = []
    for one_x, one_y in zip(x.astype(float), y.astype(float), strict=True):
        basis = np.stack([np.sin(one_x), np.cos(one_x)], axis=1)
        (a, b), residual, *_ = np.linalg.lstsq(basis, one_y)
        assert residual[0] < 1e-8
        found.append((np.hypot(a, b), np.arctan2(-b, a) % (2 * np.pi)))
    amplitude, phase = np.array(found).T
    assert (amplitude.min() >= 0.1, amplitude.max() <= 5, amplitude.max() > 4.9, amplitude.min() < 0.2) == (True,) * 4
    assert (phase.max() <= np.pi, phase.max() > 3.1, phase.min() < 0.05) == (True,) * 3


def test_sinusoids_have_one_number_of_shots(refused):
    with refused("`shots`", "(5, 10)"):
        load_episodes("sinusoids", shots=(5, 10))
    with refused("`shots`", "shots=0"):
        SinusoidSampler(shots=0)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"start": -4}, "start=-4"),
        ({"episodes": 0}, "episodes=0"),
        ({"protocol": "lake"}, "protocol='lake'"),
    ],
)
def test_what_no_episode_can_be_made_of_is_refused(arrays, refused, arguments, received):
    with refused(f"`{next(iter(arguments))}`", received):
        load(arrays, **arguments)


def test_metadata_is_needed_for_the_classes_of_the_split_alone(arrays):
    lists = {"train": [0, 1, 2], "test": [4, 5]}
    table = load_classes(arrays, "train", splits=lists, metadata={label: [label] for label in range(3)})
    np.testing.assert_array_equal(table.metadata, [[0], [1], [2]])


def test_arguments_that_would_mean_nothing_are_refused(arrays, refused):
    table = ClassTable.of(*arrays)
    for argument, value in {"split": "test", "image_size": 8, "metadata": {}, "splits": {}, "rotations": True}.items():
        with refused(f"`{argument}`", "ClassTable"):
            load_episodes(table, **{argument: value})
    for argument, value in {"within_groups": True, "augmentation": Augmentation(), "image_size": 8}.items():
        with refused(f"`{argument}`", "sinusoids"):
            load_episodes("sinusoids", **{argument: value})
    with refused("`image_size`", "arrays"):
        load(arrays, image_size=8)
    with refused("`augmentation`", "'flip'"):
        load(arrays, augmentation="flip")


@pytest.mark.parametrize("source", [None, 5, np.zeros([3, 2]), {"x": 1}])
def test_what_is_no_source_is_refused(source, refused):
    with refused("`source`", "a pair of arrays", f"a {type(source).__name__}"):
        load_episodes(source)


def test_misspelt_names_are_guessed(tmp_path, refused, arrays):
    with refused("`source`", "Did you mean 'omniglot'?"):
        load_episodes("Omniglot", data_dir=tmp_path)
    with refused("`source`", "Received: 'cifar_fs'"):
        load_episodes("cifar_fs", data_dir=tmp_path)
    with refused("`split`", "Try split='validation'"):
        load_episodes(arrays, "val")
    with refused("`splits` must map"):
        load_episodes(arrays, splits={"train": "abc"})


def test_numpys_numbers_are_numbers(arrays):
    equal(flat(load(arrays, seed=np.int64(3))), flat(load(arrays, seed=3)))


def test_labels_may_be_bytes():
    assert ClassTable.of(np.zeros([2, 1]), np.array([b"ant", b"bee"])).names == ("ant", "bee")


def test_splits_of_sinusoids_share_no_task(refused):
    tasks = {s: flat(load_episodes("sinusoids", s, shots=2, queries=2, episodes=50)) for s in ("train", "test")}
    assert not {task[0].tobytes() for task in tasks["train"]} & {task[0].tobytes() for task in tasks["test"]}
    with refused("`split`", "split='all'"):
        load_episodes("sinusoids", "all")


def test_arrays_must_be_a_pair(arrays, refused):
    with refused("`source`", "Received: 3"):
        load((*arrays, arrays[1]))


def test_a_table_can_be_shared_by_several_streams(arrays):
    table = ClassTable.of(*arrays)
    stream = load_episodes(table, ways=3, queries=2, batch_size=4, episodes=24)
    equal(flat(stream), flat(load(arrays)))


@pytest.mark.slow
def test_two_replicas_get_the_episodes_of_one_device(arrays, mirrored):
    dataset = load(arrays, episodes=8, batch_size=4)
    shares = [
        mirrored.experimental_local_results(query_y) for _, query_y in mirrored.experimental_distribute_dataset(dataset)
    ]
    together = [np.concatenate([share.numpy() for share in shares_of_batch]) for shares_of_batch in shares]
    for expected, actual in zip(dataset, together, strict=True):
        np.testing.assert_array_equal(expected[1], actual)
