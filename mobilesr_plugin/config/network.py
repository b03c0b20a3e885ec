"""``network_g``: whether the network takes its arguments."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import check_keys

if TYPE_CHECKING:
    from torch import nn


def check_network(opt: Mapping[str, Any]) -> None:
    """Builds ``network_g`` as BasicSR will, without a trace in any random number, and forgets it.

    Raises:
        OptionError: one line: an argument that the network does not have or does not take, or another scale.
    """
    network_g = opt.get("network_g")
    if not network_g:
        return
    check_arguments(network_g, scale=opt.get("scale"))
    with _random_numbers_kept():
        build(network_g)


def check_arguments(network_g: Mapping[str, Any], *, scale: object = None) -> None:
    """Compares the keys of ``network_g`` with the arguments of the network, where BasicSR knows it.

    Raises:
        OptionError: a key that is no argument, a missing argument, or a scale that is not ``scale``.
    """
    arguments = dict(network_g)
    kind = arguments.pop("type", None)
    registered = _registered(kind)
    if registered is None:
        return  # see ``registered.check_types``
    parameters = inspect.signature(registered).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_keys(f"network_g ({kind})", arguments, list(parameters))
    for name, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in arguments:
            raise OptionError(f"network_g ({kind}): {name} is missing")
    for key in ("upscale", "scale"):  # ECBSR has the second one
        if None not in (arguments.get(key), scale) and arguments[key] != scale:
            raise OptionError(
                f"network_g: {key} is {arguments[key]}, but scale is {scale}; they must be equal"
            )


def build(network_g: Mapping[str, Any]) -> nn.Module:
    """Returns the network, in training mode.

    Raises:
        OptionError: its constructor does not take the arguments. Other failures are left as they are.
    """
    arguments = {key: copy.deepcopy(value) for key, value in network_g.items() if key != "type"}
    registered = _registered(network_g.get("type"))
    if registered is None:
        raise OptionError(f"network_g: there is no network {network_g.get('type')!r}")
    try:
        # Not BasicSR's build_network, which opens its log: train.py has yet to say where.
        network: nn.Module = registered(**arguments)
        return network
    except (
        TypeError,
        ValueError,
        KeyError,
        AssertionError,
        IndexError,
        ZeroDivisionError,
        RuntimeError,
    ) as error:
        shown = ", ".join(f"{key}: {value!r}" for key, value in arguments.items()) or "no arguments"
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split()) or "no reason given"
        raise OptionError(
            f"network_g ({network_g.get('type')}) cannot be built with {shown}: "
            f"{type(error).__name__}: {reason} ({Path(last.filename).name}, line {last.lineno})"
        ) from error


def _registered(kind: object) -> Any:
    from basicsr.utils.registry import ARCH_REGISTRY

    for name in (kind, f"{kind}_basicsr"):  # where BasicSR looks next
        if isinstance(name, str) and name in ARCH_REGISTRY:
            return ARCH_REGISTRY.get(name)
    return None


@contextlib.contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """A run must begin with the random numbers that its seed gives."""
    import numpy as np
    import torch

    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(of_python)
    np.random.set_state(of_numpy)
