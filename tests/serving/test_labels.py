import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.serving.labels import is_label, number_labels


def in_python(labels):
    """The same with dictionaries: numbers and classes of one task."""
    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return [places[label] for label in labels], list(places)


@pytest.mark.parametrize(("dtype", "nothing"), [(tf.int64, -1), (tf.string, b"")])
def test_each_task_numbers_its_own_labels_in_the_order_in_which_they_come(dtype, nothing):
    labels = np.random.default_rng(0).integers(10, 16, [20, 7]).tolist()
    if dtype == tf.string:
        labels = [[b"class %d" % label for label in task] for task in labels]
    found = number_labels(tf.constant(labels, dtype))
    numbers, classes = zip(*map(in_python, labels), strict=True)
    assert found.numbers.numpy().tolist() == list(numbers)
    assert found.counts.numpy().tolist() == [len(task) for task in classes]
    widest = max(map(len, classes))
    assert found.classes.numpy().tolist() == [task + [nothing] * (widest - len(task)) for task in classes]


def test_a_fixed_width_leaves_out_classes_beyond_it_and_still_counts_them():
    found = number_labels(tf.constant([[5, 6, 7], [8, 8, 8]], tf.int64), width=2)
    assert found.classes.numpy().tolist() == [[5, 6], [8, -1]]
    assert found.counts.numpy().tolist() == [3, 1]


def test_a_fixed_width_beyond_all_classes_is_filled_up():
    found = number_labels(tf.constant([["a", "b"]]), width=4)
    assert found.classes.numpy().tolist() == [[b"a", b"b", b"", b""]]


def test_a_task_is_numbered_whatever_the_other_tasks_are():
    alone = number_labels(tf.constant([[3, 9, 3, 4]], tf.int64))
    joined = number_labels(tf.constant([[1, 2, 3, 4], [3, 9, 3, 4], [7, 7, 7, 7]], tf.int64))
    assert joined.numbers[1].numpy().tolist() == alone.numbers[0].numpy().tolist() == [0, 1, 0, 2]
    assert joined.classes[1].numpy().tolist() == [3, 9, 4, -1]


def test_negative_numbers_and_empty_text_are_no_labels():
    assert is_label(tf.constant([0, 7, -1, -9], tf.int64)).numpy().tolist() == [True, True, False, False]
    assert is_label(tf.constant(["a", "", " "])).numpy().tolist() == [True, False, True]
