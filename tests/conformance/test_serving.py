"""What every few-shot learner promises of its export. Learners are those of `test_learners.py`, which finds them.

Their examples are pictures here, so that an export has all signatures: of numbers and of encoded pictures, with whole
numbers and with text as labels.
"""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from tests.conformance.test_learners import EXAMPLES, WAYS, Case, make, public_learners, role_of
from tf_metalearn.serving.verification import run_in_session, verify_export

#: Those that are exported in `make test`; all are in `make test-all`.
QUICK = {"MAML", "PrototypicalNetwork"}
KINDS = ["serving_default", "serve_strings", "serve_bytes", "serve_bytes_strings"]


def cases():
    for cls in public_learners():
        for index, arguments in enumerate(EXAMPLES.get(cls.__name__, [{}])):
            told = {"ways": WAYS} if cls.__name__ == "FineTuning" else {}
            case = Case(cls, {**told, **arguments}, images=False)
            marks = [] if cls.__name__ in QUICK and not index else [pytest.mark.slow]
            yield pytest.param(case, id=f"{cls.__name__}-{index}", marks=marks)
            if not index:
                case = case._replace(images=True)
                yield pytest.param(case, id=f"{cls.__name__}-conv4", marks=pytest.mark.slow)


def flat(case):
    """A learner of flattened pictures, which traces in a moment."""
    keras.utils.set_random_seed(0)
    classifies, maps = role_of(case) == "base_learner", getattr(case.cls, "feature_axes", 2) == 4
    last = keras.layers.Reshape([2, 2, 4]) if maps else keras.layers.Dense(WAYS if classifies else 4)
    layers = [keras.layers.Flatten(), keras.layers.Dense(16), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return case.cls(keras.Sequential([keras.Input([8, 8, 1]), *layers, last]), **case.arguments)


@pytest.fixture(scope="module", params=list(cases()))
def learner(request):
    return make(request.param) if request.param.images else flat(request.param)


@pytest.fixture(scope="module")
def version(learner, tmp_path_factory):
    version = tmp_path_factory.mktemp("exports") / "learner" / "1"
    learner.export(version, verbose=False)
    return version


@pytest.fixture(scope="module")
def pixels():
    """Two tasks of six support examples and four queries."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, [2, count, 8, 8], np.uint8) for count in (6, 4)]


#: Unequal numbers of examples of a class, and labels that do not begin with 0.
LABELS = [[14, 11, 11, 14, 12, 11], [10, 10, 13, 10, 13, 13]]


def encoded(pictures):
    files = np.empty(pictures.shape[:2], object)
    for place in np.ndindex(files.shape):
        stream = io.BytesIO()
        Image.fromarray(pictures[place]).save(stream, "PNG")
        files[place] = stream.getvalue()
    return files


def requests(pixels):
    """The same tasks in all kinds, and adapted first and predicted after."""
    numbers = [(part[..., None] / 255).astype("float32") for part in pixels]
    for kind in KINDS:
        ending, parts = ("bytes", map(encoded, pixels)) if "bytes" in kind else ("x", numbers)
        support, query = parts
        labels = np.array(LABELS)
        labels = labels.astype(str).astype("S").astype(object) if "strings" in kind else labels
        yield kind, {f"support_{ending}": support, "support_y": labels, f"query_{ending}": query}


@pytest.fixture(scope="module")
def answers(version, pixels):
    """By the kinds of requests; and of `adapt`, and of a request in which the first task is damaged."""
    asked = dict(requests(pixels))
    numbers = asked["serving_default"]
    damaged = numbers["support_x"].copy()
    damaged[0, 0] = np.nan
    every = [*asked.items(), ("serving_default", {**numbers, "support_x": damaged})]
    every.append(("adapt", {name: numbers[name] for name in ("support_x", "support_y")}))
    _, answers = run_in_session(version, every)
    return dict(zip([*KINDS, "damaged", "adapt"], (found for found, _ in answers), strict=True))


def test_public_learners_are_exported():
    assert {param.values[0].cls for param in cases()} == set(public_learners())


def test_an_export_passes_every_check(version):
    checks = verify_export(version)
    assert [check.found for check in checks if not check.fine] == []
    assert len(checks) == 9
    assert checks[4].word == "ok"


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_the_learner_does_in_python(learner, pixels, answers, kind):
    answer = answers[kind]
    assert answer["error"].tolist() == [b"", b""]
    for place, labels in enumerate(LABELS):
        support, query = ((part[place, ..., None] / 255).astype("float32") for part in pixels)
        classes = list(dict.fromkeys(labels))
        expected = learner.adapt_and_predict(support, labels, query)
        np.testing.assert_allclose(answer["probabilities"][place, :, : len(classes)], expected, atol=1e-5)
        assert not answer["probabilities"][place, :, len(classes) :].any()
        named = [str(label).encode() for label in classes] if "strings" in kind else classes
        assert answer["classes"][place, : len(classes)].tolist() == named
        best = answer["probabilities"][place].argmax(axis=-1)
        assert answer["label"][place].tolist() == [named[index] for index in best]


def test_what_it_adapts_to_predicts_the_same(version, pixels, answers):
    state = {name: value for name, value in answers["adapt"].items() if name != "error"}
    query = dict(requests(pixels))["serving_default"]["query_x"]
    _, [(answer, _)] = run_in_session(version, [("predict_with", {**state, "query_x": query})])
    expected = answers["serving_default"]
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)
    for output in ("label", "error"):
        np.testing.assert_array_equal(answer[output], expected[output])


def test_a_damaged_task_leaves_its_neighbour_as_it_is(answers):
    answer, whole = answers["damaged"], answers["serving_default"]
    assert b"`support_x` must be finite" in answer["error"][0]
    assert np.isnan(answer["probabilities"][0]).all()
    for output, value in whole.items():
        np.testing.assert_array_equal(answer[output][1], value[1])


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[14, 11, 11, 14, 12, 11], ["a", "b", "b", "a", "c", "b"]], ids=["numbers", "text"])
def test_an_adapted_classifier_is_exported_too(learner, pixels, tmp_path, labels):
    support, query = ((part[0, ..., None] / 255).astype("float32") for part in pixels)
    classifier = learner.adapt(support, labels)
    version = tmp_path / "classifier" / "1"
    classifier.export(version, verbose=False)
    checks = verify_export(version)
    assert [check.found for check in checks if not check.fine] == []
    files = {"image_bytes": encoded(pixels[1])[0]}
    _, answers = run_in_session(version, [("serving_default", {"x": query}), ("serve_bytes", files)])
    expected = np.array(classifier(query))
    named = [label.encode() if isinstance(label, str) else label for label in classifier.classes]
    for answer, _ in answers:
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        assert answer["label"].tolist() == [named[place] for place in expected.argmax(axis=-1)]
