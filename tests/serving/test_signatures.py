"""Signatures are run in Python here, task by task and joined, whole and damaged; `test_archive` and the conformance
suite run what they become in a file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm
from tf_metalearn.serving.pictures import PictureFormat
from tf_metalearn.serving.signatures import classifier_signatures, learner_signatures

FEATURES, OUTPUTS = 3, 3


def softmax(logits):
    values = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return values / values.sum(axis=-1, keepdims=True)


def ask(function, **inputs):
    dtypes = {spec.name: spec.dtype for spec in function.input_signature}
    answer = function(*(tf.constant(inputs[name], dtype) for name, dtype in dtypes.items()))
    return {name: value.numpy() for name, value in answer.items()}


def join(*requests):
    """Requests as a server that batches joins them."""
    return {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}


def request(labels, seed=0, queries=2, inputs=(FEATURES,), part="support_x"):
    """One task with these labels."""
    random, labels = np.random.default_rng(seed), np.array([labels])
    labels = labels.astype(object) if labels.dtype.kind == "U" else labels
    return {
        part: random.normal(size=[1, labels.shape[1], *inputs]).astype("float32"),
        "support_y": labels,
        "query_x": random.normal(size=[1, queries, *inputs]).astype("float32"),
    }


def assert_same(answer, expected):
    """But for a rounding: support and query sets may go through a network at once, or one after the other."""
    for output, value in answer.items():
        if output == "probabilities":
            np.testing.assert_allclose(value, expected[output], atol=1e-6)
        else:
            np.testing.assert_array_equal(value, expected[output])


@pytest.fixture(scope="module")
def learners(make_linear):
    return {
        "PrototypicalNetwork": tfm.PrototypicalNetwork(make_linear([FEATURES], 4)),
        "MAML": tfm.MAML(make_linear([FEATURES], OUTPUTS), inner_learning_rate=0.4),
    }


@pytest.fixture(scope="module")
def all_signatures(learners):
    return {name: learner_signatures(learner.served()) for name, learner in learners.items()}


@pytest.fixture(scope="module", params=["PrototypicalNetwork", "MAML"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def signatures(all_signatures, kind):
    return all_signatures[kind]


#: Labels of the tasks of a batch, with unequal numbers of classes; and their text.
TASKS = [[10, 14, 10, 12], [3, 3, 3, 8], [2, 1, 0, 1]]
TEXT = {label: f"class {label}" for task in TASKS for label in task}


def requests(text=False):
    return [request([TEXT[label] for label in task] if text else task, seed) for seed, task in enumerate(TASKS)]


@pytest.fixture(scope="module", params=["numbers", "text"])
def labels(request):
    return request.param


@pytest.fixture(scope="module")
def of_labels(labels):
    """Names of signatures, and what stands for no label."""
    if labels == "numbers":
        return {"serve": "serving_default", "adapt": "adapt", "predict_with": "predict_with", "nothing": -1}
    return {name: f"{name}_strings" for name in ("serve", "adapt", "predict_with")} | {"nothing": b""}


@pytest.fixture(scope="module")
def tasks(labels):
    return requests(labels == "text")


@pytest.fixture(scope="module")
def serve(signatures, of_labels):
    return signatures[of_labels["serve"]]


@pytest.fixture(scope="module")
def joined(serve, tasks):
    return ask(serve, **join(*tasks))


# What they answer ----------------------------------------------------------------------------------------------------


def test_names_and_kinds_of_labels(signatures):
    kinds = {"serving_default", "adapt", "predict_with", "serve_strings", "adapt_strings", "predict_with_strings"}
    assert set(signatures) == kinds
    assert next(iter(signatures)) == "serving_default"


def test_sizes_of_tasks_sets_classes_and_queries_are_unknown(signatures):
    for function in signatures.values():
        for spec in function.input_signature:
            assert spec.shape[0] is None
            if spec.name not in ("parameters",):
                assert spec.shape[1] is None, spec


def test_prototypes_are_means_of_embeddings_and_probabilities_of_distances(learners, all_signatures):
    kernel, bias = learners["PrototypicalNetwork"].embedding.get_weights()
    task = request([7, 5, 7, 9])
    support, query = (task[part][0].astype("float64") @ kernel + bias for part in ("support_x", "query_x"))
    prototypes = np.stack([(support[0] + support[2]) / 2, support[1], support[3]])
    distances = ((query[:, None] - prototypes) ** 2).sum(axis=-1)
    answer = ask(all_signatures["PrototypicalNetwork"]["serving_default"], **task)
    assert answer["classes"].tolist() == [[7, 5, 9]]
    assert answer["label"].tolist() == [np.array([7, 5, 9])[distances.argmin(axis=1)].tolist()]
    np.testing.assert_allclose(answer["probabilities"][0], softmax(-distances), atol=1e-5)
    assert answer["error"].tolist() == [b""]


def test_maml_takes_its_inner_step_inside_the_signature(learners, all_signatures):
    """One step of gradient descent on the cross-entropy of a linear layer, with numpy."""
    kernel, bias = (part.astype("float64") for part in learners["MAML"].base_learner.get_weights())
    task = request([7, 5, 7, 9])
    x = task["support_x"][0].astype("float64")
    slope = (softmax(x @ kernel + bias) - np.eye(OUTPUTS)[[0, 1, 0, 2]]) / 4
    kernel, bias = kernel - 0.4 * x.T @ slope, bias - 0.4 * slope.sum(axis=0)
    answer = ask(all_signatures["MAML"]["serving_default"], **task)
    np.testing.assert_allclose(answer["probabilities"][0], softmax(task["query_x"][0] @ kernel + bias), atol=1e-5)


def test_answers_are_those_of_the_learner_in_python(learners, kind, serve, tasks, joined):
    for place, task in enumerate(tasks):
        expected = learners[kind].adapt_and_predict(*(part[0] for part in task.values()))
        found = joined["probabilities"][place, :, : expected.shape[1]]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_labels_come_back_as_they_were_given(tasks, joined):
    for place, task in enumerate(tasks):
        given = [label.encode() if isinstance(label, str) else label for label in task["support_y"][0]]
        classes = list(dict.fromkeys(given))
        assert joined["classes"][place, : len(classes)].tolist() == classes
        best = joined["probabilities"][place].argmax(axis=-1)
        assert joined["label"][place].tolist() == [classes[index] for index in best]


def test_classes_that_a_task_does_not_have_are_padded(joined, of_labels):
    """The second task has two classes, the others three."""
    assert joined["classes"].shape == (3, 3)
    assert joined["classes"][1, 2] == of_labels["nothing"]
    assert not joined["probabilities"][1, :, 2].any()
    np.testing.assert_allclose(joined["probabilities"].sum(axis=-1), 1, rtol=1e-6)


def test_answers_of_joined_requests_are_those_of_each_alone(serve, tasks, joined):
    for place, task in enumerate(tasks):
        alone = ask(serve, **task)
        width = alone["classes"].shape[1]
        np.testing.assert_allclose(joined["probabilities"][place, :, :width], alone["probabilities"][0], atol=1e-6)
        for output in ("label", "error"):
            np.testing.assert_array_equal(joined[output][place], alone[output][0])


def test_the_order_of_joined_requests_does_not_matter(serve, tasks, joined):
    turned = ask(serve, **join(*tasks[::-1]))
    assert_same({output: value[::-1] for output, value in turned.items()}, joined)


def test_adapting_first_and_predicting_after_is_the_same(signatures, of_labels, tasks, joined):
    batch = join(*tasks)
    query = batch.pop("query_x")
    state = ask(signatures[of_labels["adapt"]], **batch)
    assert state.pop("error").tolist() == [b""] * 3
    np.testing.assert_array_equal(state["classes"], joined["classes"])
    answer = ask(signatures[of_labels["predict_with"]], **state, query_x=query)
    assert_same(answer, {output: joined[output] for output in answer})


def test_one_state_answers_any_number_of_queries(signatures):
    task = request([0, 1, 2], queries=5)
    query = task.pop("query_x")
    state = ask(signatures["adapt"], **task)
    state.pop("error")
    together = ask(signatures["predict_with"], **state, query_x=query)["probabilities"]
    apart = [ask(signatures["predict_with"], **state, query_x=query[:, [place]])["probabilities"] for place in range(5)]
    np.testing.assert_allclose(np.concatenate(apart, axis=1), together, atol=1e-6)


# Damage --------------------------------------------------------------------------------------------------------------


def with_nan(part):
    def damage(task):
        return {**task, part: np.where(np.arange(task[part].size).reshape(task[part].shape) == 1, np.nan, task[part])}

    return damage


def with_label(number, text):
    def damage(task):
        labels = task["support_y"].copy()
        labels[0, 1] = text if labels.dtype == object else number
        return {**task, "support_y": labels}

    return damage


def of_one_class(task):
    return {**task, "support_y": np.full_like(task["support_y"], task["support_y"][0, 0])}


def of_four_classes(task):
    text = task["support_y"].dtype == object
    return {**task, "support_y": np.array([["a", "b", "c", "d"]], object) if text else np.array([[4, 5, 6, 7]])}


DAMAGES = {
    "NaN in the support set": (with_nan("support_x"), "`support_x` must be finite"),
    "infinity in the queries": (
        lambda task: {**task, "query_x": np.full_like(task["query_x"], np.inf)},
        "`query_x` must be finite",
    ),
    "NaN in the queries": (with_nan("query_x"), "`query_x` must be finite"),
    "a negative or empty label": (with_label(-3, ""), "`support_y` must be"),
    "one class only": (of_one_class, "`support_y` must name 2 classes or more. Received: 1."),
    "more classes than outputs": (of_four_classes, "`support_y` must name at most 3 classes. Received: 4."),
}


def assert_refused(answer, place, says, nothing):
    assert says in answer["error"][place].decode()
    assert "Received: " in answer["error"][place].decode()
    assert np.isnan(answer["probabilities"][place]).all()
    assert set(np.ravel(answer["label"][place]).tolist()) == {nothing}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_task_has_an_error_of_its_own_and_its_neighbours_do_not(
    kind, serve, tasks, joined, of_labels, damage
):
    if damage == "more classes than outputs" and kind == "PrototypicalNetwork":
        pytest.skip("has any number of classes")
    change, says = DAMAGES[damage]
    answer = ask(serve, **join(tasks[0], change(tasks[1]), tasks[2]))
    assert_refused(answer, 1, says, of_labels["nothing"])
    for place in (0, 2):
        assert answer["error"][place] == b""
        for output in ("probabilities", "label", "classes"):
            np.testing.assert_array_equal(answer[output][place], joined[output][place])


def test_a_wrong_label_is_said(all_signatures):
    signatures = all_signatures["PrototypicalNetwork"]
    for signature, labels, received in (
        ("serving_default", [0, -3], b"`support_y` must be whole numbers from 0 on. Received: -3."),
        ("serve_strings", ["a", ""], b"`support_y` must be text that is not empty. Received: empty text."),
    ):
        assert ask(signatures[signature], **request(labels))["error"].tolist() == [received]


@pytest.mark.parametrize(
    ("support", "given", "says"),
    [
        (0, 0, "`support_x` must have an example of each class. Received: none."),
        (0, 4, "`support_x` must have an example of each class. Received: none."),
        (4, 3, "`support_y` must have a label for each example. Received: 3 labels and 4 examples."),
        (4, 6, "`support_y` must have a label for each example. Received: 6 labels and 4 examples."),
        (4, 0, "`support_y` must have a label for each example. Received: 0 labels and 4 examples."),
    ],
)
def test_support_sets_and_labels_of_wrong_sizes_are_refused_and_not_raised(
    serve, tasks, of_labels, support, given, says
):
    """Requests are joined only where sizes agree, so that this is true of all tasks of a request."""
    batch = join(*tasks)
    batch["support_x"] = batch["support_x"][:, :support]
    batch["support_y"] = np.concatenate([batch["support_y"]] * 2, axis=1)[:, :given]
    answer = ask(serve, **batch)
    for place in range(3):
        assert_refused(answer, place, says, of_labels["nothing"])


@pytest.mark.parametrize("damage", ["NaN in the support set", "a negative or empty label", "one class only"])
def test_the_state_of_a_damaged_task_is_refused(signatures, of_labels, tasks, joined, damage):
    change, says = DAMAGES[damage]
    batch = join(tasks[0], change(tasks[1]), tasks[2])
    query = batch.pop("query_x")
    state = ask(signatures[of_labels["adapt"]], **batch)
    errors = state.pop("error")
    assert says in errors[1].decode()
    assert errors[[0, 2]].tolist() == [b"", b""]
    answer = ask(signatures[of_labels["predict_with"]], **state, query_x=query)
    assert_refused(answer, 1, "must be what `adapt` returned", of_labels["nothing"])
    assert_same(*({output: part[output][[0, 2]] for output in answer} for part in (answer, joined)))


def test_a_prediction_that_is_not_finite_is_an_error_of_its_task_alone(serve, tasks, joined, of_labels):
    """Squares of such numbers are beyond float32, and so are differences of their products."""
    wild = {**tasks[1], "query_x": np.full_like(tasks[1]["query_x"], 3e38), "support_x": tasks[1]["support_x"] * 9}
    answer = ask(serve, **join(tasks[0], wild, tasks[2]))
    assert_refused(answer, 1, "`query_x` must be examples whose prediction is finite", of_labels["nothing"])
    np.testing.assert_array_equal(answer["probabilities"][[0, 2]], joined["probabilities"][[0, 2]])


# None of these -------------------------------------------------------------------------------------------------------


def test_a_query_beyond_the_threshold_is_none_of_these(make_linear):
    learner = tfm.PrototypicalNetwork(make_linear([FEATURES], FEATURES), threshold=-1.0)
    learner.embedding.set_weights([np.eye(FEATURES), np.zeros(FEATURES)])
    signatures = learner_signatures(learner.served())
    support, query = np.eye(FEATURES)[:2], np.array([[0.9, 0, 0], [50, 0, 0], [0, 1, 0.5]])
    task = {"support_x": support[None], "support_y": [[4, 2]], "query_x": query[None]}
    answer = ask(signatures["serving_default"], **task)
    assert answer["label"].tolist() == [[4, -1, 2]]
    assert answer["error"].tolist() == [b""]
    np.testing.assert_allclose(answer["probabilities"].sum(axis=-1), 1, rtol=1e-6)
    text = ask(signatures["serve_strings"], **{**task, "support_y": [["four", "two"]]})
    assert text["label"].tolist() == [[b"four", b"", b"two"]]


def test_with_a_threshold_one_class_will_do(make_linear):
    learner = tfm.PrototypicalNetwork(make_linear([FEATURES], FEATURES), threshold=-1.0)
    answer = ask(learner_signatures(learner.served())["serving_default"], **request([6, 6]))
    assert answer["error"].tolist() == [b""]
    assert answer["classes"].tolist() == [[6]]


# Other kinds of tasks ------------------------------------------------------------------------------------------------


def test_zero_shot_classes_are_known_by_their_metadata(make_linear):
    """Prototypes are encoded metadata of unit length; queries stay as they are."""
    encoder, embedding = make_linear([2], 4), make_linear([FEATURES], 4)
    learner = tfm.PrototypicalNetwork(embedding, metadata_encoder=encoder)
    random = np.random.default_rng(0)
    metadata, query = random.normal(size=[2, 3, 2]), random.normal(size=[2, 5, FEATURES])
    answer = ask(
        learner_signatures(learner.served())["serving_default"],
        support_x=metadata,
        support_y=[[8, 6, 7], [0, 1, 2]],
        query_x=query,
    )
    prototypes, features = metadata @ encoder.get_weights()[0], query @ embedding.get_weights()[0]
    prototypes /= np.linalg.norm(prototypes, axis=-1, keepdims=True)
    distances = ((features[:, :, None] - prototypes[:, None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(answer["probabilities"], softmax(-distances), atol=1e-5)
    assert answer["label"][0].tolist() == np.array([8, 6, 7])[distances[0].argmin(axis=-1)].tolist()


@pytest.fixture(scope="module")
def regression(make_linear):
    learner = tfm.MAML(make_linear([2], 1), inner_learning_rate=0.1, inner_loss="mse")
    return learner, learner_signatures(learner.served())


def values(seed, support=4, queries=3):
    random = np.random.default_rng(seed)
    return {
        "support_x": random.normal(size=[1, support, 2]),
        "support_y": random.normal(size=[1, support, 1]),
        "query_x": random.normal(size=[1, queries, 2]),
    }


def test_a_regression_returns_values(regression):
    """One step down the mean square of a linear layer, with numpy."""
    learner, signatures = regression
    assert set(signatures) == {"serving_default", "adapt", "predict_with"}
    kernel, bias = learner.base_learner.get_weights()
    task = values(0)
    x, y, query = (part[0] for part in task.values())
    slope = 2 * (x @ kernel + bias - y) / len(x)
    expected = query @ (kernel - 0.1 * x.T @ slope) + bias - 0.1 * slope.sum(axis=0)
    answer = ask(signatures["serving_default"], **task)
    np.testing.assert_allclose(answer["outputs"][0], expected, atol=1e-5)
    assert answer["error"].tolist() == [b""]


@pytest.mark.slow
def test_a_sine_wave_is_served_as_the_learner_predicts_it():
    keras.utils.set_random_seed(0)
    learner = tfm.MAML(tfm.backbones.sinusoid_mlp([8]), inner_steps=3, inner_learning_rate=0.01, inner_loss="mse")
    x = np.linspace(-5, 5, 10, dtype="float32")[:, None]
    query = np.linspace(-4, 4, 7, dtype="float32")[:, None]
    expected = learner.adapt_and_predict(x, np.sin(x), query)
    serve = learner_signatures(learner.served())["serving_default"]
    answer = ask(serve, support_x=x[None], support_y=np.sin(x)[None], query_x=query[None])
    np.testing.assert_allclose(answer["outputs"][0], expected, atol=1e-6)


def test_a_regression_adapts_once_and_predicts_after(regression):
    _, signatures = regression
    batch = join(values(0), values(1))
    expected = ask(signatures["serving_default"], **batch)
    query = batch.pop("query_x")
    state = ask(signatures["adapt"], **batch)
    state.pop("error")
    answer = ask(signatures["predict_with"], **state, query_x=query)
    np.testing.assert_array_equal(answer["outputs"], expected["outputs"])


@pytest.mark.parametrize("part", ["support_x", "support_y", "query_x"])
def test_nan_in_a_regression_is_an_error_of_its_task_alone(regression, part):
    _, signatures = regression
    damaged = with_nan(part)(values(1))
    answer = ask(signatures["serving_default"], **join(values(0), damaged, values(2)))
    whole = ask(signatures["serving_default"], **join(values(0), values(1), values(2)))
    assert f"`{part}` must be finite" in answer["error"][1].decode()
    assert np.isnan(answer["outputs"][1]).all()
    np.testing.assert_array_equal(answer["outputs"][[0, 2]], whole["outputs"][[0, 2]])
    assert answer["error"][[0, 2]].tolist() == [b"", b""]
    if part != "query_x":
        damaged.pop("query_x")
        state = ask(signatures["adapt"], **damaged)
        state.pop("error")
        refused = ask(signatures["predict_with"], **state, query_x=values(1)["query_x"])
        assert b"must be what `adapt` returned" in refused["error"][0]


def test_adapting_that_diverges_is_an_error_of_its_task_alone(regression):
    """A gradient with squares of such numbers is infinite."""
    _, signatures = regression
    wild, tame = values(0), values(1)
    wild["support_x"] *= 1e25
    answer = ask(signatures["serving_default"], **join(wild, tame))
    assert b"diverged" in answer["error"][0]
    assert np.isnan(answer["outputs"][0]).all()
    np.testing.assert_array_equal(answer["outputs"][1], ask(signatures["serving_default"], **tame)["outputs"][0])
    state = ask(signatures["adapt"], support_x=wild["support_x"], support_y=wild["support_y"])
    assert b"diverged" in state["error"][0]


@pytest.mark.parametrize(
    ("support", "labels", "argument"), [(0, 0, "support_x"), (0, 2, "support_x"), (4, 3, "support_y")]
)
def test_support_sets_of_wrong_sizes_are_refused_in_a_regression(regression, support, labels, argument):
    _, signatures = regression
    task = values(0)
    task["support_x"], task["support_y"] = task["support_x"][:, :support], task["support_y"][:, :labels]
    answer = ask(signatures["serving_default"], **task)
    assert f"`{argument}` must have" in answer["error"][0].decode()
    assert np.isnan(answer["outputs"]).all()


# Pictures ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_pictures(make_linear):
    return learner_signatures(tfm.PrototypicalNetwork(make_linear([8, 8, 1], 4)).served(), PictureFormat(8, 8, 1))


def test_pictures_have_signatures_of_their_own(of_pictures):
    both = {f"{verb}_bytes{ending}" for verb in ("serve", "adapt", "predict_with") for ending in ("", "_strings")}
    assert both <= set(of_pictures)
    assert len(of_pictures) == 12


def test_encoded_pictures_are_answered_as_their_pixels_are(of_pictures, png):
    random, text = np.random.default_rng(0), np.array([["x", "y", "x"], ["y", "x", "y"]], object)
    support, query = (random.integers(0, 256, [2, count, 8, 8], np.uint8) for count in (3, 2))
    numbers = {"support_x": support[..., None] / 255, "support_y": text, "query_x": query[..., None] / 255}
    encoded = {"support_bytes": png(support), "support_y": text, "query_bytes": png(query)}
    expected = ask(of_pictures["serve_strings"], **numbers)
    answer = ask(of_pictures["serve_bytes_strings"], **encoded)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-6)
    np.testing.assert_array_equal(answer["label"], expected["label"])
    queries = encoded.pop("query_bytes")
    state = ask(of_pictures["adapt_bytes_strings"], **encoded)
    state.pop("error")
    after = ask(of_pictures["predict_with_bytes_strings"], **state, query_bytes=queries)
    assert_same(after, {output: answer[output] for output in after})


@pytest.mark.parametrize("part", ["support_bytes", "query_bytes"])
def test_an_unreadable_picture_is_an_error_of_its_task_alone(of_pictures, png, part):
    random = np.random.default_rng(0)
    batch = {
        "support_bytes": png(random.integers(0, 256, [3, 2, 8, 8], np.uint8)),
        "support_y": np.array([[0, 1]] * 3),
        "query_bytes": png(random.integers(0, 256, [3, 2, 8, 8], np.uint8)),
    }
    whole = ask(of_pictures["serve_bytes"], **batch)
    damaged = {**batch, part: batch[part].copy()}
    damaged[part][1, 0] = batch[part][1, 0][:20]
    answer = ask(of_pictures["serve_bytes"], **damaged)
    assert_refused(answer, 1, f"`{part}` must be", -1)
    for output, value in whole.items():
        np.testing.assert_array_equal(answer[output][[0, 2]], value[[0, 2]])


def test_no_support_pictures_at_all_are_refused(of_pictures, png):
    query = png(np.zeros([1, 2, 8, 8], np.uint8))
    task = {"support_bytes": np.empty([1, 0], object), "support_y": np.zeros([1, 0]), "query_bytes": query}
    assert_refused(ask(of_pictures["serve_bytes"], **task), 0, "`support_bytes` must have", -1)


# Classifiers ---------------------------------------------------------------------------------------------------------


def classifier(make_linear, labels, **arguments):
    learner = tfm.PrototypicalNetwork(make_linear([FEATURES], FEATURES), **arguments)
    learner.embedding.set_weights([np.eye(FEATURES), np.zeros(FEATURES)])
    return learner.adapt(np.eye(FEATURES)[: len(labels)], labels)


@pytest.mark.parametrize(
    ("labels", "served"),
    [
        ([12, 10, 11], [12, 10, 11]),
        (np.array([12, 10, 11]), [12, 10, 11]),
        (list(np.array([12, 10, 11])), [12, 10, 11]),
        (["ä", "b", "c"], ["ä".encode(), b"b", b"c"]),
        ([-1, 0, 1], [b"-1", b"0", b"1"]),
        ([("a", 3), 7, None], [b"('a', 3)", b"7", b"None"]),
    ],
)
def test_a_classifier_answers_with_its_labels_as_numbers_or_else_as_text(make_linear, labels, served):
    answer = ask(classifier_signatures(classifier(make_linear, labels).served())["serving_default"], x=np.eye(3)[::-1])
    assert answer["label"].tolist() == served[::-1]
    assert answer["classes"].tolist() == [served] * 3
    distances = 2 - 2 * np.eye(3)
    np.testing.assert_allclose(answer["probabilities"], softmax(-distances)[::-1], atol=1e-6)


def test_a_damaged_example_is_an_error_of_its_own_in_a_classifier(make_linear):
    serve = classifier_signatures(classifier(make_linear, ["a", "b"]).served())["serving_default"]
    x = np.eye(3)
    x[1, 1] = np.nan
    answer, whole = ask(serve, x=x), ask(serve, x=np.eye(3))
    assert_refused(answer, 1, "`x` must be finite", b"")
    for output in ("label", "probabilities", "error"):
        np.testing.assert_array_equal(answer[output][[0, 2]], whole[output][[0, 2]])


def test_a_classifier_says_none_of_these_beyond_its_threshold(make_linear):
    serve = classifier_signatures(classifier(make_linear, [3, 4], threshold=-1.0).served())["serving_default"]
    assert ask(serve, x=[[1, 0, 0], [0, 0, 50]])["label"].tolist() == [3, -1]


def test_a_metric_classifier_returns_embeddings_too(make_linear):
    signatures = classifier_signatures(classifier(make_linear, ["a", "b"]).served())
    assert set(signatures) == {"serving_default", "embed"}
    x = np.random.default_rng(0).normal(size=[4, FEATURES])
    np.testing.assert_allclose(ask(signatures["embed"], x=x)["embedding"], x, atol=1e-6)


def test_a_classifier_reads_pictures(make_linear, png):
    learner = tfm.PrototypicalNetwork(make_linear([8, 8, 1], 4))
    pixels = np.random.default_rng(0).integers(0, 256, [3, 8, 8], np.uint8)
    adapted = learner.adapt(pixels[..., None] / 255, ["a", "b", "c"])
    signatures = classifier_signatures(adapted.served(), PictureFormat(8, 8, 1))
    encoded = png(pixels)
    encoded[1] = b"damaged"
    answer = ask(signatures["serve_bytes"], image_bytes=encoded)
    assert answer["label"].tolist() == [b"a", b"", b"c"]
    assert_refused(answer, 1, "`image_bytes` must be", b"")
