import errno
import subprocess
import sys

import numpy as np
import pytest

from tf_metalearn.episodes import ClassTable, cache
from tf_metalearn.episodes.cache import cached, content_key, listing_key


@pytest.fixture
def table():
    return ClassTable.of(
        np.random.default_rng(0).integers(0, 256, [50, 8, 8, 1], np.uint8),
        np.repeat(["a", "b"], 25),
        groups={"a": "g", "b": "h"},
        metadata={"a": [1.0], "b": [2.0]},
        title="letters",
    )


def never():
    raise AssertionError("the cache should have been used")


def same(one, other):
    np.testing.assert_array_equal(one.examples, other.examples)
    np.testing.assert_array_equal(one.sizes, other.sizes)
    np.testing.assert_array_equal(one.metadata, other.metadata)
    assert (one.names, one.groups, one.title) == (other.names, other.groups, other.title)


def test_a_cache_gives_back_all_of_a_table(table, tmp_path):
    path = tmp_path / "deep" / "letters.npz"
    assert cached(path, "key", lambda: table) is table
    same(cached(path, "key", never), table)
    assert [file.name for file in path.parent.iterdir()] == ["letters.npz"]


def test_a_table_without_groups_and_metadata_survives(tmp_path):
    plain = ClassTable.of(np.zeros([2, 3]), [0, 1])
    cached(tmp_path / "plain.npz", "key", lambda: plain)
    loaded = cached(tmp_path / "plain.npz", "key", never)
    assert loaded.groups == ()
    assert loaded.metadata is None


def test_a_stale_cache_is_built_anew(table, tmp_path):
    path = tmp_path / "letters.npz"
    cached(path, "old", lambda: table)
    newer = table.select(["b"])
    assert cached(path, "new", lambda: newer) is newer
    same(cached(path, "new", never), newer)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_cache_is_built_anew(table, tmp_path, damage):
    path = tmp_path / "letters.npz"
    cached(path, "key", lambda: table)
    content = bytearray(path.read_bytes())
    pixels = content.find(table.examples.tobytes())
    assert pixels > 0
    content[pixels + 1000] ^= 1
    path.write_bytes({"truncated": content[:2000], "flipped": content, "empty": b"", "text": b"not a zip"}[damage])
    assert cached(path, "key", lambda: table) is table
    same(cached(path, "key", never), table)


FULL_DISK = """
import resource, signal, sys, warnings
from pathlib import Path
import numpy as np
from tf_metalearn.episodes import ClassTable, cache
from tf_metalearn.episodes.cache import cached

table = ClassTable.of(np.zeros([10_000, 8], np.uint8), np.repeat([0, 1], 5000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert cached(Path(sys.argv[1]), "new", lambda: table) is table
assert "cannot be written" in str(caught[-1].message), caught
"""


def test_a_full_disk_leaves_the_old_cache_as_it_was_and_work_goes_on(table, tmp_path):
    """The system lets the process write no file above 20 kB, as a disk does that has no more room."""
    path = tmp_path / "letters.npz"
    cached(path, "old", lambda: table)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["letters.npz"]


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EROFS])
def test_a_folder_of_somebody_elses_leaves_the_users_own_cache(table, tmp_path, monkeypatch, reason):
    def forbidden(path, key, table, write=cache._write):
        if "shared" in path.parts:
            raise OSError(reason, "not yours")
        write(path, key, table)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(cache, "_write", forbidden)
    cached(tmp_path / "shared" / "letters.npz", "key", lambda: table)
    same(cached(tmp_path / "shared" / "letters.npz", "key", never), table)
    other = table.select(["b"])
    assert cached(tmp_path / "shared" / "deep" / "letters.npz", "key", lambda: other) is other


def test_others_may_read_a_cache(table, tmp_path):
    cached(tmp_path / "letters.npz", "key", lambda: table)
    assert (tmp_path / "letters.npz").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_written_only_costs_the_cache(table, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert cached(tmp_path / "file" / "letters.npz", "key", lambda: table) is table


def test_keys_follow_contents_names_and_settings(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a"), two.write_text("b")
    key = content_key([one, two], 28)
    assert content_key([two, one], 28) == key
    assert content_key([one, two], 29) != key
    two.write_text("c")
    assert content_key([one, two], 28) != key
    listed = listing_key([one, two], tmp_path, 28)
    assert listing_key([one, two], tmp_path, 28) == listed
    two.write_text("cc")
    assert listing_key([one, two], tmp_path, 28) != listed
