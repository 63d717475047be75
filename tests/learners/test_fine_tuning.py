"""The baseline: an ordinary classifier, and a new head for each task."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_metalearn as tfm


@pytest.fixture
def embedding():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16), keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Dense(8)]
    return keras.Sequential([keras.Input([4]), *layers])


@pytest.fixture
def clusters():
    """Thirty classes of twenty points in four dimensions."""
    random = np.random.default_rng(0)
    centres = 2 * random.normal(size=[30, 1, 4])
    return (centres + 0.15 * random.normal(size=[30, 20, 4])).reshape(-1, 4), np.repeat(np.arange(30), 20)


@pytest.mark.parametrize("method", ["probe", "full"])
def test_a_task_is_solved_as_keras_would_from_a_head_of_zeros(embedding, points, method):
    """The same model, trained by Keras's own Adam; running averages as they are."""
    random = np.random.default_rng(0)
    embedding(random.normal(2, 3, [50, 4]), training=True)
    x, y, query = random.normal(size=[6, 4]).astype("float32"), [0, 1, 1, 1, 1, 2], np.ones([2, 4], "float32")
    learner = tfm.FineTuning(embedding, classes=30, ways=3, method=method, inner_steps=5, inner_learning_rate=0.02)
    found = learner(tfm.Episode(x[None], np.array([y]), query[None]))[0]

    expected = trained_by_keras(embedding, x, y, query, whole=method == "full")
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(learner.adapt(x, y).predict(query, verbose=0), tf.nn.softmax(found), rtol=1e-3)


def trained_by_keras(embedding, x, y, query, whole):
    """A head over the embedding in inference mode, and the embedding too if wanted."""
    model = keras.models.clone_model(embedding)
    model.set_weights(embedding.get_weights())
    head = keras.layers.Dense(3, kernel_initializer="zeros")
    head.build([None, 8])
    variables = [*(model.trainable_variables if whole else ()), *head.trainable_variables]
    optimizer = keras.optimizers.Adam(0.02, epsilon=1e-8)
    for _ in range(5):
        with tf.GradientTape() as tape:
            logits = head(model(x, training=False))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
    return head(model(query, training=False))


def test_it_learns_all_classes_and_then_solves_tasks_of_new_ones(embedding, clusters, tmp_path):
    x, y = clusters
    train = x[y < 20], y[y < 20]
    test = tfm.load_episodes((x[y >= 20], y[y >= 20]), "all", ways=3, shots=3, queries=5, episodes=64, batch_size=8)
    learner = tfm.FineTuning(embedding, classes=20, ways=3, inner_steps=30, inner_learning_rate=0.1)
    learner.compile(keras.optimizers.Adam(0.01))
    history = learner.fit(
        tfm.load_examples(train, "all", batch_size=32), steps_per_epoch=150, epochs=2, validation_data=test, verbose=0
    ).history
    assert history["accuracy"][-1] > 0.8
    assert history["val_accuracy"][-1] > 0.85
    learner.save(tmp_path / "learner.keras")
    again = keras.saving.load_model(tmp_path / "learner.keras")
    assert again.evaluate(test, verbose=0, return_dict=True) == pytest.approx(
        learner.evaluate(test, verbose=0, return_dict=True), rel=1e-4
    )


def test_bad_input_is_refused(embedding, points):
    with pytest.raises(ValueError, match=r"`method` must be one of[\s\S]*Received: method='head'"):
        tfm.FineTuning(embedding, 5, method="head")
    learner = tfm.FineTuning(embedding, 5)
    learner.compile()
    episodes = tfm.load_episodes((np.zeros([60, 4]), np.repeat(range(6), 10)), "all", queries=2, episodes=4)
    with pytest.raises(ValueError, match=r"`x` of `fit` must be a batch of examples[\s\S]*load_examples"):
        learner.fit(episodes, verbose=0)
    x, y = np.zeros([20, 4], "float32"), np.zeros(20, int)
    learner.compile()
    assert "val_loss" in learner.fit(x, y, validation_split=0.5, verbose=0).history
    assert learner.predict(x, verbose=0).shape == (20, 5)
    with pytest.raises(ValueError, match=r"`x` must be episodes[\s\S]*\(20, 4\)[\s\S]*load_episodes"):
        learner.evaluate(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"at most 5 classes[\s\S]*6 classes"):
        learner.adapt(np.zeros([6, 4]), list("abcdef"))
