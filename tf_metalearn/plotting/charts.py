"""TensorBoard's charts of scalars that belong together."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2, summary


def write_charts(charts: Mapping[str, Sequence[str]]) -> None:
    """Writes charts for the CUSTOM SCALARS tab to the default summary writer.

    Args:
        charts: Patterns of tags by the chart's title; a chart has a line for each tag that matches.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, tf.summary.create_file_writer(folder).as_default():
    ...     write_charts({"Losses": ["loss/.*"]})
    """
    drawn = [
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))
        for title, tags in charts.items()
    ]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="Meta-learning", chart=drawn)])
    tf.summary.experimental.write_raw_pb(summary.pb(layout).SerializeToString(), step=0)
