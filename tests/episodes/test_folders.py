import os

import numpy as np
import pytest
from PIL import Image

from tf_metalearn.episodes import load_classes, load_episodes


def test_class_folders_become_classes_in_the_order_of_their_names(image_folder):
    image_folder("dog", 3)
    root = image_folder("cat", 2)
    table = load_classes(str(root), "all")
    assert table.names == ("cat", "dog")
    assert table.sizes.tolist() == [2, 3]
    np.testing.assert_array_equal(table.examples[0], np.asarray(Image.open(root / "cat" / "0.png"))[..., None])
    assert not table.groups


def test_nested_folders_give_groups(image_folder):
    image_folder("greek/alpha", 2), image_folder("greek/beta", 2)
    table = load_classes(image_folder("latin/a", 2), "all")
    assert table.names == ("greek/alpha", "greek/beta", "latin/a")
    assert table.groups == ("greek", "greek", "latin")


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("train", "validation", "test"),
        ("Train", "Valid", "TEST"),
        ("training", "val", "testing"),
    ],
)
def test_train_and_test_folders_are_splits(image_folder, train, validation, test):
    for name in (f"{train}/a", f"{train}/b", f"{validation}/c", f"{test}/d"):
        root = image_folder(name, 2)
    assert load_classes(root, "train").names == ("a", "b")
    assert load_classes(root, "validation").names == ("c",)
    assert load_classes(root, "test").names == ("d",)
    assert load_classes(root, "train+test").names == ("a", "b", "d")


def test_images_beside_splits_are_refused(image_folder, refused):
    """Else the splits would become groups, and test classes would be trained on."""
    image_folder("train/a", 2), image_folder("test/b", 2)
    with refused("`source`", "['test', 'train']", "'extra/c'"):
        load_classes(image_folder("extra/c", 2))


def test_a_split_may_stand_alone(image_folder, refused):
    image_folder("train/a", 2)
    with refused("`split`", "split='test'", "Try split='train'"):
        load_classes(image_folder("train/b", 2), "test")


def test_a_class_called_train_is_no_split(image_folder):
    image_folder("train", 2)
    assert load_classes(image_folder("boat", 2), "all").names == ("boat", "train")


def test_grey_among_coloured_images_become_rgb(image_folder):
    image_folder("a", 2)
    root = image_folder("b", 2, mode="RGB")
    table = load_classes(root, "all")
    assert table.examples.shape == (4, 6, 6, 3)
    np.testing.assert_array_equal(table.examples[0, ..., 0], table.examples[0, ..., 2])
    np.testing.assert_array_equal(table.examples[2], np.asarray(Image.open(root / "b" / "0.png")))


