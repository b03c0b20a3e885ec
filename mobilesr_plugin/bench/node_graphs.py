"""Small int8 TFLite graphs: each candidate operator alone, and whole networks with each kind of residual.

The candidates are those of ABPN's "meta-node" study (Z. Du et al., CVPR Workshops 2021,
https://arxiv.org/abs/2105.09750). They are built in TensorFlow as they are named, not through
this project's export, which writes a nearest-neighbour residual as an anchor. Weights are seeded and
ranges fixed: the time does not depend on them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesr_plugin.errors import ExportError, MissingExtraError, OptionError
from mobilesr_plugin.native_output import silenced_native_output

IMAGE_CHANNELS = 3
GROUPS = 4
HIDDEN = 4  # convolutions between the first and the last two of ABPN
RESIDUALS = ("none", "feature", "nearest", "bilinear", "anchor")


@dataclass(frozen=True)
class Candidate:
    """A graph to time.

    Attributes:
        name: Such as ``conv 3x3``.
        network: Whether it is a whole network rather than one operator.
        channels: Channels of each input.
        build: Maps a list of TensorFlow tensors, (1, H, W, C) float32, to the result.
    """

    name: str
    network: bool
    channels: tuple[int, ...]
    build: Callable[[list[Any]], Any]


def candidates(channels: int, scale: int) -> list[Candidate]:
    """Returns every candidate for hidden layers of ``channels`` and an upscaling factor ``scale``.

    Raises:
        MissingExtraError: tensorflow is not installed.
        OptionError: channels that cannot be split and grouped, or no such scale.
    """
    if channels < GROUPS or channels % GROUPS:
        raise OptionError(f"channels is {channels}; it must be a multiple of {GROUPS}, for the grouped layer")
    if scale < 2:
        raise OptionError(f"scale is {scale}; it must be 2 or more")
    tensorflow = _tensorflow()
    nn, both = tensorflow.nn, (channels, channels)
    shuffled = IMAGE_CHANNELS * scale**2

    def single(
        name: str, build: Callable[[list[Any]], Any], sources: tuple[int, ...] = (channels,)
    ) -> Candidate:
        return Candidate(name, False, sources, build)

    def resized(method: str) -> Callable[[list[Any]], Any]:
        return lambda x: _resize(tensorflow, x[0], scale, method)

    return [
        single("conv 1x1", lambda x: _conv(tensorflow, x[0], 1, channels)),
        single("conv 3x3", lambda x: _conv(tensorflow, x[0], 3, channels)),
        single("conv 5x5", lambda x: _conv(tensorflow, x[0], 5, channels)),
        single(f"grouped conv 3x3, {GROUPS} groups", lambda x: _conv(tensorflow, x[0], 3, channels, GROUPS)),
        single("depthwise conv 3x3", lambda x: _depthwise(tensorflow, x[0])),
        single("add", lambda x: x[0] + x[1], both),
        single("multiply", lambda x: x[0] * x[1], both),
        single("concat", lambda x: tensorflow.concat(x, -1), both),
        single("split", lambda x: tensorflow.split(x[0], 2, -1)),
        single("ReLU", lambda x: nn.relu(x[0])),
        single("LeakyReLU", lambda x: nn.leaky_relu(x[0], 0.1)),
        single("PReLU", lambda x: _prelu(tensorflow, x[0])),
        single("global average pooling", lambda x: tensorflow.reduce_mean(x[0], [1, 2], keepdims=True)),
        single("depth-to-space", lambda x: nn.depth_to_space(x[0], scale), (shuffled,)),
        single("nearest resize", resized("nearest"), (IMAGE_CHANNELS,)),
        single("bilinear resize", resized("bilinear"), (IMAGE_CHANNELS,)),
        *(_network(tensorflow, residual, channels, scale) for residual in RESIDUALS),
    ]


def convert(candidate: Candidate, size: tuple[int, int]) -> bytes:
    """Returns an int8 TFLite file of ``candidate`` with int8 ends, for images of ``size``.

    Raises:
        ExportError: TensorFlow's converter failed.
    """
    tensorflow = _tensorflow()
    signature = [
        tensorflow.TensorSpec([1, *size, count], tensorflow.float32, name=f"input_{index}")
        for index, count in enumerate(candidate.channels)
    ]

    @tensorflow.function(input_signature=signature)
    def run(*images: Any) -> Any:
        made = candidate.build([rounded(tensorflow, image) for image in images])
        return (
            [rounded(tensorflow, each) for each in made]
            if isinstance(made, list)
            else rounded(tensorflow, made)
        )

    holder = tensorflow.Module()  # of variables, of which there are none; without one it warns
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], holder)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tensorflow.int8
    try:
        with silenced_native_output(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "statistics were expected": the ranges are in the graph
            return bytes(converter.convert())
    except Exception as error:  # TensorFlow's converter raises many types
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"TensorFlow's converter failed on {candidate.name}: {reason}") from error


def _network(tensorflow: Any, residual: str, channels: int, scale: int) -> Candidate:
    """ABPN's seven convolutions with one kind of residual."""

    def build(images: list[Any]) -> Any:
        (image,) = images

        def relu_conv(value: Any, count: int) -> Any:
            return rounded(tensorflow, tensorflow.nn.relu(_conv(tensorflow, value, 3, count)))

        first = hidden = relu_conv(image, channels)
        for _ in range(HIDDEN):
            hidden = relu_conv(hidden, channels)
        if residual == "feature":
            hidden = rounded(tensorflow, hidden + first)
        shuffled = IMAGE_CHANNELS * scale**2
        last = rounded(tensorflow, _conv(tensorflow, relu_conv(hidden, shuffled), 3, shuffled))
        if residual == "anchor":
            last = rounded(tensorflow, last + tensorflow.concat([image] * scale**2, -1))
        result = tensorflow.nn.depth_to_space(last, scale)
        if residual in ("nearest", "bilinear"):
            # Depth-to-space and nearest resizing move codes, so they have the quantization of their input.
            result = rounded(tensorflow, result) + rounded(
                tensorflow, _resize(tensorflow, image, scale, residual)
            )
        return result

    return Candidate(f"residual: {residual}", True, (IMAGE_CHANNELS,), build)


