"""Real Omniglot, MNIST and CIFAR-100 where TFDS_DATA_DIR has them, against facts that are known of them."""

import hashlib
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tf_metalearn import load_episodes
from tf_metalearn.episodes import catalogue, load_classes, prepared
from tf_metalearn.episodes.splits import published


@pytest.fixture
def linked(prepared_data, tmp_path):
    """`linked("omniglot")`: a data directory with that data set and nothing else, for caches of its own."""

    def link(name):
        (tmp_path / name).symlink_to(prepared_data(name) / name)
        return tmp_path

    return link


@pytest.fixture
def omniglot(prepared_data):
    def load(split, **arguments):
        return load_classes("omniglot", split, data_dir=prepared_data("omniglot"), **arguments)

    return load


def test_the_published_lists_have_the_published_sizes():
    counts = {
        name: {split: len(names) for split, names in published(name).items()}
        for name in (
            "omniglot_vinyals",
            "omniglot_lake",
            "omniglot_small1",
            "omniglot_small2",
            "cifar_fs",
            "mini_imagenet",
        )
    }
    assert counts == {
        "omniglot_vinyals": {"train": 1028, "validation": 172, "test": 423},
        "omniglot_lake": {"train": 964, "test": 659},
        "omniglot_small1": {"train": 136},
        "omniglot_small2": {"train": 156},
        "cifar_fs": {"train": 64, "validation": 16, "test": 20},
        "mini_imagenet": {"train": 64, "validation": 16, "test": 20},
    }
    lake = published("omniglot_lake")
    assert [len({name.split("/")[0] for name in lake[split]}) for split in ("train", "test")] == [30, 20]
    assert set(published("omniglot_small1")["train"]) < set(lake["train"])


def test_omniglot_has_964_and_659_characters_of_50_alphabets_with_20_drawings_each(omniglot):
    train, test = omniglot("train", protocol="lake"), omniglot("test", protocol="lake")
    assert (len(train.names), len(test.names)) == (964, 659)
    assert len({*train.groups, *test.groups}) == 50
    assert not {*train.groups} & {*test.groups}
    assert {*train.sizes, *test.sizes} == {20}
    assert train.examples.shape == (19_280, 28, 28, 1)
    # Thin strokes of ink, which is 1, on paper.
    assert 0.03 < (train.examples > 127).mean() < 0.15


@pytest.mark.parametrize(
    ("protocol", "train", "test"),
    [("vinyals", 4112, 1692), ("lake", 964, 659), ("small1", 136, 659), ("small2", 156, 659)],
)
def test_the_protocols_of_omniglot(omniglot, protocol, train, test):
    tables = [omniglot(split, protocol=protocol) for split in ("train", "test")]
    assert [len(table.names) for table in tables] == [train, test]
    assert not set(tables[0].names) & set(tables[1].names)


def test_the_papers_1200_characters_are_train_and_validation(omniglot):
    assert len(omniglot("train+validation", rotations=False).names) == 1200
    everything = omniglot("all", rotations=False)
    assert (len(everything.names), len(everything.examples)) == (1623, 32_460)


def test_drawings_are_those_of_tensorflow_datasets(prepared_data, omniglot):
    """Decoded by TensorFlow instead of Pillow, and found by their alphabet and number."""
    folder = prepared.find("omniglot", prepared_data("omniglot"))
    builder = tfds.builder_from_directory(folder)
    greek = builder.info.features["alphabet"].str2int("Greek")
    first = [
        255 - np.asarray(Image.fromarray(example["image"]).convert("L").resize((28, 28), Image.Resampling.LANCZOS))
        for example in tfds.as_numpy(builder.as_dataset(split="train"))
        if example["alphabet"] == greek and example["alphabet_char_id"] == 0
    ]
    table = omniglot("all", rotations=False).select(["Greek/character01"])
    assert {image.tobytes() for image in first} == {image.tobytes() for image in table.examples}
    assert len(first) == 20


@pytest.mark.parametrize(
    ("name", "number", "checksum"),
    [
        ("Greek/character01", 0, "a1511a896c894e6d"),
        ("Tibetan/character42", 19, "450cae8e112494e4"),
        ("Angelic/character20", 7, "972ff494db21b65e"),
    ],
)
def test_the_checksums_of_three_drawings(omniglot, name, number, checksum):
    drawing = omniglot("all", rotations=False).select([name]).examples[number]
    assert hashlib.sha256(drawing.tobytes()).hexdigest()[:16] == checksum


