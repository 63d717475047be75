import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tf_metalearn.episodes.randomness import Purpose, bits, distinct, uniform

STEP, ALL = 0x9E3779B97F4A7C15, 2**64 - 1


def mix(z):
    """SplitMix64's output function (Steele et al. 2014, figure 17), in Python's integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & ALL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & ALL
    return z ^ (z >> 31)


def expected_bits(seed, purpose, index, count):
    key = mix(mix((seed * 16 + purpose + 1) * STEP & ALL) + index * STEP & ALL)
    upper = [mix(key + position * STEP & ALL) >> 32 for position in range(1, count + 1)]
    return np.array(upper, np.uint32).view(np.int32)


def test_the_reference_generator_is_splitmix64():
    """The first numbers of the seed 1234567, as other implementations print them."""
    numbers = [mix(1234567 + step * STEP & ALL) for step in (1, 2, 3)]
    assert numbers == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("seed", [0, 3, 2**59 - 1])
def test_bits_are_splitmix64_from_a_key_for_each_episode(seed):
    indices = [0, 1, 2**40]
    actual = tf.function(lambda: bits(seed, Purpose.EXAMPLES, indices, 7))()
    expected = [expected_bits(seed, Purpose.EXAMPLES, index, 7) for index in indices]
    np.testing.assert_array_equal(actual, expected)


def test_uniform_numbers_are_uniform_and_streams_are_not_correlated():
    numbers = uniform(1, Purpose.TASK, tf.range(2000, dtype=tf.int64), 50).numpy()
    assert scipy.stats.kstest(numbers.reshape(-1), "uniform").pvalue > 1e-3
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for other in (
        uniform(2, Purpose.TASK, tf.range(2000, dtype=tf.int64), 50),
        uniform(1, Purpose.GROUP, tf.range(2000, dtype=tf.int64), 50),
        np.roll(numbers, 1, axis=0),
        np.roll(numbers, 1, axis=1),
    ):
        # The correlation of 100,000 independent pairs has a standard deviation of 0.0032.
        assert abs(np.corrcoef(numbers.reshape(-1), np.reshape(other, -1))[0, 1]) < 0.015


def test_distinct_chooses_among_the_candidates_alone_even_with_the_least_bits():
    least = tf.constant([[-(2**31), 5, 2**31 - 1, 2**31 - 1]], tf.int32)
    assert sorted(distinct(least, [2], 2).numpy()[0]) == [0, 1]


def test_distinct_pairs_are_all_equally_likely():
    random = bits(0, Purpose.CLASSES, tf.range(24_000, dtype=tf.int64), 5)
    pairs, counts = np.unique(distinct(random, tf.fill([24_000], 4), 2).numpy(), axis=0, return_counts=True)
    assert len(pairs) == 12
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