def _weights(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=shape) * (2 / np.prod(shape[:-1])) ** 0.5).astype(np.float32)


def _bias(count: int) -> np.ndarray:
    return np.linspace(-0.1, 0.1, count, dtype=np.float32)  # not constant: see docs/quantization.md


def _conv(tensorflow: Any, source: Any, kernel: int, count: int, groups: int = 1) -> Any:
    weights = _weights(kernel, kernel, source.shape[-1] // groups, count)
    return tensorflow.nn.bias_add(tensorflow.nn.conv2d(source, weights, 1, "SAME"), _bias(count))


def _depthwise(tensorflow: Any, source: Any) -> Any:
    count = source.shape[-1]
    made = tensorflow.nn.depthwise_conv2d(source, _weights(3, 3, count, 1), [1, 1, 1, 1], "SAME")
    return tensorflow.nn.bias_add(made, _bias(count))


def _prelu(tensorflow: Any, source: Any) -> Any:
    # TensorFlow has no operator for it; this is the form that its converter knows.
    slopes = np.linspace(0.05, 0.3, source.shape[-1], dtype=np.float32).reshape(1, 1, -1)
    return tensorflow.nn.relu(source) + (-slopes) * tensorflow.nn.relu(-source)


def _resize(tensorflow: Any, source: Any, scale: int, method: str) -> Any:
    _, height, width, _ = source.shape
    size = [height * scale, width * scale]
    if method == "nearest":
        return tensorflow.raw_ops.ResizeNearestNeighbor(images=source, size=size, half_pixel_centers=False)
    return tensorflow.raw_ops.ResizeBilinear(images=source, size=size, half_pixel_centers=True)


def rounded(tensorflow: Any, value: Any) -> Any:
    """A fixed range: scale 1/64, zero point 0."""
    return tensorflow.quantization.fake_quant_with_min_max_args(value, min=-2.0, max=127 / 64)


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with silenced_native_output():
            import tensorflow
    except ImportError as error:
        raise MissingExtraError("tensorflow", "export") from error
    return tensorflow
