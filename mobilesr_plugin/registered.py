"""What option files name of BasicSR's registries: networks, models, data sets, losses and metrics."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from mobilesr_plugin.errors import OptionError

_SUFFIX = "_basicsr"  # under which BasicSR looks next


def is_registered(registry: Any, name: object) -> bool:
    """Whether BasicSR finds ``name`` in one of its registries."""
    return isinstance(name, str) and (name in registry or f"{name}{_SUFFIX}" in registry)


def check_types(opt: Mapping[str, Any]) -> None:
    """Checks that whatever an option file names is there.

    Fault: BasicSR ends in a page of traceback, some of them after data sets were loaded. To see it:
    ``--force_yml network_g:type=ABPM``.

    Raises:
        OptionError: one line that names the key, and what there is.
    """
    for key, what, registry, name in _named(opt):
        if is_registered(registry, name):
            continue
        known = sorted(each.removesuffix(_SUFFIX) for each in registry.keys())  # noqa: SIM118 - not a dict
        close = difflib.get_close_matches(str(name), known, n=1)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
        raise OptionError(f"{key}: there is no {what} {name!r}; {meant} `import: FILE.py` adds your own")


def _named(opt: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, object]]:
    """Yields key, kind, registry and name."""
    from basicsr.utils import registry

    if opt.get("model_type") is not None:
        yield "model_type", "model", registry.MODEL_REGISTRY, opt["model_type"]
    val = opt.get("val")
    metrics = val.get("metrics") if isinstance(val, Mapping) else None
    networks = [key for key in opt if str(key).startswith("network_")]
    blocks = (
        *((key, "network", registry.ARCH_REGISTRY, opt[key]) for key in networks),
        *_inside(opt, "datasets", "data set", registry.DATASET_REGISTRY),
        *(each for each in _inside(opt, "train", "loss", registry.LOSS_REGISTRY) if each[0].endswith("_opt")),
        *_inside({"val: metrics": metrics}, "val: metrics", "metric", registry.METRIC_REGISTRY),
    )
    for key, what, own, block in blocks:
        if isinstance(block, Mapping) and block.get("type") is not None:
            yield f"{key}: type", what, own, block["type"]


def _inside(
    opt: Mapping[str, Any], key: str, what: str, registry: Any
) -> Iterator[tuple[str, str, Any, object]]:
    blocks = opt.get(key)
    for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
        yield f"{key}: {name}", what, registry, block
