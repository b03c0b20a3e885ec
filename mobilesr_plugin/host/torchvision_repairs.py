"""Repairs of torchvision, without which BasicSR 1.4.2 cannot be imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[object] = []  # torch forgets the schemas when the Library object is collected


def define_missing_operators() -> None:
    """Let a torchvision built for CUDA be imported beside a torch built for CPU.

    Fault: its compiled operators cannot be loaded then, and ``import torchvision`` ends with
    "RuntimeError: operator torchvision::nms does not exist". To see it: install torch 2.13.0+cpu and
    torchvision 0.28.0 of the package index. Super-resolution needs neither operator, so declaring them
    is enough; calling them still fails.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            library.define(schema)
    _libraries.append(library)
    import torchvision  # noqa: F401


def restore_functional_tensor() -> None:
    """Bring back ``torchvision.transforms.functional_tensor``.

    Fault: torchvision 0.17 removed this module, and ``basicsr/data/degradations.py`` imports
    ``rgb_to_grayscale`` from it: "ModuleNotFoundError: No module named
    'torchvision.transforms.functional_tensor'". To see it:
    ``MOBILESR_AUTOLOAD=0 python -c "import basicsr"``.
    """
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or find_spec(name) is not None:
        return
    from torchvision.transforms import functional

    module = ModuleType(name, "Stand-in by mobilesr-plugin for a module that torchvision removed.")
    module.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
