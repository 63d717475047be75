import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import tf_metalearn
import tf_metalearn as tfm
from tf_metalearn import cli
from tf_metalearn.pretrained import save_rule
from tf_metalearn.rules import GradientDescent

SMALL = ["--problem", "quadratic", "--runs", "3", "--steps", "4", "--tuning-runs", "1"]


@pytest.fixture
def rule(tmp_path):
    save_rule(GradientDescent(0.001), tmp_path / "my_rule.keras")
    return str(tmp_path / "my_rule.keras")


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_compare_prints_a_table_writes_files_and_tells_what_to_look_at(rule, tmp_path):
    result = run("compare", rule, *SMALL, "--seed", 7, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for name in ("my_rule", "SGD", "RMSprop", "Adam", "Nesterov"):
        assert name in result.stdout
    assert "best tuned baseline" in result.stdout
    assert f"tensorboard --logdir {tmp_path / 'out' / 'tensorboard'}" in result.stdout
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    configuration = json.loads((tmp_path / "out" / "comparison.json").read_text())["configuration"]
    assert {name: configuration[name] for name in ("runs", "steps", "seed", "tuning_runs")} == {
        "runs": 3,
        "steps": 4,
        "seed": 7,
        "tuning_runs": 1,
    }
    assert configuration["problem"]["recipe"] == {"name": "quadratic", "split": "test"}


def test_an_unknown_rule_fails_with_a_message_and_without_a_traceback():
    result = run("compare", "no_such_rule", *SMALL)
    assert result.exit_code == 1
    assert "Received: 'no_such_rule'" in result.stderr
    assert "`tf-metalearn runs` lists runs." in result.stderr
    assert "Traceback" not in result.output


def test_debug_lets_the_error_through():
    with pytest.raises(ValueError, match="no_such_rule"):
        CliRunner().invoke(cli.main, ["--debug", "compare", "no_such_rule", *SMALL], catch_exceptions=False)


def test_a_truncated_rule_file_fails_with_its_name(rule):
    with open(rule, "r+b") as file:
        file.truncate(500)
    result = run("compare", rule, *SMALL)
    assert result.exit_code == 1
    assert "my_rule.keras" in result.stderr
    assert "truncated" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--problem", "nonsense"], "'nonsense' is not a known problem. Known: quadratic, "),
        (["compare", "--runs", "0"], "0 is not in the range x>=1"),
        (["compare", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["comparison"], "No such command 'comparison'"),
    ],
)
def test_wrong_usage_ends_with_code_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_directory_that_cannot_be_made_fails_before_the_work(rule, tmp_path):
    (tmp_path / "file").touch()
    result = run("compare", rule, *SMALL, "--out", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert f"'{tmp_path / 'file' / 'out'}' must be a place" in result.stderr
    assert "Not a directory" in result.stderr


def test_version():
    assert run("--version").stdout == f"tf-metalearn {tf_metalearn.__version__}\n"


def answer(*arguments, **environment):
    """What a new process of the command line says, and the modules that it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tf_metalearn", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


HEAVY = {"tensorflow", "keras", "numpy", "scipy", "sklearn", "matplotlib", "rich", "PIL", "grpc"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--help"], "export omniglot_prototypical"), (["--version"], "tf-metalearn")]
    + [([verb, "-h"], f"tf-metalearn {verb} ") for verb in cli.main.commands],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_help_imports_nothing_heavy(arguments, says):
    output, modules = answer(*arguments)
    assert says in output
    assert "click" in modules
    assert not HEAVY & modules


def test_completion_imports_nothing_heavy():
    bash = {"_TF_METALEARN_COMPLETE": "bash_complete", "COMP_WORDS": "tf-metalearn comp", "COMP_CWORD": "1"}
    output, modules = answer(**bash)
    assert output == "plain,compare\n"
    assert not HEAVY & modules


def test_help_takes_little_longer_than_its_parser():
    def seconds(*command):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        return time.perf_counter() - start

    runs = [(seconds("-c", "import click"), seconds("-m", "tf_metalearn", "--help")) for _ in range(5)]
    parser, whole = (statistics.median(times) for times in zip(*runs, strict=True))
    # Python and click start in 0.04 s where the help takes 0.05; TensorFlow would add seconds.
    assert whole < 4 * parser


def test_tensorflows_news_of_the_machine_are_left_out_and_nothing_else():
    code = (
        "import os, sys; from tf_metalearn.cli import common\n"
        "with common._without_news():\n"
        "    os.write(2, b'WARNING: All log messages before absl::InitializeLog() is called are written\\n')\n"
        "    os.write(2, b'I0000 00:00:1 a.cc:1] oneDNN\\n')\n"
        "    os.write(2, b'F0000 00:00:1 a.cc:2] no AVX\\n')\n"
        "    print('said by Python', file=sys.stderr)\n"
        "    raise ValueError('raised by Python')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    first, second, *_, last = done.stderr.splitlines()
    assert (first, second) == ("said by Python", "F0000 00:00:1 a.cc:2] no AVX")
    assert last == "ValueError: raised by Python"
    assert "absl" not in done.stderr
    assert "I0000" not in done.stderr


def test_the_module_runs_as_a_program(rule, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tf_metalearn", "compare", rule, *SMALL],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "my_rule" in done.stdout
    assert (tmp_path / "comparisons" / "quadratic" / "comparison.json").exists()


def test_datasets_lists_what_there_is_and_where(tmp_path):
    result = run("datasets", "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    for part in (
        "omniglot",
        "cifar_fs",
        "mini_imagenet",
        "glyphs",
        str(tmp_path),
        "18 MB to download",
        "MIT",
        "https://",
    ):
        assert part in result.stdout


def test_datasets_describes_and_draws_a_folder_of_images(tmp_path):
    for name in "abcde":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), 40 * number).save(tmp_path / "images" / name / f"{number}.png")
    described = run("datasets", tmp_path / "images")
    assert "5 classes, 3 examples of each, 15 in all, of shape (8, 8, 1)" in described.stdout
    png = tmp_path / "episode.png"
    drawn = run("datasets", tmp_path / "images", "--split", "all", "--queries", 2, "--draw", png)
    assert drawn.exit_code == 0, drawn.output
    assert Image.open(png).size[0] > 400


def test_datasets_says_how_to_get_what_is_missing(tmp_path):
    result = run("datasets", "omniglot", "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert "tf-metalearn datasets omniglot --download" in result.stderr
    assert run("datasets", "--draw", tmp_path / "a.png").exit_code == 2
    assert run("datasets", "mini_imagenet", "--download").exit_code == 2


@pytest.fixture
def pictures(tmp_path):
    """Two classes of tiny pictures, in folders: dark on the left, and dark on the right."""
    for folder, count in (("support", 3), ("query", 2)):
        for name, columns in (("left", slice(0, 4)), ("right", slice(4, 8))):
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full([8, 8], 255, np.uint8)
                pixels[number : number + 4, columns] = 0
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{number}.png")
    network = keras.Sequential([keras.Input([8, 8, 1]), keras.layers.Flatten()])
    learner = tfm.PrototypicalNetwork(network)
    learner.ink = True
    learner.compile()
    learner.save(tmp_path / "learner.keras")
    return tmp_path


def test_a_folder_of_pictures_becomes_a_classifier_and_an_export(pictures):
    saved, table = pictures / "classifier.keras", pictures / "found.csv"
    folders = ["--support", pictures / "support", "--query", pictures / "query"]
    adapted = run("adapt", pictures / "learner.keras", *folders, "--csv", table, "--save", saved)
    assert adapted.exit_code == 0, adapted.output
    assert "4 of the 4 in folders named like a class are right." in adapted.stdout
    assert table.read_text().splitlines()[0] == "picture,class,left,right"
    assert f"tf-metalearn export {saved} served/classifier/1 --verify" in adapted.stdout
    exported = run("export", saved, pictures / "models" / "sides" / "1", "--verify")
    assert exported.exit_code == 0, exported.output
    assert "FAILED" not in exported.stdout
    assert "dark pixels as 1" in exported.stdout
    run("export", saved, pictures / "models" / "sides" / "2", "--no-invert")
    assert "light pixels as 1" in run("export", "--verify", pictures / "models" / "sides" / "2").stdout
    again = run("export", saved, pictures / "models" / "sides" / "1")
    assert again.exit_code == 2
    assert "Export the next version" in again.output
    assert run("adapt", saved, *folders).exit_code == 2


def test_adapt_says_none_of_these_where_the_learner_has_a_threshold(pictures):
    learner = keras.saving.load_model(pictures / "learner.keras")
    learner.threshold = -5.0
    learner.save(pictures / "learner.keras")
    # Ink everywhere, which is far from both.
    Image.new("L", (8, 8), 0).save(pictures / "query" / "left" / "black.png")
    table, picture = pictures / "found.csv", pictures / "found.png"
    folders = ["--support", pictures / "support", "--query", pictures / "query"]
    adapted = run("adapt", pictures / "learner.keras", *folders, "--csv", table, "--picture", picture)
    assert adapted.exit_code == 0, adapted.output
    assert "none of these" in adapted.stdout
    assert "4 of the 5 in folders named like a class are right." in adapted.stdout
    [black] = [line for line in table.read_text().splitlines() if line.startswith("left/black.png")]
    assert black.split(",")[1] == ""
    assert picture.exists()


def test_adapt_speaks_of_its_options_and_says_which_folders_lack_pictures(pictures, monkeypatch):
    learner, support = pictures / "learner.keras", pictures / "support"
    (pictures / "none").mkdir()
    alone = pictures / "alone"
    (alone / "left").mkdir(parents=True)
    shutil.copy(support / "left" / "0.png", alone / "left")

    def refused(*arguments):
        result = run("adapt", *arguments)
        assert result.exit_code == 2
        assert "`" not in result.stderr
        return " ".join(result.stderr.split())

    assert "--support must be a folder of images." in refused(learner, "--support", pictures / "none")
    with monkeypatch.context() as patched:
        # Before the work.
        patched.setattr(tfm.PrototypicalNetwork, "adapt", None)
        message = refused(learner, "--support", support, "--query", pictures / "none")
        assert "--query must be a folder of images." in message
    for name in ("middle", "top"):
        (support / name).mkdir()
    assert "--support: there are no pictures in middle, top." in refused(learner, "--support", support)
    assert "--support must have 2 or more class folders" in refused(learner, "--support", alone)
    tfm.MAML(keras.Sequential([keras.Input([8, 8, 1]), keras.layers.Flatten(), keras.layers.Dense(3)])).save(learner)
    for name in ("middle", "top"):
        Image.new("L", (8, 8)).save(support / name / "1.png")
    message = refused(learner, "--support", support)
    assert (
        "--support must have 2 to 3 class folders for this learner. Received: 4: left, middle, right, top." in message
    )


def test_export_refuses_early_what_has_no_folder_for_the_servers_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tfm.pretrained, "load_any", None)
    result = run("export", "omniglot_prototypical", "7")
    assert result.exit_code == 2
    assert "VERSION must have a folder for all models" in result.stderr
    assert "Try 'served/NAME/7'" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["adapt", "omniglot_prototypical", "--support", ".", "--save", "x.h5"], "Try 'x.keras'"),
        (["adapt", "omniglot_prototypical", "--support", "nowhere"], "Directory 'nowhere' does not exist"),
        (["adapt", "omniglot_prototypical", "--support", ".", "--query", "nowhere"], "'nowhere' does not exist"),
        (["export", "omniglot_prototypical"], "Give MODEL and VERSION"),
        (["export", "omniglot_prototypical", "models/name/one"], "ends in a whole number"),
    ],
)
def test_what_adapt_and_export_refuse(arguments, says):
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert says in " ".join(result.output.split())
