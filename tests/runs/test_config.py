import re

import pytest

from tf_metalearn.runs.config import Config, read_config
from tf_metalearn.runs.settings import ALGORITHMS


def written(tmp_path, text):
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    return tmp_path / "a.toml"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_printed_can_be_read_again(algorithm, tmp_path):
    config = Config.of(algorithm, {"epochs": 3, "learning_rate": 0.125})
    assert read_config(written(tmp_path, config.to_toml())) == config


def test_text_of_all_kinds_survives(tmp_path):
    config = Config.of("maml", {"data": 'C:\\signs "of" \u00e4\u4e2d # all\tkinds'})
    assert read_config(written(tmp_path, config.to_toml())) == config


def test_every_setting_is_explained(tmp_path):
    text = Config.of("maml", {}).to_toml()
    assert "inner_steps = 1 # Inner steps in training." in text
    assert "# protocol is left out. Of omniglot:" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('algorithm = "mamel"', "`algorithm` must be one of l2l, maml, .* Received: 'mamel'. Did you mean `maml`?"),
        ("[data]\nways = 5", "does not say the algorithm"),
        ('format = 2\nalgorithm = "maml"', "has format 2; this version of tf_metalearn reads 1"),
        (
            'algorithm = "maml"\n[learner]\ninner_step = 2',
            "`inner_step` is no setting of maml. Did you mean `inner_steps`?",
        ),
        ('algorithm = "maml"\n[data]\ninner_steps = 2', "`inner_steps` stands in [data].\nPut it below [learner]."),
        ('algorithm = "maml"\nways = 5', "`ways` stands outside of a section."),
        (
            'algorithm = "maml"\n[data]\nways = "five"',
            "`ways` in [data] must be a whole number, at least 2. Received: 'five'.",
        ),
        ('algorithm = "maml', "is no configuration: "),
        ('algorithm = ["maml"]', "`algorithm` must be one of"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_file_and_the_place(text, message, tmp_path):
    path = written(tmp_path, text)
    pattern = re.escape(message).replace(re.escape(".* "), ".* ")
    with pytest.raises(ValueError, match=pattern) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_config(tmp_path / "b.toml")
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no configuration"):
        read_config(tmp_path / "c.toml")
