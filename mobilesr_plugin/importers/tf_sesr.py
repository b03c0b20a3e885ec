"""SESR's TensorFlow checkpoints, as its authors' ``train.py`` saves them: expanded.

Source: https://github.com/ARM-software/sesr, ``models/sesr.py`` and ``models/model_utils.py``. There are two
forms, which treat the biases inside a block differently:

* ``collapsed`` runs the two convolutions on an image of an identity, so the biases add to each tap of the
  kernel, and the convolution itself has none. Wherever widths are equal the short residual is in the
  kernel, that of the last block included (x4 with 16 features).
* ``expanded`` runs them on the features: the biases are one bias for each output channel.

Kernels are imported collapsed; loading them into a training network expands them anew. The original subtracts
0.5 from the image, ours 128/255. Biases make up for that, but a network without biases, as the paper's, is
imported without: the difference is half a step of 1/255 at the input, and was 0.15 of one at most in the
output of an M5 trained for 1,500 iterations. Only where it would be more than half a step biases are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesr_plugin.archs.sesr_arch import INPUT_OFFSET, VARIANTS, original_channel_order
from mobilesr_plugin.importers.original import Judge, Original, other_network
from mobilesr_plugin.importers.tensorflow_source import TensorFlowSource

_UPSCALES = {4: 2, 16: 4}  # by output channels
_ORIGINAL_OFFSET = 0.5
_SLOPES = ("activations", "prelus")  # the second in early commits
_SHIFT_STEPS = 0.5  # of 1/255: from here on biases are added to make up for the other offset
_RANGES = ("quant_min", "quant_max", "quant_initialized")


@dataclass(frozen=True)
class Block:
    """The variables of a linear block, and where it stands.

    Attributes:
        kernel, bias: Of the wide convolution, (k, k, in, wide) and (wide,).
        project, project_bias: Of the 1x1 convolution, (1, 1, wide, out) and (out,).
        in_body: Whether it is one of the 3x3 blocks, which have a short residual.
        delta, residual: Constants that the collapsed form keeps as variables: the image of an identity,
            (in, 2k - 1, 2k - 1, in), and the residual's kernel, (k, k, in, out).
    """

    kernel: np.ndarray
    bias: np.ndarray
    project: np.ndarray
    project_bias: np.ndarray
    in_body: bool
    delta: np.ndarray | None
    residual: np.ndarray | None

    @property
    def in_channels(self) -> int:
        """Channels of its input."""
        return self.kernel.shape[2]

    @property
    def out_channels(self) -> int:
        """Channels of its output."""
        return self.project.shape[3]


@dataclass(frozen=True)
class Variables:
    """All variables of a network: its blocks from first to last, and slopes (none: ReLU)."""

    blocks: list[Block]
    slopes: list[np.ndarray]
    expanded_form: bool
    quantized: bool


def read(path: Path) -> Original:
    """Reads SESR's variables; see :class:`mobilesr_plugin.importers.original.Reader`."""
    source = TensorFlowSource(path)
    variables = _variables(source)
    network_g = _network_g(source, variables)
    tf, upscale = source.tensorflow, network_g["upscale"]
    operators = _operators(tf, variables, upscale, _ORIGINAL_OFFSET)
    bias = variables.expanded_form or _shift_matters(
        operators, _operators(tf, variables, upscale, INPUT_OFFSET)
    )
    # With int8 training the serving signature rounds, which the imported float network does not.
    signature = None if variables.quantized else source.signature()
    notes = []
    if variables.quantized:
        notes.append("its int8 ranges are left out; imported are the float weights that it was trained to")
    if bias:
        notes.append("it has biases: to train from it, set bias: true in network_g")
    return Original(
        network_g=network_g | {"bias": True} if bias else network_g,
        params=_params(variables, upscale, bias),
        judge=signature.run if signature else operators,
        judged_by="its serving signature" if signature else "TensorFlow's operators on its variables",
        size=signature.size if signature else None,
        notes=tuple(notes),
    )


