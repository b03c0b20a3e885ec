"""ABPN's published TensorFlow checkpoint.

Source: https://github.com/NJU-Jet/SR_Mobile_Quantization, ``solvers/networks/base7.py``: a Keras model of
convolutions only, on images in 0..255, with TensorFlow's depth-to-space.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesr_plugin.importers.original import Judge, Original, other_network
from mobilesr_plugin.importers.tensorflow_source import TensorFlowSource

_COLOURS = 3
_FEWEST = 3  # convolutions: the first, and the two in image space

Convolution = tuple[np.ndarray, np.ndarray]  # kernel (3, 3, in, out) and bias (out,)


def read(path: Path) -> Original:
    """Reads ABPN's variables; see :class:`mobilesr_plugin.importers.original.Reader`.

    Width, depth and scale are those of the kernels. That the residual is the anchor cannot be seen in
    variables; a SavedModel's own function, where there is one, tells.
    """
    source = TensorFlowSource(path)
    convolutions = _convolutions(source)
    num_feat, upscale = _sizes(source, convolutions)
    network_g = {
        "type": "ABPN",
        "num_in_ch": _COLOURS,
        "num_out_ch": _COLOURS,
        "num_feat": num_feat,
        "num_block": len(convolutions) - _FEWEST,
        "upscale": upscale,
    }
    signature = source.signature()
    judge = signature.run if signature else _operators(source.tensorflow, convolutions, upscale)
    return Original(
        network_g=network_g,
        params=_params(convolutions, upscale),
        judge=lambda image: judge(image * np.float32(255)) / np.float32(255),
        judged_by="its serving signature" if signature else "TensorFlow's operators on its variables",
        size=signature.size if signature else None,
    )


def _convolutions(source: TensorFlowSource) -> list[Convolution]:
    left = dict(source.variables)
    convolutions: list[Convolution] = []
    while (name := f"layer_with_weights-{len(convolutions)}/kernel") in left:
        kernel, bias = left.pop(name), left.pop(name.replace("kernel", "bias"), None)
        if kernel.ndim != 4 or kernel.shape[:2] != (3, 3):
            raise other_network(source.path, "ABPN", f"{name} is {kernel.shape}, not a kernel of 3x3")
        if bias is None or bias.shape != kernel.shape[3:]:
            problem = "is missing" if bias is None else f"is {bias.shape}, expected {kernel.shape[3:]}"
            raise other_network(source.path, "ABPN", f"{name.replace('kernel', 'bias')} {problem}")
        convolutions.append((kernel, bias))
    if left:
        raise other_network(source.path, "ABPN", f"it has {min(left)}, which ABPN has not")
    if len(convolutions) < _FEWEST:
        raise other_network(
            source.path, "ABPN", f"{name} is missing ({len(convolutions)} of at least {_FEWEST} convolutions)"
        )
    return convolutions


def _sizes(source: TensorFlowSource, convolutions: list[Convolution]) -> tuple[int, int]:
    """Returns num_feat and upscale, after a look at every kernel's channels."""
    num_feat, num_shuffle_ch = convolutions[0][0].shape[3], convolutions[-1][0].shape[3]
    upscale = math.isqrt(num_shuffle_ch // _COLOURS)
    last = len(convolutions) - 1
    if upscale < 2 or num_shuffle_ch != _COLOURS * upscale**2:
        raise other_network(
            source.path,
            "ABPN",
            f"layer_with_weights-{last}/kernel has {num_shuffle_ch} output channels, which is not "
            f"{_COLOURS} * upscale^2",
        )
    widths = [_COLOURS, *[num_feat] * (last - 1), num_shuffle_ch, num_shuffle_ch]
    for index, (kernel, _) in enumerate(convolutions):
        expected = (3, 3, widths[index], widths[index + 1])
        if kernel.shape != expected:
            name = f"layer_with_weights-{index}/kernel"
            raise other_network(source.path, "ABPN", f"{name} is {kernel.shape}, expected {expected}")
    return num_feat, upscale


def _params(convolutions: list[Convolution], upscale: int) -> dict[str, torch.Tensor]:
    """Our weights: images in [0, 1] instead of 0..255, pixel shuffle colour by colour."""
    body = [f"body.{index}" for index in range(len(convolutions) - _FEWEST)]
    names = ["conv_first", *body, "conv_up", "conv_last"]
    colour_first = np.arange(_COLOURS * upscale**2).reshape(upscale**2, _COLOURS).T.reshape(-1)
    params = {}
    for name, (kernel, bias) in zip(names, convolutions, strict=True):
        if name == "conv_last":
            kernel, bias = kernel[..., colour_first], bias[colour_first]
        weight = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)
        params[f"{name}.weight"] = torch.from_numpy(weight)
        params[f"{name}.bias"] = torch.from_numpy((bias / 255).astype(np.float32))
    return params


def _operators(tf: Any, convolutions: list[Convolution], upscale: int) -> Judge:
    """The original's graph, on images in 0..255."""

    def run(image: np.ndarray) -> np.ndarray:
        out = image
        for index, (kernel, bias) in enumerate(convolutions):
            out = tf.nn.conv2d(out, kernel, 1, "SAME") + bias
            if index < len(convolutions) - 1:
                out = tf.nn.relu(out)
        out = out + tf.concat([image] * upscale**2, axis=3)
        return tf.clip_by_value(tf.nn.depth_to_space(out, upscale), 0.0, 255.0).numpy()

    return run