def test_sixteen_bits_become_eight(tmp_path):
    pixels = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4)
    (tmp_path / "images" / "a").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "images" / "a" / "0.png")
    np.testing.assert_array_equal(load_classes(tmp_path / "images", "all").examples[0, ..., 0], pixels // 257)


def test_folders_without_splits_are_dealt_out_without_overlap(image_folder):
    for number in range(25):
        root = image_folder(f"class{number}", 1)
    parts = [load_classes(root, split).names for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [16, 4, 5]
    assert len({name for part in parts for name in part}) == 25


def test_splits_that_share_a_class_are_refused(image_folder, refused):
    image_folder("train/cat", 2)
    root = image_folder("test/cat", 2)
    with refused("`splits` must not overlap", "'cat'", "'train'", "'test'"):
        load_classes(root)


def test_lists_that_share_a_class_are_refused(image_folder, refused):
    with refused("`splits` must not overlap", "'dog'"):
        load_classes(image_folder("dog", 1), splits={"train": ["dog"], "test": ["dog"]})


def test_the_users_lists_decide_splits(image_folder, refused):
    image_folder("a", 2), image_folder("b", 2)
    root = image_folder("c", 2)
    lists = {"train": ["a", "c"], "test": ["b"]}
    assert load_classes(root, "train", splits=lists).names == ("a", "c")
    with refused("`split`", "split='validation'", "train, test"):
        load_classes(root, "validation", splits=lists)
    with refused("`names`", "zebra (1 unknown)"):
        load_classes(root, "train", splits={"train": ["zebra"]})


def test_images_are_resized_and_their_cache_follows_the_files(image_folder):
    root = image_folder("a", 2, size=(9, 5), mode="RGB")
    assert load_classes(root, "all").examples.shape == (2, 5, 9, 3)
    assert load_classes(root, "all", image_size=4).examples.shape == (2, 4, 4, 3)
    assert len(list((root / ".tf_metalearn").iterdir())) == 2
    image_folder("a", 3, size=(9, 5), mode="RGB")
    assert load_classes(root, "all", image_size=4).sizes.tolist() == [3]


def test_images_of_different_sizes_are_refused_with_two_of_them(image_folder, refused):
    image_folder("a", 2)
    root = image_folder("b", 2, size=(8, 7))
    with refused("one size", "a/0.png", "(6, 6, 1)", "b/0.png", "(7, 8, 1)", "image_size"):
        load_classes(root, "all")


@pytest.mark.parametrize("damage", [b"no image", None])
def test_a_damaged_image_is_named_or_skipped_with_a_count(image_folder, refused, damage):
    root = image_folder("a", 4, size=(40, 40))
    path = root / "a" / "2.png"
    path.write_bytes(damage or path.read_bytes()[:400])
    with refused(str(path), "damaged", "unreadable='skip'"):
        load_classes(root, "all")
    with pytest.warns(UserWarning, match=r"1 of 4 images cannot be read.*2\.png"):
        table = load_classes(root, "all", unreadable="skip")
    assert table.sizes.tolist() == [3]
    with refused("`unreadable`", "'ignore'"):
        load_classes(root, "all", unreadable="ignore")


def test_folders_without_class_folders_are_refused(tmp_path, image_folder, refused):
    (tmp_path / "empty").mkdir()
    with refused("class folders", "no images in it"):
        load_classes(tmp_path / "empty")
    with refused("class folders", "'0.png'"):
        load_classes(image_folder(".", 2))
    with refused("existing folder", "not there"):
        load_classes(tmp_path / "missing")


def test_hidden_files_do_not_count(image_folder):
    root = image_folder("a", 2)
    image_folder(".hidden", 2)
    (root / "a" / ".0.png").write_bytes(b"left by an editor")
    assert load_classes(root, "all").sizes.tolist() == [2]


def test_too_few_images_of_a_class_are_told(image_folder, refused):
    image_folder("many", 16)
    root = image_folder("few", 5)
    with refused("'few' has 5", "1 + 15 = 16"):
        load_episodes(root, "all", ways=2)


def test_episodes_come_from_a_path_as_from_a_string(image_folder):
    image_folder("a", 3)
    root = image_folder("b", 3)
    episodes = [load_episodes(source, "all", ways=2, queries=2, batch_size=1) for source in (root, os.fspath(root))]
    (one, _), (other, _) = (next(iter(stream)) for stream in episodes)
    np.testing.assert_array_equal(one.query_x, other.query_x)


def test_mini_imagenet_is_read_from_class_folders_and_from_flat_files(tmp_path, refused):
    from tf_metalearn.episodes.splits import published

    names = [name for split in published("mini_imagenet").values() for name in split]
    assert len(set(names)) == 100
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, [90, 100, 3], np.uint8))
    for name in names[:-1]:
        (tmp_path / name).mkdir()
        pixels.save(tmp_path / name / f"{name}_1.JPEG")
    with refused("`data_dir`", names[-1], "WordNet"):
        load_classes("mini_imagenet", "test", data_dir=tmp_path)
    for number in range(2):
        pixels.save(tmp_path / f"{names[-1]}0000000{number}.jpg")
    (tmp_path / "n00000000").mkdir()
    pixels.save(tmp_path / "n00000000" / "another.jpg")
    tables = [load_classes("mini_imagenet", split, data_dir=tmp_path) for split in ("train", "validation", "test")]
    assert [len(table.names) for table in tables] == [64, 16, 20]
    assert tables[0].examples.shape == (64 + (names[-1] in tables[0].names), 84, 84, 3)
