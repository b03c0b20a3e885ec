"""The deploy graph: a network as the device runs it, as plain data.

Validation in integers, the ONNX files and the TFLite files are all made from this one description.
Operators are TFLite's: depth-to-space takes its channels block-major (DCR), ReLU belongs to its
convolution. Values are (N, C, H, W); weights are (out, in / groups, kernel, kernel), float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from mobilesr_plugin.errors import UnsupportedNetworkError


@dataclass(frozen=True)
class QParams:
    """Per-tensor int8 quantization: ``real = scale * (integer - zero_point)``.

    ``scale`` is a float32 value; ``zero_point`` lies in [-128, 127].
    """

    scale: float
    zero_point: int

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest real value that int8 codes stand for."""
        return (-128 - self.zero_point) * self.scale, (127 - self.zero_point) * self.scale

    @property
    def converter_scale(self) -> float:
        """The scale in float64, as TensorFlow's converter computes it from the range in float32.

        Biases are rounded with it, before it is stored as float32: with ``scale`` one in some
        thousands would come out one unit away.
        """
        low, high = (float(np.float32(end)) for end in self.range)
        return (high - low) / 255


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operator. ``output`` is None where the graph is not quantized."""

    name: str
    inputs: tuple[str, ...] = ()
    output: QParams | None = None


@dataclass(frozen=True, kw_only=True)
class Input(Op):
    """The image, RGB or Y, in [0, 1], with ``offset`` subtracted."""

    channels: int
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Conv(Op):
    """Convolution, stride 1, zero padding that keeps the size, and an optional ReLU."""

    weight: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)
    groups: int = 1
    relu: bool = False


@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """Sum of two values of one shape, and an optional ReLU.

    Before the graph is in deploy form, one of them may have a single channel, which is broadcast.
    """

    relu: bool = False


@dataclass(frozen=True, kw_only=True)
class Concat(Op):
    """Concatenation along the channels; all inputs have the quantization of the output."""


@dataclass(frozen=True, kw_only=True)
class Repeat(Op):
    """All channels, ``times`` times over: R G B R G B; the result has the quantization of the input.

    On the device it is a 1x1 convolution with ``weight``, which moves codes unchanged. XNNPACK runs that
    on all threads, but a concatenation of more than five parts not at all.

    Attributes:
        times: Copies.
        channels: Channels of the input.
        number: Tells this one from others: a converter would share equal weights, and then leaves a
            convolution in float.
    """

    times: int
    channels: int
    number: int = 0

    @property
    def weight(self) -> np.ndarray:
        """(times * channels, channels, 1, 1), float32: as many identity matrices."""
        one = np.float32(1) + np.float32(2**-23) * np.float32(self.number)
        copies = np.tile(np.eye(self.channels, dtype=np.float32) * one, (self.times, 1))
        return copies[:, :, None, None]


@dataclass(frozen=True, kw_only=True)
class TakeChannels(Op):
    """Output channel i is input channel ``index[i]``. Gone once the graph is in deploy form."""

    index: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Relu(Op):
    """ReLU that no convolution could take in."""


@dataclass(frozen=True, kw_only=True)
class PRelu(Op):
    """``x`` where positive, ``slope[c] * x`` elsewhere."""

    slope: np.ndarray = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LeakyRelu(Op):
    """``x`` where positive, ``slope * x`` elsewhere."""

    slope: float


@dataclass(frozen=True, kw_only=True)
class ResizeBilinear(Op):
    """Bilinear upsampling by ``factor``, pixel centres at half integers (``align_corners=False``).

    The result has the quantization of the input.
    """

    factor: int


@dataclass(frozen=True, kw_only=True)
class Clamp(Op):
    """Values limited to [low, high]; only in graphs that are not quantized."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class DepthToSpace(Op):
    """(N, C * block^2, H, W) -> (N, C, H * block, W * block).

    ``colour_major`` tells PyTorch's channel order (CRD) from TFLite's (DCR).
    """

    block: int
    colour_major: bool = False


#: Operators that keep codes as they are, or mix codes of one range: what they write has the
#: quantization of what they read.
MOVING = (Concat, DepthToSpace, Repeat, ResizeBilinear)

