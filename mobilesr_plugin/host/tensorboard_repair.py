"""Repair of tensorboard beside tensorflow."""

from __future__ import annotations

import sys
from types import ModuleType

SWITCH = "tensorboard.compat.notf"


def keep_tensorflow_out_of_tensorboard() -> None:
    """Let BasicSR's tensorboard logger write its files without importing tensorflow.

    Fault: where tensorflow is installed, which export needs, ``torch.utils.tensorboard.SummaryWriter``
    imports it: five more seconds at the start of a training and a screen of warnings, for nothing. To see
    it: ``use_tb_logger: true`` with the extra ``export`` installed. tensorboard's own way out is a module of
    this name (see ``tensorboard/compat/__init__.py``); its built-in stand-in writes the same files.
    """
    sys.modules.setdefault(SWITCH, ModuleType(SWITCH))
