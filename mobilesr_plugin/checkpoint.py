"""Checkpoints: BasicSR's .pth files, read safely and written whole.

Beside BasicSR's ``params`` (and ``params_ema``) a file may hold

* ``mobilesr``: plain data that describes the network and its quantization, so that the file alone can
  be exported; a file without it needs the YAML copy that BasicSR leaves in the experiment's folder;
* ``params_float``: the float weights that quantization-aware training started from.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from mobilesr_plugin import __version__, register
from mobilesr_plugin.atomic_file import write_atomically
from mobilesr_plugin.config.described import build_described, described_network, description, network_of
from mobilesr_plugin.errors import CheckpointError
from mobilesr_plugin.extensions import load_extensions
from mobilesr_plugin.option_files import options_beside, read_options, reason
from mobilesr_plugin.options import QuantizationOptions, parse_block
from mobilesr_plugin.quantization.calibrate import start_quantizing
from mobilesr_plugin.quantization.insert import insert_quantizers
from mobilesr_plugin.torch_files import check_sums, plain_data

State = dict[str, torch.Tensor]

_QUANTIZER = ".output_quantizer."
_OBSERVER = ".activation_post_process."
_NAMED = 3  # tensors named in an error message


def save(path: Path, entries: Mapping[str, Any]) -> None:
    """Writes ``entries`` to ``path`` at once: the file is either whole or as it was before.

    Raises:
        CheckpointError: the folder cannot be written, or the disk is full.
    """
    try:
        write_atomically(path, lambda file: torch.save(dict(entries), file))
    except (OSError, RuntimeError) as error:  # torch turns some failures to write into a RuntimeError
        raise CheckpointError(f"{path} cannot be written: {reason(_of_system(error))}") from error


def _of_system(error: BaseException) -> Exception:
    """Returns what the system said, where torch failed after it: its own message is about its format."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__cause__ or seen.__context__
    return seen or error  # type: ignore[return-value]


def describe(opt: Mapping[str, Any], float_network: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns what a checkpoint says of its network, as plain data.

    Args:
        opt: BasicSR's options; read are ``network_g``, ``scale``, ``model_type``, ``quantization``.
        float_network: ``network_g`` of the float network that training for int8 started from.
    """
    described = {
        "plugin": __version__,
        "model_type": opt.get("model_type"),
        "scale": opt.get("scale"),
        "network_g": plain_data(opt["network_g"]),
        "quantization": plain_data(opt.get("quantization") or {}),
    }
    if float_network is not None:
        described["float_network_g"] = plain_data(float_network)
    return described


def load(path: Path) -> dict[str, Any]:
    """Reads a .pth without running code that it may contain.

    Raises:
        CheckpointError: no such file, truncated, no checkpoint at all, or one that would run code.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist; give the path of a .pth file that training wrote"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of unusual pickles; whether they load is told below
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if isinstance(loaded, dict) and "mobilesr" in loaded:
            # Files of others may have none: torch can leave them out.
            check_sums(io.BytesIO(content))
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "global" in str(error):
            raise CheckpointError(
                f"{path} was not loaded: it is a pickle that would run code; only plain weights are accepted "
                "(save the network's state_dict)"
            ) from error
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged; copy or train it again") from error
    except Exception as error:  # torch raises many types for damaged files, OSError among them
        raise CheckpointError(f"{path} is truncated or damaged; copy or train it again") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}; expected a dict with the entry 'params'"
        )
    return loaded


def load_params(path: Path, param_key: str | None = "params") -> State:
    """Reads the weights in ``path``, by BasicSR's rules.

    Args:
        path: A .pth file.
        param_key: Entry to read; where it is absent, ``params``. None: the whole file is the weights.

    Raises:
        CheckpointError: see :func:`load`; also where the entry is absent or holds something else.
    """
    return params_of(load(path), path, param_key)


def params_of(loaded: Mapping[str, Any], path: Path, param_key: str | None = "params") -> State:
    """Returns the weights among the entries of a loaded file; see :func:`load_params`."""
    if param_key is None:
        params: Any = loaded
    elif param_key in loaded:
        params = loaded[param_key]
    elif "params" in loaded:
        params = loaded["params"]
    else:
        held = ", ".join(map(str, list(loaded)[:_NAMED])) or "nothing"
        raise CheckpointError(
            f"{path} has no entry {param_key!r} (it holds {held}); set path: param_key_g to one of them"
        )
    if not isinstance(params, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in params.items()
    ):
        raise CheckpointError(f"{path}: entry {param_key!r} does not hold weights")
    return {name.removeprefix("module."): value for name, value in params.items()}