def _variables(source: TensorFlowSource) -> Variables:
    left = dict(source.variables)
    ranges = [name for name in left if name.endswith(_RANGES)]
    for name in ranges:
        del left[name]
    expanded_form = "input_block/block/layer_with_weights-0/kernel" in left
    inner = "block" if expanded_form else "collapse"
    num_block = 0
    while f"linear_blocks/{num_block}/{inner}/layer_with_weights-0/kernel" in left:
        num_block += 1
    body = [f"linear_blocks/{index}" for index in range(num_block)]
    blocks = [_take_block(source, left, f"{name}/{inner}") for name in ("input_block", *body, "output_block")]
    prefix = next((name for name in _SLOPES if f"{name}/0/alpha" in left), None)
    slopes = [] if prefix is None else [_take(source, left, f"{prefix}/{n}/alpha") for n in range(num_block)]
    if left:
        raise other_network(source.path, "SESR", f"it has {min(left)}, which SESR has not")
    return Variables(blocks, slopes, expanded_form, bool(ranges))


def _take_block(source: TensorFlowSource, left: dict[str, np.ndarray], name: str) -> Block:
    names = [f"{name}/layer_with_weights-{index}/{part}" for index in (0, 1) for part in ("kernel", "bias")]
    kernel, bias, project, project_bias = (_take(source, left, each) for each in names)
    in_body = name.startswith("linear_blocks")
    size = 3 if in_body else 5
    if kernel.ndim != 4 or kernel.shape[:2] != (size, size):
        problem = f"{names[0]} is {kernel.shape}, not a kernel of {size}x{size}"
        raise other_network(source.path, "SESR", problem)
    in_ch, wide = kernel.shape[2:]
    out_ch = project.shape[-1] if project.ndim else 0
    checked = [(names[1], bias, (wide,)), (names[2], project, (1, 1, wide, out_ch))]
    checked.append((names[3], project_bias, (out_ch,)))
    outer, _, inner = name.rpartition("/")
    delta = residual = None
    if inner == "collapse":
        delta, residual = (_take(source, left, f"{outer}/{constant}") for constant in ("delta", "residual"))
        checked.append((f"{outer}/delta", delta, (in_ch, 2 * size - 1, 2 * size - 1, in_ch)))
        checked.append((f"{outer}/residual", residual, (size, size, in_ch, out_ch)))
    for each, value, expected in checked:
        if value.shape != expected:
            raise other_network(source.path, "SESR", f"{each} is {value.shape}, expected {expected}")
    return Block(kernel, bias, project, project_bias, in_body, delta, residual)


