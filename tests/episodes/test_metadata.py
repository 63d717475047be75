"""Tables of class metadata."""

import re

import numpy as np
import pytest

from tf_metalearn.episodes import load_episodes, load_metadata


def test_zero_shot_episodes_have_the_features_of_the_table(tmp_path):
    (tmp_path / "animals.csv").write_text("class, stripes, fins\nwhale, 0, 1.5\n\nzebra, 1e-1, -2\n")
    table = load_metadata(tmp_path / "animals.csv")
    x, y = np.arange(8.0)[:, None], ["zebra"] * 4 + ["whale"] * 4
    episode, query_y = next(
        iter(load_episodes((x, y), "all", ways=2, shots=0, queries=2, batch_size=1, metadata=table))
    )
    expected = {"zebra": np.float32([0.1, -2]), "whale": np.float32([0, 1.5])}
    for query, label in zip(episode.query_x[0], query_y[0], strict=True):
        name = "zebra" if query < 4 else "whale"
        np.testing.assert_array_equal(episode.support_x[0, label], expected[name])


def test_a_folder_of_animals_with_attributes(tmp_path):
    (tmp_path / "classes.txt").write_text("     1\tantelope\n     2\tkiller+whale\n")
    (tmp_path / "predicate-matrix-continuous.txt").write_text("  0.00 12.5   3\n 1.0  -1.00 0\n")
    found = {name: features.tolist() for name, features in load_metadata(tmp_path).items()}
    assert found == {"antelope": [0, 12.5, 3], "killer_whale": [1, -1, 0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zebra,1,0\nwhale,1\n", "with 2 features .* for 'whale' 1 features: 1"),
        ("zebra,1,0\nwhale,1,nan\n", "finite numbers.* for 'whale' 2 features: 1, nan"),
        ("zebra,1,0\nzebra,1,1\n", "for 'zebra' a second line"),
        ("zebra\nwhale\n", "for 'whale' 0 features"),
        ("", "a line for each class. Received: none"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, message):
    (tmp_path / "animals.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)`path` must have .*{message}"):
        load_metadata(tmp_path / "animals.csv")


def test_files_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be a file[\s\S]*there is no 'animals.csv'"):
        load_metadata(tmp_path / "animals.csv")
    (tmp_path / "classes.txt").write_text("1 zebra\n")
    with pytest.raises(ValueError, match=r"`path` must be a file[\s\S]*no 'predicate-matrix-continuous.txt'"):
        load_metadata(tmp_path)
    (tmp_path / "predicate-matrix-continuous.txt").write_text("")
    with pytest.raises(ValueError, match=re.escape("1 names and 0 rows")):
        load_metadata(tmp_path)
