"""The README beside each model."""

import json
import re
import subprocess
import sys

import pytest

import tf_metalearn as tfm


@pytest.fixture(scope="module")
def readmes(models):
    folder, _ = models
    return {path.parent.name: path.read_text(encoding="utf-8") for path in folder.glob("*/README.md")}


def test_it_lists_every_signature_with_names_dtypes_and_shapes(readmes):
    rows = [line for line in readmes["points"].splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [
        "serving_default",
        "adapt",
        "predict_with",
        "serve_strings",
        "adapt_strings",
        "predict_with_strings",
    ]
    for part in ("`support_x` float32 [any, any, 4]", "`support_y` int64 [any, any]", "`error` string [any]"):
        assert part in rows[0]


def test_tensors_that_differ_in_their_number_alone_stand_in_one_line(tmp_path):
    version = tfm.serving.export_rule("default", tmp_path / "rule" / "1")
    row = next(line for line in (version.parent / "README.md").read_text().splitlines() if "| `initial_state`" in line)
    assert row.endswith("| `gradient` float32 [any] | `state_0` to `state_3` float32 [any, 20] |")


def test_it_says_how_many_classes_there_may_be(readmes):
    assert "of any number of classes;" in " ".join(readmes["characters"].split())
    assert "of at most 3 classes;" in " ".join(readmes["points"].split())


@pytest.mark.parametrize(("name", "count"), [("characters", 2), ("sides", 2), ("mine", 1), ("waves", 1)])
def test_its_python_examples_compile_and_its_rest_examples_write_json(readmes, pictures_in_folders, name, count):
    examples = re.findall(r"```python\n(.*?)```", readmes[name], re.DOTALL)
    for python in examples:
        compile(python, "README.md", "exec")
    shells = re.findall(r"python -c '(.*?)' > request.json", readmes[name], re.DOTALL)
    assert len(examples) == len(shells) == count
    for shell in shells:
        command = [sys.executable, "-c", shell]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=pictures_in_folders)
        assert json.loads(done.stdout).keys() <= {"inputs", "instances", "signature_name"}


def test_a_regression_is_not_told_to_send_labels(readmes):
    assert "labels" not in readmes["waves"].split("## Ask it")[1]
