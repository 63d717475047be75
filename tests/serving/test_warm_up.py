"""Warm-up requests that an export can be compared by."""

import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn.serving.service import Service
from tf_metalearn.serving.signatures import learner_signatures
from tf_metalearn.serving.warm_up import SHAPES, learner_requests, task_inputs


def service(in_python):
    """A learner whose tensors do not matter: what it is in Python is looked at."""

    def adapt(support_x, labels, ways):
        return {"sums": tf.reduce_sum(support_x, axis=1)}

    def predict(state, query_x):
        return tf.zeros([tf.shape(query_x)[0], tf.shape(query_x)[1], 5]) + state["sums"][:, None, :1]

    return Service(adapt, predict, (3,), (3,), [], most_classes=5, in_python=in_python)


def requests_of(in_python):
    made = service(in_python)
    signatures = learner_signatures(made)
    found = [inputs for name, inputs in learner_requests(signatures, made, None) if name == "serving_default"]
    return found, [task_inputs(signatures["serving_default"], made, None, *shape) for shape in SHAPES]


def sharp(threshold):
    """Answers that jump where a support set's largest number is above a threshold, which is at a bend of it."""

    def in_python(support_x, support_y, query_x):
        return np.full([len(query_x), 5], 0.2 + 1e-3 * (np.max(support_x) > threshold))

    return in_python


def test_requests_whose_answers_hang_on_a_rounding_are_drawn_again():
    _, plain = requests_of(sharp(2.0))
    at_its_bend = np.max(plain[0]["support_x"])
    found, _ = requests_of(sharp(at_its_bend))
    assert np.max(found[0]["support_x"]) != at_its_bend
    answers = [sharp(at_its_bend)(found[0]["support_x"] * (1 + move), None, [0]) for move in (-1e-7, 0.0, 1e-7)]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[2], answers[1])


def test_steady_requests_are_the_first_that_are_drawn():
    found, plain = requests_of(sharp(2.0))
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one["support_x"], other["support_x"])


def test_a_learner_that_is_never_steady_is_exported_all_the_same():
    random = np.random.default_rng(0)
    found, plain = requests_of(lambda support_x, support_y, query_x: random.random([len(query_x), 5]))
    np.testing.assert_array_equal(found[0]["support_x"], plain[0]["support_x"])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_has_the_tasks_the_shots_and_the_queries_asked_for(shape):
    made = service(sharp(2.0))
    tasks, shots, queries = shape
    inputs = task_inputs(learner_signatures(made)["serving_default"], made, None, *shape)
    assert inputs["support_x"].shape == (tasks, 5 * shots, 3)
    assert inputs["query_x"].shape == (tasks, queries, 3)
    assert np.bincount(inputs["support_y"].ravel()).tolist() == [tasks * shots] * 5
