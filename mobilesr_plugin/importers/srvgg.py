"""SRVGGNetCompact's .pth files, as BasicSR and Real-ESRGAN publish them.

Source: https://github.com/xinntao/Real-ESRGAN; the network is BasicSR's ``basicsr/archs/srvgg_arch.py``. The
weights stay as they are; what a published file lacks, and gets, is the description of its network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesr_plugin import checkpoint
from mobilesr_plugin.config.described import described_network
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.importers.original import Judge, Original, other_network

_NAME = "SRVGGNetCompact"
_WITHOUT_WEIGHTS = ("relu", "leakyrelu")
_ENTRIES = ("params_ema", "params")


def read(path: Path, act_type: str | None = None) -> Original:
    """Reads SRVGGNetCompact's weights; see :class:`mobilesr_plugin.importers.original.Reader`.

    Args:
        path: The .pth; ``params_ema`` is taken where it is there, else ``params``, else the whole file.
        act_type: ``relu`` or ``leakyrelu``, which have no weights and so cannot be told apart.

    Raises:
        OptionError: ``act_type`` is needed and was not given, or contradicts the weights.
    """
    loaded = checkpoint.load(path)
    entry = next((name for name in _ENTRIES if name in loaded), None)
    params = {name: value.float() for name, value in checkpoint.params_of(loaded, path, entry).items()}
    described = described_network(loaded).get("act_type")
    network_g = _network_g(path, params, act_type or described)
    return Original(
        network_g=network_g,
        params=params,
        judge=_basicsr_network(network_g, params, path),
        judged_by="BasicSR's network with its weights",
    )


def _network_g(path: Path, params: Mapping[str, torch.Tensor], act_type: str | None) -> dict[str, Any]:
    matches = {name: re.fullmatch(r"body\.(\d+)\.(weight|bias)", name) for name in params}
    for name, match in matches.items():
        if match is None:
            raise other_network(path, _NAME, f"it has {name}, which {_NAME} has not")
    last = max((int(match[1]) for match in matches.values() if match), default=0)
    for index in range(0, last + 1, 2):  # convolutions; activations lie between them
        name = f"body.{index}.weight"
        if name not in params or params[name].ndim != 4:
            problem = "is missing" if name not in params else f"is {tuple(params[name].shape)}, not a kernel"
            raise other_network(path, _NAME, f"{name} {problem}")
    if last < 2 or last % 2:
        raise other_network(path, _NAME, f"its last entry is body.{last}, which is no convolution")
    num_feat, num_in_ch = params["body.0.weight"].shape[:2]
    num_shuffle_ch = len(params[f"body.{last}.weight"])
    upscale = math.isqrt(num_shuffle_ch // num_in_ch)
    if num_shuffle_ch != num_in_ch * upscale**2:
        raise other_network(
            path,
            _NAME,
            f"body.{last}.weight has {num_shuffle_ch} output channels, not {num_in_ch} * upscale^2",
        )
    return {
        "type": _NAME,
        "num_in_ch": num_in_ch,
        "num_out_ch": num_in_ch,
        "num_feat": num_feat,
        "num_conv": last // 2 - 1,
        "upscale": upscale,
        "act_type": _act_type(path, "body.1.weight" in params, act_type),
    }


def _act_type(path: Path, has_slopes: bool, given: str | None) -> str:
    if has_slopes:
        if given not in (None, "prelu"):
            raise OptionError(f"--act-type is {given}, but {path} holds the slopes of prelu; leave it out")
        return "prelu"
    if given not in _WITHOUT_WEIGHTS:
        what = "does not say which activation it has" if given is None else f"holds no slopes of {given}"
        raise OptionError(f"{path} {what}; give --act-type relu or --act-type leakyrelu")
    return str(given)


def _basicsr_network(network_g: dict[str, Any], params: dict[str, torch.Tensor], path: Path) -> Judge:
    from basicsr.archs import build_network

    network = build_network(network_g).eval()
    checkpoint.load_into(network, params, path)

    def run(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()

    return run
