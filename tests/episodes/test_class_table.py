import numpy as np
import pytest

from tf_metalearn.episodes import ClassTable


@pytest.fixture
def table():
    x = np.arange(5 * 2 * 2, dtype=np.uint8).reshape(5, 2, 2, 1)
    groups, metadata = {"a": "g", "b": "h"}, {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    return ClassTable.of(x, ["b", "a", "b", "a", "b"], groups, metadata, title="letters")


def test_examples_are_sorted_by_class_and_keep_their_order(table):
    assert table.names == ("a", "b")
    assert table.sizes.tolist() == [2, 3]
    assert table.starts.tolist() == [0, 2]
    np.testing.assert_array_equal(table.examples[:, 0, 0, 0], [4, 12, 0, 8, 16])


def test_selecting_keeps_everything_of_a_class(table):
    chosen = table.select(["b"], "half")
    assert (chosen.names, chosen.groups, chosen.title) == (("b",), ("h",), "half")
    np.testing.assert_array_equal(chosen.examples, table.examples[2:])
    np.testing.assert_array_equal(chosen.metadata, [[3.0, 4.0]])


def test_unknown_classes_are_refused(table, refused):
    with refused("`names`", "classes of letters", "c, d (2 unknown)"):
        table.select(["d", "a", "c"])


def test_turned_classes_are_numpy_rot90(table):
    turned = table.with_turns()
    assert turned.names[4:] == ("b/rot000", "b/rot090", "b/rot180", "b/rot270")
    assert turned.sizes.tolist() == [2] * 4 + [3] * 4
    assert turned.groups == ("g",) * 4 + ("h",) * 4
    assert turned.metadata is None
    start = turned.starts[7]
    for number in range(3):
        np.testing.assert_array_equal(turned.examples[start + number], np.rot90(table.examples[2 + number], 3))


def test_only_square_images_can_be_turned(refused):
    with refused("`rotations`", "(2, 3, 1)"):
        ClassTable.of(np.zeros([2, 2, 3, 1]), [0, 1]).with_turns()


def test_labels_that_do_not_match_are_refused(refused):
    with refused("`labels`", "each of the 3 examples", "(2,)"):
        ClassTable.of(np.zeros([3, 1]), [0, 1])
    with refused("`labels`", "(3, 1)"):
        ClassTable.of(np.zeros([3, 1]), np.zeros([3, 1]))
    with refused("`labels`"):
        ClassTable.of(np.zeros([0, 1]), [])


def test_sizes_that_do_not_match_are_refused(refused):
    with refused("`sizes`", "3 in all", "2 in all"):
        ClassTable(np.zeros([3, 1]), np.array([2]), ("a",))
    with refused("`groups`", "2 classes", "Received: 1"):
        ClassTable(np.zeros([3, 1]), np.array([2, 1]), ("a", "b"), groups=("g",))
