"""The README beside each model."""

import json
import re
import subprocess
import sys

import pytest


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


@pytest.mark.parametrize("name", ["characters", "mine", "waves"])
def test_its_python_example_compiles_and_its_rest_example_writes_json(readmes, name, tmp_path):
    python = re.search(r"```python\n(.*?)```", readmes[name], re.DOTALL).group(1)
    compile(python, "README.md", "exec")
    shell = re.search(r"python -c '(.*?)' > request.json", readmes[name], re.DOTALL).group(1)
    done = subprocess.run([sys.executable, "-c", shell], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout).keys() <= {"inputs", "instances"}


def test_a_regression_is_not_told_to_send_labels(readmes):
    assert "labels" not in readmes["waves"].split("## Ask it")[1]
