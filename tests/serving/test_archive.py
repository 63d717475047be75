import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import tf_metalearn as tfm
from tf_metalearn.serving import archive
from tf_metalearn.serving.export import write


@tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
def double(x):
    return {"y": 2 * x}


def put(version):
    """A model without variables."""
    requests = [("serving_default", {"x": np.ones(3, "float32")})]
    return write(version, {"serving_default": double}, [], requests, {"0/y": np.full(3, 2.0)}, "About it.", "Ask it.")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_has_a_model_warm_up_requests_and_expected_answers_and_files_beside_it(tmp_path):
    put(tmp_path / "double" / "1")
    assert {path.name for path in tmp_path.iterdir()} == {"double", "models.config", "batching.config", "compose.yaml"}
    assert {path.name for path in (tmp_path / "double").iterdir()} == {"1", "README.md"}
    assert {"saved_model.pb", str(archive.WARM_UP), str(archive.EXPECTED)} <= set(files(tmp_path / "double" / "1"))


@pytest.mark.parametrize("name", ["model", "1a", "v1", "01", "-1", "1.0", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_paths_that_do_not_end_in_a_number_are_refused(make_linear, tmp_path, name):
    learner = tfm.PrototypicalNetwork(make_linear([2], 2))
    with pytest.raises(ValueError, match=r"`filepath` must be a version folder.*Received: .*\n.*Try '.*1'"):
        learner.export(tmp_path / "models" / "points" / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("7", "served/NAME/7"),
        ("letters/1", "served/letters/1"),
        ("../3", "served/NAME/3"),
        ("/letters/1", "served/letters/1"),
        ("letters", "served/letters/1"),
    ],
)
def test_paths_without_a_folder_for_all_models_are_refused(make_linear, tmp_path, monkeypatch, path, remedy):
    """The server's files would go where nobody expects them."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ValueError, match=rf"`filepath` must [\s\S]*Try '{remedy}'"):
        tfm.PrototypicalNetwork(make_linear([2], 2)).export(path)
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("path", ["served/letters/1", "../letters/1"])
def test_paths_with_a_folder_for_all_models_are_taken(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert archive.check_version_folder(path).is_absolute()


def test_a_version_that_is_there_is_refused_and_stays_as_it_is(tmp_path):
    put(tmp_path / "double" / "7")
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"`filepath` must not be there yet\. Received: .*7', which is\.\n.*8'"):
        archive.check_version_folder(tmp_path / "double" / "7")
    assert files(tmp_path) == before


def test_a_version_that_appears_while_another_is_written_stays_as_it_is(tmp_path):
    put(tmp_path / "double" / "1")
    before = files(tmp_path)
    with pytest.raises(OSError, match="not empty"):
        put(tmp_path / "double" / "1")
    assert files(tmp_path) == before


class Interruption(Exception):
    pass


def fail(*args, **kwargs):
    raise Interruption


@pytest.mark.parametrize("part", ["tf.saved_model.save", "tf.io.TFRecordWriter", "np.savez_compressed"])
@pytest.mark.parametrize("first", [True, False])
def test_when_writing_fails_half_way_nothing_is_left_behind(monkeypatch, tmp_path, part, first):
    models = tmp_path / "models"
    if not first:
        put(models / "double" / "1")
    before, folders = files(tmp_path), set(models.rglob("*"))
    monkeypatch.setattr(f"tf_metalearn.serving.archive.{part}", fail)
    with pytest.raises(Interruption):
        put(models / "double" / "2")
    assert files(tmp_path) == before
    assert set(models.rglob("*")) == folders


def test_a_server_that_looks_while_a_version_is_written_sees_no_number_and_no_new_model(monkeypatch, tmp_path):
    save, seen = tf.saved_model.save, []

    def looked_at(*args, **kwargs):
        save(*args, **kwargs)
        seen.extend(path.name for path in (tmp_path / "double").iterdir())

    monkeypatch.setattr(tf.saved_model, "save", looked_at)
    put(tmp_path / "double" / "1")
    assert seen
    assert not any(name.isdecimal() for name in seen)


def listed(folder):
    config = text_format.Parse((folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    return [(entry.name, entry.base_path, entry.model_platform) for entry in config.model_config_list.config]


def test_the_configuration_lists_all_models_that_have_a_version(tmp_path):
    put(tmp_path / "double" / "1")
    put(tmp_path / "again" / "12")
    (tmp_path / "notes").mkdir()
    (tmp_path / "half" / "1").mkdir(parents=True)
    (tmp_path / "unfinished" / ".1.writing-5").mkdir(parents=True)
    (tmp_path / "unfinished" / ".1.writing-5" / "saved_model.pb").touch()
    archive.write_server_files(tmp_path)
    models = [(name, f"/models/{name}", "tensorflow") for name in ("again", "double")]
    assert listed(tmp_path) == models


def test_files_without_our_mark_are_left_alone_and_others_written_anew(tmp_path):
    put(tmp_path / "double" / "1")
    (tmp_path / "models.config").write_text("# Mine.\n")
    (tmp_path / "double" / "README.md").write_text("# Double\n")
    (tmp_path / "compose.yaml").write_text(f"{archive.MARK}\nold\n")
    put(tmp_path / "double" / "2")
    assert (tmp_path / "models.config").read_text() == "# Mine.\n"
    assert (tmp_path / "double" / "README.md").read_text() == "# Double\n"
    assert (tmp_path / "compose.yaml").read_text() == archive.COMPOSE


def test_the_batching_advice_pads_nothing(tmp_path):
    put(tmp_path / "double" / "1")
    text = (tmp_path / "batching.config").read_text()
    settings = [line.split(" { value: ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert settings == ["max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches"]


def test_a_request_carries_model_signature_and_tensors():
    inputs = {"support_bytes": np.array([[b"a", b"b"]], object), "support_y": np.array([[3, 4]])}
    request = archive.predict_request("points", "serve_bytes", inputs)
    again = type(request).FromString(request.SerializeToString())
    assert (again.model_spec.name, again.model_spec.signature_name) == ("points", "serve_bytes")
    assert tf.make_ndarray(again.inputs["support_y"]).tolist() == [[3, 4]]
    assert tf.make_ndarray(again.inputs["support_bytes"]).tolist() == [[b"a", b"b"]]
