"""When a query belongs to none of the classes: a threshold, fitted on validation episodes."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_metalearn.episodes.episode import Episode
from tf_metalearn.learners.metric import MetricLearner, check_metric


class Calibration(NamedTuple):
    """What a threshold does on the episodes that it was fitted on.

    Args:
        threshold: Queries whose largest logit is less belong to none of the classes.
        false_rejections: The share of queries of known classes that are rejected.
        false_acceptances: The share of queries of unknown classes that are not.

    >>> Calibration(threshold=-3.5, false_rejections=0.05, false_acceptances=0.2).threshold
    -3.5
    """

    threshold: float
    false_rejections: float
    false_acceptances: float


def calibrate(learner: MetricLearner, episodes: Iterable[Any], false_rejections: float = 0.05) -> Calibration:
    """Fits the threshold below which the classifiers of `adapt` say "none of these", and gives it to the learner.

    In each episode the last class is left out of the support set, so that its queries belong to none of the others.
    How alike queries are to a class depends on its shots, and the most alike of more classes is more alike: take
    episodes of the shots that classifiers will have, and of one way more than their classes.

    Args:
        learner: A trained metric learner.
        episodes: `(Episode, query_y)` of validation classes, with an end; three ways or more, equal shots.
        false_rejections: The share of queries of known classes that may be rejected.

    Returns:
        A `Calibration`; `learner.threshold` is set, and saved with the learner.

    Raises:
        ValueError: If it is no metric learner, the share is not between 0 and 1, or there are no episodes of three ways
            or more.

    >>> import tf_metalearn as tfm
    >>> learner = tfm.PrototypicalNetwork(tfm.backbones.conv4(filters=8))
    >>> x, y = np.random.default_rng(0).random([60, 28, 28, 1]), np.repeat(range(6), 10)
    >>> found = calibrate(learner, tfm.load_episodes((x, y), "all", ways=4, queries=4, episodes=32))
    >>> found.threshold == learner.threshold, found.false_rejections <= 0.05
    (True, True)
    """
    check_metric(learner)
    if not 0 < false_rejections < 1:
        raise ValueError(
            f"`false_rejections` must be between 0 and 1. Received: false_rejections={false_rejections!r}.\nTry 0.05."
        )
    known, unknown = [], []
    for batch in episodes:
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], Episode)):
            raise ValueError(
                "`episodes` must be a data set of (Episode, query_y). Received: "
                f"{type(episodes).__name__} of {type(batch).__name__}.\n"
                'Give episodes with an end: tf_metalearn.load_episodes((x, y), "validation", episodes=64).'
            )
        episode, query_y = batch
        last = int(np.max(query_y))
        if last < 2:
            raise ValueError(f"`episodes` must have three ways or more. Received: {last + 1} ways.\nTry ways=5.")
        likeness = tf.reduce_max(_without(learner, episode, last), axis=-1).numpy()
        known.append(likeness[query_y < last])
        unknown.append(likeness[query_y == last])
    if not known:
        raise ValueError("`episodes` must not be empty. Received: no batches.\nGive load_episodes(episodes=...).")
    accepted, strangers = np.sort(np.concatenate(known)), np.concatenate(unknown)
    threshold = float(accepted[int(false_rejections * len(accepted))])
    learner.threshold = threshold
    return Calibration(threshold, float(np.mean(accepted < threshold)), float(np.mean(strangers >= threshold)))


def _without(learner: MetricLearner, episode: Episode, last: int) -> tf.Tensor:
    """The logits of an episode's queries when its last class is not in the support set."""
    tasks = episode.support_y.shape[0]
    kept = tf.cast(episode.support_y, tf.int32) < last
    support_x = tf.boolean_mask(episode.support_x, kept)
    labels = tf.reshape(tf.boolean_mask(episode.support_y, kept), [tasks, -1])
    support_x = tf.reshape(support_x, [tasks, labels.shape[1], *support_x.shape[1:]])
    if learner.ways is not None:
        learner = learner.with_settings(ways=None)
    return learner(Episode(support_x, labels, episode.query_x), training=False)
