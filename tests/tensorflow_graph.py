"""Deploy graphs written in TensorFlow directly, so that each kernel meets a file of its own quickly."""

from __future__ import annotations

import warnings
from typing import Any

from mobilesr_plugin.graph.ops import (
    Add,
    Concat,
    Conv,
    DepthToSpace,
    Graph,
    Input,
    LeakyRelu,
    Op,
    PRelu,
    Relu,
    Repeat,
    ResizeBilinear,
)
from mobilesr_plugin.native_output import silenced_native_output


def int8_file(graph: Graph, size: tuple[int, int] | None = None) -> bytes:
    """Returns the int8 TFLite file of a quantized graph, for any size or for one (height, width)."""
    import tensorflow as tf

    prelus = {op.name: _prelu(op) for op in graph if isinstance(op, PRelu)}
    holder = tf.Module()
    holder.layers = list(prelus.values())
    shape = [1, *(size or (None, None)), graph.input.channels]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
    def run(image: Any) -> Any:
        values: dict[str, Any] = {}
        for op in graph:
            inputs = [values[name] for name in op.inputs] or [image]
            made = prelus[op.name](inputs[0]) if isinstance(op, PRelu) else _make(tf, op, inputs)
            low, high = op.output.range
            values[op.name] = tf.quantization.fake_quant_with_min_max_args(made, min=low, max=high)
        return values[graph.output.name]

    with silenced_native_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], holder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        return converter.convert()


def _make(tf: Any, op: Op, inputs: list[Any]) -> Any:
    match op:
        case Input():
            return inputs[0] - op.offset if op.offset else inputs[0]
        case Conv():
            weight = op.weight.transpose(2, 3, 1, 0)
            if op.groups > 1:
                made = tf.nn.depthwise_conv2d(inputs[0], weight.transpose(0, 1, 3, 2), [1] * 4, "SAME")
            else:
                made = tf.nn.conv2d(inputs[0], weight, 1, "SAME")
            made = tf.nn.bias_add(made, op.bias)
            return tf.nn.relu(made) if op.relu else made
        case Add():
            made = inputs[0] + inputs[1]
            return tf.nn.relu(made) if op.relu else made
        case Concat():
            return tf.concat(inputs, -1)
        case Repeat():
            return tf.nn.conv2d(inputs[0], op.weight.transpose(2, 3, 1, 0), 1, "SAME")
        case DepthToSpace():
            return tf.nn.depth_to_space(inputs[0], op.block)
        case Relu():
            return tf.nn.relu(inputs[0])
        case LeakyRelu():
            return tf.nn.leaky_relu(inputs[0], op.slope)
        case ResizeBilinear():
            known = inputs[0].shape[1:3]
            size = known if known.is_fully_defined() else tf.shape(inputs[0])[1:3]
            return tf.compat.v1.image.resize_bilinear(
                inputs[0], [size[0] * op.factor, size[1] * op.factor], half_pixel_centers=True
            )
    raise AssertionError(op)


def _prelu(op: PRelu) -> Any:
    from tensorflow.python.keras.layers import PReLU  # whose arithmetic the converter knows as PRELU

    layer = PReLU(shared_axes=[1, 2])
    layer.build((None, None, None, len(op.slope)))
    layer.set_weights([op.slope.reshape(1, 1, -1)])
    return layer
