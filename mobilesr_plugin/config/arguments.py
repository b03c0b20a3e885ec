"""Optimizers, schedules, losses and metrics: whether they take their arguments.

They are made as BasicSR makes them, of a single number. A model of the user's own that makes its optimizer or
schedule itself is left alone.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mobilesr_plugin.config.blocks import LOSSES, OPTIMIZERS, SCHEDULES, SR_MODELS, at
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import check_keys, closest

FASTER = ("Adam", "AdamW", "SGD")  # what MobileSRModel makes besides


def check_arguments(opt: Mapping[str, Any], *, training: bool) -> None:
    """Checks what the schema cannot know: whether a ``type`` exists, and which arguments it takes.

    Args:
        opt: Options that :func:`mobilesr_plugin.config.check.check` has accepted; extensions are loaded.
        training: Whether train.py reads them, or test.py.

    Raises:
        OptionError: one line: the place, what was got and what is allowed.
    """
    for name, metric in (at(opt, ("val", "metrics"), {})).items():
        _check_registered(f"val: metrics: {name}", metric, "METRIC_REGISTRY", given=("img", "img2"))
    if not training:
        return
    for name, block in opt["train"].items():
        if name.endswith("_opt") and isinstance(block, Mapping):
            _check_registered(f"train: {name}", block, "LOSS_REGISTRY")
    if opt["model_type"] in SR_MODELS and isinstance(opt["train"].get("optim_g"), Mapping):
        _check_steps(opt)


def _check_steps(opt: Mapping[str, Any]) -> None:
    """The optimizer and the schedule of a model that leaves both to BasicSR, or to MobileSRModel."""
    import torch
    from basicsr.models import lr_scheduler

    settings = dict(opt["train"]["optim_g"])
    kind = settings.pop("type")
    _one_of("train: optim_g: type", kind, _optimizers(opt["model_type"]))
    make = getattr(torch.optim, kind)
    where = f"train: optim_g ({kind})"
    _check_signature(where, make, settings, given=("params",))
    optimizer = _tried(where, make, [torch.nn.Parameter(torch.zeros(1))], **settings)
    settings = copy.deepcopy(dict(opt["train"]["scheduler"]))
    kind = settings.pop("type")
    _one_of("train: scheduler: type", kind, tuple(map(str, SCHEDULES)))
    name = "MultiStepRestartLR" if kind == "MultiStepLR" else kind  # as in BaseModel.setup_schedulers
    make = getattr(lr_scheduler, name)
    where = f"train: scheduler ({kind})"
    _check_signature(where, make, settings, given=("optimizer",))
    _tried(where, make, optimizer, **settings)


def _optimizers(model_type: str) -> tuple[str, ...]:
    """Releases of BasicSR 1.4.2 know Adam, its repository all seven."""
    from basicsr.models.base_model import BaseModel

    source = inspect.getsource(BaseModel.get_optimizer)
    faster = FASTER if model_type in ("MobileSRModel", "QATSRModel") else ()
    return tuple(name for name in OPTIMIZERS if name in faster or f"'{name}'" in source)


def _check_registered(
    where: str, block: Mapping[str, Any], registry: str, given: tuple[str, ...] = ()
) -> None:
    from basicsr.utils import registry as registries

    kind = block["type"]
    known = getattr(registries, registry)
    if kind not in known:
        return  # said by ``registered.check_types``
    arguments = {key: value for key, value in block.items() if key not in ("type", "better")}
    _check_signature(f"{where} ({kind})", known.get(kind), arguments, given=given)
    if kind in LOSSES and kind != "PerceptualLoss":  # which would fetch weights
        _tried(f"{where} ({kind})", known.get(kind), **arguments)


def _check_signature(
    where: str, make: Callable[..., Any], arguments: Mapping[str, Any], given: tuple[str, ...]
) -> None:
    """Compares keys with the arguments of a class or function, except those that BasicSR gives."""
    parameters = {
        name: parameter for name, parameter in inspect.signature(make).parameters.items() if name not in given
    }
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_keys(where, arguments, list(parameters))
    for name, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in arguments:
            raise OptionError(f"{where}: {name} is missing")


def _tried(where: str, make: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    try:
        return make(*arguments, **settings)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OptionError(f"{where} does not take its keys: {reason}") from error


def _one_of(where: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        close = closest(value, allowed)
        meant = f"; did you mean {close}?" if close else ";"
        raise OptionError(f"{where} is {value!r}{meant} It must be one of {', '.join(allowed)}")