def _take(source: TensorFlowSource, left: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in left:
        raise other_network(source.path, "SESR", f"{name} is missing")
    return left.pop(name)


def _network_g(source: TensorFlowSource, variables: Variables) -> dict[str, Any]:
    first, *body, last = variables.blocks
    num_feat = first.out_channels
    if last.out_channels not in _UPSCALES:
        problem = f"output_block has {last.out_channels} output channels, expected 4 (x2) or 16 (x4)"
        raise other_network(source.path, "SESR", problem)
    if not body:
        raise other_network(source.path, "SESR", "linear_blocks/0 is missing")
    names = ["input_block", *(f"linear_blocks/{index}" for index in range(len(body))), "output_block"]
    widths = [1, *[num_feat] * (len(body) + 1), last.out_channels]
    for name, block, expected in zip(names, variables.blocks, pairwise(widths), strict=True):
        if (block.in_channels, block.out_channels) != expected:
            problem = f"{name} goes from {block.in_channels} to {block.out_channels} channels"
            raise other_network(
                source.path, "SESR", f"{problem}, expected {expected[0]} to {expected[1]} (luma)"
            )
    for index, slope in enumerate(variables.slopes):
        if slope.size != num_feat:
            problem = f"the slopes of block {index} are {slope.shape}, expected (1, 1, {num_feat})"
            raise other_network(source.path, "SESR", problem)
    return {
        "type": "SESR",
        "num_in_ch": 1,
        **_sizes(len(body), num_feat, max(first.kernel.shape[3], num_feat, last.out_channels)),
        "upscale": _UPSCALES[last.out_channels],
        "activation": "prelu" if variables.slopes else "relu",
        "linear_block": "plain",
    }


def _sizes(num_block: int, num_feat: int, num_expand: int) -> dict[str, Any]:
    """The variant of these sizes; where there is none, M5 with the sizes that differ from it."""
    named = (
        name for name, sizes in VARIANTS.items() if (sizes.num_block, sizes.num_feat) == (num_block, num_feat)
    )
    variant = next(named, "M5")
    got = {"num_block": num_block, "num_feat": num_feat, "num_expand": num_expand}
    return {"variant": variant} | {
        key: value for key, value in got.items() if value != getattr(VARIANTS[variant], key)
    }


def _params(variables: Variables, upscale: int, with_bias: bool) -> dict[str, torch.Tensor]:
    """Our weights, in the form ``plain``; collapsed in float64."""
    body = [f"body.{index}" for index in range(len(variables.blocks) - 2)]
    names = ["conv_first", *body, "conv_last"]
    order = original_channel_order(upscale)
    params = {}
    for name, block in zip(names, variables.blocks, strict=True):
        kernel, bias = _collapsed(block, variables.expanded_form)
        if name == "conv_first":  # the same shift of the image, but for its zero padding at the borders
            bias = bias + (INPUT_OFFSET - _ORIGINAL_OFFSET) * kernel.sum(axis=(0, 1, 2))
        if name == "conv_last":
            kernel, bias = kernel[..., order], bias[order]
        params[f"{name}.weight"] = _tensor(kernel.transpose(3, 2, 0, 1))
        if with_bias:
            params[f"{name}.bias"] = _tensor(bias)
    for index, slope in enumerate(variables.slopes):
        params[f"activations.{index}.weight"] = _tensor(slope.reshape(-1))
    return params


def _collapsed(block: Block, expanded_form: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel (k, k, in, out) and the bias (out,) of a block, float64."""
    wide, project = block.kernel.astype(np.float64), block.project[0, 0].astype(np.float64)
    bias = block.bias @ project + block.project_bias
    kernel = wide @ project
    if not expanded_form:
        kernel, bias = kernel + bias, np.zeros_like(bias)
    if block.in_body if expanded_form else block.in_channels == block.out_channels:
        middle = len(kernel) // 2
        kernel[middle, middle] += np.eye(block.in_channels)
    return kernel, bias


def _tensor(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value, np.float32))


def _shift_matters(original: Judge, shifted: Judge) -> bool:
    """Whether subtracting our offset instead of the original's changes its result noticeably."""
    image = np.random.default_rng(0).random((1, 96, 96, 1), np.float32)
    return not float(np.abs(original(image) - shifted(image)).max()) * 255 <= _SHIFT_STEPS


def _operators(tf: Any, variables: Variables, upscale: int, offset: float) -> Judge:
    """The original's graph, on Y in [0, 1]."""

    def convolve(block: Block, image: Any) -> Any:
        inner = ((block.kernel, block.bias), (block.project, block.project_bias))
        if variables.expanded_form:
            out = image
            for kernel, bias in inner:
                out = tf.nn.conv2d(out, kernel, 1, "SAME") + bias
            return out + image if block.in_body else out
        out = block.delta
        for kernel, bias in inner:
            out = tf.nn.conv2d(out, kernel, 1, "VALID") + bias
        collapsed = tf.transpose(tf.reverse(out, [1, 2]), [1, 2, 0, 3]) + block.residual
        return tf.nn.conv2d(image, collapsed, 1, "SAME")

    def run(image: np.ndarray) -> np.ndarray:
        first_block, *body, last_block = variables.blocks
        first = out = convolve(first_block, image - np.float32(offset))
        for index, block in enumerate(body):
            out = convolve(block, out)
            slope = variables.slopes[index] if variables.slopes else 0.0
            out = tf.maximum(out, 0.0) + slope * tf.minimum(out, 0.0)
        out = convolve(last_block, out + first) + image
        for _ in range(upscale // 2):  # x4 is shuffled twice by 2
            out = tf.nn.depth_to_space(out, 2)
        return tf.clip_by_value(out, 0.0, 1.0).numpy()

    return run
