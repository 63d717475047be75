"""`train`, `evaluate` and `runs`, and what the other verbs make of a run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import tf_metalearn as tfm
from tf_metalearn.cli import main
from tf_metalearn.runs.folder import RunFolder
from tf_metalearn.runs.settings import ALGORITHMS, fields

SMALL = ("--epochs", 1, "--steps", 2, "--filters", 8, "--validation-episodes", 8, "--queries", 2)
SMALL_PROBLEM = ("--problem", "quadratic", "--epochs", 1, "--steps", 1, "--unroll-length", 4, "--episode-length", 8)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, glyph_directory):
    """The folder of a run that has learned to tell glyphs apart, a little."""
    folder = tmp_path_factory.mktemp("work") / "runs" / "signs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(glyph_directory))
        result = run("train", "prototypical", "--data", "glyphs", "--out", folder, *SMALL)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def at_work(trained, glyph_directory, monkeypatch):
    """Stands beside the folder of runs."""
    monkeypatch.chdir(trained.parents[1])
    monkeypatch.setenv("TFDS_DATA_DIR", str(glyph_directory))
    return trained


@pytest.fixture
def pictures(tmp_path):
    """Two class folders of two grey pictures each."""
    random = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(2):
            image = random.integers(0, 255, [20, 20], np.uint8)
            Image.fromarray(image).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def test_a_learned_optimizer_is_trained_and_pitted_against_tuned_ones(at_work):
    result = run("train", "l2l", *SMALL_PROBLEM, "--out", "runs/quadratics")
    assert result.exit_code == 0, result.output
    assert "l2l: " in result.output
    assert re.search(r"Learned +runs/quadratics/rule\.keras", result.output)
    assert re.search(r"TensorBoard +tensorboard --logdir runs/quadratics/tensorboard", result.output)
    assert "tf-metalearn evaluate runs/quadratics" in result.output

    evaluated = run("evaluate", "runs/quadratics", "--problem-runs", 2)
    assert evaluated.exit_code == 0, evaluated.output
    assert "Nesterov" in evaluated.output
    assert Path("runs/quadratics/comparison/curves.png").exists()
    assert re.search(r"8 steps of quadratic: mean loss \S+, tuned \w+ \S+", run("runs").output)
    refused = run("evaluate", "runs/quadratics", "--ways", 3)
    assert refused.exit_code == 2
    assert "--ways" in refused.output


def test_a_dry_run_prints_the_configuration_and_writes_nothing(at_work):
    before = set(at_work.parent.iterdir())
    result = run("train", "maml", "--data", "glyphs", "--ways", 3, "--hidden", "7,5", "--dry-run")
    assert result.exit_code == 0, result.output
    printed = tomllib.loads(result.output)
    assert (printed["algorithm"], printed["data"]["ways"], printed["network"]["hidden"]) == ("maml", 3, [7, 5])
    assert re.search(r"Train +768 classes, 15,360 examples", result.output)
    assert set(at_work.parent.iterdir()) == before


def test_a_printed_configuration_repeats_the_run_to_the_last_bit(at_work):
    config = at_work / "config.toml"
    result = run("train", "--config", config, "--out", "runs/again")
    assert result.exit_code == 0, result.output
    mine, expected = (RunFolder.open(path).metrics()[-1] for path in ("runs/again", at_work))
    assert {**mine, "seconds": 0} == {**expected, "seconds": 0}


def test_options_go_before_the_configuration(at_work, tmp_path):
    printed = run("runs", at_work, "--config")
    (tmp_path / "a.toml").write_text(printed.output)
    result = run("train", "--config", tmp_path / "a.toml", "--shots", 3, "--dry-run")
    settings = tomllib.loads(result.output)
    assert (settings["data"]["shots"], settings["training"]["steps"]) == (3, 2)


def test_runs_without_a_name_are_numbered(at_work):
    Path("runs/l2l-quadratic-1").mkdir()
    assert "runs/l2l-quadratic-2" in run("train", "l2l", *SMALL_PROBLEM, "--dry-run").output


def test_ctrl_c_ends_cleanly_and_the_run_goes_on_where_it_was(at_work, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tf_metalearn", "train", "l2l", "--problem", "quadratic", "--steps", "2"]
    command += ["--unroll-length", "4", "--episode-length", "8", "--epochs", "4000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = tmp_path / "run" / "metrics.jsonl"
    while not lines.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert f"tf-metalearn train --resume {tmp_path / 'run'}" in output
    assert "Traceback" not in output
    done = len(RunFolder.open(tmp_path / "run").metrics())
    assert done >= 1
    # As it was, but for an end that a test can wait for.
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 4000", f"epochs = {done + 1}"))
    result = run("train", "--resume", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert [line["epoch"] for line in RunFolder.open(tmp_path / "run").metrics()] == list(range(1, done + 2))


def test_evaluate_prints_an_interval_and_keeps_the_figures(at_work):
    result = run("evaluate", at_work, "--episodes", 16, "--shots", 2)
    assert result.exit_code == 0, result.output
    assert re.search(r"Task +glyphs test, 5-way 2-shot, 16 of them", result.output)
    assert re.search(r"Accuracy +\d+\.\d\d % ± \d+\.\d\d \(95 %\)", result.output)
    [line] = RunFolder.open(at_work).evaluations()
    assert line["episodes"] == 16
    listed = run("runs")
    assert "runs/signs" in listed.output
    assert "1 of 1" in listed.output


def test_a_run_adapts_to_pictures_and_exports(at_work, pictures, tmp_path):
    files = [tmp_path / name for name in ("said.csv", "said.png")]
    query = ("--query", pictures, "--csv", files[0], "--picture", files[1])
    result = run("adapt", at_work, "--support", pictures, *query)
    assert result.exit_code == 0, result.output
    assert "4 of the 4 in folders named like a class are right." in result.output
    assert all(file.stat().st_size > 100 for file in files)
    (pictures / "left" / "damaged.png").write_text("no picture")
    refused = run("adapt", at_work, "--support", pictures)
    assert refused.exit_code == 2
    assert "--unreadable" in refused.output
    skipped = run("adapt", at_work, "--support", pictures, "--unreadable", "skip")
    assert skipped.exit_code == 0
    assert skipped.stderr.startswith("Warning: 1 of 5 images cannot be read")
    result = run("export", at_work, tmp_path / "served" / "signs" / "1")
    assert result.exit_code == 0, result.output
    assert 'data = "glyphs"' in (tmp_path / "served" / "signs" / "README.md").read_text()


def test_pictures_are_evaluated_as_the_learner_reads_them(tmp_path, monkeypatch, glyph_directory):
    """Ink on paper, in colour and of another size: as the learner knows it, unless it is told otherwise."""
    monkeypatch.chdir(tmp_path)
    table = tfm.episodes.load_classes("glyphs", "test", data_dir=glyph_directory)
    for place, name in enumerate(table.names[:10]):
        folder = Path("ink", name)
        folder.mkdir(parents=True)
        for number in range(8):
            picture = 255 - table.examples[table.starts[place] + number, ..., 0]
            Image.fromarray(picture).resize((56, 56)).convert("RGB").save(folder / f"{number}.png")
    asked = ("evaluate", "omniglot_prototypical", "--data", "ink", "--split", "all", "--episodes", 64)
    found = {}
    for flag in ("--invert", "--no-invert", None):
        result = run(*asked, *([flag] if flag else []))
        assert result.exit_code == 0, result.output
        found[flag] = float(re.search(r"Accuracy +(\d+\.\d\d) %", result.output)[1])
    assert found[None] == found["--invert"] > found["--no-invert"] + 10


@pytest.fixture
def dealt_out(pictures, tmp_path):
    """The same pictures in two class folders for training and two for validation."""
    for split in ("train", "validation"):
        for folder in pictures.iterdir():
            shutil.copytree(folder, tmp_path / "dealt_out" / split / f"{folder.name}_{split}")
    return tmp_path / "dealt_out"


def test_a_run_on_ink_remembers_it(dealt_out, at_work, tmp_path):
    arguments = ("train", "prototypical", "--data", dealt_out, "--ways", 2, "--queries", 1, "--epochs", 1, "--steps", 1)
    result = run(*arguments, "--validation-episodes", 2, "--invert", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "dark pixels as 1" in result.output
    assert f"tf-metalearn adapt {tmp_path / 'run'}" in result.output
    assert tfm.load(tmp_path / "run" / "learner.keras").ink
    refused = run("train", "prototypical", "--data", "glyphs", "--invert", "--dry-run")
    assert "--invert must be left out unless the data is a folder" in refused.output


def test_too_few_examples_are_told_before_a_folder_is_made(dealt_out, at_work, tmp_path):
    arguments = ("train", "maml", "--data", dealt_out, "--ways", 2, "--out", tmp_path / "run")
    for dry in ((), ("--dry-run",)):
        result = run(*arguments, *dry)
        assert result.exit_code == 2, result.output
        assert "must be together at most the examples of each class" in result.output
        assert "Received: 6 for train, where 'left_train' has 2." in result.output
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "mamel"], 2, "Did you mean 'maml'?"),
        (["train", "maml", "--ways", "1"], 2, "--ways: It must be a whole number, at least 2. Received: 1."),
        (["train", "maml", "--ways", "five"], 2, "'five' is not a valid integer"),
        (["train", "maml", "--hidden", "1,b"], 2, "such as 64,32"),
        (["train", "maml", "--data", "no_such_data"], 2, "--data must be a data set on this machine, or a folder"),
        (["train", "maml", "--data", "./no_such_folder"], 2, "--data must be an existing folder"),
        (["train", "maml", "--data", "glyphs", "--ways", "500"], 2, "--ways must be at most the number of classes"),
        (["train", "l2l", "--problem", "nothing"], 2, "a known problem. Received: --problem nothing"),
        (["train", "maml", "--data", "glyphs", "--protocol", "lake"], 2, "--protocol must be one of glyphs"),
        (["train", "maml", "--out", "runs/signs"], 1, "Go on with it by `--resume runs/signs`"),
        (["train", "--config", "nothing.toml"], 2, "'nothing.toml' is not there."),
        (["adapt", "default", "--support", "runs"], 2, "must be a few-shot learner. Received: a learned optimizer."),
        (["compare", "omniglot_maml_5way_1shot"], 2, "must be a learned optimizer. Received: a few-shot learner."),
        (["adapt", "runs/signs", "--support", "runs", "--save", "no/such/a.keras"], 2, "in a folder that is there"),
        (["adapt", "omniglot_prototypical", "--support", "damaged"], 2, "or pass --unreadable skip to leave"),
        (["train", "--config", "unknown.toml"], 1, "`way` is no setting of maml. Did you mean `ways`?"),
        (["train", "--config", "later.toml"], 1, "has format 9; this version of tf_metalearn reads 1."),
        (["train", "maml", "--config", "runs/signs/config.toml"], 2, "is of prototypical, not of maml."),
        (["train", "--resume", "runs/signs", "--ways", "3"], 2, "Received: --ways beside it."),
        (["train", "--resume", "runs"], 1, "which has no config.toml"),
        (["train", "--resume", "no_such_run"], 2, "'no_such_run' is not there."),
        (["evaluate", "no_such_run"], 1, "must be a run's folder, a '.keras' file, or the name of what ships"),
        (["export", "runs/nowhere", "served/a/1"], 1, "'runs/nowhere', which is not there"),
        (["train", "nonsense"], 2, "ALGORITHM must be one of l2l, maml"),
        (["adapt", "runs/signs", "--support", "runs", "--query", "runs", "--picture", "a.xyz"], 2, "must end in .png"),
        (["evaluate", "runs/signs", "--data", "few"], 2, "--split must have classes"),
        (["train", "maml", "--data", "few", "--ways", "2"], 2, "and otherwise about 64, 16 and 20 % of its classes"),
        (["datasets", "glyphs", "--draw", "/proc/picture.png"], 1, "'/proc/picture.png' must be a place to read from"),
        (["adapt", "damaged.keras", "--support", "runs"], 1, "'damaged.keras', which cannot be read"),
        (["evaluate", "runs"], 1, "which has no config.toml"),
        (["evaluate", "omniglot_prototypcal"], 1, "Did you mean 'omniglot_prototypical'?"),
        (["evaluate", "omniglot_prototypical"], 2, "--data must say which data set"),
        (["evaluate", "runs/signs", "--transductive"], 2, "must be left out for a PrototypicalNetwork"),
        (["evaluate", "runs/signs", "--split", "tests"], 2, "--split must be"),
        (["runs", "no_such_folder"], 2, "does not exist"),
        (["runs", "runs/signs/pictures"], 2, "No runs below 'runs/signs/pictures'."),
        (["adapt", "runs", "--support", "runs"], 1, "which has no config.toml"),
        (["export", "runs", "served/a/1"], 1, "which has no config.toml"),
    ],
)
def test_what_cannot_be_is_answered_in_a_line_or_two(arguments, code, said, at_work):
    Path("unknown.toml").write_text('algorithm = "maml"\n[data]\nway = 5\n')
    for name in ("few/a", "few/b"):
        Path(name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28)).save(f"{name}/1.png")
    Path("later.toml").write_text('format = 9\nalgorithm = "maml"\n')
    Path("damaged.keras").write_text("no archive")
    Path("damaged/a").mkdir(parents=True, exist_ok=True)
    Path("damaged/a/1.png").write_text("no picture")
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    message = result.output[result.output.index("Error: ") :]
    assert len(message.splitlines()) <= 4


def test_a_run_that_cannot_be_read_does_not_hide_the_others(at_work):
    (at_work.parent / "broken").mkdir(exist_ok=True)
    (at_work.parent / "broken" / "config.toml").write_text("format = 9\n")
    result = run("runs")
    assert result.exit_code == 0, result.output
    assert "'runs/broken/config.toml' has format 9" in result.output
    assert "runs/signs" in result.output


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_help_lists_every_setting_and_an_example(algorithm):
    result = run("train", algorithm, "--help")
    assert result.exit_code == 0
    for name in fields(algorithm):
        assert f"--{name.replace('_', '-')}" in result.output
    assert f"tf-metalearn train {algorithm} --" in result.output
