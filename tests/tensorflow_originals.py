"""ABPN and SESR as their authors build them in TensorFlow, small, with seeded weights.

Sources: https://github.com/NJU-Jet/SR_Mobile_Quantization (``solvers/networks/base7.py``) and
https://github.com/ARM-software/sesr (``models/``): names of the layers, biases inside the linear blocks, the
collapse by an image of an identity, Keras 2. Only what decides names and numbers is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras


def abpn(*, scale: int = 3, widths: tuple[int, ...] = (8, 8, 8), residual: bool = True) -> Any:
    """ABPN for images in 0..255; without the anchor it is another function of the same variables."""
    keras.utils.set_random_seed(scale)
    image = keras.Input((None, None, 3))
    out = image
    for width in (*widths, 3 * scale**2):
        out = _conv(width, 3, activation="relu")(out)
    out = _conv(3 * scale**2, 3)(out)
    if residual:
        anchor = keras.layers.Lambda(lambda images: tf.concat(images, axis=3))([image] * scale**2)
        out = keras.layers.Add()([anchor, out])
    out = keras.layers.Lambda(lambda x: tf.nn.depth_to_space(x, scale))(out)
    out = keras.layers.Lambda(lambda x: tf.clip_by_value(x, 0.0, 255.0))(out)
    model = keras.Model(image, out)
    _disturb(model, {"bias": 4.0})  # of 255
    return model


class CollapsedBlock(keras.layers.Layer):
    """Multiplies its two convolutions on an image of an identity, then convolves once."""

    def __init__(self, in_ch: int, out_ch: int, size: int, num_expand: int, quantized: bool) -> None:
        super().__init__()
        self.collapse = keras.Sequential([_conv(num_expand, size, "valid"), _conv(out_ch, 1, "valid")])
        margin = [[0, 0], [size - 1, size - 1], [size - 1, size - 1], [0, 0]]
        self.delta = tf.Variable(tf.pad(tf.eye(in_ch)[:, None, None, :], margin), trainable=False)
        residual = np.zeros((size, size, in_ch, out_ch), np.float32)
        if in_ch == out_ch:
            residual[size // 2, size // 2] = np.eye(in_ch)
        self.residual = tf.Variable(residual, trainable=False)
        if quantized:
            self.wt_quant_min = self.add_weight("wt_quant_min", (out_ch,))
            self.wt_quant_max = self.add_weight("wt_quant_max", (out_ch,))
        self.quantized = quantized

    def kernel(self) -> tf.Tensor:
        """(size, size, in, out)."""
        responses = tf.reverse(self.collapse(self.delta), [1, 2])
        return tf.transpose(responses, [1, 2, 0, 3]) + self.residual

    def call(self, image: tf.Tensor) -> tf.Tensor:
        kernel = self.kernel()
        if self.quantized:  # the least that makes the ranges part of the graph
            kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
                kernel, self.wt_quant_min - 1, self.wt_quant_max + 1, num_bits=8, narrow_range=True
            )
        return tf.nn.conv2d(image, kernel, 1, "SAME")


class ExpandedBlock(keras.layers.Layer):
    """Two convolutions, one after the other."""

    def __init__(self, in_ch: int, out_ch: int, size: int, num_expand: int, quantized: bool) -> None:
        super().__init__()
        self.block = keras.Sequential([_conv(num_expand, size), _conv(out_ch, 1)])

    def call(self, image: tf.Tensor) -> tf.Tensor:
        return self.block(image)


class SESR(keras.Model):
    """SESR on Y in [0, 1]; ``form`` is ``collapsed`` or ``expanded``; ``quantized`` has ReLU and ranges."""

    def __init__(
        self,
        *,
        scale: int = 2,
        num_block: int = 3,
        num_feat: int = 16,
        num_expand: int = 256,
        form: str = "collapsed",
        quantized: bool = False,
        early: bool = False,
    ) -> None:
        super().__init__()
        block = CollapsedBlock if form == "collapsed" else ExpandedBlock
        sizes = (num_expand, quantized)
        self.scale = scale
        self.early = early
        self.short = form == "expanded"
        self.input_block = block(1, num_feat, 5, *sizes)
        self.linear_blocks = [block(num_feat, num_feat, 3, *sizes) for _ in range(num_block)]
        kind = (lambda: keras.layers.ReLU()) if quantized else lambda: keras.layers.PReLU(shared_axes=[1, 2])
        layers = [kind() for _ in range(num_block)]
        if early:  # what the first commits called them
            self.prelus = layers
        else:
            self.activations = layers
        self.output_block = block(num_feat, scale**2, 5, *sizes)

    def call(self, image: tf.Tensor) -> tf.Tensor:
        first = out = self.input_block(image - 0.5)
        layers = self.prelus if self.early else self.activations
        for block, activation in zip(self.linear_blocks, layers, strict=True):
            out = activation(block(out) + out if self.short else block(out))
        out = self.output_block(out + first) + image
        for _ in range(self.scale.bit_length() - 1):  # by 2 each time
            out = tf.nn.depth_to_space(out, 2)
        return tf.clip_by_value(out, 0.0, 1.0)


def sesr(**arguments: Any) -> SESR:
    """A built network whose biases and slopes are not zero, as after training."""
    keras.utils.set_random_seed(0)
    model = SESR(**arguments)
    model(tf.zeros([1, 12, 12, 1]))
    _disturb(model, {"bias": 0.003, "alpha": 0.2})
    return model


def _conv(filters: int, size: int, padding: str = "same", **arguments: Any) -> Any:
    return keras.layers.Conv2D(filters, size, padding=padding, **arguments)


def _disturb(model: Any, scales: dict[str, float]) -> None:
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        for name, scale in scales.items():
            if name in variable.name.split("/")[-1]:
                variable.assign(generator.normal(0, scale, variable.shape))
