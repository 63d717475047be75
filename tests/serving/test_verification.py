"""What `verify_export` finds: nothing wrong with good exports, and the right reason for each that is broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow_serving.apis import prediction_log_pb2

from tf_metalearn.serving import archive, verify_export
from tf_metalearn.serving.export import write
from tf_metalearn.serving.verification import print_checks
from tools import verify_export as tool

CHECKS = ["files", "operations", "load", "warm-up", "same as in Python", "sizes", "gRPC", "configuration"]


def put(version, function, expected=None, shape=(None,), variables=()):
    """Exports a function of numbers."""
    spec = tf.TensorSpec(shape, tf.float32, "x")
    signatures = {"serving_default": tf.function(lambda x: {"y": function(x)}, input_signature=[spec])}
    x = np.arange(3, dtype="float32")
    answers = {} if expected is None else {"0/y": expected}
    return write(version, signatures, variables, [("serving_default", {"x": x})], answers, "About it.", "Ask it.")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A good export with a variable, which is multiplied by [0, 1, 2]."""
    weight = tf.Variable(np.linspace(1, 2, 64, dtype="float32"))
    folder = tmp_path_factory.mktemp("verified")
    return put(folder / "weighted" / "1", lambda x: x * tf.reduce_sum(weight), np.arange(3) * 96.0, variables=[weight])


@pytest.fixture
def copy(original, tmp_path):
    """A copy of it, to break."""
    return Path(shutil.copytree(original.parents[1], tmp_path / "models")) / "weighted" / "1"


def failed(version):
    """The name and the finding of the one check that fails, the last one."""
    *fine, last = verify_export(version)
    assert all(check.fine for check in fine)
    assert not last.fine
    return last.name, last.found


# Good ones -----------------------------------------------------------------------------------------------------------


def test_a_good_export_passes_every_check(original):
    checks = verify_export(original)
    assert [check.name for check in checks] == CHECKS
    assert all(check.fine for check in checks)
    assert "largest difference 0.0e+00" in checks[4].found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["characters", "points", "waves", "mine"])
def test_exported_models_pass_every_check(models, name):
    folder, _ = models
    checks = verify_export(folder / name / "1")
    assert [check.name for check in checks if check.fine and check.name != "pictures"] == CHECKS
    assert checks[4].word == "ok"


def test_an_export_without_variables_passes(tmp_path):
    checks = verify_export(put(tmp_path / "double" / "1", lambda x: 2 * x, [0, 2, 4]))
    assert [check.name for check in checks if check.fine] == CHECKS


# Operations that the server does not have ----------------------------------------------------------------------------


def test_xla_inside_is_refused(tmp_path):
    """It would load, and fail at the first request."""
    compiled = tf.function(lambda x: 2 * x, jit_compile=True)
    name, found = failed(put(tmp_path / "model" / "1", compiled))
    assert (name, found.splitlines()[0]) == ("operations", "jit_compile=True needs XLA.")
    assert "Leave out jit_compile=True" in found


def test_xla_inside_a_function_inside_is_refused(tmp_path):
    compiled = tf.function(lambda x: 2 * x, jit_compile=True)
    inner = tf.function(lambda x: tf.map_fn(lambda row: compiled(row), x))
    name, found = failed(put(tmp_path / "model" / "1", inner))
    assert (name, found.splitlines()[0]) == ("operations", "jit_compile=True needs XLA.")


@pytest.mark.parametrize(
    ("function", "operation"), [(tf.py_function, "EagerPyFunc"), (tf.numpy_function, "PyFunc")], ids=["eager", "numpy"]
)
def test_a_python_function_inside_is_refused(tmp_path, function, operation):
    version = put(
        tmp_path / "model" / "1", lambda x: tf.ensure_shape(function(lambda v: 2 * v, [x], tf.float32), [None])
    )
    name, found = failed(version)
    assert name == "operations"
    assert f"{operation} needs Python" in found


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["saved_model.pb", "variables", str(archive.WARM_UP)])
def test_a_half_written_version_is_refused(copy, part):
    if (copy / part).is_dir():
        shutil.rmtree(copy / part)
    else:
        (copy / part).unlink()
    name, found = failed(copy)
    assert name == "files"
    assert part in found
    assert "Export the model again." in found


