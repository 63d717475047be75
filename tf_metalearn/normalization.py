"""Batch normalisation of images as one operation where that is exact, which is twice as fast on a CPU."""

from typing import Any

import keras
import tensorflow as tf

from tf_metalearn.moments import wanted_exact


@keras.saving.register_keras_serializable("tf_metalearn")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation with the same values and gradients; in training by TensorFlow's fused operation.

    What that cannot do is Keras's own work: anything but float32 images, masks, statistics that replicas share, and the
    inner loop of learners that take second derivatives.

    >>> images = tf.random.stateless_normal([2, 4, 4, 3], [0, 0])
    >>> ours, theirs = FusedBatchNormalization(), keras.layers.BatchNormalization()
    >>> bool(tf.reduce_max(tf.abs(ours(images, training=True) - theirs(images, training=True))) < 1e-5)
    True
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        plain = self.scale and self.center and not self.renorm and not self.synchronized and mask is None
        images = inputs.shape.rank == 4 and self.axis in (-1, 3) and inputs.dtype == self.compute_dtype == "float32"
        if not (training and self.trainable and plain and images) or wanted_exact():
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (tf.convert_to_tensor(weight) for weight in (self.gamma, self.beta))
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon)
        # The operation's variance is that of a sample, divided by one less than the number of pixels.
        pixels = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance * (pixels - 1) / pixels)):
            average.assign(average * self.momentum + tf.stop_gradient(value) * (1.0 - self.momentum))
        return outputs