def load_into(network: nn.Module, params: State, path: Path) -> None:
    """Loads weights strictly, after a network's own ``adapt_state``; observers of ranges may differ.

    A checkpoint of quantization-aware training holds what its observers saw. It is needed to resume
    only, so a network with other observers, or none, takes the ranges and leaves that out.

    Raises:
        CheckpointError: names what is missing, what is too much and what has another shape.
    """
    adapt = getattr(network, "adapt_state", None)  # networks whose weights have more than one form
    params = adapt(params) if adapt else params
    own = network.state_dict()
    fitting = {name for name, value in params.items() if name in own and value.shape == own[name].shape}
    params = {name: value for name, value in params.items() if _OBSERVER not in name or name in fitting}
    params |= {name: value for name, value in own.items() if _OBSERVER in name and name not in params}
    problems = []
    missing = [name for name in own if name not in params]
    unexpected = [name for name in params if name not in own]
    shapes = [
        f"{name} is {tuple(params[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in params and params[name].shape != own[name].shape
    ]
    for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            problems.append(f"{what}: {', '.join(names[:_NAMED])}{more}")
    if problems:
        raise CheckpointError(
            f"{path} holds the weights of another network ({'; '.join(problems)}); "
            "check network_g in the options, or the path"
        )
    network.load_state_dict(params)


def load_float_network(
    loaded: Mapping[str, Any], path: Path, like: Mapping[str, Any]
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Builds the float network of a checkpoint, which may differ in form from ``like``.

    Args:
        loaded: Entries of the file, float or of quantization-aware training with ``params_float``.
        path: The file, for messages.
        like: ``network_g`` to use where the file does not describe its float network.

    Returns:
        The network, and the ``network_g`` that describes it.

    Raises:
        CheckpointError: see :func:`load_into`.
    """
    described = description(loaded)
    trained_from = described.get("float_network_g") or described_network(loaded) or like
    network = build_described(trained_from, path)
    key = "params_float" if "params_float" in loaded else "params_ema"
    load_into(network, params_of(loaded, path, key), path)
    return network, trained_from


def is_quantized(params: Mapping[str, Any]) -> bool:
    """Whether weights come with the ranges of quantization-aware training."""
    return any(_QUANTIZER in name for name in params)


@dataclass(frozen=True)
class Restored:
    """A network as a checkpoint holds it.

    Attributes:
        float_network: The float network; of a quantized checkpoint, the one that training for int8
            started from, where it is known.
        quantized_network: The network with the ranges of quantization-aware training; None if there
            are none.
        scale: Upscaling factor.
        name: Such as ``abpn_x3`` or ``sesr_m5_x2``.
        source: File name and sha256 of the checkpoint.
    """

    float_network: nn.Module | None
    quantized_network: fx.GraphModule | None
    scale: int
    name: str
    source: dict[str, str]


def restore(path: Path, opt_path: Path | None = None) -> Restored:
    """Builds the network of a checkpoint and loads its weights (the averaged ones where there are).

    Args:
        path: A .pth file.
        opt_path: Option file that describes it, and whose ``import:`` names the file of a network that is
            not part of BasicSR or of this package. Default: the file's own description, else the YAML
            copy in the experiment's folder, two levels up, whose ``import:`` is not followed.

    Raises:
        CheckpointError: see :func:`load` and :func:`load_into`; also if nothing describes the network, or
            it is not registered.
        OptionError: a file that ``import:`` names is absent or fails.
    """
    register()
    path = Path(path)
    loaded = load(path)
    opt = read_options(opt_path) if opt_path else {}
    load_extensions(opt.get("import"))
    if opt_path is None and isinstance(loaded.get("mobilesr"), dict):
        described = loaded["mobilesr"]
    else:
        described = describe(opt or read_options(options_beside(path)))
    network_g = network_of(described, opt_path or path)
    params = params_of(loaded, path, "params_ema")
    network = build_described(network_g, opt_path or path)
    float_network: nn.Module | None = None
    quantized_network = None
    if is_quantized(params):
        if "params_float" in loaded:
            float_network, _ = load_float_network(loaded, path, network_g)
        options = parse_block(described, "quantization", QuantizationOptions)
        quantized_network = insert_quantizers(network, options)
        load_into(quantized_network, params, path)
        start_quantizing(quantized_network)
    else:
        load_into(network, params, path)
        float_network = network
    scale = int(described.get("scale") or network_g.get("upscale", 1))
    kind = "_".join(str(network_g[key]).lower() for key in ("type", "variant") if key in network_g)
    source = {"checkpoint": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return Restored(float_network, quantized_network, scale, f"{kind}_x{scale}", source)
