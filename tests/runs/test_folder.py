import json

import pytest

from tf_metalearn.runs.config import Config
from tf_metalearn.runs.folder import RunFolder, find_runs, model_file, write_text

CONFIG = Config.of("maml", {"data": "glyphs"})


def test_it_holds_settings_environment_and_command(tmp_path):
    RunFolder.create(tmp_path / "a run", CONFIG, {"python": "3"})
    assert RunFolder.open(tmp_path / "a run").config == CONFIG
    assert json.loads((tmp_path / "a run" / "environment.json").read_text()) == {"python": "3"}
    command = (tmp_path / "a run" / "command.txt").read_text()
    assert command == f"tf-metalearn train --config '{tmp_path}/a run/config.toml'\n"


def test_what_is_there_is_never_overwritten(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, {})
    with pytest.raises(ValueError, match="Go on with it by `--resume"):
        RunFolder.create(run.path, CONFIG, {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"is there already\.\nChoose another"):
        RunFolder.create(tmp_path / "other", CONFIG, {})
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is there already"):
        RunFolder.create(tmp_path / "file", CONFIG, {})


def test_an_epoch_that_is_done_again_replaces_its_line(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, {})
    for epoch, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 1.5)):
        run.add_metrics({"epoch": epoch, "loss": loss})
    assert run.metrics() == [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 1.5}]


def test_other_data_than_before_is_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, {"data": {"train": {"examples": 5, "sha256": "a"}}})
    run.check_data({"train": {"examples": 5, "sha256": "a"}})
    with pytest.raises(ValueError, match=r"The train data must be what .* began with"):
        run.check_data({"train": {"examples": 6, "sha256": "b"}})


def test_runs_are_found_two_levels_deep(tmp_path):
    for name in ("b", "a", "sweep/c"):
        RunFolder.create(tmp_path / name, CONFIG, {})
    (tmp_path / "no run").mkdir()
    assert [path.name for path in find_runs(tmp_path)] == ["a", "b", "c"]
    assert [path.name for path in find_runs(tmp_path / "a")] == ["a"]


def test_a_run_stands_for_what_it_has_learned(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, {})
    with pytest.raises(ValueError, match="has learned nothing yet"):
        model_file(run.path)
    run.model.touch()
    assert model_file(run.path) == str(run.model)
    assert model_file("omniglot_prototypical") == "omniglot_prototypical"
    with pytest.raises(ValueError, match=r"which has no config\.toml"):
        model_file(tmp_path)
    with pytest.raises(ValueError, match="which is not there"):
        model_file(tmp_path / "nowhere")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a", "new \ud800")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