def test_variables_without_their_values_are_refused(copy):
    next((copy / "variables").glob("*.data-*")).unlink()
    name, found = failed(copy)
    assert name == "files"
    assert "the values of the variables" in found


def test_what_is_no_version_is_said_in_words(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").touch()
    for path, says, remedy in (
        (tmp_path / "nowhere", "There is no folder", "Check the path."),
        (tmp_path / "empty", "is an empty folder.", "tf-metalearn export MODEL"),
        (tmp_path / "notes", "holds no exported model.", "Give the folder of a version"),
        (copy.parent, "is the folder of a model, and not of a version.", f"Try '{copy}'."),
        (copy.parents[1], "is the folder of all models, and not of a version.", f"Try '{copy}'."),
    ):
        name, found = failed(path)
        assert name == "files"
        assert says in found.splitlines()[0]
        assert remedy in found.splitlines()[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_model_is_refused(copy, share):
    path = copy / "saved_model.pb"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    name, found = failed(copy)
    assert name == "operations"
    assert "saved_model.pb cannot be read" in found


def test_a_damaged_variables_file_is_refused(copy):
    path = next((copy / "variables").glob("*.data-*"))
    values = bytearray(path.read_bytes())
    for place in range(8, 16):
        values[place] ^= 0xFF
    path.write_bytes(values)
    name, found = failed(copy)
    assert name == "load"
    assert "hecksum" in found
    assert "{{" not in found
    assert "Export the model again." in found


# Warm-up requests ----------------------------------------------------------------------------------------------------


def rewrite(version, *requests):
    with tf.io.TFRecordWriter(str(version / archive.WARM_UP)) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictLog(request=archive.predict_request("weighted", signature, inputs))
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


FINE = ("serving_default", {"x": np.arange(3, dtype="float32")})


@pytest.mark.parametrize("cut", [3, 20])
def test_a_truncated_warm_up_record_is_refused(copy, cut):
    path = copy / archive.WARM_UP
    path.write_bytes(path.read_bytes()[:-cut])
    name, found = failed(copy)
    assert name == "warm-up"
    assert "cannot be read" in found


@pytest.mark.parametrize("record", [b"", b"no message"], ids=["empty", "no message"])
def test_a_warm_up_record_that_is_no_request_is_refused(copy, record):
    with tf.io.TFRecordWriter(str(copy / archive.WARM_UP)) as writer:
        writer.write(record)
    name, found = failed(copy)
    assert name == "warm-up"
    assert "cannot be read" in found


@pytest.mark.parametrize(
    ("asked", "check", "says"),
    [
        (("serve_sounds", FINE[1]), "warm-up", "record 1, serve_sounds: No signature 'serve_sounds'"),
        (
            ("serving_default", {"z": FINE[1]["x"]}),
            "warm-up",
            "record 1, serving_default: 'serving_default' takes ['x']",
        ),
        (("serving_default", {"x": np.zeros([2, 2], "float32")}), "gRPC", "x is of another dtype or shape"),
        pytest.param(
            ("serving_default", {"x": np.array([b"text"], object)}),
            "warm-up",
            "record 1, serving_default: ",
            marks=pytest.mark.slow,
        ),
        (("serving_default", {"x": np.zeros(3)}), "gRPC", "x is of another dtype or shape"),
    ],
    ids=["signature", "name", "shape", "text", "dtype"],
)
def test_a_warm_up_record_that_cannot_be_answered_is_refused(copy, asked, check, says):
    """The server would not load the model."""
    rewrite(copy, FINE, asked)
    name, found = failed(copy)
    assert name == check
    assert says in found


@pytest.mark.slow
def test_no_warm_up_requests_are_refused(copy):
    rewrite(copy)
    name, found = failed(copy)
    assert (name, found.splitlines()[0]) == ("warm-up", "There are no requests.")


# Answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        ({"0/y": [0.0, 96.0, 192.01]}, "The largest difference is 1.0e-02."),
        ({"0/y": [0.0, np.nan, 192.0]}, "NaN"),
        pytest.param({"0/y": [0.0, 96.0]}, "0/y has the shape (3,) instead of (2,)", marks=pytest.mark.slow),
        pytest.param({"0/z": [0.0]}, "0/z is not among the answers", marks=pytest.mark.slow),
        pytest.param({"4/y": [0.0]}, "4/y is not among the answers", marks=pytest.mark.slow),
    ],
    ids=["values", "NaN", "shape", "output", "place"],
)
def test_answers_that_are_not_those_of_python_are_refused(copy, expected, says):
    np.savez(copy / archive.EXPECTED, **expected)
    name, found = failed(copy)
    assert name == "same as in Python"
    assert says in found


