import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_metalearn import backbones


@pytest.mark.parametrize("downsample", ["stride", "average", "max"])
@pytest.mark.parametrize(("shape", "filters"), [((28, 28, 1), 64), ((32, 32, 3), 32), ((84, 84, 3), 32)])
def test_four_blocks_halve_the_image_four_times(shape, filters, downsample):
    side = shape[0]
    for _ in range(4):
        side = -(-side // 2) if downsample == "stride" else side // 2
    model = backbones.conv4(shape, filters, outputs=5, downsample=downsample)
    assert model.layers[-1].kernel.shape == (side * side * filters, 5)
    kernels = [layer.kernel.shape for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert kernels == [(3, 3, shape[2], filters)] + 3 * [(3, 3, filters, filters)]


def test_the_parameters_of_the_papers_networks():
    """Omniglot, MAML: 3 * 3 * 64 * (1 + 3 * 64) weights, scale and shift of four normalisations, and 256 -> 5."""
    trainable = sum(np.prod(weight.shape) for weight in backbones.conv4(outputs=5).trainable_weights)
    assert trainable == 9 * 64 * (1 + 3 * 64) + 4 * 2 * 64 + 256 * 5 + 5


def test_max_pooling_is_kerass_and_has_exact_second_derivatives_under_xla():
    images = np.random.default_rng(0).normal(size=[2, 7, 6, 3]).astype("float32")
    exact = backbones.ExactMaxPooling2D()
    np.testing.assert_array_equal(exact(images), keras.layers.MaxPooling2D(2)(images))

    def second(images):
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                loss = tf.reduce_sum(exact(images) ** 3)
            gradient = inner.gradient(loss, images)
            total = tf.reduce_sum(gradient**2)
        return outer.gradient(total, images)

    images = tf.constant(images)
    pooled = tf.equal(images[:, :6], tf.repeat(tf.repeat(exact(images), 2, axis=1), 2, axis=2))
    # d/dx (3 x^2)^2 = 36 x^3 at each maximum, and 0 elsewhere.
    expected = tf.pad(tf.where(pooled, 36 * images[:, :6] ** 3, 0.0), [[0, 0], [0, 1], [0, 0], [0, 0]])
    for jit in (False, True):
        np.testing.assert_allclose(tf.function(second, jit_compile=jit)(images), expected, rtol=1e-5, atol=1e-5)


NORMALISATIONS = {
    "batch": keras.layers.BatchNormalization,
    "layer": keras.layers.LayerNormalization,
    "group": keras.layers.GroupNormalization,
}


@pytest.mark.parametrize("normalization", [*NORMALISATIONS, "none"])
def test_each_convolution_is_followed_by_the_normalisation_of_that_name(normalization):
    layers = backbones.conv4(filters=16, normalization=normalization).layers
    followers = [after for before, after in itertools.pairwise(layers) if hasattr(before, "kernel")]
    assert len(followers) == 4
    assert all(isinstance(layer, NORMALISATIONS.get(normalization, keras.layers.ReLU)) for layer in followers)
    every = [layer for layer in layers if isinstance(layer, tuple(NORMALISATIONS.values()))]
    assert every == (followers if normalization != "none" else [])


def normalised(values, axes, epsilon=1e-3):
    return (values - values.mean(axes, keepdims=True)) / np.sqrt(values.var(axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("filters", [4, 24])
@pytest.mark.parametrize("normalization", NORMALISATIONS)
def test_normalisations_are_those_of_numpy(normalization, filters):
    """A batch over images and places, a layer over all of an image, a group over eight channels, or fewer of them."""
    layer = backbones.conv4(filters=filters, normalization=normalization).layers[1]
    values = np.random.default_rng(0).normal(2, 3, [3, 14, 14, filters]).astype("float32")
    if normalization == "group":
        groups = values.reshape(3, 14, 14, -1, min(filters, 8))
        expected = normalised(groups, (1, 2, 4)).reshape(values.shape)
    else:
        expected = normalised(values, {"batch": (0, 1, 2), "layer": (1, 2, 3)}[normalization])
    np.testing.assert_allclose(layer(values, training=True), expected, rtol=1e-3, atol=1e-4)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"`downsample` must be one of[\s\S]*'half'"):
        backbones.conv4(downsample="half")
    with pytest.raises(ValueError, match=r"`normalization` must be one of[\s\S]*'instance'"):
        backbones.conv4(normalization="instance")
