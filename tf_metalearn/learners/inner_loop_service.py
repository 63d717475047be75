"""A learner with an inner loop as plain functions, for an export."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_metalearn.functional import StatelessModel
from tf_metalearn.learners.adaptation import of_each_task
from tf_metalearn.learners.batch_statistics import BatchStatistics
from tf_metalearn.learners.networks import output_dtype
from tf_metalearn.serving.service import Service


def inner_loop_service(
    model: StatelessModel,
    adapt_to: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, Sequence[tf.Tensor], tf.Tensor]],
    variables: Sequence[Any],
    **others: Any,
) -> Service:
    """Makes a service whose state of a task is the adapted parameters, and the batch statistics that go with them.

    Args:
        model: The base learner.
        adapt_to: Of one task's support examples and labels: all parameters after adaptation `[coordinates]`, the
            non-trainable values, and the support losses.
        variables: Whatever is read.
        **others: As `Service` has them: how many classes or outputs there are, and the learner in Python.
    """
    network = model.model
    places = sorted(BatchStatistics(model).momenta)
    names = {place: f"statistics_{place}" for place in places}

    def adapt(support_x, labels, ways):
        def of_task(task):
            parameters, values, _ = adapt_to(*task)
            return {"parameters": parameters, **{name: values[place] for place, name in names.items()}}

        signature = {"parameters": tf.TensorSpec([model.coordinates], model.dtype)}
        for place, name in names.items():
            variable = network.non_trainable_variables[place]
            signature[name] = tf.TensorSpec(variable.shape, variable.dtype)
        return of_each_task(of_task, (support_x, labels), signature)

    def predict(state, query_x):
        def of_task(task):
            state, x = task
            values = model.non_trainable()
            for place, name in names.items():
                values[place] = state[name]
            return model(state["parameters"], values, x, training=False)[0]

        signature = tf.TensorSpec([None, *network.output_shape[1:]], output_dtype(network))
        return of_each_task(of_task, (dict(state), query_x), signature)

    shape = tuple(network.input_shape[1:])
    return Service(adapt, predict, shape, shape, variables, **others)