def test_episodes_within_an_alphabet_have_at_most_its_characters(prepared_data, omniglot):
    table = omniglot("train", protocol="lake")
    sizes = [table.groups.count(group) for group in sorted(set(table.groups))]
    # The four small alphabets of the background set.
    assert sorted(sizes)[:5] == [14, 14, 16, 17, 20]
    stream = load_episodes(table, ways=20, queries=1, batch_size=1, episodes=300, within_groups=True)
    assert {episode.support_y.shape[1] for episode, _ in stream} == {14, 16, 17, 20}


def test_omniglot_is_ready_in_a_minute_the_first_time_and_in_a_second_after_that(linked):
    folder = linked("omniglot")
    times = []
    for _ in range(2):
        began = time.perf_counter()
        load_classes("omniglot", "train", data_dir=folder)
        times.append(time.perf_counter() - began)
    assert times[0] < 60
    assert times[1] < 1
    assert [path.name for path in (folder / ".tf_metalearn").iterdir()] == ["omniglot-3.0.0-28.npz"]


@pytest.mark.slow
def test_cifar_fs_has_its_classes_of_cifar_100(prepared_data):
    folder = prepared_data("cifar100")
    tables = [load_classes("cifar_fs", split, data_dir=folder) for split in ("train", "validation", "test")]
    assert [len(table.names) for table in tables] == [64, 16, 20]
    assert {*tables[0].sizes, *tables[1].sizes, *tables[2].sizes} == {600}
    assert tables[2].examples.shape == (12_000, 32, 32, 3)
    assert {"baby", "whale"} < set(tables[2].names)


def test_any_classification_data_set_works_by_its_name(linked):
    table = load_classes("mnist", "all", data_dir=linked("mnist"))
    assert table.names == tuple("0123456789")
    # The published counts of the 70,000 digits.
    assert table.sizes.tolist() == [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]


@pytest.mark.slow
def test_a_data_set_read_plainly_and_as_a_named_source_have_caches_of_their_own(linked):
    """The same files and the same size, but omniglot inverts its ink and names its characters."""
    folder = linked("omniglot")
    plain = load_classes("omniglot:3.0.0", "all", data_dir=folder, image_size=28)
    named = load_classes("omniglot", "all", data_dir=folder, rotations=False)
    assert plain.examples.mean() > 200
    assert named.examples.mean() < 55
    assert "Greek/character01" in named.names


def test_an_unknown_protocol_and_a_missing_data_set_tell_what_to_do(tmp_path, refused):
    with refused("`protocol`", "vinyals, lake, small1, small2", "protocol='brenden'"):
        load_classes("omniglot", protocol="brenden", data_dir=tmp_path)
    with refused("`source`", str(tmp_path), "tf-metalearn datasets omniglot --download", "TFDS_DATA_DIR"):
        load_episodes("omniglot", data_dir=tmp_path)
    with refused("`image_size`", "image_size='large'"):
        load_classes("omniglot", image_size="large", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"`name` must be a tensorflow_datasets builder. Received: 'omniglott'"):
        prepared.download("omniglott", tmp_path)


def test_a_split_that_a_protocol_has_not_is_refused(omniglot, refused):
    with refused("`split`", "train, test", "split='validation'"):
        omniglot("validation", protocol="lake")


def test_the_catalogue_tells_where_things_are_and_what_they_take(glyph_directory):
    entries = {entry.name: entry for entry in catalogue.entries(glyph_directory)}
    assert list(entries) == ["omniglot", "cifar_fs", "mini_imagenet", "glyphs"]
    assert entries["omniglot"].folder is None
    assert entries["omniglot"].megabytes == pytest.approx(17.95)
    assert entries["glyphs"].folder == glyph_directory / "glyphs" / "1.0.0"
    assert entries["glyphs"].megabytes > 5
    load_classes("glyphs", data_dir=glyph_directory)
    (cached,) = {entry.name: entry for entry in catalogue.entries(glyph_directory)}["glyphs"].cached
    assert cached.name == "glyphs-1.0.0-28.npz"


def test_the_catalogue_lists_what_else_is_prepared(linked):
    entry = catalogue.entries(linked("mnist"))[-1]
    assert entry.name == "mnist"
    assert "digits" in entry.summary
    assert entry.homepage.startswith("http")


def test_the_newest_version_is_found(tmp_path):
    for version in ("3.0.0", "3.10.0", "3.9.1"):
        (tmp_path / "omniglot" / version).mkdir(parents=True)
        (tmp_path / "omniglot" / version / "dataset_info.json").write_text("{}")
    assert prepared.find("omniglot", tmp_path).name == "3.10.0"
    assert prepared.find("omniglot:3.9.1", tmp_path).name == "3.9.1"
    assert prepared.find("emnist", tmp_path) is None


def test_the_environment_says_where_data_is(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert prepared.data_directory() == tmp_path
    assert prepared.data_directory(tmp_path / "other") == tmp_path / "other"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert prepared.data_directory().name == "tensorflow_datasets"