#: Operators whose result depends, at each place, on that place of what they read; the size stays.
POINTWISE = (Add, Concat, Repeat, TakeChannels, Relu, PRelu, LeakyRelu, Clamp)


@dataclass(frozen=True)
class Graph:
    """Operators in order of execution; the first is the input, the last gives the output."""

    ops: tuple[Op, ...]

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __getitem__(self, name: str) -> Op:
        return next(op for op in self.ops if op.name == name)

    @property
    def input(self) -> Input:
        first = self.ops[0]
        assert isinstance(first, Input)
        return first

    @property
    def output(self) -> Op:
        return self.ops[-1]

    @property
    def quantized(self) -> bool:
        """Whether all values are quantized; False if none is.

        Raises:
            UnsupportedNetworkError: some are, and others are not.
        """
        bare = [op for op in self.ops if op.output is None]
        if bare and len(bare) < len(self.ops):
            raise UnsupportedNetworkError(
                f"{bare[0].name} ({type(bare[0]).__name__}) is not quantized, though other values are"
            )
        return not bare

    @property
    def scale(self) -> int:
        """Upscaling factor of the whole graph."""
        return self.factors()[self.output.name]

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        return tuple(op for op in self.ops if isinstance(op, Conv))

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(conv.weight.size + conv.bias.size for conv in self.convolutions)

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of all convolutions for an input of ``height`` x ``width`` pixels.

        Convolutions after a depth-to-space work on more pixels, which is counted.
        """
        factors = self.factors()
        return sum(conv.weight.size * height * width * factors[conv.name] ** 2 for conv in self.convolutions)

    def factors(self) -> dict[str, int]:
        """How much larger than the image each value is, in height and width, by operator name.

        Raises:
            UnsupportedNetworkError: values of different sizes meet, or an operator is not known.
        """
        factor: dict[str, int] = {}
        for op in self.ops:
            sources = {factor[name] for name in op.inputs}
            if len(sources) > 1:
                raise UnsupportedNetworkError(
                    f"{op.name} ({type(op).__name__}) reads values of different sizes"
                )
            source = max(sources, default=1)
            match op:
                case DepthToSpace():
                    factor[op.name] = source * op.block
                case ResizeBilinear():
                    factor[op.name] = source * op.factor
                case _ if isinstance(op, (Input, Conv, *POINTWISE)):
                    factor[op.name] = source
                case _:
                    raise _unknown(op, "size")
        return factor

    def channels(self) -> dict[str, int]:
        """Number of channels of each value, by operator name.

        Raises:
            UnsupportedNetworkError: an operator cannot take the channels that it reads, or is not known.
        """
        count: dict[str, int] = {}
        for op in self.ops:
            sources = [count[name] for name in op.inputs]
            match op:
                case Input():
                    count[op.name] = op.channels
                case Conv():
                    count[op.name] = op.weight.shape[0]
                case Add():
                    count[op.name] = max(sources)
                    if not {*sources} <= {1, max(sources)}:  # a single channel is broadcast
                        raise _mismatch(op, sources)
                case Concat():
                    count[op.name] = sum(sources)
                case Repeat():
                    count[op.name] = sources[0] * op.times
                case TakeChannels():
                    count[op.name] = len(op.index)
                case DepthToSpace():
                    count[op.name], rest = divmod(sources[0], op.block**2)
                    if rest:
                        raise _mismatch(op, sources)
                case Relu() | PRelu() | LeakyRelu() | ResizeBilinear() | Clamp():
                    count[op.name] = sources[0]
                case _:
                    raise _unknown(op, "number of channels")
        return count


def _mismatch(op: Op, channels: list[int]) -> UnsupportedNetworkError:
    read = " and ".join(map(str, channels))
    return UnsupportedNetworkError(f"{op.name} ({type(op).__name__}) cannot take {read} channels")


def _unknown(op: Op, what: str) -> UnsupportedNetworkError:
    return UnsupportedNetworkError(f"{op.name} ({type(op).__name__}): the {what} of its result is not known")