def test_where_nothing_can_be_compared_the_table_says_so_and_not_ok(copy, capsys):
    np.savez(copy / archive.EXPECTED)
    checks = verify_export(copy)
    assert print_checks(checks, "export")
    [line] = [line for line in capsys.readouterr().out.splitlines() if "same as in Python" in line]
    assert "not compared" in line
    assert "ok" not in line


def test_how_encoded_pictures_are_read_is_printed(models):
    folder, _ = models
    [found] = [check.found for check in verify_export(folder / "characters" / "1") if check.name == "pictures"]
    assert found == "resized to 8 x 8, grey, from 0 to 1, light pixels as 1"


def test_answers_that_are_nan_are_refused(tmp_path):
    name, found = failed(put(tmp_path / "model" / "1", lambda x: tf.math.log(x - 1), [0, 0, 0]))
    assert (name, "NaN" in found) == ("same as in Python", True)


@pytest.mark.slow
def test_answers_that_are_nan_in_python_too_are_the_same(tmp_path):
    checks = verify_export(put(tmp_path / "model" / "1", lambda x: tf.sqrt(x - 1), [np.nan, 0, 1]))
    assert all(check.fine for check in checks)


def test_a_fixed_number_of_examples_is_refused(tmp_path):
    name, found = failed(put(tmp_path / "model" / "1", lambda x: 2 * x, [0, 2, 4], shape=[3]))
    assert (name, found.splitlines()[0]) == ("sizes", "`x` of serving_default has the shape (3,).")


# Configuration -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_config_list { config { name: 'weighted' colour: 'red' } }", 'no field named "colour"'),
        pytest.param(
            "model_config_list { config { name: 'other' } }",
            "models.config lists other, and not weighted",
            marks=pytest.mark.slow,
        ),
        pytest.param("", "models.config lists no model", marks=pytest.mark.slow),
        pytest.param("{", "The server cannot read", marks=pytest.mark.slow),
    ],
    ids=["unknown field", "other model", "empty", "no text format"],
)
def test_a_configuration_that_the_server_refuses_or_that_leaves_the_model_out_is_refused(copy, text, says):
    (copy.parents[1] / "models.config").write_text(text)
    name, found = failed(copy)
    assert name == "configuration"
    assert says in found
    assert len(found.splitlines()) == 2


@pytest.mark.slow
def test_no_configuration_at_all_is_refused(copy):
    (copy.parents[1] / "models.config").unlink()
    name, found = failed(copy)
    assert (name, found.startswith("There is no models.config")) == ("configuration", True)


# The tool ------------------------------------------------------------------------------------------------------------


def test_the_tool_ends_with_0_when_all_is_fine_and_prints_every_check(original):
    done = CliRunner().invoke(tool.main, [str(original)])
    assert done.exit_code == 0
    assert all(name in done.output for name in CHECKS)
    assert "FAILED" not in done.output


def test_the_tool_ends_with_1_and_names_the_check_that_failed(copy):
    (copy / "saved_model.pb").unlink()
    done = CliRunner().invoke(tool.main, [str(copy)])
    assert done.exit_code == 1
    [line] = [line for line in done.output.splitlines() if "FAILED" in line]
    assert "files" in line
    assert "saved_model.pb" in line


@pytest.mark.slow
def test_the_tool_runs_as_a_program(original, copy):
    root = Path(tool.__file__).parents[1]
    (copy / "saved_model.pb").write_bytes(b"damaged")
    for version, code, word in ((original, 0, "ok"), (copy, 1, "FAILED")):
        command = [sys.executable, str(root / "tools" / "verify_export.py"), str(version)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
        assert done.returncode == code, done.stderr
        assert word in done.stdout
