"""TFLite's int8 scheme: how real numbers become integers.

Source: https://ai.google.dev/edge/litert/models/quantization_spec (8-bit specification), and B. Jacob
et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, https://arxiv.org/abs/1712.05877.

* activations: int8, one scale and zero point for a tensor;
* weights: int8 in [-127, 127], symmetric, one scale ``max|w| / 127`` for each output channel;
* biases: int32 in units of ``input scale * weight scale``, zero point 0.
"""

from __future__ import annotations

import numpy as np

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.ops import QParams

QMIN, QMAX = -128, 127
WEIGHT_QMAX = 127

#: A layer that has died gets this range. TensorFlow's converter has rules of its own below 1e-6, and the
#: biases of the next layer, counted in steps of this one, must fit into 32 bits.
SMALLEST_RANGE = 1e-3

#: TensorFlow's converter gives no channel of weights a smaller range than 1e-6, from end to end.
SMALLEST_WEIGHT = 5e-7

#: Beyond half of what 32 bits hold, TensorFlow's converter changes the scale of the weights instead.
BIAS_MAX = 2**30 - 1

#: Codes of the image at both ends: uint8 value v is int8 code v - 128 and stands for v / 255.
IMAGE = QParams(scale=float(np.float32(1 / 255)), zero_point=QMIN)


def qparams_of_range(low: float, high: float) -> QParams:
    """Returns scale and zero point that cover [low, high] and represent 0 exactly.

    The result is a fixed point of the way a range travels to the device, as the float32 numbers
    ``min = (-128 - zero_point) * scale`` and ``max``: computing the scale from these again gives the
    same float32, so no last bit is lost on the road.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    high = max(high, low + SMALLEST_RANGE)
    scale = np.float32((high - low) / (QMAX - QMIN))
    zero_point = int(np.clip(np.rint(QMIN - low / float(scale)), QMIN, QMAX))
    for _ in range(8):
        again = np.float32(QParams(float(scale), zero_point).converter_scale)
        if again == scale:
            break
        scale = again
    return QParams(float(scale), zero_point)


def weight_scales(weight: np.ndarray) -> np.ndarray:
    """Returns ``max|w| / 127`` for each output channel of (O, I, K, K) weights, float64.

    For a channel that has died, ``max|w|`` counts as SMALLEST_WEIGHT, as in TFLite's converter.
    """
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1).astype(np.float64)
    return np.maximum(largest, SMALLEST_WEIGHT) / WEIGHT_QMAX


def quantize_weight(weight: np.ndarray) -> np.ndarray:
    """Returns int8 weights, rounded half away from zero as TFLite's converter does."""
    scaled = weight.astype(np.float64) / weight_scales(weight).reshape(-1, 1, 1, 1)
    return round_half_away(scaled).astype(np.int8)


def quantize_bias(bias: np.ndarray, source: QParams, scales: np.ndarray) -> np.ndarray:
    """Returns int32 biases in units of the input's scale times ``scales``, computed in float64.

    Raises:
        UnsupportedNetworkError: a bias is beyond BIAS_MAX, because its weights are next to nothing.
    """
    codes = round_half_away(bias.astype(np.float64) / (source.converter_scale * scales))
    if np.abs(codes).max(initial=0) > BIAS_MAX:
        channel = int(np.abs(codes).argmax())
        raise UnsupportedNetworkError(
            f"the bias of output channel {channel}, {bias[channel]:g}, is too large for weights of at most "
            f"{scales[channel] * WEIGHT_QMAX:g}: its integer would exceed {BIAS_MAX}; the "
            "channel has died, train it anew"
        )
    return codes.astype(np.int32)


def round_half_away(value: np.ndarray) -> np.ndarray:
    """Rounds to the nearest integer; ties go away from zero."""
    return np.trunc(value + np.copysign(0.5, value))


def quantize_slopes(slope: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Returns int8 slopes of a PReLU, (C,), their one scale (float64) and zero point.

    TFLite's converter treats them as weights with a single scale: symmetric, ``max|a| / 127``.
    """
    scale = max(float(np.abs(slope).max()), SMALLEST_WEIGHT) / WEIGHT_QMAX
    return round_half_away(slope.astype(np.float64) / scale).astype(np.int8), scale, 0
