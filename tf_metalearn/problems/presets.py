"""The problems of the paper, and the small one that needs no download, by name."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tf_metalearn.episodes import prepared
from tf_metalearn.problems.base import Problem
from tf_metalearn.problems.quadratic import Quadratic
from tf_metalearn.problems.supervised import SupervisedProblem

SPLITS = ("train", "validation", "test")


def make(name: str, split: str = "train", **options: Any) -> Problem:
    """Makes a problem by name.

    Args:
        name: One of `PRESETS`: "quadratic", "quadratic-code", "digits", "mnist", "cifar100", and variants.
        split: Which examples: "train", "validation" or "test". They never overlap.
        **options: Override the preset's own. Of perceptrons: `hidden`, `activation`, `batch_size`; of the convolutional
            network: `filters`, `batch_size`; of quadratics: `variant`, `functions`, `dimensions`.

    Returns:
        A `Problem`, which remembers in `recipe` how it was made.

    Raises:
        ValueError: If the name, the split or an option is unknown.

    >>> make("digits", split="test", hidden=(10,)).coordinates
    760
    """
    if name not in PRESETS:
        raise ValueError(f"`name` must be a known problem. Received: name={name!r}.\nKnown: {', '.join(PRESETS)}.")
    _check_split(split)
    known = set(inspect.signature(PRESETS[name]).parameters) - {"data", "split", "name"}
    if unknown := sorted(set(options) - known):
        raise ValueError(
            f"`options` must be among {', '.join(sorted(known))} for {name!r}. Received: {', '.join(unknown)}.\n"
            "Write a SupervisedProblem for anything else."
        )
    problem = PRESETS[name](split=split, name=name, **options)
    problem.recipe = {"name": name, "split": split, **options}
    return problem


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}.\nUse 'test' to compare.")


def perceptron(inputs: int, hidden: Sequence[int], activation: str, classes: int = 10) -> keras.Model:
    """Builds a multi-layer perceptron that ends in logits.

    Args:
        inputs: Features of an example.
        hidden: Units of each hidden layer.
        activation: Of the hidden layers.
        classes: Logits.

    >>> perceptron(784, hidden=(20,), activation="sigmoid").count_params()
    15910
    """
    layers = [keras.layers.Dense(units, activation) for units in hidden]
    return keras.Sequential([keras.Input([inputs]), *layers, keras.layers.Dense(classes)])


def convolutional(shape: Sequence[int] = (32, 32, 3), filters: int = 16, classes: int = 100) -> keras.Model:
    """Builds the paper's network for CIFAR: three convolutions with max-pooling, then a dense layer of 32.

    Args:
        shape: Of an image.
        filters: Of each convolution.
        classes: Logits.

    >>> convolutional().output_shape
    (None, 100)

    Reference: Andrychowicz et al. 2016, section 3.3. https://arxiv.org/abs/1606.04474
    """
    layers = []
    for index in range(3):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{index}"),
            keras.layers.BatchNormalization(name=f"conv_{index}_norm"),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
        ]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(32, use_bias=False, name="dense"),
        keras.layers.BatchNormalization(name="dense_norm"),
        keras.layers.ReLU(),
        keras.layers.Dense(classes, name="dense_logits"),
    ]
    return keras.Sequential([keras.Input(shape), *layers])


def _perceptron_problem(data, split, name, hidden=(20,), activation="sigmoid", batch_size=128):
    x, y = data(split)
    x = x.reshape(len(x), -1)

    def model():
        return perceptron(x.shape[1], hidden, activation)

    return SupervisedProblem(model, (x, y), _from_logits(), batch_size, name=name)


def _convolutional_problem(split, name, filters=16, batch_size=128):
    x, y = cifar100(split)
    return SupervisedProblem(lambda: convolutional(filters=filters), (x, y), _from_logits(), batch_size, name=name)


def _quadratic_problem(split, name, variant, functions=128, dimensions=10):
    # Every function is fresh, so there is nothing to split.
    return Quadratic(variant, functions, dimensions, name=name)


def _from_logits() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@functools.cache
def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels: 1,000 to train, 297 to validate, 500 to test.

    Args:
        split: "train", "validation" or "test".

    Returns:
        Images `[examples, 8, 8]` in [0, 1] and labels.

    >>> digits("test")[0].shape
    (500, 8, 8)
    """
    _check_split(split)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8)
    return _part(images, labels.astype("int32"), split, validation=297, test=500)


@functools.cache
def mnist(split: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST through tensorflow_datasets: 55,000 to train, 5,000 to validate, 10,000 to test.

    Args:
        split: "train", "validation" or "test".

    Returns:
        Images `[examples, 28, 28, 1]` uint8 and labels.

    >>> if prepared.find("mnist"):  # after `tf-metalearn datasets mnist --download`
    ...     assert mnist("test")[0].shape == (10_000, 28, 28, 1)
    """
    return _from_tfds("mnist", split)


@functools.cache
def cifar100(split: str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-100 through tensorflow_datasets: 45,000 to train, 5,000 to validate, 10,000 to test.

    Args:
        split: "train", "validation" or "test".

    Returns:
        Images `[examples, 32, 32, 3]` uint8 and fine labels.

    >>> if prepared.find("cifar100"):  # after `tf-metalearn datasets cifar100 --download`
    ...     assert cifar100("test")[0].shape == (10_000, 32, 32, 3)
    """
    return _from_tfds("cifar100", split)


def _from_tfds(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    _check_split(split)
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(prepared.require(name))
    ranges = {"train": "train[:-5000]", "validation": "train[-5000:]", "test": "test"}
    images, labels = tfds.as_numpy(builder.as_dataset(split=ranges[split], batch_size=-1, as_supervised=True))
    return images, labels.astype("int32")


def _part(images, labels, split, validation, test):
    """Cuts a set that has no published split, after a fixed shuffle."""
    order = np.random.default_rng(0).permutation(len(images))
    bounds = {
        "train": slice(0, -validation - test),
        "validation": slice(-validation - test, -test),
        "test": slice(-test, None),
    }
    rows = order[bounds[split]]
    return images[rows], labels[rows]


#: Problems by name; each takes `split`, `name` and options.
PRESETS: dict[str, Callable[..., Problem]] = {
    "quadratic": functools.partial(_quadratic_problem, variant="paper"),
    "quadratic-code": functools.partial(_quadratic_problem, variant="code"),
    "digits": functools.partial(_perceptron_problem, digits),
    "mnist": functools.partial(_perceptron_problem, mnist),
    "mnist-40-units": functools.partial(_perceptron_problem, mnist, hidden=(40,)),
    "mnist-two-layers": functools.partial(_perceptron_problem, mnist, hidden=(20, 20)),
    "mnist-relu": functools.partial(_perceptron_problem, mnist, activation="relu"),
    "cifar100": _convolutional_problem,
}
